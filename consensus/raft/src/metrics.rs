//! What a group counts and measures.

use std::time::Duration;

/// Seconds that an fdatasync of the log took.
pub(crate) const SYNC_SECONDS: &str = "skein_raft_sync_seconds";
/// Entries that were made safe by one fdatasync.
pub(crate) const BATCH_ENTRIES: &str = "skein_raft_batch_entries";
/// Entries applied to the state.
pub(crate) const APPLIED_ENTRIES: &str = "skein_raft_applied_entries_total";
/// Bytes of the newest snapshot.
pub(crate) const SNAPSHOT_BYTES: &str = "skein_raft_snapshot_bytes";
/// The term.
pub(crate) const TERM: &str = "skein_raft_term_number";
/// 1 on the leader, 0 elsewhere.
pub(crate) const IS_LEADER: &str = "skein_raft_leader_nodes";
/// Proposals by where they went: `leader` here, or `forwarded`.
pub(crate) const PROPOSALS: &str = "skein_raft_proposals_total";
/// Changes of the membership that were made, by `step`.
pub(crate) const CHANGES: &str = "skein_raft_changes_total";

/// Entries that this node acknowledged and then did not have.
pub(crate) const LOST_ENTRIES: &str = "skein_raft_lost_entries_total";
/// 1 while this node's state is known not to be the leader's.
pub(crate) const DIFFERS: &str = "skein_raft_differing_nodes";

pub(crate) fn synced(took: Duration, entries: u64) {
    metrics::histogram!(SYNC_SECONDS).record(took.as_secs_f64());
    if entries > 0 {
        metrics::histogram!(BATCH_ENTRIES).record(entries as f64);
    }
}

/// Tells the recorder what the names mean.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(SYNC_SECONDS, Unit::Seconds, "time that an fdatasync of the log took");
    describe_histogram!(BATCH_ENTRIES, Unit::Count, "entries made safe by one fdatasync");
    describe_counter!(APPLIED_ENTRIES, Unit::Count, "entries applied to the state");
    describe_gauge!(SNAPSHOT_BYTES, Unit::Bytes, "size of the newest snapshot");
    describe_gauge!(TERM, Unit::Count, "the term");
    describe_gauge!(IS_LEADER, Unit::Count, "1 on the leader, 0 elsewhere");
    describe_counter!(PROPOSALS, Unit::Count, "proposals, by whether they were made on the leader or forwarded");
    describe_counter!(LOST_ENTRIES, Unit::Count, "entries that were acknowledged here and then gone from the log");
    describe_gauge!(DIFFERS, Unit::Count, "1 while the state here is known not to be the leader's, 0 otherwise");
    describe_counter!(CHANGES, Unit::Count, "changes of the membership, by step");
}

pub(crate) fn applied(entries: usize) {
    metrics::counter!(APPLIED_ENTRIES).increment(entries as u64);
}

pub(crate) fn snapshot(bytes: u64) {
    metrics::gauge!(SNAPSHOT_BYTES).set(bytes as f64);
}

pub(crate) fn stands(term: u64, is_leader: bool) {
    metrics::gauge!(TERM).set(term as f64);
    metrics::gauge!(IS_LEADER).set(f64::from(u8::from(is_leader)));
}

pub(crate) fn proposed(by: &'static str) {
    metrics::counter!(PROPOSALS, "by" => by).increment(1);
}

pub(crate) fn changed(step: &'static str) {
    metrics::counter!(CHANGES, "step" => step).increment(1);
}

pub(crate) fn lost(entries: u64) {
    metrics::counter!(LOST_ENTRIES).increment(entries);
}

pub(crate) fn differs(is_so: bool) {
    metrics::gauge!(DIFFERS).set(f64::from(u8::from(is_so)));
}
