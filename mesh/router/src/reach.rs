//! Waiting for the local catalogue to catch up with what a caller has seen.

use std::time::Duration;

use skein_catalog::Watch;
use tokio::time::{Instant, timeout_at};

/// Longest wait. A node that lags more is asked for too much: another one answers sooner.
const LAG_MAX: Duration = Duration::from_millis(500);

/// Waits, for a bounded while, until the catalogue has applied `index`.
///
/// # Errors
/// The index it had applied by then.
pub async fn reach(catalog: &Watch, index: u64, deadline: Instant) -> Result<(), u64> {
    if catalog.borrow().index() >= index {
        return Ok(());
    }
    let mut watched = catalog.clone();
    let until = deadline.min(Instant::now() + LAG_MAX);
    let reached = watched.wait_for(|catalog| catalog.index() >= index);
    let is_reached = matches!(timeout_at(until, reached).await, Ok(Ok(_)));
    if is_reached { Ok(()) } else { Err(catalog.borrow().index()) }
}
