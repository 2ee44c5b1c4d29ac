//! The node's memory: looks at it, lets go of what nobody uses when it is short, and finds room for what is to begin.
//!
//! The books are the engine's. The order in which things leave is fixed: idle instances, which come back in
//! microseconds, then idle activations, whose compiled code stays on disk. What runs is never stopped for it. A call for
//! which all that does not suffice is refused before it begins.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ractor::{ActorRef, rpc::CallResult};
use skein_engine::{Engine, Memory, NoRoom, Room};
use skein_placement::evict::{Level, Relief};
use skein_proto::{ErrorCode, Failure};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{metrics, supervisor, table::Table};

/// What the clock of the eviction shows: the value of the last activation that left.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

/// Finds room. A handle: clones share it.
#[derive(Clone)]
pub(crate) struct Rooms {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    table: Arc<Table>,
    supervisor: OnceLock<ActorRef<supervisor::Message>>,
    /// One at a time lets go of things: what suffices for one may suffice for all.
    turn: Semaphore,
}

impl Rooms {
    pub(crate) fn new(engine: Engine, table: Arc<Table>) -> Self {
        Self { shared: Arc::new(Shared { engine, table, supervisor: OnceLock::new(), turn: Semaphore::new(1) }) }
    }

    /// Says who evicts. Until then nothing is.
    pub(crate) fn connect(&self, supervisor: ActorRef<supervisor::Message>) {
        let _ = self.shared.supervisor.set(supervisor);
    }

    /// What `take` sets aside, if need be after others have let go of theirs, `until` at the latest.
    ///
    /// # Errors
    /// `overloaded`, not executed.
    pub(crate) async fn find(&self, take: impl Fn() -> Result<Room, NoRoom>, until: Instant) -> Result<Room, Failure> {
        match take() {
            Ok(room) => Ok(room),
            Err(short) => Box::pin(self.make(take, short, until)).await,
        }
    }

    async fn make(
        &self,
        take: impl Fn() -> Result<Room, NoRoom>,
        mut short: NoRoom,
        until: Instant,
    ) -> Result<Room, Failure> {
        // What is larger than the budget need not wait.
        while short.wanted < short.budget
            && let Ok(Ok(_turn)) = timeout_at(until, self.shared.turn.acquire()).await
        {
            // Whoever had the turn before may have done enough for all.
            match take() {
                Ok(room) => return Ok(room),
                Err(error) => short = error,
            }
            if Instant::now() >= until {
                break;
            }
            if self.relieve(short.missing).await == 0 {
                sleep(PAUSE).await;
            }
        }
        metrics::no_room();
        Err(refusal(short))
    }

    /// Has idle instances, and then idle activations leave so that about `wanted` bytes are free; says how much that was
    /// by the books.
    async fn relieve(&self, wanted: u64) -> u64 {
        let shared = &self.shared;
        let wanted = wanted.max(shared.engine.memory().budget / BATCH);
        let before = shared.engine.memory();
        let trimmed = self.blocking(|engine| engine.trim(Duration::ZERO)).await;
        metrics::trimmed(trimmed);
        let now = self.look(trimmed > 0).await;
        let freed = before.committed().saturating_sub(now.committed());
        if freed >= wanted {
            return freed;
        }
        let Some(supervisor) = shared.supervisor.get() else { return freed };
        let asked = supervisor.call(|reply| supervisor::Message::Evict(wanted - freed, reply), Some(EVICTION_MAX));
        let evicted = match asked.await {
            Ok(CallResult::Success(bytes)) => bytes,
            _ => 0,
        };
        if evicted > 0 {
            self.look(true).await;
        }
        debug!(wanted, trimmed, evicted, "let go of memory");
        freed + evicted
    }

    /// Looks at the process, after the allocator has given back what is free if something `has_gone`.
    async fn look(&self, has_gone: bool) -> Memory {
        let memory = self.blocking(move |engine| {
            if has_gone {
                engine.release_memory();
            }
            engine.observe()
        });
        memory.await
    }

    async fn blocking<T: Send + Default + 'static>(&self, work: impl FnOnce(Engine) -> T + Send + 'static) -> T {
        let engine = self.shared.engine.clone();
        // It fails only while the process ends.
        tokio::task::spawn_blocking(move || work(engine)).await.unwrap_or_default()
    }

    /// Looks again and again, and keeps the process below its budget, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut relief, mut live, mut released) = (Relief::default(), 0, Instant::now());
        loop {
            let has_refused = tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.engine.short_of_memory() => true,
                _ = ticks.tick() => false,
            };
            let now = self.shared.table.live();
            // What has idled out is the allocator's until it is told to give it back.
            let is_due = now < live && released.elapsed() >= RELEASE_PERIOD;
            if is_due {
                released = Instant::now();
                live = now;
            }
            live = live.max(now);
            let memory = self.look(is_due).await;
            metrics::memory(&memory);
            let level = Level { resident: memory.resident, budget: memory.budget, has_refused };
            if let Some(wanted) = relief.wanted(level) {
                // Who is in line for a turn would do the same.
                if let Ok(_turn) = self.shared.turn.try_acquire() {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = self.relieve(wanted) => {}
                    }
                }
                sleep(PAUSE).await;
            }
        }
    }
}

fn refusal(short: NoRoom) -> Failure {
    let message = format!("this node's memory is used up: {short}; see `--memory`");
    Failure::not_executed(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER)
}

/// Between two looks at the process. What the books do not see in between has a sixteenth of the budget to grow into.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Before a look that follows one that found nothing to let go of: calls end in the meantime.
const PAUSE: Duration = Duration::from_millis(10);

/// At least this part of the budget is let go of at a time, so that not every new activation costs a round of it.
const BATCH: u64 = 64;

/// Longest wait for evicted activations, which have no calls and stop at once.
const EVICTION_MAX: Duration = Duration::from_secs(2);

/// How often the allocator is told to give back what idle activations have left.
const RELEASE_PERIOD: Duration = Duration::from_secs(5);

/// How long a call may wait for memory to begin with. Callers are told within a tenth of a second.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_millis(80);

/// How long the start of a version may wait for it: others that start have to be loaded before.
pub(crate) const LOAD_PATIENCE: Duration = Duration::from_secs(2);

/// When memory is likely to be there that was not: a few looks later.
const RETRY_AFTER: Duration = Duration::from_millis(500);
