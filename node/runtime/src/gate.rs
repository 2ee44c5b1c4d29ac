//! Who may run, who waits and who is told to go elsewhere: the door of one activation.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::Gauge;
use skein_proto::Invocation;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout_at},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Gives permits to as many calls as may run at a time, lets some more wait in line, and refuses the rest.
#[derive(Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    /// One more permit for each depth of nested calls, made when the first is needed.
    own: OnceLock<Box<[Arc<Semaphore>]>>,
    line: Line,
    /// One token for each call that is in line or holds a permit.
    calls: TaskTracker,
}

/// The bounded waiting line in front of the permits.
#[derive(Debug)]
struct Line {
    waiting: AtomicU32,
    waiting_max: u32,
    /// When each of them came, by numbers that grow. Only who waits touches it, and who asks while somebody does.
    since: Mutex<BTreeMap<u64, Instant>>,
    patience: Duration,
    gauge: Gauge,
}

/// Leave to run one call. Dropping it brings the permit home.
#[derive(Debug)]
pub struct Pass {
    // Dropped before the token, so that nobody is told of the last call's end while its permit is out.
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

/// No leave was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// No call comes in here any more.
    Closed,
    /// The line is full, or has not moved for too long.
    Full,
    /// The call's deadline passed while it stood in line.
    Late,
}

impl Gate {
    /// A gate for at most `permits` calls at a time, at least one, with a line of at most `waiting_max`, in which a call
    /// waits for `patience` at most. `gauge` shows how many wait.
    pub fn new(permits: u32, (waiting_max, patience): (u32, Duration), gauge: Gauge) -> Self {
        let permits = usize::try_from(permits.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            own: OnceLock::new(),
            line: Line { waiting: AtomicU32::new(0), waiting_max, since: Mutex::default(), patience, gauge },
            calls: TaskTracker::new(),
        }
    }

    /// Leave to run a call: at once, or after a wait in line until `deadline` at the latest. Dropping the future leaves the
    /// line.
    ///
    /// The permits of a version may all be held by calls that wait for one another, by way of other functions or of
    /// itself. So each `depth` of nested calls has one permit more for itself: the deepest call that waits for a permit
    /// waits for one whose holder waits for nobody, and no cycle of functions locks up.
    ///
    /// # Errors
    /// Why there is no leave.
    pub async fn enter(&self, deadline: Instant, depth: u8) -> Result<Pass, Shut> {
        // The token comes first: whoever waits for the calls to go home also waits for those in line.
        let token = self.calls.token();
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Shut::Closed),
            Err(TryAcquireError::NoPermits) => match self.own(depth).map(|own| own.try_acquire_owned()) {
                Some(Ok(permit)) => permit,
                // On its own, as all that few calls do: a call that does not wait is spared the room for it.
                _ => Box::pin(self.stand_in_line(deadline, depth)).await?,
            },
        };
        Ok(Pass { _permit: permit, _token: token })
    }

    /// What only calls of this depth get; none for calls from outside.
    fn own(&self, depth: u8) -> Option<Arc<Semaphore>> {
        let index = usize::from(depth).checked_sub(1)?;
        let own = self.own.get_or_init(|| (0..Invocation::DEPTH_MAX).map(|_| Arc::new(Semaphore::new(1))).collect());
        own.get(index).cloned()
    }

    async fn stand_in_line(&self, deadline: Instant, depth: u8) -> Result<OwnedSemaphorePermit, Shut> {
        let Some(_place) = Place::take(&self.line) else { return Err(Shut::Full) };
        let patience = Instant::now() + self.line.patience;
        let own = self.own(depth);
        let turn = async {
            let own_turn = async {
                match own {
                    Some(own) => own.acquire_owned().await,
                    None => std::future::pending().await,
                }
            };
            // Only the first is ever closed, and then first seen.
            tokio::select! {
                biased;
                permit = self.permits.clone().acquire_owned() => permit,
                permit = own_turn => permit,
            }
        };
        match timeout_at(deadline.min(patience), turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(Shut::Closed),
            Err(_) if patience <= deadline => Err(Shut::Full),
            Err(_) => Err(Shut::Late),
        }
    }

    /// Lets nobody in any more; those in line are told so. Those who hold a pass keep it. If nobody is here then, nobody
    /// will be.
    pub fn close(&self) {
        self.permits.close();
        self.calls.close();
    }

    /// Waits until every call has gone. Ends only after [`Gate::close`].
    pub async fn home(&self) {
        self.calls.wait().await;
    }

    /// Calls in line.
    pub fn queued(&self) -> u32 {
        self.line.waiting.load(Relaxed)
    }

    /// Calls in line, and how long the one has waited that came first.
    pub fn line(&self) -> skein_placement::Line {
        let queued = self.queued();
        let first = if queued == 0 { None } else { self.line.since().first_key_value().map(|(_, since)| *since) };
        let age_ms = first.map_or(0, |since| since.elapsed().as_millis());
        skein_placement::Line { queued, age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX) }
    }

    /// Calls that hold a pass.
    pub fn in_flight(&self) -> u32 {
        let all = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        all.saturating_sub(self.queued())
    }

    /// Whether no call is in line or holds a pass.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Line {
    fn since(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; leaving it is dropping it.
struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl<'a> Place<'a> {
    fn take(line: &'a Line) -> Option<Self> {
        let join = |waiting| (waiting < line.waiting_max).then_some(waiting + 1);
        line.waiting.fetch_update(Relaxed, Relaxed, join).ok()?;
        line.gauge.increment(1);
        let mut since = line.since();
        let number = since.last_key_value().map_or(0, |(last, _)| last + 1);
        since.insert(number, Instant::now());
        Some(Self { line, number })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.since().remove(&self.number);
        self.line.waiting.fetch_sub(1, Relaxed);
        self.line.gauge.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn gate(permits: u32, waiting_max: u32) -> Gate {
        Gate::new(permits, (waiting_max, LONG), Gauge::noop())
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_neither_permit_nor_place_in_line_is_refused() {
        let gate = gate(1, 1);
        let deadline = Instant::now() + LONG * 2;
        let first = gate.enter(deadline, 0).await.unwrap();
        let second = gate.enter(deadline, 0);
        let third = async {
            tokio::task::yield_now().await;
            assert_eq!((gate.in_flight(), gate.queued()), (1, 1));
            assert_eq!(gate.enter(deadline, 0).await.unwrap_err(), Shut::Full);
            drop(first);
        };
        let (second, ()) = tokio::join!(second, third);
        assert!(second.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_leaves_the_line_at_its_deadline_or_when_patience_ends() {
        let gate = gate(1, 9);
        let _pass = gate.enter(Instant::now() + LONG, 0).await.unwrap();
        assert_eq!(gate.enter(Instant::now() + LONG / 2, 0).await.unwrap_err(), Shut::Late);
        assert_eq!(gate.enter(Instant::now() + LONG * 2, 0).await.unwrap_err(), Shut::Full);
        assert_eq!(gate.queued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_is_closed_says_whether_a_call_is_inside() {
        let (busy, idle) = (gate(2, 0), gate(2, 0));
        let pass = busy.enter(Instant::now() + LONG, 0).await.unwrap();
        busy.close();
        idle.close();
        assert!(!busy.is_empty() && idle.is_empty());
        drop(pass);
        assert!(busy.is_empty());
        assert_eq!(busy.enter(Instant::now() + LONG, 0).await.unwrap_err(), Shut::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_the_line_is_that_of_who_came_first_of_those_who_wait() {
        let gate = gate(1, 9);
        let deadline = Instant::now() + LONG * 2;
        let pass = gate.enter(deadline, 0).await.unwrap();
        let line = || (gate.line().queued, gate.line().age_ms);
        assert_eq!(line(), (0, 0));
        let first = async {
            let pass = gate.enter(deadline, 0).await.unwrap();
            assert_eq!(line(), (1, 3_000), "the second has waited since it came");
            drop(pass);
        };
        let second = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            gate.enter(deadline, 0).await.unwrap()
        };
        let meanwhile = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(line(), (2, 5_000));
            drop(pass);
        };
        let _ = tokio::join!(first, second, meanwhile);
        assert_eq!(line(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_sends_the_line_away_and_waits_for_who_is_inside() {
        let gate = gate(1, 9);
        let deadline = Instant::now() + LONG;
        let pass = gate.enter(deadline, 0).await.unwrap();
        let closing = async {
            gate.close();
            assert!(!gate.is_empty());
        };
        let (waiting, ()) = tokio::join!(gate.enter(deadline, 0), closing);
        assert_eq!(waiting.unwrap_err(), Shut::Closed);
        assert_eq!(gate.enter(deadline, 0).await.unwrap_err(), Shut::Closed);
        assert!(timeout_at(deadline, gate.home()).await.is_err(), "one is still inside");
        drop(pass);
        gate.home().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_nested_call_has_a_permit_that_no_other_depth_can_hold() {
        let gate = gate(1, 0);
        let deadline = Instant::now() + LONG;
        let _outer = gate.enter(deadline, 0).await.unwrap();
        let _nested = gate.enter(deadline, 1).await.unwrap();
        assert_eq!(gate.enter(deadline, 1).await.unwrap_err(), Shut::Full);
        assert!(gate.enter(deadline, 2).await.is_ok());
    }
}
