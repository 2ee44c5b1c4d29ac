//! The most recent requests and what became of them, so that a repeated proposal is answered and not applied twice.

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::{Outcome, RequestId};

/// A window of the last [`REQUESTS_MAX`] requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recent {
    by_turn: RedBlackTreeMapSync<u64, Remembered>,
    turns: RedBlackTreeMapSync<RequestId, u64>,
    turn_next: u64,
}

/// One request that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) request: RequestId,
    pub(crate) index: u64,
    pub(crate) outcome: Outcome,
}

/// Requests remembered. A proposer repeats within its deadline of a few seconds; at 1,000 changes a second, far more
/// than people and machines make, this is four seconds.
pub(crate) const REQUESTS_MAX: usize = 4_096;

impl Recent {
    /// What became of `request`, if it is still remembered.
    pub(crate) fn find(&self, request: RequestId) -> Option<&Remembered> {
        self.by_turn.get(self.turns.get(&request)?)
    }

    /// Remembers a request that is not remembered yet, and forgets the oldest when there are too many.
    pub(crate) fn remember(&mut self, remembered: Remembered) {
        self.turns.insert_mut(remembered.request, self.turn_next);
        self.by_turn.insert_mut(self.turn_next, remembered);
        self.turn_next += 1;
        if self.by_turn.size() > REQUESTS_MAX
            && let Some((turn, request)) = self.by_turn.first().map(|(turn, oldest)| (*turn, oldest.request))
        {
            self.by_turn.remove_mut(&turn);
            self.turns.remove_mut(&request);
        }
    }

    /// All of them, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.by_turn.values()
    }

    /// The turn of the oldest: with [`Recent::iter`], all there is to know.
    pub(crate) fn turn_first(&self) -> u64 {
        self.by_turn.first().map_or(self.turn_next, |(turn, _)| *turn)
    }

    /// The window that [`Recent::turn_first`] and [`Recent::iter`] described; none if it is not one.
    pub(crate) fn restore(turn_first: u64, remembered: Vec<Remembered>) -> Option<Self> {
        if remembered.len() > REQUESTS_MAX || turn_first.checked_add(remembered.len() as u64).is_none() {
            return None;
        }
        let count = remembered.len();
        let mut recent = Self { turn_next: turn_first, ..Self::default() };
        for one in remembered {
            recent.remember(one);
        }
        (recent.turns.size() == count).then_some(recent)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn remembered(number: u64) -> Remembered {
        let request = RequestId(Uuid::from_u128(u128::from(number)));
        Remembered { request, index: number, outcome: Outcome::Done }
    }

    #[test]
    fn the_oldest_request_is_forgotten_when_the_window_is_full() {
        let mut recent = Recent::default();
        for number in 0..=REQUESTS_MAX as u64 {
            recent.remember(remembered(number));
        }
        assert_eq!(recent.iter().count(), REQUESTS_MAX);
        assert_eq!(recent.find(remembered(0).request), None);
        assert_eq!(recent.find(remembered(1).request), Some(&remembered(1)));
        let restored = Recent::restore(recent.turn_first(), recent.iter().cloned().collect());
        assert_eq!(restored, Some(recent));
    }

    #[test]
    fn a_window_with_a_request_twice_is_refused() {
        assert_eq!(Recent::restore(0, vec![remembered(1), remembered(1)]), None);
        assert_eq!(Recent::restore(u64::MAX, vec![remembered(1)]), None);
    }
}
