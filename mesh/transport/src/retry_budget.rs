//! How many repetitions of calls a node or a client may add to a mesh that is already in trouble. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: calls fill it a little, each retry takes a whole token, and a small reserve comes by itself.
///
/// Without it, three attempts per call would triple the load of a mesh that fails because of its load. A tenth of the
/// calls, as gRPC's retry throttling has it (gRFC A6, `tokenRatio` 0.1), and ten a second besides, so that a mesh with
/// few calls can retry at all (Finagle's `RetryBudget`, `minRetriesPerSec` 10). One for all calls of a node's router, and
/// one for all of a client.
#[derive(Debug)]
pub struct RetryBudget {
    /// In thousandths of a token.
    tokens: u64,
    filled: Instant,
}

impl RetryBudget {
    const TOKEN: u64 = 1_000;
    const PER_CALL: u64 = Self::TOKEN / 10;
    const PER_SECOND: u64 = 10 * Self::TOKEN;
    /// What a quiet time may save up: one second of 1,000 failing calls, then the ratio holds.
    const MOST: u64 = 100 * Self::TOKEN;

    /// A budget with one second's reserve.
    pub fn new(now: Instant) -> Self {
        Self { tokens: Self::PER_SECOND, filled: now }
    }

    /// A call came, not yet a retry.
    pub fn deposit(&mut self) {
        self.tokens = (self.tokens + Self::PER_CALL).min(Self::MOST);
    }

    /// Takes a token for one retry, if there is one.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).min(Duration::from_secs(60));
        let reserve = u64::try_from(since.as_millis()).unwrap_or(0) * Self::PER_SECOND / 1_000;
        self.filled = now;
        self.tokens = (self.tokens + reserve).min(Self::MOST);
        let is_allowed = self.tokens >= Self::TOKEN;
        if is_allowed {
            self.tokens -= Self::TOKEN;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withdraw_all(budget: &mut RetryBudget, now: Instant) -> usize {
        std::iter::from_fn(|| budget.withdraw(now).then_some(())).count()
    }

    #[tokio::test]
    async fn retries_are_a_tenth_of_the_calls_and_ten_a_second() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!(withdraw_all(&mut budget, now), 10);
        (0..500).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&mut budget, now), 50);
        assert_eq!(withdraw_all(&mut budget, now + Duration::from_secs(1)), 10);
    }

    #[tokio::test]
    async fn a_quiet_hour_saves_up_no_storm() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&mut budget, now + Duration::from_secs(3_600)), 100);
    }
}
