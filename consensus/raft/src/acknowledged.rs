//! What followers acknowledged to this node as their leader, beside openraft: so that a follower that lost some of it is
//! found out.
//!
//! A follower in order never refuses to go on from an entry that it acknowledged to the same leader before. One that
//! does has lost the end of its log. openraft then sends it everything anew, and it must know of it: until it has
//! everything again, its vote could help a leader who lacks what was acknowledged by a majority of which it was one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skein_proto::NodeId;

use crate::types::{LogId, Vote};

/// The followers' words. Clones are the same. One small entry for each node that was ever sent anything, of which a mesh
/// has few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged {
    by_node: Arc<Mutex<BTreeMap<NodeId, Word>>>,
}

/// What one follower said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// To which leadership.
    vote: Vote,
    /// Up to where it had the log.
    pub(crate) upto: LogId,
    /// Whether it does not have it now.
    pub(crate) is_broken: bool,
}

impl Acknowledged {
    /// What this follower said last to the leader with this vote.
    pub(crate) fn of(&self, node: NodeId, vote: &Vote) -> Option<Word> {
        self.by_node().get(&node).copied().filter(|word| word.vote == *vote)
    }

    /// It has the log up to `upto`.
    pub(crate) fn note(&self, node: NodeId, vote: Vote, upto: LogId) {
        let mut by_node = self.by_node();
        let fresh = Word { vote, upto, is_broken: false };
        let word = by_node.entry(node).or_insert(fresh);
        if word.vote != vote || word.upto <= upto {
            *word = fresh;
        }
    }

    /// It does not have what it said it has.
    pub(crate) fn is_broken(&self, node: NodeId, vote: &Vote) {
        if let Some(word) = self.by_node().get_mut(&node).filter(|word| word.vote == *vote) {
            word.is_broken = true;
        }
    }

    fn by_node(&self) -> MutexGuard<'_, BTreeMap<NodeId, Word>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn id(index: u64) -> LogId {
        LogId::new(openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 }, index)
    }

    fn upto(acknowledged: &Acknowledged, vote: &Vote) -> Option<(u64, bool)> {
        acknowledged.of(NODE, vote).map(|word| (word.upto.index, word.is_broken))
    }

    #[test]
    fn a_word_is_kept_until_a_greater_one_and_good_for_one_leadership() {
        let (acknowledged, first, second) = (Acknowledged::default(), Vote::new(1, 1), Vote::new(2, 1));
        acknowledged.note(NODE, first, id(5));
        acknowledged.note(NODE, first, id(3));
        assert_eq!(upto(&acknowledged, &first), Some((5, false)));
        assert_eq!(upto(&acknowledged, &second), None);
        acknowledged.note(NODE, second, id(4));
        assert_eq!(upto(&acknowledged, &second), Some((4, false)));
    }

    #[test]
    fn a_broken_word_is_whole_again_when_everything_is_there() {
        let (acknowledged, vote) = (Acknowledged::default(), Vote::new(1, 1));
        acknowledged.note(NODE, vote, id(5));
        acknowledged.is_broken(NODE, &vote);
        acknowledged.note(NODE, vote, id(4));
        assert_eq!(upto(&acknowledged, &vote), Some((5, true)));
        acknowledged.note(NODE, vote, id(5));
        assert_eq!(upto(&acknowledged, &vote), Some((5, false)));
    }
}
