//! The runtime's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skein_proto::{Limits, NodeId};

use crate::executor::Bounds;

/// Settings of one node's runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node, as replies name it. Given by the assembly.
    pub node: NodeId,
    /// Most guests that compute at a time, each on a thread. Default 512, the largest `limits.concurrency`; a thread
    /// costs some tens of KiB while it lives and goes away when idle.
    pub threads_max: usize,
    /// Most guests that wait at a time for a call, a request or a clock, besides those that compute. Default 3,584: with
    /// `threads_max`, as many as the engine has instances. Each keeps its thread; docs/decisions/0011 has what that costs.
    pub waiting_max: usize,
    /// How long a thread stays without work, in milliseconds. Default 10,000: longer than the pauses of steady traffic.
    pub thread_idle_ms: u64,
    /// Most calls in line for a version's permits, as a multiple of its concurrency. Default 2: a longer line only
    /// makes callers wait for what they will no longer want.
    pub waiting_per_permit: u32,
    /// Longest time in line, in milliseconds, whatever the caller's deadline. Default 5,000.
    pub waiting_ms_max: u64,
    /// Versions prepared (fetched, compiled) at a time because a call or a publish waits. Default 2. Compiling takes a
    /// core each.
    pub prepare_parallel: usize,
    /// Versions prepared at a time in the background, before anybody asked. Default 1, so that it never takes more
    /// than one core from calls.
    pub prefetch_parallel: usize,
    /// How long an instance that nobody uses is kept for the next call, in milliseconds. Default 10,000; its activation
    /// stays, and makes another in microseconds.
    pub instance_idle_ms: u64,
    /// How often the supervisor looks for idle activations, in milliseconds. Default 1,000.
    pub idle_tick_ms: u64,
}

impl Config {
    /// The default settings for `node`.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            threads_max: 512,
            waiting_max: 3_584,
            thread_idle_ms: 10_000,
            waiting_per_permit: 2,
            waiting_ms_max: 5_000,
            prepare_parallel: 2,
            prefetch_parallel: 1,
            instance_idle_ms: 10_000,
            idle_tick_ms: 1_000,
        }
    }

    /// Most calls in line for a version with these limits.
    pub(crate) fn line_max(&self, limits: &Limits) -> u32 {
        limits.concurrency.saturating_mul(self.waiting_per_permit)
    }

    pub(crate) fn waiting(&self) -> Duration {
        Duration::from_millis(self.waiting_ms_max)
    }

    pub(crate) fn idle_tick(&self) -> Duration {
        Duration::from_millis(self.idle_tick_ms.max(1))
    }

    pub(crate) fn instance_idle(&self) -> Duration {
        Duration::from_millis(self.instance_idle_ms.max(1))
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let thread_idle = Duration::from_millis(self.thread_idle_ms);
        Bounds { running_max: self.threads_max, waiting_max: self.waiting_max, thread_idle }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new(NodeId::default())
    }
}
