//! Books on a network in memory that knows only the addresses that its nodes have been told.

use std::sync::Mutex;

use skein_proto::{Digest, MeshId};
use skein_transport::{AddressRecord, Authority, Duplex, NodeKey, Validity};

use super::*;

/// A mesh's CA, to make identities with.
pub(super) struct Bench {
    authority: Authority,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self { authority: Authority::found(MeshId::random()).unwrap() }
    }

    pub(super) fn identity(&self, node: u64) -> Identity {
        let key = NodeKey::generate().unwrap();
        let certificate = self.authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
        Identity::new(key, &certificate, self.authority.certificate()).unwrap()
    }
}

pub(super) fn at(port: u16) -> ReachedAt {
    let address = |port: u16| format!("127.0.0.1:{port}").parse().unwrap();
    ReachedAt { mesh: address(port), http: address(port + 1), admin: address(port + 2) }
}

/// Who listens where.
type Net = Arc<Mutex<BTreeMap<u16, (NodeId, Arc<dyn Serve>)>>>;

/// A node's way to the others: by the addresses that its book and its hints tell, as `node/skein` has it.
struct Link {
    me: NodeId,
    net: Net,
    book: Arc<Mutex<Option<AddressBook>>>,
    /// What it is told by others than its book: the catalogue's addresses, and where it met somebody.
    told: Mutex<BTreeMap<NodeId, Vec<u16>>>,
    port: u16,
}

#[async_trait]
impl Transport for Link {
    fn local(&self) -> NodeId {
        self.me
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        assert_eq!(service, Service::Address);
        let mut ports = self.told.lock().unwrap().get(&peer).cloned().unwrap_or_default();
        let known = self.book.lock().unwrap().as_ref().map(|book| book.records());
        ports.extend(known.and_then(|known| Some(known.get(peer)?.mesh.port())));
        let found = {
            let net = self.net.lock().unwrap();
            ports.iter().filter_map(|port| net.get(port)).find(|(node, _)| *node == peer).cloned()
        };
        match found {
            Some((_, handler)) => handler.call(Caller::Peer(self.me), body, deadline).await,
            None => Err(Failure::not_executed(ErrorCode::Unreachable, "nobody is there")),
        }
    }

    async fn open(&self, _: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, "calls only"))
    }

    fn datagram(&self, _: NodeId, _: Service, _: Bytes) {}
}

struct Node {
    identity: Identity,
    book: AddressBook,
    link: Arc<Link>,
}

struct Mesh {
    net: Net,
    identities: Vec<Identity>,
    nodes: BTreeMap<u64, Node>,
    removed: Arc<Mutex<BTreeSet<NodeId>>>,
}

fn port(node: u64, place: u16) -> u16 {
    u16::try_from(node).unwrap() * 10 + place * 1_000
}

impl Mesh {
    fn of(size: u64) -> Self {
        let bench = Bench::new();
        let identities = (1..=size).map(|node| bench.identity(node)).collect();
        let mut mesh = Self { net: Arc::default(), identities, nodes: BTreeMap::new(), removed: Arc::default() };
        (1..=size).for_each(|node| mesh.start(node, 1, Vec::new()));
        mesh
    }

    /// Starts a node at a place; the catalogue has everybody at place 1.
    fn start(&mut self, node: u64, place: u16, kept: Vec<Bytes>) {
        let size = self.identities.len() as u64;
        let identity = self.identities[usize::try_from(node - 1).unwrap()].clone();
        let told = (1..=size).map(|peer| (NodeId(peer), vec![port(peer, 1)])).collect();
        let link = Arc::new(Link {
            me: NodeId(node),
            net: self.net.clone(),
            book: Arc::default(),
            told: Mutex::new(told),
            port: port(node, place),
        });
        let removed = self.removed.clone();
        let own = Addressed {
            identity: identity.clone(),
            reached_at: at(link.port),
            sequence: u64::from(place),
            kept,
            trust: Arc::new(move |node: NodeId, _: Digest| !removed.lock().unwrap().contains(&node)),
        };
        let book = AddressBook::spawn(own, link.clone()).unwrap();
        *link.book.lock().unwrap() = Some(book.clone());
        self.net.lock().unwrap().insert(link.port, (NodeId(node), book.service()));
        book.follow((1..=size).map(NodeId).collect());
        self.nodes.insert(node, Node { identity, book, link });
    }

    async fn stop(&mut self, node: u64) -> Vec<Bytes> {
        let node = self.nodes.remove(&node).unwrap();
        self.net.lock().unwrap().remove(&node.link.port);
        node.book.shutdown().await;
        *node.link.book.lock().unwrap() = None;
        assert_eq!(node.identity.node(), node.link.me);
        node.book.records().to_keep()
    }

    fn knows(&self, at_node: u64, of: u64, place: u16) -> bool {
        self.nodes[&at_node].book.records().get(NodeId(of)) == Some(&at(port(of, place)))
    }

    async fn until_known(&self, of: u64, place: u16) {
        for node in self.nodes.keys() {
            let mut records = self.nodes[node].book.watch();
            let known = records.wait_for(|records| records.get(NodeId(of)) == Some(&at(port(of, place))));
            let known = tokio::time::timeout(Duration::from_secs(30), known).await.map(|known| known.is_ok());
            assert_eq!(known, Ok(true), "{node} does not hear of {of} at place {place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moved_tells_those_it_knows_and_they_tell_the_others() {
    let mut mesh = Mesh::of(3);
    for node in 1..=3 {
        mesh.until_known(node, 1).await;
    }
    let kept = mesh.stop(3).await;
    mesh.start(3, 2, kept);
    mesh.until_known(3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_all_moved_find_each_other_by_one_hint() {
    for size in [3, 5] {
        let mut mesh = Mesh::of(size);
        let mut kept = BTreeMap::new();
        for node in 1..=size {
            kept.insert(node, mesh.stop(node).await);
        }
        for (node, kept) in kept {
            mesh.start(node, 2, kept);
        }
        // All but the first are told where that one is.
        for node in 2..=size {
            let node = &mesh.nodes[&node];
            node.link.told.lock().unwrap().entry(NodeId(1)).or_default().push(port(1, 2));
            node.book.meet(NodeId(1));
        }
        for node in 1..=size {
            mesh.until_known(node, 2).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_while_a_node_was_away_is_told_when_it_is_back() {
    let mut mesh = Mesh::of(4);
    for node in 1..=4 {
        mesh.until_known(node, 1).await;
    }
    let away = mesh.stop(4).await;
    let kept = mesh.stop(3).await;
    mesh.start(3, 2, kept);
    mesh.until_known(3, 2).await;
    mesh.start(4, 1, away);
    mesh.until_known(3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_lies_changes_nothing() {
    let mesh = Mesh::of(2);
    mesh.until_known(1, 1).await;
    mesh.until_known(2, 1).await;
    let service = mesh.nodes[&1].book.service();
    let forged = AddressRecord::sign(&Bench::new().identity(2), 99, at(9_000)).unwrap();
    let lie = Exchange { has: BTreeMap::new(), news: vec![forged.bytes().clone(), Bytes::from_static(b"junk")] };
    let deadline = Instant::now() + PERIOD;
    service.call(Caller::Peer(NodeId(2)), codec::encode(&lie).unwrap(), deadline).await.unwrap();
    assert!(mesh.knows(1, 2, 1));
    assert!(service.call(Caller::Peer(NodeId(2)), Bytes::from_static(&[0xc1]), deadline).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn where_a_removed_node_was_is_neither_kept_nor_told() {
    let mut mesh = Mesh::of(3);
    for node in 1..=3 {
        mesh.until_known(node, 1).await;
    }
    mesh.stop(3).await;
    mesh.removed.lock().unwrap().insert(NodeId(3));
    let one = mesh.nodes[&1].book.clone();
    one.follow([1, 2].map(NodeId).into());
    one.forget(|node| node == NodeId(3));
    assert_eq!(one.records().to_keep().len(), 2);
    // The other one has not heard of it yet, and tells where the third was.
    mesh.nodes[&2].book.meet(NodeId(1));
    tokio::time::timeout(EXCHANGE_DEADLINE, one.watch().changed()).await.unwrap_err();
    assert_eq!(one.records().get(NodeId(3)), None);
    // What this node knows of itself is not for others to take away.
    one.forget(|_| true);
    assert!(mesh.knows(1, 1, 1));
}
