//! A version made live on this node, as its calls see it.
//!
//! Calls take permits and find the program here, without a message to anybody. The version's actor moves it through
//! its life; the supervisor decides when that life ends.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use skein_catalog::VersionRecord;
use skein_engine::Program;
use skein_placement::Line;
use skein_proto::{ColdCause, ErrorCode, Failure, VersionId};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    ActivationState, ActivationStatus, Config, Gate, Pass, Shut,
    brief::Brevity,
    busy::Busy,
    habits::{Called, Learning},
    metrics::{self, Guess, Meters},
    prepare::Loaded,
    room::Clock,
};

/// The shared state of one activation.
pub(crate) struct Activation {
    version: VersionId,
    record: Arc<VersionRecord>,
    /// What a command is started with: its name, then what the manifest says.
    args: Vec<String>,
    generation: u64,
    cause: ColdCause,
    is_guess: bool,
    habit: Option<Arc<Learning>>,
    left_for: OnceLock<ColdCause>,
    gate: Gate,
    phase: watch::Sender<Phase>,
    program: OnceLock<Arc<Program>>,
    load_us: AtomicU64,
    born: Instant,
    last_used_ms: AtomicU64,
    calls_admitted: AtomicU64,
    /// The clock of the eviction, and what it showed when the last call ended.
    clock: Arc<Clock>,
    last_clock: Clock,
    run_us_mean: AtomicU64,
    pub(crate) busy: Busy,
    pub(crate) brevity: Brevity,
    pub(crate) meters: Meters,
}

/// What the supervisor gives each activation of a version anew.
pub(crate) struct Birth {
    pub(crate) generation: u64,
    /// Why it had to be started.
    pub(crate) cause: ColdCause,
    pub(crate) meters: Meters,
    pub(crate) clock: Arc<Clock>,
    /// What its runs add to; none for a version that may call nobody.
    pub(crate) habit: Option<Arc<Learning>>,
    /// Nobody has called it: somebody probably will.
    pub(crate) is_guess: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Loading,
    Ready,
    Draining,
    Stopped,
    Failed(Failure),
}

/// Leave to run one call. Dropping it brings the permit home.
pub(crate) struct Permit {
    activation: Arc<Activation>,
    was_foreseen: bool,
    _pass: Pass,
}

/// No permit was given.
#[derive(Debug)]
pub(crate) enum NoPermit {
    /// The activation takes no more calls; another one of the version may.
    Closed,
    /// The call is refused.
    Refused(Failure),
}

impl Activation {
    pub(crate) fn new(version: VersionId, record: Arc<VersionRecord>, birth: Birth, config: &Config) -> Arc<Self> {
        let manifest = &record.manifest;
        let limits = &manifest.limits;
        let most = limits.concurrency.min(manifest.scale.max).max(1);
        let line = (config.line_max(limits), config.waiting());
        Arc::new(Self {
            version,
            args: std::iter::once(manifest.name.to_string()).chain(manifest.args.iter().cloned()).collect(),
            generation: birth.generation,
            cause: birth.cause,
            is_guess: birth.is_guess,
            habit: birth.habit,
            left_for: OnceLock::new(),
            gate: Gate::new(most, line, birth.meters.queued.clone()),
            phase: watch::Sender::new(Phase::Loading),
            program: OnceLock::new(),
            load_us: AtomicU64::new(0),
            born: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            calls_admitted: AtomicU64::new(0),
            clock: birth.clock,
            last_clock: Clock::default(),
            run_us_mean: AtomicU64::new(0),
            busy: Busy::new(Instant::now()),
            brevity: Brevity::new(&manifest.grants),
            meters: birth.meters,
            record,
        })
    }

    pub(crate) fn version(&self) -> VersionId {
        self.version
    }

    pub(crate) fn record(&self) -> &Arc<VersionRecord> {
        &self.record
    }

    /// The arguments of every call.
    pub(crate) fn args(&self) -> &[String] {
        &self.args
    }

    /// Leave to run a call, as the [`Gate`] gives it.
    pub(crate) async fn permit(self: &Arc<Self>, deadline: Instant, depth: u8) -> Result<Permit, NoPermit> {
        let pass = match self.gate.enter(deadline, depth).await {
            Ok(pass) => pass,
            Err(Shut::Closed) => return Err(self.closed()),
            Err(Shut::Full) => return Err(NoPermit::Refused(self.overloaded())),
            Err(Shut::Late) => return Err(NoPermit::Refused(deadline_in_line(&self.record))),
        };
        let was_foreseen = self.calls_admitted.fetch_add(1, Relaxed) == 0 && self.is_guess;
        if was_foreseen {
            metrics::guessed(Guess::Used);
        }
        self.meters.in_flight.increment(1);
        Ok(Permit { activation: self.clone(), was_foreseen, _pass: pass })
    }

    fn closed(&self) -> NoPermit {
        match &*self.phase.borrow() {
            Phase::Failed(failure) => NoPermit::Refused(failure.clone()),
            _ => NoPermit::Closed,
        }
    }

    fn overloaded(&self) -> Failure {
        let manifest = &self.record.manifest;
        let message = format!(
            "{}/{}@{} runs {} calls here, its `limits.concurrency`, and {} more wait",
            manifest.app,
            manifest.name,
            self.version.number,
            manifest.limits.concurrency,
            self.queued()
        );
        let mean = Duration::from_micros(self.run_us_mean.load(Relaxed));
        let delay = retry_after(mean, self.queued(), manifest.limits.concurrency);
        Failure::not_executed(ErrorCode::Overloaded, message).retry_after(delay)
    }

    /// The program, if it is there already.
    pub(crate) fn program(&self) -> Option<Arc<Program>> {
        self.program.get().cloned()
    }

    /// Waits until the start has ended, well or not.
    pub(crate) async fn started(&self, deadline: Instant) -> Result<Arc<Program>, Failure> {
        let mut phase = self.phase.subscribe();
        let ended = timeout_at(deadline, phase.wait_for(|phase| !matches!(phase, Phase::Loading))).await.is_ok();
        match self.failure() {
            Some(failure) => return Err(failure),
            None if ended => {}
            None => {
                let message = format!("{} was still starting when the deadline passed", self.name());
                return Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message));
            }
        }
        let gone = || Failure::not_executed(ErrorCode::Moved, format!("{} stopped before it started", self.name()));
        self.program().ok_or_else(gone)
    }

    /// Notes how long a call ran, for the delay that shed calls are told.
    pub(crate) fn ran(&self, time: Duration) {
        let (time, mean) = (crate::metrics::micros(time), self.run_us_mean.load(Relaxed));
        // An exponential mean over about eight calls; a lost race between two of them does no harm.
        self.run_us_mean.store(if mean == 0 { time } else { mean - mean / 8 + time / 8 }, Relaxed);
    }

    /// Why it had to be started.
    pub(crate) fn cause(&self) -> ColdCause {
        self.cause
    }

    /// Whether it was started before anybody called it, on a guess.
    pub(crate) fn is_guess(&self) -> bool {
        self.is_guess
    }

    /// Whether it was, and nobody has called it since.
    pub(crate) fn is_unused_guess(&self) -> bool {
        self.is_guess && self.calls() == 0
    }

    /// Learns from what a run has called.
    pub(crate) fn learn(&self, called: &Called) {
        if let Some(habit) = &self.habit {
            habit.ran(called);
        }
    }

    /// Takes no more calls from now on, before its actor comes to drain it. True if it has none: then it is over soon,
    /// and else nobody knows when.
    pub(crate) fn shut(&self) -> bool {
        self.gate.close();
        self.gate.is_empty()
    }

    /// Notes why it leaves. Only the first word counts. For the supervisor only.
    pub(crate) fn leaves_for(&self, cause: ColdCause) {
        let _ = self.left_for.set(cause);
    }

    /// Why it left.
    pub(crate) fn left_for(&self) -> Option<ColdCause> {
        self.left_for.get().copied()
    }

    /// What loading the compiled code took, once that has happened.
    pub(crate) fn load_time(&self) -> Duration {
        Duration::from_micros(self.load_us.load(Relaxed))
    }

    /// `Loading -> Ready`. For the actor only.
    pub(crate) fn ready(&self, Loaded { program, time }: Loaded) {
        self.load_us.store(crate::metrics::micros(time), Relaxed);
        let _ = self.program.set(program);
        self.phase.send_if_modified(|phase| {
            let is_loading = matches!(phase, Phase::Loading);
            if is_loading {
                *phase = Phase::Ready;
            }
            is_loading
        });
        self.touch();
    }

    /// `Loading -> Failed`: tells the calls that wait, and takes no more. For the actor and the supervisor only.
    pub(crate) fn fail(&self, failure: Failure) {
        self.phase.send_replace(Phase::Failed(failure));
        self.gate.close();
    }

    /// `-> Draining`: takes no new calls; those in line look for another place. For the actor only.
    pub(crate) fn drain(&self) {
        self.phase.send_if_modified(|phase| {
            let is_live = matches!(phase, Phase::Loading | Phase::Ready);
            if is_live {
                *phase = Phase::Draining;
            }
            is_live
        });
        self.gate.close();
    }

    /// Waits until every call has gone; only after [`Activation::drain`] does that last.
    pub(crate) async fn home(&self) {
        self.gate.home().await;
    }

    /// `Draining -> Stopped`. For the actor only.
    pub(crate) fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Why the start failed, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &*self.phase.borrow() {
            Phase::Failed(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Calls in line for a permit.
    pub(crate) fn queued(&self) -> u32 {
        self.gate.queued()
    }

    /// The calls in line for a permit.
    pub(crate) fn line(&self) -> Line {
        self.gate.line()
    }

    /// Calls that hold a permit.
    pub(crate) fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// How long no call has been here; zero while one is, or while it starts.
    pub(crate) fn idle(&self) -> Duration {
        if self.gate.is_empty() && !matches!(*self.phase.borrow(), Phase::Loading) {
            self.born.elapsed().saturating_sub(Duration::from_millis(self.last_used_ms.load(Relaxed)))
        } else {
            Duration::ZERO
        }
    }

    /// Whether it may leave for others: no call is here, and none has just found it.
    pub(crate) fn is_evictable(&self) -> bool {
        self.idle() >= EVICTABLE_AFTER && matches!(*self.phase.borrow(), Phase::Ready)
    }

    /// What letting it go frees.
    pub(crate) fn bytes(&self) -> u64 {
        ACTIVATION_BYTES + self.program.get().map_or(0, |program| program.memory().total())
    }

    /// Calls that got a permit so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls_admitted.load(Relaxed)
    }

    /// What the clock of the eviction showed when the last call ended.
    pub(crate) fn last_clock(&self) -> f64 {
        self.last_clock.get()
    }

    /// Since when it has been starting or live.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) fn status(&self) -> ActivationStatus {
        let (manifest, line) = (&self.record.manifest, self.line());
        ActivationStatus {
            version: self.version,
            app: manifest.app.clone(),
            name: manifest.name.clone(),
            state: self.state(),
            generation: self.generation,
            in_flight: self.in_flight(),
            queued: line.queued,
            queue_age_ms: line.age_ms,
            busy_percent: self.busy.percent(self.in_flight(), Instant::now()),
            calls: self.calls_admitted.load(Relaxed),
            idle_ms: u64::try_from(self.idle().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// A function of its own, so that the phase is not held any more when the rest of the status is made: what reads it
    /// twice at a time waits for ever behind somebody who wants to change it in between.
    fn state(&self) -> ActivationState {
        match &*self.phase.borrow() {
            Phase::Loading => ActivationState::Loading,
            Phase::Ready => ActivationState::Ready,
            Phase::Draining => ActivationState::Draining,
            Phase::Stopped => ActivationState::Stopped,
            Phase::Failed(_) => ActivationState::Failed,
        }
    }

    /// `app/name@number`, for messages.
    pub(crate) fn name(&self) -> String {
        name(&self.record)
    }

    fn touch(&self) {
        self.last_used_ms.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
        self.last_clock.set(self.clock.get());
    }
}

impl Permit {
    /// What it is a permit for.
    pub(crate) fn activation(&self) -> &Arc<Activation> {
        &self.activation
    }

    /// Whether it is the first one of a version that was started on a guess.
    pub(crate) fn was_foreseen(&self) -> bool {
        self.was_foreseen
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.activation.touch();
        self.activation.meters.in_flight.decrement(1);
    }
}

/// `app/name@number`, for messages.
pub(crate) fn name(record: &VersionRecord) -> String {
    format!("{}/{}@{}", record.manifest.app, record.manifest.name, record.number)
}

/// The refusal of a call whose deadline passed before it had a permit and a thread.
pub(crate) fn deadline_in_line(record: &VersionRecord) -> Failure {
    let message = format!("the deadline passed while the call waited for {}", name(record));
    Failure::not_executed(ErrorCode::DeadlineExceeded, message)
}

/// When a place in line is likely to be free: the time in which those before you get their turn.
fn retry_after(run_mean: Duration, waiting: u32, concurrency: u32) -> Duration {
    let turn = run_mean.max(Duration::from_millis(1)).saturating_mul(waiting + 1) / concurrency.max(1);
    turn.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
}

/// A call that has found an activation has its permit long before this.
const EVICTABLE_AFTER: Duration = Duration::from_millis(20);

/// An activation and its actor, without the program: measured, with its meters.
const ACTIVATION_BYTES: u64 = 12 << 10;

const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shed_call_is_told_to_return_after_the_line_has_had_its_turn() {
        let check = |mean_ms, waiting, concurrency, expected_ms| {
            let delay = retry_after(Duration::from_millis(mean_ms), waiting, concurrency);
            assert_eq!(delay.as_millis(), expected_ms, "{mean_ms} ms, {waiting} of {concurrency}");
        };
        check(0, 0, 64, 10);
        check(100, 7, 4, 200);
        check(60_000, 128, 64, 5_000);
    }
}
