//! The handle: resolves, ranks and tries, one invocation at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{SeedableRng, rngs::SmallRng};
use skein_catalog::{Resolved, Watch};
use skein_membership::{Peer, PeerState, View};
use skein_placement::{Candidate, Ranked, Standing, rank};
use skein_proto::{ErrorCode, Failure, Invocation, InvocationTarget, Invoke, Load, NodeId, Progress, Reply, VersionId};
use skein_transport::Transport;
use tokio::{sync::watch, time::Instant};

use crate::{
    attempt::{self, Next},
    budget::RetryBudget,
    metrics,
    notes::Notes,
    reach::reach,
    way::Way,
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
    warm_here: OnceLock<WarmHere>,
    meters: metrics::Meters,
    /// Held for the moment of one decision, never across a wait.
    state: Mutex<State>,
}

/// Says whether a version is warm on this node.
type WarmHere = Box<dyn Fn(VersionId) -> bool + Send + Sync>;

struct State {
    rng: SmallRng,
    budget: RetryBudget,
    notes: Notes,
}

/// Most attempts of one call: the best node, another, and one more. Whoever fails thrice is failed by the mesh, not by
/// a node.
const ATTEMPTS_MAX: usize = 3;
/// Payload and result of a call by which a node's pace is measured: some 50 packets, a round trip or two.
const SMALL_BYTES_MAX: usize = 64 << 10;
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
        let (warm_here, meters, state) = (OnceLock::new(), metrics::Meters::new(), Mutex::new(state));
        Self { shared: Arc::new(Shared { me, local, catalog, view, transport, warm_here, meters, state }) }
    }

    /// Says how to find out whether a version is warm on this node. Until then the node's own load digest is asked,
    /// which is half a second old and names the busiest versions only. Only the first word counts.
    pub fn ask_here(&self, is_warm: impl Fn(VersionId) -> bool + Send + Sync + 'static) {
        let _ = self.shared.warm_here.set(Box::new(is_warm));
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

    fn rank(&self, version: VersionId) -> Vec<Ranked> {
        let (view, catalog, now) = (self.view.borrow().clone(), self.catalog.borrow().clone(), Instant::now());
        let mut state = self.state();
        let State { rng, budget, notes } = &mut *state;
        budget.deposit();
        let candidate = |node: NodeId, load: &Load, peer: PeerState| {
            let is_here = node == self.me;
            let member = catalog.member(node);
            let is_leaving = load.is_draining || member.is_some_and(|member| member.is_draining);
            Candidate {
                node,
                is_here,
                is_warm: self.is_warm(version, is_here, load),
                standing: match peer {
                    _ if is_here && !is_leaving => Standing::Good,
                    _ if is_here => Standing::Draining,
                    PeerState::Down => Standing::Dead,
                    _ if catalog.was_removed(node) => Standing::Dead,
                    _ if is_leaving => Standing::Draining,
                    PeerState::Suspect => Standing::Doubtful,
                    _ if notes.is_avoided(node, now) => Standing::Doubtful,
                    _ if notes.is_slow(node, now) => Standing::Slow,
                    _ => Standing::Good,
                },
                in_flight: load.in_flight.max(notes.under_way(node)),
                queued: load.queued,
                cpu_permille: load.cpu_permille,
                memory_mib: load.memory_mib,
                memory_budget_mib: load.memory_budget_mib,
            }
        };
        let seen = view.peers.values().map(|Peer { node, load, state, .. }| candidate(*node, load, *state));
        // Before membership has said a word, there is this node at least.
        let unseen =
            (!view.peers.contains_key(&self.me)).then(|| candidate(self.me, &Load::default(), PeerState::Alive));
        rank(version, seen.chain(unseen), rng)
    }

    /// Whether a version is warm on a node: known here, told by the others of their busiest.
    fn is_warm(&self, version: VersionId, is_here: bool, load: &Load) -> bool {
        match self.warm_here.get() {
            Some(is_warm) if is_here => is_warm(version),
            _ => load.warm.contains(&(version.function.0, version.number)),
        }
    }

    /// Tries the nodes in order, as far as failures, deadline and budget allow.
    async fn run(
        &self,
        mut invocation: Invocation,
        resolved: &Resolved,
        ranked: Vec<Ranked>,
    ) -> Result<Reply, Failure> {
        let (mut trail, mut way) = (Trail::default(), Way::new(&ranked));
        let is_repeatable = invocation.is_idempotent || resolved.version.manifest.grants.is_effect_free();
        while let Some(step) = way.step(trail.next) {
            if !self.may_go_on(&mut trail, &invocation) {
                break;
            }
            invocation.is_insistent = step.is_insistent;
            let failure = match self.attempt(step.node, &invocation, resolved).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let mut next = attempt::next(&failure, is_repeatable);
            if next == Next::GiveUp {
                return Err(trail.marked(failure));
            }
            if next == Next::Redirect && failure.moved_to.is_some() {
                next = if way.follow(step.node, &failure) { Next::There } else { Next::Another };
            }
            let is_second_redirect = next == Next::Redirect && trail.redirected;
            tracing::debug!(invocation = %invocation.id, node = %step.node, %failure, ?next, "attempt failed");
            trail.note(step.node, failure, next);
            if is_second_redirect {
                break;
            }
        }
        Err(trail.exhausted(resolved))
    }

    fn may_go_on(&self, trail: &mut Trail, invocation: &Invocation) -> bool {
        if trail.last.is_none() {
            return true;
        }
        trail.is_late = invocation.remaining().is_zero();
        if trail.is_late {
            return false;
        }
        // Whoever pointed on has done nothing for the call yet, and knows who does: that is no retry.
        if trail.next == Some(Next::There) {
            metrics::redirected();
            return true;
        }
        if trail.tried >= ATTEMPTS_MAX {
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
        let began = Instant::now();
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
            let now = Instant::now();
            let overhead = outcome.as_ref().ok().and_then(|reply| overhead(invocation, reply, now - began));
            self.state().notes.learn(node, failure, overhead, now);
        }
        self.meters.attempted(is_here, failure.map(|failure| failure.progress));
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of the `time` of an attempt the peer's runtime did not use: the way there and back, and what the node adds. None
/// for a large payload or result, which says more about the network than about the node.
fn overhead(invocation: &Invocation, reply: &Reply, time: Duration) -> Option<Duration> {
    let is_small = invocation.payload.len() + reply.payload.len() <= SMALL_BYTES_MAX;
    let usage = &reply.usage;
    let used = Duration::from_micros(usage.queue_us + usage.start_us + usage.instantiate_us + usage.run_us);
    is_small.then(|| time.saturating_sub(used))
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
    fn note(&mut self, node: NodeId, failure: Failure, next: Next) {
        self.tried += usize::from(next != Next::There);
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
