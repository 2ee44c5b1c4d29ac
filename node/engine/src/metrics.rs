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
