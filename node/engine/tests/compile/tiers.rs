//! Baseline code first, optimised code later, and nobody notices but by the clock.

use skein_engine::{Engine, RunError, Tier, Tiering};
use skein_proto::Digest;

use crate::support::{
    config, exit_code, exits_with, large, load, module, prepare, run, shell, wait_until, wait_until_optimised, worker,
};

const ALL_IN_TWO_TIERS: Tiering = Tiering::Both { baseline_from_bytes: 0 };

#[test]
fn a_large_module_is_served_at_once_and_its_optimised_code_swapped_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    (config.tiering, config.worker) = (ALL_IN_TWO_TIERS, Some(worker()));
    let engine = Engine::open(config).unwrap();
    let code = exits_with(41);
    assert_eq!(prepare(&engine, &code).unwrap().tier, Tier::Baseline);
    let program = load(&engine, &code);
    assert_eq!(exit_code(&program), 41);
    wait_until("the program runs optimised code", || program.tier() == Tier::Optimised);
    assert_eq!(exit_code(&program), 41);
    wait_until("only the optimised code and the image are kept", || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "key" && !name.to_string_lossy().ends_with(".img")).count() == 1
    });
    engine.shutdown();
}

#[test]
fn a_small_module_is_compiled_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).unwrap();
    let prepared = prepare(&engine, &exits_with(42)).unwrap();
    assert_eq!((prepared.tier, prepared.was_cached), (Tier::Optimised, false));
    assert!(prepare(&engine, &exits_with(42)).unwrap().was_cached);
    engine.shutdown();
}

#[test]
fn what_an_earlier_process_left_is_optimised_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, mark) = (dir.path().join("cache"), dir.path().join("mark"));
    let code = exits_with(43);
    let mut first = config(&cache);
    first.tiering = ALL_IN_TWO_TIERS;
    let script = format!("if test -e {0}; then exec sleep 100; fi; touch {0}; exec $WORKER", mark.display());
    first.worker = Some(shell(&script));
    let engine = Engine::open(first).unwrap();
    assert_eq!(prepare(&engine, &code).unwrap().tier, Tier::Baseline);
    engine.shutdown();
    assert_eq!(engine.tier(Digest::of(&code)), Some(Tier::Baseline));
    let mut second = config(&cache);
    second.tiering = ALL_IN_TWO_TIERS;
    let engine = Engine::open(second).unwrap();
    wait_until_optimised(&engine, &code);
    assert_eq!(exit_code(&load(&engine, &code)), 43);
    engine.shutdown();
}

#[test]
fn a_module_the_baseline_compiler_cannot_take_is_optimised_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.tiering = Tiering::Baseline;
    let engine = Engine::open(config).unwrap();
    let vectors =
        r#"(module (func (export "_start") (drop (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4)))))"#;
    let wide = format!(r#"(module (func (param {}) ) (func (export "_start")))"#, "i64 ".repeat(65));
    // What baseline code makes room for without touching it could reach over the guard page.
    let locals = format!(r#"(module (func (export "_start") (local {})))"#, "i64 ".repeat(417));
    let (open, close) = ("(block (result i64) ".repeat(129), ") ".repeat(129));
    let nested = format!(
        r#"(module (func $nothing) (func (export "_start") (drop {open}(call $nothing) (i64.const 1){close})))"#
    );
    for text in [vectors, &wide, &locals, &nested] {
        let code = module(text);
        assert_eq!(prepare(&engine, &code).unwrap().tier, Tier::Optimised);
        run(&load(&engine, &code)).unwrap();
    }
    engine.shutdown();
}

/// What a body does, as text.
fn outcome(tiering: Tiering, body: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.tiering = tiering;
    let engine = Engine::open(config).unwrap();
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (type $none (func)) (type $two (func (result i32 i32)))
            (memory 1 2) (table $t 4 funcref) (elem (i32.const 0) $pair)
            (global $g (mut i64) (i64.const 7))
            (data $passive "\01\02\03\04")
            (func $pair (result i32 i32) (i32.const 3) (i32.const 4))
            (func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))))
            (func (export "_start") (local i32 i64 f64 externref) {body}))"#
    );
    let code = module(&text);
    prepare(&engine, &code).unwrap();
    let program = load(&engine, &code);
    let ended = match run(&program) {
        Ok(()) => "ok".to_owned(),
        Err(RunError::Trap { kind, .. }) => kind.to_string(),
        Err(other) => other.to_string(),
    };
    let expected = if tiering == Tiering::Baseline { Tier::Baseline } else { Tier::Optimised };
    assert_eq!(program.tier(), expected);
    engine.shutdown();
    ended
}

#[test]
fn both_tiers_do_the_same() {
    for (body, expected) in [
        ("(call $exit (i32.add (call $pair)))", "the function ended with exit code 7"),
        ("(call $exit (i32.add (call_indirect (type $two) (i32.const 0))))", "the function ended with exit code 7"),
        ("unreachable", "unreachable instruction executed"),
        ("(drop (i32.load (i32.const 65536)))", "memory accessed out of bounds"),
        ("(drop (i64.load offset=4294967295 (i32.const -1)))", "memory accessed out of bounds"),
        ("(i32.store8 offset=65535 (i32.const 1) (i32.const 1))", "memory accessed out of bounds"),
        ("(i64.store (i32.const 65529) (i64.const 1))", "memory accessed out of bounds"),
        ("(memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))", "memory accessed out of bounds"),
        ("(call_indirect (type $none) (i32.const 4))", "table accessed out of bounds"),
        ("(call_indirect (type $none) (i32.const 1))", "empty table element called"),
        ("(call_indirect (type $none) (i32.const 0))", "function called with the wrong signature"),
        ("(drop (i32.div_s (i32.const 1) (local.get 0)))", "division by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "integer overflow"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "invalid conversion to integer"),
        ("(call $deep (i32.const 0))", "stack overflow"),
        (
            "(call $exit (i32.add (memory.grow (i32.const 1)) (memory.grow (i32.const 1))))",
            "the function ended with exit code 0",
        ),
        (
            "(memory.init $passive (i32.const 8) (i32.const 0) (i32.const 4)) (call $exit (i32.load8_u (i32.const 10)))",
            "the function ended with exit code 3",
        ),
        (
            "(call $exit (i32.wrap_i64 (i64.rotl (global.get $g) (i64.const 4))))",
            "the function ended with exit code 112",
        ),
        ("(call $exit (i32.trunc_sat_f64_u (f64.nearest (f64.const 2.5))))", "the function ended with exit code 2"),
        ("(call $exit (i32.extend8_s (i32.const 0x17f)))", "the function ended with exit code 127"),
        ("(call $exit (ref.is_null (local.get 3)))", "the function ended with exit code 1"),
        (
            "(table.set $t (i32.const 1) (table.get $t (i32.const 0))) (call $exit (i32.mul (call_indirect (type $two) (i32.const 1))))",
            "the function ended with exit code 12",
        ),
    ] {
        let expected = if expected.ends_with("code 0") { "ok" } else { expected };
        for tiering in [Tiering::Baseline, Tiering::Optimised] {
            assert_eq!(outcome(tiering, body), expected, "{tiering:?}: {body}");
        }
    }
}

#[test]
fn baseline_code_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.tiering = Tiering::Baseline;
    let engine = Engine::open(config).unwrap();
    for body in ["(loop $again (br $again))", "(loop $a (loop $b (br $b)) (br $a))"] {
        let code = module(&format!(r#"(module (func (export "_start") {body}))"#));
        let program = load(&engine, &code);
        assert_eq!(program.tier(), Tier::Baseline);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(50);
        let limits = skein_proto::Limits::default();
        let ended = program.run(skein_engine::Call::new(limits, deadline, skein_engine::StopHandle::new()));
        assert!(matches!(ended, Err(RunError::Deadline { .. })), "{ended:?}");
    }
    engine.shutdown();
}

#[test]
fn a_module_with_large_functions_is_the_same_in_both_tiers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.tiering = ALL_IN_TWO_TIERS;
    let engine = Engine::open(config).unwrap();
    let code = large(30);
    assert_eq!(prepare(&engine, &code).unwrap().tier, Tier::Baseline);
    run(&load(&engine, &code)).unwrap();
    wait_until_optimised(&engine, &code);
    run(&load(&engine, &code)).unwrap();
    assert!(engine.tier(Digest::of(b"another")).is_none());
    engine.shutdown();
}
