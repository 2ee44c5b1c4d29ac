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
    acknowledged::Acknowledged,
    chance,
    findings::Findings,
    types::{LogId, Snapshot, Types, Vote},
    wire::{Chunk, Message, Reply},
};

/// Makes the peers that openraft talks to.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) findings: Findings,
}

/// One of them. Nothing is connected until something is said.
pub(crate) struct Peer {
    node: NodeId,
    peers: Peers,
}

/// How long a message with entries may take: the follower syncs its disk before it answers, which may be slow.
const APPEND_PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of a snapshot in one message: below what would delay heartbeats on a slow link.
const CHUNK_BYTES: usize = 256 << 10;

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &openraft::EmptyNode) -> Peer {
        Peer { node: NodeId(target), peers: self.clone() }
    }
}

impl Peer {
    async fn say(&self, message: &Message, patience: Duration) -> Result<Reply, Failure> {
        let body = codec::encode(message)?;
        let answer = self.peers.transport.call(self.node, Service::Raft, body, Instant::now() + patience).await?;
        Ok(codec::decode(&answer)?)
    }

    async fn send(&mut self, message: Message, patience: Duration) -> Result<Reply, RPCError<Types>> {
        self.say(&message, patience).await.map_err(|failure| RPCError::Unreachable(unreachable(&failure)))
    }

    /// The peer has the log up to there.
    fn has(&self, vote: Vote, upto: Option<LogId>) {
        if let Some(upto) = upto {
            self.peers.acknowledged.note(self.node, vote, upto);
        }
    }

    /// Tells the peer what it acknowledged. It lost some of that, and must know before it is sent anything else.
    async fn remind(&mut self, vote: Vote, acknowledged: LogId, patience: Duration) -> Result<(), RPCError<Types>> {
        match self.send(Message::Acknowledged { vote, upto: acknowledged }, patience).await? {
            Reply::Heard => Ok(()),
            _ => Err(RPCError::Unreachable(unexpected())),
        }
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
        // At random: what is under way still of an earlier transfer, whoever made it, is not taken for a part of this one.
        let transfer = chance::draw();
        let Snapshot { meta, snapshot: mut rest } = snapshot;
        let upto = meta.last_log_id;
        let mut offset = 0;
        loop {
            let bytes = rest.split_to(CHUNK_BYTES.min(rest.len()));
            let (sent, is_last) = (bytes.len() as u64, rest.is_empty());
            let chunk = Chunk { vote, meta: meta.clone(), transfer, offset, bytes, is_last };
            match self.send_chunk(chunk, patience).await? {
                Reply::Snapshot(response) => {
                    if response.vote == vote {
                        self.has(vote, upto);
                    }
                    return Ok(response);
                }
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
        let is_heartbeat = request.entries.is_empty();
        let patience = if is_heartbeat { option.hard_ttl() } else { APPEND_PATIENCE };
        let (vote, from) = (request.vote, request.prev_log_id);
        let upto = request.entries.last().map(|entry| entry.log_id).or(from);
        let word = self.peers.acknowledged.of(self.node, &vote);
        if let Some(word) = word.filter(|word| is_heartbeat && word.is_broken) {
            // Again and again until it has everything: it may have started once more meanwhile, and have forgotten.
            self.remind(vote, word.upto, patience).await?;
        }
        let Reply::Append(response) = self.send(Message::Append(request), patience).await? else {
            return Err(RPCError::Unreachable(unexpected()));
        };
        match (&response, word) {
            (AppendEntriesResponse::Success, _) => self.has(vote, upto),
            (AppendEntriesResponse::PartialSuccess(upto), _) => self.has(vote, *upto),
            (AppendEntriesResponse::Conflict, Some(word)) if from <= Some(word.upto) => {
                self.peers.findings.other_lost(self.node);
                self.peers.acknowledged.is_broken(self.node, &vote);
                self.remind(vote, word.upto, patience).await?;
            }
            _ => {}
        }
        Ok(response)
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
