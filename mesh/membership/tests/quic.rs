//! Membership over real QUIC on loopback: what paused time and a perfect network cannot show.

#![allow(clippy::unwrap_used, reason = "clippy knows tests by their functions, not by their folder")]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use skein_membership::{Config, Membership};
use skein_proto::{Digest, MeshId, NodeId};
use skein_transport::{Authority, Identity, Network, NetworkConfig, NodeKey, Service, Trust, Validity};
use tokio::time::Instant;

struct Everybody;

impl Trust for Everybody {
    fn is_trusted(&self, _: NodeId, _: Digest) -> bool {
        true
    }
}

struct Node {
    network: Network,
    membership: Membership,
}

impl Node {
    async fn start(authority: &Authority, node: u64, addr: SocketAddr) -> Self {
        let key = NodeKey::generate().unwrap();
        let certificate = authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
        let identity = Identity::new(key, &certificate, authority.certificate()).unwrap();
        let network = Network::bind(NetworkConfig::new(addr), identity, Arc::new(Everybody)).await.unwrap();
        let me = NodeId(node);
        let membership = Membership::spawn(Config::default(), Arc::new(network.clone()), me);
        network.handle(Service::Gossip, membership.service());
        network.start();
        Self { network, membership }
    }

    /// Ends without a word to the others' membership.
    async fn stop(self) -> SocketAddr {
        let addr = self.network.local_addr();
        self.membership.shutdown().await;
        self.network.shutdown(Instant::now()).await;
        addr
    }

    fn meet(&self, peers: &BTreeMap<u64, SocketAddr>) {
        for (node, addr) in peers {
            self.network.set_address(NodeId(*node), *addr);
        }
        self.membership.announce(peers.keys().map(|node| NodeId(*node)));
    }

    /// Waits until this node sees `node` alive or not.
    async fn until(&self, node: u64, is_alive: bool, most: Duration) {
        let mut view = self.membership.watch();
        let seen = view.wait_for(|view| view.is_alive(NodeId(node)) == is_alive);
        let in_time = tokio::time::timeout(most, seen).await.is_ok_and(|seen| seen.is_ok());
        assert!(in_time, "node {node} alive={is_alive} not seen within {most:?}");
    }
}

/// Twice what is promised: the machine may be busy with other tests.
const FOUND: Duration = Duration::from_secs(4);
const GIVEN_UP: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_is_given_up_and_found_again_when_it_returns() {
    let authority = Authority::found(MeshId::random()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let one = Node::start(&authority, 1, any).await;
    let two = Node::start(&authority, 2, any).await;
    let three = Node::start(&authority, 3, any).await;
    let nodes = [(1, &one), (2, &two), (3, &three)];
    let peers: BTreeMap<_, _> = nodes.iter().map(|(id, node)| (*id, node.network.local_addr())).collect();
    for (id, node) in nodes {
        node.meet(&peers.iter().filter(|(peer, _)| **peer != id).map(|(peer, addr)| (*peer, *addr)).collect());
    }
    for (id, node) in nodes {
        for peer in (1..=3).filter(|peer| *peer != id) {
            node.until(peer, true, FOUND).await;
        }
    }
    let addr = three.stop().await;
    one.until(3, false, GIVEN_UP).await;
    two.until(3, false, GIVEN_UP).await;
    assert!(one.membership.view().is_alive(NodeId(2)) && two.membership.view().is_alive(NodeId(1)));
    let three = Node::start(&authority, 3, addr).await;
    three.meet(&peers.iter().filter(|(peer, _)| **peer != 3).map(|(peer, addr)| (*peer, *addr)).collect());
    one.until(3, true, FOUND).await;
    two.until(3, true, FOUND).await;
    for node in [one, two, three] {
        node.stop().await;
    }
}
