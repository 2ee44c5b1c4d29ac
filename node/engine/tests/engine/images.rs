//! What instances begin with: the data of their module wherever it goes, and of an initialisation only what every call
//! and every function may find.

use std::sync::Arc;

use skein_engine::{Call, Engine, EngineConfig, Program};
use skein_proto::{Digest, Failure, Manifest, Snapshot};

use crate::support::{Bench, LONG, call, code, plain};

const WRITE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
/// Writes ten bytes at 8192.
const TELL: &str = "(i32.store (i32.const 0) (i32.const 8192)) (i32.store (i32.const 4) (i32.const 10))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))";

fn load(engine: &Engine, manifest: &Manifest, text: &str) -> Arc<Program> {
    let code = code(text);
    engine.load(Digest::of(&code), manifest, || Ok(code.clone())).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// What a call wrote, and how it failed if it did.
fn told(program: &Program, call: Call<'_>) -> String {
    match program.run(call) {
        Ok(output) => String::from_utf8_lossy(&output.payload).into_owned() + &String::from_utf8_lossy(&output.log),
        Err(error) => Failure::from(error).message,
    }
}

fn with(snapshot: Snapshot) -> Manifest {
    Manifest { snapshot, ..plain() }
}

#[test]
fn data_is_there_in_every_call_wherever_it_goes_and_however_it_is_said() {
    let bench = Bench::new();
    let near = "(memory 1)";
    let places = [
        (near, r#"(data (i32.const 8192) "HELLO-DATA")"#),
        (near, r#"(data (offset (i32.add (i32.const 4096) (i32.const 4096))) "HELLO-DATA")"#),
        (near, r#"(data (offset (i32.sub (i32.mul (i32.const 3) (i32.const 4096)) (i32.const 4096))) "HELLO-DATA")"#),
        (near, r#"(data (i32.const 8192) "xxxxx") (data (i32.add (i32.const 8191) (i32.const 1)) "HELLO-DATA")"#),
        ("(memory 4800)", r#"(data (i32.const 8192) "HELLO-DATA") (data (i32.const 300000000) "FAR")"#),
        ("(memory 4800)", r#"(data (i32.const 300000000) "FAR") (data (i32.const 8192) "HELLO-DATA")"#),
        (
            "(memory 1)(func $f)(elem declare func $f)(global funcref (ref.func $f))",
            r#"(data (i32.add (i32.const 4096) (i32.const 4096)) "HELLO-DATA")"#,
        ),
    ];
    // It changes a byte of its data, which every call must find changed once.
    let counts = r#"(func (export "_initialize") (i32.store8 (i32.const 8197) (i32.add (i32.load8_u (i32.const 8197)) (i32.const 1))))"#;
    for (memory, data) in places {
        for (entry, initialise, expected) in
            [("_start", "", "HELLO-DATA"), ("handle", "", "HELLO-DATA"), ("handle", counts, "HELLO.DATA")]
        {
            let text = format!(r#"(module {WRITE} {memory} {data} {initialise} (func (export "{entry}") {TELL}))"#);
            for snapshot in [Snapshot::Auto, Snapshot::Always, Snapshot::Never] {
                for warm in [0, 2] {
                    let mut manifest = with(snapshot);
                    manifest.limits.memory_bytes = 4800 << 16;
                    let program = load(&bench.engine, &manifest, &text);
                    assert_eq!(program.keep_ready(warm), warm);
                    for round in 0..4 {
                        let limits = manifest.limits;
                        let output = told(&program, Call { limits, ..call(LONG) });
                        assert_eq!(output, expected, "call {round}, {snapshot:?}, {warm} warm:\n{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_an_initialisation_is_told_of_its_name_is_its_own_functions() {
    let bench = Bench::new();
    let text = format!(
        r#"(module {WRITE}
        (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_initialize") (drop (call $args_get (i32.const 1000) (i32.const 8192))))
        (func (export "handle") {TELL}))"#
    );
    for snapshot in [Snapshot::Auto, Snapshot::Always, Snapshot::Never] {
        for (app, name) in [("appa", "first"), ("appb", "other"), ("appb", "first")] {
            let manifest = Manifest { snapshot, ..Manifest::named(app.parse().unwrap(), name.parse().unwrap()) };
            let program = load(&bench.engine, &manifest, &text);
            for _ in 0..3 {
                let args = [name.to_owned()];
                assert_eq!(told(&program, Call { args: &args, ..call(LONG) }).trim_end_matches('\0'), name);
            }
        }
    }
}

/// A reactor that does `init`, and then tells what is at 8192.
fn reactor(init: &str) -> String {
    format!(
        r#"(module {WRITE}
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
        (import "skein" "output" (func $output (param i32 i32)))
        (import "skein" "log" (func $log (param i32 i32)))
        (import "skein" "fail" (func $fail (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 100) "said first")
        (data (i32.const 8192) "0123456789")
        (func (export "_initialize") {init})
        (func (export "handle") {TELL}))"#
    )
}

#[test]
fn what_an_initialisation_says_or_is_told_by_its_call_is_the_same_with_an_image_and_without() {
    let bench = Bench::new();
    let print = |stream: u32| {
        format!(
            "(i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 10))
            (drop (call $fd_write (i32.const {stream}) (i32.const 0) (i32.const 1) (i32.const 16)))"
        )
    };
    let (out, log) = (print(1), print(2));
    let tried = [
        (&*out, "said first0123456789", "said first0123456789"),
        // Who says that clocks and chance do not matter says it of the log.
        (&*log, "0123456789said first", "0123456789"),
        ("(call $output (i32.const 100) (i32.const 10))", "said first0123456789", "said first0123456789"),
        ("(call $log (i32.const 100) (i32.const 10))", "0123456789said first", "0123456789"),
        ("(call $fail (i32.const 100) (i32.const 10))", "said first", "said first"),
        (
            "(drop (call $environ_sizes (i32.const 200) (i32.const 204)))
            (i32.store8 (i32.const 8192) (i32.add (i32.const 48) (i32.load (i32.const 200))))",
            "2123456789",
            "0123456789",
        ),
        ("(drop (call $environ (i32.const 300) (i32.const 8192)))", "A=1\0B=2\089", "0123456789"),
    ];
    for (init, expected, always) in tried {
        let text = reactor(init);
        for (snapshot, expected) in
            [(Snapshot::Never, expected), (Snapshot::Auto, expected), (Snapshot::Always, always)]
        {
            let program = load(&bench.engine, &with(snapshot), &text);
            for _ in 0..3 {
                let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
                assert_eq!(told(&program, Call { env: &env, ..call(LONG) }), expected, "{snapshot:?}: {init}");
            }
        }
    }
}

#[test]
fn what_an_initialisation_does_to_a_descriptor_is_done_for_every_call() {
    let bench = Bench::new();
    // The private directory, whose flags are told before the rest.
    let init = "(drop (call $set_flags (i32.const 3) (i32.const 1)))";
    let tell = "(drop (call $stat (i32.const 3) (i32.const 300)))
        (i32.store8 (i32.const 8192) (i32.add (i32.const 48) (i32.load8_u (i32.const 302))))";
    let text = reactor(init).replace(TELL, &format!("{tell} {TELL}"));
    let told_with = |snapshot: Snapshot| {
        let mut manifest = with(snapshot);
        manifest.grants.scratch = true;
        let program = load(&bench.engine, &manifest, &text);
        [0; 2].map(|_| told(&program, Call { scratch: true, ..call(LONG) }))
    };
    let never = told_with(Snapshot::Never);
    assert_eq!([told_with(Snapshot::Auto), told_with(Snapshot::Always)], [never.clone(), never]);
}

#[test]
fn what_the_node_was_short_of_is_in_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.memory_bytes_max = 16 << 20;
    let engine = Engine::open(config).unwrap();
    // 2 MiB more, and a letter that says whether it got them.
    let init = "(i32.store8 (i32.const 8192) (select (i32.const 78) (i32.const 89)
        (i32.eq (memory.grow (i32.const 32)) (i32.const -1))))";
    for snapshot in [Snapshot::Auto, Snapshot::Always] {
        let taken = engine.room(13 << 20).unwrap();
        let short = load(&engine, &with(snapshot), &reactor(init));
        drop(taken);
        // The version that was loaded then, and the one that is loaded now.
        for program in [short, load(&engine, &with(snapshot), &reactor(init))] {
            assert_eq!([told(&program, call(LONG)), told(&program, call(LONG))], ["Y123456789"; 2], "{snapshot:?}");
        }
    }
}
