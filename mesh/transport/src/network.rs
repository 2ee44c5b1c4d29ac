//! One node's network: its endpoint, its peers and its handlers.
//!
//! ```text
//! callers (any runtime) --> Peers: one Link per peer and purpose --> lanes, own streams, datagrams
//!                                        | the network's own thread drives QUIC
//! handlers (the runtime of `bind`) <-- Accepted: one per connection that others dialed
//! ```

mod accept;
mod dial;
mod doubts;
mod entrance;
mod host;
mod io;
mod link;
mod peers;
mod seats;
mod serve;
mod serve_lane;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use quinn::{Endpoint, TokioRuntime};
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::{
    doubts::Doubt,
    host::{Asked, Host, draining},
    io::IoThread,
    link::{Link, Purpose},
    peers::Peers,
};
use crate::{
    Address, CaPin, Caller, DATAGRAM_BYTES_MAX, Duplex, Identity, NetworkConfig, Serve, Service, Stranger, Transport,
    Trust, close::CLOSE_DONE, exchange, frame::Frame, quic, tls,
};

pub(crate) use link::hello;

/// A node's network; clone it freely, all clones are one. [`Network::shutdown`] ends it.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    addr: SocketAddr,
    /// The mesh's CA certificate, DER.
    authority: Bytes,
    host: Arc<Host>,
    peers: Arc<Peers>,
    endpoint: Endpoint,
    io: IoThread,
    /// Tasks of accepted connections.
    connections: TaskTracker,
    is_started: AtomicBool,
}

/// The network could not start. Nothing is left listening.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens at this address.
    #[error("address {addr} is already in use")]
    AddressInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot listen at {addr}: {source}")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The identity does not make a TLS configuration.
    #[error("identity cannot be used: {0}")]
    Identity(String),
}

impl Network {
    /// Binds the address; accepts nobody until [`start`](Self::start). Handlers will run on the runtime this is
    /// called on.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: NetworkConfig, identity: Identity, trust: Arc<dyn Trust>) -> Result<Network, BindError> {
        let server = tls::server(&identity, trust.clone()).map_err(BindError::Identity)?;
        let client = tls::peer(&identity, trust.clone()).map_err(BindError::Identity)?;
        let (server, client) = (quic::server(&config, server), quic::peer(&config, client));
        let asked = config.addr;
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => BindError::AddressInUse { addr: asked },
            _ => BindError::Io { addr: asked, source },
        };
        let socket = std::net::UdpSocket::bind(asked).map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        let io = IoThread::start().map_err(failed)?;
        let endpoint = {
            // The endpoint's driver is spawned where it is made.
            let _context = io.handle().enter();
            Endpoint::new(quic::endpoint(&identity), Some(server), socket, Arc::new(TokioRuntime)).map_err(failed)?
        };
        let host = Arc::new(Host::new(identity.node(), config, Handle::current()));
        let peers = Peers::new(host.clone(), identity.mesh(), (endpoint.clone(), client), trust, io.handle().clone());
        Ok(Self {
            inner: Arc::new(Inner {
                addr,
                authority: Bytes::copy_from_slice(identity.ca_certificate()),
                host,
                peers: Arc::new(peers),
                endpoint,
                io,
                connections: TaskTracker::new(),
                is_started: AtomicBool::new(false),
            }),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// Writes down where `node` is reached, the best word first. If the first was another, connections to it are closed.
    pub fn set_addresses(&self, node: NodeId, addresses: Vec<Address>) {
        self.inner.peers.set_addresses(node, addresses);
    }

    /// The same with one address.
    pub fn set_address(&self, node: NodeId, addr: SocketAddr) {
        self.set_addresses(node, vec![addr.into()]);
    }

    /// Forgets where `node` is reached and closes the connections to it.
    pub fn remove_address(&self, node: NodeId) {
        self.set_addresses(node, Vec::new());
    }

    /// Finds out which node is at `address`, by the certificate it shows, and looks for it there from now on.
    ///
    /// # Errors
    /// `unreachable`, `untrusted`, `protocol-mismatch` or `deadline-exceeded`, all `not-executed`.
    pub async fn meet(&self, address: &Address, deadline: Instant) -> Result<NodeId, Failure> {
        let inner = &self.inner;
        let stranger = Stranger::connect_to(address, CaPin::Certificate(inner.authority.clone()), deadline).await?;
        let (node, addr) = (stranger.node(), stranger.remote_address());
        stranger.close().await;
        if node != inner.host.local {
            inner.peers.met(node, addr);
        }
        Ok(node)
    }

    /// Whether a peer has called this node since it started, and each change of that.
    pub fn reached(&self) -> watch::Receiver<bool> {
        self.inner.peers.reached()
    }

    /// The member that was the last to say that this node was removed from the mesh, and each time that one says it. The
    /// word is as good as the member: one of which this node does not know yet that it was removed itself may lie. What was
    /// said before this was called counts as said after it.
    pub fn removal(&self) -> watch::Receiver<Option<NodeId>> {
        let mut removal = self.inner.host.removal.subscribe();
        removal.mark_changed();
        removal
    }

    /// Closes all connections with `node`, in both directions. A removed node is refused when it comes back; one
    /// that is still trusted may connect again at once.
    pub fn disconnect(&self, node: NodeId) {
        self.inner.peers.disconnect(node);
    }

    /// The peers that have a connection to this node or from it, and are no members any more. Whoever becomes one of them
    /// later is not let in, however long ago it has begun to knock.
    pub fn untrusted(&self) -> BTreeSet<NodeId> {
        self.inner.peers.untrusted()
    }

    /// Sets what answers `service`. Before [`start`](Self::start), so that no request finds it missing.
    pub fn handle(&self, service: Service, handler: Arc<dyn Serve>) {
        self.inner.host.handle(service, handler);
    }

    /// Begins to accept connections. A second time does nothing.
    pub fn start(&self) {
        let inner = &self.inner;
        if !inner.is_started.swap(true, Ordering::AcqRel) {
            let acceptor = accept::Acceptor::new(
                inner.host.clone(),
                inner.peers.clone(),
                inner.endpoint.clone(),
                inner.connections.clone(),
            );
            drop(inner.io.handle().spawn(acceptor.run()));
        }
    }

    /// Tells clients to go elsewhere: those that are connected by a word, those that come by a refusal. Their requests are
    /// still answered, and peers notice nothing.
    pub fn farewell(&self) {
        self.inner.host.farewell.cancel();
    }

    /// Takes no new request, not even from peers, and returns when every answer has arrived: lets running requests finish
    /// until `deadline`, then waits a moment for the others to end their lanes and connections, so that what they sent at
    /// this very time is answered too. Datagrams still go out.
    pub async fn finish(&self, deadline: Instant) {
        let host = &self.inner.host;
        host.farewell.cancel();
        host.closing.cancel();
        self.inner.endpoint.set_server_config(None);
        host.requests.close();
        let _ = timeout_at(deadline, host.requests.wait()).await;
        host.lanes.close();
        host.strangers.close();
        let gone = async { tokio::join!(host.lanes.wait(), host.strangers.wait()) };
        if timeout(host.config.goodbye_timeout, gone).await.is_err() {
            let (lanes, strangers) = (host.lanes.len(), host.strangers.len());
            tracing::debug!(lanes, strangers, "some did not end their connections when they were told to");
        }
    }

    /// The same as [`finish`](Self::finish), if that was not done before; then closes everything and waits for its thread
    /// to end.
    pub async fn shutdown(&self, deadline: Instant) {
        let inner = &self.inner;
        if !inner.host.closing.is_cancelled() {
            self.finish(deadline).await;
        }
        inner.endpoint.close(CLOSE_DONE, b"shutdown");
        inner.connections.close();
        let _ = timeout(CLOSE_TIMEOUT, inner.connections.wait()).await;
        let _ = timeout(CLOSE_TIMEOUT, inner.endpoint.wait_idle()).await;
        inner.io.stop().await;
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("local", &self.inner.host.local).field("addr", &self.inner.addr).finish()
    }
}

impl Inner {
    async fn link(&self, peer: NodeId, purpose: Purpose, deadline: Instant) -> Result<Arc<Link>, Failure> {
        if self.host.closing.is_cancelled() {
            return Err(draining());
        }
        self.peers.link(peer, purpose, deadline).await
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let purpose = Purpose::of(service, body.len());
        let is_large = body.len() > crate::frame::INLINE_BYTES_MAX;
        let mut attempts = 0;
        loop {
            let link = self.link(peer, purpose, deadline).await?;
            let answer = if is_large {
                let bytes_max = self.host.config.body_bytes_max;
                exchange::exchange(&link.connection, service, body.clone(), deadline, bytes_max).await
            } else {
                link.call(service, body.clone(), deadline).await
            };
            attempts += 1;
            match answer {
                // The connection ended between the look-up and the write: once more, on a new one.
                Err(failure) if attempts < ATTEMPTS_MAX && is_unsent(&failure) && !link.is_open() => {}
                answer => return answer,
            }
        }
    }

    /// A call of this node to itself: no network between.
    async fn call_self(&self, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let (host, caller) = (self.host.clone(), Caller::Peer(self.host.local));
        let asked = Asked { service: Some(service), key: None, body };
        let work = self.host.spawn(async move { host.answer(caller, asked, deadline).await });
        AbortOnDropHandle::new(work)
            .await
            .unwrap_or_else(|_| Err(Failure::maybe_executed(ErrorCode::Internal, "the handler was stopped")))
    }

    fn open_self(&self, service: Service) -> Result<Box<dyn Duplex>, Failure> {
        let caller = Caller::Peer(self.host.local);
        let handler = self.host.handler(caller, Some(service))?;
        let (ours, theirs) = tokio::io::duplex(SELF_STREAM_BYTES);
        drop(self.host.spawn(async move { handler.stream(caller, Box::new(theirs)).await }));
        Ok(Box::new(ours))
    }
}

#[async_trait]
impl Transport for Network {
    fn local(&self) -> NodeId {
        self.inner.host.local
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let host = &self.inner.host;
        if body.len() > host.config.body_bytes_max {
            let message = format!("the request is over the limit of {} bytes", host.config.body_bytes_max);
            return Err(Failure::not_executed(ErrorCode::TooLarge, message));
        }
        if peer == host.local {
            return self.inner.call_self(service, body, deadline).await;
        }
        host.metrics.made.increment(1);
        host.metrics.sent_bytes.increment(body.len() as u64);
        let answer = self.inner.call(peer, service, body, deadline).await?;
        host.metrics.received_bytes.increment(answer.len() as u64);
        Ok(answer)
    }

    async fn open(&self, peer: NodeId, service: Service, deadline: Instant) -> Result<Box<dyn Duplex>, Failure> {
        if peer == self.inner.host.local {
            return self.inner.open_self(service);
        }
        let link = self.inner.link(peer, Purpose::Bulk, deadline).await?;
        Ok(Box::new(exchange::open(&link.connection, service, deadline).await?))
    }

    fn is_doubted(&self, peer: NodeId) -> bool {
        self.inner.peers.doubts().of(peer) == Some(Doubt::Doubted)
    }

    fn is_silent(&self, peer: NodeId) -> bool {
        self.inner.peers.doubts().of(peer).is_some()
    }

    fn datagram(&self, peer: NodeId, service: Service, body: Bytes) {
        let inner = &self.inner;
        let dropped = &inner.host.metrics.dropped_datagrams;
        if body.len() > DATAGRAM_BYTES_MAX {
            dropped.increment(1);
            return;
        }
        if peer == inner.host.local {
            inner.host.datagram(peer, Some(service), body);
            return;
        }
        let mut frame = BytesMut::with_capacity(body.len() + 32);
        Frame::Datagram { service: Some(service), body }.write_bare(&mut frame);
        let frame = frame.freeze();
        if let Some(link) = inner.peers.open_link(peer, Purpose::Calls) {
            if link.connection.send_datagram(frame).is_err() {
                dropped.increment(1);
            }
            return;
        }
        let Some(place) = inner.peers.wait_in_line(peer) else {
            dropped.increment(1);
            return;
        };
        let (peers, dropped) = (inner.peers.clone(), dropped.clone());
        let deadline = Instant::now() + inner.host.config.dial_timeout;
        drop(inner.io.handle().spawn(async move {
            let _place = place;
            let link = peers.link(peer, Purpose::Calls, deadline).await;
            if !link.is_ok_and(|link| link.connection.send_datagram(frame).is_ok()) {
                dropped.increment(1);
            }
        }));
    }
}

fn is_unsent(failure: &Failure) -> bool {
    failure.code == ErrorCode::Unreachable && failure.progress == skein_proto::Progress::NotExecuted
}

/// A call meets a connection that just died at most this often.
const ATTEMPTS_MAX: usize = 2;

/// How long the end of connections may take that have nothing to say any more.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Buffer of a stream from this node to itself.
const SELF_STREAM_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
