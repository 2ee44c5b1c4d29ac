//! The seam between a group and what it replicates.

use std::{collections::BTreeSet, fmt::Debug};

use bytes::Bytes;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use skein_catalog::{Catalog, MemberRole, Outcome, Proposal, RequestId};
use skein_proto::{Failure, NodeId, codec};

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

    /// Whether bytes that are no proposal to this release have the outer form of one, so that a newer release must have
    /// written them. The group then stops on this node, until it runs that release: to pass them over would be to
    /// disagree with the others for good. Bytes without that form are nothing to any release, and are passed over.
    fn is_of_newer_release(bytes: &[u8]) -> bool;

    /// The index of the last entry that was applied, or noted.
    fn index(&self) -> u64;

    /// Applies the proposal committed at `index`. Total and deterministic.
    fn apply(&mut self, index: u64, proposal: &Self::Proposal) -> Self::Outcome;

    /// Notes that the entry at `index` carried no proposal that can be read, or none at all.
    fn advance(&mut self, index: u64);

    /// Notes that from the entry at `index` on these nodes vote; while that changes, those that did and those that will.
    fn set_voters(&mut self, index: u64, voters: &BTreeSet<NodeId>);

    /// A number that tells all that was applied so far, in its order, from anything else: replicas that have applied
    /// the same entries alike have the same one at each index.
    fn fingerprint(&self) -> u64;

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

    /// What became of this very proposal, and at which index, if it was applied a while ago and is remembered.
    fn remembered(&self, proposal: &Self::Proposal) -> Option<(u64, Self::Outcome)>;

    /// The nodes that belong to the group by the state itself, and whether they may vote.
    fn members(&self) -> Vec<(NodeId, Eligibility)>;
}

/// A proposal whose command may be any.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "request")]
    _request: RequestId,
    #[serde(rename = "at_ms")]
    _at_ms: u64,
    #[serde(rename = "command")]
    _command: IgnoredAny,
}

impl StateMachine for Catalog {
    type Proposal = Proposal;
    type Outcome = Outcome;

    fn is_of_newer_release(bytes: &[u8]) -> bool {
        codec::decode::<Envelope>(bytes).is_ok()
    }

    fn index(&self) -> u64 {
        Catalog::index(self)
    }

    fn apply(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        Catalog::apply(self, index, proposal)
    }

    fn advance(&mut self, index: u64) {
        Catalog::advance(self, index);
    }

    fn set_voters(&mut self, index: u64, voters: &BTreeSet<NodeId>) {
        Catalog::set_voters(self, index, voters);
    }

    fn fingerprint(&self) -> u64 {
        Catalog::fingerprint(self)
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

    fn remembered(&self, proposal: &Proposal) -> Option<(u64, Outcome)> {
        self.answered(proposal)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_a_newer_release_is_told_from_noise() {
        #[derive(Serialize)]
        struct Newer {
            request: RequestId,
            at_ms: u64,
            command: &'static str,
        }
        let newer = Newer { request: RequestId(uuid::Uuid::nil()), at_ms: 1, command: "Paint" };
        let newer = codec::encode(&newer).unwrap();
        assert!(codec::decode::<Proposal>(&newer).is_err());
        assert!(Catalog::is_of_newer_release(&newer));
        for noise in [&b"\xc1"[..], b"", b"\x80", b"\x93\x01\x02\x03"] {
            assert!(!Catalog::is_of_newer_release(noise), "{noise:?}");
        }
    }
}
