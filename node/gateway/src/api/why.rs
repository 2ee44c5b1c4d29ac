//! Where a call went, why there, and where its time went.

use serde::{Deserialize, Serialize};
use skein_proto::{AppName, ErrorCode, InvocationId, NodeName, Progress, Start};

/// What became of one call, as the node that took it decided and saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The call.
    pub invocation: InvocationId,
    /// What was called, as `app/name@version`; none if the name meant nothing.
    #[serde(default)]
    pub function: Option<String>,
    /// Its app, if it is still known.
    #[serde(default)]
    pub app: Option<AppName>,
    /// The node that took the call and decided where it runs.
    pub taken_by: NodeName,
    /// When it came, in milliseconds since the Unix epoch, by that node's clock.
    pub at_ms: u64,
    /// The call whose function made it; none for one from outside.
    #[serde(default)]
    pub caller: Option<InvocationId>,
    /// How many functions called one another to get here.
    pub depth: u8,
    /// Where it ran, if it was answered.
    #[serde(default)]
    pub ran_on: Option<NodeName>,
    /// What it found there.
    #[serde(default)]
    pub start: Option<Start>,
    /// Why there, in a sentence.
    pub placed: String,
    /// Why it was cold or warm, in a sentence.
    pub started: String,
    /// Why it failed, if it did.
    #[serde(default)]
    pub failure: Option<WhyFailure>,
    /// The nodes as they were ranked when it was sent, best first; at most 32.
    pub candidates: Vec<WhyCandidate>,
    /// How many nodes were ranked.
    pub candidates_total: usize,
    /// How often they were: once, and again after a redirect by a newer catalogue.
    pub rankings: u32,
    /// The attempts, in order; the last one of an answered call went well.
    pub attempts: Vec<WhyAttempt>,
    /// Where the time went.
    pub times: WhyTimes,
    /// The calls that its function made, the newest first; at most 64.
    pub made: Vec<WhyCall>,
}

/// A failure, without what only its caller needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyFailure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// How far it got.
    pub progress: Progress,
    /// What happened.
    pub message: String,
}

/// A node that might have run the call, and the figures it was ranked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyCandidate {
    /// The node.
    pub node: NodeName,
    /// True for the one that ran it.
    pub is_chosen: bool,
    /// True if the version was known to be warm there.
    pub is_warm: bool,
    /// Which kind of place it was: `warm`, `cold`, `slow`, `full`, `doubtful`, or `out` for one that is not tried.
    pub group: String,
    /// Why it had its place.
    pub reason: String,
    /// What candidates of a group are compared by: calls running, four times those waiting, and one for each 10 ms that the
    /// first of those has waited.
    pub load: u64,
    /// The figures in words.
    pub figures: String,
}

/// One try on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAttempt {
    /// The node.
    pub node: NodeName,
    /// When it began, in microseconds after the call came.
    pub after_us: u64,
    /// How long it took.
    pub took_us: u64,
    /// Why it failed, if it did.
    #[serde(default)]
    pub failure: Option<WhyFailure>,
}

/// Where the time of a call went, in microseconds. `route`, `retry`, `queue`, `start`, `run` and `return` follow one
/// another; what is missing from `total` was spent between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhyTimes {
    /// All of it.
    pub total_us: u64,
    /// Resolving the name and ranking the nodes.
    pub route_us: u64,
    /// Attempts that failed.
    pub retry_us: u64,
    /// Waiting for a permit and a thread.
    pub queue_us: u64,
    /// Waiting for the activation to start; 0 when it was there.
    pub start_us: u64,
    /// Making the instance and running it.
    pub run_us: u64,
    /// The way there and back, and what the node needed beyond that.
    pub return_us: u64,
}

/// A call that a function made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyCall {
    /// Its id, to ask about it in turn.
    pub invocation: InvocationId,
    /// What was called, as `app/name@version`; none if the name meant nothing.
    #[serde(default)]
    pub function: Option<String>,
    /// Where it ran, if it was answered.
    #[serde(default)]
    pub ran_on: Option<NodeName>,
    /// Why it failed, if it did.
    #[serde(default)]
    pub failure: Option<WhyFailure>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}
