//! Keeps the status of a group: what openraft says, what the log says, and what the clock says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::WatchReceiver};
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    RaftRole, RaftStatus, Timings, disk::Disk, findings::Findings, log::Log, metrics, status::Heard, types::Types,
};

type MetricsReceiver = openraft::alias::WatchReceiverOf<Types, RaftMetrics<Types>>;

/// The task that keeps it.
pub(crate) struct Observer {
    pub(crate) node: NodeId,
    pub(crate) seen: MetricsReceiver,
    pub(crate) log: Log,
    pub(crate) disk: Disk,
    pub(crate) heard: Arc<Heard>,
    pub(crate) findings: Findings,
    pub(crate) timings: Timings,
    pub(crate) progress: Progress,
    pub(crate) status: watch::Sender<RaftStatus>,
}

/// How far each member has come, as its leader sees it, and since when.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    since: BTreeMap<NodeId, (u64, Instant)>,
}

/// How long a member that answers, and is behind, may stay at one entry before something is wrong with it. Longer than a
/// snapshot of the largest catalogue takes on a slow link.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How often the clock is asked whether a quorum still answers.
const TICK: Duration = Duration::from_millis(100);

impl Observer {
    /// Works until the group is closed.
    pub(crate) async fn run(mut self, closing: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                changed = self.seen.changed(), if is_open => is_open = changed.is_ok(),
                _ = tick.tick() => {}
            }
            self.publish();
        }
    }

    /// Looks, and tells those who watch if anything has changed.
    pub(crate) fn publish(&mut self) {
        let seen = self.seen.borrow_watched().clone();
        let status = self.status_of(&seen);
        if !status.is_leader() {
            self.findings.forget_others();
        }
        metrics::stands(status.term, status.is_leader());
        self.status.send_if_modified(|known| {
            let is_new = *known != status;
            *known = status;
            is_new
        });
    }

    fn status_of(&mut self, seen: &RaftMetrics<Types>) -> RaftStatus {
        let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let membership = seen.membership_config.membership();
        let matched = seen.replication.iter().flatten();
        let found = self.findings.now();
        let stuck = self.progress.stuck(seen, self.timings.lease());
        let mut status = RaftStatus {
            node: self.node,
            role: role(seen),
            term: seen.current_term,
            leader: seen.current_leader.map(NodeId),
            last_log_index: seen.last_log_index.unwrap_or_default(),
            committed_index: index(&seen.local_committed),
            applied_index: index(&seen.last_applied),
            snapshot_index: index(&seen.snapshot),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            is_changing: membership.get_joint_config().len() > 1
                || seen.membership_config.log_id() != seen.committed_membership_config.log_id(),
            matched: matched.filter_map(|(id, log)| Some((NodeId(*id), log.as_ref()?.index))).collect(),
            is_quorum_alive: false,
            is_disk_full: self.log.is_stalled() || self.disk.is_full(),
            lost: found.lost,
            differs_at: found.differs_at,
            others_lost: found.others_lost,
            others_differ: found.others_differ,
            stuck,
            fault: self.fault(seen),
        };
        status.is_quorum_alive = self.is_quorum_alive(seen, &status);
        status
    }

    fn is_quorum_alive(&self, seen: &RaftMetrics<Types>, status: &RaftStatus) -> bool {
        let window = self.timings.lease() + Duration::from_millis(self.timings.heartbeat_ms);
        match status.role {
            RaftRole::Leader if status.voters.iter().eq([&self.node]) => true,
            RaftRole::Leader => seen.last_quorum_acked.is_some_and(|at| at.elapsed() <= window),
            RaftRole::Follower | RaftRole::Learner => status.leader.is_some() && self.heard.is_within(window),
            RaftRole::Candidate | RaftRole::Stopped => false,
        }
    }

    fn fault(&self, seen: &RaftMetrics<Types>) -> Option<Failure> {
        let fault = self.log.fault().map(|what| format!("the log in {} failed: {what}", self.log.dir().display()));
        let stopped = match &seen.running_state {
            Err(openraft::errors::Fatal::Stopped) | Ok(()) => None,
            Err(fatal) => Some(format!("raft stopped: {fatal}")),
        };
        let message = fault.or(stopped)?;
        let is_disk = self.disk.is_full();
        let code = if is_disk { ErrorCode::DiskFull } else { ErrorCode::Internal };
        Some(Failure::maybe_executed(code, message))
    }
}

impl Progress {
    /// The followers that answer, are behind what is committed, and have not got on for long.
    fn stuck(&mut self, seen: &RaftMetrics<Types>, lease: Duration) -> BTreeSet<NodeId> {
        let Some(matched) = seen.replication.as_ref().filter(|_| seen.state.is_leader()) else {
            self.since.clear();
            return BTreeSet::new();
        };
        let (now, committed) = (Instant::now(), seen.local_committed.map_or(0, |id| id.index));
        let answers = |id: &u64| {
            let at = seen.heartbeat.as_ref().and_then(|acked| acked.get(id).copied().flatten());
            at.is_some_and(|at| at.elapsed() <= lease)
        };
        self.since.retain(|node, _| matched.contains_key(&node.0));
        let mut stuck = BTreeSet::new();
        for (id, log) in matched {
            let index = log.as_ref().map_or(0, |log| log.index);
            let since = self.since.entry(NodeId(*id)).or_insert((index, now));
            if since.0 != index || index >= committed || !answers(id) {
                *since = (index, now);
            }
            if now.duration_since(since.1) >= STUCK_AFTER {
                stuck.insert(NodeId(*id));
            }
        }
        stuck
    }
}

fn role(seen: &RaftMetrics<Types>) -> RaftRole {
    if seen.running_state.is_err() {
        return RaftRole::Stopped;
    }
    match seen.state {
        ServerState::Leader => RaftRole::Leader,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Learner => RaftRole::Learner,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}
