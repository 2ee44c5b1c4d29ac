//! The names of what the engine counts.

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
