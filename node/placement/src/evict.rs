//! Which activations leave when a node is short of memory, and when that is. Pure: takes what is known, gives a plan.
//!
//! Who leaves is the one with the least *value*, by Greedy-Dual-Size-Frequency (L. Cherkasova, "Improving WWW Proxies
//! Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs, 1998), which A. Fuerst and P. Sharma found best
//! for keeping functions alive ("FaasCache", ASPLOS 2021):
//!
//! ```text
//! value = clock at its last use + uses * cost of starting it again / bytes that it holds
//! ```
//! The clock is the value of the last one that left. So what is small, called often or slow to start stays longer, and
//! what was used long ago leaves in the end whatever it was worth.

use std::time::Duration;

/// An activation that could leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idle<K> {
    /// Names it in the plan.
    pub key: K,
    /// What letting it go frees, in bytes.
    pub bytes: u64,
    /// What its next call will wait for.
    pub cost: Duration,
    /// Calls since it was started.
    pub uses: u64,
    /// What the clock showed at the last of them.
    pub clock: f64,
    /// It is to be kept ready: it leaves after all others.
    pub is_kept: bool,
    /// It was started on a guess and nobody has called it: it leaves before all others.
    pub is_guess: bool,
}

/// Who leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<K> {
    /// In this order.
    pub victims: Vec<K>,
    /// What they free together.
    pub bytes: u64,
    /// What the clock shows from now on.
    pub clock: f64,
}

/// Chooses among `idle` who leaves so that at least `wanted` bytes are freed, or all that can be.
pub fn victims<K: Copy>(idle: &[Idle<K>], wanted: u64, clock: f64) -> Plan<K> {
    let mut order: Vec<_> = idle.iter().map(|idle| (idle.turn(), idle.value(), idle)).collect();
    order.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let mut plan = Plan { victims: Vec::new(), bytes: 0, clock };
    for (_, value, idle) in order {
        if plan.bytes >= wanted {
            break;
        }
        plan.victims.push(idle.key);
        plan.bytes = plan.bytes.saturating_add(idle.bytes);
        plan.clock = plan.clock.max(value);
    }
    plan
}

impl<K> Idle<K> {
    /// Whoever has a lower one leaves first, whatever the values.
    fn turn(&self) -> (bool, bool) {
        (self.is_kept, !self.is_guess)
    }

    fn value(&self) -> f64 {
        // Microseconds for each KiB: numbers of everyday size. Precision lost in the casts changes nobody's order.
        let (cost_us, kib) = (self.cost.as_micros() as f64, self.bytes.max(1) as f64 / 1024.0);
        self.clock + self.uses.max(1) as f64 * cost_us / kib
    }
}

/// Whether a node is letting go. Begins at the high watermark and ends at the low one, so that it neither nibbles at
/// every call nor empties itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relief {
    is_on: bool,
}

/// What a node's memory is at, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What the process holds.
    pub resident: u64,
    /// Most that it may hold.
    pub budget: u64,
    /// Something was refused for want of memory since the last time.
    pub has_refused: bool,
}

/// From here on a node lets go of what nobody uses, in sixteenths of its budget. What begins may fill 14 of them, and
/// what runs already 15, so that letting go has a sixteenth of head start.
const HIGH: u64 = 13;
/// Down to here.
const LOW: u64 = 12;

impl Relief {
    /// How many bytes to let go of now; none if all is well.
    pub fn wanted(&mut self, level: Level) -> Option<u64> {
        let sixteenth = level.budget / 16;
        self.is_on = level.resident >= HIGH * sixteenth || self.is_on && level.resident > LOW * sixteenth;
        let over = level.resident.saturating_sub(LOW * sixteenth);
        // What was refused may be wanted by guests that have touched little of theirs.
        let refused = if level.has_refused { sixteenth } else { 0 };
        Some(if self.is_on { over.max(refused) } else { refused }).filter(|wanted| *wanted > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a kib=64 us=500 uses=3 clock=7 kept`; what is not said is 1, the clock 0.
    fn parse(text: &str) -> Idle<char> {
        let find = |key: &str, default: u64| {
            text.split(' ').find_map(|word| word.strip_prefix(key)).map_or(default, |number| number.parse().unwrap())
        };
        Idle {
            key: text.chars().next().unwrap(),
            bytes: find("kib=", 1) << 10,
            cost: Duration::from_micros(find("us=", 1)),
            uses: find("uses=", 1),
            clock: find("clock=", 0) as f64,
            is_kept: text.ends_with("kept"),
            is_guess: text.ends_with("guess"),
        }
    }

    fn check(idle: &str, wanted_kib: u64, expected: &str) -> f64 {
        let idle: Vec<_> = idle.split(", ").map(parse).collect();
        let plan = victims(&idle, wanted_kib << 10, 0.0);
        assert_eq!(plan.victims.iter().collect::<String>(), expected);
        plan.clock
    }

    #[test]
    fn the_large_leave_before_the_small() {
        check("a kib=10 us=100, b kib=1000 us=100, c kib=100 us=100", 1_001, "bc");
    }

    #[test]
    fn the_slow_to_start_stay() {
        check("a us=9000, b us=10, c us=500", 2, "bc");
    }

    #[test]
    fn the_often_used_stay() {
        check("a uses=50, b uses=2, c uses=7", 2, "bc");
    }

    #[test]
    fn what_was_used_long_ago_leaves_whatever_it_was_worth() {
        check("a uses=50, b clock=60", 1, "a");
    }

    #[test]
    fn what_is_kept_ready_leaves_last() {
        check("a kept, b uses=99 us=9000", 1, "b");
        check("a kept, b uses=99 us=9000", 2, "ba");
    }

    #[test]
    fn what_was_a_guess_that_nobody_called_leaves_first() {
        check("a us=1, b us=9000 guess, c us=2", 2, "ba");
    }

    #[test]
    fn the_clock_shows_the_value_of_the_last_that_left() {
        assert_eq!(check("a us=3, b us=5, c us=9", 2, "ab"), 5.0);
        assert_eq!(victims::<char>(&[], 1, 4.0).clock, 4.0);
    }

    #[test]
    fn nobody_leaves_for_nothing() {
        check("a, b", 0, "");
    }

    #[test]
    fn relief_begins_high_and_ends_low() {
        let mut relief = Relief::default();
        let mut at = |resident| relief.wanted(Level { resident, budget: 1_600, has_refused: false });
        assert_eq!([at(1_299), at(1_300), at(1_250), at(1_200), at(1_250)], [None, Some(100), Some(50), None, None]);
    }

    #[test]
    fn who_was_refused_has_something_let_go_of() {
        let mut relief = Relief::default();
        assert_eq!(relief.wanted(Level { resident: 100, budget: 1_600, has_refused: true }), Some(100));
        assert_eq!(relief.wanted(Level { resident: 1_590, budget: 1_600, has_refused: true }), Some(390));
    }

    proptest! {
        #[test]
        fn as_few_leave_as_suffice_and_none_twice(
            sizes in proptest::collection::vec((1_u64..1_000, 0_u64..5_000, 0_u64..9, 0_u64..99, 0_u8..3), 0..40),
            wanted in 0_u64..20_000,
        ) {
            let idle: Vec<_> = sizes.iter().enumerate().map(|(key, (bytes, cost, uses, clock, turn))| Idle {
                key, bytes: *bytes, cost: Duration::from_micros(*cost), uses: *uses, clock: *clock as f64,
                is_kept: *turn == 2, is_guess: *turn == 0,
            }).collect();
            let plan = victims(&idle, wanted, 0.0);
            let freed: u64 = plan.victims.iter().map(|key| idle[*key].bytes).sum();
            prop_assert_eq!(freed, plan.bytes);
            prop_assert!(freed >= wanted || plan.victims.len() == idle.len());
            if let Some(last) = plan.victims.last() {
                prop_assert!(freed - idle[*last].bytes < wanted, "the last one was needed");
                let stays = |kept: &Idle<usize>| !plan.victims.contains(&kept.key);
                let most = plan.victims.iter().map(|key| (idle[*key].turn(), idle[*key].value())).fold(((false, false), 0.0), |a: ((bool, bool), f64), b| if b > a { b } else { a });
                prop_assert!(idle.iter().filter(|idle| stays(idle)).all(|idle| (idle.turn(), idle.value()) >= most));
            }
            let mut unique = plan.victims.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), plan.victims.len());
        }
    }
}
