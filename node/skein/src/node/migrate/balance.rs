//! Evens the load out: whoever leads the consensus plans moves by the gossiped view and has them carried out.
//!
//! Nothing depends on the leader: moves are hints made true, and without one everything stays where it is. Two leaders
//! for a moment, or a leader that goes in the middle of a move, do no harm either: each move can be made twice or broken
//! off.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use skein_catalog::{Catalog, Propose};
use skein_membership::PeerState;
use skein_placement::{History, MoveReason, NodeView, Places, plan};
use skein_proto::{FunctionId, Load, NodeId, VersionId, WeekMinute};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    super::{access::now_ms, warm},
    Move, Shared, Why, carry_out,
};

/// Between two plans. Figures come twice a second and follow in about two.
const PERIOD: Duration = Duration::from_secs(2);
/// Longest move: the target may have to fetch and compile the code.
const MOVE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a new leader only looks: it does not know what its predecessor moved, and the figures show it by then.
const NEW_LEADER_WAITS: Duration = Duration::from_secs(5);
/// From this share of its memory on, in percent, a node is given nothing.
const MEMORY_FULL_PERCENT: u64 = 85;

/// Plans and moves until told to stop.
pub(in crate::node) async fn balance(shared: Shared, stop: CancellationToken) {
    let (began, mut history, mut leads_since) = (Instant::now(), History::default(), None);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let status = shared.consensus.status();
        if !(status.is_leader() && status.is_quorum_alive) {
            leads_since = None;
            continue;
        }
        if leads_since.get_or_insert_with(Instant::now).elapsed() < NEW_LEADER_WAITS {
            continue;
        }
        let now = began.elapsed();
        let planned = plan(&views(&shared), &mut history, now, &Rules::of(&shared));
        let moves = planned.iter().map(|planned| {
            history.note(planned, now);
            let step = Move { version: planned.version, from: planned.from, to: planned.to };
            let why = match planned.reason {
                MoveReason::Loaded => Why::Loaded,
                MoveReason::Joined => Why::Joined,
            };
            carry_out(&shared, step, why, Instant::now() + MOVE_DEADLINE)
        });
        let moves = join_all(moves.collect::<Vec<_>>());
        tokio::select! {
            () = stop.cancelled() => return,
            // Each has said in the log how it went.
            _ = moves => {}
        }
    }
}

/// Where versions may be and are to be, as of now.
pub(super) struct Rules {
    catalog: Arc<Catalog>,
    /// The nodes that take calls.
    nodes: Vec<NodeId>,
    now: WeekMinute,
}

impl Rules {
    pub(super) fn of(shared: &Shared) -> Self {
        let catalog = shared.consensus.catalog();
        let nodes = warm::nodes(&catalog, &shared.membership.view(), shared.transport.local());
        Self { nodes, catalog, now: WeekMinute::of_unix_ms(now_ms()) }
    }
}

impl Places for Rules {
    /// An app may be bound to some nodes.
    fn may_run(&self, version: VersionId, node: NodeId) -> bool {
        self.catalog.version(version).is_some_and(|record| self.catalog.may_run(&record.manifest.app, node))
    }

    /// `scale.warm` and `scale.schedule`.
    fn is_kept(&self, version: VersionId, node: NodeId) -> bool {
        warm::is_kept(&self.catalog, &self.nodes, (version, node), self.now)
    }
}

/// The members that answer, as this node has heard of them.
pub(super) fn views(shared: &Shared) -> Vec<NodeView> {
    let (catalog, view) = (shared.consensus.catalog(), shared.membership.view());
    let alive = view.peers.values().filter(|peer| peer.state == PeerState::Alive);
    let members = alive.filter_map(|peer| Some((peer, catalog.member(peer.node)?)));
    members.map(|(peer, member)| node_view(peer.node, &peer.load, member.is_draining)).collect()
}

fn node_view(node: NodeId, load: &Load, is_leaving: bool) -> NodeView {
    let (used, budget) = (u64::from(load.memory_mib), u64::from(load.memory_budget_mib));
    let is_full = budget > 0 && used * 100 >= budget * MEMORY_FULL_PERCENT;
    let version = |(function, number): &(u64, u64)| VersionId { function: FunctionId(*function), number: *number };
    NodeView {
        node,
        takes_more: !(is_leaving || load.is_draining || is_full),
        busy_percent: load.busy_percent,
        queued: load.queued,
        warm: load.warm.iter().map(version).zip(load.warm_percent.iter().map(|percent| u32::from(*percent))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_leaves_or_is_short_of_memory_is_given_nothing() {
        let takes_more = |load: Load, is_leaving| node_view(NodeId(1), &load, is_leaving).takes_more;
        let used = |memory_mib, memory_budget_mib| Load { memory_mib, memory_budget_mib, ..Load::default() };
        assert!(takes_more(used(80, 100), false));
        assert!(takes_more(used(80, 0), false), "a node that does not say what it may use");
        assert!(!takes_more(used(85, 100), false));
        assert!(!takes_more(used(0, 100), true));
        assert!(!takes_more(Load { is_draining: true, ..Load::default() }, false));
    }

    #[test]
    fn versions_of_a_node_that_does_not_say_how_busy_they_are_are_not_in_the_plan() {
        let told = Load { warm: vec![(1, 2), (3, 4)], warm_percent: vec![50], ..Load::default() };
        let expected = vec![(VersionId { function: FunctionId(1), number: 2 }, 50)];
        assert_eq!(node_view(NodeId(1), &told, false).warm, expected);
    }
}
