//! The one thread that stops guests: at their deadlines, when their CPU time is used up, and when a run that was to be
//! brief is not.
//!
//! A run announces itself at a *post*: a place in a table that a thread keeps coming back to, so that arming and
//! disarming touch nothing that another thread uses. The watchdog sleeps until the earliest moment at which any guest
//! may have to be stopped. Only who must be looked at before that wakes it.
//!
//! Brief runs would wake it each time. While there are any it ticks instead, and looks at the CPU clock of each thread
//! it finds in one: at its first look to know where the run began, later to see how far it got. So a brief run costs its
//! thread no system call, and one whose thread had to make way for another is not blamed for it.
//!
//! A guest that was stopped is looked at until its run has ended; see [`lost`] for what happens if it never does.

use std::{
    array,
    cell::Cell,
    io,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    EngineConfig, clock,
    stop::{Interrupt, Reason, lock},
    thread_clock::ThreadClock,
};

mod lost;

pub use lost::EXIT_CODE_LOST;
use lost::{Absence, Seen};

/// How long brief runs may compute, and how often the watchdog looks at them: one is stopped when it has used from one
/// to three times this.
const TICK: Duration = Duration::from_micros(500);
/// Ticks without a brief run after which the watchdog stops ticking. Few, since an idle node should sleep; more than
/// one, since waking it costs whoever calls next.
const QUIET_TICKS_MAX: u32 = 8;
/// Posts that are made at a time.
const SEGMENT_POSTS: usize = 64;
/// Room for one post for each instance that may be alive.
const SEGMENTS: usize = EngineConfig::INSTANCES_MAX.div_ceil(SEGMENT_POSTS);

/// `look_at` of a post without a guest, and of a watchdog that waits for nothing.
const NEVER: u64 = u64::MAX;
/// `look_at` of a post with a brief run: each tick.
const EACH_TICK: u64 = 0;

/// How long a run may go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// When it is stopped at the latest.
    pub(crate) deadline: Instant,
    /// The CPU time it may use.
    pub(crate) cpu: Duration,
}

impl From<Instant> for Terms {
    fn from(deadline: Instant) -> Self {
        Self { deadline, cpu: Duration::MAX }
    }
}

/// A handle to the thread, for its owner.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    /// What the posts' times count from, in nanoseconds.
    epoch: Instant,
    /// How long a stopped guest may leave its thread without a step.
    patience: Duration,
    /// Made as they are needed, kept for good.
    segments: [OnceLock<Box<[Post]>>; SEGMENTS],
    /// Until when the thread sleeps at most.
    wakes_at: AtomicU64,
    is_ticking: AtomicBool,
    is_shut_down: AtomicBool,
    /// Held while the thread decides to sleep, so that nobody wakes it in between.
    sleep: Mutex<()>,
    woken: Condvar,
}

/// Where one run is watched. A cache line of its own, since its thread writes it with every run.
#[derive(Debug)]
#[repr(align(64))]
struct Post {
    is_taken: AtomicBool,
    /// When the guest must be looked at, in nanoseconds.
    look_at: AtomicU64,
    /// Brief runs so far; written by who has taken the post.
    brief_runs: AtomicU64,
    guest: Mutex<Option<Guest>>,
}

#[derive(Debug)]
struct Guest {
    interrupt: Arc<Interrupt>,
    deadline: u64,
    cpu: Cpu,
    clock: ThreadClock,
    /// Since it was seen to be stopped.
    absence: Option<Absence>,
}

/// What a guest's CPU clock is held against.
#[derive(Debug, Clone, Copy)]
enum Cpu {
    /// Nothing: its deadline comes first.
    Unlimited,
    /// It may run until the clock shows this.
    Until(Duration),
    /// A brief run that has not been seen yet.
    Unseen,
    /// A brief run, and what the clock showed when it was first seen.
    Since(Duration),
}

/// A guest being watched; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Watch<'a>(&'a Post);

thread_local! {
    /// The post this thread took last. A guess: of another engine, or taken by another thread, it is as good as any.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

impl Watchdog {
    /// Starts the thread. A guest is lost that was stopped and whose thread does nothing for all of `patience`.
    pub(crate) fn spawn(patience: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: clock::now(),
            patience,
            segments: array::from_fn(|_| OnceLock::new()),
            wakes_at: AtomicU64::new(NEVER),
            is_ticking: AtomicBool::new(false),
            is_shut_down: AtomicBool::new(false),
            sleep: Mutex::new(()),
            woken: Condvar::new(),
        });
        lost::stand_by()?;
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().name("skein-watchdog".to_owned()).spawn(move || watched.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Has `guest`, which runs on the calling thread from now on, stopped by `terms`; `None` after the shutdown.
    pub(crate) fn watch(&self, terms: impl Into<Terms>, guest: &Arc<Interrupt>) -> Option<Watch<'_>> {
        let (shared, terms) = (&*self.shared, terms.into());
        let post = shared.claim()?;
        let watch = Watch(post);
        let (clock, deadline) = (ThreadClock::current(), shared.nanos(terms.deadline));
        let (cpu, look_at) = if guest.is_brief() {
            post.brief_runs.store(post.brief_runs.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            (Cpu::Unseen, EACH_TICK)
        } else if let Some(soonest) = clock::now().checked_add(terms.cpu).filter(|soonest| *soonest < terms.deadline) {
            // Not before this: a thread uses no more CPU time than time passes.
            (Cpu::Until(clock.read().unwrap_or_default() + terms.cpu), shared.nanos(soonest))
        } else {
            (Cpu::Unlimited, deadline)
        };
        *lock(&post.guest) = Some(Guest { interrupt: Arc::clone(guest), deadline, cpu, clock, absence: None });
        // In this order, and the watchdog in the opposite one: either it sees the guest or the guest sees it asleep.
        post.look_at.store(look_at, Ordering::SeqCst);
        if shared.is_shut_down.load(Ordering::SeqCst) {
            return None;
        }
        let is_awake = look_at == EACH_TICK && shared.is_ticking.load(Ordering::SeqCst);
        if !is_awake && look_at < shared.wakes_at.load(Ordering::SeqCst) {
            shared.wake();
        }
        Some(watch)
    }

    /// Stops every guest and ends the thread.
    pub(crate) fn shutdown(&self) {
        self.shared.is_shut_down.store(true, Ordering::SeqCst);
        for post in self.shared.posts() {
            if let Some(guest) = lock(&post.guest).as_ref() {
                guest.interrupt.stop(Reason::Cancelled);
            }
        }
        self.shared.wake();
        if let Some(thread) = lock(&self.thread).take() {
            // It panics on nothing; were it to, its guests are stopped already.
            let _ = thread.join();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut place = lock(&self.0.guest);
        let guest = place.take();
        self.0.look_at.store(NEVER, Ordering::Relaxed);
        drop(place);
        self.0.is_taken.store(false, Ordering::Release);
        drop(guest);
    }
}

impl Shared {
    fn run(&self) {
        let (mut brief_runs, mut quiet_ticks) = (0, QUIET_TICKS_MAX);
        while !self.is_shut_down.load(Ordering::SeqCst) {
            let now = self.nanos(clock::now());
            let mut sum = 0_u64;
            let mut is_brief_running = false;
            for post in self.posts() {
                is_brief_running |= self.look(post, now);
                sum = sum.wrapping_add(post.brief_runs.load(Ordering::Relaxed));
            }
            quiet_ticks =
                if is_brief_running || sum != brief_runs { 0 } else { (quiet_ticks + 1).min(QUIET_TICKS_MAX) };
            brief_runs = sum;
            self.sleep(now, quiet_ticks < QUIET_TICKS_MAX);
        }
    }

    /// Sleeps until the next guest must be looked at, or the next tick.
    fn sleep(&self, now: u64, is_ticking: bool) {
        let tick = if is_ticking { now.saturating_add(nanos(TICK)) } else { NEVER };
        let wakes_at = self.earliest(is_ticking).min(tick);
        let sleep = lock(&self.sleep);
        self.is_ticking.store(is_ticking, Ordering::SeqCst);
        self.wakes_at.store(wakes_at, Ordering::SeqCst);
        // Whoever came before these two knew them by other values, and may not have woken us.
        if self.earliest(is_ticking) < wakes_at || self.is_shut_down.load(Ordering::SeqCst) {
            return;
        }
        if wakes_at == NEVER {
            drop(self.woken.wait(sleep).unwrap_or_else(PoisonError::into_inner));
            return;
        }
        let wait = Duration::from_nanos(wakes_at).saturating_sub(self.epoch_to_now());
        if !wait.is_zero() {
            drop(self.woken.wait_timeout(sleep, wait).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// When the first guest must be looked at; without brief runs, which a tick sees anyhow, if `is_ticking`.
    fn earliest(&self, is_ticking: bool) -> u64 {
        let times = self.posts().map(|post| post.look_at.load(Ordering::SeqCst));
        times.filter(|time| !(is_ticking && *time == EACH_TICK)).min().unwrap_or(NEVER)
    }

    /// Stops the guest at `post` if it must be, and says whether there is a brief one.
    fn look(&self, post: &Post, now: u64) -> bool {
        if post.look_at.load(Ordering::Acquire) > now {
            return false;
        }
        let mut place = lock(&post.guest);
        // Gone: what it left says so, since it was written under the lock.
        let Some(guest) = place.as_mut() else { return false };
        let is_brief = guest.interrupt.is_brief() && guest.absence.is_none();
        let look_at = match guest.judge(now) {
            _ if guest.interrupt.reason().is_some() => self.look_after(guest, now),
            Ok(_) if is_brief => EACH_TICK,
            Ok(look_at) => look_at,
            Err(reason) => {
                guest.interrupt.stop(reason);
                self.look_after(guest, now)
            }
        };
        // Under the lock, since what a guest writes when it leaves must stand. One that has just come may write again
        // what it wrote before, which is earlier.
        post.look_at.store(look_at, Ordering::SeqCst);
        is_brief
    }

    /// Looks at a guest that was stopped, and says when to look again.
    fn look_after(&self, guest: &mut Guest, now: u64) -> u64 {
        let is_lost = match &mut guest.absence {
            Some(absence) => absence.look(Seen::of(guest.clock), self.patience),
            none => {
                *none = Some(Absence::begin(guest.clock.read().unwrap_or_default()));
                false
            }
        };
        if is_lost {
            guest.interrupt.name(lost::end_process);
        }
        now.saturating_add(nanos(lost::look_every(self.patience)))
    }

    fn posts(&self) -> impl Iterator<Item = &Post> {
        self.segments.iter().map_while(OnceLock::get).flatten()
    }

    /// A free post: the one this thread had last, if it still is.
    fn claim(&self) -> Option<&Post> {
        let last = LAST.get();
        let segment = self.segments.get(last / SEGMENT_POSTS).and_then(OnceLock::get);
        if let Some(post) = segment.and_then(|posts| posts.get(last % SEGMENT_POSTS))
            && post.claim()
        {
            return Some(post);
        }
        for (number, segment) in self.segments.iter().enumerate() {
            let posts = segment.get_or_init(|| (0..SEGMENT_POSTS).map(|_| Post::new()).collect());
            if let Some(at) = posts.iter().position(Post::claim) {
                LAST.set(number * SEGMENT_POSTS + at);
                return Some(&posts[at]);
            }
        }
        None
    }

    fn wake(&self) {
        drop(lock(&self.sleep));
        self.woken.notify_one();
    }

    fn nanos(&self, at: Instant) -> u64 {
        // One less than never, and never the sign of a brief run.
        nanos(at.saturating_duration_since(self.epoch)).clamp(EACH_TICK + 1, NEVER - 1)
    }

    fn epoch_to_now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }
}

impl Post {
    fn new() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            look_at: AtomicU64::new(NEVER),
            brief_runs: AtomicU64::new(0),
            guest: Mutex::new(None),
        }
    }

    fn claim(&self) -> bool {
        !self.is_taken.load(Ordering::Relaxed)
            && self.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl Guest {
    /// When to look again, or why it must stop.
    fn judge(&mut self, now: u64) -> Result<u64, Reason> {
        if self.deadline <= now {
            return Err(Reason::Deadline);
        }
        // A clock that cannot be read is of a thread that is gone, which a running guest's is not.
        let read = || self.clock.read().unwrap_or(Duration::MAX);
        match self.cpu {
            Cpu::Unlimited => Ok(self.deadline),
            Cpu::Until(end) => {
                let left = end.saturating_sub(read());
                if left.is_zero() { Err(Reason::Cpu) } else { Ok(now.saturating_add(nanos(left)).min(self.deadline)) }
            }
            Cpu::Unseen => {
                self.cpu = Cpu::Since(read());
                Ok(EACH_TICK)
            }
            Cpu::Since(begin) if read().saturating_sub(begin) >= TICK => Err(Reason::NotBrief),
            Cpu::Since(_) => Ok(EACH_TICK),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}
