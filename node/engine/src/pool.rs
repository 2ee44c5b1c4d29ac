//! The instances of a program that nobody uses at the moment, kept for the next call.

use std::{
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::metrics::Gauge;

use crate::{clock, husk::Husk, metrics, stop::lock};

/// The idle instances of one program; the one that was used last is used next.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
    idle_max: usize,
    /// How many stay however long they are idle.
    kept: AtomicUsize,
    /// Those of all pools. Looked up once: the recorder hashes the name to find it.
    all_idle: Gauge,
}

struct Idle {
    husk: Husk,
    since: Instant,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(idle_max: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            count: AtomicUsize::new(0),
            idle_max,
            kept: AtomicUsize::new(0),
            all_idle: ::metrics::gauge!(metrics::INSTANCES_IDLE),
        })
    }

    /// What they hold: each `each`, and the pages of its memory that calls have written.
    pub(crate) fn bytes(&self, each: u64) -> u64 {
        if self.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        lock(&self.idle).iter().map(|idle| each + idle.husk.slot().resting()).sum()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Has so many stay from now on, as far as there are any; only another program that finds no slot takes them.
    pub(crate) fn keep(&self, count: usize) {
        self.kept.store(count, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Option<Husk> {
        let idle = {
            let mut all = lock(&self.idle);
            let idle = all.pop();
            self.count.store(all.len(), Ordering::Relaxed);
            idle
        }?;
        self.all_idle.decrement(1.0);
        Some(idle.husk)
    }

    /// Keeps `husk`, unless there are enough.
    pub(crate) fn put(&self, husk: Husk) {
        let idle = Idle { husk, since: clock::now() };
        let mut all = lock(&self.idle);
        if all.len() < self.idle_max {
            all.push(idle);
            self.count.store(all.len(), Ordering::Relaxed);
            drop(all);
            self.all_idle.increment(1.0);
        } else {
            // Unmapping takes longer than others should wait.
            drop(all);
            drop(idle);
        }
    }

    /// Drops what has been idle for `age` and longer, but for those that are kept; says how many.
    pub(crate) fn trim(&self, age: Duration) -> usize {
        self.drop_idle(age, |count| count)
    }

    /// As [`Pool::trim`], half of them: what idles together was busy together, and may be soon again.
    pub(crate) fn shrink(&self, age: Duration) -> usize {
        self.drop_idle(age, |count| count.div_ceil(2))
    }

    fn drop_idle(&self, age: Duration, part: fn(usize) -> usize) -> usize {
        let now = clock::now();
        let old = {
            let mut all = lock(&self.idle);
            // The longest idle ones are at the front.
            let young = all.iter().position(|idle| now.saturating_duration_since(idle.since) < age);
            let young = young.unwrap_or(all.len());
            let spare = all.len().saturating_sub(self.kept.load(Ordering::Relaxed));
            let old: Vec<_> = all.drain(..part(young.min(spare))).collect();
            self.count.store(all.len(), Ordering::Relaxed);
            old
        };
        self.all_idle.decrement(old.len() as f64);
        old.len()
    }

    fn oldest(&self) -> Option<Instant> {
        lock(&self.idle).first().map(|idle| idle.since)
    }

    /// Drops the one that has been idle longest; false if there is none.
    fn evict(&self) -> bool {
        let idle = {
            let mut all = lock(&self.idle);
            let idle = (!all.is_empty()).then(|| all.remove(0));
            self.count.store(all.len(), Ordering::Relaxed);
            idle
        };
        if idle.is_some() {
            self.all_idle.decrement(1.0);
            ::metrics::counter!(metrics::EVICTIONS).increment(1);
        }
        idle.is_some()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.keep(0);
        self.trim(Duration::ZERO);
    }
}

/// The pools of all programs of an engine.
#[derive(Debug, Default)]
pub(crate) struct Pools(Mutex<Vec<Weak<Pool>>>);

impl Pools {
    pub(crate) fn add(&self, pool: &Arc<Pool>) {
        let mut pools = lock(&self.0);
        // What has gone leaves room for what comes, at a constant cost each on average.
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(Arc::downgrade(pool));
    }

    /// Drops one instance that is idle: of all programs the one that was idle longest. False if there is none.
    pub(crate) fn evict(&self) -> bool {
        let mut looks = 0;
        while looks < LOOKS {
            match self.oldest() {
                Some(pool) if pool.evict() => return true,
                // Somebody else was quicker; there may be others.
                Some(_) => {}
                None => looks += 1,
            }
        }
        false
    }

    /// The pool whose instance has been idle longest.
    fn oldest(&self) -> Option<Arc<Pool>> {
        let some = self.all().into_iter().filter(|pool| pool.count.load(Ordering::Relaxed) > 0);
        let since = some.filter_map(|pool| pool.oldest().map(|since| (since, pool)));
        since.min_by_key(|(since, _)| *since).map(|(_, pool)| pool)
    }

    /// Drops what has been idle for `age` and longer; says how many.
    pub(crate) fn trim(&self, age: Duration) -> usize {
        let pools = self.all().into_iter().filter(|pool| pool.count.load(Ordering::Relaxed) > 0);
        pools.map(|pool| pool.trim(age)).sum()
    }

    /// Drops half of what has been idle for `age` and longer; says how many.
    pub(crate) fn shrink(&self, age: Duration) -> usize {
        let pools = self.all().into_iter().filter(|pool| pool.count.load(Ordering::Relaxed) > 0);
        pools.map(|pool| pool.shrink(age)).sum()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

/// How often nothing idle must be seen to say that there is nothing: pools are looked at one after another, and an
/// instance that comes home behind the look while another is taken in front of it is not seen.
const LOOKS: u32 = 3;
