//! The nodes that a call has still to try, as they rank, as failures allow, and as those it came to too late point on.

use skein_placement::Ranked;
use skein_proto::{Failure, NodeId};

use crate::attempt::Next;

/// The way of one call along the nodes as they were ranked.
#[derive(Default)]
pub(crate) struct Way {
    /// How many of the ranked nodes are behind it.
    passed: usize,
    /// Nodes that are no longer in line: they were pointed at, or tried before the nodes were ranked anew.
    out: Vec<NodeId>,
    /// What follows from where it was pointed to just now.
    pointed: Option<Step>,
    /// How often it was pointed on.
    hops: usize,
    /// The last node that pointed on. When nobody else takes the call, it has to after all.
    left: Option<NodeId>,
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
    /// Where to try next, after what happened before.
    pub(crate) fn step(&mut self, ranked: &[Ranked], after: Option<Next>) -> Option<Step> {
        if let Some(step) = self.pointed.take() {
            return Some(step);
        }
        let may = |one: &Ranked| {
            one.is_usable()
                && match after {
                    Some(Next::Roomier) => one.has_room,
                    Some(Next::MoreMemory) => one.has_memory,
                    _ => true,
                }
        };
        while let Some(one) = ranked.get(self.passed) {
            self.passed += 1;
            if may(one) && !self.out.contains(&one.candidate.node) {
                return Some(Step { node: one.candidate.node, is_insistent: false });
            }
        }
        let left = self.left.take()?;
        ranked.iter().find(|one| one.candidate.node == left && may(one))?;
        Some(Step { node: left, is_insistent: true })
    }

    /// Goes on to where the version went, as `node` said in its failure; if that `is_gone`, which `node` has not heard of
    /// yet, `node` itself has to take the call. False if it did not say, or that is a place where the call cannot go.
    pub(crate) fn follow(
        &mut self,
        ranked: &[Ranked],
        node: NodeId,
        failure: &Failure,
        is_gone: impl Fn(NodeId) -> bool,
    ) -> bool {
        let is_usable = |node: NodeId| ranked.iter().any(|one| one.candidate.node == node && one.is_usable());
        let Some(to) = failure.moved_to else { return false };
        if is_usable(node) {
            self.left = Some(node);
        }
        if self.hops >= HOPS_MAX {
            return false;
        }
        if is_gone(to) && self.left.take_if(|left| *left == node).is_some() {
            self.hops += 1;
            self.pointed = Some(Step { node, is_insistent: true });
            return true;
        }
        if !is_usable(to) {
            return false;
        }
        self.hops += 1;
        self.out.push(to);
        self.pointed = Some(Step { node: to, is_insistent: false });
        true
    }

    /// Begins again with nodes that were ranked anew, without those that were tried.
    pub(crate) fn begin_again(&mut self, tried: &[NodeId]) {
        self.passed = 0;
        self.out = tried.to_vec();
    }
}
