//! Where a call should run: candidates with their load in, the nodes in order out. Pure.
//!
//! Warm nodes with room come first, then cold ones with room, then those that would queue it, last those that may not
//! answer. Among equals "here" comes first, since a hop costs more than a somewhat busier machine; otherwise the less
//! loaded of two picked at random. Two random choices are nearly as good as knowing the least loaded node (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 2001) and do not send everybody to the same one while the
//! figures are half a second old.

use rand::{Rng, seq::SliceRandom};
use skein_proto::NodeId;

/// A node that might run the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// It is the one that has the call.
    pub is_here: bool,
    /// It takes no new calls.
    pub is_draining: bool,
    /// It is gone.
    pub is_dead: bool,
    /// It is silent, or has just failed: only when nobody else can.
    pub is_doubtful: bool,
    /// The version is warm there.
    pub is_warm: bool,
    /// Calls running there.
    pub in_flight: u32,
    /// Calls waiting there.
    pub queued: u32,
    /// CPU in use there, in thousandths.
    pub cpu_permille: u16,
}

/// Above this a machine has no room, in thousandths of its CPU: what comes now makes all its calls slower.
const CPU_PERMILLE_ROOM: u16 = 900;
/// One call that waits says more than one that runs.
const QUEUED_WEIGHT: u64 = 4;
/// "Clearly busier" is twice as busy and this many calls more: below, the difference is within the noise of figures
/// that are half a second old, and costs less than a hop or a cold start.
const SLACK: u64 = 8;

/// The better of the groups come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Warm,
    Cold,
    Full,
    Doubtful,
}

impl Candidate {
    fn group(&self) -> Group {
        match self {
            Self { is_doubtful: true, .. } => Group::Doubtful,
            _ if !self.has_room() => Group::Full,
            Self { is_warm: true, .. } => Group::Warm,
            _ => Group::Cold,
        }
    }

    /// Whether a call would run there at once.
    pub fn has_room(&self) -> bool {
        self.queued == 0 && self.cpu_permille <= CPU_PERMILLE_ROOM
    }

    fn pressure(&self) -> u64 {
        u64::from(self.in_flight) + QUEUED_WEIGHT * u64::from(self.queued)
    }

    fn is_clearly_busier_than(&self, other: &Self) -> bool {
        self.pressure() > 2 * other.pressure() + SLACK
    }
}

/// The nodes to try, best first. Dead and draining ones are not among them.
pub fn rank(candidates: &[Candidate], rng: &mut impl Rng) -> Vec<Candidate> {
    let mut usable: Vec<_> = candidates.iter().filter(|node| !node.is_dead && !node.is_draining).copied().collect();
    usable.shuffle(rng);
    usable.sort_by_key(Candidate::group);
    let mut ranked = Vec::with_capacity(usable.len());
    for group in usable.chunk_by_mut(|one, other| one.group() == other.group()) {
        order(group);
        ranked.extend_from_slice(group);
    }
    spread(&mut ranked);
    ranked
}

/// Orders equals, given in random order: pairwise the less loaded first, then here in front of whomever it is not
/// clearly busier than.
fn order(group: &mut [Candidate]) {
    // After a shuffle the next two are a random two: the less loaded of them is the choice, the other stays in line.
    for next in 0..group.len().saturating_sub(1) {
        if group[next + 1].pressure() < group[next].pressure() {
            group.swap(next, next + 1);
        }
    }
    let Some(here) = group.iter().position(|node| node.is_here) else { return };
    let goes_to =
        group.iter().position(|node| node.is_here || !group[here].is_clearly_busier_than(node)).unwrap_or(here);
    if goes_to < here {
        group[goes_to..=here].rotate_right(1);
    }
}

/// A warm node does not keep a version to itself while it is clearly busier than the best cold one: the first call
/// there makes that one warm.
fn spread(ranked: &mut [Candidate]) {
    let Some(cold) = ranked.iter().position(|node| node.group() == Group::Cold) else { return };
    if cold > 0 && ranked[0].is_clearly_busier_than(&ranked[cold]) {
        ranked[..=cold].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    /// `here 3 warm`, `2 cold`, `4 dead`, with figures such as `run=7`, `wait=1` and `cpu=950`.
    fn parse(text: &str) -> Candidate {
        let number = |word: &str| word.split_once('=').map_or(0, |(_, number)| number.parse().unwrap());
        let find = |key: &str| text.split(' ').find(|word| word.starts_with(key)).map_or(0, number);
        let has = |word: &str| text.split(' ').any(|other| other == word);
        let node = text.split(' ').find_map(|word| word.parse().ok()).unwrap();
        Candidate {
            node: NodeId(node),
            is_here: has("here"),
            is_draining: has("draining"),
            is_dead: has("dead"),
            is_doubtful: has("doubtful"),
            is_warm: has("warm"),
            in_flight: find("run="),
            queued: find("wait="),
            cpu_permille: u16::try_from(find("cpu=")).unwrap(),
        }
    }

    /// Whatever the dice say, the order is one of `expected` (texts such as `1 2 3`, alternatives between `|`).
    fn check(candidates: &str, expected: &str) {
        let candidates: Vec<_> = candidates.split(", ").map(parse).collect();
        for seed in 0..50 {
            let ranked = rank(&candidates, &mut SmallRng::seed_from_u64(seed));
            let shown = ranked.iter().map(|node| node.node.to_string()).collect::<Vec<_>>().join(" ");
            assert!(expected.split(" | ").any(|one| one == shown), "{shown}, not {expected}");
        }
    }

    #[test]
    fn draining_and_dead_nodes_are_left_out() {
        check("here 1 draining, 2 dead, 3 cold", "3");
        check("here 1 draining", "");
    }

    #[test]
    fn warm_here_comes_before_warm_elsewhere() {
        check("here 1 warm run=8, 2 warm, 3 cold", "1 2 3");
        check("here 1 warm run=24, 2 warm run=8", "1 2");
    }

    #[test]
    fn a_clearly_busier_here_gives_way() {
        check("here 1 warm run=25, 2 warm run=8", "2 1");
        check("here 1 cold run=9, 2 cold", "2 1");
    }

    #[test]
    fn warm_elsewhere_with_room_comes_before_cold_here() {
        check("here 1 cold, 2 warm run=3", "2 1");
    }

    #[test]
    fn warm_without_room_comes_after_cold() {
        check("here 1 cold, 2 warm wait=1", "1 2");
        check("here 1 cold, 2 warm cpu=950", "1 2");
    }

    #[test]
    fn a_busy_warm_node_does_not_keep_a_version_to_itself() {
        check("here 1 cold, 2 warm run=9", "1 2");
    }

    #[test]
    fn cold_elsewhere_goes_to_the_less_loaded_of_two() {
        check("2 cold run=5, 3 cold run=1", "3 2");
        let candidates = ["2 cold run=9", "3 cold run=5", "4 cold run=1"].map(parse);
        let first = |seed| rank(&candidates, &mut SmallRng::seed_from_u64(seed))[0].node;
        let firsts: Vec<_> = (0..100).map(first).collect();
        assert!(!firsts.contains(&NodeId(2)), "the most loaded loses to any other");
        assert!(firsts.contains(&NodeId(3)), "the least loaded does not get everything");
    }

    #[test]
    fn doubtful_nodes_come_last() {
        check("2 warm doubtful, here 1 cold wait=9", "1 2");
    }

    proptest! {
        #[test]
        fn each_usable_node_is_ranked_once(states in proptest::collection::vec((any::<[bool; 4]>(), 0_u32..99, 0_u32..4), 0..12), seed: u64) {
            let candidates: Vec<_> = (1..).zip(&states).map(|(node, ([draining, dead, doubtful, warm], run, wait))| Candidate {
                node: NodeId(node), is_here: node == 1, is_draining: *draining, is_dead: *dead, is_doubtful: *doubtful,
                is_warm: *warm, in_flight: *run, queued: *wait, cpu_permille: 0,
            }).collect();
            let mut ranked: Vec<_> = rank(&candidates, &mut SmallRng::seed_from_u64(seed)).iter().map(|node| node.node).collect();
            ranked.sort();
            let usable: Vec<_> = candidates.iter().filter(|node| !node.is_dead && !node.is_draining).map(|node| node.node).collect();
            prop_assert_eq!(ranked, usable);
        }
    }
}
