//! An engine in a directory of its own, and short forms of calling it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, EngineError, Output, Program, RunError, StopHandle};
use skein_proto::{AppName, Digest, FunctionName, Limits, Manifest};
use tempfile::TempDir;
use tokio::time::Instant;

/// Longer than any test takes: a run that ends by it is one that could not be stopped otherwise.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// Short, for runs that are to end by it.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

/// An engine whose cache goes when it goes.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = Engine::open(EngineConfig::new(dir.path())).expect("an engine");
        Self { engine, dir }
    }

    pub(crate) fn load(&self, text: &str) -> Arc<Program> {
        self.try_load(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
    }

    pub(crate) fn try_load(&self, text: &str) -> Result<Arc<Program>, EngineError> {
        let code = code(text);
        self.engine.load(Digest::of(&code), &plain(), || Ok(code.clone()))
    }

    /// Runs a module once, with nothing given and plenty of time.
    pub(crate) fn run(&self, text: &str) -> Result<Output, RunError> {
        self.load(text).run(call(LONG))
    }
}

pub(crate) fn code(text: &str) -> Bytes {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")).into()
}

/// A call that may take `time`.
pub(crate) fn call(time: Duration) -> Call<'static> {
    let limits = Limits { deadline_ms: LONG.as_millis() as u64, ..Limits::default() };
    Call::new(limits, Instant::now() + time, StopHandle::new())
}

/// The manifest of a function that declares nothing.
pub(crate) fn plain() -> Manifest {
    manifest(Limits::default())
}

pub(crate) fn manifest(limits: Limits) -> Manifest {
    let name: FunctionName = "test".parse().expect("a name");
    Manifest { limits, ..Manifest::named(AppName::default(), name) }
}

/// A command with `body` as its `_start`, after the imports and data that most tests want.
pub(crate) fn command(body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "hello\n")
        ;; Writes the bytes at $at to stream $fd.
        (func $write (param $fd i32) (param $at i32) (param $length i32) (result i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $length))
            (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
        (func (export "_start") {body}))"#
    )
}
