//! The accept loop: who comes in, how many, and what they are until they have shown it.

use std::sync::Arc;

use quinn::{Endpoint, Incoming, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{host::Host, peers::Peers, serve::Accepted};
use crate::{
    Caller,
    close::{CLOSE_BUSY, CLOSE_UNTRUSTED},
    metrics::Counted,
    tls,
};

/// Accepts connections until the endpoint closes.
pub(super) struct Acceptor {
    host: Arc<Host>,
    peers: Arc<Peers>,
    endpoint: Endpoint,
    connections: TaskTracker,
    strangers: Arc<Semaphore>,
    members: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(host: Arc<Host>, peers: Arc<Peers>, endpoint: Endpoint, connections: TaskTracker) -> Self {
        let strangers = Arc::new(Semaphore::new(host.config.stranger_connections_max));
        let members = Arc::new(Semaphore::new(host.config.peer_connections_max));
        Self { host, peers, endpoint, connections, strangers, members }
    }

    /// The loop.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        while let Some(incoming) = this.endpoint.accept().await {
            let Ok(permit) = this.strangers.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            // Half full: whoever comes must first show that its address is its own.
            let is_crowded = this.strangers.available_permits() < this.host.config.stranger_connections_max / 2;
            if is_crowded && !incoming.remote_address_validated() {
                let _ = incoming.retry();
                continue;
            }
            this.connections.spawn(this.clone().serve(incoming, permit));
        }
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, permit: OwnedSemaphorePermit) {
        let remote = incoming.remote_address();
        let Ok(connecting) = incoming.accept() else { return };
        let connection = match timeout(self.host.config.handshake_timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                self.host.metrics.handshake_failures.increment(1);
                // Anyone can cause it, as often as they like: it is counted, and told only who asks.
                tracing::debug!(%remote, %error, "handshake failed");
                return;
            }
            Err(_) => {
                self.host.metrics.handshake_failures.increment(1);
                return;
            }
        };
        let Some(caller) = tls::caller(&connection) else {
            self.host.metrics.handshake_failures.increment(1);
            connection.close(CLOSE_UNTRUSTED, b"a member must show its certificate");
            return;
        };
        let _permit = match caller {
            Caller::Stranger => permit,
            Caller::Peer(_) => match self.members.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    connection.close(CLOSE_BUSY, b"too many connections");
                    return;
                }
            },
        };
        let _counted = Counted::new(&self.host.metrics.accepted);
        let accepted =
            Accepted { host: self.host.clone(), peers: self.peers.clone(), connection: connection.clone(), caller };
        match caller {
            Caller::Stranger => accepted.run().await,
            Caller::Peer(node) => {
                connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.host.config.streams_per_peer_max));
                self.peers.accepted(node, &connection);
                accepted.run().await;
                self.peers.ended(node, &connection);
            }
        }
    }
}
