//! What the node as a whole counts.

use std::time::Duration;

use skein_proto::ErrorCode;

/// Moves of versions between nodes that this node had carried out, by why (`asked`, `loaded`, `joined`, `leaving`) and outcome
/// (`ok` or the failure's code). Counter.
pub(super) const MOVES: &str = "skein_moves_total";
/// What a move took, until the old place took no new calls. Histogram.
pub(super) const MOVE_SECONDS: &str = "skein_move_seconds";

/// Tells the recorder what the names mean.
pub(super) fn describe() {
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
