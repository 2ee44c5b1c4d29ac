//! The accept loop: who comes in, how many, and what they are until they have shown it.

use std::sync::Arc;

use quinn::{Connection, Endpoint, Incoming};
use skein_proto::{Digest, NodeId};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    entrance::Share,
    host::Host,
    peers::Peers,
    seats::{Seat, Seats},
    serve::Accepted,
};
use crate::{
    Caller,
    close::{CLOSE_BUSY, CLOSE_LEAVING, CLOSE_REMOVED, CLOSE_UNTRUSTED, removal_proof},
    metrics::Counted,
    quic,
    tls::{self, Shown},
};

/// Accepts connections until the endpoint closes.
pub(super) struct Acceptor {
    host: Arc<Host>,
    peers: Arc<Peers>,
    endpoint: Endpoint,
    connections: TaskTracker,
    /// Of those who have not shown yet who they are. Nobody keeps one for longer than a handshake, so that strangers who
    /// stay cannot keep a member out, nor members a stranger.
    handshakes: Arc<Seats>,
    /// Of those who have no certificate and have shown no key.
    strangers: Arc<Seats>,
    clients: Arc<Semaphore>,
    members: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(host: Arc<Host>, peers: Arc<Peers>, endpoint: Endpoint, connections: TaskTracker) -> Self {
        let config = &host.config;
        let handshakes = Seats::new(config.handshakes_max, config.handshakes_per_address_max);
        let strangers = Seats::new(config.stranger_connections_max, config.stranger_connections_per_address_max);
        let clients = Arc::new(Semaphore::new(config.client_connections_max));
        let members = Arc::new(Semaphore::new(config.peer_connections_max));
        Self { host, peers, endpoint, connections, handshakes, strangers, clients, members }
    }

    /// The loop.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        while let Some(incoming) = this.endpoint.accept().await {
            // Whoever comes must first show that its address is its own. It takes a round trip, and without it a first
            // packet under another's address has that one sent 3.3 times its bytes: quinn counts to three times, and then
            // lets a whole datagram more out.
            if !incoming.remote_address_validated() {
                let _ = incoming.retry();
                continue;
            }
            let Some(seat) = this.handshakes.take(incoming.remote_address().ip()) else {
                incoming.refuse();
                continue;
            };
            this.connections.spawn(this.clone().serve(incoming, seat));
        }
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, seat: Seat) {
        let leave = seat.leave();
        let shaken = tokio::select! {
            shaken = self.shake_hands(incoming) => shaken,
            () = leave.cancelled() => {
                self.host.metrics.handshake_failures.increment(1);
                None
            }
        };
        let Some((connection, shown)) = shaken else { return };
        drop(seat);
        match shown {
            Shown::Stranger => self.serve_stranger(connection).await,
            Shown::Peer(node, key) => self.serve_peer(connection, node, key).await,
        }
    }

    async fn shake_hands(&self, incoming: Incoming) -> Option<(Connection, Shown)> {
        let remote = incoming.remote_address();
        let failures = &self.host.metrics.handshake_failures;
        let connection = match timeout(self.host.config.handshake_timeout, incoming.accept().ok()?).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                failures.increment(1);
                // Anyone can cause it, as often as they like: it is counted, and told only who asks.
                tracing::debug!(%remote, %error, "handshake failed");
                return None;
            }
            Err(_) => {
                failures.increment(1);
                return None;
            }
        };
        let Some(shown) = tls::caller(&connection) else {
            failures.increment(1);
            connection.close(CLOSE_UNTRUSTED, b"a member must show its certificate");
            return None;
        };
        Some((connection, shown))
    }

    async fn serve_stranger(&self, connection: Connection) {
        if self.host.farewell.is_cancelled() {
            connection.close(CLOSE_LEAVING, b"this node is leaving");
            return;
        }
        let Some(seat) = self.strangers.take(connection.remote_address().ip()) else {
            connection.close(CLOSE_BUSY, b"too many connections");
            return;
        };
        let _here = self.host.strangers.token();
        let leave = seat.leave();
        let share = Share::new(Some(seat), self.clients.clone());
        tokio::select! {
            () = self.accepted(connection.clone(), Caller::Stranger, share).run() => {}
            () = leave.cancelled() => {
                self.host.metrics.overloads.increment(1);
                connection.close(CLOSE_BUSY, b"too many connections that show no key");
            }
        }
    }

    async fn serve_peer(&self, connection: Connection, node: NodeId, key: Digest) {
        if self.peers.has_left(node) {
            self.host.metrics.handshake_failures.increment(1);
            connection.close(CLOSE_REMOVED, &removal_proof(&connection).unwrap_or_default());
            return;
        }
        let Ok(_place) = self.members.clone().try_acquire_owned() else {
            connection.close(CLOSE_BUSY, b"too many connections");
            return;
        };
        quic::trust_with_streams(&connection, self.host.config.streams_per_peer_max);
        self.peers.accepted(node, key, &connection);
        // The handshake asked at the certificate, and its rest may have been held back until the node was removed and
        // its connections closed. Whoever is removed after this is found in the book.
        if self.peers.is_trusted(node, key) {
            let share = Share::new(None, self.clients.clone());
            self.accepted(connection.clone(), Caller::Peer(node), share).run().await;
        } else {
            self.host.metrics.handshake_failures.increment(1);
            connection.close(CLOSE_UNTRUSTED, b"no member any more");
        }
        self.peers.ended(node, &connection);
    }

    fn accepted(&self, connection: Connection, caller: Caller, share: Share) -> Accepted {
        Accepted {
            host: self.host.clone(),
            peers: self.peers.clone(),
            connection,
            caller,
            share: Arc::new(share),
            _counted: Arc::new(Counted::new(&self.host.metrics.accepted)),
        }
    }
}
