//! The end of a guest's stack: whatever happens there is that guest's affair, at every depth and in code of every tier.
//!
//! In a process of its own, where all stacks are of one size.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is its job")]

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, Program, RunError, StopHandle, Tiering, TrapKind};
use skein_proto::{AppName, Digest, Limits, Manifest};
use tempfile::TempDir;
use tokio::time::Instant;

mod heap;

/// Small, so that its end is soon reached.
const STACK_BYTES: usize = 32 << 10;
/// What the engine adds to it: kept free for making a trap.
const HEADROOM_BYTES: usize = 32 << 10;
/// How near to the end of the stack is looked at everywhere.
const NEAR_BYTES: usize = 8 << 10;
/// Longer than any call here takes, on any machine.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// More than what a frame of baseline code differs by from the next multiple of its alignment.
const PADS: u32 = 8;

/// What a guest does at the bottom of its stack, and how that ends unless the stack ends first.
const CASES: &[(&str, &str)] = &[
    ("unreachable", "unreachable instruction executed"),
    ("(memory.fill (i32.const -1) (i32.const 0) (i32.const 10))", "memory accessed out of bounds"),
    ("(memory.copy (i32.const 0) (i32.const -1) (i32.const 10))", "memory accessed out of bounds"),
    ("(memory.copy (i32.const -1) (i32.const 0) (i32.const 10))", "memory accessed out of bounds"),
    ("(memory.init $passive (i32.const 0) (i32.const 3) (i32.const 2))", "memory accessed out of bounds"),
    ("(drop (i32.load (i32.const -1)))", "memory accessed out of bounds"),
    ("(drop (table.get $t (i32.const 9)))", "table accessed out of bounds"),
    ("(drop (table.get $x (i32.const 9)))", "table accessed out of bounds"),
    ("(table.set $t (i32.const 9) (ref.func $nothing))", "table accessed out of bounds"),
    ("(table.set $x (i32.const 9) (ref.null extern))", "table accessed out of bounds"),
    ("(table.fill $t (i32.const 9) (ref.null func) (i32.const 1))", "table accessed out of bounds"),
    ("(table.copy $t $t (i32.const 0) (i32.const 9) (i32.const 1))", "table accessed out of bounds"),
    ("(table.init $t $e (i32.const 0) (i32.const 9) (i32.const 1))", "table accessed out of bounds"),
    ("(call_indirect $t (type $none) (i32.const 9))", "table accessed out of bounds"),
    ("(call_indirect $t (type $none) (i32.const 2))", "empty table element called"),
    ("(call_indirect $t (type $one) (i32.const 0) (i32.const 0))", "function called with the wrong signature"),
    ("(drop (i32.div_s (i32.const 1) (global.get $zero)))", "division by zero"),
    ("(drop (i32.trunc_f64_s (f64.const nan)))", "invalid conversion to integer"),
    ("(call $exit (i32.const 3))", "the function ended with exit code 3"),
    ("(call_indirect $t (type $one) (i32.const 3) (i32.const 1))", "the function ended with exit code 3"),
    ("(call_indirect $t (type $two) (i32.const -1) (i32.const 8) (i32.const 3))", "memory accessed out of bounds"),
    ("(drop (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))", "returned"),
    (
        "(drop (call_indirect $t (type $four) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 4)))",
        "returned",
    ),
    ("(drop (call_indirect $t (type $socket) (i32.const 1) (i32.const 0) (i32.const 5)))", "returned"),
    ("(memory.fill (i32.const 64) (i32.const 0) (i32.const 10))", "returned"),
    ("(memory.copy (i32.const 64) (i32.const 80) (i32.const 10))", "returned"),
    ("(table.set $t (i32.const 2) (ref.func $nothing))", "returned"),
    ("(drop (memory.grow (i32.const 1)))", "returned"),
    ("(drop (table.grow $t (ref.null func) (i32.const 1)))", "returned"),
    ("(data.drop $passive) (elem.drop $e)", "returned"),
];

#[test]
fn whatever_happens_near_the_end_of_a_stack_hurts_nobody_else_in_optimised_code() {
    hurts_nobody_else(Tiering::Optimised, 0..1);
}

#[test]
fn whatever_happens_near_the_end_of_a_stack_hurts_nobody_else_in_baseline_code() {
    hurts_nobody_else(Tiering::Baseline, 0..PADS);
}

fn hurts_nobody_else(tiering: Tiering, pads: Range<u32>) {
    let bench = Bench::new(tiering);
    let canary = Canary::start(&bench);
    for (body, expected) in CASES {
        let deep = bench.load(body);
        let deepest = deepest(&bench);
        let frame = (STACK_BYTES + HEADROOM_BYTES) / deepest as usize;
        let near = (NEAR_BYTES / frame) as u32;
        let mut ends_as_expected = false;
        // To a depth at which everything has room: what is wanted happens there.
        for above in (0..near).chain((near..deepest).step_by(near as usize)) {
            for pad in pads.clone() {
                let ended = ended(&deep, deepest - above, pad);
                let is_stack = ended == TrapKind::StackOverflow.to_string();
                assert!(is_stack || ended == *expected, "{body}, {above} frames above the end: {ended}");
                ends_as_expected |= !is_stack;
                canary.sings(&format!("{body}, {above} frames of {frame} bytes above the end, pad {pad}: {ended}"));
            }
        }
        assert!(ends_as_expected, "{body} is always a stack overflow");
    }
    bench.engine.shutdown();
}

#[test]
fn host_functions_leave_nothing_on_the_heap_near_the_end_of_a_stack_in_optimised_code() {
    leave_nothing_on_the_heap(Tiering::Optimised, 0..1);
}

#[test]
fn host_functions_leave_nothing_on_the_heap_near_the_end_of_a_stack_in_baseline_code() {
    leave_nothing_on_the_heap(Tiering::Baseline, 0..PADS);
}

/// Whoever is left behind in the middle of handing over an error leaves a line for each frame of the guest.
///
/// Unoptimised host code needs more of the stack to be called than to hand over, so that there this holds anyhow:
/// `cargo test --release -p skein-engine --test stack` is what can fail.
fn leave_nothing_on_the_heap(tiering: Tiering, pads: Range<u32>) {
    const LEFT_BYTES_MAX: i64 = 1 << 10;
    let bench = Bench::new(tiering);
    let deepest = deepest(&bench);
    let near = (NEAR_BYTES / ((STACK_BYTES + HEADROOM_BYTES) / deepest as usize)) as u32;
    for (body, _) in CASES.iter().filter(|(body, _)| body.contains("(call")) {
        let deep = bench.load(body);
        for (above, pad) in (0..near).flat_map(|above| pads.clone().map(move |pad| (above, pad))) {
            let left = || {
                let before = heap::held();
                let ended = ended(&deep, deepest - above, pad);
                (heap::held() - before, ended)
            };
            // A list or a cache that grows now and then does not grow three times in a row.
            let (left, ended) = (0..3).map(|_| left()).find(|(left, _)| *left <= LEFT_BYTES_MAX).unwrap_or_else(left);
            assert!(left <= LEFT_BYTES_MAX, "{body}, {above} frames above the end, pad {pad}: {ended}, leaves {left}");
        }
    }
    bench.engine.shutdown();
}

#[test]
fn a_trap_is_told_by_the_name_of_the_guests_function() {
    for tiering in [Tiering::Optimised, Tiering::Baseline] {
        let bench = Bench::new(tiering);
        const STRAY_LOG: &str = "(call_indirect $t (type $two) (i32.const -1) (i32.const 8) (i32.const 3))";
        for body in ["unreachable", CASES[1].0, CASES[2].0, CASES[6].0, STRAY_LOG] {
            let Err(RunError::Trap { function, .. }) = bench.load(body).run(asking(1, 0)) else { panic!("{body}") };
            assert_eq!(function.as_deref(), Some("pad0"), "{body}");
        }
        bench.engine.shutdown();
    }
}

#[test]
#[ignore = "prints what the room costs: cargo test --release -p skein-engine --test stack -- --ignored --nocapture"]
fn figures() {
    const TURNS: u32 = 1_000_000;
    for tiering in [Tiering::Optimised, Tiering::Baseline] {
        let bench = Bench::new(tiering);
        for body in [
            "",
            "(memory.fill (i32.const 64) (i32.const 0) (i32.const 16))",
            "(memory.copy (i32.const 64) (i32.const 128) (i32.const 16))",
            "(drop (table.get $t (i32.const 1)))",
            "(call_indirect $t (type $none) (i32.const 0))",
            "(drop (call $write (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 8)))",
        ] {
            let turns = format!(
                "(global.set $zero (i32.const {TURNS})) (loop $l {body}
                (br_if $l (global.set $zero (i32.sub (global.get $zero) (i32.const 1))) (global.get $zero)))"
            );
            let program = bench.load(&turns);
            let took = (0..5).map(|_| program.run(asking(1, 0)).unwrap().run).min().unwrap();
            println!("{tiering:?}: {:4} ns a turn with {body}", took.as_nanos() / u128::from(TURNS));
        }
        bench.engine.shutdown();
    }
}

/// The greatest depth at which there is room for doing nothing.
fn deepest(bench: &Bench) -> u32 {
    let idle = bench.load("nop");
    let (mut fits, mut too_deep) = (1, STACK_BYTES as u32 / 8);
    while too_deep - fits > 1 {
        let depth = u32::midpoint(fits, too_deep);
        if ended(&idle, depth, 0) == "returned" { fits = depth } else { too_deep = depth }
    }
    fits
}

fn ended(program: &Program, depth: u32, pad: u32) -> String {
    match program.run(asking(depth, pad)) {
        Ok(_) => "returned".to_owned(),
        Err(RunError::Trap { kind, .. }) => kind.to_string(),
        Err(other) => other.to_string(),
    }
}

fn asking(depth: u32, pad: u32) -> Call<'static> {
    let payload: Vec<u8> = [depth.to_le_bytes(), pad.to_le_bytes()].concat();
    let limits = Limits { deadline_ms: HANGS_AFTER.as_millis() as u64, ..limits() };
    Call { payload: Bytes::from(payload), ..Call::new(limits, Instant::now() + HANGS_AFTER, StopHandle::never()) }
}

fn limits() -> Limits {
    Limits { stack_bytes: STACK_BYTES as u64, ..Limits::default() }
}

struct Bench {
    engine: Engine,
    _dir: TempDir,
}

impl Bench {
    fn new(tiering: Tiering) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(dir.path());
        config.tiering = tiering;
        Self { engine: Engine::open(config).unwrap(), _dir: dir }
    }

    /// A guest that calls itself as often as its input says, in small frames, and does `body` at the bottom, in a
    /// function with a frame that is somewhat larger for each pad.
    fn load(&self, body: &str) -> Arc<Program> {
        let pads: String = (0..PADS)
            .map(|pad| {
                format!(
                    "(func $pad{pad} (result i32) (local {}) {body} (i32.const 1))",
                    "i64 ".repeat(pad as usize * 2)
                )
            })
            .collect();
        let calls: String = (0..PADS)
            .map(|pad| format!("(if (i32.eq (global.get $pad) (i32.const {pad})) (then (return (call $pad{pad}))))"))
            .collect();
        let text = format!(
            r#"(module
                (type $none (func)) (type $one (func (param i32))) (type $two (func (param i32 i32)))
                (type $socket (func (param i32 i32) (result i32)))
                (type $four (func (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (import "wasi_snapshot_preview1" "sock_shutdown" (func $socket (type $socket)))
                (import "skein" "log" (func $log (type $two)))
                (memory (export "memory") 1)
                (table $t 6 funcref) (table $x 3 externref)
                (elem (table $t) (i32.const 0) func $nothing $exit)
                (elem (table $t) (i32.const 3) func $log $write $socket)
                (elem $e func $nothing)
                (data $passive "\01\02\03\04")
                (global $pad (mut i32) (i32.const 0)) (global $zero (mut i32) (i32.const 0))
                (func $nothing)
                {pads}
                (func $bottom (result i32) {calls} (i32.const 1))
                (func $deep (param i32) (result i32)
                    (if (i32.eqz (local.get 0)) (then (return (call $bottom))))
                    (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
                (func (export "handle")
                    (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 8))
                    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
                    (global.set $pad (i32.load (i32.const 104)))
                    (drop (call $deep (i32.load (i32.const 100))))))"#
        );
        let code = Bytes::from(wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}:\n{text}")));
        let manifest = Manifest { limits: limits(), ..Manifest::named(AppName::default(), "deep".parse().unwrap()) };
        self.engine.load(Digest::of(&code), &manifest, || Ok(code.clone())).unwrap()
    }
}

/// A thread of its own on which a guest traps whenever it is asked to.
struct Canary {
    ask: Sender<()>,
    answers: Receiver<String>,
}

impl Canary {
    fn start(bench: &Bench) -> Self {
        let program = bench.load("unreachable");
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        thread::spawn(move || while asked.recv().is_ok() && answer.send(ended(&program, 1, 0)).is_ok() {});
        Self { ask, answers }
    }

    fn sings(&self, after: &str) {
        self.ask.send(()).unwrap();
        let answer = self.answers.recv_timeout(HANGS_AFTER);
        let answer = answer.unwrap_or_else(|_| panic!("a trap on another thread hangs after {after}"));
        assert_eq!(answer, "unreachable instruction executed", "after {after}");
    }
}
