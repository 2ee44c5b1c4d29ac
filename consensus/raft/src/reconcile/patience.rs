//! How long proposals are held up for a log at rest, and how often. Pure: it is told the time, and what became of a try.

use std::time::Duration;

use tokio::time::Instant;

/// How long the next try may take, and when it is due.
#[derive(Debug)]
pub(super) struct Patience {
    now: Duration,
    /// After a try that was given up, proposals go on until then.
    due: Option<Instant>,
}

/// How long proposals are held up at first until those under way are through and the log is at rest. Longer than a commit
/// takes on most disks, and it leaves a proposal that waits for it most of the time that it has.
const PATIENCE: Duration = Duration::from_millis(400);

/// The longest. A disk that takes longer for a commit lets hardly a proposal through in the time that it has.
const PATIENCE_MAX: Duration = Duration::from_secs(3);

impl Default for Patience {
    fn default() -> Self {
        Self { now: PATIENCE, due: None }
    }
}

impl Patience {
    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// How long proposals may be held up now, in all.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// A try was given up at `now`: commits take longer than that here, or there is no majority. The next one waits longer,
    /// and leaves proposals the time until then.
    pub(super) fn gave_up(&mut self, now: Instant) {
        self.now = (self.now * 2).min(PATIENCE_MAX);
        self.due = Some(now + self.now);
    }

    /// A try found the log at rest, or this node leads no more.
    pub(super) fn was_enough(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries whenever it is due, on a disk that takes `commit` for what is under way; how long proposals were held up in
    /// each try, and how long they had in between.
    fn tries(commit: Duration) -> Vec<(Duration, Duration)> {
        let (mut patience, mut now, mut tries) = (Patience::default(), Instant::now(), Vec::new());
        for _ in 0..6 {
            let began = now;
            let held = patience.now().min(commit);
            now += held;
            if held == commit {
                tries.push((held, Duration::ZERO));
                break;
            }
            patience.gave_up(now);
            while !patience.is_due(now) {
                now += Duration::from_millis(1);
            }
            tries.push((held, now - began - held));
        }
        tries
    }

    #[test]
    fn a_slow_disk_is_waited_for_longer_each_time_until_it_is_done() {
        let ms = Duration::from_millis;
        assert_eq!(tries(ms(5)), [(ms(5), ms(0))]);
        assert_eq!(tries(ms(1_500)), [(ms(400), ms(800)), (ms(800), ms(1_600)), (ms(1_500), ms(0))]);
    }

    #[test]
    fn what_never_comes_to_rest_holds_proposals_up_for_half_of_the_time_at_most() {
        for (held, free) in tries(Duration::MAX) {
            assert!(held <= free && free <= PATIENCE_MAX, "{held:?} {free:?}");
        }
    }

    #[test]
    fn after_a_try_that_was_enough_it_begins_anew() {
        let mut patience = Patience::default();
        patience.gave_up(Instant::now());
        patience.was_enough();
        assert!(patience.is_due(Instant::now()) && patience.now() == PATIENCE);
    }
}
