//! The transport of a simulated node: calls and datagrams over turmoil's UDP, which delays, reorders and cuts.
//!
//! A call's packets are repeated until they are answered, and served once: what QUIC does with streams. On top of
//! turmoil's faults some packets are lost and some come twice.
//!
//! A node is at a place, which is a number, and may be at another one after a restart. Like the real network this one knows
//! of a peer only where it was told that it may be and where it met it, asks at all of these places, and is answered by
//! that peer alone, if each believes the other to be a member.

mod peers;

use std::{
    collections::{BTreeMap, HashMap},
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
use skein_transport::{Address, Caller, Duplex, Serve, Service, Transport, Trust};
use tokio::{
    sync::{Semaphore, oneshot},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use turmoil::net::UdpSocket;

use self::peers::{Link, Peers};
use crate::{
    identities,
    wire::{Frame, Packet},
    world::{World, host},
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
    /// Where this node is.
    place: u16,
    trust: Arc<dyn Trust>,
    peers: Peers,
    /// Who waits to be told who is at a place.
    meetings: Mutex<BTreeMap<u16, oneshot::Sender<NodeId>>>,
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

/// Whom something is for, if that is known, and where.
type To = (Option<NodeId>, u16);

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

/// How long a datagram waits for a connection.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The machine of a node.
fn machine(node: NodeId) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(host(node)), PORT)
}

/// A place as others are told of it.
pub fn address(place: u16) -> Address {
    format!("place:{place}").parse().unwrap()
}

impl SimNetwork {
    /// Opens the socket of this boot, which is open as long as somebody holds it.
    ///
    /// # Errors
    /// What turmoil says.
    pub async fn bind(
        world: &Arc<World>,
        (me, boot): (NodeId, u64),
        trust: Arc<dyn Trust>,
    ) -> std::io::Result<(Self, Arc<Live>)> {
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), PORT)).await?;
        let live = Arc::new(Live { socket, handlers: Mutex::default() });
        let shared = Shared {
            me,
            boot,
            live: Arc::downgrade(&live),
            world: world.clone(),
            calls: Mutex::default(),
            place: world.place(me),
            trust,
            peers: Peers::default(),
            meetings: Mutex::default(),
            next: AtomicU64::new(boot << 32),
            chance: Mutex::new(world.chance(me, 2 + (boot << 8))),
            streams: Mutex::default(),
        };
        Ok((Self { shared: Arc::new(shared) }, live))
    }

    /// Sets where a peer may be, the best word first.
    pub fn set_addresses(&self, peer: NodeId, addresses: &[Address]) {
        if self.shared.peers.set(peer, addresses.iter().map(Address::port).collect()) {
            self.shared.forget(peer, "has moved");
        }
    }

    /// Cuts off a peer that was removed.
    pub fn part(&self, peer: NodeId) {
        self.shared.peers.set(peer, Vec::new());
        self.shared.peers.part(peer);
        self.shared.forget(peer, "was removed");
    }

    /// Finds out who is at a place, and looks for it there from now on.
    ///
    /// # Errors
    /// When nobody answers by the deadline.
    pub async fn meet(&self, place: u16, deadline: Instant) -> Result<NodeId, Failure> {
        let (tx, mut met) = oneshot::channel();
        self.shared.meetings.lock().unwrap().insert(place, tx);
        while Instant::now() < deadline {
            self.shared.send((None, place), &Packet::Hello { is_meeting: true });
            if let Ok(Ok(node)) = timeout_at(deadline.min(Instant::now() + REPEAT), &mut met).await {
                return Ok(node);
            }
        }
        Err(Failure::not_executed(ErrorCode::Unreachable, format!("nobody answers at place {place}")))
    }

    /// Ends what waits for a peer that was given up.
    pub fn disconnect(&self, peer: NodeId) {
        self.shared.forget(peer, "was given up");
    }

    /// Takes packets until the task is ended.
    pub async fn run(self, live: Arc<Live>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        loop {
            let Ok((len, _)) = live.socket.recv_from(&mut buffer).await else { return };
            let Ok(frame) = codec::decode::<Frame>(&buffer[..len]) else { continue };
            self.shared.trace(frame.from, &buffer[..len]);
            if let Ok(packet) = codec::decode(&frame.packet) {
                self.shared.take(&frame, packet);
            }
        }
    }
}

impl Shared {
    fn take(self: &Arc<Self>, frame: &Frame, packet: Packet) {
        let from = frame.from;
        let is_mine = frame.at == self.place && frame.to.is_none_or(|to| to == self.me);
        if !is_mine || self.peers.has_parted(from) {
            return;
        }
        let back = (Some(from), frame.place);
        // It called: connections with an earlier boot of it are dead.
        if self.peers.link(from).is_some_and(|link| link.boot < frame.boot) {
            self.forget(from, "has restarted");
        }
        self.peers.heard(from, frame.boot);
        match packet {
            Packet::Hello { is_meeting: true } => self.send(back, &Packet::Welcome { is_meeting: true }),
            Packet::Hello { is_meeting: false } => {
                if self.trusts(from) {
                    self.peers.met(from, frame.place);
                    self.send(back, &Packet::Welcome { is_meeting: false });
                }
            }
            Packet::Welcome { is_meeting: true } => {
                self.peers.met(from, frame.place);
                if let Some(waiting) = self.meetings.lock().unwrap().remove(&frame.place) {
                    let _ = waiting.send(from);
                }
            }
            Packet::Welcome { is_meeting: false } => {
                if self.trusts(from) {
                    self.peers.connected(from, Link { boot: frame.boot, place: frame.place });
                }
            }
            Packet::Ask { boot, .. } | Packet::Datagram { boot, .. } if boot != self.boot => {
                self.send(back, &Packet::Reset { boot });
            }
            Packet::Ask { id, service, left_ms, body, .. } => {
                let deadline = Instant::now() + Duration::from_millis(left_ms);
                self.serve((from, id), back, (service, body), deadline);
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
                if self.peers.link(from).is_some_and(|link| link.boot == boot) {
                    self.forget(from, "has restarted");
                }
            }
            Packet::Datagram { service, body, .. } => {
                if let Some(handler) = self.handler(service) {
                    handler.datagram(from, body);
                }
            }
        }
    }

    fn trusts(&self, peer: NodeId) -> bool {
        self.trust.is_trusted(peer, identities::of(peer).key_digest())
    }

    fn serve(
        self: &Arc<Self>,
        (from, id): (NodeId, u64),
        back: To,
        (service, body): (Service, Bytes),
        deadline: Instant,
    ) {
        // While it starts, a node has not all its handlers; it will be asked again.
        let Some(handler) = self.handler(service) else { return };
        let mut calls = self.calls();
        match calls.served.get(&(from, id)) {
            Some(Served::Running(_)) => return,
            Some(Served::Done(answer)) => {
                let answer = answer.clone();
                drop(calls);
                return self.send_bytes(back, &answer);
            }
            None => {}
        }
        let shared = self.clone();
        let task = tokio::spawn(async move {
            let answer = timeout_at(deadline, handler.call(Caller::Peer(from), body, deadline)).await;
            let outcome = answer.unwrap_or_else(|_| Err(late(shared.me)));
            let answer = codec::encode(&Packet::Answer { id, outcome }).unwrap();
            shared.send_bytes(back, &answer);
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
        self.peers.disconnected(peer);
        let mut calls = self.calls();
        let lost: Vec<u64> = calls.made.iter().filter(|(_, (node, _))| *node == peer).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some((_, waiting)) = calls.made.remove(&id) {
                let _ = waiting.send(Err(Failure::maybe_executed(ErrorCode::PeerLost, format!("node {peer} {why}"))));
            }
        }
    }

    fn send(&self, to: To, packet: &Packet) {
        self.send_bytes(to, &codec::encode(packet).unwrap());
    }

    fn send_bytes(&self, (to, at): To, packet: &Bytes) {
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
        let (Some(live), Some(there)) = (self.live.upgrade(), self.world.at(at)) else { return };
        let frame = Frame { from: self.me, boot: self.boot, place: self.place, to, at, packet: packet.clone() };
        let bytes = codec::encode(&frame).unwrap();
        for _ in 0..copies {
            // A full link drops it, like any other.
            let _ = live.socket.try_send_to(&bytes, machine(there));
        }
    }

    /// A connection with a peer, looked for at all places where it may be.
    async fn dial(&self, peer: NodeId, deadline: Instant) -> Result<Link, Failure> {
        let unreachable = |what| Failure::not_executed(ErrorCode::Unreachable, format!("node {peer} {what}"));
        let mut links = self.peers.watch();
        loop {
            links.mark_unchanged();
            if let Some(link) = self.peers.lively_link(peer) {
                return Ok(link);
            }
            let places = self.peers.places(peer);
            if places.is_empty() {
                return Err(unreachable("has no address"));
            }
            if self.peers.seeks(peer, REPEAT) {
                let hello = Packet::Hello { is_meeting: false };
                places.into_iter().for_each(|place| self.send((Some(peer), place), &hello));
            }
            let _ = timeout_at(deadline.min(Instant::now() + REPEAT), links.changed()).await;
            if Instant::now() >= deadline {
                return Err(unreachable("does not answer"));
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
    to: To,
    id: u64,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.shared.calls().made.remove(&self.id).is_some() {
            self.shared.send(self.to, &Packet::Cancel { id: self.id });
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
        let Link { boot, place } = shared.dial(peer, deadline).await?;
        let (tx, mut answer) = oneshot::channel();
        let id = shared.next.fetch_add(1, SeqCst);
        shared.calls().made.insert(id, (peer, tx));
        let to = (Some(peer), place);
        let _made = Made { shared, to, id };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late(peer));
            }
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            shared.send(to, &Packet::Ask { boot, id, service, left_ms, body: body.clone() });
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
        let shared = self.shared.clone();
        if let Some(Link { boot, place }) = shared.peers.lively_link(peer) {
            return shared.send((Some(peer), place), &Packet::Datagram { boot, service, body });
        }
        if shared.peers.may_wait(peer) {
            tokio::spawn(async move {
                if let Ok(Link { boot, place }) = shared.dial(peer, Instant::now() + WAIT_MAX).await {
                    shared.send((Some(peer), place), &Packet::Datagram { boot, service, body });
                }
                shared.peers.has_waited(peer);
            });
        }
    }
}
