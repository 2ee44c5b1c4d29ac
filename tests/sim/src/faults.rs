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
    /// Each sync of a node takes up to half a second.
    SlowDisk(NodeId),
}

/// For how long things go wrong.
pub const TROUBLE: Duration = Duration::from_secs(9);
/// Faults in a run.
const FAULTS: usize = 7;

/// The faults of a seed, by their beginning.
pub fn draw(seed: u64) -> Vec<Fault> {
    let mut chance = stream(seed, 0, 4);
    let mut faults: Vec<Fault> = (0..FAULTS).map(|_| fault(&mut chance)).collect();
    faults.sort_by_key(|fault| fault.from);
    faults
}

fn fault(chance: &mut SmallRng) -> Fault {
    let from = Duration::from_millis(chance.random_range(0..7_500));
    let time = Duration::from_millis(chance.random_range(200..4_000));
    let mut nodes: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
    nodes.shuffle(chance);
    let (one, other) = (nodes[0], nodes[1]);
    let some = chance.random_range(1..=3);
    let kind = match chance.random_range(0..16) {
        0..3 => Kind::Crash(vec![one]),
        3..5 => Kind::Crash(nodes.into_iter().take(some).collect()),
        5 => Kind::Crash(nodes),
        6..9 => Kind::Leave(one),
        9..12 => Kind::Partition(nodes.into_iter().take(some).collect()),
        12 => Kind::OneWay(one, other),
        13 => Kind::Hold(one, other),
        14 => Kind::Loss(chance.random_range(10..250)),
        _ => Kind::SlowDisk(one),
    };
    Fault { from, until: (from + time).min(TROUBLE), kind }
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
        assert!(has(|kind| matches!(kind, Kind::Loss(_))) && has(|kind| matches!(kind, Kind::SlowDisk(_))));
    }
}
