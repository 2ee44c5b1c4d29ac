//! The nodes that a call has still to try, as they rank, as failures allow, and as those it came to too late point on.

use std::collections::VecDeque;

use skein_placement::{Candidate, Ranked};
use skein_proto::{Failure, NodeId};

use crate::attempt::Next;

/// The way of one call.
pub(crate) struct Way {
    ahead: VecDeque<Candidate>,
    /// All of them, to be pointed at.
    usable: Vec<Candidate>,
    /// How often it was pointed on.
    hops: usize,
    /// The last node that pointed on. When nobody else takes the call, it has to after all.
    left: Option<Candidate>,
}

/// The next step of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) node: NodeId,
    /// Run there even if the version has moved away.
    pub(crate) is_insistent: bool,
}

/// Most times a call follows a version. Each pointer is newer than the one before, so one is enough unless the version
/// moves again while the call is on its way.
const HOPS_MAX: usize = 6;

impl Way {
    pub(crate) fn new(ranked: &[Ranked]) -> Self {
        let usable: Vec<_> = ranked.iter().filter(|ranked| ranked.is_usable()).map(|ranked| ranked.candidate).collect();
        Self { ahead: usable.iter().copied().collect(), usable, hops: 0, left: None }
    }

    /// Where to try next, after what happened before.
    pub(crate) fn step(&mut self, after: Option<Next>) -> Option<Step> {
        let may = |candidate: &Candidate| after != Some(Next::Roomier) || candidate.has_room();
        while let Some(candidate) = self.ahead.pop_front() {
            if may(&candidate) {
                return Some(Step { node: candidate.node, is_insistent: false });
            }
        }
        let last = self.left.take().filter(may)?;
        Some(Step { node: last.node, is_insistent: true })
    }

    /// Goes on to where the version went, as `node` said in its failure. False if it did not say, or that is a place
    /// where the call cannot go.
    pub(crate) fn follow(&mut self, node: NodeId, failure: &Failure) -> bool {
        let find = |node: NodeId| self.usable.iter().find(|candidate| candidate.node == node).copied();
        let Some(to) = failure.moved_to else { return false };
        self.left = find(node).or(self.left);
        let Some(to) = find(to).filter(|_| self.hops < HOPS_MAX) else { return false };
        self.hops += 1;
        self.ahead.retain(|candidate| candidate.node != to.node);
        self.ahead.push_front(to);
        true
    }
}
