//! Guests that do not behave: each is stopped, named, and leaves nothing behind.

use std::{fs, thread, time::Duration};

use skein_engine::{Call, RunError, StopHandle, TrapKind};
use skein_proto::{ErrorCode, Failure, Limits, Progress};
use tokio::time::Instant;

use crate::support::{Bench, LONG, SHORT, call, command};

const FOREVER: &str = "(module (func (export \"_start\") (loop $l (br $l))))";

/// Guests that never end by themselves, and could each be missed by a stop that is not thorough.
fn endless() -> Vec<String> {
    vec![
        FOREVER.to_owned(),
        "(module (memory 1) (func (export \"_start\") (loop $a (loop $b (br $b)) (br $a))))".to_owned(),
        "(module (func $spin (loop $l (br $l))) (start $spin) (func (export \"_start\")))".to_owned(),
        // Calls without loops, a tree that is never finished.
        "(module (func $f (param i32) (if (local.get 0) (then
            (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))
            (func (export \"_start\") (call $f (i32.const 200))))"
            .to_owned(),
        // Calls by table.
        "(module (table funcref (elem $g)) (type $t (func (param i32)))
            (func $g (type $t) (if (local.get 0) (then
                (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
                (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
            (func (export \"_start\") (call $g (i32.const 200))))"
            .to_owned(),
        // A loop that calls the host.
        command("(loop $l (drop (call $write (i32.const 2) (i32.const 64) (i32.const 6))) (br $l))"),
        // A sleep of 500 years.
        command(
            "(i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const -1))
            (drop (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)))",
        ),
        // Bulk memory, again and again.
        "(module (memory 1000) (func (export \"_start\") (loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000)) (br $l))))"
            .to_owned(),
    ]
}

#[test]
fn whatever_never_ends_is_stopped_at_the_deadline() {
    let bench = Bench::new();
    for text in endless() {
        let error = bench.load(&text).run(call(SHORT)).unwrap_err();
        assert!(matches!(error, RunError::Deadline { has_started: true, .. }), "{error}: {text}");
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed));
    }
}

#[test]
fn whatever_never_ends_is_stopped_from_another_thread() {
    let bench = Bench::new();
    for text in endless() {
        let program = bench.load(&text);
        let stop = StopHandle::new();
        let call = Call { stop: stop.clone(), ..call(LONG) };
        let runner = thread::spawn(move || program.run(call));
        stop.stop();
        let error = runner.join().unwrap().unwrap_err();
        assert!(matches!(error, RunError::Cancelled { .. }), "{error}: {text}");
    }
}

#[test]
fn the_limit_of_the_function_counts_when_it_is_the_shorter_one() {
    let limits = Limits { deadline_ms: 50, ..Limits::default() };
    let error = Bench::new().load(FOREVER).run(Call { limits, ..call(LONG) }).unwrap_err();
    assert!(matches!(error, RunError::Deadline { has_started: true, .. }), "{error}");
}

#[test]
fn nothing_starts_after_its_deadline_or_once_stopped() {
    let bench = Bench::new();
    let program = bench.load(&command(""));
    let late = Call::new(Limits::default(), Instant::now(), StopHandle::new());
    let failure = Failure::from(program.run(late).unwrap_err());
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::NotExecuted));
    let stop = StopHandle::new();
    stop.stop();
    let failure = Failure::from(program.run(Call { stop, ..call(LONG) }).unwrap_err());
    assert_eq!((failure.code, failure.progress), (ErrorCode::Cancelled, Progress::NotExecuted));
}

#[test]
fn a_shutdown_stops_what_runs_and_lets_nothing_start() {
    let bench = Bench::new();
    let program = bench.load(FOREVER);
    let runners: Vec<_> = (0..4)
        .map(|_| {
            let program = program.clone();
            thread::spawn(move || program.run(call(LONG)))
        })
        .collect();
    bench.engine.shutdown();
    for runner in runners {
        assert!(matches!(runner.join().unwrap(), Err(RunError::Cancelled { .. })));
    }
    assert!(matches!(program.run(call(LONG)), Err(RunError::Cancelled { has_started: false, .. })));
    bench.engine.shutdown();
}

#[test]
fn every_trap_has_its_name() {
    let checks = [
        ("unreachable", TrapKind::Unreachable),
        ("(drop (i32.load (i32.const 65533)))", TrapKind::MemoryOutOfBounds),
        ("(drop (i32.load offset=4294967295 (i32.const -1)))", TrapKind::MemoryOutOfBounds),
        ("(i32.store (i32.const 0xFFFF0000) (i32.const 1))", TrapKind::MemoryOutOfBounds),
        ("(i64.store (i32.const 0xFFFF0FFC) (i64.const 1))", TrapKind::MemoryOutOfBounds),
        ("(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))", TrapKind::MemoryOutOfBounds),
        ("(memory.copy (i32.const 0) (i32.const 0xFFFF0000) (i32.const 1))", TrapKind::MemoryOutOfBounds),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", TrapKind::DivisionByZero),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapKind::IntegerOverflow),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", TrapKind::BadConversion),
        ("(call_indirect (type $t) (i32.const 0))", TrapKind::NullFunction),
        ("(call_indirect (type $t) (i32.const 1))", TrapKind::SignatureMismatch),
        ("(call_indirect (type $t) (i32.const 9))", TrapKind::TableOutOfBounds),
        ("(call $deep)", TrapKind::StackOverflow),
    ];
    let bench = Bench::new();
    for (body, expected) in checks {
        let text = format!(
            "(module (memory 1) (type $t (func)) (table 2 2 funcref) (elem (i32.const 1) $other)
            (func $other (param i64)) (func $deep (call $deep))
            (func $guilty (export \"_start\") {body}))"
        );
        let error = bench.run(&text).unwrap_err();
        assert!(matches!(&error, RunError::Trap { kind, .. } if *kind == expected), "{body}: {error}");
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.progress), (ErrorCode::FunctionTrapped, Progress::Executed), "{body}");
    }
    let error = bench.run("(module (func $guilty (export \"_start\") unreachable))").unwrap_err();
    assert!(error.to_string().contains("guilty"), "{error}");
}

#[test]
fn data_that_does_not_fit_traps_and_a_trap_in_the_start_section_is_one() {
    let bench = Bench::new();
    for text in [
        "(module (memory 1) (data (i32.const 65535) \"ab\") (func (export \"_start\")))",
        "(module (func $s unreachable) (start $s) (func (export \"_start\")))",
    ] {
        let error = bench.run(text).unwrap_err();
        assert!(matches!(error, RunError::Trap { .. }), "{error}: {text}");
    }
}

fn with_memory_limit(pages: u64) -> Call<'static> {
    let call = call(LONG);
    Call { limits: Limits { memory_bytes: pages << 16, ..call.limits }, ..call }
}

#[test]
fn a_memory_bomb_ends_at_its_limit_however_it_fails() {
    let bench = Bench::new();
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    for after in ["unreachable", "(i32.store (i32.const -5) (i32.const 1))", "(call $proc_exit (i32.const 2))"] {
        let program = bench.load(&command(&format!("{grow} {after}")));
        let error = program.run(with_memory_limit(1_024)).unwrap_err();
        assert!(matches!(&error, RunError::Memory { output, .. } if output.memory_bytes <= 1_024 << 16), "{error}");
        assert_eq!(Failure::from(error).code, ErrorCode::MemoryExceeded);
    }
    let output = bench.load(&command(grow)).run(with_memory_limit(1_024)).unwrap();
    assert_eq!(output.memory_bytes, 1_009 << 16, "the refusal alone is no failure");
    let error = bench.load(&command(&format!("{grow} (drop (i32.div_u (i32.const 1) (i32.const 0)))")));
    let error = error.run(with_memory_limit(1_024)).unwrap_err();
    assert!(matches!(error, RunError::Trap { kind: TrapKind::DivisionByZero, .. }), "{error}");
}

#[test]
fn memory_grows_to_the_last_page_of_the_largest_limit_and_not_one_further() {
    // All 65,535 pages are there, zero, and writable; the page after them is the gate.
    let body = "(if (i32.ne (memory.grow (i32.const 65534)) (i32.const 1)) (then unreachable))
        (i32.store8 (i32.const 0xFFFEFFFF) (i32.const 7))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))";
    let program = Bench::new().load(&command(body));
    let output = program.run(with_memory_limit(65_535)).unwrap();
    assert_eq!(output.memory_bytes, Limits::MEMORY_BYTES_MAX);
}

#[test]
fn a_module_that_starts_over_its_limit_does_not_start() {
    let error = Bench::new().load("(module (memory 10) (func (export \"_start\")))").run(with_memory_limit(9));
    assert!(matches!(error, Err(RunError::Memory { .. })), "{error:?}");
}

#[test]
fn a_table_grows_to_its_bound_only() {
    let text = "(module (table $t 0 externref) (func (export \"_start\")
        (if (i32.ne (table.grow $t (ref.null extern) (i32.const 131072)) (i32.const 0)) (then unreachable))
        (if (i32.ne (table.grow $t (ref.null extern) (i32.const 1)) (i32.const -1)) (then unreachable))))";
    Bench::new().run(text).unwrap();
}

#[test]
fn a_flood_of_output_is_stopped_and_a_flood_of_log_is_cut() {
    let bench = Bench::new();
    let limits = Limits { payload_bytes: 1_000, log_bytes: 1_000, ..call(LONG).limits };
    let flood =
        |fd| command(&format!("(loop $l (drop (call $write (i32.const {fd}) (i32.const 64) (i32.const 6))) (br $l))"));
    let error = bench.load(&flood(1)).run(Call { limits, ..call(LONG) }).unwrap_err();
    assert!(matches!(error, RunError::Output { bytes_max: 1_000, .. }), "{error}");
    assert_eq!(Failure::from(error).code, ErrorCode::OutputExceeded);
    let error = bench.load(&flood(2)).run(Call { limits, ..call(SHORT) }).unwrap_err();
    let output = error.output().unwrap();
    assert_eq!(output.log.len(), 1_000);
    assert!(output.log_bytes_total > 1_000);
    let exact = command("(drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1000)))");
    assert_eq!(bench.load(&exact).run(Call { limits, ..call(LONG) }).unwrap().payload.len(), 1_000);
}

#[test]
fn no_call_sees_the_memory_of_another() {
    // Fails if a page is not zero, then soils all of them.
    let body = "(local $at i32)
        (drop (memory.grow (i32.const 31)))
        (local.set $at (i32.const 1024))
        (loop $l
            (if (i32.load (local.get $at)) (then unreachable))
            (i32.store (local.get $at) (i32.const -1))
            (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 2097152))))";
    let program = Bench::new().load(&command(body));
    for _ in 0..50 {
        program.run(call(LONG)).unwrap();
    }
}

#[test]
fn two_thousand_runs_leave_no_mapping_descriptor_or_thread_behind() {
    let counted = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        // Reservations are the mappings of more than 2 GiB; other tests run at the same time and have a few.
        let large = maps.lines().filter(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let to = rest.split(' ').next().unwrap();
            u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap() > 2 << 30
        });
        (
            large.count(),
            fs::read_dir("/proc/self/fd").unwrap().count(),
            fs::read_dir("/proc/self/task").unwrap().count(),
        )
    };
    let bench = Bench::new();
    let fine = bench.load(&command("(drop (call $write (i32.const 1) (i32.const 64) (i32.const 6)))"));
    let trapping = bench.load(&command("unreachable"));
    let before = counted();
    for _ in 0..1_000 {
        fine.run(call(LONG)).unwrap();
        trapping.run(call(LONG)).unwrap_err();
    }
    let after = counted();
    // Room for what the other tests of this process do meanwhile: far less than one for each run.
    assert!(after.0 < before.0 + 400 && after.1 < before.1 + 200 && after.2 < before.2 + 200, "{before:?} {after:?}");
}

#[test]
fn thirty_two_threads_run_side_by_side() {
    let bench = Bench::new();
    let echo = bench.load(&command(
        "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 8))))",
    ));
    let endless = bench.load(FOREVER);
    let overflowing = bench.load("(module (func $f (call $f)) (func (export \"_start\") (call $f)))");
    thread::scope(|scope| {
        for number in 0..32_u32 {
            let (echo, endless, overflowing) = (&echo, &endless, &overflowing);
            scope.spawn(move || {
                for round in 0..20 {
                    let input = format!("{number}:{round}");
                    let output = echo.run(Call { payload: input.clone().into(), ..call(LONG) }).unwrap();
                    assert_eq!(output.payload, input.as_bytes());
                }
                let error = endless.run(call(Duration::from_millis(20))).unwrap_err();
                assert!(matches!(error, RunError::Deadline { .. }), "{error}");
                let error = overflowing.run(call(LONG)).unwrap_err();
                assert!(matches!(error, RunError::Trap { kind: TrapKind::StackOverflow, .. }), "{error}");
            });
        }
    });
}

#[test]
fn instances_beyond_the_most_are_refused_before_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = skein_engine::EngineConfig::new(dir.path());
    config.instances_max = 1;
    let bench = Bench { engine: skein_engine::Engine::open(config).unwrap(), dir };
    let (endless, fine) = (bench.load(FOREVER), bench.load(&command("")));
    let stop = StopHandle::new();
    let held = Call { stop: stop.clone(), ..call(LONG) };
    // Either may be the first to have the one place: this one tries until it has it.
    let runner = thread::spawn(move || {
        loop {
            match endless.run(held.clone()) {
                Err(RunError::Full(_)) => thread::yield_now(),
                other => break other,
            }
        }
    });
    let end = Instant::now() + LONG;
    let failure = loop {
        match fine.run(call(LONG)) {
            Err(error) => break Failure::from(error),
            Ok(_) => assert!(Instant::now() < end, "the first call never began"),
        }
        thread::yield_now();
    };
    assert_eq!((failure.code, failure.progress), (ErrorCode::Overloaded, Progress::NotExecuted));
    stop.stop();
    runner.join().unwrap().unwrap_err();
    fine.run(call(LONG)).unwrap();
}

#[test]
fn idle_instances_make_room_however_many_calls_want_it_at_once() {
    const CALLERS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let mut config = skein_engine::EngineConfig::new(dir.path());
    // Each caller uses one at a time, so that the others are idle.
    config.instances_max = 2 * CALLERS;
    let bench = Bench { engine: skein_engine::Engine::open(config).unwrap(), dir };
    let programs: Vec<_> = (0..4 * CALLERS).map(|i| bench.load(&command(&format!("(drop (i32.const {i}))")))).collect();
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let programs = &programs;
            scope.spawn(move || {
                for i in 0..2_000 {
                    programs[(caller * 5 + i) % programs.len()].run(call(LONG)).unwrap();
                }
            });
        }
    });
}
