//! Keeps the status of a group: what openraft says, what the log says, and what the clock says.

use std::{sync::Arc, time::Duration};

use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::WatchReceiver};
use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{RaftRole, RaftStatus, Timings, disk::Disk, log::Log, metrics, status::Heard, types::Types};

type MetricsReceiver = openraft::alias::WatchReceiverOf<Types, RaftMetrics<Types>>;

/// The task that keeps it.
pub(crate) struct Observer {
    pub(crate) node: NodeId,
    pub(crate) seen: MetricsReceiver,
    pub(crate) log: Log,
    pub(crate) disk: Disk,
    pub(crate) heard: Arc<Heard>,
    pub(crate) timings: Timings,
    pub(crate) status: watch::Sender<RaftStatus>,
}

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
    pub(crate) fn publish(&self) {
        let status = {
            let seen = self.seen.borrow_watched();
            self.status_of(&seen)
        };
        metrics::stands(status.term, status.is_leader());
        self.status.send_if_modified(|known| {
            let is_new = *known != status;
            *known = status;
            is_new
        });
    }

    fn status_of(&self, seen: &RaftMetrics<Types>) -> RaftStatus {
        let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let membership = seen.membership_config.membership();
        let matched = seen.replication.iter().flatten();
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
