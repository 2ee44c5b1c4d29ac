//! The names of what the engine counts, and what each means.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::{RunError, TrapKind};

/// Compilations, finished or failed; counter.
pub(crate) const COMPILATIONS: &str = "skein_engine_compilations_total";
/// What a compilation took, in seconds; histogram.
pub(crate) const COMPILE_SECONDS: &str = "skein_engine_compile_seconds";
/// Artefacts found damaged, or not ours, and compiled again; counter.
pub(crate) const CACHE_CORRUPT: &str = "skein_engine_cache_corrupt_total";
/// Instances alive; gauge.
pub(crate) const INSTANCES: &str = "skein_engine_instances";
/// Guests stopped, at a deadline or because their call was taken back; counter.
pub(crate) const STOPS: &str = "skein_engine_stops_total";
/// Instances alive that nobody uses at the moment; gauge.
pub(crate) const INSTANCES_IDLE: &str = "skein_engine_instances_idle";
/// Most instances alive at a time; gauge.
pub(crate) const SLOTS_MAX: &str = "skein_engine_instances_max";
/// Idle instances dropped to make room for another program's; counter.
pub(crate) const EVICTIONS: &str = "skein_engine_instance_evictions_total";
/// What resetting an instance took, in seconds; histogram.
pub(crate) const RESET_SECONDS: &str = "skein_engine_reset_seconds";
/// What loading a program from the cache took, in seconds; histogram.
pub(crate) const LOAD_SECONDS: &str = "skein_engine_load_seconds";
/// Images taken after an initialisation; counter.
pub(crate) const SNAPSHOTS: &str = "skein_engine_snapshots_total";
/// Traps of guests, by kind; counter.
pub(crate) const TRAPS: &str = "skein_engine_traps_total";

/// Tells the recorder what each name means.
pub(crate) fn describe() {
    describe_counter!(COMPILATIONS, Unit::Count, "compilations, finished or failed");
    describe_histogram!(COMPILE_SECONDS, Unit::Seconds, "time of a compilation");
    describe_counter!(CACHE_CORRUPT, Unit::Count, "compiled code found damaged, and compiled again");
    describe_gauge!(INSTANCES, Unit::Count, "instances alive");
    describe_gauge!(INSTANCES_IDLE, Unit::Count, "instances alive that nobody uses at the moment");
    describe_gauge!(SLOTS_MAX, Unit::Count, "most instances alive at a time");
    describe_counter!(EVICTIONS, Unit::Count, "idle instances dropped to make room for another program's");
    describe_counter!(STOPS, Unit::Count, "guests stopped, at a limit or because their call was taken back");
    describe_histogram!(RESET_SECONDS, Unit::Seconds, "time to reset an instance for its next call");
    describe_histogram!(LOAD_SECONDS, Unit::Seconds, "time to load a program from the cache");
    describe_counter!(SNAPSHOTS, Unit::Count, "images taken after an initialisation");
    describe_counter!(TRAPS, Unit::Count, "traps of guests, by kind");
}

/// Counts how a run failed, if the guest trapped.
pub(crate) fn failed(error: &RunError) {
    if let RunError::Trap { kind, .. } = error {
        ::metrics::counter!(TRAPS, "kind" => label(*kind)).increment(1);
    }
}

fn label(kind: TrapKind) -> &'static str {
    match kind {
        TrapKind::Unreachable => "unreachable",
        TrapKind::MemoryOutOfBounds => "memory-out-of-bounds",
        TrapKind::TableOutOfBounds => "table-out-of-bounds",
        TrapKind::NullFunction => "null-function",
        TrapKind::SignatureMismatch => "signature-mismatch",
        TrapKind::DivisionByZero => "division-by-zero",
        TrapKind::IntegerOverflow => "integer-overflow",
        TrapKind::BadConversion => "bad-conversion",
        TrapKind::StackOverflow => "stack-overflow",
        TrapKind::Other => "other",
    }
}
