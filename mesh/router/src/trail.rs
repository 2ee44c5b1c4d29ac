//! The failed attempts of one call so far: which node comes next, and what the caller is told when none does. Pure.

use std::time::Duration;

use skein_catalog::{Catalog, Resolved};
use skein_placement::{Ranked, Standing};
use skein_proto::{ErrorCode, Failure, NodeId, Progress};

use crate::attempt::{Next, is_refusal_at_the_door};

/// Most attempts of one call: the best node, another, and one more. Whoever fails thrice is failed by the mesh, not by
/// a node.
const ATTEMPTS_MAX: usize = 3;
/// When a call whose retry the budget refused is worth another try: the budget's reserve comes by the second.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What became of a call so far.
#[derive(Default)]
pub(crate) struct Trail {
    /// Those that failed, in order.
    nodes: Vec<NodeId>,
    /// How many of them were more than a pointer to where the version went.
    tried: usize,
    last: Option<Failure>,
    next: Option<Next>,
    /// The first node's word that the function is at its limit, which says more than what went wrong afterwards.
    overloaded: Option<Failure>,
    /// The nodes that did not answer.
    lost: Vec<NodeId>,
    redirected: bool,
    is_over: bool,
    may_have_run: bool,
    /// Whether a node was lost while it had the call, and was not lost before.
    has_lost_one: bool,
    pub(crate) is_late: bool,
    pub(crate) is_refused: bool,
}

impl Trail {
    /// Of a call that `was_lost` with a node before it came to this one, or was not.
    pub(crate) fn begin(was_lost: bool) -> Self {
        Self { has_lost_one: was_lost, ..Self::default() }
    }

    /// Whether nothing was tried yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.last.is_none()
    }

    /// What may follow the last attempt; none before the first.
    pub(crate) fn next(&self) -> Option<Next> {
        self.next
    }

    /// The nodes that were tried.
    pub(crate) fn tried(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether nothing more may be tried, whoever is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_over || self.tried >= ATTEMPTS_MAX
    }

    /// Whether the next attempt adds no load to the mesh: the last one was turned away before it used anything, or was
    /// lost with its node or the way there, or found no code. That is no sign of overload, and no more than was under way
    /// there. Of code that a node could not get, all calls that waited for it there are told at once.
    pub(crate) fn is_free(&self) -> bool {
        let has_no_code = |last: &Failure| last.code == ErrorCode::ArtifactUnavailable;
        self.last.as_ref().is_some_and(|last| is_refusal_at_the_door(last) || is_lost(last) || has_no_code(last))
    }

    /// Whether a node was lost while it had the call, and was not lost before.
    pub(crate) fn has_lost_one(&self) -> bool {
        self.has_lost_one
    }

    /// Whether a node did not answer this call.
    pub(crate) fn has_lost(&self, node: NodeId) -> bool {
        self.lost.contains(&node)
    }

    /// Notes a failed attempt, at a node that `was_silent` before or was not.
    pub(crate) fn note(&mut self, node: NodeId, failure: Failure, next: Next, was_silent: bool) {
        self.nodes.push(node);
        self.lost.extend(is_lost(&failure).then_some(node));
        self.tried += usize::from(next != Next::There);
        // Whoever says as of when is followed with a new look at the catalogue, which cannot lead in a circle.
        self.is_over = next == Next::Redirect && self.redirected && failure.index.is_none();
        self.has_lost_one |= is_lost_with_it(&failure) && !was_silent;
        self.redirected |= next == Next::Redirect;
        self.may_have_run |= failure.progress == Progress::MaybeExecuted;
        if matches!(next, Next::Roomier | Next::MoreMemory) && self.overloaded.is_none() {
            self.overloaded = Some(failure.clone());
        }
        self.last = Some(failure);
        self.next = Some(next);
    }

    /// The failure, with the progress of the whole call: an earlier attempt may have run.
    pub(crate) fn marked(&self, mut failure: Failure) -> Failure {
        if self.may_have_run && failure.progress == Progress::NotExecuted {
            failure.progress = Progress::MaybeExecuted;
        }
        failure
    }

    /// What the caller is told when no node is left to try, or none may be tried.
    pub(crate) fn exhausted(self, resolved: &Resolved, ranked: &[Ranked], catalog: &Catalog) -> Failure {
        let manifest = &resolved.version.manifest;
        let what = format!("{}/{}@{}", manifest.app, manifest.name, resolved.version.number);
        let (Some(node), Some(last)) = (self.nodes.last(), &self.last) else {
            let message = nowhere(&what, resolved, ranked, catalog);
            return Failure::not_executed(ErrorCode::Unavailable, message);
        };
        let cause = format!("{} tried, the last, node {node}: {last}", self.tried);
        if self.is_late {
            let message = format!("the deadline passed before a node took {what} ({cause})");
            return self.marked(Failure::not_executed(ErrorCode::DeadlineExceeded, message));
        }
        if let Some(overloaded) = self.overloaded.clone() {
            return self.marked(overloaded);
        }
        let bound = catalog.binding(&manifest.app).map_or(String::new(), |binding| {
            format!("; app {app} is bound to {binding}, `skein app bind {app}` changes that", app = manifest.app)
        });
        let message = format!("no node can take {what} ({cause}){bound}");
        let mut failure = Failure::not_executed(ErrorCode::Unavailable, message);
        failure.retry_after_ms = last.retry_after_ms;
        if self.is_refused && failure.retry_after_ms.is_none() {
            failure = failure.retry_after(REFUSED_RETRY_AFTER);
        }
        self.marked(failure)
    }
}

/// Whether a node went away, or the connection to it broke, while it had the call.
pub(crate) fn is_lost_with_it(failure: &Failure) -> bool {
    failure.code == ErrorCode::PeerLost && failure.progress == Progress::MaybeExecuted
}

/// Whether an attempt failed because nothing came back.
fn is_lost(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::PeerLost | ErrorCode::Unreachable)
}

/// Why there is no node to try at all, and what to do.
fn nowhere(what: &str, resolved: &Resolved, ranked: &[Ranked], catalog: &Catalog) -> String {
    let app = &resolved.version.manifest.app;
    let Some(binding) = catalog.binding(app) else {
        return format!("no node can take {what}: all are down or draining");
    };
    let allowed = catalog.members().filter(|member| binding.allows(member)).map(|member| {
        let standing = ranked.iter().find(|one| one.candidate.node == member.node).map(|one| one.candidate.standing);
        let state = if standing == Some(Standing::Draining) { "draining" } else { "down" };
        format!("{} is {state}", member.name)
    });
    let allowed: Vec<String> = allowed.collect();
    let found = if allowed.is_empty() { "no member is among them".to_owned() } else { allowed.join(", ") };
    format!(
        "no node can take {what}: app {app} is bound to {binding}, and {found}; start such a node (`skein up --label \
         KEY=VALUE`, `skein node resume`), or bind the app to others with `skein app bind {app}`"
    )
}
