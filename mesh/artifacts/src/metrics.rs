//! The names of what this crate counts.

/// Counter: files found not to match their digest, and set aside.
pub const CORRUPT_FILES: &str = "skein_artifacts_corrupt_files_total";
/// Counter: answers of peers refused because the bytes did not match the digest asked for.
pub const REFUSED_ANSWERS: &str = "skein_artifacts_refused_answers_total";
/// Counter, bytes: artifacts fetched from peers.
pub const FETCHED_BYTES: &str = "skein_artifacts_fetched_bytes_total";
/// Counter, bytes: artifacts pushed to peers or given to those that asked.
pub const SENT_BYTES: &str = "skein_artifacts_sent_bytes_total";
/// Gauge, bytes: artifacts kept here.
pub const STORED_BYTES: &str = "skein_artifacts_stored_bytes";

/// Tells the recorder what the names mean.
pub fn describe() {
    use ::metrics::{Unit, describe_counter, describe_gauge};
    describe_counter!(CORRUPT_FILES, Unit::Count, "Artifact files that did not match their digest and were set aside.");
    describe_counter!(REFUSED_ANSWERS, Unit::Count, "Artifacts from peers that did not match their digest.");
    describe_counter!(FETCHED_BYTES, Unit::Bytes, "Artifacts fetched from peers.");
    describe_counter!(SENT_BYTES, Unit::Bytes, "Artifacts pushed to peers or given to them.");
    describe_gauge!(STORED_BYTES, Unit::Bytes, "Artifacts kept on this node's disk.");
}
