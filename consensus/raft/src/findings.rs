//! What this node found to be wrong with what it holds, or with what others hold.
//!
//! Two faults of a disk, or of whoever puts an old copy of a directory back, are not seen by the node that has them: the
//! end of its log may be gone, and its state may not be what the others have. The leader sees both. See
//! `docs/decisions/0022`.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skein_proto::NodeId;

use crate::{LostEntries, metrics, types::LogId};

/// All that was found. Clones are the same findings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    found: Arc<Mutex<Found>>,
}

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The entries that this node acknowledged and had no more when it was asked about them.
    pub(crate) lost: Option<LostEntries>,
    /// The last of them, until it has them again.
    missing: Option<LogId>,
    /// The index as of which this node's state was seen not to be the leader's.
    pub(crate) differs_at: Option<u64>,
    /// As the leader: the members that lost entries.
    pub(crate) others_lost: BTreeSet<NodeId>,
    /// As the leader: the members whose state is another.
    pub(crate) others_differ: BTreeSet<NodeId>,
}

impl Findings {
    /// What was found so far.
    pub(crate) fn now(&self) -> Found {
        self.found().clone()
    }

    /// The leader has this node's word that it has the log up to `acknowledged`, and it ends with `last`.
    pub(crate) fn acknowledged(&self, acknowledged: LogId, last: Option<LogId>) {
        let mut found = self.found();
        if last >= Some(acknowledged) || found.missing >= Some(acknowledged) {
            return;
        }
        let first = last.map_or(0, |last| last.index + 1);
        let lost = LostEntries { first, last: acknowledged.index.max(first), is_back: false };
        tracing::error!(
            first,
            last = lost.last,
            "this node acknowledged entries of the log that it does not have any more: its disk lost them, or an old copy \
             of its directory was put back. It gives no vote until the leader has sent them again"
        );
        metrics::lost(lost.last - first + 1);
        (found.lost, found.missing) = (Some(lost), Some(acknowledged));
    }

    /// The last of the entries that were lost, while they are missing.
    pub(crate) fn missing(&self) -> Option<LogId> {
        self.found().missing
    }

    /// The log ends with `last` now. Returns true if what was missing is there again.
    pub(crate) fn ends_with(&self, last: Option<LogId>) -> bool {
        let mut found = self.found();
        if found.missing.is_none() || found.missing > last {
            return false;
        }
        tracing::info!("the entries of the log that were lost are here again");
        found.missing = None;
        if let Some(lost) = &mut found.lost {
            lost.is_back = true;
        }
        true
    }

    /// This node's state as of `index` is, or is not, the leader's.
    pub(crate) fn compared(&self, index: u64, is_equal: bool) {
        let mut found = self.found();
        if is_equal {
            found.differs_at = None;
        } else if found.differs_at.is_none() {
            tracing::error!(
                index,
                "what this node applied is not what the leader applied: one of them lost acknowledged writes, or an old copy \
                 of its directory was put back"
            );
            found.differs_at = Some(index);
        }
        metrics::differs(found.differs_at.is_some());
    }

    /// As the leader: a member lost what it had acknowledged.
    pub(crate) fn other_lost(&self, node: NodeId) {
        if self.found().others_lost.insert(node) {
            tracing::error!(%node, "a member lost entries of the log that it had acknowledged; it is sent them again");
        }
    }

    /// As the leader: a member's state as of `index` is, or is not, this node's.
    pub(crate) fn other_compared(&self, node: NodeId, index: u64, is_equal: bool) {
        let mut found = self.found();
        if is_equal {
            found.others_differ.remove(&node);
        } else if found.others_differ.insert(node) {
            tracing::error!(%node, index, "what a member applied is not what this node, which leads, applied");
        }
    }

    /// This node does not lead: what it found about others is for the next leader to say.
    pub(crate) fn forget_others(&self) {
        let mut found = self.found();
        found.others_lost.clear();
        found.others_differ.clear();
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(openraft::impls::leader_id_adv::LeaderId { term, node_id: 1 }, index)
    }

    #[test]
    fn what_is_there_is_not_lost() {
        let findings = Findings::default();
        findings.acknowledged(id(1, 5), Some(id(1, 5)));
        findings.acknowledged(id(1, 5), Some(id(2, 4)));
        assert_eq!(findings.now(), Found::default());
    }

    #[test]
    fn what_is_lost_is_missing_until_the_log_reaches_as_far_again() {
        let findings = Findings::default();
        findings.acknowledged(id(1, 9), Some(id(1, 4)));
        findings.acknowledged(id(1, 8), Some(id(1, 4)));
        assert_eq!(findings.now().lost, Some(LostEntries { first: 5, last: 9, is_back: false }));
        assert!(!findings.ends_with(Some(id(1, 8))));
        assert_eq!(findings.missing(), Some(id(1, 9)));
        assert!(findings.ends_with(Some(id(1, 9))));
        assert_eq!(findings.missing(), None);
        assert_eq!(findings.now().lost, Some(LostEntries { first: 5, last: 9, is_back: true }), "it is told on");
        assert!(!findings.ends_with(Some(id(1, 10))));
    }

    #[test]
    fn a_blank_log_lost_everything() {
        let findings = Findings::default();
        findings.acknowledged(id(1, 9), None);
        assert_eq!(findings.now().lost, Some(LostEntries { first: 0, last: 9, is_back: false }));
    }

    #[test]
    fn a_difference_is_told_until_there_is_none() {
        let findings = Findings::default();
        findings.compared(7, false);
        findings.compared(9, false);
        assert_eq!(findings.now().differs_at, Some(7));
        findings.compared(11, true);
        assert_eq!(findings.now().differs_at, None);
    }
}
