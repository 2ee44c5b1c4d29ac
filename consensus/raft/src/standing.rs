//! Whom Raft's messages are taken from, and how far one of them may move the term.
//!
//! Raft believes its members. One message of term 2^64-1 would be believed, too, and be the end of all elections: there is
//! no higher term to stand in. And a member that never votes has no business to ask for votes or to lead.

use std::{fmt, sync::Arc};

use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::sync::watch;

use crate::{Eligibility, StateMachine};

/// Who may stand for election, as this node knows. Clones are the same.
#[derive(Clone)]
pub(crate) struct Standing {
    never_votes: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
}

/// Most by which one message may raise a node's term. A node that is cut off, and stands for election every 300 ms all that
/// time, is this far ahead after 40 years; and as many such messages fit below the last term as there are in this number.
pub(crate) const TERM_JUMP_MAX: u64 = 1 << 32;

/// Highest term that a node takes which has none of its own: it comes new into a mesh of any age. Far from the last one.
pub(crate) const FIRST_TERM_MAX: u64 = 1 << 62;

impl Standing {
    /// As the state says that is applied here. A node that the state does not know is one that joined while this one was
    /// away: the transport let it in by a member's word, and it may be the leader from whom this node learns of it.
    pub(crate) fn new<M: StateMachine>(state: watch::Receiver<Arc<M>>) -> Self {
        Self { never_votes: Arc::new(move |node| state.borrow().eligibility(node) == Some(Eligibility::Never)) }
    }

    /// Refuses what a node says that never votes.
    pub(crate) fn check_sender(&self, sender: NodeId) -> Result<(), Failure> {
        if !(self.never_votes)(sender) {
            return Ok(());
        }
        let message = format!("node {sender} is a worker: it asks for no votes and leads nobody");
        tracing::warn!(%sender, "refused a message of Raft from a worker, which sends none unless somebody forges them");
        Err(Failure::not_executed(ErrorCode::Untrusted, message))
    }

    /// Refuses an answer to a message of term `own` with a term that no honest member can have. One that never votes can
    /// know a higher term only by a leader, of whom the voters know as well; what it says of that deposes nobody.
    pub(crate) fn check_answer(&self, from: NodeId, own: u64, told: u64) -> Result<(), Failure> {
        if told > own && (self.never_votes)(from) {
            let message = format!("node {from} is a worker, and tells of term {told} when this is term {own}");
            return Err(Failure::maybe_executed(ErrorCode::Untrusted, message));
        }
        check_term(from, own, told)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").finish_non_exhaustive()
    }
}

/// Refuses a term that no honest member can have reached, seen from this node's own.
pub(crate) fn check_term(from: NodeId, own: u64, told: u64) -> Result<(), Failure> {
    if told <= term_max(own) {
        return Ok(());
    }
    tracing::error!(%from, own, told, "refused a term that no election can have led to; is that node still yours?");
    let message = format!(
        "term {told} is out of reach from term {own}: at most {TERM_JUMP_MAX} more are taken in one message; if the mesh is \
         really there, remove this node and let it join anew"
    );
    Err(Failure::not_executed(ErrorCode::Untrusted, message))
}

/// The highest term that is taken by a node whose own is `own`.
fn term_max(own: u64) -> u64 {
    if own == 0 { FIRST_TERM_MAX } else { own.saturating_add(TERM_JUMP_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing { never_votes: Arc::new(|node| node == NodeId(9)) }
    }

    #[test]
    fn a_term_may_rise_by_so_much_and_no_more() {
        for (own, told, is_taken) in [
            (7, 1, true),
            (7, 7, true),
            (7, 7 + TERM_JUMP_MAX - 1, true),
            (7, 7 + TERM_JUMP_MAX, true),
            (7, 7 + TERM_JUMP_MAX + 1, false),
            (7, u64::MAX, false),
            (0, FIRST_TERM_MAX - 1, true),
            (0, FIRST_TERM_MAX, true),
            (0, FIRST_TERM_MAX + 1, false),
            (0, u64::MAX, false),
        ] {
            assert_eq!(check_term(NodeId(2), own, told).is_ok(), is_taken, "{told} at {own}");
            assert_eq!(standing().check_answer(NodeId(2), own, told).is_ok(), is_taken, "answer {told} to {own}");
        }
    }

    #[test]
    fn a_node_that_never_votes_says_nothing_and_deposes_nobody() {
        assert!(standing().check_sender(NodeId(2)).is_ok());
        assert_eq!(standing().check_sender(NodeId(9)).unwrap_err().code, ErrorCode::Untrusted);
        for (told, is_taken) in [(6, true), (7, true), (8, false)] {
            assert_eq!(standing().check_answer(NodeId(9), 7, told).is_ok(), is_taken, "{told}");
        }
    }
}
