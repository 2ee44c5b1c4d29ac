//! How long to leave alone what failed. Pure: takes the clock as an argument.

use std::{collections::HashMap, hash::Hash, time::Duration};

use skein_proto::Failure;
use tokio::time::Instant;

/// What failed lately, and until when it is not tried again. Bounded: the entry whose time is soonest up makes room.
#[derive(Debug)]
pub(crate) struct Backoff<K> {
    first: Duration,
    most: Duration,
    failed: HashMap<K, Failed>,
}

#[derive(Debug, Clone)]
struct Failed {
    failure: Failure,
    attempts: u32,
    until: Instant,
}

impl<K: Eq + Hash + Copy> Backoff<K> {
    /// The first failure is remembered for `first`, each further one for twice as long, up to `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failed: HashMap::new() }
    }

    /// Notes a failure of `key`; returns when it may be tried again.
    pub(crate) fn failed(&mut self, key: K, failure: Failure, now: Instant) -> Instant {
        let attempts = self.failed.get(&key).map_or(0, |failed| failed.attempts);
        let delay = self.first.saturating_mul(1 << attempts.min(16)).min(self.most);
        let until = now + delay;
        if self.failed.len() >= ENTRIES_MAX
            && !self.failed.contains_key(&key)
            && let Some(soonest) = self.failed.iter().min_by_key(|(_, failed)| failed.until).map(|(key, _)| *key)
        {
            self.failed.remove(&soonest);
        }
        self.failed.insert(key, Failed { failure, attempts: attempts + 1, until });
        until
    }

    /// Forgets `key`: it succeeded, or is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.failed.remove(key);
    }

    /// Forgets what `keep` refuses.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.failed.retain(|key, _| keep(key));
    }

    /// Why `key` is not to be tried now, with the time after which it may be.
    pub(crate) fn refusal(&self, key: &K, now: Instant) -> Option<Failure> {
        let failed = self.failed.get(key).filter(|failed| failed.until > now)?;
        Some(failed.failure.clone().retry_after(failed.until - now))
    }
}

/// Most failures remembered: far more than a healthy node has, and small.
const ENTRIES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use skein_proto::ErrorCode;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_in_a_row_doubles_the_delay_up_to_the_most() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let now = Instant::now();
        let failure = Failure::not_executed(ErrorCode::ArtifactUnavailable, "no holder answers");
        let delays: Vec<_> = (0..4).map(|_| (backoff.failed(1, failure.clone(), now) - now).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5]);
        assert_eq!(backoff.refusal(&1, now).unwrap().retry_after_ms, Some(5_000));
        assert_eq!(backoff.refusal(&1, now + 5 * SECOND), None);
        backoff.forget(&1);
        assert_eq!(backoff.refusal(&1, now), None);
    }

    #[test]
    fn the_number_of_remembered_failures_is_bounded() {
        let mut backoff = Backoff::new(SECOND, SECOND);
        let now = Instant::now();
        for key in 0..2 * ENTRIES_MAX {
            backoff.failed(key, Failure::not_executed(ErrorCode::Internal, ""), now);
        }
        assert_eq!(backoff.failed.len(), ENTRIES_MAX);
    }
}
