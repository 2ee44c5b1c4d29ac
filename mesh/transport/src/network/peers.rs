//! The address book and the connections with each peer: dialed once for all who wait, failures remembered briefly.

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
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    doubts::{self, Doubts},
    host::Host,
    link::{Dial, Link, Purpose},
};
use crate::{Trust, certificate, close::CLOSE_REPLACED, exchange::late};

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
}

/// One peer, as far as connections go.
#[derive(Default)]
struct Peer {
    addr: Option<SocketAddr>,
    slots: HashMap<Purpose, Slot>,
    /// Accepted from it, by quinn's id, each with the digest of the key that it showed.
    accepted: HashMap<usize, (Digest, Connection)>,
    /// Datagrams that wait for a connection to it.
    waiting: Option<Arc<Semaphore>>,
}

/// A dialed connection, in one of its states.
enum Slot {
    Dialing(Outcome),
    Up(Arc<Link>),
    Failed { failure: Failure, until: Instant, delay: Duration },
}

/// The end of a dial, for all who wait for it.
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
        Self { host, mesh, endpoint, client, trust, io, book: Mutex::default(), doubts }
    }

    /// The peers that calls had better not go to.
    pub(super) fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// Sets or forgets an address; connections dialed to another one are closed.
    pub(super) fn set_address(&self, node: NodeId, addr: Option<SocketAddr>) {
        let stale = {
            let mut book = self.lock();
            let peer = book.entry(node).or_default();
            if peer.addr == addr {
                return;
            }
            peer.addr = addr;
            std::mem::take(&mut peer.slots)
        };
        self.doubts.set(node, false);
        close(stale);
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
    }

    /// Whether `node` is a member now, with this key.
    pub(super) fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        self.trust.is_trusted(node, key)
    }

    /// The peers with an open connection that would not be let in now, by the key with which they were.
    pub(super) fn untrusted(&self) -> BTreeSet<NodeId> {
        let mut shown: Vec<(NodeId, Digest)> = Vec::new();
        for (node, peer) in &*self.lock() {
            shown.extend(peer.accepted.values().map(|(key, _)| (*node, *key)));
            shown.extend(peer.slots.values().filter_map(|slot| match slot {
                Slot::Up(link) => Some((*node, link.key)),
                Slot::Dialing(_) | Slot::Failed { .. } => None,
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
        let addr = peer.addr.ok_or_else(|| {
            Failure::not_executed(ErrorCode::Unreachable, format!("no address is known for node {node}"))
        })?;
        let mut delay = self.host.config.redial_delay;
        match peer.slots.get(&purpose) {
            Some(Slot::Up(link)) if link.is_open() => return Ok(Found::Up(link.clone())),
            Some(Slot::Dialing(outcome)) if outcome.has_changed().is_ok() => {
                return Ok(Found::Dialing(outcome.clone()));
            }
            Some(Slot::Failed { failure, until, .. }) if Instant::now() < *until => return Err(failure.clone()),
            Some(Slot::Failed { delay: last, .. }) => delay = (*last * 2).min(self.host.config.redial_delay_max),
            _ => {}
        }
        let (sender, outcome) = watch::channel(None);
        peer.slots.insert(purpose, Slot::Dialing(outcome.clone()));
        let dial = Dial { peer: node, name: certificate::node_name(node, self.mesh), addr, purpose };
        drop(self.io.spawn(self.clone().dial(dial, delay, sender)));
        Ok(Found::Dialing(outcome))
    }

    async fn dial(
        self: Arc<Self>,
        dial: Dial,
        delay: Duration,
        sender: watch::Sender<Option<Result<Arc<Link>, Failure>>>,
    ) {
        let connect = Link::connect(&self.host, &self.endpoint, self.client.clone(), &dial);
        let result = timeout(self.host.config.dial_timeout, connect).await.unwrap_or_else(|_| {
            let message = format!("node {} at {} does not answer", dial.peer, dial.addr);
            Err(Failure::not_executed(ErrorCode::Unreachable, message))
        });
        if let Err(failure) = &result {
            self.host.metrics.dial_failures.increment(1);
            tracing::debug!(peer = %dial.peer, addr = %dial.addr, purpose = ?dial.purpose, %failure, "dial failed");
        }
        let mut result = self.settle(&dial, result, delay, &sender);
        // As with those that are accepted: who was removed during the handshake is found here or by the removal.
        if let Ok(link) = &result
            && !self.is_trusted(dial.peer, link.key)
        {
            self.disconnect(dial.peer);
            result = Err(given_up());
        }
        sender.send_replace(Some(result));
    }

    /// Puts the outcome into the slot, unless the slot has gone on without this dial.
    fn settle(
        &self,
        dial: &Dial,
        result: Result<Arc<Link>, Failure>,
        delay: Duration,
        sender: &watch::Sender<Option<Result<Arc<Link>, Failure>>>,
    ) -> Result<Arc<Link>, Failure> {
        let mut book = self.lock();
        let slot = book.get_mut(&dial.peer).and_then(|peer| peer.slots.get_mut(&dial.purpose));
        let Some(slot) =
            slot.filter(|slot| matches!(slot, Slot::Dialing(own) if own.same_channel(&sender.subscribe())))
        else {
            return Err(given_up());
        };
        // Whether small calls go through is what counts.
        if dial.purpose == Purpose::Calls {
            self.doubts.set(dial.peer, result.is_err());
        }
        *slot = match &result {
            Ok(link) => {
                self.watch(dial, link);
                Slot::Up(link.clone())
            }
            Err(failure) => Slot::Failed { failure: failure.clone(), until: Instant::now() + delay, delay },
        };
        result
    }

    /// Has somebody listen whether the peer goes on speaking.
    fn watch(&self, dial: &Dial, link: &Link) {
        let (peer, is_telling, doubts) = (dial.peer, dial.purpose == Purpose::Calls, self.doubts.clone());
        let doubt = move |is_doubted| {
            if is_telling {
                doubts.set(peer, is_doubted);
            }
        };
        drop(self.io.spawn(doubts::listen(link.connection.clone(), self.host.config.keep_alive, doubt)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Peer>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The address changed, or the node was disconnected, while it was dialed.
fn given_up() -> Failure {
    Failure::not_executed(ErrorCode::Unreachable, "the dial was given up: the node moved or was removed")
}

/// Datagrams that wait for one peer's connection to come up: gossip says the same again soon.
const WAITING_DATAGRAMS_MAX: usize = 8;
