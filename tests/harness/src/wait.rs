//! Waiting for a condition, with a deadline.

use std::{
    thread,
    time::{Duration, SystemTime},
};

/// Longest wait for anything that should happen soon. Generous: a test must not fail because its machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
///
/// # Panics
/// If it has not within [`PATIENCE`], naming `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = SystemTime::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed().unwrap_or_default() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
}
