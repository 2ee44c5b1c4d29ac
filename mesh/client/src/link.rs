//! One node as a client sees it: its address, the connection to it, and how its last dial went.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use skein_proto::{ErrorCode, Failure, codec};
use skein_transport::{CaPin, Service, Stranger};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tracing::debug;

use crate::{race::first, wire::NodesRequest};

/// A connection that is made when it is needed, and made anew when it is lost.
///
/// Dials are tasks of their own with a time of their own, so that a hasty caller decides nothing for the others: each
/// waits for the dial as long as it may.
pub(crate) struct Link {
    name: String,
    address: String,
    state: Mutex<State>,
}

/// What gets a client in: whom it believes, and what it is believed for.
pub(crate) struct Entry {
    pub(crate) pin: CaPin,
    pub(crate) key: String,
}

#[derive(Default)]
struct State {
    slot: Slot,
    /// Connections that were replaced and on which calls still wait. No more than there are such calls.
    replaced: Vec<Weak<Stranger>>,
    /// There was a connection once.
    was_up: bool,
    /// Dials begun, so that one that was given up is told from the next.
    dials: u64,
}

#[derive(Default)]
enum Slot {
    #[default]
    Unknown,
    Dialing(Outcome, AbortHandle),
    Up(Arc<Stranger>),
    Failed(Failed),
    Closed,
}

/// The end of a dial, for all who wait for it.
type Outcome = watch::Receiver<Option<Result<Arc<Stranger>, Failure>>>;

/// How much a link promises; the best are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// There is a connection.
    Connected,
    /// Nothing is known of the node, or it is being dialed.
    Unknown,
    /// There is a connection to a node that has said that it leaves.
    Leaving,
    /// Its connection was lost or is silent, or its last dial failed.
    Lost,
}

#[derive(Clone)]
struct Failed {
    failure: Failure,
    pause: Duration,
    until: Instant,
}

impl Link {
    pub(crate) fn new(name: String, address: String) -> Self {
        Self { name, address, state: Mutex::default() }
    }

    /// Whether its last dial was in vain.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state().slot, Slot::Failed(_))
    }

    /// Where the node is reached.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What is known of the node.
    pub(crate) fn promise(&self) -> Promise {
        match &self.state().slot {
            Slot::Up(stranger) if stranger.is_closed() || stranger.is_doubted() => Promise::Lost,
            Slot::Up(stranger) if stranger.is_leaving() => Promise::Leaving,
            Slot::Up(_) => Promise::Connected,
            Slot::Unknown | Slot::Dialing(..) => Promise::Unknown,
            Slot::Failed(_) | Slot::Closed => Promise::Lost,
        }
    }

    /// Whether the node was ever reached here.
    pub(crate) fn was_up(&self) -> bool {
        self.state().was_up
    }

    /// The connection, if there is one now.
    pub(crate) fn open(&self) -> Option<Arc<Stranger>> {
        match &self.state().slot {
            Slot::Up(stranger) if !stranger.is_closed() => Some(stranger.clone()),
            _ => None,
        }
    }

    /// The connection, made if there is none. A dial that failed a moment ago is not repeated.
    pub(crate) async fn connected(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        deadline: Instant,
    ) -> Result<Arc<Stranger>, Failure> {
        let mut outcome = match self.look(entry)? {
            Found::Up(stranger) => return Ok(stranger),
            Found::Dialing(outcome) => outcome,
        };
        let dialed = timeout_at(deadline, outcome.wait_for(Option::is_some)).await;
        let dialed = dialed.map_err(|_| self.unreachable("no connection by the deadline"))?;
        match dialed.ok().and_then(|dialed| dialed.clone()) {
            Some(dialed) => dialed,
            None => Err(self.unreachable("the dial was given up")),
        }
    }

    /// Has the next connection be a new one, if `stranger` is the one there is. Whoever has a call under way on that goes
    /// on waiting for it.
    pub(crate) fn replace(&self, stranger: &Arc<Stranger>) {
        let mut state = self.state();
        if matches!(&state.slot, Slot::Up(current) if Arc::ptr_eq(current, stranger)) {
            state.slot = Slot::Unknown;
            state.replaced.retain(|replaced| replaced.strong_count() > 0);
            state.replaced.push(Arc::downgrade(stranger));
        }
    }

    /// Ends the connection and those that it replaced, and makes no other.
    pub(crate) async fn close(&self) {
        let (slot, replaced) = {
            let mut state = self.state();
            (std::mem::replace(&mut state.slot, Slot::Closed), std::mem::take(&mut state.replaced))
        };
        match slot {
            Slot::Dialing(_, dial) => dial.abort(),
            Slot::Up(stranger) => stranger.close().await,
            Slot::Unknown | Slot::Failed(_) | Slot::Closed => {}
        }
        for stranger in replaced.iter().filter_map(Weak::upgrade) {
            stranger.close().await;
        }
    }

    fn look(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Found, Failure> {
        let mut state = self.state();
        let mut pause = PAUSE_FIRST;
        match &state.slot {
            Slot::Closed => return Err(self.unreachable("the client is closed")),
            Slot::Up(stranger) if !stranger.is_closed() => return Ok(Found::Up(stranger.clone())),
            Slot::Failed(failed) if failed.until > Instant::now() => return Err(failed.failure.clone()),
            Slot::Failed(failed) => pause = (failed.pause * 2).min(PAUSE_MAX),
            // An error means that its runtime ended before it did.
            Slot::Dialing(outcome, _) if outcome.has_changed().is_ok() => return Ok(Found::Dialing(outcome.clone())),
            Slot::Unknown | Slot::Up(_) | Slot::Dialing(..) => {}
        }
        state.dials += 1;
        let (tell, outcome) = watch::channel(None);
        let dial = self.clone().dial(entry.clone(), (state.dials, pause), tell);
        state.slot = Slot::Dialing(outcome.clone(), tokio::spawn(dial).abort_handle());
        Ok(Found::Dialing(outcome))
    }

    /// Ends by itself after [`DIAL_MAX`].
    async fn dial(
        self: Arc<Self>,
        entry: Arc<Entry>,
        (number, pause): (u64, Duration),
        tell: watch::Sender<Option<Result<Arc<Stranger>, Failure>>>,
    ) {
        let dialed = self.reach(&entry, Instant::now() + DIAL_MAX).await.map(Arc::new);
        {
            let mut state = self.state();
            // Closed meanwhile, it keeps nothing; what was made ends as it is dropped.
            if state.dials != number || matches!(state.slot, Slot::Closed) {
                return;
            }
            state.was_up |= dialed.is_ok();
            state.slot = match &dialed {
                Ok(stranger) => Slot::Up(stranger.clone()),
                Err(failure) => {
                    let pause_ms = pause.as_millis();
                    debug!(node = self.name, error = %failure, pause_ms, "node could not be reached");
                    Slot::Failed(Failed { failure: failure.clone(), pause, until: Instant::now() + pause })
                }
            };
        }
        tell.send_replace(Some(dialed));
    }

    async fn reach(&self, entry: &Arc<Entry>, deadline: Instant) -> Result<Stranger, Failure> {
        let addresses = self.addresses(deadline).await?;
        self.reach_any(addresses, entry, deadline).await
    }

    /// A connection to whichever of the addresses of its name answers first.
    pub(crate) async fn reach_any(
        &self,
        addresses: Vec<SocketAddr>,
        entry: &Arc<Entry>,
        deadline: Instant,
    ) -> Result<Stranger, Failure> {
        let dial = |address| {
            let entry = entry.clone();
            async move { introduced(address, &entry, deadline).await }
        };
        let mut last = match first(addresses.into_iter().map(dial)).await {
            Some(Ok(stranger)) => return Ok(stranger),
            Some(Err(failure)) => failure,
            None => self.unreachable("the name has no address"),
        };
        // A node that is too slow or too busy to take a connection is, for this client, one that is not there.
        if matches!(last.code, ErrorCode::DeadlineExceeded | ErrorCode::Overloaded) {
            last.code = ErrorCode::Unreachable;
        }
        last.message = format!("node {} at {}: {}", self.name, self.address, last.message);
        Err(last)
    }

    async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(address) = self.address.parse() {
            return Ok(vec![address]);
        }
        match timeout_at(deadline, tokio::net::lookup_host(&self.address)).await {
            Ok(Ok(found)) => Ok(found.take(ADDRESSES_MAX).collect()),
            Ok(Err(error)) => Err(self.unreachable(&error.to_string())),
            Err(_) => Err(self.unreachable("its name was not resolved in time")),
        }
    }

    fn unreachable(&self, reason: &str) -> Failure {
        let message = format!("node {} at {}: {reason}", self.name, self.address);
        Failure::not_executed(ErrorCode::Unreachable, message)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection on which the key was shown: until then a node takes few calls at a time, whoever they are from.
async fn introduced(address: SocketAddr, entry: &Entry, deadline: Instant) -> Result<Stranger, Failure> {
    let stranger = Stranger::connect(address, entry.pin.clone(), deadline).await?.with_key(&entry.key);
    let body = codec::encode(&NodesRequest {})?;
    match stranger.call(Service::Nodes, body, deadline).await {
        Err(failure) if stranger.is_closed() => Err(failure),
        // A node that does not know the key (yet) says so to each call, and one that is slow may still take them.
        Err(failure) => {
            debug!(%address, %failure, "the key was not taken on a new connection");
            Ok(stranger)
        }
        Ok(_) => Ok(stranger),
    }
}

enum Found {
    Up(Arc<Stranger>),
    Dialing(Outcome),
}

/// Longest dial: several round trips around the world. Longer only delays the turn of another node.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(2);

/// For how long a failed dial answers further calls; doubles with each, since the node may be gone for good.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Most addresses tried of one name.
const ADDRESSES_MAX: usize = 4;
