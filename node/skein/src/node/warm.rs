//! Which versions this node keeps ready (`scale.warm`, and more by `scale.schedule`): a share of its own, found from the
//! catalogue, the view and the time.

use std::time::Duration;

use skein_catalog::{Catalog, Propose as _, VersionRecord};
use skein_membership::{PeerState, View};
use skein_placement::warm_share;
use skein_proto::{NodeId, VersionId, WeekMinute};
use skein_runtime::Kept;
use tokio_util::sync::CancellationToken;

use super::{Shared, access::now_ms};

/// After a change, before the shares are found again: several changes make one, and a node that is only suspected has
/// time to answer.
const SETTLE: Duration = Duration::from_millis(500);

/// Tells the runtime what to keep, at every change and every minute, until told to stop.
pub(super) async fn keep(shared: Shared, stop: CancellationToken) {
    let me = shared.transport.local();
    let (mut catalog, mut view) = (shared.consensus.watch(), shared.membership.watch());
    let mut told: Vec<(VersionId, u32)> = Vec::new();
    loop {
        let kept = {
            let (catalog, view) = (catalog.borrow_and_update().clone(), view.borrow_and_update());
            shares(&catalog, &nodes(&catalog, &view, me), me, WeekMinute::of_unix_ms(now_ms()))
        };
        let mut now: Vec<_> = kept.iter().map(|(version, (_, count))| (*version, *count)).collect();
        now.sort_unstable();
        if now != told {
            tracing::debug!(versions = now.len(), "kept ready here");
            told = now;
            shared.runtime.keep(kept);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(until_next_minute(now_ms())) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => {}
        }
    }
}

/// How long it is until the next minute begins, by this node's clock.
fn until_next_minute(now_ms: u64) -> Duration {
    Duration::from_millis(MINUTE_MS - now_ms % MINUTE_MS)
}

const MINUTE_MS: u64 = 60_000;

/// The nodes that take calls, as far as this one knows.
fn nodes(catalog: &Catalog, view: &View, me: NodeId) -> Vec<NodeId> {
    let takes_calls = |node: NodeId| {
        node == me || view.peers.get(&node).is_some_and(|peer| peer.state != PeerState::Down && !peer.load.is_draining)
    };
    let members = catalog.members().filter(|member| !member.is_draining);
    members.map(|member| member.node).filter(|node| takes_calls(*node)).collect()
}

/// This node's share of every version that an alias points at.
fn shares(catalog: &Catalog, nodes: &[NodeId], me: NodeId, now: WeekMinute) -> Kept {
    let mut kept = Kept::new();
    for function in catalog.functions() {
        let nodes: Vec<_> = nodes.iter().copied().filter(|node| catalog.may_run(&function.app, *node)).collect();
        let aliased = function.aliases.values().filter_map(|history| history.last());
        for record in aliased.filter_map(|number| function.versions.get(number)) {
            let version = VersionId { function: function.id, number: record.number };
            let share = share((version, record), &nodes, me, now);
            if share > 0 {
                kept.insert(version, (record.clone(), share));
            }
        }
    }
    kept
}

fn share((version, record): (VersionId, &VersionRecord), nodes: &[NodeId], node: NodeId, now: WeekMinute) -> u32 {
    match record.manifest.scale.warm_at(now) {
        0 => 0,
        warm => warm_share(version, warm, nodes, node),
    }
}
