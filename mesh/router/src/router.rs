//! The handle: resolves, ranks and tries, one invocation at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{SeedableRng, rngs::SmallRng};
use skein_catalog::{Resolved, Watch};
use skein_membership::{Peer, PeerState, View};
use skein_placement::{Candidate, rank};
use skein_proto::{ErrorCode, Failure, Invocation, InvocationTarget, Invoke, Load, NodeId, Progress, Reply, VersionId};
use skein_transport::Transport;
use tokio::{sync::watch, time::Instant};

use crate::{
    attempt::{self, Next},
    budget::RetryBudget,
    metrics,
    notes::Notes,
    reach::reach,
};

/// Takes calls by name and has them run on the best node. Clone it freely, all clones are the same.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    local: Arc<dyn Invoke>,
    catalog: Watch,
    view: watch::Receiver<Arc<View>>,
    transport: Arc<dyn Transport>,
    meters: metrics::Meters,
    /// Held for the moment of one decision, never across a wait.
    state: Mutex<State>,
}

struct State {
    rng: SmallRng,
    budget: RetryBudget,
    notes: Notes,
}

/// Most attempts of one call: the best node, another, and one more. Whoever fails thrice is failed by the mesh, not by
/// a node.
const ATTEMPTS_MAX: usize = 3;
/// When a call whose retry the budget refused is worth another try: the budget's reserve comes by the second.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Router {
    /// A router for the node `me`, whose runtime is `local`.
    pub fn new(
        me: NodeId,
        local: Arc<dyn Invoke>,
        catalog: Watch,
        view: watch::Receiver<Arc<View>>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        let state =
            State { rng: SmallRng::from_os_rng(), budget: RetryBudget::new(Instant::now()), notes: Notes::default() };
        let (meters, state) = (metrics::Meters::new(), Mutex::new(state));
        Self { shared: Arc::new(Shared { me, local, catalog, view, transport, meters, state }) }
    }
}

#[async_trait]
impl Invoke for Router {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        let began = Instant::now();
        invocation.check_depth()?;
        if invocation.remaining().is_zero() {
            let message = "the deadline had passed before the call was routed";
            return Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message));
        }
        let resolved = self.shared.resolve(&invocation).await?;
        let ranked = self.shared.rank(resolved.id);
        self.shared.meters.routed(began.elapsed());
        self.shared.run(invocation, &resolved, ranked).await
    }
}

impl Shared {
    async fn resolve(&self, invocation: &Invocation) -> Result<Resolved, Failure> {
        if let Err(index) = reach(&self.catalog, invocation.index_min, invocation.deadline).await {
            let (me, asked) = (self.me, invocation.index_min);
            let message = format!("node {me} knows the catalogue up to index {index}, and the call asks for {asked}");
            return Err(Failure::not_executed(ErrorCode::Unavailable, message));
        }
        let catalog = self.catalog.borrow().clone();
        match &invocation.target {
            InvocationTarget::Reference(reference) => catalog.resolve(reference),
            InvocationTarget::Version(id) => {
                let version = catalog.version(*id).cloned().ok_or_else(|| {
                    let message = format!("function {} has no version {}", id.function, id.number);
                    Failure::not_executed(ErrorCode::VersionNotFound, message)
                })?;
                Ok(Resolved { id: *id, version })
            }
        }
    }

    fn rank(&self, version: VersionId) -> Vec<Candidate> {
        let (view, catalog, now) = (self.view.borrow().clone(), self.catalog.borrow().clone(), Instant::now());
        let mut state = self.state();
        state.budget.deposit();
        let candidate = |node: NodeId, load: &Load, peer: PeerState| {
            let is_here = node == self.me;
            let is_leaving = catalog.member(node).is_some_and(|member| member.is_draining);
            Candidate {
                node,
                is_here,
                is_draining: load.is_draining || is_leaving,
                is_dead: !is_here && (peer == PeerState::Down || catalog.was_removed(node)),
                is_doubtful: !is_here && (peer == PeerState::Suspect || state.notes.is_avoided(node, now)),
                is_warm: load.warm.contains(&(version.function.0, version.number)),
                in_flight: load.in_flight.max(state.notes.under_way(node)),
                queued: load.queued,
                cpu_permille: load.cpu_permille,
            }
        };
        let seen = view.peers.values().map(|Peer { node, load, state, .. }| candidate(*node, load, *state));
        let mut candidates: Vec<_> = seen.collect();
        if !view.peers.contains_key(&self.me) {
            // Before membership has said a word, there is this node at least.
            candidates.push(candidate(self.me, &Load::default(), PeerState::Alive));
        }
        rank(&candidates, &mut state.rng)
    }

    /// Tries the nodes in order, as far as failures, deadline and budget allow.
    async fn run(&self, invocation: Invocation, resolved: &Resolved, ranked: Vec<Candidate>) -> Result<Reply, Failure> {
        let mut trail = Trail::default();
        let is_repeatable = invocation.is_idempotent || resolved.version.manifest.grants.is_effect_free();
        for candidate in ranked {
            if !trail.leads_to(&candidate) {
                continue;
            }
            if trail.tried > 0 && !self.may_go_on(&mut trail, &invocation) {
                break;
            }
            let failure = match self.attempt(candidate.node, &invocation, resolved).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let next = attempt::next(&failure, is_repeatable);
            if next == Next::GiveUp {
                return Err(trail.marked(failure));
            }
            let is_second_redirect = next == Next::Redirect && trail.redirected;
            tracing::debug!(invocation = %invocation.id, node = %candidate.node, %failure, ?next, "attempt failed");
            trail.note(candidate.node, failure, next);
            if is_second_redirect {
                break;
            }
        }
        Err(trail.exhausted(resolved))
    }

    fn may_go_on(&self, trail: &mut Trail, invocation: &Invocation) -> bool {
        if trail.tried >= ATTEMPTS_MAX {
            return false;
        }
        trail.is_late = invocation.remaining().is_zero();
        if trail.is_late {
            return false;
        }
        trail.is_refused = !self.state().budget.withdraw(Instant::now());
        if trail.is_refused {
            metrics::refused();
            return false;
        }
        metrics::retried(trail.next == Some(Next::Redirect));
        true
    }

    async fn attempt(&self, node: NodeId, invocation: &Invocation, resolved: &Resolved) -> Result<Reply, Failure> {
        let _under_way = UnderWay::begin(self, node);
        // What the caller has seen, and what has to be there for the version to exist: no more, so that a peer that
        // lags behind in other things answers at once.
        let index_min = invocation.index_min.max(resolved.version.index);
        let is_here = node == self.me;
        let outcome = if is_here {
            let target = InvocationTarget::Version(resolved.id);
            self.local.invoke(Invocation { target, index_min, ..invocation.clone() }).await
        } else {
            let what = (resolved.id, index_min);
            attempt::at_peer(node, self.transport.as_ref(), self.view.clone(), invocation, what).await
        };
        let failure = outcome.as_ref().err();
        if !is_here {
            self.state().notes.learn(node, failure, Instant::now());
        }
        self.meters.attempted(is_here, failure.map(|failure| failure.progress));
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an attempt as under way until it ends or is cancelled.
struct UnderWay<'a> {
    shared: &'a Shared,
    node: NodeId,
}

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared, node: NodeId) -> Self {
        shared.state().notes.begin(node);
        Self { shared, node }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.state().notes.end(self.node);
    }
}

/// The failed attempts of one call so far.
#[derive(Default)]
struct Trail {
    tried: usize,
    last: Option<(NodeId, Failure)>,
    next: Option<Next>,
    /// The first node's word that the function is at its limit, which says more than what went wrong afterwards.
    overloaded: Option<Failure>,
    redirected: bool,
    may_have_run: bool,
    is_late: bool,
    is_refused: bool,
}

impl Trail {
    fn leads_to(&self, candidate: &Candidate) -> bool {
        self.next != Some(Next::Roomier) || candidate.has_room()
    }

    fn note(&mut self, node: NodeId, failure: Failure, next: Next) {
        self.tried += 1;
        self.redirected |= next == Next::Redirect;
        self.may_have_run |= failure.progress == Progress::MaybeExecuted;
        if next == Next::Roomier && self.overloaded.is_none() {
            self.overloaded = Some(failure.clone());
        }
        self.last = Some((node, failure));
        self.next = Some(next);
    }

    /// The failure, with the progress of the whole call: an earlier attempt may have run.
    fn marked(&self, mut failure: Failure) -> Failure {
        if self.may_have_run && failure.progress == Progress::NotExecuted {
            failure.progress = Progress::MaybeExecuted;
        }
        failure
    }

    /// What the caller is told when no node is left to try, or none may be tried.
    fn exhausted(self, resolved: &Resolved) -> Failure {
        let manifest = &resolved.version.manifest;
        let what = format!("{}/{}@{}", manifest.app, manifest.name, resolved.version.number);
        let Some((node, last)) = &self.last else {
            let message = format!("no node can take {what}: all are down or draining");
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
        let message = format!("no node can take {what} ({cause})");
        let mut failure = Failure::not_executed(ErrorCode::Unavailable, message);
        failure.retry_after_ms = last.retry_after_ms;
        if self.is_refused && failure.retry_after_ms.is_none() {
            failure = failure.retry_after(REFUSED_RETRY_AFTER);
        }
        self.marked(failure)
    }
}
