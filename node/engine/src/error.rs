//! Why a module was refused or a run failed, and what a user is told about it.

use std::fmt;

use skein_proto::{ErrorCode, Failure};

use crate::Output;

/// Why an engine could not inspect, compile or load a module. Nothing of the module has run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The code cannot be run. The same bytes are refused again.
    #[error("{0}")]
    Module(String),
    /// The code is larger than an artifact may be. The same bytes are refused again.
    #[error("the module has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most allowed.
        bytes_max: u64,
    },
    /// The bytes are not those of the digest. Nothing was kept.
    #[error("the code has digest {actual}, not {expected}")]
    Digest {
        /// The digest asked for.
        expected: skein_proto::Digest,
        /// The digest of the bytes.
        actual: skein_proto::Digest,
    },
    /// The artefact cache could not be read or written. A retry may help.
    #[error("artefact cache: {0}")]
    Cache(String),
    /// Too many other modules wait for a compiler. Nothing was done; a retry later may help.
    #[error("{waiting} other modules wait to be compiled on this node; try again later")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The node has no memory, or no room for an instance, to try the module in. Nothing of it was kept; a retry later,
    /// or at another node, may help.
    #[error("this node has no room to load it: {0}; repeat it later, or at another node")]
    Short(String),
    /// The bytes could not be had. Says itself whether a retry helps.
    #[error("{0}")]
    Code(Failure),
    /// The engine was shut down.
    #[error("the engine is shut down")]
    Shutdown,
    /// A part of the engine failed or panicked. A bug.
    #[error("engine: {0}")]
    Internal(String),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Code(failure) => return failure.clone(),
            EngineError::Module(_) => ErrorCode::BadModule,
            EngineError::TooLarge { .. } => ErrorCode::TooLarge,
            EngineError::Shutdown => ErrorCode::Unavailable,
            EngineError::Busy { .. } | EngineError::Short(_) => ErrorCode::Overloaded,
            EngineError::Digest { .. } | EngineError::Cache(_) | EngineError::Internal(_) => ErrorCode::Internal,
        };
        Failure::not_executed(code, error.to_string())
    }
}

/// What a guest did that WebAssembly forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// It ran into `unreachable`, as panics and aborts do.
    Unreachable,
    /// It read or wrote outside its memory.
    MemoryOutOfBounds,
    /// It used a table element that is not there.
    TableOutOfBounds,
    /// It called through an empty table element.
    NullFunction,
    /// It called a function as something it is not.
    SignatureMismatch,
    /// It divided by zero.
    DivisionByZero,
    /// A number did not fit its type.
    IntegerOverflow,
    /// It made an integer of a number that is none.
    BadConversion,
    /// It used up its stack.
    StackOverflow,
    /// Something else.
    Other,
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable instruction executed",
            Self::MemoryOutOfBounds => "memory accessed out of bounds",
            Self::TableOutOfBounds => "table accessed out of bounds",
            Self::NullFunction => "empty table element called",
            Self::SignatureMismatch => "function called with the wrong signature",
            Self::DivisionByZero => "division by zero",
            Self::IntegerOverflow => "integer overflow",
            Self::BadConversion => "invalid conversion to integer",
            Self::StackOverflow => "stack overflow",
            Self::Other => "trap",
        })
    }
}

/// Why a run gave no result. The instance is gone in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The guest ended with an exit code other than 0.
    #[error("the function ended with exit code {code}")]
    Exit {
        /// The code.
        code: i32,
        /// What it wrote and used.
        output: Box<Output>,
    },
    /// The guest said that it failed, or asked for what it must not have.
    #[error("{message}")]
    Failed {
        /// `function-failed`, `not-granted` or `limit-exceeded`.
        code: ErrorCode,
        /// In the guest's own words, or the host's.
        message: String,
        /// What it wrote and used.
        output: Box<Output>,
    },
    /// The guest trapped.
    #[error("the function trapped: {kind}{}", at(function))]
    Trap {
        /// What it did.
        kind: TrapKind,
        /// The guest's function it did it in, if its name is known.
        function: Option<String>,
        /// What it wrote and used.
        output: Box<Output>,
    },
    /// The deadline passed, and the guest was stopped.
    #[error("the function was stopped at its deadline")]
    Deadline {
        /// What it wrote and used until then.
        output: Box<Output>,
        /// False if the deadline had passed before the guest started.
        has_started: bool,
    },
    /// The CPU time of the call was used up, and the guest was stopped.
    #[error("the function was stopped when its CPU time was used up (limits.cpu)")]
    Cpu {
        /// What it wrote and used until then.
        output: Box<Output>,
    },
    /// The run was to be brief, and was not; what it wrote is gone. The call may be run again, from its start.
    #[error("the function takes longer than a brief run may")]
    NotBrief,
    /// It was taken back, and the guest was stopped.
    #[error("the function was stopped, because the call was taken back")]
    Cancelled {
        /// What it wrote and used until then.
        output: Box<Output>,
        /// False if the call was taken back before the guest started.
        has_started: bool,
    },
    /// The guest wanted more memory than its limit, and failed for it.
    #[error("the function needs more than its {bytes_max} bytes of memory (limits.memory)")]
    Memory {
        /// The limit.
        bytes_max: u64,
        /// What it wrote and used.
        output: Box<Output>,
    },
    /// The node had no memory left when the guest wanted more of it, within its limit, and the guest failed for it.
    #[error("the node's memory was used up when the function wanted more of it")]
    Starved {
        /// What it wrote and used.
        output: Box<Output>,
    },
    /// The guest wrote more to stdout than a result may have, and was stopped.
    #[error("the function's result is over its limit of {bytes_max} bytes (limits.payload)")]
    Output {
        /// The limit.
        bytes_max: u64,
        /// What it wrote to its log and used; stdout is dropped.
        output: Box<Output>,
    },
    /// No instance could be made: too many are alive, or the machine has no more memory. The guest did not run; a retry
    /// may help.
    #[error("no room for another instance: {0}")]
    Full(String),
    /// A part of the engine failed or panicked while the guest may have run. A bug.
    #[error("engine: {0}")]
    Internal(String),
}

fn at(function: &Option<String>) -> String {
    function.as_ref().map_or(String::new(), |name| format!(", in `{name}`"))
}

impl RunError {
    /// Longest end of a log that a failure carries along: what a user reads first, not the log itself.
    pub const LOG_TAIL_BYTES_MAX: usize = 4 << 10;

    /// What the guest wrote and used, if it ran.
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::Exit { output, .. }
            | Self::Failed { output, .. }
            | Self::Trap { output, .. }
            | Self::Deadline { output, .. }
            | Self::Cpu { output }
            | Self::Cancelled { output, .. }
            | Self::Memory { output, .. }
            | Self::Starved { output }
            | Self::Output { output, .. } => Some(output),
            Self::Full(_) | Self::Internal(_) | Self::NotBrief => None,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        let mut failure = match &error {
            RunError::Exit { .. } => Failure::executed(ErrorCode::FunctionFailed, message),
            RunError::Failed { code, .. } => Failure::executed(*code, message),
            RunError::Trap { .. } => Failure::executed(ErrorCode::FunctionTrapped, message),
            RunError::Memory { .. } => Failure::executed(ErrorCode::MemoryExceeded, message),
            // As with a node that goes away in the middle of a call: elsewhere it may succeed.
            RunError::Starved { .. } => Failure::maybe_executed(ErrorCode::Overloaded, message),
            RunError::Output { .. } => Failure::executed(ErrorCode::OutputExceeded, message),
            RunError::Deadline { has_started: true, .. } => Failure::executed(ErrorCode::DeadlineExceeded, message),
            RunError::Deadline { .. } => {
                Failure::not_executed(ErrorCode::DeadlineExceeded, "the deadline passed before the function started")
            }
            RunError::Cancelled { has_started: true, .. } => Failure::executed(ErrorCode::Cancelled, message),
            RunError::Cancelled { .. } => {
                Failure::not_executed(ErrorCode::Cancelled, "the call was taken back before the function started")
            }
            RunError::Cpu { .. } => Failure::executed(ErrorCode::CpuExceeded, message),
            // What ran left no trace, or it would not have been run briefly.
            RunError::NotBrief => Failure::not_executed(ErrorCode::Overloaded, message),
            RunError::Full(_) => Failure::not_executed(ErrorCode::Overloaded, message),
            RunError::Internal(_) => Failure::maybe_executed(ErrorCode::Internal, message),
        };
        if let RunError::Exit { code, .. } = &error {
            failure.exit_code = Some(*code);
        }
        failure.lacks_memory = matches!(error, RunError::Starved { .. });
        if let Some(output) = error.output() {
            failure.log_tail = output.log_tail(RunError::LOG_TAIL_BYTES_MAX);
        }
        failure
    }
}
