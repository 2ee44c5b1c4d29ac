//! Keeps a group's membership as the plan wants it, while this node leads.
//!
//! The loop is dull: look, let [`plan()`] decide, do one step, look again. All policy is in [`plan()`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{ChangeMembers, EmptyNode, RaftMetrics, async_runtime::WatchReceiver};
use skein_proto::NodeId;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Landscape, StateMachine, Step, Timings, metrics, plan,
    types::{Raft, Types},
};

/// The task that keeps it.
pub(crate) struct Reconciler<M: StateMachine> {
    node: NodeId,
    raft: Raft<M>,
    timings: Timings,
    state: watch::Receiver<Arc<M>>,
    alive: watch::Receiver<BTreeSet<NodeId>>,
    /// Since when the dead have been so, as far as this node saw it while leading.
    dead_since: BTreeMap<NodeId, Instant>,
}

/// How often it looks when nothing has changed: deaths become losses and learners catch up without an event.
const TICK: Duration = Duration::from_millis(200);

/// How long a step may take; it goes on in the background when it takes longer, and is met again at the next look.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// A learner that is this many entries behind, or fewer, has caught up.
const LAG_MAX: u64 = 64;

impl<M: StateMachine> Reconciler<M> {
    pub(crate) fn new(
        node: NodeId,
        raft: Raft<M>,
        timings: Timings,
        state: watch::Receiver<Arc<M>>,
        alive: watch::Receiver<BTreeSet<NodeId>>,
    ) -> Self {
        Self { node, raft, timings, state, alive, dead_since: BTreeMap::new() }
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
            let Some(step) = self.look() else { continue };
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = self.take(step) => {}
            }
        }
    }

    /// What to do next, if this node leads and no earlier step is under way.
    fn look(&mut self) -> Option<Step> {
        let seen = self.raft.metrics().borrow_watched().clone();
        if seen.current_leader != Some(self.node.0) || !seen.state.is_leader() {
            self.dead_since.clear();
            return None;
        }
        if seen.membership_config.log_id() != seen.committed_membership_config.log_id() {
            return None;
        }
        plan(&self.landscape(&seen))
    }

    fn landscape(&mut self, seen: &RaftMetrics<Types>) -> Landscape {
        let membership = seen.membership_config.membership();
        let members: BTreeMap<_, _> = self.state.borrow().members().into_iter().collect();
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
        Landscape {
            leader: self.node,
            alive,
            lost,
            caught_up: caught_up.map(|(node, _)| NodeId(*node)).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            is_joint: membership.get_joint_config().len() > 1,
            members,
            voters,
        }
    }

    async fn take(&self, step: Step) {
        let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.0).collect::<BTreeSet<_>>();
        let (name, change) = match &step {
            Step::Finish => ("finish", ChangeMembers::AddVoterIds(BTreeSet::new())),
            Step::Vote(voters) => ("vote", ChangeMembers::ReplaceAllVoters(ids(voters))),
            Step::Add(node) => ("add", ChangeMembers::AddNodes(BTreeMap::from([(node.0, EmptyNode {})]))),
            Step::Remove(node) => ("remove", ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))),
        };
        tracing::info!(?step, "changes the membership of the group");
        match timeout(STEP_PATIENCE, self.raft.change_membership(change, true)).await {
            Ok(Ok(_)) => metrics::changed(name),
            Ok(Err(error)) => tracing::warn!(?step, %error, "the membership was not changed"),
            Err(_) => tracing::warn!(?step, "the membership is not changed yet"),
        }
    }
}
