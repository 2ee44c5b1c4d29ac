//! What the members of a group say to each other, in messages of named MessagePack.

use bytes::Bytes;
use openraft::{
    alias::VoteOf,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize};
use skein_proto::NodeId;

use crate::types::{LogId, Payload, SnapshotMeta, Types};

/// A message of Raft itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader(TransferLeaderRequest<Types>),
    Snapshot(Chunk),
    /// The leader has the receiver's word that it has the log up to there, and found that it does not.
    Acknowledged {
        vote: VoteOf<Types>,
        upto: LogId,
    },
}

/// What it is answered with.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    TransferLeader(TransferLeaderResponse<Types>),
    /// The chunk is there; the snapshot is not whole yet.
    More,
    Snapshot(SnapshotResponse<Types>),
    /// Noted; there is nothing to say.
    Heard,
}

/// A part of a snapshot. Parts come in order; one that does not follow the last is refused, and the sender begins anew.
#[derive(Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) vote: VoteOf<Types>,
    pub(crate) meta: SnapshotMeta,
    /// Tells this transfer from another of the same sender.
    pub(crate) transfer: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    pub(crate) is_last: bool,
}

impl Message {
    /// The node that must have sent it, unless somebody lies.
    pub(crate) fn sender(&self) -> NodeId {
        let vote = match self {
            Self::Append(request) => &request.vote,
            Self::Vote(request) | Self::PreVote(request) => &request.vote,
            Self::TransferLeader(request) => request.from_leader(),
            Self::Snapshot(chunk) => &chunk.vote,
            Self::Acknowledged { vote, .. } => vote,
        };
        NodeId(vote.leader_id.node_id)
    }
}

/// What is asked of the leader.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// Have this proposal committed.
    Propose(Payload),
    /// Say up to which index a linearizable read must have applied.
    ReadIndex,
    /// Say whether the leader's state as of this index had the same fingerprint.
    Compare { index: u64, fingerprint: u64 },
}

/// What it answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Applied {
        index: u64,
        outcome: Payload,
    },
    ReadIndex {
        index: u64,
    },
    /// None if it is not known: that was too long ago, or the leader has not applied as much yet.
    Compared {
        is_equal: Option<bool>,
    },
    /// It does not lead; nothing was done.
    NotLeader,
}
