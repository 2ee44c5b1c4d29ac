//! The seam: what the rest of the program asks of the network, and what the network asks of it.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// What a call, stream or datagram is for. Decides the handler, the connection it travels on and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Service {
    /// Raft's own messages, on a connection of their own so that heartbeats never queue behind calls. Peers only.
    Raft,
    /// Proposals and read indexes on their way to the leader. Peers only.
    Propose,
    /// Invocations already resolved, for the receiving node's runtime. Peers only.
    Invoke,
    /// Code bytes by digest. Peers only.
    Artifact,
    /// Failure detection and load figures, as datagrams. Peers only.
    Gossip,
    /// Records of where nodes are reached. Peers only.
    Address,
    /// What the assembly asks of its peers: readiness of a version, joins passed on. Peers only.
    Control,
    /// A new node that shows a token. Strangers may use it.
    Join,
    /// A client's call; it shows a key in each. Strangers may use it.
    Client,
    /// A client that asks which nodes there are, and shows its key. Strangers may use it.
    Nodes,
}

impl Service {
    /// Whether somebody without a certificate may use it.
    pub(crate) fn is_for_strangers(self) -> bool {
        matches!(self, Self::Join | Self::Client | Self::Nodes)
    }

    /// Whether a request of it is no more than a key or token that is shown: small, and with places of its own.
    pub(crate) fn is_introduction(self) -> bool {
        matches!(self, Self::Join | Self::Nodes)
    }

    /// Whether its requests begin with a key that must be good.
    pub(crate) fn is_for_clients(self) -> bool {
        matches!(self, Self::Client | Self::Nodes)
    }
}

/// Who is at the other end, as far as TLS has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A member, by its certificate.
    Peer(NodeId),
    /// Anybody: its request must carry a token or key.
    Stranger,
}

/// A stream in both directions. Closed by `shutdown`; dropping it resets it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The network as one node sees it.
#[async_trait]
pub trait Transport: Send + Sync {
    /// This node.
    fn local(&self) -> NodeId;

    /// Sends a request and waits for its answer. Small ones share a lane with others; large ones get a stream of their
    /// own. Dropping the future cancels the call at the other side.
    ///
    /// # Errors
    /// What the handler answered; or `unreachable` (`not-executed`: the request never left), `peer-lost`
    /// (`maybe-executed`), `deadline-exceeded` (`maybe-executed`), `untrusted`.
    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure>;

    /// Opens a stream for bulk bytes.
    ///
    /// # Errors
    /// `unreachable` or `untrusted`, both `not-executed`.
    async fn open(&self, peer: NodeId, service: Service, deadline: Instant) -> Result<Box<dyn Duplex>, Failure>;

    /// Whether calls to `peer` had better go elsewhere: it did not answer when it was dialed, or nothing has been heard
    /// from it for a while. Only what this node itself has seen; a network that does not watch its peers says no.
    fn is_doubted(&self, peer: NodeId) -> bool {
        let _ = peer;
        false
    }

    /// Whether a sign of life of `peer` is overdue, sooner than it [is doubted](Self::is_doubted): what it is sent now may
    /// never reach it, so that a call that is lost with it had probably nothing to do with its end.
    fn is_silent(&self, peer: NodeId) -> bool {
        self.is_doubted(peer)
    }

    /// Sends at most [`DATAGRAM_BYTES_MAX`] bytes that may be lost. Connects in the background if need be; never waits.
    fn datagram(&self, peer: NodeId, service: Service, body: Bytes);
}

/// Largest datagram body: what fits QUIC's smallest packet (RFC 9000, section 14) beside its headers.
pub const DATAGRAM_BYTES_MAX: usize = 1_100;

/// What answers a service's requests.
#[async_trait]
pub trait Serve: Send + Sync {
    /// Answers one request. The future is dropped when the caller cancels or the deadline passes.
    ///
    /// # Errors
    /// Whatever the caller is to see.
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure>;

    /// Whether the holder of `key` may send a request at all. Asked of [`Service::Client`] and [`Service::Nodes`] before
    /// anything of a stranger's request is read but its first frame. Asked on the network's own thread: must not block.
    ///
    /// # Errors
    /// `unauthenticated` for a key that is not good, which is all of them by default.
    async fn admit(&self, key: &str) -> Result<(), Failure> {
        let _ = key;
        Err(Failure::not_executed(ErrorCode::Unauthenticated, "no key is good for this service"))
    }

    /// Answers one request of the holder of `key`, who was [admitted](Self::admit). By default as if it came without.
    ///
    /// # Errors
    /// Whatever the caller is to see.
    async fn call_with_key(&self, key: &str, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let _ = key;
        self.call(Caller::Stranger, body, deadline).await
    }

    /// Takes over a stream. By default it is dropped, which resets it.
    async fn stream(&self, from: Caller, stream: Box<dyn Duplex>) {
        let _ = (from, stream);
    }

    /// Takes a datagram. Must not block.
    fn datagram(&self, from: NodeId, body: Bytes) {
        let _ = (from, body);
    }
}
