//! How many repetitions a client may add to a mesh that says it can do no more. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: calls fill it a little, each repetition takes a whole token, and a small reserve comes by itself.
///
/// One for all calls of a client, with the figures of the nodes' own: a tenth of the calls (gRFC A6, `tokenRatio` 0.1)
/// and ten a second (Finagle's `RetryBudget`). What certainly never reached a node that could take it needs none: it
/// adds no load.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In thousandths of a token.
    tokens: u64,
    filled: Instant,
}

impl RetryBudget {
    const TOKEN: u64 = 1_000;
    const PER_CALL: u64 = Self::TOKEN / 10;
    const PER_SECOND: u64 = 10 * Self::TOKEN;
    /// What a quiet time may save up.
    const MOST: u64 = 100 * Self::TOKEN;

    pub(crate) fn new(now: Instant) -> Self {
        Self { tokens: Self::PER_SECOND, filled: now }
    }

    /// A call begins.
    pub(crate) fn deposit(&mut self) {
        self.tokens = (self.tokens + Self::PER_CALL).min(Self::MOST);
    }

    /// Takes a token for one repetition, if there is one.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
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

    #[tokio::test]
    async fn repetitions_are_a_tenth_of_the_calls_and_ten_a_second() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        let withdraw_all =
            |budget: &mut RetryBudget, now| std::iter::from_fn(|| budget.withdraw(now).then_some(())).count();
        assert_eq!(withdraw_all(&mut budget, now), 10);
        (0..500).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&mut budget, now), 50);
        assert_eq!(withdraw_all(&mut budget, now + Duration::from_secs(1)), 10);
    }
}
