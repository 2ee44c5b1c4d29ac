//! The threads that guests and compilers run on, kept away from the async ones.
//!
//! A guest runs synchronously and may hold its thread for as long as its deadline, so the pool grows with the calls at
//! hand, up to a limit, and shrinks when they are gone. Work beyond the limit waits in a bounded queue.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use skein_engine::StopHandle;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{error, warn};

/// One piece of work.
pub(crate) struct Job {
    /// Stops the guest in it, if it runs one, when the executor shuts down.
    pub(crate) stop: Option<StopHandle>,
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

struct Shared {
    threads_max: usize,
    thread_idle: Duration,
    pool: Mutex<Pool>,
    work: Condvar,
    live: watch::Sender<usize>,
}

#[derive(Default)]
struct Pool {
    queue: VecDeque<Job>,
    idle: usize,
    /// Live threads, each with what stops the guest it runs.
    threads: HashMap<u64, Thread>,
    /// Threads that went away by themselves, still to be joined.
    gone: Vec<JoinHandle<()>>,
    started: u64,
    is_stopping: bool,
}

struct Thread {
    handle: JoinHandle<()>,
    running: Option<StopHandle>,
}

impl Executor {
    /// A pool of at most `threads_max` threads, each of which leaves after `thread_idle` without work.
    pub(crate) fn new(threads_max: usize, thread_idle: Duration) -> Self {
        let (threads_max, thread_idle) = (threads_max.max(1), thread_idle.max(Duration::from_millis(1)));
        let (pool, work, live) = (Mutex::default(), Condvar::new(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { threads_max, thread_idle, pool, work, live }) }
    }

    /// Queues `job` for the next free thread, starting one if none is.
    ///
    /// # Errors
    /// [`Refused`] when [`QUEUE_PER_THREAD`] jobs a thread wait already, or at shutdown; the job is dropped.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Refused> {
        let gone = {
            let mut pool = self.shared.lock();
            if pool.is_stopping || pool.queue.len() >= self.shared.threads_max.saturating_mul(QUEUE_PER_THREAD) {
                return Err(Refused);
            }
            pool.queue.push_back(job);
            if pool.queue.len() > pool.idle && pool.threads.len() < self.shared.threads_max {
                self.shared.start_thread(&mut pool);
            }
            if pool.threads.is_empty() {
                pool.queue.clear();
                return Err(Refused);
            }
            std::mem::take(&mut pool.gone)
        };
        self.shared.work.notify_one();
        // They have left their loop, so this does not wait.
        gone.into_iter().for_each(join);
        Ok(())
    }

    /// How many threads live now.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.shared.lock().threads.len()
    }

    /// How many threads run a guest now.
    #[cfg(test)]
    pub(crate) fn running(&self) -> usize {
        self.shared.lock().threads.values().filter(|thread| thread.running.is_some()).count()
    }

    /// Drops what is queued, stops the guests that run, and joins the threads. Returns false if some did not end by
    /// `deadline`: they are inside a compiler, and end with it.
    pub(crate) async fn shutdown(&self, deadline: Instant) -> bool {
        let (queue, guests) = {
            let mut pool = self.shared.lock();
            pool.is_stopping = true;
            let guests: Vec<_> = pool.threads.values().filter_map(|thread| thread.running.clone()).collect();
            (std::mem::take(&mut pool.queue), guests)
        };
        self.shared.work.notify_all();
        drop(queue);
        guests.iter().for_each(StopHandle::stop);
        let mut live = self.shared.live.subscribe();
        let ended = timeout_at(deadline, live.wait_for(|live| *live == 0)).await.is_ok();
        let gone = std::mem::take(&mut self.shared.lock().gone);
        gone.into_iter().for_each(join);
        if !ended {
            warn!(threads = *self.shared.live.borrow(), "threads did not end by the deadline");
        }
        ended
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics while it holds the lock, and the pool is consistent at every step.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_thread(self: &Arc<Self>, pool: &mut Pool) {
        pool.started += 1;
        let (id, shared) = (pool.started, self.clone());
        let named = thread::Builder::new().name(format!("skein-guest-{id}")).stack_size(STACK_BYTES);
        match named.spawn(move || shared.run(id)) {
            Ok(handle) => {
                pool.threads.insert(id, Thread { handle, running: None });
                self.report(pool);
            }
            // The threads there are go on; the job waits for one of them.
            Err(failed) => error!(error = %failed, threads = pool.threads.len(), "no further thread could be started"),
        }
    }

    /// One thread's life.
    fn run(&self, id: u64) {
        while let Some(job) = self.next(id) {
            if catch_unwind(AssertUnwindSafe(job.work)).is_err() {
                error!("a job of the executor panicked");
            }
            if let Some(thread) = self.lock().threads.get_mut(&id) {
                thread.running = None;
            }
        }
        let mut pool = self.lock();
        if let Some(thread) = pool.threads.remove(&id) {
            pool.gone.push(thread.handle);
        }
        self.report(&pool);
    }

    /// The next job for thread `id`; none when it is to end.
    fn next(&self, id: u64) -> Option<Job> {
        let mut pool = self.lock();
        loop {
            if pool.is_stopping {
                return None;
            }
            if let Some(job) = pool.queue.pop_front() {
                if let Some(thread) = pool.threads.get_mut(&id) {
                    thread.running.clone_from(&job.stop);
                }
                return Some(job);
            }
            pool.idle += 1;
            let (woken, timed_out) =
                self.work.wait_timeout(pool, self.thread_idle).unwrap_or_else(PoisonError::into_inner);
            pool = woken;
            pool.idle -= 1;
            if timed_out.timed_out() && pool.queue.is_empty() {
                return None;
            }
        }
    }

    fn report(&self, pool: &Pool) {
        self.live.send_replace(pool.threads.len());
        crate::metrics::threads(pool.threads.len());
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a thread of the executor panicked");
    }
}

/// Jobs that may wait per thread: with the permits of each version before it, this only fills when very many versions
/// are busy at once.
const QUEUE_PER_THREAD: usize = 4;

/// Guests have stacks of their own; the engine says that 2 MiB are plenty for the host code beneath them. Reserved, not
/// touched: an idle thread uses a few KiB of it.
const STACK_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests;
