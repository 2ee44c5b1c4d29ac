//! CPU time as a limit, and runs that are to be brief.

use std::{sync::Arc, thread, time::Duration};

use skein_engine::{Call, Program, RunError, thread_cpu_time};
use skein_proto::{ErrorCode, Failure, Limits, Progress};
use tokio::time::Instant;

use crate::support::{Bench, LONG, call, command};

const FOREVER: &str = "(module (func (export \"_start\") (loop $l (br $l))))";

/// Sleeps for `ms`.
fn sleeper(ms: u64) -> String {
    command(&format!(
        "(i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const {}))
        (drop (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)))",
        ms * 1_000_000
    ))
}

fn cpu(ms: u64) -> Call<'static> {
    let limits = Limits { cpu_ms: ms, deadline_ms: Limits::DEADLINE_MS_MAX, ..Limits::default() };
    Call { limits, ..call(LONG) }
}

#[test]
fn a_guest_is_stopped_when_its_cpu_time_is_used_up() {
    let program = Bench::new().load(FOREVER);
    let begin = thread_cpu_time();
    let error = program.run(cpu(40)).unwrap_err();
    let used = thread_cpu_time() - begin;
    assert!(matches!(error, RunError::Cpu { .. }), "{error}");
    assert!(used >= Duration::from_millis(40), "stopped after {used:?}");
    let failure = Failure::from(error);
    assert_eq!((failure.code, failure.progress), (ErrorCode::CpuExceeded, Progress::Executed));
    assert!(failure.message.contains("limits.cpu"), "{failure}");
}

#[test]
fn waiting_uses_no_cpu_time() {
    let bench = Bench::new();
    let begin = Instant::now();
    let output = bench.load(&sleeper(120)).run(cpu(30)).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(output.has_waited);
    assert!(!bench.run(&command("")).unwrap().has_waited);
}

#[test]
fn the_deadline_comes_first_if_it_is_sooner() {
    let limits = Limits { cpu_ms: 5_000, deadline_ms: 50, ..Limits::default() };
    let error = Bench::new().load(FOREVER).run(Call { limits, ..call(LONG) }).unwrap_err();
    assert!(matches!(error, RunError::Deadline { .. }), "{error}");
}

#[test]
fn a_thread_that_has_computed_before_starts_at_zero() {
    let bench = Bench::new();
    let program = bench.load(FOREVER);
    for _ in 0..3 {
        let begin = thread_cpu_time();
        assert!(matches!(program.run(cpu(20)), Err(RunError::Cpu { .. })));
        assert!(thread_cpu_time() - begin >= Duration::from_millis(20));
    }
}

#[test]
fn a_brief_run_gives_what_a_run_gives() {
    let program = Bench::new().load(&command(
        "(drop (call $write (i32.const 1) (i32.const 64) (i32.const 6)))
        (drop (call $write (i32.const 2) (i32.const 64) (i32.const 6)))",
    ));
    for _ in 0..100 {
        let output = program.run_briefly(call(LONG)).unwrap();
        assert_eq!((&output.payload[..], &output.log[..]), (&b"hello\n"[..], &b"hello\n"[..]));
        assert!(!output.has_waited);
    }
}

#[test]
fn a_brief_run_that_computes_on_is_ended_soon() {
    let program = Bench::new().load(FOREVER);
    for _ in 0..5 {
        let begin = thread_cpu_time();
        let error = program.run_briefly(call(LONG)).unwrap_err();
        let used = thread_cpu_time() - begin;
        assert!(matches!(error, RunError::NotBrief), "{error}");
        // Seldom over two milliseconds; what is asserted must hold on a machine that does much else.
        assert!(used < Duration::from_millis(100), "held its thread for {used:?}");
    }
}

#[test]
fn a_brief_run_that_wants_to_wait_is_ended_at_once() {
    let program = Bench::new().load(&sleeper(60_000));
    let begin = Instant::now();
    assert!(matches!(program.run_briefly(call(LONG)), Err(RunError::NotBrief)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    // Looking at the clock is not waiting.
    assert!(Bench::new().load(&sleeper(0)).run_briefly(call(LONG)).is_ok());
}

#[test]
fn a_brief_run_has_its_deadline_too() {
    let program = Bench::new().load(FOREVER);
    let late = Call { ..call(Duration::ZERO) };
    let failure = Failure::from(program.run_briefly(late).unwrap_err());
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::NotExecuted));
}

#[test]
fn brief_and_other_runs_on_many_threads_are_each_stopped_for_their_own_reason() {
    let bench = Bench::new();
    let (endless, short) = (bench.load(FOREVER), bench.load(&command("")));
    let run = |program: &Arc<Program>, ms: Option<u64>| {
        let (program, call) = (program.clone(), ms.map_or_else(|| call(LONG), cpu));
        thread::spawn(move || if ms.is_some() { program.run(call) } else { program.run_briefly(call) })
    };
    for _ in 0..4 {
        let brief: Vec<_> = (0..3).map(|_| run(&endless, None)).collect();
        let limited: Vec<_> = (0..3).map(|_| run(&endless, Some(10))).collect();
        let fine: Vec<_> = (0..3).map(|_| run(&short, Some(1_000))).collect();
        for run in brief {
            assert!(matches!(run.join().unwrap(), Err(RunError::NotBrief)));
        }
        for run in limited {
            assert!(matches!(run.join().unwrap(), Err(RunError::Cpu { .. })));
        }
        for run in fine {
            assert!(run.join().unwrap().is_ok());
        }
    }
}
