//! Decides what to change next about a group's membership.
//!
//! Pure: takes what is known, returns one step. It never changes a membership; see `reconcile`.

use std::collections::{BTreeMap, BTreeSet};

use skein_proto::NodeId;

/// Whether a member may vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Eligibility {
    /// It follows only.
    Never,
    /// It may.
    May,
    /// It is taken before those that may.
    Preferred,
}

/// What is known about a group when its next step is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Landscape {
    /// The node that leads and decides.
    pub leader: NodeId,
    /// Who belongs to the group by its own state.
    pub members: BTreeMap<NodeId, Eligibility>,
    /// Who is alive.
    pub alive: BTreeSet<NodeId>,
    /// Who has been dead for longer than the grace.
    pub lost: BTreeSet<NodeId>,
    /// Who has the log up to nearly its end.
    pub caught_up: BTreeSet<NodeId>,
    /// Who votes now.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote now.
    pub learners: BTreeSet<NodeId>,
    /// Who is to leave and may not have heard of it yet.
    pub untold: BTreeSet<NodeId>,
    /// Whether an earlier change of the voters was left half-way, for instance by a leader that died.
    pub is_joint: bool,
}

/// One change of a group's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finish the change that was left half-way.
    Finish,
    /// Let these, and no others, vote. Voters that are left out follow on.
    Vote(BTreeSet<NodeId>),
    /// Let this node follow.
    Add(NodeId),
    /// Speak to this node no more.
    Remove(NodeId),
}

/// Most voters that a group grows to by itself: five survive the loss of two, and more make each commit slower.
pub const VOTERS_MAX: usize = 5;

/// The next step towards the membership that the landscape asks for; none when it is reached.
///
/// Who votes comes first, then who is to follow, then who is to leave; and one change at a time, so that each is
/// decided on what the one before brought about.
pub fn plan(landscape: &Landscape) -> Option<Step> {
    if landscape.is_joint {
        return Some(Step::Finish);
    }
    let wanted = wanted_voters(landscape);
    if !wanted.is_empty() && wanted != landscape.voters {
        return Some(Step::Vote(wanted));
    }
    let is_known = |node: &&NodeId| landscape.voters.contains(*node) || landscape.learners.contains(*node);
    let joining = landscape.members.keys().find(|node| !is_known(node) && landscape.alive.contains(*node));
    let is_leaving = |node: &&NodeId| !landscape.members.contains_key(*node) && !landscape.untold.contains(*node);
    let leaving = landscape.learners.iter().find(is_leaving);
    joining.map(|node| Step::Add(*node)).or(leaving.map(|node| Step::Remove(*node)))
}

/// What a member has to offer as a voter, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Merit {
    /// It leads: replacing it would cost an election.
    Leads,
    /// It is wanted as a voter, and could be or is one.
    Preferred,
    /// It votes already, and is well or was a moment ago.
    Votes,
    /// It could: it is alive and has the log.
    Ready,
    /// It votes, but has been dead for long. Better than nobody in its place.
    Lost,
}

/// Who should vote: an odd number of them, no fewer than now because of deaths alone. None, if too few are alive to agree
/// on anything afterwards: such a change could not even be finished.
fn wanted_voters(landscape: &Landscape) -> BTreeSet<NodeId> {
    let mut ranked: Vec<(Merit, NodeId)> = Vec::new();
    for (node, eligibility) in &landscape.members {
        ranked.extend(merit(landscape, *node, *eligibility).map(|merit| (merit, *node)));
    }
    ranked.sort_unstable();
    let usable = ranked.iter().filter(|(merit, _)| *merit != Merit::Lost).count();
    let staying = ranked.iter().filter(|(_, node)| landscape.voters.contains(node)).count();
    let size = odd(usable.min(VOTERS_MAX)).max(odd(staying.min(VOTERS_MAX)));
    let best = |ranked: &[(Merit, NodeId)]| -> Option<BTreeSet<NodeId>> {
        let best: BTreeSet<NodeId> = ranked.iter().take(size).map(|(_, node)| *node).collect();
        (best.intersection(&landscape.alive).count() > size / 2).then_some(best)
    };
    // A death a moment ago costs nobody the vote, unless it would leave those that are chosen without a majority.
    let chosen = best(&ranked).or_else(|| {
        ranked.sort_by_key(|(_, node)| !landscape.alive.contains(node));
        best(&ranked)
    });
    chosen.unwrap_or_default()
}

fn merit(landscape: &Landscape, node: NodeId, eligibility: Eligibility) -> Option<Merit> {
    let votes = landscape.voters.contains(&node);
    let is_ready =
        landscape.learners.contains(&node) && landscape.alive.contains(&node) && landscape.caught_up.contains(&node);
    match eligibility {
        Eligibility::Never => None,
        _ if votes && node == landscape.leader => Some(Merit::Leads),
        _ if votes && landscape.lost.contains(&node) => Some(Merit::Lost),
        Eligibility::Preferred if votes || is_ready => Some(Merit::Preferred),
        _ if votes => Some(Merit::Votes),
        _ => is_ready.then_some(Merit::Ready),
    }
}

/// The largest odd number up to `count`.
fn odd(count: usize) -> usize {
    count.saturating_sub(1 - count % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1!v 2v 3- 4l` reads: 1 leads and votes, 2 votes, 3 is a member that Raft does not know, 4 is a learner.
    /// Signs behind it: `+` preferred, `w` worker, `x` dead, `X` dead for long, `~` not caught up, `?` no member, `t` not
    /// told so.
    fn landscape(text: &str) -> Landscape {
        let mut seen = Landscape::default();
        for word in text.split_whitespace() {
            if word == "joint" {
                seen.is_joint = true;
                continue;
            }
            let digits = word.chars().take_while(char::is_ascii_digit).count();
            let (node, signs) = (NodeId(word[..digits].parse().unwrap()), &word[digits..]);
            let is = |sign: char| signs.contains(sign);
            let eligibility = if is('w') { Eligibility::Never } else { Eligibility::May };
            let eligibility = if is('+') { Eligibility::Preferred } else { eligibility };
            let sets = [
                (is('v'), &mut seen.voters),
                (is('l'), &mut seen.learners),
                (!is('x') && !is('X'), &mut seen.alive),
                (is('X'), &mut seen.lost),
                (is('t'), &mut seen.untold),
                (!is('~') && !is('x') && !is('X'), &mut seen.caught_up),
            ];
            for (is_in, set) in sets {
                if is_in {
                    set.insert(node);
                }
            }
            if !is('?') {
                seen.members.insert(node, eligibility);
            }
            if is('!') {
                seen.leader = node;
            }
        }
        seen
    }

    fn check(seen: &str, expected: &str) {
        let shown = match plan(&landscape(seen)) {
            None => "nothing".to_owned(),
            Some(Step::Finish) => "finish".to_owned(),
            Some(Step::Add(node)) => format!("add {node}"),
            Some(Step::Remove(node)) => format!("remove {node}"),
            Some(Step::Vote(voters)) => {
                format!("vote {}", voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            }
        };
        assert_eq!(shown, expected, "{seen}");
    }

    #[test]
    fn a_group_grows_from_one_to_three_to_five_and_no_further() {
        check("1!v", "nothing");
        check("1!v 2-", "add 2");
        check("1!v 2l", "nothing");
        check("1!v 2l 3l~", "nothing");
        check("1!v 2l 3l", "vote 1 2 3");
        check("1!v 2v 3v 4-", "add 4");
        check("1!v 2v 3v 4l", "nothing");
        check("1!v 2v 3v 4l 5l", "vote 1 2 3 4 5");
        check("1!v 2v 3v 4v 5v 6l 7l", "nothing");
        check("1!v 2l 3l 4l 5l 6l", "vote 1 2 3 4 5");
    }

    #[test]
    fn a_member_is_added_once_it_is_alive() {
        check("1!v 2-x", "nothing");
        check("1!v 2-X 3-", "add 3");
    }

    #[test]
    fn workers_never_vote_and_preferred_ones_do_first() {
        check("1!v 2lw 3lw", "nothing");
        check("1!v 2lw 3l 4l", "vote 1 3 4");
        check("1!v 2l 3l 4l+ 5lw", "vote 1 2 4");
        check("1!v 2v 3v 4l+", "vote 1 2 4");
        check("1!v 2v 3v 4l+~", "nothing");
        check("1!v 2vw 3v 4l", "vote 1 3 4");
        check("1!v 2vw 3v", "vote 1");
    }

    #[test]
    fn a_dead_voter_is_replaced_after_the_grace_and_only_by_somebody() {
        check("1!v 2v 3vx 4l", "nothing");
        check("1!v 2v 3vX 4l", "vote 1 2 4");
        check("1!v 2v 3vX", "nothing");
        check("1!v 2v 3vX 4l~", "nothing");
        check("1!v 2v 3vX 4lw", "nothing");
        check("1!v 2v 3vX 4lx", "nothing");
        check("1!v 2v 3vX 4l 5l", "vote 1 2 4");
        check("1!v 2v 3v 4v 5vX", "nothing");
        check("1!v 2v 3v 4vX 5vX 6l", "vote 1 2 3 4 6");
        check("1!v 2v 4v 3lX", "nothing");
    }

    #[test]
    fn what_comes_back_finds_its_place_taken_until_there_are_five() {
        check("1!v 2v 4v 3l", "nothing");
        check("1!v 2v 4v 3l 5l", "vote 1 2 3 4 5");
    }

    #[test]
    fn removed_members_stop_voting_then_leave_without_an_even_number_of_voters() {
        check("1!v 2v 3v?", "vote 1");
        check("1!v 2v 3v? 4l", "vote 1 2 4");
        check("1!v 2v 3v 4v 5v?", "vote 1 2 3");
        check("1!v 2v 3v 4l?", "remove 4");
        check("1!v 2v 3v 4l?X 5-", "add 5");
    }

    #[test]
    fn a_removed_leader_lets_others_vote_and_a_lonely_one_stays() {
        check("1!v? 2v 3v", "vote 2");
        check("1!v? 2v 3v 4l", "vote 2 3 4");
        check("1!v?", "nothing");
    }

    #[test]
    fn nobody_is_chosen_who_could_not_agree_on_anything() {
        check("1vx 2v 3!v?", "vote 2");
        check("1v+x 2v 3!v?", "vote 2");
        check("1vx 2vx 3!v?", "nothing");
        check("1!v? 2l", "vote 2");
        check("1!v? 2lx", "nothing");
    }

    #[test]
    fn who_is_to_leave_is_told_before_nobody_speaks_to_it_any_more() {
        check("1!v 2v 3v 4l?t", "nothing");
        check("1!v 2v 3v 4l?t 5l?", "remove 5");
    }

    #[test]
    fn an_even_number_left_by_others_is_made_odd() {
        check("1!v 2v", "vote 1");
        check("1!v 2v 3l", "vote 1 2 3");
        check("1!v 2v 3v 4v", "vote 1 2 3");
        check("1!v 2vX 3v 4v", "vote 1 3 4");
    }

    #[test]
    fn a_change_left_half_way_is_finished_first() {
        check("1!v 2v 3v 4- joint", "finish");
    }

    proptest::proptest! {
        #[test]
        fn any_landscape_comes_to_rest_at_an_odd_number_of_voters(
            members in proptest::collection::btree_map(1_u64..9, 0_u8..3, 1..8),
            alive in proptest::collection::btree_set(1_u64..9, 0..8),
        ) {
            let eligibility = [Eligibility::Never, Eligibility::May, Eligibility::Preferred];
            let members: BTreeMap<_, _> =
                members.into_iter().map(|(node, at)| (NodeId(node), eligibility[at as usize])).collect();
            let leader = NodeId(1);
            let mut alive: BTreeSet<_> = alive.into_iter().map(NodeId).collect();
            alive.insert(leader);
            let lost = members.keys().filter(|node| !alive.contains(node)).copied().collect();
            let caught_up = alive.clone();
            let voters = BTreeSet::from([leader]);
            let mut seen = Landscape { leader, members, alive, lost, caught_up, voters, ..Landscape::default() };
            let mut steps = 0;
            while let Some(step) = plan(&seen) {
                match step {
                    Step::Finish => seen.is_joint = false,
                    Step::Add(node) => drop(seen.learners.insert(node)),
                    Step::Remove(node) => drop(seen.learners.remove(&node)),
                    Step::Vote(voters) => {
                        proptest::prop_assert!(voters.len() % 2 == 1 && voters.len() <= VOTERS_MAX);
                        proptest::prop_assert!(voters.iter().all(|node| seen.members.contains_key(node)));
                        seen.learners.extend(std::mem::replace(&mut seen.voters, voters));
                        seen.learners = seen.learners.difference(&seen.voters).copied().collect();
                    }
                }
                steps += 1;
                proptest::prop_assert!(steps < 40, "no rest: {:?}", seen);
            }
        }
    }
}
