//! How a compilation fails, as the compiler, its process and those who asked for it tell one another.

use serde::{Deserialize, Serialize};

use crate::EngineError;

/// What a compilation failed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// The compiler does not take the module.
    Refused,
    /// It took too long.
    Time,
    /// It needed too much memory.
    Memory,
    /// The compiler, or its process, broke down over it.
    Crashed,
    /// The process was ended by somebody else, or could not be started. Another attempt may succeed.
    Lost,
    /// The process answered something that cannot be understood, or is of another release.
    Garbage,
    /// The engine was shut down.
    Shutdown,
}

impl Cause {
    /// The outcome, as the metric has it.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Time => "timeout",
            Self::Memory => "memory",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Garbage => "garbage",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A compilation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    /// For the author of the module.
    pub(crate) message: String,
}

impl Failed {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
}

impl From<Failed> for EngineError {
    fn from(failed: Failed) -> Self {
        match failed.cause {
            Cause::Refused | Cause::Time | Cause::Memory | Cause::Crashed => Self::Module(failed.message),
            Cause::Lost | Cause::Garbage => Self::Internal(failed.message),
            Cause::Shutdown => Self::Shutdown,
        }
    }
}
