//! Publishes a module as a node would, calls it, and says how it ended.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, EngineError, Program, RunError, StopHandle, TrapKind, WorkerCommand};
use skein_proto::{AppName, Digest, ErrorCode, Failure, Limits, Manifest};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::corpus::Hostile;

/// How often each is called: what the second call finds is what the first one left.
const CALLS: usize = 3;

/// Sees every byte of a new memory, and ends with an exit code if one is not zero.
const CANARY: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $at i32)
        (drop (memory.grow (i32.const 255)))
        (loop $l
            (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $exit (i32.const 99))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $l (i32.lt_u (local.get $at) (i32.const 16777216))))))"#;

/// An engine to attack.
pub(crate) struct Arena {
    pub(crate) engine: Engine,
    canary: Arc<Program>,
    _dir: TempDir,
}

/// What became of an attack.
pub(crate) struct Report {
    /// How it ended, in the words of [`crate::corpus`].
    pub(crate) ending: String,
    /// True if a later call ended otherwise.
    pub(crate) endings_differ: bool,
    /// The longest call.
    pub(crate) longest: Duration,
    /// Inspecting, compiling and loading it.
    pub(crate) publish: Duration,
    /// What a harmless call that came after it saw, if it saw anything.
    pub(crate) canary: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending: String = self.ending.chars().take(60).collect();
        write!(f, "{ending:60} call {:7.1?}, publish {:7.1?}", self.longest, self.publish)
    }
}

impl Arena {
    pub(crate) fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As on a node: what a hostile module does to the compiler stays in the compiler's process.
        let mut config = EngineConfig::new(dir.path());
        config.worker = Some(WorkerCommand::new(env!("CARGO_BIN_EXE_skein-compile-worker"), [] as [&str; 0]));
        let engine = Engine::open(config).unwrap();
        let canary = load(&engine, CANARY);
        Self { engine, canary, _dir: dir }
    }

    pub(crate) fn attack(&self, hostile: &Hostile) -> Report {
        let begin = Instant::now();
        let (digest, manifest) = (Digest::of(&hostile.code), hostile.manifest());
        let inspected = self.engine.inspect(&hostile.code, &manifest);
        let published = inspected.and_then(|_| self.engine.load(digest, &manifest, || Ok(hostile.code.clone())));
        let publish = begin.elapsed();
        let mut report = match published {
            Ok(program) => call_repeatedly(&program, hostile),
            Err(error) => {
                let ending = refusal(&error);
                Report { ending, endings_differ: false, longest: Duration::ZERO, publish, canary: None }
            }
        };
        report.publish = publish;
        let limits = Limits { deadline_ms: 60_000, memory_bytes: 16 << 20, ..Limits::default() };
        report.canary = self.canary.run(call(limits, Bytes::new())).err().map(|error| error.to_string());
        report
    }
}

fn call_repeatedly(program: &Program, hostile: &Hostile) -> Report {
    let input: Bytes = vec![b'A'; hostile.input_bytes].into();
    let mut endings = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..CALLS {
        let begin = Instant::now();
        let given = Call { scratch: hostile.has_scratch, ..call(hostile.limits, input.clone()) };
        let ended = program.run(given);
        longest = longest.max(begin.elapsed());
        endings.push(ended.map_or_else(ending, |output| {
            assert!(output.log.len() as u64 <= hostile.limits.log_bytes, "more log than its limit");
            assert!(output.memory_bytes <= hostile.limits.memory_bytes, "more memory than its limit");
            "returns".to_owned()
        }));
    }
    let endings_differ = endings.iter().any(|other| *other != endings[0]);
    Report { ending: endings.swap_remove(0), endings_differ, longest, publish: Duration::ZERO, canary: None }
}

/// A call that may take a minute, unless `limits` say less.
pub(crate) fn call(limits: Limits, payload: Bytes) -> Call<'static> {
    let deadline = Instant::now() + Duration::from_secs(60);
    Call { payload, ..Call::new(limits, deadline, StopHandle::new()) }
}

/// A harmless program.
pub(crate) fn load(engine: &Engine, text: &str) -> Arc<Program> {
    let code = Bytes::from(wat::parse_str(text).unwrap());
    let manifest = Manifest::named(AppName::default(), "harmless".parse().unwrap());
    engine.load(Digest::of(&code), &manifest, || Ok(code.clone())).unwrap()
}

fn refusal(error: &EngineError) -> String {
    match error {
        EngineError::Module(_) | EngineError::TooLarge { .. } => format!("refused: {error}"),
        other => format!("the engine fails: {other:?}"),
    }
}

/// A failed call in the words of the corpus.
fn ending(error: RunError) -> String {
    let kind = if let RunError::Trap { kind, .. } = &error { Some(*kind) } else { None };
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "a message with control characters: {message:?}");
    let failure = Failure::from(error);
    match (failure.code, kind) {
        (ErrorCode::FunctionFailed, _) => format!("exit {}", failure.exit_code.unwrap()),
        (ErrorCode::FunctionTrapped, Some(kind)) => format!("trap {}", word(kind)),
        (ErrorCode::DeadlineExceeded, _) => "deadline".to_owned(),
        (ErrorCode::CpuExceeded, _) => "cpu".to_owned(),
        (ErrorCode::MemoryExceeded, _) => "memory".to_owned(),
        (ErrorCode::OutputExceeded, _) => "output".to_owned(),
        (ErrorCode::LimitExceeded, _) => "limit".to_owned(),
        (code, _) => format!("{code}: {message}"),
    }
}

fn word(kind: TrapKind) -> &'static str {
    match kind {
        TrapKind::Unreachable => "unreachable",
        TrapKind::MemoryOutOfBounds => "memory",
        TrapKind::TableOutOfBounds => "table",
        TrapKind::NullFunction => "null",
        TrapKind::SignatureMismatch => "signature",
        TrapKind::DivisionByZero => "division",
        TrapKind::IntegerOverflow => "overflow",
        TrapKind::BadConversion => "conversion",
        TrapKind::StackOverflow => "stack",
        _ => "other",
    }
}
