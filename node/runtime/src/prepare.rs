//! Makes a version ready to be called: its bytes fetched, its code compiled, its program loaded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use skein_catalog::VersionRecord;
use skein_engine::{Engine, NoRoom, Program, Room};
use skein_proto::{Digest, ErrorCode, Failure};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, trace};

use crate::{
    CodeSource,
    activation::name,
    executor::{Executor, Job},
    metrics,
    room::{LOAD_PATIENCE, Rooms},
    turns::{Turn, Turns},
};

/// What a preparer works with.
pub(crate) struct Arguments {
    pub(crate) engine: Engine,
    pub(crate) source: Arc<dyn CodeSource>,
    pub(crate) executor: Executor,
    /// Where the preparations run, so that shutdown can wait for them.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
    /// How many are compiled at a time.
    pub(crate) parallel: usize,
    /// Where the memory for it comes from.
    pub(crate) rooms: Rooms,
}

/// Prepares and loads versions. A handle: clones share the work at hand.
#[derive(Clone)]
pub(crate) struct Preparer {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    source: Arc<dyn CodeSource>,
    executor: Executor,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// For fetching from peers. Apart, since a slow peer takes nothing that a compilation needs.
    fetches: Turns,
    /// For compiling.
    turns: Turns,
    /// For loads of what is prepared.
    loads: Turns,
    rooms: Rooms,
    /// The preparations under way, so that everybody who wants one digest waits for the same one.
    flights: Mutex<HashMap<Digest, Flight>>,
}

/// A program that is ready to be called.
pub(crate) struct Loaded {
    pub(crate) program: Arc<Program>,
    /// What loading it took, without what it had to wait for.
    pub(crate) time: Duration,
}

/// One preparation, as those who wait for it see it; none until it has ended.
type Flight = watch::Receiver<Option<Result<(), Failure>>>;

impl Preparer {
    pub(crate) fn new(arguments: Arguments) -> Self {
        let Arguments { engine, source, executor, tasks, stop, parallel, rooms } = arguments;
        let (fetches, turns, loads) = (Turns::new(FETCHES_PARALLEL), Turns::new(parallel), Turns::new(LOADS_PARALLEL));
        let flights = Mutex::default();
        let shared = Shared { engine, source, executor, tasks, stop, fetches, turns, loads, rooms, flights };
        Self { shared: Arc::new(shared) }
    }

    /// True if the compiled code of `digest` is on this node.
    pub(crate) fn is_prepared(&self, digest: Digest) -> bool {
        self.shared.engine.is_cached(digest)
    }

    /// Memory for the code of `digest`, if that is compiled and there is plenty; nobody is asked to let go of anything.
    pub(crate) fn spare(&self, digest: Digest) -> Option<Room> {
        if self.is_prepared(digest) { self.shared.engine.spare_to_load(digest) } else { None }
    }

    /// Has the compiled code on this node. Callers for the same digest share one preparation, which goes on when they
    /// give up.
    pub(crate) async fn prepare(&self, record: &Arc<VersionRecord>, deadline: Instant) -> Result<(), Failure> {
        if self.is_prepared(record.digest) {
            return Ok(());
        }
        let mut flight = self.join(record);
        let ended = timeout_at(deadline, flight.wait_for(Option::is_some)).await;
        match ended.map(|outcome| outcome.ok().and_then(|outcome| outcome.clone())) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                Err(Failure::not_executed(ErrorCode::Internal, format!("preparing {} broke off", name(record))))
            }
            Err(_) => {
                let message = format!("{} was not prepared by the deadline", name(record));
                Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message))
            }
        }
    }

    /// The program of a version, prepared first if it is not; in `room`, if memory is set aside for it already.
    pub(crate) async fn load(&self, record: Arc<VersionRecord>, room: Option<Room>) -> Result<Loaded, Failure> {
        let deadline = Instant::now() + START_MAX;
        self.prepare(&record, deadline).await?;
        let (shared, runtime) = (self.shared.clone(), Handle::current());
        let take = || self.shared.engine.room_to_load(record.digest);
        let (_turn, room) = match room {
            Some(room) => (shared.loads.take(&record.manifest).await?, room),
            None => shared.turn_and_room(&shared.loads, &record, &mut Patience::default(), take).await?,
        };
        on_thread(&self.shared.executor, move || {
            // Only an artefact that turns out unsound is compiled again, and needs the bytes for it.
            let code = || runtime.block_on(shared.code(&record, deadline.min(Instant::now() + FETCH_MAX)));
            let began = Instant::now();
            let program = shared.engine.load(record.digest, &record.manifest, code)?;
            room.settle();
            Ok(Loaded { program, time: began.elapsed() })
        })
        .await
    }

    /// Drops half of the instances that nobody has used for `idle`, again and again, until the runtime stops.
    pub(crate) async fn trim(self, idle: Duration) {
        let mut ticks = interval(idle / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let engine = self.shared.engine.clone();
            // Unmapping thousands of them takes a while.
            let trimmed = tokio::task::spawn_blocking(move || engine.shrink(idle)).await;
            trimmed.inspect(|count| trace!(count, "idle instances dropped")).ok();
        }
    }

    fn join(&self, record: &Arc<VersionRecord>) -> Flight {
        let mut flights = self.shared.flights();
        if let Some(flight) = flights.get(&record.digest) {
            return flight.clone();
        }
        let (outcome, flight) = watch::channel(None);
        flights.insert(record.digest, flight.clone());
        // A task that its runtime does not take any more is dropped here and now, and its landing looks at the flights.
        drop(flights);
        let landing = Landing { shared: self.shared.clone(), digest: record.digest, outcome };
        let (shared, record) = (self.shared.clone(), record.clone());
        self.shared.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = shared.fly(&record) => ended,
                () = shared.stop.cancelled() => Err(stopping()),
            };
            metrics::prepared(ended.as_ref().err().map(|failure| failure.code));
            landing.lands(ended);
        });
        flight
    }
}

/// How long may still be waited for memory, at all that is done for one preparation together.
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(LOAD_PATIENCE)
    }
}

impl Patience {
    /// A wait is over that could have lasted until then.
    fn waited(&mut self, until: Option<Instant>) {
        if let Some(until) = until {
            self.0 = until.saturating_duration_since(Instant::now());
        }
    }
}

/// The end of a flight, however it comes: after it the next caller begins a new one.
struct Landing {
    shared: Arc<Shared>,
    digest: Digest,
    outcome: watch::Sender<Option<Result<(), Failure>>>,
}

impl Landing {
    fn lands(self, ended: Result<(), Failure>) {
        // Whoever comes now sees what has become of it on this node.
        self.shared.flights().remove(&self.digest);
        self.outcome.send_replace(Some(ended));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // One that broke off told nobody: those who wait see that it is gone.
        let mut flights = self.shared.flights();
        if flights.get(&self.digest).is_some_and(|flight| flight.same_channel(&self.outcome.subscribe())) {
            flights.remove(&self.digest);
        }
    }
}

impl Shared {
    async fn fly(self: &Arc<Self>, record: &Arc<VersionRecord>) -> Result<(), Failure> {
        let mut patience = Patience::default();
        self.fetch(record, &mut patience).await?;
        let wanted = COMPILE_BYTES_EACH.saturating_mul(record.size).saturating_add(COMPILE_BYTES_MIN);
        let (_turn, _room) =
            self.turn_and_room(&self.turns, record, &mut patience, || self.engine.room(wanted)).await?;
        // An earlier flight may have landed between its caller's look and this one.
        if self.engine.is_cached(record.digest) {
            return Ok(());
        }
        // From this node's disk, unless it was damaged there in between.
        let code = self.code(record, Instant::now() + FETCH_MAX).await?;
        let (shared, digest, wanted) = (self.clone(), record.digest, record.clone());
        let prepared =
            on_thread(&self.executor, move || Ok(shared.engine.prepare(digest, &wanted.manifest, &code)?)).await?;
        let (was_cached, compile_ms) = (prepared.was_cached, prepared.compile.as_millis());
        debug!(function = %name(record), %digest, was_cached, compile_ms, "version is prepared");
        Ok(())
    }

    /// Has the bytes on this node. What is here waits for nobody who fetches.
    async fn fetch(&self, record: &VersionRecord, patience: &mut Patience) -> Result<(), Failure> {
        if self.source.has(record) {
            return Ok(());
        }
        let (_turn, _room) =
            self.turn_and_room(&self.fetches, record, patience, || self.engine.room(record.size)).await?;
        self.code(record, Instant::now() + FETCH_MAX).await.map(drop)
    }

    /// A turn, and the memory that what it is for takes. Who finds no memory waits for it without the turn, and whoever
    /// waits for a turn holds no memory.
    async fn turn_and_room(
        &self,
        turns: &Turns,
        record: &VersionRecord,
        patience: &mut Patience,
        take: impl Fn() -> Result<Room, NoRoom>,
    ) -> Result<(Turn, Room), Failure> {
        let mut until = None;
        loop {
            let turn = turns.take(&record.manifest).await?;
            if let Ok(room) = take() {
                patience.waited(until);
                return Ok((turn, room));
            }
            drop(turn);
            let until = *until.get_or_insert_with(|| Instant::now() + patience.0);
            // It was there, and went to somebody else before the turn came: as often as there is time for.
            drop(self.rooms.find(&take, until).await?);
            if Instant::now() >= until {
                patience.waited(Some(until));
                let turn = turns.take(&record.manifest).await?;
                return Ok((turn, self.rooms.find(&take, until).await?));
            }
        }
    }

    async fn code(&self, record: &VersionRecord, deadline: Instant) -> Result<Bytes, Failure> {
        let fetched = timeout_at(deadline, self.source.code(record, deadline)).await;
        fetched.unwrap_or_else(|_| {
            let message = format!("the code of {} did not arrive in time", name(record));
            Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, message))
        })
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Flight>> {
        // A map insertion or removal is all that ever happens under the lock.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopping() -> Failure {
    Failure::not_executed(ErrorCode::Draining, "this node is stopping")
}

/// Runs blocking work on a thread of the executor.
async fn on_thread<T: Send + 'static>(
    executor: &Executor,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, outcome) = oneshot::channel();
    let work = move || {
        // Whoever waited may have gone.
        let _ = done.send(work());
    };
    // Calls wait for it, nested ones among them.
    let job = Job { stop: None, is_nested: true, work: Box::new(work) };
    executor
        .submit(job)
        .map_err(|_| Failure::not_executed(ErrorCode::Overloaded, "all threads of this node are busy"))?;
    let broken = |_| Failure::not_executed(ErrorCode::Internal, "the engine broke while it prepared the code");
    outcome.await.map_err(broken)?
}

/// What preparing a module takes in this process for each byte of it, besides the process that compiles: its bytes, the
/// rewritten ones, and the machine code on its way to the disk.
const COMPILE_BYTES_EACH: u64 = 6;
const COMPILE_BYTES_MIN: u64 = 1 << 20;

/// Longest fetch of one artifact: 64 MiB over a slow link.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// Artifacts fetched at a time, each at most 64 MiB in memory for as long as it arrives: enough that some slow peers keep
/// nobody else waiting.
const FETCHES_PARALLEL: usize = 8;

/// Programs loaded at a time: each takes a thread for some milliseconds.
const LOADS_PARALLEL: usize = 8;

/// Longest start of an activation: a fetch and a large compilation, with others before them.
const START_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
    };

    use skein_catalog::Catalog;
    use skein_engine::EngineConfig;

    use super::*;
    use crate::{
        executor::Bounds,
        table::Table,
        testing::{Store, manifest, publish},
    };

    /// A preparer without any code, and a version.
    fn preparer(cache: &Path) -> (Preparer, Arc<VersionRecord>) {
        let engine = Engine::open(EngineConfig::new(cache)).unwrap();
        let (tasks, bounds) =
            (TaskTracker::new(), Bounds { running_max: 1, waiting_max: 1, thread_idle: LOAD_PATIENCE });
        let preparer = Preparer::new(Arguments {
            engine: engine.clone(),
            source: Arc::new(Store::default()),
            executor: Executor::new(bounds),
            tasks: tasks.clone(),
            stop: CancellationToken::new(),
            parallel: 1,
            rooms: Rooms::new(engine, Arc::new(Table::new()), tasks),
        });
        let mut catalog = Catalog::default();
        let version = publish(&mut catalog, manifest("large"), b"1", true);
        (preparer, catalog.version(version).unwrap().clone())
    }

    #[test]
    fn a_preparation_that_its_runtime_does_not_take_any_more_breaks_off() {
        let cache = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (preparer, record) = preparer(cache.path());
        let (entered, (tell, told)) = (runtime.handle().clone(), std::sync::mpsc::channel());
        drop(runtime);
        // On a thread of its own, so that it fails and does not hang should it wait for itself.
        std::thread::spawn(move || {
            let _entered = entered.enter();
            let flight = preparer.join(&record);
            let _ = tell.send((flight.has_changed().is_err(), preparer.shared.flights().is_empty()));
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok((true, true)));
    }

    #[tokio::test]
    async fn what_waits_for_memory_has_no_turn_that_others_need() {
        let cache = tempfile::tempdir().unwrap();
        let (preparer, record) = preparer(cache.path());
        let is_free = Arc::new(AtomicBool::new(false));
        let (shared, free) = (preparer.shared.clone(), is_free.clone());
        let waits = tokio::spawn(async move {
            let none = NoRoom { wanted: 1, missing: 1, budget: u64::MAX };
            let take = || if free.load(SeqCst) { shared.engine.room(1) } else { Err(none) };
            shared.turn_and_room(&shared.turns, &record, &mut Patience::default(), take).await.map(drop)
        });
        // As often as there is a look: the only turn is free, and whoever is small has it at once.
        for _ in 0..3 {
            tokio::task::yield_now().await;
            drop(preparer.shared.turns.take(&manifest("small")).await.unwrap());
        }
        let turn = preparer.shared.turns.take(&manifest("small")).await.unwrap();
        is_free.store(true, SeqCst);
        drop(turn);
        waits.await.unwrap().unwrap();
    }
}
