//! The handle to a node's runtime.

mod guessing;
mod moving;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use ractor::{Actor, ActorRef, rpc::CallResult};
use skein_catalog::{VersionRecord, Watch};
use skein_engine::{Engine, Output, Program, Room};
use skein_placement::Line;
use skein_proto::{
    ErrorCode, Failure, Invocation, InvocationTarget, Invoke, Load, NodeId, Reply, Start, Usage, VersionId,
};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    ActivationState, ActivationStatus, CodeSource, Config, Egress, Kept,
    activation::{Activation, NoPermit, Permit, name},
    environment::{environment, is_seen},
    executor::Executor,
    guest::{BUSY_RETRY_AFTER, Guest, Ran},
    habits::Foresight,
    holds::moved,
    metrics::{self, micros},
    outward::Outside,
    prefetch::Prefetch,
    prepare::{self, Preparer},
    room::{CALL_PATIENCE, Rooms},
    supervisor::{self, Supervisor, check_place, draining},
    table::Table,
};

/// One node's live versions. A handle: clones share them.
///
/// It takes calls whose target is a version ([`InvocationTarget::Version`]); resolving names is the router's.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    catalog: Watch,
    table: Arc<Table>,
    executor: Executor,
    outside: Arc<Outside>,
    foresight: Arc<Foresight>,
    preparer: Preparer,
    rooms: Rooms,
    supervisor: ActorRef<supervisor::Message>,
    supervisor_task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Bounds the calls that wait in the supervisor's mailbox, which has no bound of its own.
    activating: Semaphore,
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A call that may run now.
struct Admitted {
    permit: Permit,
    program: Arc<Program>,
    room: Room,
    start: Start,
    queued: Duration,
    starting: Duration,
}

impl Runtime {
    /// Starts the runtime of one node: its supervisor, and the prefetch of what the catalogue holds.
    ///
    /// # Errors
    /// `internal` if the supervisor cannot be spawned.
    pub async fn start(
        config: Config,
        engine: Engine,
        code: Arc<dyn CodeSource>,
        catalog: Watch,
    ) -> Result<Self, Failure> {
        metrics::describe();
        let (tasks, stop, table) = (TaskTracker::new(), CancellationToken::new(), Arc::new(Table::new()));
        let executor = Executor::new(config.bounds());
        let rooms = Rooms::new(engine.clone(), table.clone(), tasks.clone());
        let preparer = Preparer::new(prepare::Arguments {
            engine,
            source: code,
            executor: executor.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            parallel: config.prepare_parallel,
            rooms: rooms.clone(),
        });
        let foresight = Arc::<Foresight>::default();
        let arguments = supervisor::Arguments {
            config: config.clone(),
            catalog: catalog.clone(),
            table: table.clone(),
            preparer: preparer.clone(),
            tasks: tasks.clone(),
            clock: Arc::default(),
            foresight: foresight.clone(),
        };
        // Unnamed, since ractor's names are the process's, and a test runs many nodes in one.
        let spawned = Actor::spawn(None, Supervisor, arguments).await;
        let (supervisor, task) =
            spawned.map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("supervisor: {error}")))?;
        rooms.connect(supervisor.clone());
        let prefetch = Prefetch {
            node: config.node,
            catalog: catalog.clone(),
            preparer: preparer.clone(),
            supervisor: supervisor.clone(),
            parallel: config.prefetch_parallel,
            stop: stop.clone(),
        };
        tasks.spawn(prefetch.run());
        tasks.spawn(tick(supervisor.clone(), config.idle_tick(), stop.clone()));
        tasks.spawn(preparer.clone().trim(config.instance_idle()));
        tasks.spawn(rooms.clone().watch(stop.clone()));
        Ok(Self {
            shared: Arc::new(Shared {
                node: config.node,
                catalog,
                table,
                outside: Outside::new(executor.clone(), tasks.clone()),
                foresight,
                executor,
                preparer,
                rooms,
                supervisor,
                supervisor_task: tokio::sync::Mutex::new(Some(task)),
                activating: Semaphore::new(ACTIVATING_MAX),
                is_draining: AtomicBool::new(false),
                is_stopping: AtomicBool::new(false),
                stop,
                tasks,
            }),
        })
    }

    /// Says where guests' own calls and HTTP requests go: to the node's router, and through `egress`. Until then, and
    /// without an egress, they are refused as `unavailable`. Only the first word counts.
    pub fn connect(&self, invoke: &Arc<dyn Invoke>, egress: Option<Arc<dyn Egress>>) {
        self.shared.outside.open(Arc::downgrade(invoke), egress);
    }

    /// Fetches and compiles a version, so that its first call finds it ready to load.
    ///
    /// # Errors
    /// `version-not-found`; `artifact-unavailable`; `bad-module`; `deadline-exceeded`, after which the preparation goes
    /// on. All not executed.
    pub async fn prepare(&self, version: VersionId, deadline: Instant) -> Result<(), Failure> {
        let record = self.shared.record(version, 0)?;
        self.shared.preparer.prepare(&record, deadline).await
    }

    /// Has these versions kept ready here, with so many instances each, and no others; beginning soon, and lasting until
    /// it is told otherwise.
    pub fn keep(&self, kept: Kept) {
        // Without a supervisor there is nothing to keep.
        let _ = self.shared.supervisor.cast(supervisor::Message::Keep(kept));
    }

    /// True if the version is in the catalogue and its compiled code is on this node.
    pub fn is_prepared(&self, version: VersionId) -> bool {
        let record = self.shared.catalog.borrow().version(version).cloned();
        record.is_some_and(|record| self.shared.preparer.is_prepared(record.digest))
    }

    /// The calls that wait for a permit of the version's activation here, at this moment; none if it has no activation
    /// that takes calls, or is about to.
    pub fn line(&self, version: VersionId) -> Option<Line> {
        self.shared.table.find(version).map(|activation| activation.line())
    }

    /// How busy this node's runtime is. CPU and memory are the assembly's to add.
    pub fn load(&self) -> Load {
        let mut activations = self.activations();
        let busiest = |status: &ActivationStatus| (status.busy_percent, status.in_flight);
        activations.sort_by_key(|status| (std::cmp::Reverse(busiest(status)), status.idle_ms));
        let warm = activations.iter().filter(|status| status.state == ActivationState::Ready).take(Load::WARM_MAX);
        Load {
            in_flight: activations.iter().map(|status| status.in_flight).sum(),
            queued: activations.iter().map(|status| status.queued).sum(),
            queue_age_ms: activations.iter().map(|status| status.queue_age_ms).max().unwrap_or(0),
            activations: u32::try_from(activations.len()).unwrap_or(u32::MAX),
            applied_index: self.shared.catalog.borrow().index(),
            is_draining: self.shared.is_draining.load(SeqCst),
            busy_percent: activations.iter().map(|status| status.busy_percent).sum(),
            warm: warm.clone().map(|s| (s.version.function.0, s.version.number)).collect(),
            warm_percent: warm.map(|s| u16::try_from(s.busy_percent).unwrap_or(u16::MAX)).collect(),
            ..Load::default()
        }
    }

    /// The activations that are not over, those that drain among them, in no order.
    pub fn activations(&self) -> Vec<ActivationStatus> {
        self.shared.table.all().iter().map(|activation| activation.status()).collect()
    }

    /// Takes no new calls, and waits until those that are here have ended and every activation has stopped. Returns
    /// false if some were left at `deadline`; they go on.
    pub async fn drain(&self, deadline: Instant) -> bool {
        self.shared.is_draining.store(true, SeqCst);
        let drained = self.shared.supervisor.call(supervisor::Message::Drain, None);
        match timeout_at(deadline, drained).await {
            Ok(Ok(CallResult::Success(()))) => true,
            // No supervisor: it was shut down before, with all its activations.
            Ok(_) => self.shared.table.all().is_empty(),
            Err(_) => false,
        }
    }

    /// Takes calls again after [`Runtime::drain`].
    pub fn resume(&self) {
        if !self.shared.is_stopping.load(SeqCst) {
            // In this order, so that no call passes the door before the supervisor starts activations again.
            let _ = self.shared.supervisor.cast(supervisor::Message::Resume);
            self.shared.is_draining.store(false, SeqCst);
        }
    }

    /// Drains until `deadline`, then stops the guests that still run, and joins every thread and task. Calling it again
    /// does nothing.
    pub async fn shutdown(&self, deadline: Instant) {
        let shared = &self.shared;
        self.drain(deadline).await;
        shared.is_stopping.store(true, SeqCst);
        shared.stop.cancel();
        let stopped_by = deadline.max(Instant::now()) + STOP_GRACE;
        shared.executor.shutdown(stopped_by).await;
        shared.supervisor.stop(None);
        let task = shared.supervisor_task.lock().await.take();
        if let Some(task) = task {
            let _ = timeout_at(stopped_by, task).await;
        }
        shared.tasks.close();
        let _ = timeout_at(stopped_by, shared.tasks.wait()).await;
    }
}

#[async_trait]
impl Invoke for Runtime {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        let InvocationTarget::Version(version) = invocation.target else {
            let message = "a runtime takes versions; names are for the router to resolve";
            return Err(Failure::not_executed(ErrorCode::BadRequest, message));
        };
        self.shared.invoke(version, &invocation).await
    }
}

impl Shared {
    async fn invoke(&self, version: VersionId, invocation: &Invocation) -> Result<Reply, Failure> {
        let admitted = self.admit(version, invocation).await?;
        let activation = admitted.permit.activation().clone();
        let outcome = self.run(admitted, &activation, invocation).await;
        activation.meters.ended(outcome.as_ref().err().map(|failure| failure.code));
        outcome
    }

    /// Gets a call its permit and its program: at once if the version is live and has a permit left.
    async fn admit(&self, version: VersionId, invocation: &Invocation) -> Result<Admitted, Failure> {
        let arrived = Instant::now();
        // An activation may stop between being found and giving a permit; then its successor is asked.
        for _ in 0..ADMIT_ATTEMPTS {
            let (activation, found) = self.activation(version, invocation).await?;
            let asked = Instant::now();
            let permit = match activation.permit(invocation.deadline, invocation.depth).await {
                Ok(permit) => permit,
                Err(NoPermit::Closed) => continue,
                Err(NoPermit::Refused(failure)) => {
                    activation.meters.ended(Some(failure.code));
                    return Err(failure);
                }
            };
            let queued = asked.elapsed();
            let (program, start) = match activation.program() {
                // Who started it was cold, however quickly it was ready.
                Some(program) => (program, found),
                None => {
                    let started = Box::pin(activation.started(invocation.deadline)).await;
                    let program = started.inspect_err(|failure| activation.meters.ended(Some(failure.code)));
                    (program.map_err(|failure| self.placed(version, failure))?, Start::Cold)
                }
            };
            let starting = match start {
                Start::Cold => arrived.elapsed().saturating_sub(queued),
                _ => Duration::ZERO,
            };
            let room = self.room(&program, activation.record(), invocation).await;
            let room = room.inspect_err(|failure| activation.meters.ended(Some(failure.code)))?;
            return Ok(Admitted { permit, program, room, start, queued, starting });
        }
        let message = "the version stopped on this node again and again while the call arrived";
        Err(Failure::not_executed(ErrorCode::Moved, message))
    }

    /// The memory that a call begins with, if need be after others have let go of theirs.
    async fn room(&self, program: &Program, record: &VersionRecord, call: &Invocation) -> Result<Room, Failure> {
        let take = || program.room(call.payload.len() as u64, &record.manifest.limits);
        self.rooms.find(take, call.deadline.min(Instant::now() + CALL_PATIENCE)).await
    }

    /// A failure of a version that moved while the call waited for its start, with the place it moved to.
    fn placed(&self, version: VersionId, failure: Failure) -> Failure {
        let to = self.table.holds.find(version, Instant::now());
        to.filter(|_| failure.code == ErrorCode::Moved).map_or(failure, |to| moved(version, to))
    }

    /// The activation of a version, started if there is none, and what the call found.
    async fn activation(
        &self,
        version: VersionId,
        invocation: &Invocation,
    ) -> Result<(Arc<Activation>, Start), Failure> {
        if self.is_draining.load(SeqCst) {
            return Err(draining());
        }
        if let Some(activation) = self.table.find(version) {
            check_payload(invocation, activation.record())?;
            return Ok((activation, Start::Warm));
        }
        Box::pin(self.activate(version, invocation)).await
    }

    async fn activate(&self, version: VersionId, invocation: &Invocation) -> Result<(Arc<Activation>, Start), Failure> {
        let record = self.record(version, invocation.index_min)?;
        check_payload(invocation, &record)?;
        if !invocation.is_insistent
            && let Some(to) = self.table.holds.find(version, Instant::now())
        {
            return Err(moved(version, to));
        }
        let Ok(_turn) = self.activating.try_acquire() else {
            let message = "too many versions are being started on this node";
            return Err(Failure::not_executed(ErrorCode::Overloaded, message).retry_after(ACTIVATING_RETRY_AFTER));
        };
        let activate = if invocation.is_insistent { supervisor::Message::Warm } else { supervisor::Message::Activate };
        let asked = self.supervisor.call(|reply| activate(version, record, reply), None);
        match timeout_at(invocation.deadline, asked).await {
            Ok(Ok(CallResult::Success(outcome))) => outcome.map(|activation| (activation, Start::Cold)),
            Ok(_) => Err(draining()),
            Err(_) => {
                let message = "the deadline passed before the version began to start";
                Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message))
            }
        }
    }

    fn record(&self, version: VersionId, index_min: u64) -> Result<Arc<VersionRecord>, Failure> {
        let catalog = self.catalog.borrow();
        if let Some(record) = catalog.version(version) {
            check_place(&catalog, record, self.node)?;
        }
        catalog.version(version).cloned().ok_or_else(|| {
            let index = catalog.index();
            if index < index_min {
                let message = format!("this node has applied the catalogue up to {index}, not yet {index_min}");
                return Failure::not_executed(ErrorCode::Moved, message);
            }
            let message = format!("function {} has no version {} any more", version.function, version.number);
            Failure::not_executed(ErrorCode::VersionNotFound, message)
        })
    }

    async fn run(
        &self,
        admitted: Admitted,
        activation: &Arc<Activation>,
        invocation: &Invocation,
    ) -> Result<Reply, Failure> {
        let (start, queued, starting) = (admitted.start, admitted.queued, admitted.starting);
        let is_foreseen = admitted.permit.was_foreseen();
        let manifest = &activation.record().manifest;
        let remaining = invocation.remaining().min(Duration::from_millis(manifest.limits.deadline_ms));
        let environment = if is_seen(admitted.program.report()) {
            environment(invocation, activation.version(), manifest, remaining)?
        } else {
            Vec::new()
        };
        let outside = self.outside.clone();
        let (permit, program, room) = (admitted.permit, admitted.program, admitted.room);
        let guest = Guest { permit, program, room, environment, outside };
        let ran = match guest.run_briefly(invocation).await {
            Ok(ran) => ran,
            Err(guest) => Box::pin(guest.run(&self.executor, invocation)).await?,
        };
        let Ran { outcome, queued: for_thread, waited, outbound } = ran;
        let queued = queued + for_thread;
        activation.meters.wait.record(queued);
        let output = outcome.map_err(|error| {
            if let Some(output) = error.output() {
                note(activation, invocation, (output, waited));
            }
            self.explained(error.into())
        })?;
        note(activation, invocation, (&output, waited));
        let start = if start == Start::Warm && output.is_reused { Start::Reused } else { start };
        let usage = Usage {
            queue_us: micros(queued),
            start_us: micros(starting),
            load_us: if start == Start::Cold { micros(activation.load_time()) } else { 0 },
            instantiate_us: micros(output.instantiate),
            run_us: micros(output.run),
            wait_us: micros(waited),
            reset_us: micros(output.reset),
            outbound,
            memory_bytes: output.memory_bytes,
            log_bytes: output.log_bytes_total,
            tier: activation.program().map(|program| program.tier()),
            cold: (start == Start::Cold).then(|| activation.cause()),
            is_foreseen,
        };
        Ok(Reply { payload: output.payload, version: activation.version(), node: self.node, start, usage })
    }

    /// What the engine cannot know of a failure.
    fn explained(&self, failure: Failure) -> Failure {
        match failure.code {
            // Stopped because the node stops, not taken back by its caller.
            ErrorCode::Cancelled if self.is_stopping.load(SeqCst) => {
                let message = "the node stopped before the function had ended".to_owned();
                Failure { code: ErrorCode::Unavailable, message, ..failure }
            }
            ErrorCode::Overloaded => failure.retry_after(BUSY_RETRY_AFTER),
            _ => failure,
        }
    }
}

/// Keeps what a run says about itself: its time, and its log.
fn note(activation: &Activation, invocation: &Invocation, (output, waited): (&Output, Duration)) {
    let time = output.instantiate + output.run;
    activation.ran(time);
    activation.busy.ran(time.saturating_sub(waited));
    activation.meters.instantiate.record(output.instantiate);
    activation.meters.run.record(output.run);
    if !output.log.is_empty() {
        let (invocation, function) = (invocation.id, activation.name());
        debug!(%invocation, function, log = output.log_tail(LOG_BYTES_MAX), "guest log");
    }
}

fn check_payload(invocation: &Invocation, record: &VersionRecord) -> Result<(), Failure> {
    let (bytes, bytes_max) = (invocation.payload.len(), record.manifest.limits.payload_bytes);
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= bytes_max) {
        return Ok(());
    }
    let message = format!("the payload has {bytes} bytes; {} takes at most {bytes_max} (limits.payload)", name(record));
    Err(Failure::not_executed(ErrorCode::TooLarge, message))
}

/// Reminds the supervisor to look for idle activations.
async fn tick(supervisor: ActorRef<supervisor::Message>, period: Duration, stop: CancellationToken) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                if supervisor.cast(supervisor::Message::Tick).is_err() {
                    return;
                }
            }
        }
    }
}

/// Three activations that stop under one call's hands are no coincidence.
const ADMIT_ATTEMPTS: usize = 3;

/// Most calls that ask the supervisor at a time; it answers each in microseconds.
const ACTIVATING_MAX: usize = 1_024;
const ACTIVATING_RETRY_AFTER: Duration = Duration::from_millis(100);

/// What shutdown may take beyond its deadline, to stop guests and join threads.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Most of a guest's log in one event of our own.
const LOG_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod guessing_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod moving_tests;
#[cfg(test)]
mod nested_tests;
#[cfg(test)]
mod tests;
