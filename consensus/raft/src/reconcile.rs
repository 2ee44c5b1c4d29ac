//! Keeps a group's membership as the plan wants it, while this node leads.
//!
//! The loop is dull: look, let [`plan()`] decide, do one step, look again. All policy is in [`plan()`].
//!
//! A step is decided on a log at rest: everything in it is applied, and the entry of the step follows what was last
//! applied, or is not written. So no member is made a voter that was removed a moment before, and may have ended: each
//! entry that changes who votes knows every removal before it. For that moment, proposals wait; see
//! `docs/decisions/0021`.

mod patience;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use openraft::{
    ChangeMembers, EmptyNode, Instant as _, RaftMetrics,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
    raft::Precondition,
};
use skein_proto::NodeId;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::patience::Patience;
use crate::{
    Eligibility, Landscape, StateMachine, Step, Timings, metrics, plan,
    types::{LogId, Raft, Types},
};

/// The task that keeps it.
pub(crate) struct Reconciler<M: StateMachine> {
    node: NodeId,
    raft: Raft<M>,
    timings: Timings,
    state: watch::Receiver<Arc<M>>,
    alive: watch::Receiver<BTreeSet<NodeId>>,
    /// Whoever holds all of them keeps this leader from taking proposals on.
    proposals: Arc<Semaphore>,
    /// Since when the dead have been so, as far as this node saw it while leading.
    dead_since: BTreeMap<NodeId, Instant>,
    /// Those that are to leave, and what is known of their knowing it.
    leaving: BTreeMap<NodeId, Leaving>,
    patience: Patience,
}

/// A node that was a member and follows on, so that it learns that it is none any more.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// The entry up to which it must have the log.
    index: u64,
    /// Since when it is to leave.
    since: Instant,
    /// Since when it is known to have that entry.
    has_it_since: Option<Instant>,
}

/// Proposals that a leader has under way at a time; more wait, up to their deadlines. As many as openraft queues.
pub(crate) const PROPOSALS_MAX: u32 = 4_096;

/// How often it looks when nothing has changed: deaths become losses and learners catch up without an event.
const TICK: Duration = Duration::from_millis(200);

/// How long a step may take; it goes on in the background when it takes longer, and is met again at the next look.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// How long it is tried to tell a node that it was removed: ten heartbeats and more. One that is dead needs no telling.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// A learner that is this many entries behind, or fewer, has caught up.
const LAG_MAX: u64 = 64;

impl<M: StateMachine> Reconciler<M> {
    pub(crate) fn new(
        (node, timings): (NodeId, Timings),
        raft: Raft<M>,
        state: watch::Receiver<Arc<M>>,
        alive: watch::Receiver<BTreeSet<NodeId>>,
        proposals: Arc<Semaphore>,
    ) -> Self {
        let (dead_since, leaving, patience) = Default::default();
        Self { node, raft, timings, state, alive, proposals, dead_since, leaving, patience }
    }

    /// Works until the group is closed.
    pub(crate) async fn run(mut self, closing: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                _ = tick.tick() => {}
            }
            if self.look().is_none() || !self.patience.is_due(Instant::now()) {
                continue;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = self.act() => {}
            }
        }
    }

    /// Decides once more, on a log at rest, and does it.
    async fn act(&mut self) {
        let all = self.proposals.clone().acquire_many_owned(PROPOSALS_MAX);
        let held = held(self.patience.now(), all, self.at_rest()).await;
        let Some(Ok(all)) = held else { return self.patience.gave_up(Instant::now()) };
        self.patience.was_enough();
        let Some((step, last)) = self.look() else { return };
        let mut taken = pin!(self.take(step, last));
        tokio::select! {
            biased;
            () = &mut taken => return,
            // Handed over: proposals queue behind it.
            () = std::future::ready(()) => drop(all),
        }
        taken.await;
    }

    /// Returns when everything in the log is applied.
    async fn at_rest(&self) {
        let mut metrics = self.raft.metrics();
        loop {
            if rest(&metrics.borrow_watched()).is_some() || metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// What to do next, if this node leads and no earlier step is under way, and the last entry of the log if all of it is
    /// applied.
    fn look(&mut self) -> Option<(Step, Option<LogId>)> {
        let seen = self.raft.metrics().borrow_watched().clone();
        if seen.current_leader != Some(self.node.0) || !seen.state.is_leader() {
            self.dead_since.clear();
            self.leaving.clear();
            self.patience.was_enough();
            return None;
        }
        if seen.membership_config.log_id() != seen.committed_membership_config.log_id() {
            return None;
        }
        plan(&self.landscape(&seen)).map(|step| (step, rest(&seen)))
    }

    fn landscape(&mut self, seen: &RaftMetrics<Types>) -> Landscape {
        let membership = seen.membership_config.membership();
        let state = self.state.borrow().clone();
        let members: BTreeMap<_, _> = state.members().into_iter().collect();
        let mut alive = self.alive.borrow().clone();
        alive.insert(self.node);
        let voters: BTreeSet<_> = membership.voter_ids().map(NodeId).collect();
        let now = Instant::now();
        self.dead_since.retain(|node, _| !alive.contains(node));
        for node in members.keys().chain(&voters).filter(|node| !alive.contains(node)) {
            self.dead_since.entry(*node).or_insert(now);
        }
        let grace = self.timings.replace();
        let lost = self.dead_since.iter().filter(|(_, since)| now.duration_since(**since) >= grace);
        let lost = lost.map(|(node, _)| *node).collect();
        let end = seen.last_log_index.unwrap_or_default();
        let matched = seen.replication.iter().flatten();
        let caught_up = matched.filter(|(_, log)| log.as_ref().is_some_and(|log| log.index + LAG_MAX >= end));
        let untold = self.untold(seen, (&members, state.index()), now);
        Landscape {
            leader: self.node,
            alive,
            lost,
            caught_up: caught_up.map(|(node, _)| NodeId(*node)).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            untold,
            is_joint: membership.get_joint_config().len() > 1,
            members,
            voters,
        }
    }

    /// The learners that are members no more, as of the entry at `index`, and may not know it yet. One that has the log up to
    /// there, and has answered a heartbeat since, knows.
    fn untold(
        &mut self,
        seen: &RaftMetrics<Types>,
        (members, index): (&BTreeMap<NodeId, Eligibility>, u64),
        now: Instant,
    ) -> BTreeSet<NodeId> {
        let learners = seen.membership_config.membership().learner_ids().map(NodeId);
        let leaving: BTreeSet<NodeId> = learners.filter(|node| !members.contains_key(node)).collect();
        self.leaving.retain(|node, _| leaving.contains(node));
        for node in leaving {
            self.leaving.entry(node).or_insert(Leaving { index, since: now, has_it_since: None });
        }
        let matched = |node: &NodeId| seen.replication.as_ref()?.get(&node.0).copied().flatten();
        let answered = |node: &NodeId| seen.heartbeat.as_ref()?.get(&node.0).copied().flatten();
        for (node, leaving) in &mut self.leaving {
            if leaving.has_it_since.is_none() && matched(node).is_some_and(|log| log.index >= leaving.index) {
                leaving.has_it_since = Some(now);
            }
        }
        let is_told = |node: &NodeId, leaving: &Leaving| {
            leaving.has_it_since.is_some_and(|since| answered(node).is_some_and(|at| at.elapsed() < since.elapsed()))
                || now.duration_since(leaving.since) >= TELL_PATIENCE
        };
        self.leaving.iter().filter(|(node, leaving)| !is_told(node, leaving)).map(|(node, _)| *node).collect()
    }

    /// Does a step, if `last` is still the last entry of the log.
    async fn take(&self, step: Step, last: Option<LogId>) {
        let Some(last_log_id) = last else { return };
        let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.0).collect::<BTreeSet<_>>();
        let (name, change) = match &step {
            Step::Finish => ("finish", ChangeMembers::AddVoterIds(BTreeSet::new())),
            Step::Vote(voters) => ("vote", ChangeMembers::ReplaceAllVoters(ids(voters))),
            Step::Add(node) => ("add", ChangeMembers::AddNodes(BTreeMap::from([(node.0, EmptyNode {})]))),
            Step::Remove(node) => ("remove", ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))),
        };
        tracing::info!(?step, "changes the membership of the group");
        let if_at_rest = [Precondition::LastLogId { last_log_id: Some(last_log_id) }];
        match timeout(STEP_PATIENCE, self.raft.change_membership_if(change, true, if_at_rest)).await {
            Ok(Ok(_)) => metrics::changed(name),
            Ok(Err(RaftError::APIError(ClientWriteError::PreconditionFailed(_)))) => {
                tracing::debug!(?step, "the log went on meanwhile; the step is decided anew");
            }
            Ok(Err(error)) => tracing::warn!(?step, %error, "the membership was not changed"),
            Err(_) => tracing::warn!(?step, "the membership is not changed yet"),
        }
    }
}

/// What holds proposals up, once it is had and then the log is at rest; `None`, and nothing is held, when both together take
/// longer than `patience`. The wait for it holds proposals up, too, as they queue behind it.
async fn held<T>(patience: Duration, all: impl Future<Output = T>, at_rest: impl Future<Output = ()>) -> Option<T> {
    let held = async {
        let all = all.await;
        at_rest.await;
        all
    };
    timeout(patience, held).await.ok()
}

/// The last entry of the log, if everything in it is applied.
fn rest(seen: &RaftMetrics<Types>) -> Option<LogId> {
    seen.last_applied.filter(|last| seen.last_log_index == Some(last.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn proposals_are_held_up_for_no_longer_than_patience_in_both_phases_together() {
        let (patience, most) = (Duration::from_secs(3), Duration::from_secs(2));
        let sleep = |time| async move { tokio::time::sleep(time).await };
        let began = Instant::now();
        assert_eq!(held(patience, sleep(most), sleep(most)).await, None);
        assert!((patience..most * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(held(patience, sleep(most), sleep(Duration::ZERO)).await, Some(()));
    }
}
