//! What the node as a whole counts.

use std::time::Duration;

use skein_proto::ErrorCode;

use crate::telemetry;

/// Moves of versions between nodes that this node had carried out, by why (`asked`, `loaded`, `joined`, `leaving`) and outcome
/// (`ok` or the failure's code). Counter.
pub(super) const MOVES: &str = "skein_moves_total";
/// What a move took, until the old place took no new calls. Histogram.
pub(super) const MOVE_SECONDS: &str = "skein_move_seconds";

/// Artifacts that fewer members have than should, as the leader found when it last looked and could not mend. Gauge.
pub(super) const ARTIFACTS_SHORT: &str = "skein_copies_short_artifacts";
/// Of them, those that no member that answers has. Gauge.
pub(super) const ARTIFACTS_LOST: &str = "skein_copies_lost_artifacts";
/// Copies of artifacts that this node, as the leader, had made because there were too few. Counter.
pub(super) const COPIES_MADE: &str = "skein_copies_made_total";

/// Tells the recorder what the names mean.
pub(super) fn describe() {
    metrics::describe_counter!(
        telemetry::LOG_LINES_DROPPED,
        metrics::Unit::Count,
        "Log lines that could not be written, or that nobody read fast enough."
    );
    metrics::describe_gauge!(ARTIFACTS_SHORT, metrics::Unit::Count, "Artifacts that too few members have.");
    metrics::describe_gauge!(ARTIFACTS_LOST, metrics::Unit::Count, "Artifacts that no member that answers has.");
    metrics::describe_counter!(
        COPIES_MADE,
        metrics::Unit::Count,
        "Copies of artifacts made because there were too few."
    );
    metrics::describe_counter!(MOVES, metrics::Unit::Count, "Moves of versions between nodes, by reason and outcome.");
    metrics::describe_histogram!(
        MOVE_SECONDS,
        metrics::Unit::Seconds,
        "Time of a move, until the old place is closed."
    );
}

pub(super) fn moved(why: &'static str, failure: Option<ErrorCode>, time: Duration) {
    let outcome = failure.map_or("ok", ErrorCode::as_str);
    metrics::counter!(MOVES, "why" => why, "outcome" => outcome).increment(1);
    metrics::histogram!(MOVE_SECONDS, "why" => why).record(time.as_secs_f64());
}

/// What the last look at the copies of artifacts found.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts up to 2^53 are exact")]
pub(super) fn copies(short: u64, lost: u64) {
    metrics::gauge!(ARTIFACTS_SHORT).set(short as f64);
    metrics::gauge!(ARTIFACTS_LOST).set(lost as f64);
}

/// A copy was made.
pub(super) fn copy_made() {
    metrics::counter!(COPIES_MADE).increment(1);
}
