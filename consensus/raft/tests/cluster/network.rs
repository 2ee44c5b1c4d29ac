//! A network in memory whose links can be cut. What crosses a cut link is lost without a word, as on a real one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_transport::{Caller, Duplex, Serve, Service, Transport};
use tokio::time::{Instant, sleep_until, timeout_at};

/// All nodes and links. Clones are the same network.
#[derive(Clone, Default)]
pub(crate) struct Network {
    wires: Arc<Mutex<Wires>>,
}

#[derive(Default)]
struct Wires {
    handlers: HashMap<(NodeId, Service), Arc<dyn Serve>>,
    /// Which side of the cut a node is on.
    sides: BTreeMap<NodeId, u8>,
}

impl Network {
    /// The network as this node sees it.
    pub(crate) fn link(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Link { node, network: self.clone() })
    }

    pub(crate) fn plug(&self, node: NodeId, service: Service, handler: Arc<dyn Serve>) {
        self.wires().handlers.insert((node, service), handler);
    }

    pub(crate) fn unplug(&self, node: NodeId) {
        self.wires().handlers.retain(|(plugged, _), _| *plugged != node);
    }

    /// Lets these nodes hear only each other.
    pub(crate) fn cut_off(&self, nodes: &BTreeSet<NodeId>) {
        self.wires().sides = nodes.iter().map(|node| (*node, 1)).collect();
    }

    pub(crate) fn heal(&self) {
        self.wires().sides.clear();
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap()
    }

    fn handler(&self, from: NodeId, to: NodeId, service: Service) -> Option<Arc<dyn Serve>> {
        let wires = self.wires();
        let side = |node| wires.sides.get(node).copied().unwrap_or(0);
        if side(&from) != side(&to) {
            return None;
        }
        wires.handlers.get(&(to, service)).cloned()
    }
}

struct Link {
    node: NodeId,
    network: Network,
}

#[async_trait]
impl Transport for Link {
    fn local(&self) -> NodeId {
        self.node
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let late = || Failure::maybe_executed(ErrorCode::DeadlineExceeded, "no answer");
        let Some(handler) = self.network.handler(self.node, peer, service) else {
            sleep_until(deadline).await;
            return Err(late());
        };
        let answer = timeout_at(deadline, handler.call(Caller::Peer(self.node), body, deadline)).await;
        if self.network.handler(peer, self.node, service).is_none() {
            sleep_until(deadline).await;
            return Err(late());
        }
        answer.unwrap_or_else(|_| Err(late()))
    }

    async fn open(&self, _: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, "no streams here"))
    }

    fn datagram(&self, _: NodeId, _: Service, _: Bytes) {}
}
