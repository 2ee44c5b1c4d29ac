//! Fresh and reused instances: what one call leaves for the next, which is nothing or what was asked for.

use std::{collections::BTreeMap, sync::Arc};

use skein_engine::{Call, Program, RunError};
use skein_proto::{Grants, InstancePolicy, Limits, Manifest, Snapshot};

use crate::support::{Bench, LONG, SHORT, call, code, command, plain};

fn load(bench: &Bench, manifest: &Manifest, text: &str) -> Arc<Program> {
    let code = code(text);
    bench.engine.load(skein_proto::Digest::of(&code), manifest, || Ok(code.clone())).unwrap()
}

fn run(program: &Program) -> String {
    String::from_utf8(program.run(call(LONG)).unwrap().payload.to_vec()).unwrap()
}

/// A reactor that writes one digit, computed by `$digit`, after `$init` has run.
fn reactor(init: &str, digit: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (global $count (mut i32) (i32.const 0))
        (data (i32.const 1024) "3")
        (func (export "_initialize") {init})
        (func $digit (result i32) {digit})
        (func (export "handle")
            (i32.store8 (i32.const 16) (i32.add (i32.const 48) (call $digit)))
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}

const COUNT: &str = "(global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 65536) (i32.add (i32.load (i32.const 65536)) (i32.const 1)))
    (i32.add (global.get $count) (i32.load (i32.const 65536)))";

#[test]
fn a_fresh_instance_has_nothing_of_the_call_before() {
    let bench = Bench::new();
    let program = load(&bench, &plain(), &reactor("", COUNT));
    for _ in 0..50 {
        assert_eq!(run(&program), "2");
    }
}

#[test]
fn a_reused_instance_keeps_its_memory_and_says_so() {
    let bench = Bench::new();
    let manifest = Manifest { instance: InstancePolicy::Reuse, ..plain() };
    let program = load(&bench, &manifest, &reactor("", COUNT));
    assert_eq!([run(&program), run(&program), run(&program)], ["2", "4", "6"]);
    assert!(program.run(call(LONG)).unwrap().is_reused);
    program.trim(std::time::Duration::ZERO);
    let output = program.run(call(LONG)).unwrap();
    assert_eq!((&output.payload[..], output.is_reused), (&b"2"[..], false));
}

#[test]
fn a_command_cannot_be_reused() {
    let bench = Bench::new();
    let manifest = Manifest { instance: InstancePolicy::Reuse, ..plain() };
    let error = bench.engine.inspect(&code(&command("")), &manifest).unwrap_err();
    assert!(error.to_string().contains("a command (`_start`) ends with its call"), "{error}");
}

#[test]
fn after_a_trap_a_reused_instance_is_a_new_one() {
    let bench = Bench::new();
    let manifest = Manifest { instance: InstancePolicy::Reuse, ..plain() };
    let body = format!("{COUNT} (if (i32.eq (global.get $count) (i32.const 3)) (then unreachable))");
    let program = load(&bench, &manifest, &reactor("", &body));
    assert_eq!([run(&program), run(&program)], ["2", "4"]);
    assert!(matches!(program.run(call(LONG)), Err(RunError::Trap { .. })));
    assert_eq!(run(&program), "2");
}

#[test]
fn after_an_exit_in_the_middle_a_reused_instance_is_a_new_one() {
    let bench = Bench::new();
    let manifest = Manifest { instance: InstancePolicy::Reuse, ..plain() };
    // As toolchains do: the stack is lowered, and raised again only by a return.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory 1)
        (global $stack (mut i32) (i32.const 1000))
        (func (export "handle")
            (if (i32.ne (global.get $stack) (i32.const 1000)) (then unreachable))
            (global.set $stack (i32.const 900))
            (call $exit (i32.const 0))))"#;
    let program = load(&bench, &manifest, text);
    for _ in 0..3 {
        assert!(!program.run(call(LONG)).unwrap().is_reused);
    }
}

/// Everything that code can change besides memory and globals: then an instance is rebuilt, not reset.
#[test]
fn what_a_reset_cannot_undo_is_not_left_either() {
    let body = |change: &str| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory 1)
            (table $t 2 4 funcref)
            (elem $e func $one $two)
            (elem (table $t) (i32.const 0) func $one)
            (data $d "abc")
            (global $g (mut funcref) (ref.null func))
            (func $one) (func $two)
            (func (export "_start") {change}))"#
        )
    };
    let fails_the_second_time = [
        "(if (ref.is_null (table.get $t (i32.const 1))) (then (table.set $t (i32.const 1) (ref.func $two))) (else unreachable))",
        "(if (i32.ne (table.size $t) (i32.const 2)) (then unreachable)) (drop (table.grow $t (ref.null func) (i32.const 1)))",
        "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)",
        "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 2)) (elem.drop $e)",
        "(if (ref.is_null (global.get $g)) (then (global.set $g (ref.func $one))) (else unreachable))",
        "(if (ref.is_null (table.get $t (i32.const 1))) (then (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 1))) (else unreachable))",
        "(if (ref.is_null (table.get $t (i32.const 1))) (then (table.fill $t (i32.const 1) (ref.func $one) (i32.const 1))) (else unreachable))",
    ];
    let bench = Bench::new();
    for change in fails_the_second_time {
        let program = load(&bench, &plain(), &body(change));
        for _ in 0..3 {
            program.run(call(LONG)).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
    }
}

#[test]
fn data_segments_keep_their_meaning_when_they_are_in_the_image() {
    let bench = Bench::new();
    // A later segment wins over an earlier one; an active one is dropped once it was copied.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory 2)
        (data $a (i32.const 10) "aaaa") (data $b (i32.const 12) "bb") (data $p "passive") (data (i32.const 131070) "zz")
        (func (export "_start")
            (if (i32.ne (i32.load (i32.const 10)) (i32.const 0x62626161)) (then (call $exit (i32.const 1))))
            (if (i32.ne (i32.load16_u (i32.const 131070)) (i32.const 0x7a7a)) (then (call $exit (i32.const 2))))
            (memory.init $a (i32.const 0) (i32.const 0) (i32.const 0))
            (memory.init $p (i32.const 0) (i32.const 0) (i32.const 7))
            (if (i32.ne (i32.load8_u (i32.const 6)) (i32.const 101)) (then (call $exit (i32.const 3))))
            (memory.init $a (i32.const 0) (i32.const 0) (i32.const 1))))"#;
    let program = load(&bench, &plain(), text);
    for _ in 0..3 {
        // All checks pass, and the last line traps, since the segment is dropped.
        assert!(matches!(program.run(call(LONG)), Err(RunError::Trap { .. })));
    }
    let outside = "(module (memory 1) (data (i32.const 65535) \"ab\") (func (export \"_start\")))";
    assert!(matches!(bench.load(outside).run(call(LONG)), Err(RunError::Trap { .. })));
    let computed = "(module (memory 1) (data (i32.add (i32.const 1) (i32.const 2)) \"x\")
        (func (export \"_start\") (if (i32.ne (i32.load8_u (i32.const 3)) (i32.const 120)) (then unreachable))))";
    bench.run(computed).unwrap();
}

#[test]
fn grown_memory_is_gone_in_the_next_call() {
    let bench = Bench::new();
    let program = load(
        &bench,
        &plain(),
        &reactor(
            "",
            "(if (i32.ne (memory.size) (i32.const 2)) (then unreachable))
             (drop (memory.grow (i32.const 10)))
             (i32.store (i32.const 700000) (i32.const 77))
             (i32.const 1)",
        ),
    );
    for _ in 0..20 {
        assert_eq!(run(&program), "1");
    }
    // What was grown into is not there before it is grown again, and is zeros then.
    let stray = load(&bench, &plain(), &reactor("", "(i32.load (i32.const 700000))"));
    assert!(matches!(stray.run(call(LONG)), Err(RunError::Trap { .. })));
}

#[test]
fn the_image_after_the_initialisation_is_taken_once() {
    let bench = Bench::new();
    // It would be 9 if the initialisation ran again on top of its image.
    let init = "(global.set $count (i32.add (global.get $count) (i32.const 4)))
        (i32.store8 (i32.const 2048) (i32.add (i32.load8_u (i32.const 2048)) (i32.const 1)))
        (drop (memory.grow (i32.const 1))) (i32.store8 (i32.const 140000) (i32.const 1))";
    let digit = "(i32.add (global.get $count)
        (i32.add (i32.load8_u (i32.const 2048)) (i32.load8_u (i32.const 140000))))";
    let program = load(&bench, &plain(), &reactor(init, digit));
    for _ in 0..3 {
        assert_eq!(run(&program), "6");
    }
    let images = std::fs::read_dir(bench.dir.path()).unwrap();
    let images = images.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "img"));
    assert_eq!(images.count(), 2, "one of the module and one of the version");
    // Loaded again, from the image that is there.
    assert_eq!(run(&load(&bench, &plain(), &reactor(init, digit))), "6");
    let never = Manifest { snapshot: Snapshot::Never, ..plain() };
    assert_eq!(run(&load(&bench, &never, &reactor(init, digit))), "6");
}

#[test]
fn an_initialisation_that_asks_for_random_bytes_runs_for_every_instance() {
    let bench = Bench::new();
    let init = "(drop (call $random_get (i32.const 3000) (i32.const 8)))";
    let text = reactor(
        init,
        "(i32.store (i32.const 0) (i32.const 3000)) (i32.store (i32.const 4) (i32.const 8))
        (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (i32.const 1)",
    );
    let seed = |program: &Program| program.run(call(LONG)).unwrap().log;
    let program = load(&bench, &plain(), &text);
    assert_ne!(seed(&program), seed(&program));
    // Unless its author says that it may be shared.
    let always = Manifest { snapshot: Snapshot::Always, ..plain() };
    let program = load(&bench, &always, &text);
    assert_eq!(seed(&program), seed(&program));
}

#[test]
fn the_environment_of_the_initialisation_is_the_granted_one() {
    let bench = Bench::new();
    let init = r#"(drop (call $random_get (i32.const 3000) (i32.const 0)))"#;
    let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let manifest = Manifest { grants: Grants { env, ..Grants::default() }, ..plain() };
    assert_eq!(run(&load(&bench, &manifest, &reactor(init, "(i32.const 5)"))), "5");
}

#[test]
fn a_start_section_runs_before_each_fresh_call() {
    let bench = Bench::new();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory 1)
        (func $begin (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 7))))
        (start $begin)
        (func (export "_start") (call $exit (i32.load (i32.const 0)))))"#;
    let program = load(&bench, &plain(), text);
    for _ in 0..3 {
        assert!(matches!(program.run(call(LONG)), Err(RunError::Exit { code: 7, .. })));
    }
    let endless = r#"(module (func $f (loop br 0)) (start $f) (func (export "_start")))"#;
    assert!(matches!(bench.load(endless).run(call(SHORT)), Err(RunError::Deadline { has_started: true, .. })));
}

/// A canary in every place that a guest can write to, looked for by the next call: over 10,000 recycled instances.
#[test]
fn no_byte_of_a_call_is_seen_by_any_of_the_next_ten_thousand() {
    let bench = Bench::new();
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let manifest = Manifest { limits, ..plain() };
    // Looks through all of its memory, then fills 256 KiB here and there with the canary, grows, and fills that.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory 4)
        (global $g (mut i64) (i64.const 0)) (global $h (mut f64) (f64.const 0))
        (data (i32.const 4096) "image")
        (func $search (local $at i32)
            (loop $next
                (if (i64.eq (i64.load (local.get $at)) (i64.const 0x5ca1ab1e5ca1ab1e)) (then (call $exit (i32.const 9))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536))))))
        (func $fill (param $at i32) (param $to i32)
            (loop $next
                (i64.store (local.get $at) (i64.const 0x5ca1ab1e5ca1ab1e))
                (local.set $at (i32.add (local.get $at) (i32.const 512)))
                (br_if $next (i32.lt_u (local.get $at) (local.get $to)))))
        (func (export "_start")
            (if (i64.ne (global.get $g) (i64.const 0)) (then (call $exit (i32.const 8))))
            (if (f64.ne (global.get $h) (f64.const 0)) (then (call $exit (i32.const 7))))
            (if (i32.ne (memory.size) (i32.const 4)) (then (call $exit (i32.const 6))))
            (if (i32.ne (i32.load (i32.const 4096)) (i32.const 0x67616d69)) (then (call $exit (i32.const 5))))
            (call $search)
            (global.set $g (i64.const 0x5ca1ab1e)) (global.set $h (f64.const 1.5))
            (call $fill (i32.const 0) (i32.const 262144))
            (drop (memory.grow (i32.const 1)))
            (call $search_zero)
            (call $fill (i32.const 262144) (i32.const 327680)))
        (func $search_zero
            (if (i64.ne (i64.load (i32.const 262144)) (i64.const 0)) (then (call $exit (i32.const 4))))))"#;
    let program = load(&bench, &manifest, text);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..5_000 {
                    let ended = program.run(Call { limits, ..call(LONG) });
                    ended.unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            });
        }
    });
}

/// Few pages are put back one by one, many are given back to the kernel; which of the two it was is not to be seen.
#[test]
fn whatever_a_call_wrote_and_wherever_the_next_finds_all_memory_as_it_began() {
    let bench = Bench::new();
    // Sums up its memory, which must be what the data segments say, then writes to `count` pages, `stride` apart.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 64)
        (data (i32.const 4096) "\01\00\00\00\00\00\00\00")
        (data (i32.const 1048680) "\02\00\00\00\00\00\00\00")
        (data (i32.const 3000000) "\04\00\00\00\00\00\00\00")
        (func (export "_start") (local $at i32) (local $sum i64) (local $count i32)
            (loop $next
                (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
            (if (i64.ne (local.get $sum) (i64.const 7)) (then (call $exit (i32.const 3))))
            (i32.store (i32.const 8) (i32.const 24)) (i32.store (i32.const 12) (i32.const 8))
            (if (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 16)) (then (call $exit (i32.const 4))))
            (local.set $at (i32.const 0))
            (local.set $count (i32.load (i32.const 28)))
            (block $done
                (loop $next
                    (br_if $done (i32.eqz (local.get $count)))
                    (br_if $done (i32.ge_u (i32.add (local.get $at) (i32.const 40)) (i32.mul (memory.size) (i32.const 65536))))
                    (i64.store offset=32 (local.get $at) (i64.const -1))
                    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                    (local.set $at (i32.add (local.get $at) (i32.mul (i32.load (i32.const 24)) (i32.const 4096))))
                    (br $next)))))"#;
    let program = load(&bench, &plain(), text);
    // In turns, so that each finds what another kind left: (stride, count) in pages.
    let kinds: [(u32, u32); 7] = [(1, 2), (7, 40), (2, 500), (1, 200), (1, 1_000), (3, 49), (64, 15)];
    for round in 0..10 * kinds.len() {
        let (stride, count) = kinds[(round * 3 + round / 7) % kinds.len()];
        let payload = [stride.to_le_bytes(), count.to_le_bytes()].concat().into();
        let ended = program.run(Call { payload, ..call(LONG) });
        ended.unwrap_or_else(|error| panic!("round {round}, {count} pages {stride} apart before: {error}"));
    }
}
