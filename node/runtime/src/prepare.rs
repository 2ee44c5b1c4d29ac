//! Makes a version ready to be called: its bytes fetched, its code compiled, its program loaded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use skein_catalog::VersionRecord;
use skein_engine::{Engine, Program, Room};
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
    turns::Turns,
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
    /// How many at a time.
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
    /// For preparations.
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
        let (turns, loads) = (Turns::new(parallel), Turns::new(LOADS_PARALLEL));
        let flights = Mutex::default();
        Self { shared: Arc::new(Shared { engine, source, executor, tasks, stop, turns, loads, rooms, flights }) }
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
        let _turn = self.shared.loads.take(&record.manifest).await?;
        let take = || self.shared.engine.room_to_load(record.digest);
        let room = match room {
            Some(room) => room,
            None => self.shared.rooms.find(take, Instant::now() + LOAD_PATIENCE).await?,
        };
        on_thread(&self.shared.executor, move || {
            // Only an artefact that turns out unsound is compiled again, and needs the bytes for it.
            let code = || runtime.block_on(shared.code(&record, deadline));
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
        let (shared, record) = (self.shared.clone(), record.clone());
        self.shared.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = shared.fly(&record) => ended,
                () = shared.stop.cancelled() => Err(stopping()),
            };
            metrics::prepared(ended.as_ref().err().map(|failure| failure.code));
            shared.flights().remove(&record.digest);
            outcome.send_replace(Some(ended));
        });
        flight
    }
}

impl Shared {
    async fn fly(self: &Arc<Self>, record: &Arc<VersionRecord>) -> Result<(), Failure> {
        let _turn = self.turns.take(&record.manifest).await?;
        // An earlier flight may have landed between its caller's look and this one.
        if self.engine.is_cached(record.digest) {
            return Ok(());
        }
        let wanted = COMPILE_BYTES_MIN + COMPILE_BYTES_EACH * record.size;
        let _room = self.rooms.find(|| self.engine.room(wanted), Instant::now() + LOAD_PATIENCE).await?;
        let code = self.code(record, Instant::now() + FETCH_MAX).await?;
        let (shared, digest, wanted) = (self.clone(), record.digest, record.clone());
        let prepared =
            on_thread(&self.executor, move || Ok(shared.engine.prepare(digest, &wanted.manifest, &code)?)).await?;
        let (was_cached, compile_ms) = (prepared.was_cached, prepared.compile.as_millis());
        debug!(function = %name(record), %digest, was_cached, compile_ms, "version is prepared");
        Ok(())
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
    let job = Job { stop: None, depth: 0, work: Box::new(work) };
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

/// Programs loaded at a time: each takes a thread for some milliseconds.
const LOADS_PARALLEL: usize = 8;

/// Longest start of an activation: a fetch and a large compilation, with others before them.
const START_MAX: Duration = Duration::from_secs(120);
