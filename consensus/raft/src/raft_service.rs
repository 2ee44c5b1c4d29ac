//! Answers the messages of Raft's other members.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use skein_proto::{ErrorCode, Failure, NodeId, codec};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use crate::{
    StateMachine,
    disk::Disk,
    status::Heard,
    types::{Raft, Snapshot},
    wire::{Chunk, Message, Reply},
};

/// Serves [`Service::Raft`](skein_transport::Service::Raft).
pub(crate) struct RaftService<M: StateMachine> {
    pub(crate) raft: Raft<M>,
    pub(crate) disk: Disk,
    pub(crate) heard: Arc<Heard>,
    pub(crate) incoming: Mutex<BTreeMap<NodeId, Incoming>>,
}

/// A snapshot that is arriving.
#[derive(Default)]
pub(crate) struct Incoming {
    transfer: u64,
    bytes: BytesMut,
}

/// Largest snapshot taken from a leader; it is gathered in memory.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

#[async_trait]
impl<M: StateMachine> Serve for RaftService<M> {
    async fn call(&self, from: Caller, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        let message: Message = codec::decode(&body)?;
        let sender = message.sender();
        if from != Caller::Peer(sender) {
            return Err(Failure::not_executed(ErrorCode::Untrusted, format!("not sent by node {sender}")));
        }
        Ok(codec::encode(&self.answer(sender, message).await?)?)
    }
}

impl<M: StateMachine> RaftService<M> {
    async fn answer(&self, sender: NodeId, message: Message) -> Result<Reply, Failure> {
        match message {
            Message::Append(request) => {
                // Refused before it is taken on, entries do no harm; failing to write them would stop the group here.
                if !request.entries.is_empty() && self.disk.is_full() {
                    return Err(Failure::not_executed(ErrorCode::DiskFull, "the follower's disk has no room"));
                }
                let response = self.raft.append_entries(request).await.map_err(stopped)?;
                if response.is_success() || response.is_conflict() {
                    self.heard.note();
                }
                Ok(Reply::Append(response))
            }
            Message::Vote(request) => Ok(Reply::Vote(self.raft.vote(request).await.map_err(stopped)?)),
            Message::PreVote(request) => Ok(Reply::Vote(self.raft.pre_vote(request).await.map_err(stopped)?)),
            Message::TransferLeader(request) => {
                Ok(Reply::TransferLeader(self.raft.handle_transfer_leader(request).await.map_err(stopped)?))
            }
            Message::Snapshot(chunk) => self.gather(sender, chunk).await,
        }
    }

    /// Takes a chunk, and with the last one installs the snapshot.
    async fn gather(&self, sender: NodeId, chunk: Chunk) -> Result<Reply, Failure> {
        self.heard.note();
        let Some(state) = self.add(sender, &chunk)? else {
            return Ok(Reply::More);
        };
        if !self.disk.has_room_for(state.len() as u64) {
            return Err(Failure::not_executed(ErrorCode::DiskFull, "the follower's disk has no room for the snapshot"));
        }
        let snapshot = Snapshot { meta: chunk.meta, snapshot: state };
        let response = self.raft.install_full_snapshot(chunk.vote, snapshot).await.map_err(stopped)?;
        Ok(Reply::Snapshot(response))
    }

    /// The whole snapshot, once its last chunk is there.
    fn add(&self, sender: NodeId, chunk: &Chunk) -> Result<Option<Bytes>, Failure> {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let gathered = incoming.entry(sender).or_default();
        if chunk.offset == 0 {
            *gathered = Incoming { transfer: chunk.transfer, bytes: BytesMut::new() };
        }
        let follows = gathered.transfer == chunk.transfer && gathered.bytes.len() as u64 == chunk.offset;
        if !follows || gathered.bytes.len() + chunk.bytes.len() > SNAPSHOT_BYTES_MAX {
            incoming.remove(&sender);
            return Err(Failure::not_executed(ErrorCode::Conflict, "the chunk does not follow the one before"));
        }
        gathered.bytes.extend_from_slice(&chunk.bytes);
        Ok(if chunk.is_last { incoming.remove(&sender).map(|gathered| gathered.bytes.freeze()) } else { None })
    }
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::maybe_executed(ErrorCode::Unavailable, format!("raft stopped on this node: {error}"))
}
