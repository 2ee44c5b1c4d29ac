//! The threads that guests and compilers run on, kept away from the async ones.
//!
//! A guest runs synchronously on one thread from its start to its end. What is scarce are two things: *slots*, of which
//! a guest has one while it computes, and *places*, of which it has one instead while it waits for somebody else (a call
//! of another function, a request, a sleep). Threads come with the guests and go when nothing is left to do.
//!
//! ```text
//! submit --> queue --> a slot: runs --- waits ---> a place: waits --- resumed ---> runs --> ends
//!    mostly nested first |                          (the slot is free for others)
//! ```
//!
//! Nested work does not keep what comes from outside waiting for ever: after some of it in a row, one from outside has its
//! turn.
//!
//! **No chain of calls locks up.** Who stands in the queue waits for slots only, and who has a slot does not wait for
//! anybody. Places run out, so a guest that finds none is refused its request (`overloaded`) instead of waiting for one;
//! and one place of each depth is kept for it alone, so that whatever the shallow calls do, one chain of calls can
//! always go all the way down. A guest that goes on takes a slot at once, beyond the limit if need be: it has waited,
//! and the kernel shares the cores more fairly than a second queue would.

mod pool;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use metrics::Gauge;
use skein_engine::StopHandle;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{debug, error, warn};

pub(crate) use pool::Bounds;
use pool::{Before, Place, Pool, Thread};

/// One piece of work.
pub(crate) struct Job {
    /// Stops the guest in it, if it runs one, when the executor shuts down.
    pub(crate) stop: Option<StopHandle>,
    /// Whether a guest waits for it, or many calls do: a nested call, or a version that is made ready. Such goes first.
    pub(crate) is_nested: bool,
    /// What to do. A panic in it is caught, and ends nothing but the job.
    pub(crate) work: Box<dyn FnOnce() + Send>,
}

/// The pool. A handle: clones share it.
#[derive(Clone)]
pub(crate) struct Executor {
    shared: Arc<Shared>,
}

/// The queue is full, or the executor shuts down; the job was not taken.
#[derive(Debug)]
pub(crate) struct Refused;

/// A job that was taken. It goes on by itself.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    is_nested: bool,
}

/// A place for a guest that waits. Dropping it is going on.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    place: Place,
    /// Whether there is a slot to take again: a guest that runs in the thread of another that waits has none.
    had_slot: bool,
}

struct Shared {
    bounds: Bounds,
    pool: Mutex<Pool>,
    work: Condvar,
    live: watch::Sender<usize>,
    gauges: Gauges,
}

struct Gauges {
    threads: Gauge,
    running: Gauge,
    waiting: Gauge,
}

impl Executor {
    /// A pool within these bounds, as far as the machine lets a process have so much, and each at least one.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let fitting = bounds.within(pool::guests_max());
        if fitting.waiting_max < bounds.waiting_max {
            warn!(
                wanted = bounds.waiting_max,
                most = fitting.waiting_max,
                "fewer guests can wait than configured: raise the kernel's vm.max_map_count"
            );
        }
        let (pool, work, live) = (Mutex::default(), Condvar::new(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { bounds: fitting, pool, work, live, gauges: Gauges::new() }) }
    }

    /// Queues `job` for the next free thread, starting one if none is and a slot is free.
    ///
    /// # Errors
    /// [`Refused`] when the queue is full, at shutdown, or when every thread there may be waits; the job is dropped.
    pub(crate) fn submit(&self, job: Job) -> Result<Ticket, Refused> {
        let shared = &self.shared;
        let ticket = {
            let mut pool = shared.lock();
            let is_nested = job.is_nested;
            if pool.is_stopping || pool.queued() >= shared.bounds.queue_max(is_nested) {
                return Err(Refused);
            }
            let number = pool.push(job);
            shared.start_threads(&mut pool);
            if pool.active() == 0 {
                pool.line(is_nested).pop_back();
                return Err(Refused);
            }
            Ticket { number, is_nested }
        };
        shared.work.notify_one();
        Ok(ticket)
    }

    /// Takes a job back that nobody wants any more, and drops it with all that it holds. One that has begun goes on.
    pub(crate) fn withdraw(&self, ticket: &Ticket) {
        let job = self.shared.lock().take_back(ticket);
        // Not under the lock: what it holds may be much.
        drop(job);
    }

    /// Gives the slot of the calling job away while its guest waits; none if as many wait as may, and then the guest
    /// keeps its slot. For threads of this executor only, once a job at a time.
    pub(crate) fn wait(&self, depth: u8) -> Option<Waiting> {
        let shared = &self.shared;
        let mut pool = shared.lock();
        let place = pool.take_place(&shared.bounds, depth)?;
        let had_slot = pool.running > 0;
        pool.running -= usize::from(had_slot);
        shared.start_threads(&mut pool);
        if pool.queued() > 0 && pool.active() == 0 {
            // No thread could be started: who is in the queue needs this one, so it must not wait for them.
            pool.give_place(place);
            pool.running += usize::from(had_slot);
            return None;
        }
        let (is_due, guests) = (pool.queued() > 0, pool.guests());
        drop(pool);
        if is_due {
            shared.work.notify_one();
        }
        shared.gauges.set(guests);
        Some(Waiting { shared: shared.clone(), place, had_slot })
    }

    /// Whether more jobs run, or wait for a thread, than there are `cores`: what is not urgent would hold them up.
    pub(crate) fn is_busy(&self, cores: usize) -> bool {
        let pool = self.shared.lock();
        pool.queued() + pool.running > cores
    }

    /// How many jobs wait for a thread now.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.shared.lock().queued()
    }

    /// How many threads live now.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// How many threads have a guest now, running or waiting.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.shared.lock().threads.values().filter(|thread| thread.running.is_some()).count()
    }

    /// How many guests wait now.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().guests().1
    }

    /// Drops what is queued, stops the guests, and joins the threads. Returns false if some did not end by `deadline`:
    /// they are inside a compiler, and end with it.
    pub(crate) async fn shutdown(&self, deadline: Instant) -> bool {
        let (queues, guests) = {
            let mut pool = self.shared.lock();
            pool.is_stopping = true;
            let guests: Vec<_> = pool.threads.values().filter_map(|thread| thread.running.clone()).collect();
            ([std::mem::take(&mut pool.outer), std::mem::take(&mut pool.nested)], guests)
        };
        self.shared.work.notify_all();
        drop(queues);
        guests.iter().for_each(StopHandle::stop);
        let mut live = self.shared.live.subscribe();
        let ended = timeout_at(deadline, live.wait_for(|live| *live == 0)).await.is_ok();
        let gone = std::mem::take(&mut self.shared.lock().gone);
        // They have left their loop, but may be off the CPU before their end: no async thread waits for that.
        let joined = tokio::task::spawn_blocking(move || gone.into_iter().for_each(join));
        let _ = timeout_at(deadline.max(Instant::now() + JOIN_MAX), joined).await;
        if !ended {
            warn!(threads = *self.shared.live.borrow(), "threads did not end by the deadline");
        }
        ended
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut pool = self.shared.lock();
        pool.give_place(self.place);
        pool.running += usize::from(self.had_slot);
        let guests = pool.guests();
        drop(pool);
        self.shared.gauges.set(guests);
    }
}

impl Gauges {
    fn new() -> Self {
        use crate::metrics::{GUESTS_RUNNING, GUESTS_WAITING, THREADS};
        Self {
            threads: metrics::gauge!(THREADS),
            running: metrics::gauge!(GUESTS_RUNNING),
            waiting: metrics::gauge!(GUESTS_WAITING),
        }
    }

    fn set(&self, (running, waiting): (usize, usize)) {
        self.running.set(crate::metrics::as_f64(running));
        self.waiting.set(crate::metrics::as_f64(waiting));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics while it holds the lock, and the pool is consistent at every step.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads for what is queued, as far as slots are free. One more guest means at most one more.
    fn start_threads(self: &Arc<Self>, pool: &mut Pool) {
        if pool.queued() > pool.idle + pool.starting && pool.active() < self.bounds.running_max {
            self.start_thread(pool);
        }
    }

    fn start_thread(self: &Arc<Self>, pool: &mut Pool) {
        pool.started += 1;
        let (id, shared) = (pool.started, self.clone());
        let named = thread::Builder::new().name(format!("skein-guest-{id}")).stack_size(STACK_BYTES);
        match named.spawn(move || shared.run(id)) {
            Ok(handle) => {
                pool.starting += 1;
                pool.threads.insert(id, Thread { handle, running: None });
                self.report(pool);
            }
            // The threads there are go on; the job waits for one of them.
            Err(failed) => error!(error = %failed, threads = pool.threads.len(), "no further thread could be started"),
        }
    }

    /// One thread's life.
    fn run(&self, id: u64) {
        give_way();
        skein_engine::shield_thread();
        let mut before = Before::Started;
        while let Some(job) = self.next(id, before) {
            if catch_unwind(AssertUnwindSafe(job.work)).is_err() {
                error!("a job of the executor panicked");
            }
            before = Before::Ran;
        }
        let gone = {
            let mut pool = self.lock();
            let gone = std::mem::take(&mut pool.gone);
            if let Some(thread) = pool.threads.remove(&id) {
                pool.gone.push(thread.handle);
            }
            self.report(&pool);
            gone
        };
        // A thread's stack is given back when it is joined. Each thread that ends joins those that ended before it, and
        // the last one waits for the next, or for shutdown: no async thread ever does.
        gone.into_iter().for_each(join);
    }

    /// The next job for thread `id`, which then has a slot; none when it is to end.
    fn next(&self, id: u64, before: Before) -> Option<Job> {
        let mut pool = self.lock();
        // Under the same lock as the look for work, so that nobody finds no thread where there is one.
        match before {
            Before::Started => pool.starting = pool.starting.saturating_sub(1),
            Before::Ran => {
                pool.running = pool.running.saturating_sub(1);
                if let Some(thread) = pool.threads.get_mut(&id) {
                    thread.running = None;
                }
            }
        }
        loop {
            if pool.is_stopping {
                return None;
            }
            let has_slot = pool.running < self.bounds.running_max;
            if has_slot && let Some(job) = pool.pop() {
                pool.running += 1;
                if let Some(thread) = pool.threads.get_mut(&id) {
                    thread.running.clone_from(&job.stop);
                }
                self.gauges.set(pool.guests());
                return Some(job);
            }
            self.gauges.set(pool.guests());
            // Whatever frees a slot looks for work itself, or wakes somebody.
            pool.idle += 1;
            let (woken, timed_out) =
                self.work.wait_timeout(pool, self.bounds.thread_idle).unwrap_or_else(PoisonError::into_inner);
            pool = woken;
            pool.idle -= 1;
            if timed_out.timed_out() && (pool.queued() == 0 || pool.running >= self.bounds.running_max) {
                return None;
            }
        }
    }

    fn report(&self, pool: &Pool) {
        self.live.send_replace(pool.threads.len());
        self.gauges.threads.set(crate::metrics::as_f64(pool.threads.len()));
    }
}

/// Lets the kernel prefer the threads that take calls, and that keep the mesh together, to the calling one: guests that
/// compute can be as many as there are slots, and a call that is to be refused, or a heartbeat, must not wait for them.
/// While nobody else wants the processor, this takes nothing from them.
fn give_way() {
    // Linux sets it for the one thread, not for its process: see "C library/kernel differences" in setpriority(2).
    if let Err(error) = rustix::process::setpriority_process(None, GUEST_NICENESS) {
        debug!(%error, "the priority of a guest's thread stays as it is");
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a thread of the executor panicked");
    }
}

/// Longest wait at shutdown for threads that have left their loop.
const JOIN_MAX: Duration = Duration::from_millis(500);

/// A ninth of the weight of the other threads, by the kernel's table of weights (sched(7), "The nice value").
const GUEST_NICENESS: i32 = 10;

/// Guests have stacks of their own; the engine says that 2 MiB are plenty for the host code beneath them. Reserved, not
/// touched: a thread whose guest waits uses some ten KiB of it.
const STACK_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests;
