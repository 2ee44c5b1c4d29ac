//! The seam between a group and what it replicates.

use std::fmt::Debug;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use skein_catalog::{Catalog, MemberRole, Outcome, Proposal};
use skein_proto::{Failure, NodeId};

use crate::Eligibility;

/// A pure value that changes only by applying committed proposals, alike on every node.
///
/// Cloning must be cheap (shared structure), since each batch of applied entries is published as a clone, and a
/// snapshot is written from one.
pub trait StateMachine: Clone + Default + Debug + Send + Sync + 'static {
    /// One entry of the log.
    type Proposal: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// What became of it.
    type Outcome: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;

    /// Applies the proposal committed at `index`. Total and deterministic.
    fn apply(&mut self, index: u64, proposal: &Self::Proposal) -> Self::Outcome;

    /// Notes that the entry at `index` carried no proposal.
    fn advance(&mut self, index: u64);

    /// The whole state as bytes; equal states give equal bytes.
    ///
    /// # Errors
    /// What a person should read, when the state has no byte form.
    fn snapshot(&self) -> Result<Bytes, String>;

    /// The state in `bytes`.
    ///
    /// # Errors
    /// What a person should read, for bytes that are not a state this release knows.
    fn restore(bytes: &[u8]) -> Result<Self, String>;

    /// The failure that stands for an outcome that changed nothing; none for one that did.
    fn refusal(outcome: &Self::Outcome) -> Option<Failure>;

    /// The nodes that belong to the group by the state itself, and whether they may vote.
    fn members(&self) -> Vec<(NodeId, Eligibility)>;
}

impl StateMachine for Catalog {
    type Proposal = Proposal;
    type Outcome = Outcome;

    fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        Catalog::apply(self, index, proposal)
    }

    fn advance(&mut self, index: u64) {
        Catalog::advance(self, index);
    }

    fn snapshot(&self) -> Result<Bytes, String> {
        self.to_snapshot().map_err(|error| error.to_string())
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        Catalog::from_snapshot(bytes).map_err(|error| error.to_string())
    }

    fn refusal(outcome: &Outcome) -> Option<Failure> {
        match outcome {
            Outcome::Refused { code, message } => Some(Failure::not_executed(*code, message.clone())),
            _ => None,
        }
    }

    fn members(&self) -> Vec<(NodeId, Eligibility)> {
        let eligibility = |role| match role {
            MemberRole::Worker => Eligibility::Never,
            MemberRole::Auto => Eligibility::May,
            MemberRole::Voter => Eligibility::Preferred,
        };
        Catalog::members(self).map(|member| (member.node, eligibility(member.role))).collect()
    }
}
