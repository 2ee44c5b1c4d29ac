//! The one error that crosses the wire.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, NodeId};

/// How far a failed operation got; decides who may repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nothing ran. Repeating is always safe; Skein does so by itself.
    NotExecuted,
    /// It is not known whether it ran. Repeating is safe only for what is idempotent.
    MaybeExecuted,
    /// It ran, and failed.
    Executed,
}

impl Progress {
    /// The stable text, as in problem details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotExecuted => "not-executed",
            Self::MaybeExecuted => "maybe-executed",
            Self::Executed => "executed",
        }
    }
}

/// Why an operation failed, for whoever asked for it, on whichever node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What happened, to what: one lower-case sentence without a full stop.
    pub message: String,
    /// How far it got.
    pub progress: Progress,
    /// When a retry makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The exit code of a function that ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// With `moved`: the catalogue index as of which it is so. Whoever sends the call on catches up with it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The end of what the function wrote to its log (stderr), if it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// With `overloaded`: the node is short of memory, whatever the function's own limits; another node may have some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_memory: bool,
    /// Where the version went, of a call that came to the place it has just left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<NodeId>,
}

impl Failure {
    /// A failure before anything ran.
    pub fn not_executed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, Progress::NotExecuted, message)
    }

    /// A failure that leaves open whether anything ran.
    pub fn maybe_executed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, Progress::MaybeExecuted, message)
    }

    /// A failure of what did run.
    pub fn executed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, Progress::Executed, message)
    }

    fn new(code: ErrorCode, progress: Progress, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            progress,
            retry_after_ms: None,
            exit_code: None,
            index: None,
            log_tail: String::new(),
            lacks_memory: false,
            moved_to: None,
        }
    }

    /// The same, as of this index of the catalogue.
    pub fn as_of(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    /// The same, with the time after which a retry makes sense.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }
}
