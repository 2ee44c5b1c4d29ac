//! Keeps the log short: has a snapshot taken when the log behind the last one has grown, and the log before it purged.
//!
//! What a start has to read and to replay is bounded by this: the newest snapshot, and as much of the log as the limits
//! say. openraft counts entries only, and an entry may be large.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits, StateMachine,
    log::Log,
    snapshot::Shelf,
    types::{LogId, Raft},
};

/// The task that does it.
pub(crate) struct Compactor<M: StateMachine> {
    pub(crate) raft: Raft<M>,
    pub(crate) log: Log,
    pub(crate) shelf: Shelf,
    pub(crate) limits: Limits,
}

/// After this time a snapshot that was refused, as on a full disk, is asked for again.
const RETRY: Duration = Duration::from_secs(5);

/// How the log stands to the newest snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    /// The first index that is not in the snapshot.
    covered: u64,
    /// The first index that is not applied.
    applied: u64,
    /// Bytes of the log between these two.
    replay_bytes: u64,
    /// Bytes of the log that the snapshot makes superfluous.
    kept_bytes: u64,
    /// Bytes of the snapshot.
    snapshot_bytes: u64,
}

impl Standing {
    /// Whether a snapshot is due: by the number of entries, or by their bytes. It is not taken for fewer bytes than it
    /// has itself: else a large state would be written again for every small part of it that changes.
    fn is_due(&self, limits: &Limits) -> bool {
        let entries = self.applied.saturating_sub(self.covered);
        let bytes_max = limits.snapshot_bytes.max(self.snapshot_bytes);
        entries > 0 && (entries >= limits.snapshot_entries || self.replay_bytes >= bytes_max)
    }
}

impl<M: StateMachine> Compactor<M> {
    /// Works until the group is closed.
    pub(crate) async fn run(self, closing: CancellationToken) {
        let mut metrics = self.raft.metrics();
        let (mut asked, mut purged) = (None::<Instant>, 0);
        loop {
            let retry = async {
                match asked {
                    Some(asked) => sleep_until(asked + RETRY).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { return },
                () = retry => {}
            }
            let standing = {
                let seen = metrics.borrow_watched();
                self.standing(seen.snapshot, seen.last_applied)
            };
            if !standing.is_due(&self.limits) {
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= RETRY) {
                asked = Some(Instant::now());
                // An error: raft has stopped, of which others tell.
                let _ = self.raft.trigger().snapshot().await;
            }
            let first = self.first_kept(&standing);
            if first > purged {
                purged = first;
                let _ = self.raft.trigger().purge_log(first - 1).await;
            }
        }
    }

    fn standing(&self, snapshot: Option<LogId>, applied: Option<LogId>) -> Standing {
        let next = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
        let (covered, applied) = (next(snapshot), next(applied));
        let [all, behind, unapplied] = [0, covered, applied.max(covered)].map(|index| self.log.bytes_from(index));
        Standing {
            covered,
            applied,
            replay_bytes: behind.saturating_sub(unapplied),
            kept_bytes: all.saturating_sub(behind),
            snapshot_bytes: self.shelf.bytes(),
        }
    }

    /// The first index that is to stay in the log, where what is kept for others has outgrown its bound; else 0.
    fn first_kept(&self, standing: &Standing) -> u64 {
        if standing.kept_bytes <= self.limits.kept_bytes {
            return 0;
        }
        let behind = self.log.bytes_from(standing.covered);
        self.log.first_within(behind.saturating_add(self.limits.kept_bytes)).min(standing.covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_entries_or_by_bytes_but_never_for_less_than_it_writes() {
        let limits = Limits { snapshot_entries: 100, snapshot_bytes: 1_000, ..Limits::default() };
        let standing = |entries: u64, replay_bytes, snapshot_bytes| Standing {
            covered: 50,
            applied: 50 + entries,
            replay_bytes,
            snapshot_bytes,
            ..Standing::default()
        };
        let is_due = |standing: Standing| standing.is_due(&limits);
        assert!(!is_due(standing(99, 999, 0)));
        assert!(is_due(standing(100, 0, 0)), "by entries");
        assert!(is_due(standing(1, 1_000, 999)), "by bytes");
        assert!(!is_due(standing(99, 4_999, 5_000)) && is_due(standing(99, 5_000, 5_000)), "of a large state");
        assert!(!is_due(standing(0, 9_000, 0)), "of nothing new");
        assert!(!is_due(Standing { covered: 60, applied: 50, ..Standing::default() }), "after an install");
    }
}
