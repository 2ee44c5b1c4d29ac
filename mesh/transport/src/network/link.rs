//! A connection that this node dialed, ready for calls.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, VarInt};
use skein_proto::{Digest, ErrorCode, Failure, NodeId};
use tokio::time::{Instant, timeout};

use super::{host::Host, serve_lane::LANE_PRIORITY};
use crate::{
    Service,
    close::{CLOSE_DONE, STREAM_BAD_FRAME, dial_failure, is_removal},
    frame::{Frame, INLINE_BYTES_MAX, PROTOCOL_VERSION},
    lane::Lane,
    metrics::Counted,
    stream::{FrameReader, ReadFailure, Sender},
    tls,
};

/// What a connection is for; each peer has at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Small calls and datagrams.
    Calls,
    /// Raft's calls, so that heartbeats never queue behind others.
    Raft,
    /// Requests and streams with much in them.
    Bulk,
}

impl Purpose {
    /// The connection for a call of this size.
    pub(super) fn of(service: Service, body_bytes: usize) -> Self {
        match service {
            Service::Raft if body_bytes <= RAFT_BYTES_MAX => Self::Raft,
            _ if body_bytes > INLINE_BYTES_MAX => Self::Bulk,
            _ => Self::Calls,
        }
    }

    fn lanes(self) -> usize {
        match self {
            Self::Calls => 4,
            Self::Raft => 2,
            // Shows that both sides understand each other.
            Self::Bulk => 1,
        }
    }
}

/// A dialed connection with its lanes. Closed when the last call that uses it is done with it.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// The digest of the key that the peer has shown.
    pub(super) key: Digest,
    /// The peer's boot: another one means that it restarted.
    pub(super) boot: u64,
    lanes: Vec<Arc<Lane>>,
    next_id: AtomicU64,
}

/// Whom to dial, and how.
pub(super) struct Dial {
    pub(super) peer: NodeId,
    pub(super) name: String,
    pub(super) purpose: Purpose,
}

impl Link {
    /// Dials, shakes hands and exchanges hellos. Must run on the network's thread.
    pub(super) async fn connect(
        host: &Arc<Host>,
        endpoint: &Endpoint,
        config: ClientConfig,
        dial: &Dial,
        addr: SocketAddr,
    ) -> Result<Arc<Self>, Failure> {
        let whom = format!("node {} at {addr}", dial.peer);
        let unreachable = |error: String| Failure::not_executed(ErrorCode::Unreachable, format!("{whom}: {error}"));
        let connecting =
            endpoint.connect_with(config, addr, &dial.name).map_err(|error| unreachable(error.to_string()))?;
        let connection = connecting.await.map_err(|error| dial_failure(&whom, &error))?;
        let link = Self::greet(host, connection.clone(), dial.purpose, &whom).await;
        if link.is_err() && is_removal(&connection) {
            host.removal.send_replace(Some(dial.peer));
        }
        link
    }

    /// Opens the lanes and waits for the other side's hello.
    async fn greet(
        host: &Arc<Host>,
        connection: Connection,
        purpose: Purpose,
        whom: &str,
    ) -> Result<Arc<Self>, Failure> {
        let no_certificate =
            || Failure::not_executed(ErrorCode::Unreachable, format!("{whom}: it has shown no certificate"));
        let (_, key) = tls::shown(&connection).ok_or_else(no_certificate)?;
        let mut streams = Vec::with_capacity(purpose.lanes());
        for _ in 0..purpose.lanes() {
            streams.push(open_lane(host, &connection).await.map_err(|error| dial_failure(whom, &error))?);
        }
        // One answer is enough to know that this side's certificate was taken, too.
        let boot = match streams.first_mut() {
            Some((_, reader)) => hello(&connection, reader, whom).await?,
            None => 0,
        };
        let counted = Counted::new(&host.metrics.dialed);
        let mut lanes = Vec::with_capacity(streams.len());
        for (sender, reader) in streams {
            let (lane, outgoing) = Lane::new(host.config.calls_per_lane_max, host.metrics.clone());
            tokio::spawn(lane.clone().run(sender, reader, outgoing));
            lanes.push(lane);
        }
        let replies = LargeReplies { lanes: lanes.clone(), bytes_max: host.config.body_bytes_max };
        tokio::spawn(replies.run(connection.clone(), counted));
        Ok(Arc::new(Self { connection, key, boot, lanes, next_id: AtomicU64::new(1) }))
    }

    /// Whether new calls may use it.
    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !self.lanes.iter().any(|lane| lane.is_closed())
    }

    /// Calls on a lane.
    pub(super) async fn call(&self, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let lane = lane_of(&self.lanes, id)
            .ok_or_else(|| Failure::not_executed(ErrorCode::Unreachable, "the connection has no lane"))?;
        lane.begin(id, service, body, deadline)?.answer(deadline).await
    }

    /// Ends it for everybody.
    pub(super) fn close(&self, code: VarInt) {
        self.connection.close(code, b"");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close(CLOSE_DONE);
    }
}

async fn open_lane(host: &Host, connection: &Connection) -> Result<(Sender, FrameReader), ConnectionError> {
    let (sender, receiver) = connection.open_bi().await?;
    let mut sender = Sender::new(sender);
    let _ = sender.set_priority(LANE_PRIORITY);
    let hello = Frame::Hello { version: PROTOCOL_VERSION, boot: host.boot };
    match sender.write_chunk(hello.to_bytes()).await {
        Err(quinn::WriteError::ConnectionLost(error)) => Err(error),
        _ => Ok((sender, FrameReader::new(receiver))),
    }
}

/// Waits for the other side's hello; gives its boot.
pub(crate) async fn hello(connection: &Connection, reader: &mut FrameReader, whom: &str) -> Result<u64, Failure> {
    match reader.next().await {
        Ok(Some(Frame::Hello { version: PROTOCOL_VERSION, boot })) => Ok(boot),
        Ok(Some(Frame::Hello { version, .. })) => {
            let message = format!("{whom} speaks protocol {version}, this side {PROTOCOL_VERSION}");
            Err(Failure::not_executed(ErrorCode::ProtocolMismatch, message))
        }
        Err(ReadFailure::Bad(error)) => {
            Err(Failure::not_executed(ErrorCode::ProtocolMismatch, format!("{whom} does not say hello: {error}")))
        }
        _ => match connection.close_reason() {
            Some(error) => Err(dial_failure(whom, &error)),
            None => Err(Failure::not_executed(ErrorCode::Unreachable, format!("{whom} does not say hello"))),
        },
    }
}

fn lane_of(lanes: &[Arc<Lane>], id: u64) -> Option<&Arc<Lane>> {
    let count = u64::try_from(lanes.len()).ok()?;
    lanes.get(usize::try_from(id.checked_rem(count)?).ok()?)
}

/// Answers too large for a lane: each comes on a stream of its own.
#[derive(Clone)]
struct LargeReplies {
    lanes: Vec<Arc<Lane>>,
    bytes_max: usize,
}

impl LargeReplies {
    /// Takes them until the connection ends. QUIC's own limit on streams bounds the tasks.
    async fn run(self, connection: Connection, _counted: Counted) {
        while let Ok(receiver) = connection.accept_uni().await {
            tokio::spawn(self.clone().take(receiver));
        }
    }

    async fn take(self, receiver: RecvStream) {
        let mut reader = FrameReader::new(receiver);
        let head = timeout(HEAD_TIMEOUT, reader.next()).await;
        let Ok(Ok(Some(Frame::Reply { id, .. }))) = head else {
            reader.stop(STREAM_BAD_FRAME);
            return;
        };
        let Some(lane) = lane_of(&self.lanes, id).filter(|lane| lane.is_waiting(id)) else { return };
        let answer = reader.body(self.bytes_max).await.map_err(|error| match error {
            ReadFailure::BodyTooLarge(_) => Failure::executed(ErrorCode::TooLarge, format!("the answer's {error}")),
            error => Failure::maybe_executed(ErrorCode::PeerLost, format!("the answer broke off: {error}")),
        });
        lane.complete(id, answer);
    }
}

/// The largest of Raft's requests that goes on its own connection; snapshots do not.
const RAFT_BYTES_MAX: usize = 1 << 20;

/// How long the first frame of a large answer may take.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
