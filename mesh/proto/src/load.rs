//! How busy a node is, as it tells its peers.

use serde::{Deserialize, Serialize};

/// A node's own figures, gossiped about once a second. Hints for ranking, never authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Calls running now.
    pub in_flight: u32,
    /// Calls waiting for a permit.
    pub queued: u32,
    /// How long the one has waited that has waited longest, in milliseconds; 0 if none waits.
    pub queue_age_ms: u32,
    /// Calls running on average over the last seconds, in hundredths: guests that compute, not those that wait.
    pub busy_percent: u32,
    /// CPU in use, in thousandths of the whole machine, or of what the node may use of it if that is used up sooner.
    pub cpu_permille: u16,
    /// Resident memory of the process, in MiB.
    pub memory_mib: u32,
    /// Memory the node may use, in MiB; 0 from a node that does not say.
    pub memory_budget_mib: u32,
    /// Live activations.
    pub activations: u32,
    /// The catalogue index applied here.
    pub applied_index: u64,
    /// True while the node takes no new calls.
    pub is_draining: bool,
    /// Versions that are warm here, the busiest first, as `(function, version)`; at most [`Load::WARM_MAX`], so that a
    /// digest fits one datagram.
    pub warm: Vec<(u64, u64)>,
    /// For each of them, in the same order, its share of `busy_percent`.
    pub warm_percent: Vec<u16>,
}

impl Load {
    /// Most warm versions named in one digest: 40 take about 400 bytes of a datagram of 1,200.
    pub const WARM_MAX: usize = 40;
}
