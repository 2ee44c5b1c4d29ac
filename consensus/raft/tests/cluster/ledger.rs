//! A state machine for tests: members, and notes in the order of their commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure, NodeId, codec};
use skein_raft::{Eligibility, StateMachine};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) members: BTreeMap<NodeId, bool>,
    pub(crate) notes: Vec<u64>,
    pub(crate) index: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    /// Those that were given a vote when they were no members.
    pub(crate) strays: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A member that may vote, or not.
    Join(NodeId, bool),
    Leave(NodeId),
    /// Noted once, however often it is proposed.
    Note(u64),
    Refuse,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Noted {
    Done,
    Refused,
}

impl StateMachine for Ledger {
    type Proposal = Change;
    type Outcome = Noted;

    fn is_of_newer_release(_: &[u8]) -> bool {
        false
    }

    fn index(&self) -> u64 {
        self.index
    }

    fn apply(&mut self, index: u64, change: &Change) -> Noted {
        self.index = index;
        match change {
            Change::Join(node, may_vote) => drop(self.members.insert(*node, *may_vote)),
            Change::Leave(node) => drop(self.members.remove(node)),
            Change::Note(note) if !self.notes.contains(note) => self.notes.push(*note),
            Change::Note(_) => {}
            Change::Refuse => return Noted::Refused,
        }
        Noted::Done
    }

    fn advance(&mut self, index: u64) {
        self.index = index;
    }

    fn set_voters(&mut self, index: u64, voters: &BTreeSet<NodeId>) {
        self.index = index;
        let is_stray = |node: &&NodeId| !self.members.is_empty() && !self.members.contains_key(*node);
        self.strays.extend(voters.difference(&self.voters).filter(is_stray));
        self.voters.clone_from(voters);
    }

    fn fingerprint(&self) -> u64 {
        self.notes.iter().fold(self.index, |print, note| print.wrapping_mul(31).wrapping_add(*note))
    }

    fn snapshot(&self) -> Result<Bytes, String> {
        codec::encode(self).map_err(|error| error.to_string())
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        codec::decode(bytes).map_err(|error| error.to_string())
    }

    fn refusal(outcome: &Noted) -> Option<Failure> {
        (*outcome == Noted::Refused).then(|| Failure::not_executed(ErrorCode::Conflict, "refused"))
    }

    fn remembered(&self, change: &Change) -> Option<(u64, Noted)> {
        match change {
            Change::Note(note) if self.notes.contains(note) => Some((self.index, Noted::Done)),
            _ => None,
        }
    }

    fn members(&self) -> Vec<(NodeId, Eligibility)> {
        let eligibility = |may_vote| if may_vote { Eligibility::May } else { Eligibility::Never };
        self.members.iter().map(|(node, may_vote)| (*node, eligibility(*may_vote))).collect()
    }
}
