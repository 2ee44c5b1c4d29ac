//! The address book and the connections with each peer: dialed once for all who wait, failures remembered briefly.
//!
//! A peer is found by who it proves to be. Where it may be has several sources: what this node was told, the best word
//! first, and where the peer itself called from.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::{ClientConfig, Connection, Endpoint};
use skein_proto::{Digest, ErrorCode, Failure, MeshId, NodeId, Progress};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    dial::Dialer,
    doubts::{self, Doubt, Doubts},
    host::Host,
    link::{Dial, Link, Purpose},
};
use crate::{Address, Trust, certificate, close::CLOSE_REPLACED, exchange::late};

/// All peers of one node.
pub(super) struct Peers {
    host: Arc<Host>,
    mesh: MeshId,
    endpoint: Endpoint,
    client: ClientConfig,
    trust: Arc<dyn Trust>,
    io: Handle,
    book: Mutex<HashMap<NodeId, Peer>>,
    doubts: Arc<Doubts>,
    reached: watch::Sender<bool>,
}

/// One peer, as far as connections go.
#[derive(Default)]
struct Peer {
    /// Where it is reached by what this node was told, the best word first.
    told: Vec<Address>,
    /// Where it was met, the last one first: it called from there, or answered there.
    met: Vec<SocketAddr>,
    slots: HashMap<Purpose, Slot>,
    /// Accepted from it, by quinn's id, each with the digest of the key that it showed.
    accepted: HashMap<usize, (Digest, Connection)>,
    /// Datagrams that wait for a connection to it.
    waiting: Option<Arc<Semaphore>>,
}

/// A dialed connection, in one of its states.
enum Slot {
    Dialing {
        outcome: Outcome,
        /// Tells the dial that there may be more places to try.
        more: Arc<Notify>,
        /// Ends it with this slot.
        _end: DropGuard,
    },
    Up(Arc<Link>),
    Failed {
        failure: Failure,
        until: Instant,
        delay: Duration,
    },
}

/// The end of a dial, for all who wait for it. Closed without one when the peer was disconnected or forgotten meanwhile.
type Outcome = watch::Receiver<Option<Result<Arc<Link>, Failure>>>;

impl Peers {
    /// Nobody yet. Peers are dialed from `endpoint` as `client` says, by tasks on `io`.
    pub(super) fn new(
        host: Arc<Host>,
        mesh: MeshId,
        (endpoint, client): (Endpoint, ClientConfig),
        trust: Arc<dyn Trust>,
        io: Handle,
    ) -> Self {
        let doubts = Arc::new(Doubts::new(host.metrics.doubted.clone()));
        let (book, reached) = (Mutex::default(), watch::Sender::new(false));
        Self { host, mesh, endpoint, client, trust, io, book, doubts, reached }
    }

    /// The peers that calls had better not go to.
    pub(super) fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// Sets where a peer is reached, or forgets it. Connections that came about while its first address was another are
    /// closed; dials under way go on and look there, too, except to a peer that is forgotten.
    pub(super) fn set_addresses(&self, node: NodeId, mut told: Vec<Address>) {
        told.truncate(TOLD_MAX);
        let stale = {
            let mut book = self.lock();
            let peer = book.entry(node).or_default();
            if told.is_empty() {
                peer.met.clear();
            }
            if peer.told == told && !told.is_empty() {
                return;
            }
            let is_moved = peer.told.first() != told.first();
            peer.told = told;
            // Under the lock, so that it is not the doubt of a dial that ends now.
            self.doubts.set(node, None);
            peer.try_anew();
            if peer.told.is_empty() {
                std::mem::take(&mut peer.slots)
            } else if is_moved {
                peer.slots.extract_if(|_, slot| matches!(slot, Slot::Up(_))).collect()
            } else {
                HashMap::new()
            }
        };
        close(stale);
    }

    /// `node` was met at `addr`: it is looked for there, too.
    pub(super) fn met(&self, node: NodeId, addr: SocketAddr) {
        let mut book = self.lock();
        let peer = book.entry(node).or_default();
        if peer.met.first() != Some(&addr) {
            peer.met.retain(|known| *known != addr);
            peer.met.insert(0, addr);
            peer.met.truncate(MET_MAX);
        }
        peer.try_anew();
    }

    /// Where `node` may be, the likeliest first.
    fn places(&self, node: NodeId) -> Vec<Address> {
        let book = self.lock();
        let Some(peer) = book.get(&node) else { return Vec::new() };
        peer.told.iter().cloned().chain(peer.met.iter().copied().map(Address::from)).collect()
    }

    /// Whether a peer has reached this node since it started, and each change of that.
    pub(super) fn reached(&self) -> watch::Receiver<bool> {
        self.reached.subscribe()
    }

    /// Closes all connections with `node`.
    pub(super) fn disconnect(&self, node: NodeId) {
        let (stale, accepted) = {
            let mut book = self.lock();
            let Some(peer) = book.get_mut(&node) else { return };
            (std::mem::take(&mut peer.slots), std::mem::take(&mut peer.accepted))
        };
        close(stale);
        for (_, connection) in accepted.into_values() {
            connection.close(CLOSE_REPLACED, b"disconnected");
        }
    }

    /// Remembers a connection accepted from `node`, which has shown a key with this digest.
    pub(super) fn accepted(&self, node: NodeId, key: Digest, connection: &Connection) {
        self.lock().entry(node).or_default().accepted.insert(connection.stable_id(), (key, connection.clone()));
        self.met(node, connection.remote_address());
    }

    /// Whether `node` is a member now, with this key.
    pub(super) fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        self.trust.is_trusted(node, key)
    }

    /// Whether `node` was removed for good.
    pub(super) fn has_left(&self, node: NodeId) -> bool {
        self.trust.has_left(node)
    }

    /// The peers with an open connection that would not be let in now, by the key with which they were.
    pub(super) fn untrusted(&self) -> BTreeSet<NodeId> {
        let mut shown: Vec<(NodeId, Digest)> = Vec::new();
        for (node, peer) in &*self.lock() {
            shown.extend(peer.accepted.values().map(|(key, _)| (*node, *key)));
            shown.extend(peer.slots.values().filter_map(|slot| match slot {
                Slot::Up(link) => Some((*node, link.key)),
                Slot::Dialing { .. } | Slot::Failed { .. } => None,
            }));
        }
        // Trust has locks of its own, so that it is not asked under ours.
        shown.into_iter().filter(|(node, key)| !self.is_trusted(*node, *key)).map(|(node, _)| node).collect()
    }

    /// A place for one more datagram that waits for a connection to `node`: one peer that is dead takes none of those
    /// for another.
    pub(super) fn wait_in_line(&self, node: NodeId) -> Option<OwnedSemaphorePermit> {
        let mut book = self.lock();
        let waiting = &mut book.get_mut(&node)?.waiting;
        let places = waiting.get_or_insert_with(|| Arc::new(Semaphore::new(WAITING_DATAGRAMS_MAX)));
        places.clone().try_acquire_owned().ok()
    }

    /// Forgets a connection that has ended.
    pub(super) fn ended(&self, node: NodeId, connection: &Connection) {
        if let Some(peer) = self.lock().get_mut(&node) {
            peer.accepted.remove(&connection.stable_id());
        }
    }

    /// `node` called: it is there, so that failed dials are forgotten, and links to an earlier boot of it are dead.
    pub(super) fn heard_of(&self, node: NodeId, boot: u64) {
        let mut dead = Vec::new();
        if let Some(peer) = self.lock().get_mut(&node) {
            peer.slots.retain(|_, slot| match slot {
                Slot::Failed { .. } => false,
                Slot::Up(link) if link.boot != boot => {
                    dead.push(link.clone());
                    false
                }
                _ => true,
            });
        }
        for link in dead {
            link.close(CLOSE_REPLACED);
        }
        self.reached.send_if_modified(|is_reached| !std::mem::replace(is_reached, true));
    }

    /// An open connection for `purpose`, if there is one now.
    pub(super) fn open_link(&self, node: NodeId, purpose: Purpose) -> Option<Arc<Link>> {
        match self.lock().get(&node)?.slots.get(&purpose)? {
            Slot::Up(link) if link.is_open() => Some(link.clone()),
            _ => None,
        }
    }

    /// A connection for `purpose`, dialed if there is none. Fails at once while a failed dial is remembered.
    pub(super) async fn link(
        self: &Arc<Self>,
        node: NodeId,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Arc<Link>, Failure> {
        let mut outcome = match self.look(node, purpose)? {
            Found::Up(link) => return Ok(link),
            Found::Dialing(outcome) => outcome,
        };
        match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(given_up())),
            Ok(Err(_)) => Err(given_up()),
            Err(_) => Err(late(Progress::NotExecuted)),
        }
    }

    fn look(self: &Arc<Self>, node: NodeId, purpose: Purpose) -> Result<Found, Failure> {
        let mut book = self.lock();
        let peer = book.entry(node).or_default();
        if peer.told.is_empty() && peer.met.is_empty() {
            let message = format!("no address is known for node {node}");
            return Err(Failure::not_executed(ErrorCode::Unreachable, message));
        }
        let mut delay = self.host.config.redial_delay;
        match peer.slots.get(&purpose) {
            Some(Slot::Up(link)) if link.is_open() => return Ok(Found::Up(link.clone())),
            Some(Slot::Dialing { outcome, .. }) if outcome.has_changed().is_ok() => {
                return Ok(Found::Dialing(outcome.clone()));
            }
            Some(Slot::Failed { failure, until, .. }) if Instant::now() < *until => return Err(failure.clone()),
            Some(Slot::Failed { delay: last, .. }) => delay = (*last * 2).min(self.host.config.redial_delay_max),
            _ => {}
        }
        let (sender, outcome) = watch::channel(None);
        let (more, end) = (Arc::new(Notify::new()), CancellationToken::new());
        let dialing = Slot::Dialing { outcome: outcome.clone(), more: more.clone(), _end: end.clone().drop_guard() };
        peer.slots.insert(purpose, dialing);
        let dial = Dial { peer: node, name: certificate::node_name(node, self.mesh), purpose };
        // Whoever waits for it is told at once when it is ended.
        drop(self.io.spawn(end.run_until_cancelled_owned(self.clone().dial(dial, delay, sender, more))));
        Ok(Found::Dialing(outcome))
    }

    async fn dial(
        self: Arc<Self>,
        dial: Dial,
        delay: Duration,
        sender: watch::Sender<Option<Result<Arc<Link>, Failure>>>,
        more: Arc<Notify>,
    ) {
        let dialer = Dialer { host: &self.host, endpoint: &self.endpoint, client: &self.client, dial: &dial };
        let result = dialer.connect(|| self.places(dial.peer), &more).await;
        if let Err(failure) = &result {
            self.host.metrics.dial_failures.increment(1);
            tracing::debug!(peer = %dial.peer, purpose = ?dial.purpose, %failure, "dial failed");
        }
        let Some(mut result) = self.settle(&dial, result, delay, &sender) else { return };
        // As with those that are accepted: who was removed during the handshake is found here or by the removal.
        if let Ok(link) = &result
            && !self.is_trusted(dial.peer, link.key)
        {
            self.disconnect(dial.peer);
            result = Err(given_up());
        }
        sender.send_replace(Some(result));
    }

    /// Puts the outcome into the slot, and gives it; none if the slot has gone on without this dial.
    fn settle(
        &self,
        dial: &Dial,
        result: Result<Arc<Link>, Failure>,
        delay: Duration,
        sender: &watch::Sender<Option<Result<Arc<Link>, Failure>>>,
    ) -> Option<Result<Arc<Link>, Failure>> {
        let mut book = self.lock();
        let slot = book.get_mut(&dial.peer).and_then(|peer| peer.slots.get_mut(&dial.purpose));
        let slot = slot.filter(
            |slot| matches!(slot, Slot::Dialing { outcome, .. } if outcome.same_channel(&sender.subscribe())),
        )?;
        // Whether small calls go through is what counts.
        if dial.purpose == Purpose::Calls {
            self.doubts.set(dial.peer, result.is_err().then_some(Doubt::Doubted));
        }
        *slot = match &result {
            Ok(link) => {
                self.watch(dial, link);
                Slot::Up(link.clone())
            }
            Err(failure) => Slot::Failed { failure: failure.clone(), until: Instant::now() + delay, delay },
        };
        Some(result)
    }

    /// Has somebody listen whether the peer goes on speaking.
    fn watch(&self, dial: &Dial, link: &Link) {
        let (peer, is_telling, doubts) = (dial.peer, dial.purpose == Purpose::Calls, self.doubts.clone());
        let doubt = move |doubt| {
            if is_telling {
                doubts.set(peer, doubt);
            }
        };
        drop(self.io.spawn(doubts::listen(link.connection.clone(), self.host.config.keep_alive, doubt)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Peer>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// There may be a way now that there was not before: failed dials are forgotten, those under way look again.
    fn try_anew(&mut self) {
        self.slots.retain(|_, slot| match slot {
            Slot::Failed { .. } => false,
            Slot::Dialing { more, .. } => {
                more.notify_one();
                true
            }
            Slot::Up(_) => true,
        });
    }
}

enum Found {
    Up(Arc<Link>),
    Dialing(Outcome),
}

fn close(slots: HashMap<Purpose, Slot>) {
    for slot in slots.into_values() {
        if let Slot::Up(link) = slot {
            link.close(CLOSE_REPLACED);
        }
    }
}

/// The node was disconnected or forgotten while it was dialed.
fn given_up() -> Failure {
    Failure::not_executed(ErrorCode::Unreachable, "the dial was given up: the node went down or was removed")
}

/// Datagrams that wait for one peer's connection to come up: gossip says the same again soon.
const WAITING_DATAGRAMS_MAX: usize = 8;

/// Most addresses that are taken of one peer's telling: its own word, the catalogue's, another member's.
const TOLD_MAX: usize = 4;

/// Most places remembered at which a peer was met: the last, and the one before, should the last have been a moment's.
const MET_MAX: usize = 2;
