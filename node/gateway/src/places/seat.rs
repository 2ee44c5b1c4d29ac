//! One connection as its listener sees it: its requests, and its answers until they are taken.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Places;

/// The least bytes a second at which an answer is taken, beyond a patience for its beginning.
const BYTES_PER_SECOND_LEAST: u64 = 64 << 10;

/// One connection.
pub(crate) struct Seat {
    pub(super) origin: IpAddr,
    /// It is to end at once.
    pub(crate) end: CancellationToken,
    /// It is to end when what it asked for is answered.
    pub(crate) end_softly: CancellationToken,
    /// Whether the client is waited for to take what is written.
    pub(crate) is_writing: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Requests that are not answered, or whose answers are not taken.
    requests: usize,
    idle_since: Instant,
    /// Whether it has shown a good key.
    is_known: bool,
    answers: BTreeMap<u64, Unread>,
    answer_next: u64,
    /// When the answers last took a step.
    stepped: Instant,
}

/// An answer that is not wholly taken.
struct Unread {
    bytes: usize,
    begun: Instant,
}

impl Seat {
    pub(super) fn new(origin: IpAddr, now: Instant) -> Self {
        let state = State {
            requests: 0,
            idle_since: now,
            is_known: false,
            answers: BTreeMap::new(),
            answer_next: 0,
            stepped: now,
        };
        Self {
            origin,
            end: CancellationToken::new(),
            end_softly: CancellationToken::new(),
            is_writing: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Whether it was told to end, either way.
    pub(super) fn leaves(&self) -> bool {
        self.end.is_cancelled() || self.end_softly.is_cancelled()
    }

    /// Whether it has shown a good key, and since when it has asked for nothing; none while it is busy.
    pub(super) fn idle(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        let is_idle = state.requests == 0 && !self.is_writing.load(Ordering::Relaxed);
        is_idle.then_some((state.is_known, state.idle_since))
    }

    /// How many bytes of its answers are not taken, if they took no step for `patience` or one of them is late.
    pub(super) fn unread_for(&self, now: Instant, patience: Duration) -> Option<usize> {
        let state = self.state();
        let is_stuck = now.saturating_duration_since(state.stepped) >= patience;
        let is_late = |answer: &Unread| {
            let seconds = answer.bytes as u64 / BYTES_PER_SECOND_LEAST;
            now.saturating_duration_since(answer.begun) >= patience + Duration::from_secs(seconds)
        };
        let is_unread = !state.answers.is_empty() && (is_stuck || state.answers.values().any(is_late));
        is_unread.then(|| state.answers.values().map(|answer| answer.bytes).sum())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, for whoever answers its requests.
#[derive(Clone)]
pub(crate) struct Here {
    pub(super) places: Arc<Places>,
    pub(super) seat: Arc<Seat>,
}

impl Here {
    /// A request has come.
    pub(crate) fn begin(&self) -> Busy {
        self.seat.state().requests += 1;
        Busy { of: self.clone(), answer: None }
    }

    /// It has shown a good key.
    pub(crate) fn let_in(&self) {
        self.seat.state().is_known = true;
    }

    /// Whether the listener has room for one more answer.
    pub(crate) fn has_room(&self) -> bool {
        self.places.has_room_for_answers(Instant::now())
    }
}

/// A request, until its answer is taken.
pub(crate) struct Busy {
    of: Here,
    answer: Option<(u64, usize)>,
}

impl Busy {
    /// Its answer is there, of this many bytes.
    pub(crate) fn answered(&mut self, bytes: usize) {
        let now = Instant::now();
        let mut state = self.of.seat.state();
        if state.answers.is_empty() {
            state.stepped = now;
        }
        let id = state.answer_next;
        state.answer_next += 1;
        state.answers.insert(id, Unread { bytes, begun: now });
        self.answer = Some((id, bytes));
        self.of.places.unread.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Some of the answer was taken.
    pub(crate) fn stepped(&self) {
        self.of.seat.state().stepped = Instant::now();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.of.seat.state();
        state.requests = state.requests.saturating_sub(1);
        state.idle_since = now;
        if let Some((id, bytes)) = self.answer {
            state.answers.remove(&id);
            state.stepped = now;
            self.of.places.unread.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
