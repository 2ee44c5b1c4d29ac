//! Engines, modules and waits for these tests.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;

use bytes::Bytes;
use skein_engine::{
    Call, Engine, EngineConfig, EngineError, Prepared, Program, RunError, StopHandle, Tier, WorkerCommand,
};
use skein_proto::{Digest, FunctionName, Limits, Manifest};

/// The compiler's process, built beside these tests.
pub(crate) fn worker() -> WorkerCommand {
    WorkerCommand::new(env!("CARGO_BIN_EXE_skein-compile-worker"), [] as [&str; 0])
}

/// A shell that does `script` in place of the compiler's process; `$WORKER` is the real one.
pub(crate) fn shell(script: &str) -> WorkerCommand {
    let script = format!("PATH=/usr/bin:/bin; WORKER='{}'; {script}", env!("CARGO_BIN_EXE_skein-compile-worker"));
    WorkerCommand::new("/bin/sh", ["-c".to_owned(), script])
}

pub(crate) fn config(dir: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(dir);
    config.compile_threads = 1;
    config
}

pub(crate) fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A command that leaves with this exit code, and differs from those of other codes.
pub(crate) fn exits_with(code: u32) -> Vec<u8> {
    module(&format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (func $sum (param i32) (result i32)
              (local $sum i32)
              (loop $again
                (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $sum) (local.get 0))))
              (local.get $sum))
            (func (export "_start") (call $exit (call $sum (i32.const {code})))))"#
    ))
}

/// A command with this many functions of a few hundred instructions, which the optimising compiler takes a while for.
pub(crate) fn large(functions: usize) -> Vec<u8> {
    let body = "(local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 31)) (local.get 0)))
                (if (i32.and (local.get 1) (i32.const 4)) (then (local.set 0 (i32.rotl (local.get 0) (local.get 1)))))\n";
    let function = format!("(func (param i32) (result i32) (local i32) {} (local.get 1))\n", body.repeat(40));
    module(&format!(r#"(module (memory 1) (func (export "_start")) {})"#, function.repeat(functions)))
}

pub(crate) fn manifest() -> Manifest {
    Manifest::named(Default::default(), "guest".parse::<FunctionName>().unwrap())
}

pub(crate) fn prepare(engine: &Engine, code: &[u8]) -> Result<Prepared, EngineError> {
    engine.prepare(Digest::of(code), &manifest(), code)
}

pub(crate) fn load(engine: &Engine, code: &[u8]) -> Arc<Program> {
    let bytes = Bytes::copy_from_slice(code);
    engine.load(Digest::of(code), &manifest(), || Ok(bytes)).unwrap()
}

pub(crate) fn run(program: &Program) -> Result<(), RunError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    program.run(Call::new(Limits::default(), deadline, StopHandle::new())).map(|_| ())
}

/// The code that the module exits with.
pub(crate) fn exit_code(program: &Program) -> i32 {
    match run(program) {
        Err(RunError::Exit { code, .. }) => code,
        Ok(()) => 0,
        other => panic!("{other:?}"),
    }
}

/// Waits until `is_so`, for no longer than a minute.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(crate) fn wait_until_optimised(engine: &Engine, code: &[u8]) {
    wait_until("the optimised code is stored", || engine.tier(Digest::of(code)) == Some(Tier::Optimised));
}
