//! A module ready to be called, as one version declares it.

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use ::metrics::Histogram;
use bytes::Bytes;
use skein_proto::{InstancePolicy, Limits};

use crate::{
    Call, ModuleReport, Output, RunError, Tier, clock,
    engine::Shared,
    extism::Told,
    husk::{Husk, Mould, NotMade},
    memory::{Held, NoRoom, Room, Slot, Tally, Unreserved},
    metrics,
    pool::Pool,
    run::{End, Ended, judge, stopped},
    stop::{Interrupt, Reason},
    watchdog::Terms,
};

thread_local! {
    /// Whether this thread is inside a run: a host function of a guest may end up here again.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// A version's compiled module, loaded, with the instances it keeps for its next calls.
///
/// Every run has an instance to itself; runs on several threads do not meet. With [`InstancePolicy::Fresh`] it is one in
/// which nothing of an earlier call is left; with [`InstancePolicy::Reuse`] it may have served before.
pub struct Program {
    mould: Mould,
    report: ModuleReport,
    policy: InstancePolicy,
    pool: Arc<Pool>,
    /// What its guests have of the node's memory.
    tally: Arc<Tally>,
    shared: Arc<Shared>,
    /// Looked up once: the recorder hashes the name to find it.
    reset_seconds: Histogram,
}

/// Calls that one instance serves at most, where instances are reused: what a guest leaks is bounded.
const CALLS_PER_INSTANCE_MAX: u64 = 10_000;

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn new(
        mould: Mould,
        report: ModuleReport,
        policy: InstancePolicy,
        idle_max: usize,
        shared: Arc<Shared>,
    ) -> Self {
        let pool = Pool::new(idle_max);
        shared.pools.add(&pool);
        let reset_seconds = ::metrics::histogram!(metrics::RESET_SECONDS);
        Self { mould, report, policy, pool, tally: Arc::default(), shared, reset_seconds }
    }

    /// What it holds of the node's memory. A module that several versions share is in the figure of each, the guest that
    /// runs scripts in none.
    pub fn memory(&self) -> Held {
        let code = if self.mould.script.is_some() { 0 } else { self.mould.live.bytes() };
        Held { code, idle: self.pool.bytes(INSTANCE_BYTES), guests: self.tally.bytes() }
    }

    /// Sets aside what a call with a payload of so many bytes begins with: the memory of its instance, the payload, and
    /// its private directory if it has one. For [`Call::room`].
    ///
    /// # Errors
    /// [`NoRoom`] if the node's memory does not suffice.
    pub fn room(&self, payload_bytes: u64, limits: &Limits) -> Result<Room, NoRoom> {
        let scratch = if self.mould.grants.scratch { limits.scratch_bytes } else { 0 };
        self.shared.ledger.room(self.begins_with() + payload_bytes + scratch)
    }

    /// The memory that an instance begins with.
    fn begins_with(&self) -> u64 {
        self.report.memory_bytes_min.max(self.mould.image.memory_bytes() as u64)
    }

    /// What inspecting the module found.
    pub fn report(&self) -> &ModuleReport {
        &self.report
    }

    /// How well the code is compiled of which the next instance is made.
    pub fn tier(&self) -> Tier {
        self.mould.live.tier()
    }

    /// Drops the instances that have been idle for `age` and longer; says how many.
    pub fn trim(&self, age: Duration) -> usize {
        self.pool.trim(age)
    }

    /// How many instances wait for a call.
    pub fn idle(&self) -> usize {
        self.pool.count()
    }

    /// Keeps `count` instances for calls to come, however long those take, and makes what is missing; says how many.
    pub fn keep_ready(&self, count: usize) -> usize {
        self.pool.keep(count);
        let mut made = 0;
        while self.pool.count() < count
            && let Some(husk) = self.spare()
        {
            self.pool.put(husk);
            made += 1;
        }
        made
    }

    /// An instance that nobody waits for; none if there is no room for one.
    fn spare(&self) -> Option<Husk> {
        let slot = self.shared.slots.reserve(&self.tally).ok()?;
        slot.enter(0, false);
        slot.set_limit(u64::MAX);
        let make = AssertUnwindSafe(|| Husk::make(&self.mould, Arc::clone(&slot)).ok());
        let husk = catch_unwind(make).ok()??;
        // Not reset: nobody has called it, and what a reset cannot undo may be what it begins with.
        slot.rest();
        Some(husk)
    }

    /// Runs the program once, on the calling thread, which it blocks until the guest has ended or was stopped.
    ///
    /// # Errors
    /// Every [`RunError`] but [`RunError::NotBrief`]. None leaves anything behind.
    pub fn run(&self, call: Call<'_>) -> Result<Output, RunError> {
        self.run_in(call, Manner { interrupt: Interrupt::new, may_wait: true })
    }

    /// As [`Program::run`], on a thread that others wait for: the guest is stopped when it has computed for about a
    /// millisecond, and when it wants to wait. Only for calls that may be run again without anybody being able to tell.
    ///
    /// # Errors
    /// Every [`RunError`]; [`RunError::NotBrief`] says to run the call from its start, elsewhere.
    pub fn run_briefly(&self, call: Call<'_>) -> Result<Output, RunError> {
        if IS_RUNNING.get() {
            return Err(RunError::NotBrief);
        }
        self.run_in(call, Manner { interrupt: Interrupt::brief, may_wait: false })
    }

    fn run_in(&self, call: Call<'_>, manner: Manner) -> Result<Output, RunError> {
        let begun = clock::now();
        let limit = begun.checked_add(Duration::from_millis(call.limits.deadline_ms));
        let deadline = call.deadline.into_std();
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        if deadline <= begun {
            return Err(stopped(Reason::Deadline, Output::default(), false));
        }
        // Dropped when all of this is over, the instance included.
        let own_room = match call.room {
            None => Some(self.room(call.payload.len() as u64, &call.limits).map_err(|error| full(&error))?),
            Some(_) => None,
        };
        let paid = call.room.or(own_room.as_ref()).map_or(0, |room| room.bytes() - call.payload.len() as u64);
        let mut husk = match self.husk(&call, paid, manner.may_wait) {
            Ok(husk) => husk,
            Err(unmade) => return Err(unmade.into_error(&call)),
        };
        let interrupt = (manner.interrupt)(Arc::clone(husk.slot()));
        let terms = Terms { deadline, cpu: Duration::from_millis(call.limits.cpu_ms) };
        let result = {
            let Some(_watch) = self.shared.watchdog.watch(terms, &interrupt) else {
                return Err(stopped(Reason::Cancelled, Output::default(), false));
            };
            call.stop.attach(&interrupt);
            if let Some(reason) = interrupt.reason() {
                return Err(stopped(reason, Output::default(), false));
            }
            let was_running = IS_RUNNING.replace(true);
            let run = || run(&mut husk, &call, &interrupt, begun);
            let ended = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Ended::panicked());
            IS_RUNNING.set(was_running);
            ended
        };
        interrupt.detach();
        let Ended { mut result, is_sound, has_returned } = result;
        if is_sound && interrupt.reason().is_none() {
            let reset = self.recycle(husk, has_returned);
            if let Ok(output) = &mut result {
                output.reset = reset;
            }
        }
        result.inspect_err(metrics::failed)
    }

    /// An instance for a call: one that is idle, or a new one.
    fn husk(&self, call: &Call<'_>, paid: u64, may_wait: bool) -> Result<Husk, Unmade> {
        while let Some(husk) = self.pool.take() {
            if husk.is_current(&self.mould) {
                husk.slot().enter(paid, may_wait);
                return Ok(husk);
            }
        }
        let slot = self.slot()?;
        slot.enter(paid, may_wait);
        slot.set_limit(call.limits.memory_bytes);
        let made = catch_unwind(AssertUnwindSafe(|| Husk::make(&self.mould, Arc::clone(&slot))));
        let made = made.unwrap_or_else(|_| Err(NotMade::Broken("the host panicked".to_owned())));
        made.map_err(|why| {
            let (was_refused, was_short) = (slot.was_refused(), slot.was_short());
            Unmade::Instance { why, was_refused, was_short }
        })
    }

    /// A slot, if need be after an idle instance, of whatever program, has made room.
    fn slot(&self) -> Result<Arc<Slot>, Unmade> {
        loop {
            match self.shared.slots.reserve(&self.tally) {
                Err(Unreserved::Full(_)) if self.shared.pools.evict() => {}
                outcome => return outcome.map_err(Unmade::Slot),
            }
        }
    }

    /// Keeps an instance that has ended its call well, for the next one; says how long making it ready took.
    fn recycle(&self, mut husk: Husk, has_returned: bool) -> Duration {
        let mut reset = Duration::ZERO;
        let is_current = husk.is_current(&self.mould);
        let is_ready = match self.policy {
            _ if !is_current => false,
            InstancePolicy::Reuse => has_returned && husk.served() < CALLS_PER_INSTANCE_MAX && husk.slot().keep(),
            _ => {
                self.report.is_resettable && {
                    let begun = clock::now();
                    let is_reset = husk.reset();
                    reset = begun.elapsed();
                    self.reset_seconds.record(reset.as_secs_f64());
                    is_reset
                }
            }
        };
        if is_ready {
            self.pool.put(husk);
        }
        reset
    }
}

/// Runs a call in its instance, and says how it ended.
fn run(husk: &mut Husk, call: &Call<'_>, interrupt: &Arc<Interrupt>, begun: std::time::Instant) -> Ended {
    let is_reused = husk.is_used();
    husk.begin(call, Arc::clone(interrupt));
    let initialised = husk.initialise();
    let instantiate = clock::now().saturating_duration_since(begun);
    let end = initialised.and_then(|()| husk.call());
    let told = husk.take_told(end.as_ref().ok().copied());
    let (mut written, _) = husk.end();
    let failure = written.failure.take().map(|message| husk.failed(message));
    let (payload, said) = match told {
        None => (written.output.into(), failure),
        Some(Told::Output(output)) => (output, None),
        Some(Told::Ended(ended)) => (Bytes::new(), Some(ended)),
    };
    let output = Output {
        payload,
        log: written.log.into(),
        log_bytes_total: written.log_bytes_total,
        instantiate,
        run: clock::now().saturating_duration_since(begun).saturating_sub(instantiate),
        reset: Duration::ZERO,
        memory_bytes: husk.slot().length() as u64,
        is_reused,
        has_waited: interrupt.has_waited(),
    };
    let mut ended = judge(End { returned: end, said }, call, husk.slot(), interrupt, output);
    if husk.slot().was_short() {
        ended.result = ended.result.map_err(|error| starved(error, interrupt));
    }
    ended
}

/// The error of a guest that failed for want of memory that its limit would have allowed.
fn starved(error: RunError, interrupt: &Interrupt) -> RunError {
    match error {
        // A guest that may be run again waits for memory then, where it holds nobody up.
        RunError::Memory { .. } if interrupt.is_brief() => RunError::NotBrief,
        RunError::Memory { output, .. } => RunError::Starved { output },
        other => other,
    }
}

/// How a call is run.
struct Manner {
    interrupt: fn(Arc<Slot>) -> Arc<Interrupt>,
    /// Whether its guest may be kept waiting for memory.
    may_wait: bool,
}

/// There is no memory to begin with.
fn full(error: &NoRoom) -> RunError {
    RunError::Full(error.to_string())
}

/// What an idle instance holds besides its memory: measured, most of it structures of wasmer's and pages of the kernel's
/// (`tests/memory` prints it).
pub(crate) const INSTANCE_BYTES: u64 = 10 << 10;

/// Why a call got no instance.
enum Unmade {
    Slot(Unreserved),
    Instance { why: NotMade, was_refused: bool, was_short: bool },
}

impl Unmade {
    fn into_error(self, call: &Call<'_>) -> RunError {
        let output = Box::<Output>::default();
        match self {
            Self::Slot(error) => RunError::Full(error.to_string()),
            Self::Instance { was_short: true, .. } => RunError::Full("the node's memory is used up".to_owned()),
            Self::Instance { was_refused: true, .. } => {
                RunError::Memory { bytes_max: call.limits.memory_bytes, output }
            }
            Self::Instance { why: NotMade::Short(what), .. } => RunError::Full(what),
            Self::Instance { why: NotMade::Broken(what), .. } => RunError::Internal(what),
            Self::Instance { why: NotMade::Failed(error), .. } => crate::run::trapped(&error, output),
        }
    }
}
