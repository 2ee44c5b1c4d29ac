//! One node's network: its endpoint, its peers and its handlers.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::time::Instant;

use crate::{Duplex, Identity, NetworkConfig, Serve, Service, Transport, Trust};

/// A node's network; clone it freely, all clones are one. [`Network::shutdown`] ends it.
#[derive(Clone)]
pub struct Network {
    local: NodeId,
    addr: SocketAddr,
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
        let _ = trust;
        Ok(Self { local: identity.node(), addr: config.addr })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Writes `node`'s address into the address book. If it had another, connections to that are closed.
    pub fn set_address(&self, node: NodeId, addr: SocketAddr) {
        let _ = (node, addr);
    }

    /// Forgets `node`'s address and closes the connections to it.
    pub fn remove_address(&self, node: NodeId) {
        let _ = node;
    }

    /// Closes all connections with `node`, in both directions. A removed node is refused when it comes back; one
    /// that is still trusted may connect again at once.
    pub fn disconnect(&self, node: NodeId) {
        let _ = node;
    }

    /// Sets what answers `service`. Before [`start`](Self::start), so that no request finds it missing.
    pub fn handle(&self, service: Service, handler: Arc<dyn Serve>) {
        let _ = (service, handler);
    }

    /// Begins to accept connections.
    pub fn start(&self) {}

    /// Accepts nothing new, lets running requests finish until `deadline`, then closes everything and waits for
    /// its thread to end.
    pub async fn shutdown(&self, deadline: Instant) {
        let _ = deadline;
    }
}

#[async_trait]
impl Transport for Network {
    fn local(&self) -> NodeId {
        self.local
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let _ = (peer, service, body, deadline);
        Err(Failure::not_executed(ErrorCode::Unreachable, "not built yet"))
    }

    async fn open(&self, peer: NodeId, service: Service, deadline: Instant) -> Result<Box<dyn Duplex>, Failure> {
        let _ = (peer, service, deadline);
        Err(Failure::not_executed(ErrorCode::Unreachable, "not built yet"))
    }

    fn datagram(&self, peer: NodeId, service: Service, body: Bytes) {
        let _ = (peer, service, body);
    }
}
