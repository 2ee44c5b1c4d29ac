//! The transport of a simulated node: calls and datagrams over turmoil's UDP, which delays, reorders and cuts.
//!
//! A call's packets are repeated until they are answered, and served once: what QUIC does with streams. On top of
//! turmoil's faults some packets are lost and some come twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rand::{Rng, rngs::SmallRng};
use skein_proto::{ErrorCode, Failure, NodeId, codec};
use skein_transport::{Caller, Duplex, Serve, Service, Transport};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use turmoil::net::UdpSocket;

use crate::{
    wire::Packet,
    world::{NODES_MAX, World, host},
};

/// The network as one boot of one node sees it. Clones are the same.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    boot: u64,
    live: Weak<Live>,
    world: Arc<World>,
    calls: Mutex<Calls>,
    /// The boots of the peers that are known.
    boots: watch::Sender<BTreeMap<NodeId, u64>>,
    /// Those that were removed and are not heard any more.
    parted: Mutex<BTreeSet<NodeId>>,
    next: AtomicU64,
    chance: Mutex<SmallRng>,
    /// What holds back more calls at a time to one peer for one service than a connection has streams.
    streams: Mutex<HashMap<(NodeId, Service), Arc<Semaphore>>>,
}

/// What ends with the boot: the socket, and what answers. The answering parts hold the network themselves, so that only
/// who runs it may hold them.
pub struct Live {
    socket: UdpSocket,
    handlers: Mutex<Vec<(Service, Arc<dyn Serve>)>>,
}

impl Live {
    /// Has `handler` answer what is for `service`.
    pub fn handle(&self, service: Service, handler: Arc<dyn Serve>) {
        self.handlers.lock().unwrap().push((service, handler));
    }
}

#[derive(Default)]
struct Calls {
    /// Calls made, by id.
    made: BTreeMap<u64, (NodeId, oneshot::Sender<Result<Bytes, Failure>>)>,
    /// Calls served, by whose they are: still running, or what was answered.
    served: BTreeMap<(NodeId, u64), Served>,
}

enum Served {
    Running(AbortHandle),
    Done(Bytes),
}

/// The port that all nodes use.
pub const PORT: u16 = 7_070;

/// Between two packets of one call.
const REPEAT: Duration = Duration::from_millis(150);

/// Answers that are kept, in case they are asked for again.
const ANSWERS_MAX: usize = 4_096;

/// Largest packet: a chunk of a snapshot and its frame.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Where a node is.
pub fn address(node: NodeId) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(host(node)), PORT)
}

fn node_at(addr: IpAddr) -> Option<NodeId> {
    (1..=NODES_MAX).map(NodeId).find(|node| turmoil::lookup(host(*node)) == addr)
}

impl SimNetwork {
    /// Opens the socket of this boot, which is open as long as somebody holds it.
    ///
    /// # Errors
    /// What turmoil says.
    pub async fn bind(world: &Arc<World>, me: NodeId, boot: u64) -> std::io::Result<(Self, Arc<Live>)> {
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), PORT)).await?;
        let live = Arc::new(Live { socket, handlers: Mutex::default() });
        let shared = Shared {
            me,
            boot,
            live: Arc::downgrade(&live),
            world: world.clone(),
            calls: Mutex::default(),
            boots: watch::Sender::default(),
            parted: Mutex::default(),
            next: AtomicU64::new(boot << 32),
            chance: Mutex::new(world.chance(me, 2 + (boot << 8))),
            streams: Mutex::default(),
        };
        Ok((Self { shared: Arc::new(shared) }, live))
    }

    /// Ends what waits for a peer that was given up.
    pub fn disconnect(&self, peer: NodeId) {
        self.shared.forget(peer, "was given up");
    }

    /// Cuts off a peer that was removed: it is not heard any more.
    pub fn part(&self, peer: NodeId) {
        self.shared.parted.lock().unwrap().insert(peer);
        self.shared.forget(peer, "was removed");
    }

    /// Takes packets until the task is ended.
    pub async fn run(self, live: Arc<Live>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let Ok((len, from)) = live.socket.recv_from(&mut buffer).await else { return };
            let Some(from) = node_at(from.ip()) else { continue };
            self.shared.trace(from, &buffer[..len]);
            if let Ok(packet) = codec::decode(&buffer[..len]) {
                self.shared.take(from, packet);
            }
        }
    }
}

impl Shared {
    fn take(self: &Arc<Self>, from: NodeId, packet: Packet) {
        if self.parted.lock().unwrap().contains(&from) {
            return;
        }
        match packet {
            Packet::Hello => self.send(from, &Packet::Welcome { boot: self.boot }),
            Packet::Welcome { boot } => {
                // A late welcome of an earlier boot is corrected by a reset.
                self.boots.send_modify(|boots| _ = boots.insert(from, boot));
            }
            Packet::Ask { boot, .. } if boot != self.boot => self.send(from, &Packet::Reset { boot }),
            Packet::Ask { id, service, left_ms, body, .. } => {
                self.serve((from, id), service, body, Instant::now() + Duration::from_millis(left_ms));
            }
            Packet::Answer { id, outcome } => {
                if let Some((_, waiting)) = self.calls().made.remove(&id) {
                    let _ = waiting.send(outcome);
                }
            }
            Packet::Cancel { id } => {
                // Kept as an answer that nobody reads: an earlier packet of the call may still be on its way.
                let ended = self.calls().served.insert((from, id), Served::Done(Bytes::new()));
                if let Some(Served::Running(task)) = ended {
                    task.abort();
                }
            }
            Packet::Reset { boot } => {
                if self.boots.borrow().get(&from) == Some(&boot) {
                    self.forget(from, "has restarted");
                }
            }
            Packet::Datagram { service, body } => {
                if let Some(handler) = self.handler(service) {
                    handler.datagram(from, body);
                }
            }
        }
    }

    fn serve(self: &Arc<Self>, (from, id): (NodeId, u64), service: Service, body: Bytes, deadline: Instant) {
        // While it starts, a node has not all its handlers; it will be asked again.
        let Some(handler) = self.handler(service) else { return };
        let mut calls = self.calls();
        match calls.served.get(&(from, id)) {
            Some(Served::Running(_)) => return,
            Some(Served::Done(answer)) => {
                let answer = answer.clone();
                drop(calls);
                return self.send_bytes(from, &answer);
            }
            None => {}
        }
        let shared = self.clone();
        let task = tokio::spawn(async move {
            let answer = timeout_at(deadline, handler.call(Caller::Peer(from), body, deadline)).await;
            let outcome = answer.unwrap_or_else(|_| Err(late(shared.me)));
            let answer = codec::encode(&Packet::Answer { id, outcome }).unwrap();
            shared.send_bytes(from, &answer);
            let mut calls = shared.calls();
            if let Some(served) = calls.served.get_mut(&(from, id)) {
                *served = Served::Done(answer);
            }
        });
        calls.served.insert((from, id), Served::Running(task.abort_handle()));
        while calls.served.len() > ANSWERS_MAX {
            calls.served.pop_first();
        }
    }

    fn forget(&self, peer: NodeId, why: &str) {
        self.boots.send_modify(|boots| _ = boots.remove(&peer));
        let mut calls = self.calls();
        let lost: Vec<u64> = calls.made.iter().filter(|(_, (node, _))| *node == peer).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some((_, waiting)) = calls.made.remove(&id) {
                let _ = waiting.send(Err(Failure::maybe_executed(ErrorCode::PeerLost, format!("node {peer} {why}"))));
            }
        }
    }

    fn send(&self, to: NodeId, packet: &Packet) {
        self.send_bytes(to, &codec::encode(packet).unwrap());
    }

    fn send_bytes(&self, to: NodeId, bytes: &[u8]) {
        // What is dropped when its node is gone says nothing any more; nor does anything when the run is over.
        if !self.world.history.lives((self.me, self.boot)) || !turmoil::in_simulation() {
            return;
        }
        let loss = self.world.loss();
        let drawn = self.chance.lock().unwrap().random_range(0..1_000_u32);
        let copies = match drawn {
            _ if drawn < loss => 0,
            _ if drawn < loss * 2 => 2,
            _ => 1,
        };
        let Some(live) = self.live.upgrade() else { return };
        for _ in 0..copies {
            // A full link drops it, like any other.
            let _ = live.socket.try_send_to(bytes, address(to));
        }
    }

    /// The boot of a peer, once it has said which it is.
    async fn boot_of(&self, peer: NodeId, deadline: Instant) -> Result<u64, Failure> {
        let mut boots = self.boots.subscribe();
        loop {
            if let Some(boot) = boots.borrow_and_update().get(&peer) {
                return Ok(*boot);
            }
            self.send(peer, &Packet::Hello);
            let _ = timeout_at(deadline.min(Instant::now() + REPEAT), boots.changed()).await;
            if Instant::now() >= deadline {
                return Err(Failure::not_executed(ErrorCode::Unreachable, format!("node {peer} does not answer")));
            }
        }
    }

    fn streams(&self, peer: NodeId, service: Service) -> Arc<Semaphore> {
        let mut streams = self.streams.lock().unwrap();
        let fresh = || Arc::new(Semaphore::new(self.world.streams_max));
        streams.entry((peer, service)).or_insert_with(fresh).clone()
    }

    fn handler(&self, service: Service) -> Option<Arc<dyn Serve>> {
        let live = self.live.upgrade()?;
        let handlers = live.handlers.lock().unwrap();
        handlers.iter().find(|(own, _)| *own == service).map(|(_, handler)| handler.clone())
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap()
    }

    fn trace(&self, from: NodeId, bytes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (from, self.me, bytes).hash(&mut hasher);
        self.world.history.trace(hasher.finish());
    }
}

/// Takes a call back when its caller goes away.
struct Made<'a> {
    shared: &'a Shared,
    peer: NodeId,
    id: u64,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.shared.calls().made.remove(&self.id).is_some() {
            self.shared.send(self.peer, &Packet::Cancel { id: self.id });
        }
    }
}

fn late(node: NodeId) -> Failure {
    Failure::maybe_executed(ErrorCode::DeadlineExceeded, format!("node {node} gave no answer in time"))
}

#[async_trait]
impl Transport for SimNetwork {
    fn local(&self) -> NodeId {
        self.shared.me
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let shared = &*self.shared;
        let streams = shared.streams(peer, service);
        let _stream = timeout_at(deadline, streams.acquire()).await.map_err(|_| {
            Failure::not_executed(ErrorCode::Unreachable, format!("all streams to node {peer} are in use"))
        })?;
        let boot = shared.boot_of(peer, deadline).await?;
        let (tx, mut answer) = oneshot::channel();
        let id = shared.next.fetch_add(1, SeqCst);
        shared.calls().made.insert(id, (peer, tx));
        let _made = Made { shared, peer, id };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late(peer));
            }
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            shared.send(peer, &Packet::Ask { boot, id, service, left_ms, body: body.clone() });
            match timeout_at(deadline.min(Instant::now() + REPEAT), &mut answer).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => return Err(Failure::maybe_executed(ErrorCode::PeerLost, "the network has ended")),
                Err(_) => {}
            }
        }
    }

    async fn open(&self, peer: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, format!("there are no streams to node {peer} here")))
    }

    fn datagram(&self, peer: NodeId, service: Service, body: Bytes) {
        self.shared.send(peer, &Packet::Datagram { service, body });
    }
}
