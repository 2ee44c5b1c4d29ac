//! What this router itself has seen of each node since the last gossip: newer than any load digest, and only its own.

use std::{collections::BTreeMap, time::Duration};

use skein_proto::{ErrorCode, Failure, NodeId};
use tokio::time::Instant;

/// Own calls under way, and nodes that did not answer. One entry per member at most.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    under_way: BTreeMap<NodeId, u32>,
    failed: BTreeMap<NodeId, Instant>,
}

/// How long a node that could not be reached is avoided. The failure detector knows in two seconds; this bridges the
/// time without making a verdict of one broken connection.
const AVOIDED: Duration = Duration::from_secs(1);

impl Notes {
    pub(crate) fn begin(&mut self, node: NodeId) {
        *self.under_way.entry(node).or_default() += 1;
    }

    pub(crate) fn end(&mut self, node: NodeId) {
        if let Some(count) = self.under_way.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&node);
            }
        }
    }

    pub(crate) fn under_way(&self, node: NodeId) -> u32 {
        self.under_way.get(&node).copied().unwrap_or(0)
    }

    /// Remembers what an attempt's end says about the node, as opposed to the function.
    pub(crate) fn learn(&mut self, node: NodeId, failure: Option<&Failure>, now: Instant) {
        match failure.map(|failure| failure.code) {
            Some(ErrorCode::Unreachable | ErrorCode::PeerLost | ErrorCode::Untrusted) => {
                self.failed.insert(node, now);
            }
            _ => {
                self.failed.remove(&node);
            }
        }
    }

    pub(crate) fn is_avoided(&self, node: NodeId, now: Instant) -> bool {
        self.failed.get(&node).is_some_and(|at| now.saturating_duration_since(*at) < AVOIDED)
    }
}
