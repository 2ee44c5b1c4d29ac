//! Which functions a function calls, learnt from its runs, and which of them to make ready when it starts. Pure.
//!
//! A callee's chance is the share of the caller's runs in which it was called. The first runs count alike, with one more
//! before them in which nothing was called: so one run makes even odds, and only more of them a habit that is worth
//! following further down a chain. After [`RUNS_COUNTED`] runs the oldest are forgotten little by little.
//!
//! Callees are kept by the name that was called, not by the version that answered: after a new release the new version is
//! the one to make ready.

use std::collections::BTreeSet;

use skein_proto::{FunctionRef, VersionId};

/// What one version calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Habit {
    runs: u32,
    callees: Vec<(FunctionRef, f64)>,
}

/// From so many runs on the last ones count: an eighth each.
const RUNS_COUNTED: u32 = 8;
/// Most callees kept of one version. Those that are called in at least half of its runs are few.
pub const CALLEES_MAX: usize = 8;
/// From this chance on a callee is made ready: a guess that is wrong costs a start for nothing, one that is not made
/// costs its caller the wait for one.
const LIKELY: f64 = 0.5;
/// Below this a callee is forgotten.
const FORGOTTEN: f64 = 1.0 / 64.0;
/// Most versions made ready for one that starts.
pub const AHEAD_MAX: usize = 4;

impl Habit {
    /// Learns from a run that called these, each named once.
    pub fn ran(&mut self, called: &[FunctionRef]) {
        self.runs = (self.runs + 1).min(RUNS_COUNTED - 1);
        let rate = 1.0 / f64::from(self.runs + 1);
        for (callee, chance) in &mut self.callees {
            let was_called = if called.contains(callee) { 1.0 } else { 0.0 };
            *chance += (was_called - *chance) * rate;
        }
        for callee in called {
            if !self.callees.iter().any(|(known, _)| known == callee) {
                self.callees.push((callee.clone(), rate));
            }
        }
        self.callees.retain(|(_, chance)| *chance >= FORGOTTEN);
        self.callees.sort_by(|one, other| other.1.total_cmp(&one.1));
        self.callees.truncate(CALLEES_MAX);
    }

    /// The callees that a run calls more often than not, with their chances, the likeliest first.
    pub fn likely(&self) -> impl Iterator<Item = (&FunctionRef, f64)> {
        self.callees.iter().filter(|(_, chance)| *chance >= LIKELY).map(|(callee, chance)| (callee, *chance))
    }
}

/// The versions that a call of `start` will probably reach, the likeliest first, by way of others as far as the chances
/// multiplied go. `callees` gives what a version calls, as far as that is known.
pub fn ahead(start: VersionId, callees: impl Fn(VersionId) -> Vec<(VersionId, f64)>) -> Vec<VersionId> {
    let (mut seen, mut found) = (BTreeSet::from([start]), Vec::new());
    let mut reached = callees(start);
    while found.len() < AHEAD_MAX
        && let Some(best) = (0..reached.len()).max_by(|one, other| reached[*one].1.total_cmp(&reached[*other].1))
    {
        let (version, chance) = reached.swap_remove(best);
        if chance < LIKELY {
            break;
        }
        if seen.insert(version) {
            found.push(version);
            reached.extend(callees(version).into_iter().map(|(next, then)| (next, chance * then)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_proto::FunctionId;

    use super::*;

    fn name(letter: char) -> FunctionRef {
        format!("x/{letter}").parse().unwrap()
    }

    /// Runs such as `b bc -`, one word each with the letters of what it called, `-` for nothing.
    fn learnt(runs: &str) -> Habit {
        let mut habit = Habit::default();
        for run in runs.split_whitespace() {
            let called: Vec<_> = run.chars().filter(|letter| *letter != '-').map(name).collect();
            habit.ran(&called);
        }
        habit
    }

    fn check(runs: &str, expected: &str) {
        let habit = learnt(runs);
        let likely: String = habit.likely().map(|(callee, _)| callee.name.to_string()).collect();
        assert_eq!(likely, expected, "{runs}: {habit:?}");
    }

    #[test]
    fn what_is_called_in_half_of_the_runs_is_likely() {
        check("", "");
        check("b", "b");
        check("-", "");
        check("b b bc", "b");
        check("bc bc bc b", "bc");
        check("b - b - b - b -", "");
        check("- - - - c c c c c c", "c");
    }

    #[test]
    fn a_habit_that_ends_is_soon_no_guess_any_more() {
        check(&"b ".repeat(100), "b");
        check(&format!("{}{}", "b ".repeat(100), "- ".repeat(6)), "");
        assert!(learnt(&format!("b {}", "- ".repeat(60))).callees.is_empty(), "and is forgotten");
    }

    #[test]
    fn of_many_callees_the_likeliest_are_kept() {
        let habit = learnt(&format!("{} abcdefghijklmnop", "z ".repeat(20)));
        assert_eq!((habit.callees.len(), &habit.callees[0].0), (CALLEES_MAX, &name('z')));
    }

    fn version(id: u64) -> VersionId {
        VersionId { function: FunctionId(id), number: 1 }
    }

    /// What is made ready for 1, where `1>2 90, 2>3 60` are callees with their chances in percent.
    fn reach(callees: &str) -> Vec<u64> {
        let edge = |text: &str| {
            let (edge, percent) = text.trim().split_once(' ').unwrap();
            let (from, to) = edge.split_once('>').unwrap();
            (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap(), percent.parse::<f64>().unwrap() / 100.0)
        };
        let edges: Vec<_> = callees.split(',').map(edge).collect();
        let of = |from: VersionId| {
            let mine = edges.iter().filter(|edge| edge.0 == from.function.0);
            mine.map(|(_, to, chance)| (version(*to), *chance)).collect()
        };
        ahead(version(1), of).into_iter().map(|version| version.function.0).collect()
    }

    #[test]
    fn a_chain_is_followed_as_far_as_its_chances_multiplied_go() {
        assert_eq!(reach("1>2 50"), [2]);
        assert_eq!(reach("1>2 49"), [0; 0]);
        assert_eq!(reach("1>2 90, 2>3 90, 3>4 60"), [2, 3]);
        assert_eq!(reach("1>2 60, 1>3 90, 3>4 80"), [3, 4, 2], "the likeliest first");
    }

    #[test]
    fn a_loop_ends_and_nobody_is_made_ready_for_himself() {
        assert_eq!(reach("1>1 99, 1>2 99, 2>1 99, 2>2 99"), [2]);
        assert_eq!(reach("1>2 99, 1>3 98, 1>4 97, 1>5 96, 1>6 95").len(), AHEAD_MAX);
    }

    proptest! {
        #[test]
        fn chances_stay_chances_and_the_table_small(runs in proptest::collection::vec(proptest::collection::btree_set(0_u8..26, 0..20), 0..50)) {
            let mut habit = Habit::default();
            for run in runs {
                habit.ran(&run.iter().map(|letter| name(char::from(b'a' + letter))).collect::<Vec<_>>());
                prop_assert!(habit.callees.len() <= CALLEES_MAX);
                prop_assert!(habit.callees.iter().all(|(_, chance)| (0.0..=1.0).contains(chance)));
                prop_assert!(habit.callees.is_sorted_by(|one, other| one.1 >= other.1));
            }
        }
    }
}
