//! The WASI host: streams, arguments, environment, exit codes, and what is not there.

use bytes::Bytes;
use skein_engine::{Call, RunError};
use skein_proto::{ErrorCode, Failure, Progress};

use crate::support::{Bench, LONG, call, command};

const ECHO: &str = r#"
    (loop $more
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 60000))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
        (drop (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 8))))
        (br $more))"#;

#[test]
fn stdin_comes_back_on_stdout_whatever_its_size() {
    let bench = Bench::new();
    let program = bench.load(&command(ECHO));
    for size in [0, 1, 59_999, 60_000, 1_000_000] {
        let input: Bytes = (0..size).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>().into();
        let output = program.run(Call { payload: input.clone(), ..call(LONG) }).unwrap();
        assert_eq!(output.payload, input);
        assert_eq!(output.memory_bytes, 65_536);
    }
}

#[test]
fn arguments_and_environment_arrive_in_order() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $args_sizes (i32.const 0) (i32.const 4)))
            (drop (call $args (i32.const 100) (i32.const 1000)))
            (drop (call $env_sizes (i32.const 8) (i32.const 12)))
            (drop (call $env (i32.const 200) (i32.add (i32.const 1000) (i32.load (i32.const 4)))))
            ;; All strings are in one piece from 1000 on, if the pointers say so too.
            (if (i32.ne (i32.load (i32.const 100)) (i32.const 1000)) (then unreachable))
            (i32.store (i32.const 16) (i32.const 1000))
            (i32.store (i32.const 20) (i32.add (i32.load (i32.const 4)) (i32.load (i32.const 12))))
            (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))"#;
    let args = ["name".to_owned(), "--flag".to_owned(), "zero\0inside".to_owned()];
    let env = [("KEY".to_owned(), "value".to_owned()), ("EMPTY".to_owned(), String::new())];
    let output = Bench::new().load(text).run(Call { args: &args, env: &env, ..call(LONG) }).unwrap();
    assert_eq!(output.payload, "name\0--flag\0zeroinside\0KEY=value\0EMPTY=\0");
}

#[test]
fn exit_codes_and_the_log_reach_the_caller() {
    let bench = Bench::new();
    let fail =
        command("(drop (call $write (i32.const 2) (i32.const 64) (i32.const 6))) (call $proc_exit (i32.const 7))");
    let error = bench.run(&fail).unwrap_err();
    assert!(matches!(&error, RunError::Exit { code: 7, .. }), "{error}");
    let failure = Failure::from(error);
    assert_eq!(
        (failure.code, failure.exit_code, failure.progress, failure.log_tail.as_str()),
        (ErrorCode::FunctionFailed, Some(7), Progress::Executed, "hello\n")
    );
    assert!(bench.run(&command("(call $proc_exit (i32.const 0)) unreachable")).is_ok());
    let error = bench.run(&command("(call $proc_exit (i32.const -1))")).unwrap_err();
    assert!(matches!(error, RunError::Exit { code: -1, .. }), "{error}");
}

#[test]
fn a_guest_that_hands_out_bad_pointers_gets_errors_and_the_host_stays_whole() {
    // errno 21 is EFAULT, 28 EINVAL, 8 EBADF.
    let checks = [
        ("(call $fd_write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 8))", 21),
        ("(call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 8))", 21),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 8))", 28),
        ("(call $write (i32.const 1) (i32.const 65535) (i32.const 2))", 21),
        ("(call $write (i32.const 1) (i32.const -1) (i32.const -1))", 21),
        ("(call $write (i32.const 0) (i32.const 64) (i32.const 1))", 8),
        ("(call $write (i32.const 3) (i32.const 64) (i32.const 1))", 8),
        ("(call $fd_read (i32.const 0) (i32.const 65529) (i32.const 1) (i32.const 8))", 21),
        ("(call $fd_read (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))", 8),
        ("(call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65533))", 21),
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", 28),
        ("(call $poll_oneoff (i32.const 65500) (i32.const 0) (i32.const 1) (i32.const 0))", 21),
        ("(call $poll_oneoff (i32.const 0) (i32.const -8) (i32.const 1) (i32.const 0))", 21),
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))", 28),
    ];
    let bench = Bench::new();
    for (expression, errno) in checks {
        let error = bench.run(&command(&format!("(call $proc_exit {expression})"))).unwrap_err();
        assert!(matches!(error, RunError::Exit { code, .. } if code == errno), "{expression}: {error}");
    }
}

#[test]
fn files_directories_and_sockets_are_not_there() {
    // 8 EBADF, 28 EINVAL, 54 ENOTDIR, 57 ENOTSOCK, 70 ESPIPE.
    let checks = [
        ("fd_prestat_get", "i32 i32", "(i32.const 3) (i32.const 0)", 8),
        ("fd_close", "i32", "(i32.const 3)", 8),
        ("fd_seek", "i32 i64 i32 i32", "(i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0)", 70),
        ("fd_seek", "i32 i64 i32 i32", "(i32.const 9) (i64.const 0) (i32.const 0) (i32.const 0)", 8),
        ("path_unlink_file", "i32 i32 i32", "(i32.const 3) (i32.const 0) (i32.const 1)", 8),
        ("path_unlink_file", "i32 i32 i32", "(i32.const 0) (i32.const 16) (i32.const 0)", 44),
        ("sock_shutdown", "i32 i32", "(i32.const 0) (i32.const 0)", 57),
        ("sock_shutdown", "i32 i32", "(i32.const 4) (i32.const 0)", 8),
        ("proc_raise", "i32", "(i32.const 6)", 134),
        ("sched_yield", "", "", 0),
        ("random_get", "i32 i32", "(i32.const 0) (i32.const 65536)", 0),
        ("random_get", "i32 i32", "(i32.const 1) (i32.const 65536)", 21),
        ("clock_time_get", "i32 i64 i32", "(i32.const 1) (i64.const 0) (i32.const 0)", 0),
        ("clock_time_get", "i32 i64 i32", "(i32.const 4) (i64.const 0) (i32.const 0)", 28),
        ("clock_res_get", "i32 i32", "(i32.const 0) (i32.const 0)", 0),
        ("fd_filestat_get", "i32 i32", "(i32.const 1) (i32.const 0)", 0),
        ("fd_fdstat_get", "i32 i32", "(i32.const 2) (i32.const 65530)", 21),
    ];
    let bench = Bench::new();
    for (name, params, arguments, expected) in checks {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "{name}" (func $f (param {params}) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func (export "_start") (call $exit (call $f {arguments}))))"#
        );
        let code = match bench.run(&text) {
            Ok(_) => 0,
            Err(RunError::Exit { code, .. }) => code,
            Err(other) => panic!("{name} {arguments}: {other}"),
        };
        assert_eq!(code, expected, "{name} {arguments}");
    }
}

#[test]
fn a_closed_stream_stays_closed() {
    let text = command("(call $proc_exit (call $write (i32.const 1) (i32.const 64) (i32.const 6)))")
        .replace("(func (export \"_start\")", "(func (export \"_start\") (drop (call $fd_close (i32.const 1)))");
    let text = text.replacen(
        "(module",
        r#"(module (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))"#,
        1,
    );
    let error = Bench::new().run(&text).unwrap_err();
    assert!(matches!(error, RunError::Exit { code: 8, .. }), "{error}");
}

#[test]
fn every_function_of_wasi_can_be_imported() {
    let signatures = include_str!("../../src/wasi/interface.rs");
    let rows = signatures.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.strip_suffix("\"),"));
    let mut imports = String::new();
    let mut count = 0;
    for row in rows {
        let (name, letters) = row.split_once("\", \"").unwrap();
        let params: Vec<&str> = letters.chars().map(|letter| if letter == 'I' { "i64" } else { "i32" }).collect();
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        let params = params.join(" ");
        imports += &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func (param {params}) {result}))\n");
        count += 1;
    }
    assert_eq!(count, 46);
    Bench::new().run(&format!("(module {imports} (memory 1) (func (export \"_start\")))")).unwrap();
}

#[test]
fn a_short_sleep_ends_and_reports_its_clock() {
    // One clock, relative, 1 ms, with userdata 5.
    let body = "(i64.store (i32.const 128) (i64.const 5))
        (i32.store (i32.const 144) (i32.const 1))
        (i64.store (i32.const 152) (i64.const 1000000))
        (if (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 320)) (i32.const 1)) (then unreachable))
        (if (i64.ne (i64.load (i32.const 256)) (i64.const 5)) (then unreachable))";
    Bench::new().run(&command(body)).unwrap();
}

#[test]
fn an_import_is_called_through_whatever_it_is_a_value_in() {
    let bench = Bench::new();
    for (nth, put) in [
        "(elem (i32.const 0) func $other $exit)",
        "(elem (i32.const 0) funcref (ref.func $other) (ref.func $exit))",
        "(global $value funcref (ref.func $exit)) (func $put (table.set $t (i32.const 1) (global.get $value)))",
        "(elem $e func $exit) (func $put (table.init $t $e (i32.const 1) (i32.const 0) (i32.const 1)))",
        "(global $value funcref (ref.func $exit)) (func $put (table.set $t (i32.const 1) (ref.func $exit)))",
        "(elem declare func $exit) (func $put (table.set $t (i32.const 1) (ref.func $exit)))",
        r#"(export "exit" (func $exit)) (func $put (table.set $t (i32.const 1) (ref.func $exit)))"#,
    ]
    .into_iter()
    .enumerate()
    {
        let call_put = if put.contains("func $put") { "(call $put)" } else { "" };
        let text = format!(
            r#"(module (type $code (func (param i32)))
                (import "wasi_snapshot_preview1" "sched_yield" (func $other (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (type $code)))
                (table $t 2 funcref) {put}
                (func (export "handle") {call_put}
                    (call_indirect $t (type $code) (i32.const {nth}) (i32.const 1))
                    unreachable))"#
        );
        match bench.run(&text) {
            Ok(_) if nth == 0 => {}
            Err(RunError::Exit { code, .. }) if code == nth as i32 => {}
            ended => panic!("{put}: {ended:?}"),
        }
    }
    bench.engine.shutdown();
}
