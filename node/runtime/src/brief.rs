//! Calls that run where they arrive, on an async thread, because versions like theirs end within microseconds.
//!
//! Handing a call to a thread of its own and hearing of its end takes two wake-ups, several times what a small function
//! runs. So a version that leaves no trace outside its sandbox, and whose last runs were all short, runs *briefly*: on
//! the thread that has the call, where the engine ends it when it computes for about a millisecond or wants to wait.
//! Then nobody could tell that it ran, the call starts again on the executor, and the version stays there for a while.
//! What a neighbour on that thread sees of it is a millisecond, now and then.
//!
//! Nothing else differs: permits, limits, the deadline, figures and failures are the same. The caller cannot take the
//! call back while it runs briefly, since it waits for the same thread.

use std::{
    cell::Cell,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Asked, Call, HttpRequest, HttpResponse, InvokeRequest, Output, RunError, Services, StopHandle};
use skein_proto::{Grants, Invocation};
use tokio::time::Instant;

use crate::guest::{Guest, Ran};

/// CPU time of a run that counts as short: so that even a queue of them holds nobody up.
const SHORT: Duration = Duration::from_micros(100);
/// So many short runs in a row, on the executor, before a version runs briefly.
const SHORT_RUNS_MIN: u32 = 64;
/// What a brief run that was not short costs, and how much of that a version may owe; each that was short pays back one.
/// A thread that had to make way for another shows as a long run, too, so that single ones must not count.
const LONG_RUN_COST: u32 = 8;
const DEBT_MAX: u32 = 64;
/// How long a version stays on the executor after a run that had to be ended; doubled each time, up to the most.
const BARRED_FIRST: Duration = Duration::from_secs(1);
const BARRED_DOUBLINGS_MAX: u32 = 6;
/// Brief runs in a row that make good a run that had to be ended.
const FORGIVEN_AFTER: u32 = 100_000;
/// How long guests may hold a thread, in all, before the task that has the next one lets the others go first.
const HELD_MAX: Duration = Duration::from_micros(500);

thread_local! {
    /// How long guests have held this thread since a task last made way.
    static HELD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Whether one version may run briefly: what is known of its last runs.
///
/// Threads write it without an order among them; a lost update delays a decision by a run.
#[derive(Debug, Default)]
pub(crate) struct Brevity {
    /// Whether nobody can tell how often it ran.
    is_repeatable: bool,
    /// Short runs in a row, on the executor.
    short_runs: AtomicU32,
    debt: AtomicU32,
    bars: AtomicU32,
    /// In microseconds since the version was made live.
    barred_until_us: AtomicU64,
    /// Brief runs since the last one that had to be ended.
    good_runs: AtomicU32,
}

impl Brevity {
    /// A version with these grants, of which nothing is known yet.
    pub(crate) fn new(grants: &Grants) -> Self {
        // Making a directory may block; nobody outside sees it, but neighbours on the thread would.
        Self { is_repeatable: grants.is_effect_free() && !grants.scratch, ..Self::default() }
    }

    /// Whether the next run may be a brief one.
    pub(crate) fn is_granted(&self) -> bool {
        self.short_runs.load(Relaxed) >= SHORT_RUNS_MIN
    }

    /// Whether runs on the executor are to be measured, `age` after the version was made live.
    pub(crate) fn is_probed(&self, age: Duration) -> bool {
        self.is_repeatable && !self.is_granted() && micros(age) >= self.barred_until_us.load(Relaxed)
    }

    /// A run on the executor has used `cpu`.
    pub(crate) fn ran(&self, cpu: Duration, outcome: &Result<Output, RunError>) {
        let is_short = cpu < SHORT
            && match outcome {
                Ok(output) => !output.has_waited,
                Err(error) => matches!(error, RunError::Exit { .. } | RunError::Trap { .. } | RunError::Output { .. }),
            };
        if is_short {
            self.short_runs.fetch_add(1, Relaxed);
        } else {
            self.short_runs.store(0, Relaxed);
        }
    }

    /// A brief run has ended by itself after `time`.
    fn ran_briefly(&self, time: Duration) {
        let debt = self.debt.load(Relaxed);
        if time < SHORT {
            if debt > 0 {
                self.debt.store(debt - 1, Relaxed);
            }
            let good = self.good_runs.load(Relaxed).saturating_add(1);
            self.good_runs.store(good, Relaxed);
            if good == FORGIVEN_AFTER {
                self.bars.store(0, Relaxed);
            }
        } else if debt + LONG_RUN_COST > DEBT_MAX {
            // Too often to be chance: back to the executor, until it has shown again that it is short.
            self.debt.store(0, Relaxed);
            self.short_runs.store(0, Relaxed);
        } else {
            self.debt.store(debt + LONG_RUN_COST, Relaxed);
        }
    }

    /// A brief run had to be ended, `age` after the version was made live.
    fn broke(&self, age: Duration) {
        let bars = self.bars.load(Relaxed);
        let barred_until = age + BARRED_FIRST * (1 << bars.min(BARRED_DOUBLINGS_MAX));
        self.bars.store(bars.saturating_add(1), Relaxed);
        self.barred_until_us.store(micros(barred_until), Relaxed);
        self.good_runs.store(0, Relaxed);
        self.debt.store(0, Relaxed);
        self.short_runs.store(0, Relaxed);
    }
}

impl Guest {
    /// Runs the guest here, if its version may run briefly; gives it back if it is to run on the executor, from its start.
    pub(crate) async fn run_briefly(self, invocation: &Invocation) -> Result<Ran, Self> {
        let activation = self.permit.activation();
        if !activation.brevity.is_granted() {
            return Err(self);
        }
        if HELD.get() >= HELD_MAX {
            HELD.set(Duration::ZERO);
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        let mut call = Call::new(activation.record().manifest.limits, invocation.deadline, StopHandle::never());
        (call.args, call.env, call.room) = (activation.args(), &self.environment, Some(&self.room));
        (call.payload, call.services) = (invocation.payload.clone(), Some(OUTSIDE.clone()));
        let outcome = self.program.run_briefly(call);
        let time = begin.elapsed();
        HELD.set(HELD.get() + time);
        if matches!(outcome, Err(RunError::NotBrief)) {
            activation.brevity.broke(activation.age());
            activation.meters.not_brief.increment(1);
            return Err(self);
        }
        activation.brevity.ran_briefly(time);
        activation.meters.brief.increment(1);
        Ok(Ran { outcome, queued: Duration::ZERO, waited: Duration::ZERO, outbound: 0 })
    }
}

/// The world outside, to a brief run: whatever a guest asks, it has to wait for, and so its run is ended and begins
/// again on the executor. There it gets the same answer as ever.
struct Elsewhere;

static OUTSIDE: LazyLock<Arc<dyn Services>> = LazyLock::new(|| Arc::new(Elsewhere));

impl Services for Elsewhere {
    fn invoke(&self, _: InvokeRequest) -> Asked<Bytes> {
        Box::pin(std::future::pending())
    }

    fn http(&self, _: HttpRequest) -> Asked<HttpResponse> {
        Box::pin(std::future::pending())
    }
}

fn micros(time: Duration) -> u64 {
    crate::metrics::micros(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Duration = Duration::from_micros(5);

    fn free() -> Brevity {
        Brevity::new(&Grants::default())
    }

    fn granted() -> Brevity {
        let brevity = free();
        run(&brevity, SHORT_RUNS_MIN);
        assert!(brevity.is_granted());
        brevity
    }

    fn run(brevity: &Brevity, times: u32) {
        for _ in 0..times {
            brevity.ran(TINY, &Ok(Output::default()));
        }
    }

    #[test]
    fn a_version_shows_first_that_it_is_short() {
        let brevity = free();
        run(&brevity, SHORT_RUNS_MIN - 1);
        assert!(!brevity.is_granted() && brevity.is_probed(TINY));
        run(&brevity, 1);
        assert!(brevity.is_granted() && !brevity.is_probed(TINY));
    }

    #[test]
    fn one_long_run_or_one_that_waits_and_it_begins_anew() {
        let mut waited = Output::default();
        waited.has_waited = true;
        for (cpu, outcome) in [(SHORT, Ok(Output::default())), (TINY, Ok(waited)), (TINY, Err(RunError::NotBrief))] {
            let brevity = free();
            run(&brevity, SHORT_RUNS_MIN - 1);
            brevity.ran(cpu, &outcome);
            run(&brevity, SHORT_RUNS_MIN - 1);
            assert!(!brevity.is_granted(), "{cpu:?} {outcome:?}");
        }
    }

    #[test]
    fn a_version_that_reaches_out_or_has_files_never_runs_briefly() {
        let reaching = [
            Grants { invoke: vec!["*".into()], ..Grants::default() },
            Grants { http: vec!["https://example.com".into()], ..Grants::default() },
            Grants { scratch: true, ..Grants::default() },
        ];
        for grants in reaching {
            assert!(!Brevity::new(&grants).is_probed(TINY), "{grants:?}");
        }
    }

    #[test]
    fn a_run_that_had_to_be_ended_bars_for_ever_longer() {
        let brevity = granted();
        let mut age = Duration::ZERO;
        for expected_s in [1, 2, 4, 8, 16, 32, 64, 64] {
            brevity.broke(age);
            let end = age + Duration::from_secs(expected_s);
            assert!(!brevity.is_granted());
            assert!(!brevity.is_probed(end - TINY) && brevity.is_probed(end), "{expected_s} s");
            age = end;
        }
        run(&brevity, SHORT_RUNS_MIN);
        (0..FORGIVEN_AFTER).for_each(|_| brevity.ran_briefly(TINY));
        brevity.broke(age);
        assert!(brevity.is_probed(age + BARRED_FIRST), "what was long ago is forgiven");
    }

    #[test]
    fn long_brief_runs_count_when_they_are_many() {
        let brevity = granted();
        for _ in 0..1_000 {
            brevity.ran_briefly(SHORT * 5);
            (0..LONG_RUN_COST).for_each(|_| brevity.ran_briefly(TINY));
        }
        assert!(brevity.is_granted(), "one in nine is chance");
        (0..=DEBT_MAX / LONG_RUN_COST).for_each(|_| brevity.ran_briefly(SHORT));
        assert!(!brevity.is_granted() && brevity.is_probed(TINY), "many in a row are not");
    }
}
