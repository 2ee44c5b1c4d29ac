//! What an activation looks like from outside.

use serde::{Deserialize, Serialize};
use skein_proto::{AppName, FunctionName, VersionId};

/// Where an activation is in its life: `Loading -> Ready -> Draining -> Stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActivationState {
    /// Its code is being fetched, compiled or loaded; the first calls wait for it.
    Loading,
    /// It takes calls.
    Ready,
    /// It takes no new calls and finishes those it has.
    Draining,
    /// It is over.
    Stopped,
    /// It could not start. The calls that waited have been told why.
    Failed,
}

/// One activation on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationStatus {
    /// The version that is live.
    pub version: VersionId,
    /// Its app.
    pub app: AppName,
    /// Its function.
    pub name: FunctionName,
    /// Where it is in its life.
    pub state: ActivationState,
    /// Counts the activations of this node: a version that stopped and started again has a higher one.
    pub generation: u64,
    /// Calls that hold a permit.
    pub in_flight: u32,
    /// Calls in line for a permit.
    pub queued: u32,
    /// How long the first of them has waited, in milliseconds; 0 if none waits.
    pub queue_age_ms: u32,
    /// Calls that run on average, in hundredths, over the last seconds.
    pub busy_percent: u32,
    /// Calls that got a permit, so far.
    pub calls: u64,
    /// Time since the last call ended, or since the start if there was none, in milliseconds; 0 while calls are here.
    pub idle_ms: u64,
}
