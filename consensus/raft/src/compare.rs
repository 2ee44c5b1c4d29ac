//! Whether what this node applied is what the leader applied: asked now and then, by fingerprint.
//!
//! Equal logs make equal states. Logs that should be equal and are not (a disk that lost acknowledged writes, a directory
//! that was put back from a copy) would never be noticed otherwise: each replica goes on from what it has.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openraft::async_runtime::WatchReceiver;
use skein_proto::{NodeId, codec};
use skein_transport::{Service, Transport};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    StateMachine,
    findings::Findings,
    types::Raft,
    wire::{Answer, Ask},
};

/// The fingerprints of the state after each of the last entries. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prints {
    last: Arc<Mutex<VecDeque<(u64, u64)>>>,
}

/// Fingerprints kept, of 16 bytes each: a follower that is asked about is rarely more than a few entries from the leader.
const PRINTS_MAX: usize = 4_096;

/// How long the leader may take to compare. It looks into memory.
const PATIENCE: Duration = Duration::from_secs(1);

impl Prints {
    /// The state after the entry at `index` has this fingerprint.
    pub(crate) fn note(&self, index: u64, fingerprint: u64) {
        let mut last = self.last();
        if last.len() == PRINTS_MAX {
            last.pop_front();
        }
        last.push_back((index, fingerprint));
    }

    /// The state is that of a snapshot, whatever it was before.
    pub(crate) fn begin(&self, index: u64, fingerprint: u64) {
        let mut last = self.last();
        last.clear();
        last.push_back((index, fingerprint));
    }

    /// The newest, with its index.
    pub(crate) fn newest(&self) -> Option<(u64, u64)> {
        self.last().back().copied()
    }

    /// Whether the state after the entry at `index` had this fingerprint; none if that is not known any more, or not yet.
    pub(crate) fn is_equal(&self, index: u64, fingerprint: u64) -> Option<bool> {
        let last = self.last();
        let at = last.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        last.get(at).map(|(_, own)| *own == fingerprint)
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that asks.
pub(crate) struct Comparer<M: StateMachine> {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<M>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) prints: Prints,
    pub(crate) findings: Findings,
    pub(crate) period: Duration,
}

impl<M: StateMachine> Comparer<M> {
    /// Works until the group is closed.
    pub(crate) async fn run(self, closing: CancellationToken) {
        let mut tick = interval(self.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = self.ask() => {}
            }
        }
    }

    /// Asks the leader, if that is another node. No answer is no finding: the leader may be gone, or of an older release.
    async fn ask(&self) {
        // In this order: the leader is then at least as new as the one that had this entry committed.
        let Some((index, fingerprint)) = self.prints.newest() else { return };
        let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
        let Some(leader) = leader.filter(|leader| *leader != self.node) else { return };
        let Ok(body) = codec::encode(&Ask::Compare { index, fingerprint }) else { return };
        let Ok(answer) = self.transport.call(leader, Service::Propose, body, Instant::now() + PATIENCE).await else {
            return;
        };
        if let Ok(Answer::Compared { is_equal: Some(is_equal) }) = codec::decode(&answer) {
            self.findings.compared(index, is_equal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_compared() {
        let prints = Prints::default();
        assert_eq!((prints.newest(), prints.is_equal(1, 7)), (None, None));
        for index in 1..=PRINTS_MAX as u64 + 1 {
            prints.note(index, index * 10);
        }
        assert_eq!(prints.newest(), Some((PRINTS_MAX as u64 + 1, (PRINTS_MAX as u64 + 1) * 10)));
        assert_eq!(prints.is_equal(1, 10), None, "too long ago");
        assert_eq!(prints.is_equal(2, 20), Some(true));
        assert_eq!(prints.is_equal(2, 21), Some(false));
        assert_eq!(prints.is_equal(PRINTS_MAX as u64 + 2, 0), None, "not yet");
        prints.begin(9_000, 1);
        assert_eq!((prints.is_equal(2, 20), prints.is_equal(9_000, 1)), (None, Some(true)));
    }
}
