//! The figures this crate reports: their names, and the handles that calls use.
//!
//! Labels are `app`, `function` and `code`; never an id. Only so many functions have series of their own (`Labels`).

use std::{collections::HashSet, time::Duration};

use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use skein_engine::Memory;
use skein_proto::{AppName, ErrorCode, FunctionName, Manifest};
use tokio::time::Instant;

/// Calls that hold a permit, by app and function.
pub const IN_FLIGHT: &str = "skein_runtime_calls_in_flight";
/// Calls in line for a permit, by app and function.
pub const QUEUED: &str = "skein_runtime_calls_queued";
/// Calls that ended, by app, function and code (`ok` for those that succeeded).
pub const CALLS: &str = "skein_runtime_calls_total";
/// Time in line for a permit and a thread, by app and function.
pub const WAIT_SECONDS: &str = "skein_runtime_wait_seconds";
/// Time to get an instance, by app and function.
pub const INSTANTIATE_SECONDS: &str = "skein_runtime_instantiate_seconds";
/// Time in the guest, by app and function.
pub const RUN_SECONDS: &str = "skein_runtime_run_seconds";
/// Calls that ran on the async thread they arrived at, by app and function.
pub const BRIEF: &str = "skein_runtime_brief_runs_total";
/// Such runs that had to be ended, and began again on a thread of their own, by app and function.
pub const NOT_BRIEF: &str = "skein_runtime_brief_runs_ended_total";
/// Activations started before anybody called them, because functions that start usually call them, by outcome:
/// `started`, then `used` or `wasted`, or `refused` where there was not plenty of room.
pub const PREWARMS: &str = "skein_runtime_prewarms_total";
/// Activations started because a call found none, by app and function.
pub const COLD_STARTS: &str = "skein_runtime_cold_starts_total";
/// Time from the first call to a ready activation, by app and function.
pub const START_SECONDS: &str = "skein_runtime_start_seconds";
/// Live activations.
pub const ACTIVATIONS: &str = "skein_runtime_activations_live";
/// Threads for guests.
pub const THREADS: &str = "skein_runtime_threads_live";
/// Guests that compute, and compilations.
pub const GUESTS_RUNNING: &str = "skein_runtime_guests_running";
/// Guests that wait for others and need no core meanwhile.
pub const GUESTS_WAITING: &str = "skein_runtime_guests_waiting";
/// Calls and requests that guests made, by kind (`invoke`, `http`) and outcome (`ok`, the failure's code, or
/// `taken-back`).
pub const OUTBOUND: &str = "skein_runtime_outbound_total";
/// What they took, by kind.
pub const OUTBOUND_SECONDS: &str = "skein_runtime_outbound_seconds";
/// Versions prepared here, by outcome (`ok` or the failure's code).
pub const PREPARED: &str = "skein_runtime_prepared_total";
/// Attempts to prepare a version in the background that failed.
pub const PREFETCH_FAILED: &str = "skein_runtime_prefetch_failures_total";
/// Activations that left a node that went on, by reason: `idle`, or `memory` if others needed theirs.
pub const EVICTED: &str = "skein_runtime_evictions_total";
/// Idle instances dropped because memory was short.
pub const TRIMMED: &str = "skein_runtime_instances_trimmed_total";
/// Starts and calls refused because memory was short.
pub const NO_ROOM: &str = "skein_runtime_no_room_total";
/// The node's memory, by kind: `resident` is what the kernel says of the process, `base` that without what running
/// guests have touched, `guests` what they may touch, `code` and `instances` what those parts of `base` are reckoned at.
pub const MEMORY: &str = "skein_runtime_memory_bytes";
/// Most memory that the process may hold.
pub const BUDGET: &str = "skein_runtime_memory_budget_bytes";

/// Tells the recorder what each name means.
pub(crate) fn describe() {
    describe_gauge!(IN_FLIGHT, Unit::Count, "calls that hold a permit");
    describe_gauge!(QUEUED, Unit::Count, "calls in line for a permit");
    describe_counter!(CALLS, Unit::Count, "calls that ended, by outcome");
    describe_histogram!(WAIT_SECONDS, Unit::Seconds, "time in line for a permit and a thread");
    describe_histogram!(INSTANTIATE_SECONDS, Unit::Seconds, "time to get an instance");
    describe_histogram!(RUN_SECONDS, Unit::Seconds, "time in the guest");
    describe_counter!(BRIEF, Unit::Count, "calls that ran on the thread they arrived at");
    describe_counter!(NOT_BRIEF, Unit::Count, "such runs that were ended, and began again on a thread of their own");
    describe_counter!(COLD_STARTS, Unit::Count, "activations started because a call found none");
    describe_counter!(PREWARMS, Unit::Count, "activations started before anybody called them, by outcome");
    describe_histogram!(START_SECONDS, Unit::Seconds, "time from the first call to a ready activation");
    describe_gauge!(ACTIVATIONS, Unit::Count, "live activations");
    describe_gauge!(THREADS, Unit::Count, "threads for guests");
    describe_gauge!(GUESTS_RUNNING, Unit::Count, "guests that compute, and compilations");
    describe_gauge!(GUESTS_WAITING, Unit::Count, "guests that wait for a call, a request or a clock");
    describe_counter!(OUTBOUND, Unit::Count, "calls and requests that guests made, by kind and outcome");
    describe_histogram!(OUTBOUND_SECONDS, Unit::Seconds, "time of the calls and requests that guests made, by kind");
    describe_counter!(EVICTED, Unit::Count, "activations that left, by reason");
    describe_counter!(TRIMMED, Unit::Count, "idle instances dropped because memory was short");
    describe_counter!(NO_ROOM, Unit::Count, "starts and calls refused because memory was short");
    describe_gauge!(MEMORY, Unit::Bytes, "the node's memory, by kind");
    describe_gauge!(BUDGET, Unit::Bytes, "most memory that the process may hold");
    describe_counter!(PREFETCH_FAILED, Unit::Count, "background preparations that failed");
    describe_counter!(PREPARED, Unit::Count, "versions fetched and compiled, by outcome");
}

/// Which functions have series of their own. A recorder never forgets a series, so there must be an end to them: what
/// comes later is counted together, as function `other` of app `other`.
#[derive(Debug, Default)]
pub(crate) struct Labels(HashSet<(AppName, FunctionName)>);

/// Most functions with series of their own. Each has about a hundred lines, so that all of them are some 5 MB for who
/// reads the metrics.
const OWN_SERIES_MAX: usize = 500;

impl Labels {
    /// The handles of a version of this function.
    pub(crate) fn meters(&mut self, manifest: &Manifest) -> Meters {
        let key = (manifest.app.clone(), manifest.name.clone());
        if self.0.contains(&key) || self.0.len() < OWN_SERIES_MAX {
            self.0.insert(key);
            return Meters::new(manifest.app.to_string(), manifest.name.to_string());
        }
        Meters::new(OTHER.to_owned(), OTHER.to_owned())
    }
}

/// What functions without series of their own are counted as.
const OTHER: &str = "other";

/// One function's handles, made once so that a call only touches atomics.
pub(crate) struct Meters {
    app: String,
    function: String,
    pub(crate) in_flight: Gauge,
    pub(crate) queued: Gauge,
    pub(crate) wait: Histogram,
    pub(crate) instantiate: Histogram,
    pub(crate) run: Histogram,
    pub(crate) brief: Counter,
    pub(crate) not_brief: Counter,
    pub(crate) cold_starts: Counter,
    pub(crate) start: Histogram,
    ok: Counter,
}

impl Meters {
    fn new(app: String, function: String) -> Self {
        let labels = [("app", app.clone()), ("function", function.clone())];
        Self {
            in_flight: metrics::gauge!(IN_FLIGHT, &labels),
            queued: metrics::gauge!(QUEUED, &labels),
            wait: metrics::histogram!(WAIT_SECONDS, &labels),
            instantiate: metrics::histogram!(INSTANTIATE_SECONDS, &labels),
            run: metrics::histogram!(RUN_SECONDS, &labels),
            brief: counter!(BRIEF, &labels),
            not_brief: counter!(NOT_BRIEF, &labels),
            cold_starts: counter!(COLD_STARTS, &labels),
            start: metrics::histogram!(START_SECONDS, &labels),
            ok: counter!(CALLS, "app" => app.clone(), "function" => function.clone(), "code" => "ok"),
            app,
            function,
        }
    }

    /// Counts a call that ended.
    pub(crate) fn ended(&self, failure: Option<ErrorCode>) {
        match failure {
            None => self.ok.increment(1),
            Some(code) => {
                let (app, function) = (self.app.clone(), self.function.clone());
                counter!(CALLS, "app" => app, "function" => function, "code" => code.as_str()).increment(1);
            }
        }
    }
}

/// Counts a version that was prepared, or could not be.
pub(crate) fn prepared(failure: Option<ErrorCode>) {
    counter!(PREPARED, "outcome" => failure.map_or("ok", ErrorCode::as_str)).increment(1);
}

pub(crate) fn prefetch_failed() {
    counter!(PREFETCH_FAILED).increment(1);
}

pub(crate) fn activations(count: usize) {
    metrics::gauge!(ACTIVATIONS).set(as_f64(count));
}

/// Why an activation stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It had no calls for its idle time.
    Idle,
    /// Its memory was needed.
    Memory,
}

pub(crate) fn evicted(count: usize, why: Gone) {
    let reason = match why {
        Gone::Idle => "idle",
        Gone::Memory => "memory",
    };
    counter!(EVICTED, "reason" => reason).increment(count as u64);
}

/// What became of a version that will probably be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// It is being started.
    Started,
    /// It is not: the node has other things to do, or not plenty of memory.
    Refused,
    /// It was called.
    Used,
    /// It has left without a call.
    Wasted,
}

pub(crate) fn guessed(what: Guess) {
    let outcome = match what {
        Guess::Started => "started",
        Guess::Refused => "refused",
        Guess::Used => "used",
        Guess::Wasted => "wasted",
    };
    counter!(PREWARMS, "outcome" => outcome).increment(1);
}

pub(crate) fn trimmed(count: usize) {
    counter!(TRIMMED).increment(count as u64);
}

pub(crate) fn no_room() {
    counter!(NO_ROOM).increment(1);
}

/// Shows what the process holds. A budget of no bound is shown as 0.
pub(crate) fn memory(memory: &Memory) {
    let show = |kind: &'static str, bytes: u64| metrics::gauge!(MEMORY, "kind" => kind).set(bytes as f64);
    show("resident", memory.resident);
    show("base", memory.base);
    show("guests", memory.guests);
    show("code", memory.code);
    show("instances", memory.instances);
    let budget = if memory.budget == u64::MAX { 0 } else { memory.budget };
    metrics::gauge!(BUDGET).set(budget as f64);
}

/// Counts a guest's call or request when it ends, or when it is dropped before.
pub(crate) struct Tally {
    kind: &'static str,
    began: Instant,
    is_ended: bool,
}

impl Tally {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, began: Instant::now(), is_ended: false }
    }

    pub(crate) fn ended(&mut self, failure: Option<ErrorCode>) {
        self.count(failure.map_or("ok", ErrorCode::as_str));
    }

    fn count(&mut self, outcome: &'static str) {
        if !std::mem::replace(&mut self.is_ended, true) {
            counter!(OUTBOUND, "kind" => self.kind, "outcome" => outcome).increment(1);
            metrics::histogram!(OUTBOUND_SECONDS, "kind" => self.kind).record(self.began.elapsed());
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.count("taken-back");
    }
}

/// Microseconds, as replies carry them.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    #[test]
    fn functions_beyond_the_first_are_counted_together() {
        let mut labels = Labels::default();
        for i in 0..OWN_SERIES_MAX {
            assert_eq!(labels.meters(&manifest(&format!("f{i}"))).function, format!("f{i}"));
        }
        assert_eq!(labels.meters(&manifest("late")).function, OTHER);
        assert_eq!(labels.meters(&manifest("f0")).function, "f0", "who has its own keeps it");
    }
}
