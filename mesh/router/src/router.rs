//! The handle: resolves, ranks and tries, one invocation at a time.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{SeedableRng, rngs::SmallRng};
use skein_catalog::{Resolved, Watch};
use skein_membership::{Peer, PeerState, View};
use skein_placement::{Candidate, Line, Ranked, Standing, rank};
use skein_proto::{
    ErrorCode, Failure, Invocation, InvocationId, InvocationTarget, Invoke, Load, NodeId, Reply, VersionId,
};
use skein_transport::{RetryBudget, Transport};
use tokio::{sync::watch, time::Instant};

use crate::{
    attempt::{self, Next},
    decisions::{Decision, KEPT, Recording, Ring},
    metrics,
    notes::Notes,
    reach::reach,
    trail::{Trail, is_lost_with_it},
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
    line_here: OnceLock<LineHere>,
    decisions: Ring,
    meters: metrics::Meters,
    /// Held for the moment of one decision, never across a wait.
    state: Mutex<State>,
}

/// Says what line there is for a version on this node; none if it is not warm there.
type LineHere = Box<dyn Fn(VersionId) -> Option<Line> + Send + Sync>;

/// Whether the first sign that a node may be gone counts against it: it does for a call that has been lost once.
#[derive(Clone, Copy)]
enum Wary {
    No,
    Yes,
}

struct State {
    rng: SmallRng,
    budget: RetryBudget,
    notes: Notes,
}

/// Payload and result of a call by which a node's pace is measured: some 50 packets, a round trip or two.
const SMALL_BYTES_MAX: usize = 64 << 10;
impl Router {
    /// A router for the node `me`, whose runtime is `local`.
    pub fn new(
        me: NodeId,
        local: Arc<dyn Invoke>,
        catalog: Watch,
        view: watch::Receiver<Arc<View>>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        // Which of two nodes is taken needs no secrecy, only that nodes differ.
        let rng = SmallRng::seed_from_u64(me.0);
        let state = State { rng, budget: RetryBudget::new(Instant::now()), notes: Notes::default() };
        let shared = Shared {
            me,
            local,
            catalog,
            view,
            transport,
            line_here: OnceLock::new(),
            decisions: Ring::new(KEPT),
            meters: metrics::Meters::new(),
            state: Mutex::new(state),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says how to find out whether a version is warm on this node, and what line there is for it here. Until then the
    /// node's own load digest is asked, which is half a second old, names the busiest versions only and counts those who
    /// wait for whatever version: calls would go elsewhere while there are permits here. Only the first word counts.
    pub fn ask_here(&self, line: impl Fn(VersionId) -> Option<Line> + Send + Sync + 'static) {
        let _ = self.shared.line_here.set(Box::new(line));
    }

    /// What was decided about a recent call that this node took, if it is still kept; see [`KEPT`].
    pub fn decision(&self, invocation: InvocationId) -> Option<Decision> {
        self.shared.decisions.find(invocation)
    }

    /// The calls that the function of `caller` made while it ran on this node, the newest first; at most `most`.
    pub fn made_by(&self, caller: InvocationId, most: usize) -> Vec<Decision> {
        self.shared.decisions.made_by(caller, most)
    }

    /// Where a call of this version would run that came now; none if it can run nowhere, or is not known.
    pub fn place(&self, version: VersionId) -> Option<Ranked> {
        let record = self.shared.catalog.borrow().version(version).cloned()?;
        let ranked = self.shared.rank(&Resolved { id: version, version: record }, Wary::No);
        ranked.into_iter().next().filter(Ranked::is_usable)
    }

    /// How long ago the oldest call came whose decision is kept; none before the first.
    pub fn reach_back(&self) -> Option<Duration> {
        self.shared.decisions.oldest().map(|oldest| oldest.elapsed())
    }
}

#[async_trait]
impl Invoke for Router {
    async fn invoke(&self, mut invocation: Invocation) -> Result<Reply, Failure> {
        let began = Instant::now();
        let mut recording = self.shared.decisions.begin(&invocation, began);
        let outcome = self.shared.route(&mut invocation, began, &mut recording).await;
        recording.ended(&outcome);
        outcome
    }
}

impl Shared {
    async fn route(
        &self,
        invocation: &mut Invocation,
        began: Instant,
        recording: &mut Recording<'_>,
    ) -> Result<Reply, Failure> {
        invocation.check_depth()?;
        if invocation.remaining().is_zero() {
            let message = "the deadline had passed before the call was routed";
            return Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message));
        }
        let resolved = self.resolve(invocation).await?;
        recording.resolved(resolved.id);
        self.state().budget.deposit();
        let ranked = self.rank(&resolved, Wary::No);
        let time = began.elapsed();
        recording.ranked(ranked, time);
        self.meters.routed(time);
        self.run(invocation, &resolved, recording).await
    }

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

    fn rank(&self, resolved: &Resolved, wary: Wary) -> Vec<Ranked> {
        let version = resolved.id;
        let (view, catalog, now) = (self.view.borrow().clone(), self.catalog.borrow().clone(), Instant::now());
        let mut state = self.state();
        let State { rng, notes, .. } = &mut *state;
        let binding = catalog.binding(&resolved.version.manifest.app);
        let candidate = |node: NodeId, load: &Load, peer: PeerState| {
            let is_here = node == self.me;
            let (is_warm, line) = self.line(version, is_here, load);
            let member = catalog.member(node);
            let is_unbound = binding.is_some_and(|bound| !member.is_some_and(|member| bound.allows(member)));
            let is_leaving = load.is_draining || member.is_some_and(|member| member.is_draining);
            Candidate {
                node,
                is_here,
                is_warm,
                has_refused: !is_here && notes.has_refused(node, version, now),
                is_starved: !is_here && notes.is_starved(node, now),
                standing: match peer {
                    PeerState::Down if !is_here => Standing::Dead,
                    _ if !is_here && catalog.was_removed(node) => Standing::Dead,
                    _ if is_unbound => Standing::Unbound,
                    _ if is_leaving => Standing::Draining,
                    _ if notes.hangs(node, version, now) && is_here => Standing::Slow,
                    _ if is_here => Standing::Good,
                    PeerState::Suspect | PeerState::Unheard => Standing::Doubtful,
                    _ if notes.is_avoided(node, now) || self.is_doubted(node, wary) => Standing::Doubtful,
                    _ if notes.is_slow(node, now) || notes.hangs(node, version, now) => Standing::Slow,
                    _ => Standing::Good,
                },
                in_flight: load.in_flight.max(notes.under_way(node)),
                line,
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

    /// Whether a version is warm on a node, and what line there is: known here, told by the others of their busiest
    /// versions and of all their calls.
    fn line(&self, version: VersionId, is_here: bool, load: &Load) -> (bool, Line) {
        let of_all = Line { queued: load.queued, age_ms: load.queue_age_ms };
        match self.line_here.get().filter(|_| is_here) {
            Some(line) => line(version).map_or((false, of_all), |line| (true, line)),
            None => (load.warm.contains(&(version.function.0, version.number)), of_all),
        }
    }

    /// Tries the nodes in order, as far as failures, deadline and budget allow.
    async fn run(
        &self,
        invocation: &mut Invocation,
        resolved: &Resolved,
        recording: &mut Recording<'_>,
    ) -> Result<Reply, Failure> {
        let (mut trail, mut way) = (Trail::begin(invocation.was_lost), Way::default());
        let is_repeatable = invocation.is_idempotent || resolved.version.manifest.grants.is_effect_free();
        while let Some(step) = way.step(recording.ranking(), trail.next()) {
            if !self.may_go_on(&mut trail, invocation) {
                break;
            }
            invocation.is_insistent = step.is_insistent;
            let (began, was_silent) = (Instant::now(), self.is_doubted(step.node, Wary::Yes));
            let failure = match self.attempt(step.node, invocation, resolved).await {
                Ok(reply) => {
                    recording.replied(began, &reply);
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            recording.failed(step.node, began, &failure);
            let may_repeat = is_repeatable && self.may_repeat(&trail, resolved.id, &failure, was_silent);
            let mut next = attempt::next(&failure, may_repeat);
            if next == Next::GiveUp {
                return Err(trail.marked(failure));
            }
            if next == Next::Redirect && failure.moved_to.is_some() {
                let is_gone = |node: NodeId| trail.has_lost(node) || self.is_out_of_reach(node);
                let is_followed = way.follow(recording.ranking(), step.node, &failure, is_gone);
                next = if is_followed { Next::There } else { Next::Another };
            }
            tracing::debug!(invocation = %invocation.id, node = %step.node, %failure, ?next, "attempt failed");
            let as_of = failure.index.filter(|_| next == Next::Redirect);
            trail.note(step.node, failure, next, was_silent);
            if let Some(index) = as_of {
                // Should the wait be in vain, the catalogue as it is must do.
                let _ = Box::pin(reach(&self.catalog, index, invocation.deadline)).await;
            }
            // This node's catalogue was older than the one that sent the call on; or it has waited until a node was given
            // up, and what was known of the others when it came is as old as that.
            if as_of.is_some() || trail.has_lost(step.node) {
                self.look_again(resolved, recording);
                way.begin_again(trail.tried());
            }
        }
        let catalog = self.catalog.borrow().clone();
        Err(trail.exhausted(resolved, recording.ranking(), &catalog))
    }

    /// Ranks the nodes anew for a call that has been tried.
    fn look_again(&self, resolved: &Resolved, recording: &mut Recording<'_>) {
        let began = Instant::now();
        let ranked = self.rank(resolved, Wary::Yes);
        recording.ranked(ranked, began.elapsed());
    }

    fn may_go_on(&self, trail: &mut Trail, invocation: &Invocation) -> bool {
        if trail.is_fresh() {
            return true;
        }
        trail.is_late = invocation.remaining().is_zero();
        if trail.is_late {
            return false;
        }
        // Whoever pointed on has done nothing for the call yet, and knows who does: that is no retry.
        if trail.next() == Some(Next::There) {
            metrics::redirected();
            return true;
        }
        if trail.is_at_end() {
            return false;
        }
        trail.is_refused = !trail.is_free() && !self.state().budget.withdraw(Instant::now());
        if trail.is_refused {
            metrics::refused();
            return false;
        }
        metrics::retried(trail.next() == Some(Next::Redirect));
        true
    }

    /// Whether what may have run may run again, after this failure. A node that is lost takes what it had with it, and
    /// that is repeated once, whatever the budget: no more than was under way there. But a call that is lost a second
    /// time may be what ends the nodes. It is not tried on a third, and for a while no other call of its version is
    /// tried on a second. A node that was silent before it was given the call was not ended by it: who loses all others
    /// at once is cut off.
    fn may_repeat(&self, trail: &Trail, version: VersionId, failure: &Failure, was_silent: bool) -> bool {
        if !is_lost_with_it(failure) || was_silent {
            return true;
        }
        let (now, mut state) = (Instant::now(), self.state());
        if trail.has_lost_one() {
            state.notes.ended_two(version, now);
            return false;
        }
        !state.notes.ends_nodes(version, now)
    }

    /// Whether this node has heard nothing from `node` for a while; of a `wary` asker's, for a short while.
    fn is_doubted(&self, node: NodeId, wary: Wary) -> bool {
        node != self.me
            && match wary {
                Wary::No => self.transport.is_doubted(node),
                Wary::Yes => self.transport.is_silent(node),
            }
    }

    fn is_out_of_reach(&self, node: NodeId) -> bool {
        node != self.me && (self.view.borrow().is_down(node) || self.transport.is_doubted(node))
    }

    async fn attempt(&self, node: NodeId, invocation: &Invocation, resolved: &Resolved) -> Result<Reply, Failure> {
        let _under_way = UnderWay::begin(self, node);
        let began = Instant::now();
        // What the caller has seen, and what has to be there for the version to exist and to run there: no more, so that
        // a peer that lags behind in other things answers at once.
        let bound_index = self.catalog.borrow().bound_index(&resolved.version.manifest.app);
        let index_min = invocation.index_min.max(resolved.version.index).max(bound_index);
        let is_here = node == self.me;
        let outcome = if is_here {
            let target = InvocationTarget::Version(resolved.id);
            self.local.invoke(Invocation { target, index_min, ..invocation.clone() }).await
        } else {
            let what = (resolved.id, index_min);
            // On its own, so that the call of a neighbour is no part of what every call takes.
            Box::pin(attempt::at_peer(node, self.transport.as_ref(), self.view.clone(), invocation, what)).await
        };
        let failure = outcome.as_ref().err();
        let now = Instant::now();
        let took = now - began;
        self.state().notes.ended((node, resolved.id), failure, took, now);
        if !is_here {
            let overhead = outcome.as_ref().ok().and_then(|reply| overhead(invocation, reply, took));
            let mut state = self.state();
            state.notes.learn(node, failure, overhead, now);
            if let Some(failure) = failure.filter(|failure| failure.code == ErrorCode::Overloaded) {
                state.notes.refused(node, resolved.id, failure, now);
            }
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
    // The figures are the peer's: whatever it says is only a number.
    let used = [usage.queue_us, usage.start_us, usage.instantiate_us, usage.run_us];
    let used = Duration::from_micros(used.into_iter().fold(0, u64::saturating_add));
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
