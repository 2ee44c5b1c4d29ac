//! One node as a client sees it: its address, the connection to it, and how its last dial went.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use skein_proto::{ErrorCode, Failure};
use skein_transport::{CaPin, Service, Stranger};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::debug;

/// A connection that is made when it is needed, and made anew when it is lost.
pub(crate) struct Link {
    name: String,
    address: String,
    /// One dial at a time: whoever else wants the connection waits for that one.
    turn: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stranger: Option<Arc<Stranger>>,
    failed: Option<Failed>,
}

/// How much a link promises; the best are asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// There is a connection.
    Connected,
    /// Nothing is known of the node.
    Unknown,
    /// Its connection was lost, or its last dial failed: asking it may take a whole dial.
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
        Self { name, address, turn: Semaphore::new(1), state: Mutex::default() }
    }

    /// Sends one request over the connection, which is made first if there is none.
    pub(crate) async fn call(&self, pin: &CaPin, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let stranger = self.connected(pin, deadline).await?;
        // A node answers at the deadline by itself, and better than we could: it knows whether the function ran.
        let answered_by = deadline + ANSWER_GRACE;
        let answer = stranger.call(Service::Client, body, answered_by).await;
        if answer.is_err() && Instant::now() >= answered_by {
            self.forget(&stranger);
        }
        answer
    }

    /// What is known of the node.
    pub(crate) fn promise(&self) -> Promise {
        let state = self.state();
        match &state.stranger {
            Some(stranger) if !stranger.is_closed() => Promise::Connected,
            None if state.failed.is_none() => Promise::Unknown,
            _ => Promise::Lost,
        }
    }

    /// The connection, made if there is none. A dial that failed a moment ago is not repeated.
    pub(crate) async fn connected(&self, pin: &CaPin, deadline: Instant) -> Result<Arc<Stranger>, Failure> {
        if let Some(known) = self.known() {
            return known;
        }
        let late = |_| self.unreachable("no connection by the deadline");
        let turn = timeout_at(deadline, self.turn.acquire()).await.map_err(late)?;
        let _turn = turn.map_err(|_| self.unreachable("the client is closed"))?;
        // Another caller may have dialed while this one waited for its turn.
        if let Some(known) = self.known() {
            return known;
        }
        let dialed = self.dial(pin, deadline.min(Instant::now() + DIAL_MAX)).await;
        self.note(dialed)
    }

    /// Ends the connection, and makes no other.
    pub(crate) async fn close(&self) {
        self.turn.close();
        let stranger = self.state().stranger.take();
        // A call that is still under way holds the connection, and drops it at its end.
        if let Some(stranger) = stranger.and_then(Arc::into_inner) {
            stranger.close().await;
        }
    }

    /// What is known without dialing: a connection that lives, or why there is none now.
    fn known(&self) -> Option<Result<Arc<Stranger>, Failure>> {
        let state = self.state();
        if let Some(stranger) = state.stranger.as_ref().filter(|stranger| !stranger.is_closed()) {
            return Some(Ok(stranger.clone()));
        }
        let failed = state.failed.as_ref().filter(|failed| failed.until > Instant::now())?;
        Some(Err(failed.failure.clone()))
    }

    async fn dial(&self, pin: &CaPin, deadline: Instant) -> Result<Stranger, Failure> {
        let mut last = self.unreachable("the name has no address");
        for address in self.addresses(deadline).await? {
            match Stranger::connect(address, pin.clone(), deadline).await {
                Ok(stranger) => return Ok(stranger),
                Err(failure) => last = failure,
            }
        }
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

    fn note(&self, dialed: Result<Stranger, Failure>) -> Result<Arc<Stranger>, Failure> {
        let mut state = self.state();
        match dialed {
            Ok(stranger) => {
                let stranger = Arc::new(stranger);
                *state = State { stranger: Some(stranger.clone()), failed: None };
                Ok(stranger)
            }
            Err(failure) => {
                let pause = state.failed.as_ref().map_or(PAUSE_FIRST, |failed| (failed.pause * 2).min(PAUSE_MAX));
                debug!(node = self.name, error = %failure, pause_ms = pause.as_millis(), "node could not be reached");
                let until = Instant::now() + pause;
                *state = State { stranger: None, failed: Some(Failed { failure: failure.clone(), pause, until }) };
                Err(failure)
            }
        }
    }

    /// Drops a connection over which no answer came: the next call finds out whether the node is there.
    fn forget(&self, silent: &Arc<Stranger>) {
        let mut state = self.state();
        if state.stranger.as_ref().is_some_and(|stranger| Arc::ptr_eq(stranger, silent)) {
            state.stranger = None;
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

/// Longest dial: several round trips around the world. Longer only delays the turn of another node.
const DIAL_MAX: Duration = Duration::from_secs(2);

/// What an answer that was sent at the deadline may take on its way.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// For how long a failed dial answers further calls; doubles with each, since the node may be gone for good.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Most addresses tried of one name.
const ADDRESSES_MAX: usize = 4;
