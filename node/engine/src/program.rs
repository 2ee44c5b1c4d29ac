//! A module ready to be called, as one version declares it.

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use skein_proto::InstancePolicy;

use crate::{
    Call, ModuleReport, Output, RunError, Tier, clock,
    engine::Shared,
    extism::Told,
    husk::{Husk, Mould, NotMade},
    memory::{Slot, Unreserved},
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
    shared: Arc<Shared>,
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
        Self { mould, report, policy, pool, shared }
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

    /// Runs the program once, on the calling thread, which it blocks until the guest has ended or was stopped.
    ///
    /// # Errors
    /// Every [`RunError`] but [`RunError::NotBrief`]. None leaves anything behind.
    pub fn run(&self, call: Call<'_>) -> Result<Output, RunError> {
        self.run_in(call, Interrupt::new)
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
        self.run_in(call, Interrupt::brief)
    }

    fn run_in(&self, call: Call<'_>, interrupt: fn(Arc<Slot>) -> Arc<Interrupt>) -> Result<Output, RunError> {
        let begun = clock::now();
        let limit = begun.checked_add(Duration::from_millis(call.limits.deadline_ms));
        let deadline = call.deadline.into_std();
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        if deadline <= begun {
            return Err(stopped(Reason::Deadline, Output::default(), false));
        }
        let mut husk = match self.husk(&call) {
            Ok(husk) => husk,
            Err(unmade) => return Err(unmade.into_error(&call)),
        };
        let interrupt = interrupt(Arc::clone(husk.slot()));
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
    fn husk(&self, call: &Call<'_>) -> Result<Husk, Unmade> {
        while let Some(husk) = self.pool.take() {
            if husk.is_current(&self.mould) {
                return Ok(husk);
            }
        }
        let slot = self.slot()?;
        slot.set_limit(call.limits.memory_bytes);
        let made = catch_unwind(AssertUnwindSafe(|| Husk::make(&self.mould, Arc::clone(&slot))));
        let made = made.unwrap_or_else(|_| Err(NotMade::Broken("the host panicked".to_owned())));
        made.map_err(|why| Unmade::Instance { why, was_refused: slot.was_refused() })
    }

    /// A slot, if need be after an idle instance, of whatever program, has made room.
    fn slot(&self) -> Result<Arc<Slot>, Unmade> {
        loop {
            match self.shared.slots.reserve() {
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
            InstancePolicy::Reuse => has_returned && husk.served() < CALLS_PER_INSTANCE_MAX,
            _ => {
                self.report.is_resettable && {
                    let begun = clock::now();
                    let is_reset = husk.reset();
                    reset = begun.elapsed();
                    ::metrics::histogram!(metrics::RESET_SECONDS).record(reset.as_secs_f64());
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
    judge(End { returned: end, said }, call, husk.slot(), interrupt, output)
}

/// Why a call got no instance.
enum Unmade {
    Slot(Unreserved),
    Instance { why: NotMade, was_refused: bool },
}

impl Unmade {
    fn into_error(self, call: &Call<'_>) -> RunError {
        let output = Box::<Output>::default();
        match self {
            Self::Slot(error) => RunError::Full(error.to_string()),
            Self::Instance { was_refused: true, .. } => {
                RunError::Memory { bytes_max: call.limits.memory_bytes, output }
            }
            Self::Instance { why: NotMade::Short(what), .. } => RunError::Full(what),
            Self::Instance { why: NotMade::Broken(what), .. } => RunError::Internal(what),
            Self::Instance { why: NotMade::Failed(error), .. } => crate::run::trapped(&error, output),
        }
    }
}
