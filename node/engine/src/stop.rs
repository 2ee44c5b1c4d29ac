//! Stopping a guest: who asked, the gate of its safepoints, and the sleep it may be in.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Instant,
};

use crate::{clock, memory::Slot, metrics};

/// Stops the call it was given to, from any thread. Cloning gives another handle to the same call.
///
/// A handle that is given to several calls stops all of them, and those that come later.
#[derive(Debug, Clone)]
pub struct StopHandle(Option<Arc<Mutex<Calls>>>);

#[derive(Debug, Default)]
struct Calls {
    is_stopped: bool,
    running: Vec<Weak<Interrupt>>,
}

impl Default for StopHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl StopHandle {
    /// A handle for one call.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// A handle for a call that nobody will stop. Stopping it does nothing.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Stops the guest, now or as soon as it would start. Returns at once; `Program::run` ends soon after with
    /// [`RunError::Cancelled`](crate::RunError::Cancelled), unless it had already ended otherwise.
    pub fn stop(&self) {
        let Some(calls) = &self.0 else { return };
        let running = {
            let mut calls = lock(calls);
            calls.is_stopped = true;
            std::mem::take(&mut calls.running)
        };
        running.iter().filter_map(Weak::upgrade).for_each(|interrupt| interrupt.stop(Reason::Cancelled));
    }

    /// True once it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.as_ref().is_some_and(|calls| lock(calls).is_stopped)
    }

    /// Has `interrupt` stopped with the handle.
    pub(crate) fn attach(&self, interrupt: &Arc<Interrupt>) {
        let Some(calls) = &self.0 else { return };
        let mut calls = lock(calls);
        if calls.is_stopped {
            drop(calls);
            interrupt.stop(Reason::Cancelled);
        } else {
            // What has ended leaves room for what starts, so that the list is as long as calls run.
            calls.running.retain(|other| other.strong_count() > 0);
            calls.running.push(Arc::downgrade(interrupt));
        }
    }
}

/// Why a guest is stopped. The first reason counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Its deadline passed.
    Deadline = 1,
    /// The call was taken back, or the engine shuts down.
    Cancelled,
    /// It used up its CPU time.
    Cpu,
    /// It was to be brief, and computed for longer or wanted to wait.
    NotBrief,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Deadline, Self::Cancelled, Self::Cpu, Self::NotBrief];
}

/// What stops one running guest, wherever it is: in its code by the gate, in the host by the condition variable.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// A [`Reason`], or 0. Written under the lock of `state`, so that whoever is about to sleep there sees it.
    reason: AtomicU8,
    /// Whether the run must neither wait nor compute for long.
    is_brief: bool,
    has_waited: AtomicBool,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    /// The guest's memory, until its run has ended.
    slot: Option<Arc<Slot>>,
    /// Wakes the guest's thread while it waits for an answer.
    sleeper: Option<Waker>,
}

/// Wakes a thread that waits for a future.
struct Woken {
    is_woken: AtomicBool,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Interrupt {
    pub(crate) fn new(slot: Arc<Slot>) -> Arc<Self> {
        Self::with(slot, false)
    }

    /// For a run that must neither wait nor compute for long.
    pub(crate) fn brief(slot: Arc<Slot>) -> Arc<Self> {
        Self::with(slot, true)
    }

    fn with(slot: Arc<Slot>, is_brief: bool) -> Arc<Self> {
        Arc::new(Self {
            reason: AtomicU8::new(0),
            is_brief,
            has_waited: AtomicBool::new(false),
            state: Mutex::new(State { slot: Some(slot), sleeper: None }),
            stopped: Condvar::new(),
        })
    }

    /// Stops the guest. Does nothing to one that has ended or was stopped before.
    pub(crate) fn stop(&self, reason: Reason) {
        let mut state = lock(&self.state);
        if self.reason().is_some() {
            return;
        }
        self.reason.store(reason as u8, Ordering::Release);
        if let Some(slot) = &state.slot {
            slot.close_gate();
            ::metrics::counter!(metrics::STOPS).increment(1);
        }
        self.stopped.notify_all();
        if let Some(sleeper) = state.sleeper.take() {
            sleeper.wake();
        }
    }

    /// Why it was stopped, if it was.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let reason = self.reason.load(Ordering::Acquire);
        Reason::ALL.into_iter().find(|one| *one as u8 == reason)
    }

    /// Whether the guest is to end soon: see [`Program::run_briefly`](crate::Program::run_briefly).
    pub(crate) fn is_brief(&self) -> bool {
        self.is_brief
    }

    /// Whether the guest has waited for anything.
    pub(crate) fn has_waited(&self) -> bool {
        self.has_waited.load(Ordering::Relaxed)
    }

    /// Notes that the guest is about to wait; false if it must not, and was stopped for it.
    fn may_wait(&self) -> bool {
        self.has_waited.store(true, Ordering::Relaxed);
        if self.is_brief {
            self.stop(Reason::NotBrief);
        }
        !self.is_brief
    }

    /// Sleeps until `end`; false if it was stopped before. `None` sleeps until it is stopped.
    pub(crate) fn sleep_until(&self, end: Option<Instant>) -> bool {
        if end.is_none_or(|end| end > clock::now()) && !self.may_wait() {
            return false;
        }
        let mut state = lock(&self.state);
        loop {
            if self.reason().is_some() {
                return false;
            }
            state = match end.map(|end| end.saturating_duration_since(clock::now())) {
                None => self.stopped.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return true,
                Some(left) => self.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Waits for `future` on this thread; `None` if the guest was stopped before it was ready, and the future dropped.
    pub(crate) fn wait_for<T>(&self, mut future: Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
        let mut answer = None;
        self.poll_until(None, |context| future.as_mut().poll(context).map(|ready| answer = Some(ready)));
        answer
    }

    /// Waits on this thread until `poll` is ready or the time has come; false if the guest was stopped before.
    pub(crate) fn poll_until(&self, end: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> bool {
        let woken = Arc::new(Woken { is_woken: AtomicBool::new(true), thread: std::thread::current() });
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        lock(&self.state).sleeper = Some(waker.clone());
        let is_awake = loop {
            if self.reason().is_some() {
                break false;
            }
            if woken.is_woken.swap(false, Ordering::AcqRel) && poll(&mut context).is_ready() {
                break true;
            }
            let is_woken = || woken.is_woken.load(Ordering::Acquire);
            match end.map(|end| end.saturating_duration_since(clock::now())) {
                Some(left) if left.is_zero() => break true,
                _ if is_woken() => {}
                _ if !self.may_wait() => break false,
                None => std::thread::park(),
                Some(left) => std::thread::park_timeout(left),
            }
        };
        lock(&self.state).sleeper = None;
        is_awake
    }

    /// Says whose guest it is; without waiting for anybody, and `?` if that cannot be said so.
    pub(crate) fn name(&self, tell: fn(&str)) {
        let state = self.state.try_lock().ok();
        tell(state.as_ref().and_then(|state| state.slot.as_ref()?.owner()).unwrap_or("?"));
    }

    /// The run has ended: lets go of the guest's memory.
    pub(crate) fn detach(&self) {
        let slot = lock(&self.state).slot.take();
        drop(slot);
    }
}

/// Locks; a panic of another holder left nothing half-done in what we lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
