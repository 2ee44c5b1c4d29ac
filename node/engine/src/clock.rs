//! Real time, for guests and for the thread that watches them.

use std::{sync::LazyLock, time::Instant};

/// Now. Guests and the watchdog run on threads of their own, and a test that pauses tokio's time does not pause them.
#[allow(clippy::disallowed_methods, reason = "guests run in real time, outside of any runtime's")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since some fixed moment of this process.
pub(crate) fn monotonic_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(now);
    u64::try_from(now().saturating_duration_since(*START).as_nanos()).unwrap_or(u64::MAX)
}
