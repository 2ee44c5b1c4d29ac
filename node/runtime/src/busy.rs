//! How many calls of a version run on average: what the mesh evens its load out by. Told the time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// One activation's use. A call adds to it once, at its end; the mean is made when somebody asks.
///
/// The number of calls that run at one moment says little of a function that takes a millisecond: two looks a second at
/// one that is in use half of the time see nothing or a full call. The time that calls took does not miss any.
#[derive(Debug)]
pub(crate) struct Busy {
    run_us: AtomicU64,
    mean: Mutex<Mean>,
}

#[derive(Debug)]
struct Mean {
    at: Instant,
    run_us: u64,
    /// Thousandths of a hundredth of a call, so that small means do not get stuck by rounding.
    value: u64,
}

/// Shortest time that is averaged over: digests are made twice a second.
const WINDOW: Duration = Duration::from_millis(400);
/// What a new window counts for: a quarter, so that the mean follows in about two seconds.
const WEIGHT: u64 = 4;

impl Busy {
    pub(crate) fn new(now: Instant) -> Self {
        Self { run_us: AtomicU64::new(0), mean: Mutex::new(Mean { at: now, run_us: 0, value: 0 }) }
    }

    /// A call ended, and had a thread for itself for so long.
    pub(crate) fn ran(&self, time: Duration) {
        self.run_us.fetch_add(crate::metrics::micros(time), Relaxed);
    }

    /// The mean number of calls, in hundredths, when `in_flight` run now.
    pub(crate) fn percent(&self, in_flight: u32, now: Instant) -> u32 {
        let run_us = self.run_us.load(Relaxed);
        let mut mean = self.mean.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(mean.at);
        if elapsed >= WINDOW {
            let ended = run_us.saturating_sub(mean.run_us);
            // Calls longer than a window are seen as they run.
            let now_running = u64::from(in_flight) * 100_000;
            let value =
                if ended == 0 { now_running } else { ended.saturating_mul(100_000) / crate::metrics::micros(elapsed) };
            *mean = Mean { at: now, run_us, value: (mean.value * (WEIGHT - 1) + value) / WEIGHT };
        }
        u32::try_from(mean.value / 1_000).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The means of so many windows of half a second, in each of which calls of so many milliseconds end while so many run.
    fn means(windows: usize, ended_ms: u64, in_flight: u32) -> Vec<u32> {
        let began = Instant::now();
        let busy = Busy::new(began);
        let window = |at: usize| {
            busy.ran(Duration::from_millis(ended_ms));
            busy.percent(in_flight, began + Duration::from_millis(500) * u32::try_from(at).unwrap())
        };
        (1..=windows).map(window).collect()
    }

    #[tokio::test]
    async fn the_mean_follows_in_some_seconds_and_forgets() {
        assert_eq!(means(4, 250, 0), [12, 21, 28, 34]);
        assert_eq!(means(40, 250, 1).last(), Some(&49), "one moment at which a call runs changes nothing");
        assert_eq!(means(40, 1_000, 0).last(), Some(&199));
        let (busy, began) = (Busy::new(Instant::now()), Instant::now());
        busy.ran(Duration::from_secs(1));
        assert!(busy.percent(0, began + Duration::from_secs(1)) > 20);
        let last = (2..40).map(|second| busy.percent(0, began + Duration::from_secs(second))).last();
        assert_eq!(last, Some(0));
    }

    #[tokio::test]
    async fn calls_that_do_not_end_count_too() {
        assert_eq!(means(40, 0, 3).last(), Some(&299));
    }

    #[tokio::test]
    async fn asking_twice_at_once_says_the_same() {
        let (busy, began) = (Busy::new(Instant::now()), Instant::now());
        busy.ran(Duration::from_secs(1));
        let later = began + Duration::from_secs(1);
        assert_eq!(busy.percent(1, later), busy.percent(9, later));
    }
}
