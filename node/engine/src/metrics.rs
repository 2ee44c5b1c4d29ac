//! The names of what the engine counts, and what each means.

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{RunError, Tier, TrapKind};

/// Compilations, finished or failed, by `tier` and `outcome`; counter.
const COMPILATIONS: &str = "skein_engine_compilations_total";
/// What a compilation took, by `tier`; histogram, in seconds.
const COMPILE_SECONDS: &str = "skein_engine_compile_seconds";
/// Modules that run on baseline code and wait for the optimising compiler; gauge.
const OPTIMISATIONS_WAITING: &str = "skein_engine_optimisations_waiting";
/// Loaded modules whose baseline code was replaced by optimised code; counter.
const TIER_SWAPS: &str = "skein_engine_tier_swaps_total";
/// What loading a program from the cache took; histogram, in seconds.
pub(crate) const LOAD_SECONDS: &str = "skein_engine_load_seconds";
/// What finding and mapping code in the cache took, by `tier`; histogram, in seconds.
const MAP_SECONDS: &str = "skein_engine_map_seconds";
/// Looks into the cache for code, by `outcome`: hit or miss; counter.
const CACHE_LOOKS: &str = "skein_engine_cache_looks_total";
/// What the cache takes of the disk; gauge.
pub(crate) const CACHE_BYTES: &str = "skein_engine_cache_bytes";
/// Files removed to hold the cache to its size; counter.
pub(crate) const CACHE_EVICTIONS: &str = "skein_engine_cache_evictions_total";
/// Cached files found damaged, or not ours, and made again; counter.
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
/// Images taken after an initialisation; counter.
pub(crate) const SNAPSHOTS: &str = "skein_engine_snapshots_total";
/// Traps of guests, by kind; counter.
pub(crate) const TRAPS: &str = "skein_engine_traps_total";

/// Tells the recorder what each name means.
pub(crate) fn describe() {
    describe_counter!(COMPILATIONS, Unit::Count, "compilations, by tier and outcome");
    describe_histogram!(COMPILE_SECONDS, Unit::Seconds, "time of a compilation, by tier");
    describe_gauge!(OPTIMISATIONS_WAITING, Unit::Count, "modules on baseline code that wait to be optimised");
    describe_counter!(TIER_SWAPS, Unit::Count, "loaded modules whose baseline code was replaced by optimised code");
    describe_histogram!(MAP_SECONDS, Unit::Seconds, "time to find and map code in the cache, by tier");
    describe_counter!(CACHE_LOOKS, Unit::Count, "looks into the cache for code, hit or miss");
    describe_gauge!(CACHE_BYTES, Unit::Bytes, "what the cache takes of the disk");
    describe_counter!(CACHE_EVICTIONS, Unit::Count, "files removed to hold the cache to its size");
    describe_counter!(CACHE_CORRUPT, Unit::Count, "cached files found damaged or forged, and made again");
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

/// Counts a compilation.
pub(crate) fn compiled(tier: Tier, outcome: &'static str, took: Duration) {
    counter!(COMPILATIONS, "tier" => tier.as_str(), "outcome" => outcome).increment(1);
    histogram!(COMPILE_SECONDS, "tier" => tier.as_str()).record(took.as_secs_f64());
}

/// Says how many modules wait to be optimised.
pub(crate) fn optimisations_waiting(count: usize) {
    gauge!(OPTIMISATIONS_WAITING).set(count as f64);
}

/// Counts a load of code that the cache had.
pub(crate) fn mapped(tier: Tier, took: Duration) {
    counter!(CACHE_LOOKS, "outcome" => "hit").increment(1);
    histogram!(MAP_SECONDS, "tier" => tier.as_str()).record(took.as_secs_f64());
}

/// Counts a look for code that the cache did not have.
pub(crate) fn cache_missed() {
    counter!(CACHE_LOOKS, "outcome" => "miss").increment(1);
}

/// Counts loaded code that was replaced by better one.
pub(crate) fn swapped() {
    counter!(TIER_SWAPS).increment(1);
}
