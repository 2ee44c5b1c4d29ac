//! A node's name in SWIM: which node, and in which of its lives. Where it is reached is the address book's.

use serde::{Deserialize, Serialize};
use skein_proto::NodeId;

/// One life of one node. A later life of the same node replaces the earlier one at once, dead or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// Starts as the clock in milliseconds, so that a node that starts again is newer than it was; one more each time
    /// it finds itself declared dead.
    pub(crate) incarnation: u64,
}

/// Largest incarnation believed: the clock in milliseconds reaches it in some 9,000 years, so whatever is above is
/// not an incarnation, and counting on from it cannot overflow.
pub(crate) const INCARNATION_MAX: u64 = 1 << 48;

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { incarnation: self.incarnation + 1, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.incarnation > adversary.incarnation
    }
}
