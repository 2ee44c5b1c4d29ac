//! Before a node takes no more calls: what is in use here is made ready elsewhere first, so that nobody waits for a start.

use std::{cmp::Reverse, time::Duration};

use futures_util::{StreamExt as _, stream};
use skein_placement::refuge;
use skein_runtime::ActivationState;
use tokio::time::{Instant, timeout_at};

use super::{
    Move, Shared, Why,
    balance::{Rules, views},
    carry_out,
};

/// What nobody has called for so long is left to its next call, wherever that is.
const IN_USE: Duration = Duration::from_secs(30);
/// Moves at a time: each costs some node a start.
const PARALLEL: usize = 8;

/// Moves the versions in use here to other nodes, the busiest first, as far as that goes by the deadline. What is left
/// is drained as any other activation.
pub(in crate::node) async fn evacuate(shared: &Shared, deadline: Instant) {
    let me = shared.transport.local();
    let mut live = shared.runtime.activations();
    live.retain(|status| {
        let is_live = matches!(status.state, ActivationState::Loading | ActivationState::Ready);
        is_live && Duration::from_millis(status.idle_ms) < IN_USE
    });
    live.sort_by_key(|status| Reverse((status.busy_percent, status.in_flight)));
    let mut nodes = views(shared);
    nodes.retain(|node| node.node != me);
    let (mut steps, rules) = (Vec::new(), Rules::of(shared));
    for status in &live {
        let Some(to) = refuge(status.version, &nodes, &rules) else { continue };
        steps.push(Move { version: status.version, from: me, to });
        if let Some(node) = nodes.iter_mut().find(|node| node.node == to) {
            node.busy_percent = node.busy_percent.saturating_add(status.busy_percent.max(1));
        }
    }
    let moves = stream::iter(steps).for_each_concurrent(PARALLEL, async |step| {
        // A version that does not find a place is drained here; the log says why it did not.
        let _ = carry_out(shared, step, Why::Leaving, deadline).await;
    });
    if timeout_at(deadline, moves).await.is_err() {
        tracing::warn!("not everything in use here was made ready elsewhere before this node leaves");
    }
}
