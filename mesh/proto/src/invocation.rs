//! One logical call, its answer, and the seam through which every call goes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{ErrorCode, Failure, FunctionRef, InvocationId, NodeId, VersionId};

/// The seam every call passes: the router, the local runtime, the client and each test double implement it, and
/// admission, tracing and metering wrap it.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Runs one invocation to its end.
    ///
    /// Cancel-safe: dropping the future takes the call back; a guest that runs is stopped.
    ///
    /// # Errors
    /// A [`Failure`] whose `progress` says whether the function may have run.
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure>;
}

/// One logical call, as it travels inside a process. Cheap to clone: attempts share what the caller sent.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its id, the same for every attempt.
    pub id: InvocationId,
    /// What to call.
    pub target: InvocationTarget,
    /// The input; on stdin for a command.
    pub payload: Bytes,
    /// Names and values the caller sent along; environment variables for a command.
    pub headers: Arc<[(String, String)]>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The W3C `traceparent` to go on with.
    pub traceparent: Option<Arc<str>>,
    /// How many functions called one another to get here; 0 from outside.
    pub depth: u8,
    /// Those functions as `app/name`, the outermost first; what an error names when it is a loop.
    pub chain: Vec<String>,
    /// The call whose function makes this one; none from outside, and unknown to the node that runs it.
    pub caller: Option<InvocationId>,
    /// The oldest catalogue index that may answer; 0 for any.
    pub index_min: u64,
    /// True if running twice does no harm, so that a lost attempt may be repeated.
    pub is_idempotent: bool,
    /// True if the version is to run even where it has just moved away from: where it went did not take the call.
    pub is_insistent: bool,
    /// True if a node was lost while it had the call, so that it may be what ends nodes.
    pub was_lost: bool,
}

/// What an invocation is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvocationTarget {
    /// A name, for the router to resolve.
    Reference(FunctionRef),
    /// A version that a router has already resolved; what a runtime takes.
    Version(VersionId),
}

impl Invocation {
    /// Longest chain of calls of functions by functions: what is deeper is a loop.
    pub const DEPTH_MAX: u8 = 16;

    /// A call from outside, with a new id.
    pub fn new(target: FunctionRef, payload: Bytes, deadline: Instant) -> Self {
        Self::with_id(InvocationId::random(), target, payload, deadline)
    }

    /// A call from outside that was given its id before.
    pub fn with_id(id: InvocationId, target: FunctionRef, payload: Bytes, deadline: Instant) -> Self {
        Self {
            id,
            target: InvocationTarget::Reference(target),
            payload,
            headers: Arc::default(),
            deadline,
            traceparent: None,
            depth: 0,
            chain: Vec::new(),
            caller: None,
            index_min: 0,
            is_idempotent: false,
            is_insistent: false,
            was_lost: false,
        }
    }

    /// Refuses a chain of calls that is too long to be anything but a loop, and names the loop.
    ///
    /// # Errors
    /// `limit-exceeded`, not executed, for a depth beyond [`Invocation::DEPTH_MAX`].
    pub fn check_depth(&self) -> Result<(), Failure> {
        if self.depth <= Self::DEPTH_MAX {
            return Ok(());
        }
        let most = Self::DEPTH_MAX;
        let message = format!(
            "functions call one another more than {most} deep, which looks like a loop{}: return instead of calling on",
            named_loop(&self.chain)
        );
        Err(Failure::not_executed(ErrorCode::LimitExceeded, message))
    }

    /// The time left to the caller; zero when it is over.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The functions between the last one and the same one before it, if it is there; else the whole chain.
fn named_loop(chain: &[String]) -> String {
    let Some((last, earlier)) = chain.split_last() else { return String::new() };
    let from = earlier.iter().rposition(|name| name == last).unwrap_or(0);
    format!(" ({})", chain[from..].join(" → "))
}

/// What a call returned, and how it was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The result; what a command wrote to stdout.
    pub payload: Bytes,
    /// The version that ran.
    pub version: VersionId,
    /// Where it ran.
    pub node: NodeId,
    /// What it found there.
    pub start: Start,
    /// What it used.
    pub usage: Usage,
}

/// What a call found when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// No activation: this call waited for one to start.
    Cold,
    /// An activation; the call had a fresh instance in it.
    Warm,
    /// An instance that had served before.
    Reused,
}

impl Start {
    /// The value of the `skein-start` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Reused => "reused",
        }
    }
}

/// Why a version had to be started for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColdCause {
    /// It had not been live on the node, as far as the node remembers.
    First,
    /// It had no calls for its idle time.
    Idle,
    /// Its memory was needed for others.
    Memory,
    /// It had moved to another node.
    Moved,
    /// Its app had been bound to other nodes.
    Bound,
    /// The node had drained.
    Drained,
    /// Its last start had failed.
    Failed,
}

impl ColdCause {
    /// What had happened, to be said of the version.
    pub fn as_words(self) -> &'static str {
        match self {
            Self::First => "it had not been live there since the node started, as far as the node remembers",
            Self::Idle => "it had been stopped there after its idle time",
            Self::Memory => "it had been evicted there, since its memory was needed",
            Self::Moved => "it had moved from there to another node",
            Self::Bound => "its app had been bound to other nodes meanwhile",
            Self::Drained => "the node had drained",
            Self::Failed => "its last start there had failed",
        }
    }
}

/// What one call used, in microseconds and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Waiting for a permit and a thread.
    pub queue_us: u64,
    /// Waiting for the activation to start; 0 when it was there.
    pub start_us: u64,
    /// Of that, loading the compiled code.
    pub load_us: u64,
    /// Creating the instance.
    pub instantiate_us: u64,
    /// In the guest, its waits included.
    pub run_us: u64,
    /// Of that, waiting for others: calls, requests, sleep.
    pub wait_us: u64,
    /// Making the instance ready for the call after this one.
    pub reset_us: u64,
    /// The most linear memory the instance had.
    pub memory_bytes: u64,
    /// What the guest wrote to its log, including what was dropped.
    pub log_bytes: u64,
    /// Calls and requests that the guest made of others.
    pub outbound: u32,
    /// Which compiler's code ran; `None` if the node did not say.
    pub tier: Option<Tier>,
    /// Why the version had to be started, if it had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold: Option<ColdCause>,
    /// Whether the version had been started ahead of its calls, and this was the first of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_foreseen: bool,
}

/// Which compiler made the code that ran. The later one is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The fast one, for the first calls of a large module: there in a tenth of the time, and runs at a half to a quarter
    /// of the speed.
    Baseline,
    /// The optimising one.
    Optimised,
}

impl Tier {
    /// The word for it in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimised => "optimised",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_chain_that_is_too_long_names_its_loop() {
        let check = |chain: &[&str], expected: &str| {
            let mut invocation = Invocation::new("a/b".parse().unwrap(), Bytes::new(), Instant::now());
            invocation.chain = chain.iter().map(|name| (*name).to_owned()).collect();
            invocation.depth = Invocation::DEPTH_MAX;
            assert_eq!(invocation.check_depth(), Ok(()));
            invocation.depth += 1;
            let failure = invocation.check_depth().unwrap_err();
            assert_eq!(failure.code, ErrorCode::LimitExceeded);
            assert!(failure.message.contains(expected), "{failure}");
        };
        check(&["x/in", "x/a", "x/b", "x/a"], "a loop (x/a → x/b → x/a): return");
        check(&["x/a", "x/a"], "(x/a → x/a)");
        check(&["x/a", "x/b"], "(x/a → x/b)");
        check(&[], "a loop: return");
    }
}
