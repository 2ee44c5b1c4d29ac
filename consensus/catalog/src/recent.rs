//! The most recent requests and what became of them, so that a repeated proposal is answered and not applied twice.

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, codec};

use crate::{Command, Outcome, Proposal, RequestId, catalog::fingerprint_of};

/// The requests of the last while, and at least the last few.
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
    /// What it asked for, as a number; 0 if that is not known.
    #[serde(default)]
    pub(crate) command: u64,
    /// When it was applied, by the clock of [`Recent`].
    #[serde(default)]
    pub(crate) at_ms: u64,
}

/// A request as it comes: its id, and what tells it from another request that bears the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) command: u64,
    at_ms: u64,
}

/// How long a request is remembered at least. What is repeated longest is a publication, for 20 s after it was handed
/// over first; the rest is for nodes whose clocks differ.
pub(crate) const KEPT_MS: u64 = 60_000;

/// Requests remembered however old they are: a mesh in which little changes answers what is repeated after hours.
pub(crate) const REQUESTS_LEAST: usize = 4_096;

/// Most requests remembered. Only more than 1,092 changes a second, for a whole minute, push out what is younger than
/// [`KEPT_MS`]: far more than people and machines make. Each takes about 300 bytes of memory and 100 of a snapshot.
pub(crate) const REQUESTS_MAX: usize = 65_536;

/// Most requests that one that comes pushes out, so that applying it takes no longer after a busy minute.
const FORGOTTEN_AT_ONCE: usize = 4;

/// How long requests are remembered, and how many whatever their age.
#[derive(Clone, Copy)]
struct Window {
    kept_ms: u64,
    least: usize,
}

#[cfg(feature = "simulation")]
thread_local! {
    static WINDOW: std::cell::Cell<Option<Window>> = const { std::cell::Cell::new(None) };
}

/// Has the catalogues on this thread remember requests for `kept_ms` milliseconds, and `least` of them however old they
/// are: a simulation has no minute to wait. All replicas of a mesh must have the same.
#[cfg(feature = "simulation")]
pub fn remember_less(kept_ms: u64, least: usize) {
    WINDOW.set(Some(Window { kept_ms, least }));
}

fn window() -> Window {
    #[cfg(feature = "simulation")]
    if let Some(window) = WINDOW.get() {
        return window;
    }
    Window { kept_ms: KEPT_MS, least: REQUESTS_LEAST }
}

impl Request {
    pub(crate) fn of(proposal: &Proposal) -> Self {
        Self { id: proposal.request, command: number_of(&proposal.command), at_ms: proposal.at_ms }
    }

    /// It, applied.
    pub(crate) fn with(self, index: u64, outcome: Outcome) -> Remembered {
        Remembered { request: self.id, index, outcome, command: self.command, at_ms: self.at_ms }
    }
}

/// What a command asks for, as a number. Who holds the code is for the mesh to say and may be another when the same
/// request comes again, by way of another node.
fn number_of(command: &Command) -> u64 {
    let asked = match command {
        Command::PublishVersion { holders, .. } if !holders.is_empty() => {
            let mut asked = command.clone();
            if let Command::PublishVersion { holders, .. } = &mut asked {
                holders.clear();
            }
            codec::encode(&asked)
        }
        _ => codec::encode(command),
    };
    // Every command has a byte form; one that had none would not be told from others.
    asked.map_or(0, |bytes| fingerprint_of(&bytes))
}

impl Remembered {
    /// The answer to a request that bears this one's id: this one's, if it is the same.
    pub(crate) fn answer(&self, request: &Request) -> Outcome {
        if self.command == request.command || self.command == 0 {
            return self.outcome.clone();
        }
        let message = format!(
            "the request id {} was used for another request, applied at index {}; choose a new id for each request",
            request.id.0, self.index
        );
        Outcome::Refused { code: ErrorCode::Conflict, message }
    }
}

impl Recent {
    /// What became of `request`, if it is still remembered.
    pub(crate) fn find(&self, request: RequestId) -> Option<&Remembered> {
        self.by_turn.get(self.turns.get(&request)?)
    }

    /// Remembers a request that is not remembered yet, and forgets the oldest that need not be.
    pub(crate) fn remember(&mut self, mut remembered: Remembered) {
        // The clocks of proposers differ; this one never goes back.
        remembered.at_ms = remembered.at_ms.max(self.clock_ms());
        self.insert(remembered);
        let (Window { kept_ms, least }, now_ms, mut forgotten) = (window(), self.clock_ms(), 0);
        while forgotten < FORGOTTEN_AT_ONCE
            && self.by_turn.size() > least
            && let Some((turn, oldest)) = self.by_turn.first()
            && (oldest.at_ms.saturating_add(kept_ms) < now_ms || self.by_turn.size() > REQUESTS_MAX)
        {
            let (turn, request) = (*turn, oldest.request);
            self.by_turn.remove_mut(&turn);
            self.turns.remove_mut(&request);
            forgotten += 1;
        }
    }

    fn insert(&mut self, remembered: Remembered) {
        self.turns.insert_mut(remembered.request, self.turn_next);
        self.by_turn.insert_mut(self.turn_next, remembered);
        self.turn_next += 1;
    }

    /// The latest time that a request bore.
    fn clock_ms(&self) -> u64 {
        self.by_turn.last().map_or(0, |(_, newest)| newest.at_ms)
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
        let is_in_order = remembered.is_sorted_by_key(|remembered| remembered.at_ms);
        if remembered.len() > REQUESTS_MAX || turn_first.checked_add(remembered.len() as u64).is_none() || !is_in_order
        {
            return None;
        }
        let count = remembered.len();
        let mut recent = Self { turn_next: turn_first, ..Self::default() };
        for one in remembered {
            recent.insert(one);
        }
        (recent.turns.size() == count).then_some(recent)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn remembered(number: u64, at_ms: u64) -> Remembered {
        let request = RequestId(Uuid::from_u128(u128::from(number)));
        Remembered { request, index: number, outcome: Outcome::Done, command: 1, at_ms }
    }

    /// The window after requests number 0, 1 and so on at these times.
    fn window(times: impl IntoIterator<Item = u64>) -> Recent {
        let mut recent = Recent::default();
        for (number, at_ms) in times.into_iter().enumerate() {
            recent.remember(remembered(number as u64, at_ms));
        }
        recent
    }

    fn knows(recent: &Recent, number: u64) -> bool {
        recent.find(remembered(number, 0).request).is_some()
    }

    const LEAST: u64 = REQUESTS_LEAST as u64;

    #[test]
    fn what_may_be_repeated_is_remembered_however_much_came_after_it() {
        let busy = window((0..3 * LEAST).map(|number| number * KEPT_MS / (3 * LEAST)));
        assert!(knows(&busy, 0), "{} requests within the time", 3 * LEAST);
    }

    #[test]
    fn what_is_older_is_forgotten_but_for_the_last_few() {
        let quiet = window((0..LEAST).map(|number| number * KEPT_MS));
        assert!(knows(&quiet, 0));
        let mut recent = window((0..2 * LEAST).map(|_| 0));
        assert!(knows(&recent, 0));
        for number in 0..LEAST {
            recent.remember(remembered(2 * LEAST + number, KEPT_MS + 1));
        }
        assert_eq!(recent.iter().count(), REQUESTS_LEAST, "a few at a time");
        assert!(!knows(&recent, 2 * LEAST - 1) && knows(&recent, 2 * LEAST));
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let recent = window((0..REQUESTS_MAX as u64 + 5).map(|_| 0));
        assert_eq!(recent.iter().count(), REQUESTS_MAX);
        assert!(!knows(&recent, 4) && knows(&recent, 5));
    }

    #[test]
    fn a_proposer_whose_clock_is_late_makes_nobody_forgotten_early() {
        let recent = window([5_000, 10, 6_000]);
        assert_eq!(recent.iter().map(|one| one.at_ms).collect::<Vec<_>>(), [5_000, 5_000, 6_000]);
    }

    #[test]
    fn a_window_is_restored_as_it_was() {
        let recent = window((0..3 * LEAST).map(|number| number * 20));
        let restored = Recent::restore(recent.turn_first(), recent.iter().cloned().collect());
        assert_eq!(restored, Some(recent));
    }

    #[test]
    fn a_window_that_contradicts_itself_is_refused() {
        assert_eq!(Recent::restore(0, vec![remembered(1, 0), remembered(1, 0)]), None);
        assert_eq!(Recent::restore(0, vec![remembered(1, 2), remembered(2, 1)]), None);
        assert_eq!(Recent::restore(u64::MAX, vec![remembered(1, 0)]), None);
    }
}
