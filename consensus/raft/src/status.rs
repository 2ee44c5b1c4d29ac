//! How a group looks from this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use skein_proto::{Failure, NodeId};
use tokio::time::Instant;

/// How a group looks from one node, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftStatus {
    /// The node that looks.
    pub node: NodeId,
    /// What it is in the group now.
    pub role: RaftRole,
    /// Its term.
    pub term: u64,
    /// The leader it follows; itself when it leads. It may be dead already: see `is_quorum_alive`.
    pub leader: Option<NodeId>,
    /// The index of the last entry in its log.
    pub last_log_index: u64,
    /// The index up to which it knows entries to be committed.
    pub committed_index: u64,
    /// The index up to which it applied them.
    pub applied_index: u64,
    /// The index of the last entry in its newest snapshot.
    pub snapshot_index: u64,
    /// The members that vote; while that is changing, those that did and those that will.
    pub voters: BTreeSet<NodeId>,
    /// The members that follow without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of the members is under way. Until it is over, both the old voters and the new must have a
    /// majority alive.
    pub is_changing: bool,
    /// Only on the leader: up to which index each other member has the log.
    pub matched: BTreeMap<NodeId, u64>,
    /// Whether proposals can be committed as far as this node can tell: it leads and a majority answered lately, or
    /// it hears from a leader.
    pub is_quorum_alive: bool,
    /// Whether the disk has less room than the reserve, so that proposals are refused.
    pub is_disk_full: bool,
    /// What this node acknowledged and then did not have any more, if that was ever found since it started.
    pub lost: Option<LostEntries>,
    /// The index as of which this node's state is known not to be the leader's.
    pub differs_at: Option<u64>,
    /// Only on the leader: the members that lost entries which they had acknowledged.
    pub others_lost: BTreeSet<NodeId>,
    /// Only on the leader: the members whose state is not the leader's.
    pub others_differ: BTreeSet<NodeId>,
    /// Only on the leader: the members that do not get on, although they are behind.
    pub stuck: BTreeSet<NodeId>,
    /// Why the group stopped on this node for good; a restart may help, or names what is corrupt.
    pub fault: Option<Failure>,
}

impl RaftStatus {
    /// Whether this node leads, to its own knowledge.
    pub fn is_leader(&self) -> bool {
        self.role == RaftRole::Leader
    }

    /// Whether the node belongs to a group: it was founded, or its leader has spoken to it.
    pub fn is_initialized(&self) -> bool {
        !self.voters.is_empty()
    }
}

/// Entries at the end of a log that its disk did not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEntries {
    /// The index of the first of them.
    pub first: u64,
    /// The index of the last of them.
    pub last: u64,
    /// Whether the leader has sent them again. Until then the node gives no vote.
    pub is_back: bool,
}

/// What a node is in its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RaftRole {
    /// It orders the proposals.
    Leader,
    /// It votes and follows.
    Follower,
    /// It votes and looks for a leader.
    Candidate,
    /// It follows without a vote; also a node that belongs to no group yet.
    #[default]
    Learner,
    /// It stopped, on purpose or by a fault.
    Stopped,
}

/// When a node last heard from a leader.
#[derive(Debug)]
pub(crate) struct Heard {
    started: Instant,
    /// Milliseconds since `started`, plus one; 0 for never.
    last: AtomicU64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Notes that it hears from a leader now.
    pub(crate) fn note(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.last.store(now + 1, Ordering::Relaxed);
    }

    /// Whether it did within this time.
    pub(crate) fn is_within(&self, window: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.started.elapsed() <= Duration::from_millis(last - 1) + window
    }
}
