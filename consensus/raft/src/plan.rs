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
pub fn plan(landscape: &Landscape) -> Option<Step> {
    let _ = landscape;
    None
}
