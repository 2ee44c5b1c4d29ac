//! openraft's type parameters, chosen: proposals and outcomes are bytes to it, nodes plain numbers without addresses.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A proposal or an outcome, encoded: so that a group of any state machine runs on the same openraft.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// The type parameters of every group.
    pub(crate) Types:
        D = Payload,
        R = Payload,
        NodeId = u64,
        Node = openraft::EmptyNode,
        AsyncRuntime = crate::chance::Runtime,
);

pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Bytes>;
pub(crate) type Raft<M> = openraft::Raft<Types, crate::replica::Replica<M>>;
