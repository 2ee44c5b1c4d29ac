//! What goes wrong in a run, drawn from its seed before it begins.

use std::time::Duration;

use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use skein_proto::NodeId;

use crate::world::{NODES, stream};

/// Something that goes wrong, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it begins, since the faults began.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
    /// What it is.
    pub kind: Kind,
}

/// What may go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The power of these nodes is cut; then they start again.
    Crash(Vec<NodeId>),
    /// These nodes' processes are killed, each at the change of its disk after so many; then they start again.
    Kill(Vec<NodeId>, u32),
    /// A node leaves in order, and comes back.
    Leave(NodeId),
    /// These nodes and the others do not hear one another.
    Partition(Vec<NodeId>),
    /// What the first sends to the second is lost.
    OneWay(NodeId, NodeId),
    /// What these two send each other arrives when it is over.
    Hold(NodeId, NodeId),
    /// So many packets of a thousand are lost, and as many come twice.
    Loss(u32),
    /// Each sync of a node takes up to so many milliseconds.
    SlowDisk(NodeId, u64),
    /// A node's disk has room for so many bytes.
    FullDisk(NodeId, u64),
    /// A sync of a node fails. Then it is killed and starts again.
    FailedSync(NodeId),
    /// The power of these nodes is cut, and they start again elsewhere: each where another of them was, or all where nobody
    /// was before.
    Move(Vec<NodeId>, bool),
    /// A new node is let in, by this one.
    Join(NodeId),
    /// These nodes are taken off for good, all at the same moment, each by another node.
    Remove(Vec<NodeId>),
}

/// For how long things go wrong.
pub const TROUBLE: Duration = Duration::from_secs(9);
/// Faults in a run, or stories of some.
const STORIES: usize = 7;

/// The faults of a seed, by their beginning.
pub fn draw(seed: u64) -> Vec<Fault> {
    let mut chance = stream(seed, 0, 4);
    let mut faults: Vec<Fault> = (0..STORIES).flat_map(|_| story(&mut chance)).collect();
    faults.sort_by_key(|fault| fault.from);
    faults
}

fn millis(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn story(chance: &mut SmallRng) -> Vec<Fault> {
    let mut nodes: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
    nodes.shuffle(chance);
    let from = millis(chance.random_range(0..7_500));
    if chance.random_ratio(1, 8) {
        return unsafe_restart(chance, from, &nodes);
    }
    let time = millis(chance.random_range(200..4_000));
    let (one, other) = (nodes[0], nodes[1]);
    let some = chance.random_range(1..=3);
    let changes = chance.random_range(0..30);
    let kind = match chance.random_range(0..28) {
        0..2 => Kind::Crash(vec![one]),
        2..4 => Kind::Crash(nodes.into_iter().take(some).collect()),
        4 => Kind::Crash(nodes),
        5..7 => Kind::Kill(nodes.into_iter().take(some).collect(), changes),
        7 => Kind::Kill(nodes, changes),
        8..11 => Kind::Leave(one),
        11..13 => Kind::Partition(nodes.into_iter().take(some).collect()),
        13 => Kind::OneWay(one, other),
        14 => Kind::Hold(one, other),
        15 => Kind::Loss(chance.random_range(10..250)),
        16 => Kind::SlowDisk(one, 500),
        17 => Kind::SlowDisk(one, 3_000),
        18..20 => Kind::FullDisk(one, chance.random_range(0..3_000)),
        20 => Kind::FailedSync(one),
        21 => Kind::Join(one),
        22 => Kind::Remove(vec![one]),
        23 => Kind::Move(vec![one], false),
        24 => Kind::Move(nodes.into_iter().take(some).collect(), false),
        25 => Kind::Move(nodes.into_iter().take(some + 1).collect(), true),
        26 => Kind::Move(nodes, chance.random()),
        _ => Kind::Remove(nodes.into_iter().take(3).collect()),
    };
    vec![Fault { from, until: (from + time).min(TROUBLE), kind }]
}

/// Most are killed while their disks are slow, start again with what they had not synced, and lose the power before they
/// sync; one of the others comes back late.
fn unsafe_restart(chance: &mut SmallRng, from: Duration, nodes: &[NodeId]) -> Vec<Fault> {
    let some = chance.random_range(3..=4);
    let killed = from + millis(chance.random_range(200..700));
    let back = killed + millis(chance.random_range(20..200));
    let cut = back + millis(chance.random_range(200..1_500));
    let again = cut + millis(chance.random_range(50..300));
    let late = again + millis(chance.random_range(500..3_000));
    let (restarted, others) = nodes.split_at(some);
    let fault = |from: Duration, until: Duration, kind| {
        (from < TROUBLE).then(|| Fault { from, until: until.min(TROUBLE), kind })
    };
    let mut story: Vec<Option<Fault>> =
        restarted.iter().map(|node| fault(from, again, Kind::SlowDisk(*node, 3_000))).collect();
    story.push(fault(killed, back, Kind::Kill(restarted.to_vec(), 0)));
    story.push(fault(cut, again, Kind::Crash(restarted.to_vec())));
    story.push(fault(cut, late, Kind::Crash(others.to_vec())));
    story.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_each_time_and_many_seeds_draw_every_kind() {
        assert_eq!(draw(5), draw(5));
        let all: Vec<Kind> = (0..100).flat_map(draw).map(|fault| fault.kind).collect();
        let has = |is: fn(&Kind) -> bool| all.iter().any(is);
        assert!(has(|kind| matches!(kind, Kind::Crash(nodes) if nodes.len() == 5)));
        assert!(has(|kind| matches!(kind, Kind::Leave(_))) && has(|kind| matches!(kind, Kind::Partition(_))));
        assert!(has(|kind| matches!(kind, Kind::OneWay(..))) && has(|kind| matches!(kind, Kind::Hold(..))));
        assert!(has(|kind| matches!(kind, Kind::Loss(_))) && has(|kind| matches!(kind, Kind::SlowDisk(..))));
        assert!(has(|kind| matches!(kind, Kind::FullDisk(..))) && has(|kind| matches!(kind, Kind::FailedSync(_))));
        assert!(has(|kind| matches!(kind, Kind::Join(_))) && has(|kind| matches!(kind, Kind::Remove(_))));
        assert!(has(|kind| matches!(kind, Kind::Move(nodes, false) if nodes.len() == 1)));
        assert!(has(|kind| matches!(kind, Kind::Move(nodes, _) if nodes.len() == 5)));
        assert!(has(|kind| matches!(kind, Kind::Kill(nodes, _) if nodes.len() == 5)));
    }
}
