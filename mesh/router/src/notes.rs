//! What this router itself has seen of each node since the last gossip: newer than any load digest, and only its own.

use std::{collections::BTreeMap, time::Duration};

use skein_proto::{ErrorCode, Failure, NodeId, VersionId};
use tokio::time::Instant;

/// Own calls under way, nodes that did not answer or had no place, and how quickly the others did.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    under_way: BTreeMap<NodeId, u32>,
    failed: BTreeMap<NodeId, Instant>,
    /// Until when a node that turned away a call of a version is believed to have no place for another.
    refusals: BTreeMap<(NodeId, VersionId), Instant>,
    paces: BTreeMap<NodeId, Pace>,
}

/// How long a node takes beyond the run of the function itself.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// An exponential mean over about four calls: three slow ones make a slow node, one hiccup does not.
    mean: Duration,
    at: Instant,
}

/// How long a node that could not be reached is avoided. The failure detector knows in two seconds; this bridges the
/// time without making a verdict of one broken connection.
const AVOIDED: Duration = Duration::from_secs(1);
/// Longest time for which a node's word that it is full counts for more than its digest: by then there is a newer one.
const REFUSAL_MAX: Duration = Duration::from_millis(500);
/// Most such words kept; those that are over make room.
const REFUSALS_KEPT: usize = 1_024;
/// Below this nobody is called slow: it is what a cold start or a distant site costs.
const SLOW_MIN: Duration = Duration::from_millis(50);
/// Slow is a matter of comparison: so many times what the quickest of the other peers takes.
const SLOW_FACTOR: u32 = 4;
/// How long a pace is believed. A node that gets no calls for being slow is given some again after this.
const PACE_KEPT: Duration = Duration::from_secs(5);

impl Notes {
    pub(crate) fn begin(&mut self, node: NodeId) {
        *self.under_way.entry(node).or_default() += 1;
    }

    pub(crate) fn end(&mut self, node: NodeId) {
        if let Some(count) = self.under_way.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&node);
            }
        }
    }

    pub(crate) fn under_way(&self, node: NodeId) -> u32 {
        self.under_way.get(&node).copied().unwrap_or(0)
    }

    /// Remembers what an attempt's end says about the node, as opposed to the function: whether it could be reached, and
    /// its `overhead`, if that could be measured.
    pub(crate) fn learn(&mut self, node: NodeId, failure: Option<&Failure>, overhead: Option<Duration>, now: Instant) {
        match failure.map(|failure| failure.code) {
            Some(ErrorCode::Unreachable | ErrorCode::PeerLost | ErrorCode::Untrusted) => {
                self.failed.insert(node, now);
            }
            _ => {
                self.failed.remove(&node);
            }
        }
        if let Some(overhead) = overhead {
            let before = self.pace(node, now).unwrap_or(overhead);
            self.paces.insert(node, Pace { mean: before - before / 4 + overhead / 4, at: now });
        }
    }

    /// Remembers that `node` had no place for a call of `version`. Without it, calls that are refused here go on, all of
    /// them, to a node whose digest was made in a lucky moment, until the next one comes.
    pub(crate) fn refused(&mut self, node: NodeId, version: VersionId, failure: &Failure, now: Instant) {
        let time = failure.retry_after_ms.map_or(REFUSAL_MAX, Duration::from_millis).min(REFUSAL_MAX);
        if self.refusals.len() >= REFUSALS_KEPT {
            self.refusals.retain(|_, until| *until > now);
        }
        if self.refusals.len() < REFUSALS_KEPT || self.refusals.contains_key(&(node, version)) {
            self.refusals.insert((node, version), now + time);
        }
    }

    /// Whether `node` said a moment ago that it has no place for `version`.
    pub(crate) fn has_refused(&self, node: NodeId, version: VersionId, now: Instant) -> bool {
        self.refusals.get(&(node, version)).is_some_and(|until| *until > now)
    }

    pub(crate) fn is_avoided(&self, node: NodeId, now: Instant) -> bool {
        self.failed.get(&node).is_some_and(|at| now.saturating_duration_since(*at) < AVOIDED)
    }

    /// Whether calls at this node take much longer than their functions run, compared with other peers.
    pub(crate) fn is_slow(&self, node: NodeId, now: Instant) -> bool {
        let Some(pace) = self.pace(node, now).filter(|pace| *pace > SLOW_MIN) else { return false };
        let others = self.paces.keys().filter(|other| **other != node).filter_map(|other| self.pace(*other, now));
        others.min().is_none_or(|quickest| pace > quickest * SLOW_FACTOR)
    }

    fn pace(&self, node: NodeId, now: Instant) -> Option<Duration> {
        let pace = self.paces.get(&node)?;
        (now.saturating_duration_since(pace.at) < PACE_KEPT).then_some(pace.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn notes(paces: &[(u64, u32)], now: Instant) -> Notes {
        let mut notes = Notes::default();
        for (node, ms) in paces {
            notes.learn(NodeId(*node), None, Some(MS * *ms), now);
        }
        notes
    }

    #[tokio::test]
    async fn slow_is_who_takes_much_longer_than_others_and_than_a_start() {
        let now = Instant::now();
        let check = |paces: &[(u64, u32)], slow: &[u64]| {
            let notes = notes(paces, now);
            let found: Vec<u64> = (1..9).filter(|node| notes.is_slow(NodeId(*node), now)).collect();
            assert_eq!(found, slow, "{paces:?}");
        };
        check(&[(2, 1), (3, 40)], &[]);
        check(&[(2, 1), (3, 60)], &[3]);
        check(&[(2, 80), (3, 90)], &[]);
        check(&[(2, 60)], &[2]);
    }

    #[tokio::test]
    async fn who_is_full_is_so_for_its_version_and_for_as_long_as_it_said() {
        let version = |number| VersionId { function: skein_proto::FunctionId(1), number };
        let refusal = |ms| Failure::not_executed(ErrorCode::Overloaded, "").retry_after(MS * ms);
        let (mut notes, now) = (Notes::default(), Instant::now());
        notes.refused(NodeId(2), version(1), &refusal(40), now);
        notes.refused(NodeId(3), version(1), &refusal(9_000), now);
        let refused = |node, number, ms| notes.has_refused(NodeId(node), version(number), now + MS * ms);
        assert!(refused(2, 1, 39) && !refused(2, 1, 40) && !refused(2, 2, 0));
        assert!(refused(3, 1, 499) && !refused(3, 1, 500), "its digest is newer than its word");
    }

    #[tokio::test]
    async fn words_that_are_over_make_room_for_new_ones() {
        let version = |number| VersionId { function: skein_proto::FunctionId(1), number };
        let refusal = Failure::not_executed(ErrorCode::Overloaded, "");
        let (mut notes, now) = (Notes::default(), Instant::now());
        (0..2 * REFUSALS_KEPT as u64).for_each(|number| notes.refused(NodeId(2), version(number), &refusal, now));
        assert_eq!(notes.refusals.len(), REFUSALS_KEPT);
        notes.refused(NodeId(2), version(u64::MAX), &refusal, now + REFUSAL_MAX);
        assert!(notes.has_refused(NodeId(2), version(u64::MAX), now + REFUSAL_MAX) && notes.refusals.len() == 1);
    }

    #[tokio::test]
    async fn one_hiccup_makes_nobody_slow_and_nobody_is_slow_for_ever() {
        let now = Instant::now();
        let mut notes = notes(&[(2, 1), (3, 1)], now);
        notes.learn(NodeId(3), None, Some(150 * MS), now);
        assert!(!notes.is_slow(NodeId(3), now));
        notes.learn(NodeId(3), None, Some(150 * MS), now);
        assert!(notes.is_slow(NodeId(3), now));
        assert!(!notes.is_slow(NodeId(3), now + PACE_KEPT));
    }
}
