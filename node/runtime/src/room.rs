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
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
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
    /// Where rounds run, so that shutdown can wait for them.
    tasks: TaskTracker,
    /// One round at a time lets go of things: what suffices for one call may suffice for all.
    turn: Arc<Semaphore>,
    /// The rounds that have ended. All who wait for room look again after each.
    rounds: watch::Sender<u64>,
}

impl Rooms {
    pub(crate) fn new(engine: Engine, table: Arc<Table>, tasks: TaskTracker) -> Self {
        let (turn, rounds) = (Arc::new(Semaphore::new(1)), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { engine, table, supervisor: OnceLock::new(), tasks, turn, rounds }) }
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

    /// Waits for rounds, each of which lets go of something or lets a moment pass, and looks after each of them and when
    /// the time is up. It holds nothing meanwhile: a round is a task of its own, and ends whoever waits for it.
    async fn make(
        &self,
        take: impl Fn() -> Result<Room, NoRoom>,
        mut short: NoRoom,
        until: Instant,
    ) -> Result<Room, Failure> {
        let mut rounds = self.shared.rounds.subscribe();
        // What is larger than the budget need not wait.
        while short.wanted < short.budget && Instant::now() < until {
            self.begin_round(short.missing);
            let _ = timeout_at(until, rounds.changed()).await;
            match take() {
                Ok(room) => return Ok(room),
                Err(error) => short = error,
            }
        }
        metrics::no_room();
        Err(refusal(short))
    }

    /// Begins a round for `missing` bytes, unless one is under way.
    fn begin_round(&self, missing: u64) {
        let Ok(turn) = self.shared.turn.clone().try_acquire_owned() else { return };
        let rooms = self.clone();
        self.shared.tasks.spawn(async move {
            if rooms.relieve(missing).await == 0 {
                sleep(PAUSE).await;
            }
            drop(turn);
            rooms.shared.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
        });
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
                // One that is under way does the same.
                self.begin_round(wanted);
                sleep(PAUSE).await;
            }
        }
    }
}

fn refusal(short: NoRoom) -> Failure {
    let message = format!("this node's memory is used up: {short}; see `--memory`");
    Failure { lacks_memory: true, ..Failure::not_executed(ErrorCode::Overloaded, message) }.retry_after(RETRY_AFTER)
}

/// Between two looks at the process. What the books do not see in between has a sixteenth of the budget to grow into.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Before a look that follows one that found nothing to let go of: calls end in the meantime.
const PAUSE: Duration = Duration::from_millis(10);

/// At least this part of the budget is let go of at a time, so that not every new activation costs a round of it.
const BATCH: u64 = 64;

/// Longest wait for evicted activations: those that turn out to have a call are not waited for, the others stop at once.
const EVICTION_MAX: Duration = Duration::from_secs(2);

/// How often the allocator is told to give back what idle activations have left.
const RELEASE_PERIOD: Duration = Duration::from_secs(5);

/// How long a call may wait for memory to begin with. Callers are told within a tenth of a second.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_millis(80);

/// How long the start of a version may wait for it, without holding anybody's turn: the calls that wait for the start
/// would have to load it elsewhere, which takes as long.
pub(crate) const LOAD_PATIENCE: Duration = Duration::from_secs(2);

/// When memory is likely to be there that was not: a few looks later.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use skein_engine::EngineConfig;

    use super::*;

    struct Bench {
        engine: Engine,
        rooms: Rooms,
        _cache: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let cache = tempfile::tempdir().unwrap();
        let engine = Engine::open(EngineConfig::new(cache.path())).unwrap();
        let rooms = Rooms::new(engine.clone(), Arc::new(Table::new()), TaskTracker::new());
        Bench { engine, rooms, _cache: cache }
    }

    fn short() -> NoRoom {
        NoRoom { wanted: 1, missing: 1, budget: u64::MAX }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_is_there_when_the_time_is_up_is_taken() {
        let bench = bench();
        // Somebody else's round is under way for as long as this call may wait.
        let _turn = bench.rooms.shared.turn.clone().try_acquire_owned().unwrap();
        let looks = AtomicUsize::new(0);
        let take = || match looks.fetch_add(1, Relaxed) {
            0 => Err(short()),
            _ => bench.engine.room(1).map_err(|_| short()),
        };
        assert!(bench.rooms.find(take, Instant::now() + CALL_PATIENCE).await.is_ok());
        assert_eq!(looks.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_look_after_each_round() {
        let bench = bench();
        let is_free = Arc::new(AtomicBool::new(false));
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let (rooms, engine, is_free) = (bench.rooms.clone(), bench.engine.clone(), is_free.clone());
                tokio::spawn(async move {
                    let take = || if is_free.load(Relaxed) { engine.room(1) } else { Err(short()) };
                    rooms.find(take, Instant::now() + CALL_PATIENCE).await
                })
            })
            .collect();
        while bench.rooms.shared.rounds.receiver_count() < waiting.len() {
            tokio::task::yield_now().await;
        }
        is_free.store(true, Relaxed);
        for waits in waiting {
            assert!(waits.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_ends_and_frees_its_turn_whoever_has_gone_meanwhile() {
        let bench = bench();
        let rooms = bench.rooms.clone();
        let hasty = tokio::spawn(async move { rooms.find(|| Err(short()), Instant::now() + CALL_PATIENCE).await });
        while bench.rooms.shared.turn.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        hasty.abort();
        assert!(hasty.await.unwrap_err().is_cancelled());
        bench.rooms.shared.tasks.close();
        bench.rooms.shared.tasks.wait().await;
        assert_eq!(bench.rooms.shared.turn.available_permits(), 1);
    }
}
