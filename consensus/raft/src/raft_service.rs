//! Answers the messages of Raft's other members.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use openraft::{
    EntryPayload,
    async_runtime::WatchReceiver,
    raft::{AppendEntriesRequest, VoteResponse},
    storage::RaftLogStorage,
};
use skein_proto::{ErrorCode, Failure, NodeId, codec};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use crate::{
    StateMachine,
    disk::Disk,
    findings::Findings,
    status::Heard,
    storage::Storage,
    types::{LogId, Raft, Snapshot, Types},
    volume::{self, Volume},
    wire::{Chunk, Message, Reply},
};

/// Serves [`Service::Raft`](skein_transport::Service::Raft).
pub(crate) struct RaftService<M: StateMachine> {
    pub(crate) raft: Raft<M>,
    pub(crate) disk: Disk,
    pub(crate) volume: Arc<dyn Volume>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) findings: Findings,
    pub(crate) storage: Storage,
    pub(crate) entry_bytes_max: usize,
    pub(crate) incoming: Mutex<Option<Incoming>>,
}

/// The snapshot that is arriving: one at a time, since a group has one leader. It goes when another node sends one, or is
/// heard as the leader.
pub(crate) struct Incoming {
    sender: NodeId,
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
            Message::Append(request) => self.append(sender, request).await,
            Message::Vote(request) | Message::PreVote(request) if self.lacks(request.last_log_id).await? => {
                Ok(Reply::Vote(self.no_vote()))
            }
            Message::Vote(request) => Ok(Reply::Vote(self.raft.vote(request).await.map_err(stopped)?)),
            Message::PreVote(request) => Ok(Reply::Vote(self.raft.pre_vote(request).await.map_err(stopped)?)),
            Message::TransferLeader(request) => {
                Ok(Reply::TransferLeader(self.raft.handle_transfer_leader(request).await.map_err(stopped)?))
            }
            Message::Snapshot(chunk) => self.gather(sender, chunk).await,
            Message::Acknowledged { upto, .. } => self.remember(sender, upto).await,
        }
    }

    async fn append(&self, sender: NodeId, request: AppendEntriesRequest<Types>) -> Result<Reply, Failure> {
        // Refused before it is taken on, entries do no harm; failing to write them would stop the group here.
        if !request.entries.is_empty() && self.disk.is_full() {
            return Err(Failure::not_executed(ErrorCode::DiskFull, "the follower's disk has no room"));
        }
        let bytes = request.entries.iter().map(|entry| match &entry.payload {
            EntryPayload::Normal(payload) => payload.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        });
        if bytes.max().is_some_and(|bytes| bytes > self.entry_bytes_max) {
            return Err(Failure::not_executed(ErrorCode::BadRequest, "an entry is larger than any may be"));
        }
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        if response.is_success() || response.is_conflict() {
            self.heard.note();
            let mut incoming = self.incoming();
            if incoming.as_ref().is_some_and(|incoming| incoming.sender != sender) {
                *incoming = None;
            }
        }
        if response.is_success() {
            self.look_again().await?;
        }
        Ok(Reply::Append(response))
    }

    /// Whether this node lacks entries that it acknowledged, and so does a candidate whose log ends there. It was counted
    /// among those that have them: to give its vote would be to help a leader that may not have what was committed.
    async fn lacks(&self, candidate: Option<LogId>) -> Result<bool, Failure> {
        self.look_again().await?;
        Ok(self.findings.missing() > candidate)
    }

    /// Looks whether what was missing is here again; then this node may stand for election again.
    async fn look_again(&self) -> Result<(), Failure> {
        if self.findings.missing().is_some() && self.findings.ends_with(self.last().await?) {
            self.let_stand();
        }
        Ok(())
    }

    /// Lets this node stand for election if it lacks nothing. What it lacks may be told and made good at the same time: the
    /// last word is that of the findings.
    fn let_stand(&self) {
        loop {
            let may_stand = self.findings.missing().is_none();
            self.raft.runtime_config().elect(may_stand);
            if self.findings.missing().is_none() == may_stand {
                return;
            }
        }
    }

    /// Notes what the leader says that this node acknowledged.
    async fn remember(&self, sender: NodeId, upto: LogId) -> Result<Reply, Failure> {
        if self.raft.metrics().borrow_watched().current_leader != Some(sender.0) {
            return Err(Failure::not_executed(ErrorCode::Conflict, format!("node {sender} does not lead")));
        }
        self.findings.acknowledged(upto, self.last().await?);
        if self.findings.missing().is_some() {
            self.let_stand();
        }
        Ok(Reply::Heard)
    }

    fn no_vote(&self) -> VoteResponse<Types> {
        let vote = self.raft.metrics().borrow_watched().vote;
        VoteResponse { vote, vote_granted: false, last_log_id: None }
    }

    /// The last entry of the log.
    async fn last(&self) -> Result<Option<LogId>, Failure> {
        let state = self.storage.clone().get_log_state().await.map_err(stopped)?;
        Ok(state.last_log_id)
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
        // Looked at before openraft has it: one that cannot be read would stop the group here.
        let bytes = state.clone();
        let read = volume::run(&*self.volume, move || M::restore(&bytes).map(|_| ())).await;
        let bad = |what: String| Failure::not_executed(ErrorCode::BadRequest, format!("the snapshot is none: {what}"));
        read.map_err(stopped)?.map_err(bad)?;
        let snapshot = Snapshot { meta: chunk.meta, snapshot: state };
        let response = self.raft.install_full_snapshot(chunk.vote, snapshot).await.map_err(stopped)?;
        self.look_again().await?;
        Ok(Reply::Snapshot(response))
    }

    /// The whole snapshot, once its last chunk is there.
    fn add(&self, sender: NodeId, chunk: &Chunk) -> Result<Option<Bytes>, Failure> {
        let mut incoming = self.incoming();
        if chunk.offset == 0 {
            *incoming = Some(Incoming { sender, transfer: chunk.transfer, bytes: BytesMut::new() });
        }
        let follows = |gathered: &&mut Incoming| {
            (gathered.sender, gathered.transfer) == (sender, chunk.transfer)
                && gathered.bytes.len() as u64 == chunk.offset
                && gathered.bytes.len() + chunk.bytes.len() <= SNAPSHOT_BYTES_MAX
        };
        let Some(gathered) = incoming.as_mut().filter(follows) else {
            *incoming = None;
            return Err(Failure::not_executed(ErrorCode::Conflict, "the chunk does not follow the one before"));
        };
        gathered.bytes.extend_from_slice(&chunk.bytes);
        Ok(if chunk.is_last { incoming.take().map(|gathered| gathered.bytes.freeze()) } else { None })
    }

    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::maybe_executed(ErrorCode::Unavailable, format!("raft stopped on this node: {error}"))
}
