//! What this router itself has seen of each node since the last gossip: newer than any load digest, and only its own.

use std::{collections::BTreeMap, time::Duration};

use skein_proto::{ErrorCode, Failure, FunctionId, NodeId, Progress, VersionId};
use tokio::time::Instant;

/// Own calls under way, nodes that did not answer or had no place, and how quickly the others did.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    under_way: BTreeMap<NodeId, u32>,
    failed: BTreeMap<NodeId, Instant>,
    /// Until when a node that turned away a call of a version is believed to have no place for another.
    refusals: BTreeMap<(NodeId, VersionId), Instant>,
    /// Until when a node that turned away a call for want of memory is believed to have none.
    starved: BTreeMap<NodeId, Instant>,
    paces: BTreeMap<NodeId, Pace>,
    /// Versions whose calls did not come to run at a node by their deadlines, for all that it says.
    silences: BTreeMap<(NodeId, VersionId), Silence>,
    /// When each node last answered a call.
    answered: BTreeMap<NodeId, Instant>,
    /// Until when versions are believed to end the nodes that they run on.
    fatal: BTreeMap<VersionId, Instant>,
}

/// Calls of one version at one node that ended at their deadlines without a sign that they ran, with no answer in between.
#[derive(Debug, Clone, Copy)]
struct Silence {
    calls: u32,
    last: Instant,
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
/// So many silent calls in a row, and calls of the version go elsewhere: one may have had a short deadline.
const SILENT_CALLS: u32 = 2;
/// So long a call must have waited at least: a caller in more of a hurry must not send everybody's calls elsewhere.
const SILENCE_MIN: Duration = Duration::from_millis(500);
/// How long they do so, before one is tried again; twice as long after each further silent one, up to so often. Each costs
/// its caller the whole of its deadline.
const SILENCE_KEPT: Duration = Duration::from_secs(5);
const SILENCE_DOUBLINGS_MAX: u32 = 4;
/// So many versions are silent at a node, and none of its calls has been answered since: then calls of all versions go
/// elsewhere.
const SILENT_VERSIONS: usize = 2;
/// Most silences kept; the oldest make room.
const SILENCES_KEPT: usize = 1_024;
/// How long a version that ended two nodes is believed to end more.
const FATAL_KEPT: Duration = Duration::from_secs(60);
/// Most such versions kept; those that are over make room.
const FATAL_MAX: usize = 256;

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
            // Nothing came back, or only that the time is over, which the way there says as well: nothing is known.
            _ if failure.is_some_and(is_silent) => {}
            _ => {
                self.failed.remove(&node);
            }
        }
        if let Some(overhead) = overhead {
            let before = self.pace(node, now).unwrap_or(overhead);
            self.paces.insert(node, Pace { mean: before - before / 4 + overhead / 4, at: now });
        }
    }

    /// Remembers whether a call of `version` was answered by `node`. A node's gossip may go on while its calls hang: on a
    /// disk that does not answer, or behind guests that cannot be stopped. Its timers go on as well, so that it may have
    /// the time to say that nothing ran. Any other answer, whatever it says, ends what is said of the version there; and it
    /// shows that the node as a whole is alive.
    pub(crate) fn ended(
        &mut self,
        (node, version): (NodeId, VersionId),
        failure: Option<&Failure>,
        took: Duration,
        now: Instant,
    ) {
        let key = (node, version);
        match failure {
            // A caller in a hurry says nothing about the node.
            Some(failure) if is_silent(failure) && took < SILENCE_MIN => {}
            Some(failure) if is_silent(failure) => {
                if self.silences.len() >= SILENCES_KEPT
                    && !self.silences.contains_key(&key)
                    && let Some(oldest) = self.silences.iter().min_by_key(|(_, silence)| silence.last)
                {
                    let oldest = *oldest.0;
                    self.silences.remove(&oldest);
                }
                let silence = self.silences.entry(key).or_insert(Silence { calls: 0, last: now });
                *silence = Silence { calls: silence.calls.saturating_add(1), last: now };
            }
            // It did not reach the node, or the caller did not wait: no answer, and no silence either.
            Some(failure) if is_lost(failure) || failure.code == ErrorCode::Cancelled => {}
            _ => {
                self.silences.remove(&key);
                self.answered.insert(node, now);
            }
        }
    }

    /// Whether calls of `version` had better not go to `node`, since they hang there, or all calls do.
    pub(crate) fn hangs(&self, node: NodeId, version: VersionId, now: Instant) -> bool {
        let own = self.silences.get(&(node, version)).is_some_and(|silence| silence.is_on(now));
        own || self.hangs_as_a_whole(node, now)
    }

    fn hangs_as_a_whole(&self, node: NodeId, now: Instant) -> bool {
        let bounds = |number| (node, VersionId { function: FunctionId(number), number });
        let of_node = self.silences.range(bounds(0)..=bounds(u64::MAX)).map(|(_, silence)| silence);
        let answered = self.answered.get(&node);
        let silent = of_node.filter(|silence| silence.is_on(now) && answered.is_none_or(|at| *at < silence.last));
        silent.count() >= SILENT_VERSIONS
    }

    /// Remembers that a call of `version` was lost with one node, repeated, and lost with another.
    pub(crate) fn ended_two(&mut self, version: VersionId, now: Instant) {
        if self.fatal.len() >= FATAL_MAX {
            self.fatal.retain(|_, until| *until > now);
        }
        if self.fatal.len() < FATAL_MAX {
            self.fatal.insert(version, now + FATAL_KEPT);
        }
    }

    /// Whether a call of `version` has taken two nodes with it of late.
    pub(crate) fn ends_nodes(&self, version: VersionId, now: Instant) -> bool {
        self.fatal.get(&version).is_some_and(|until| *until > now)
    }

    /// Remembers that `node` had no place for a call of `version`. Without it, calls that are refused here go on, all of
    /// them, to a node whose digest was made in a lucky moment, until the next one comes.
    pub(crate) fn refused(&mut self, node: NodeId, version: VersionId, failure: &Failure, now: Instant) {
        let time = failure.retry_after_ms.map_or(REFUSAL_MAX, Duration::from_millis).min(REFUSAL_MAX);
        if failure.lacks_memory {
            self.starved.insert(node, now + time);
        }
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

    /// Whether `node` said a moment ago that it has no memory, for whatever version.
    pub(crate) fn is_starved(&self, node: NodeId, now: Instant) -> bool {
        self.starved.get(&node).is_some_and(|until| *until > now)
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

impl Silence {
    /// Whether it is long enough to count, and not so old that the node may be given another call.
    fn is_on(&self, now: Instant) -> bool {
        let Some(doublings) = self.calls.checked_sub(SILENT_CALLS) else { return false };
        let kept = SILENCE_KEPT * (1 << doublings.min(SILENCE_DOUBLINGS_MAX));
        now.saturating_duration_since(self.last) < kept
    }
}

/// Whether the deadline passed and nothing shows that the call ran: the node said nothing, or that it had not begun. Of a
/// call that ran to its deadline it says so.
fn is_silent(failure: &Failure) -> bool {
    failure.code == ErrorCode::DeadlineExceeded && failure.progress != Progress::Executed
}

fn is_lost(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Unreachable | ErrorCode::PeerLost | ErrorCode::Untrusted)
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
        assert!(!notes.is_starved(NodeId(2), now));
        let starved = Failure { lacks_memory: true, ..refusal(9_000) };
        notes.refused(NodeId(4), version(1), &starved, now);
        let starved = |ms| notes.is_starved(NodeId(4), now + MS * ms);
        assert!(starved(499) && !starved(500), "memory that is not there is there for no version");
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

    fn version(function: u64) -> VersionId {
        VersionId { function: FunctionId(function), number: 1 }
    }

    fn silence() -> Failure {
        Failure::maybe_executed(ErrorCode::DeadlineExceeded, "no answer in time")
    }

    #[tokio::test]
    async fn a_version_whose_calls_hang_at_a_node_goes_elsewhere_for_ever_longer_until_one_is_answered() {
        let (mut notes, mut now) = (Notes::default(), Instant::now());
        let node = NodeId(2);
        notes.ended((node, version(1)), Some(&silence()), SILENCE_MIN, now);
        assert!(!notes.hangs(node, version(1), now), "one may have had too little time");
        (0..9).for_each(|_| notes.ended((node, version(1)), Some(&silence()), SILENCE_MIN - MS, now));
        assert!(!notes.hangs(node, version(1), now), "those had");
        for kept in [5, 10, 20, 40, 80, 80] {
            notes.ended((node, version(1)), Some(&silence()), SILENCE_MIN, now);
            let over = now + Duration::from_secs(kept);
            assert!(notes.hangs(node, version(1), over - MS) && !notes.hangs(node, version(1), over), "{kept} s");
            assert!(!notes.hangs(node, version(2), now) && !notes.hangs(NodeId(3), version(1), now));
            now = over;
        }
        notes.ended((node, version(1)), Some(&silence()), SILENCE_MIN, now);
        notes.ended((node, version(1)), Some(&Failure::executed(ErrorCode::FunctionFailed, "")), SILENCE_MIN, now);
        assert!(!notes.hangs(node, version(1), now), "an answer is an answer, whatever it says");
    }

    #[tokio::test]
    async fn a_node_at_which_calls_of_several_versions_hang_and_none_is_answered_hangs_as_a_whole() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        for function in [1, 1, 2, 2] {
            assert!(!notes.hangs(NodeId(2), version(3), now));
            notes.ended((NodeId(2), version(function)), Some(&silence()), SILENCE_MIN, now + MS);
        }
        assert!(notes.hangs(NodeId(2), version(3), now + MS) && !notes.hangs(NodeId(3), version(3), now + MS));
        notes.ended((NodeId(2), version(3)), None, SILENCE_MIN, now + 2 * MS);
        assert!(!notes.hangs(NodeId(2), version(3), now + 2 * MS), "it answers others");
        assert!(notes.hangs(NodeId(2), version(1), now + 2 * MS), "but not these");
    }

    #[tokio::test]
    async fn a_function_that_runs_to_its_deadline_says_nothing_against_its_node() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        let stopped = Failure::executed(ErrorCode::DeadlineExceeded, "it was stopped");
        (0..9).for_each(|_| notes.ended((NodeId(2), version(1)), Some(&stopped), SILENCE_MIN, now));
        assert!(!notes.hangs(NodeId(2), version(1), now));
    }

    #[tokio::test]
    async fn what_gets_no_answer_says_nothing_good_of_its_node() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        notes.learn(NodeId(2), Some(&Failure::not_executed(ErrorCode::Unreachable, "")), None, now);
        notes.learn(NodeId(2), Some(&silence()), None, now);
        notes.learn(NodeId(2), Some(&Failure::not_executed(ErrorCode::DeadlineExceeded, "late")), None, now);
        assert!(notes.is_avoided(NodeId(2), now));
    }

    #[tokio::test]
    async fn silences_are_bounded_and_the_oldest_make_room() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        for function in 0..=SILENCES_KEPT as u32 {
            notes.ended((NodeId(2), version(function.into())), Some(&silence()), SILENCE_MIN, now + MS * function);
        }
        assert_eq!(notes.silences.len(), SILENCES_KEPT);
        assert!(!notes.silences.contains_key(&(NodeId(2), version(0))));
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
