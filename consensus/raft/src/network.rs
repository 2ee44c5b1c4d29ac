//! openraft's view of the network: messages to a peer by its id, over the transport.

use std::{future::Future, sync::Arc, time::Duration};

use openraft::{
    AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use skein_proto::{Failure, NodeId, codec};
use skein_transport::{Service, Transport};
use tokio::time::Instant;

use crate::{
    types::{Snapshot, Types, Vote},
    wire::{Chunk, Message, Reply},
};

/// Makes the peers that openraft talks to.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) transport: Arc<dyn Transport>,
}

/// One of them. Nothing is connected until something is said.
pub(crate) struct Peer {
    node: NodeId,
    transport: Arc<dyn Transport>,
    transfers: u64,
}

/// How long a message with entries may take: the follower syncs its disk before it answers, which may be slow.
const APPEND_PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of a snapshot in one message: below what would delay heartbeats on a slow link.
const CHUNK_BYTES: usize = 256 << 10;

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &openraft::EmptyNode) -> Peer {
        Peer { node: NodeId(target), transport: self.transport.clone(), transfers: 0 }
    }
}

impl Peer {
    async fn say(&self, message: &Message, patience: Duration) -> Result<Reply, Failure> {
        let body = codec::encode(message)?;
        let answer = self.transport.call(self.node, Service::Raft, body, Instant::now() + patience).await?;
        Ok(codec::decode(&answer)?)
    }

    async fn send(&mut self, message: Message, patience: Duration) -> Result<Reply, RPCError<Types>> {
        self.say(&message, patience).await.map_err(|failure| RPCError::Unreachable(unreachable(&failure)))
    }

    async fn send_chunk(&mut self, chunk: Chunk, patience: Duration) -> Result<Reply, StreamingError<Types>> {
        let sent = self.say(&Message::Snapshot(chunk), patience).await;
        sent.map_err(|failure| StreamingError::Unreachable(unreachable(&failure)))
    }

    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        patience: Duration,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        self.transfers += 1;
        let transfer = self.transfers;
        let Snapshot { meta, snapshot: mut rest } = snapshot;
        let mut offset = 0;
        loop {
            let bytes = rest.split_to(CHUNK_BYTES.min(rest.len()));
            let (sent, is_last) = (bytes.len() as u64, rest.is_empty());
            let chunk = Chunk { vote, meta: meta.clone(), transfer, offset, bytes, is_last };
            match self.send_chunk(chunk, patience).await? {
                Reply::Snapshot(response) => return Ok(response),
                Reply::More if !is_last => offset += sent,
                _ => return Err(StreamingError::Unreachable(unexpected())),
            }
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = bytes::Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let patience = if request.entries.is_empty() { option.hard_ttl() } else { APPEND_PATIENCE };
        match self.send(Message::Append(request), patience).await? {
            Reply::Append(response) => Ok(response),
            _ => Err(RPCError::Unreachable(unexpected())),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.send(Message::Vote(request), option.hard_ttl()).await? {
            Reply::Vote(response) => Ok(response),
            _ => Err(RPCError::Unreachable(unexpected())),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.send(Message::PreVote(request), option.hard_ttl()).await? {
            Reply::Vote(response) => Ok(response),
            _ => Err(RPCError::Unreachable(unexpected())),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot, option.hard_ttl()) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.send(Message::TransferLeader(request), option.hard_ttl()).await? {
            Reply::TransferLeader(response) => Ok(response),
            _ => Err(RPCError::Unreachable(unexpected())),
        }
    }
}

fn unreachable(failure: &Failure) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(failure))
}

fn unexpected() -> Unreachable<Types> {
    Unreachable::new(&AnyError::error("the peer answered something else"))
}
