//! Files: private ones and those of the machine, their limits, and waiting.

use std::{fs, time::Duration};

use skein_engine::{Call, Preopen, RunError, StopHandle};
use skein_proto::{Digest, Limits};

use crate::{
    probe::{
        ALL,
        Arg::{Int, Long, Text},
        DIR, FILE, FREE, OUT, READ, Step, WRITE, create, directory,
        errno::*,
        expect, hard_link, link, module, move_byte, on_fd, on_path, open, read, rename, stat,
    },
    support::{Bench, LONG, call, code, command, plain},
};

/// Runs `steps` with a private directory and `limits`.
fn privately(bench: &Bench, steps: &[Step], limits: Limits, what: &str) {
    let call = Call { scratch: true, ..call(LONG) };
    let limits = Limits { deadline_ms: call.limits.deadline_ms, ..limits };
    expect(bench.load(&module(steps)).run(Call { limits, ..call }), steps, what);
}

#[test]
fn a_private_directory_is_empty_at_the_start_of_every_call() {
    let bench = Bench::new();
    let steps = [
        stat("kept", ENOENT),
        directory("kept"),
        create("kept/f", 0),
        move_byte("fd_write", FREE, 0),
        stat("kept/f", 0),
    ];
    let program = bench.load(&module(&steps));
    for round in 0..20 {
        expect(program.run(Call { scratch: true, ..call(LONG) }), &steps, &format!("round {round}"));
    }
}

#[test]
fn an_image_of_a_reactor_knows_whether_there_is_a_directory() {
    let bench = Bench::new();
    // Looks for a directory when it is initialised, as libraries do, and ends with what it was told then.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_initialize") (i32.store (i32.const 32) (call $prestat (i32.const 3) (i32.const 0))))
        (func (export "handle") (result i32) (i32.load (i32.const 32))))"#;
    let code = code(text);
    for (scratch, expected) in [(false, i32::from(EBADF)), (true, 0), (false, i32::from(EBADF))] {
        let mut manifest = plain();
        manifest.grants.scratch = scratch;
        let program = bench.engine.load(Digest::of(&code), &manifest, || Ok(code.clone())).unwrap();
        for _ in 0..2 {
            let told = match program.run(Call { scratch, ..call(LONG) }) {
                Ok(_) => 0,
                Err(RunError::Exit { code, .. }) => code,
                Err(other) => panic!("{other}"),
            };
            assert_eq!(told, expected, "{scratch}");
        }
    }
}

#[test]
fn without_a_grant_there_are_no_files() {
    let steps = [
        Step("fd_prestat_get", vec![Int(DIR), OUT], EBADF),
        read("f", EBADF),
        create("f", EBADF),
        open(0, 0, "f", 0, (READ, 0), ENOTDIR),
    ];
    expect(Bench::new().load(&module(&steps)).run(call(LONG)), &steps, "no grant");
}

#[test]
fn a_private_directory_holds_no_more_than_its_limit() {
    let bench = Bench::new();
    let steps = [
        create("f", 0),
        open(DIR, 0, "a", 5, (ALL & !(1 << 14), 0), 0),
        Step("fd_allocate", vec![Int(FREE), Long(0), Long(8192)], ENOTCAPABLE),
        Step("fd_allocate", vec![Int(5), Long(0), Long(8192)], 0),
        Step("fd_allocate", vec![Int(5), Long(0), Long(65_537)], ENOSPC),
        Step("fd_allocate", vec![Int(5), Long(0), Long(65_536)], 0),
        move_byte("fd_write", FREE, ENOSPC),
        // Holes cost nothing, and there is an end to them too.
        Step("fd_filestat_set_size", vec![Int(FREE), Long(1 << 30)], 0),
        Step("fd_filestat_set_size", vec![Int(FREE), Long((1 << 40) + 1)], 22),
        on_path("path_unlink_file", "a", 0),
        move_byte("fd_write", FREE, ENOSPC),
        on_fd("fd_close", 5, 0),
        move_byte("fd_write", FREE, 0),
    ];
    privately(&bench, &steps, Limits { scratch_bytes: 64 << 10, ..Limits::default() }, "64 KiB");
}

#[test]
fn no_more_descriptors_are_open_than_the_limit_says() {
    let bench = Bench::new();
    // Three streams and the directory are four.
    let steps = [
        create("a", 0),
        create("b", 0),
        create("c", EMFILE),
        read("a", EMFILE),
        stat("c", ENOENT),
        on_fd("fd_close", FREE, 0),
        create("c", 0),
        create("d", EMFILE),
    ];
    privately(&bench, &steps, Limits { handles: 6, ..Limits::default() }, "6 handles");
}

#[test]
fn a_read_only_directory_stays_as_it_is() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "content").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let steps = [
        read("f", 0),
        move_byte("fd_read", FREE, 0),
        Step("fd_filestat_set_times", vec![Int(FREE), Long(0), Long(0), Int(1)], ENOTCAPABLE),
        open(DIR, 0, "f", 0, (READ | 1 << 22 | 1 << 23, 0), 0),
        Step("fd_filestat_set_times", vec![Int(5), Long(0), Long(0), Int(1)], EROFS),
        Step("fd_filestat_set_size", vec![Int(5), Long(0)], EROFS),
        open(DIR, 0, "f", 0, (WRITE, 0), EROFS),
        open(DIR, 0, "nothing", 0, (WRITE, 0), ENOENT),
        open(DIR, 0, "f", 8, (READ, 0), EROFS),
        open(DIR, 0, "f", 1, (READ, 0), 0),
        create("new", EROFS),
        open(DIR, 0, "new", 1, (READ, 0), EROFS),
        Step("path_create_directory", vec![Int(DIR), Text("new")], EROFS),
        on_path("path_unlink_file", "f", EROFS),
        on_path("path_remove_directory", "d", EROFS),
        rename("f", "g", EROFS),
        hard_link("f", 0, "g", EROFS),
        link("f", "g", EROFS),
        Step("path_filestat_set_times", vec![Int(DIR), Int(1), Text("f"), Long(0), Long(0), Int(5)], EROFS),
        // What is opened below it is no better.
        open(DIR, 0, "d", 2, (ALL, ALL), 0),
        open(7, 0, "new", 1, (FILE, 0), EROFS),
    ];
    let preopens = [Preopen::open(dir.path(), "/data", true).unwrap()];
    expect(bench.load(&module(&steps)).run(Call { preopens: &preopens, ..call(LONG) }), &steps, "read-only");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((left.len(), fs::read_to_string(dir.path().join("f")).unwrap().as_str()), (2, "content"));
}

#[test]
fn nothing_is_moved_from_one_kind_of_directory_to_another() {
    let bench = Bench::new();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let preopens =
        [Preopen::open(dir.path(), "/rw", false).unwrap(), Preopen::open(other.path(), "/ro", true).unwrap()];
    fs::write(other.path().join("f"), "").unwrap();
    let across = |function, from: u32, to: u32, errno| match function {
        "path_rename" => Step("path_rename", vec![Int(from), Text("f"), Int(to), Text("g")], errno),
        _ => Step("path_link", vec![Int(from), Int(0), Text("f"), Int(to), Text("g")], errno),
    };
    let steps = [
        // 3 is private, 4 the machine's, 5 the machine's and read-only.
        create("f", 0),
        open(4, 0, "f", 1, (FILE, 0), 0),
        across("path_rename", 3, 4, EXDEV),
        across("path_rename", 4, 3, EXDEV),
        across("path_link", 3, 4, EXDEV),
        across("path_rename", 5, 4, EROFS),
        across("path_link", 5, 4, EROFS),
        across("path_rename", 4, 5, EROFS),
        across("path_link", 4, 5, EROFS),
        across("path_link", 4, 4, 0),
        across("path_rename", 3, 3, 0),
    ];
    let program = bench.load(&module(&steps));
    expect(program.run(Call { preopens: &preopens, scratch: true, ..call(LONG) }), &steps, "across");
    assert!(fs::exists(dir.path().join("g")).unwrap() && fs::exists(other.path().join("f")).unwrap());
}

/// A guest that waits for one clock, with the kind, clock, time and flags given, and ends with what it was told:
/// the error of the call, or 100 and the error of the event.
fn wait(kind: u32, clock: u32, ns: u64, flags: u32) -> String {
    command(&format!(
        "(local $errno i32)
        (i32.store8 (i32.const 136) (i32.const {kind})) (i32.store (i32.const 144) (i32.const {clock}))
        (i64.store (i32.const 152) (i64.const {ns})) (i32.store16 (i32.const 168) (i32.const {flags}))
        (local.set $errno (call $poll_oneoff (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)))
        (if (local.get $errno) (then (call $proc_exit (local.get $errno))))
        (if (i32.ne (i32.load (i32.const 320)) (i32.const 1)) (then unreachable))
        (call $proc_exit (i32.add (i32.const 100) (i32.load16_u (i32.const 264))))"
    ))
}

#[test]
fn polling_knows_clocks_streams_and_its_own_rules() {
    let bench = Bench::new();
    let cases = [
        // A moment of the real and of the monotonic clock; a point in time that has passed.
        ((0, 0, 1000, 0), 100),
        ((0, 1, 1000, 0), 100),
        ((0, 0, 1, 1), 100),
        ((0, 1, 1, 1), 100),
        // Clocks of CPU time cannot be waited for; others there are not.
        ((0, 2, 1, 0), 158),
        ((0, 3, 1, 0), 158),
        ((0, 4, 1, 0), 128),
        // Flags and kinds that there are not.
        ((0, 1, 1, 2), 28),
        ((3, 1, 1, 0), 28),
        // Reading stdin, and writing stdout and stderr, wait for nothing; the other way round is nothing.
        ((1, 0, 0, 0), 100),
        ((2, 1, 0, 0), 100),
        ((2, 2, 0, 0), 100),
        ((1, 1, 0, 0), 108),
        ((2, 0, 0, 0), 108),
        ((1, 9, 0, 0), 108),
    ];
    for ((kind, clock, ns, flags), expected) in cases {
        let error = bench.run(&wait(kind, clock, ns, flags)).unwrap_err();
        assert!(
            matches!(error, RunError::Exit { code, .. } if code == expected),
            "{:?}: {error}",
            (kind, clock, ns, flags)
        );
    }
}

#[test]
fn a_guest_that_waits_for_ever_is_stopped() {
    let bench = Bench::new();
    for (ns, flags) in [(u64::MAX, 0), (u64::MAX, 1)] {
        let stop = StopHandle::new();
        let program = bench.load(&wait(0, 1, ns, flags));
        let error = program.run(Call { stop, ..call(Duration::from_millis(50)) }).unwrap_err();
        assert!(matches!(error, RunError::Deadline { .. }), "{error}");
    }
}
