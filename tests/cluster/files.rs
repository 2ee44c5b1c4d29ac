//! `skein run` gives a program files, arguments and an exit code, as another engine does.
//!
//! The programs are in `tests/guests`: C, Rust and Go that do to files all they can, and print each answer.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use skein_harness::examples_dir;
use tempfile::TempDir;

use crate::SKEIN;

/// The guests, built, and a place for compiled code that all tests here share.
struct Guests {
    modules: PathBuf,
    cache: TempDir,
}

fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let root = examples_dir();
        let sources = root.join("../tests/guests");
        let built = Command::new("bash").arg(root.join("build.sh")).arg("--in").arg(sources).status().unwrap();
        assert!(built.success(), "examples/build.sh --in tests/guests failed: {built}");
        // The engine to compare with is there once the examples have been compared.
        let oracle = Command::new("bash")
            .arg(root.join("build.sh"))
            .args(["--oracle", "echo"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(oracle.status.success(), "{}", String::from_utf8_lossy(&oracle.stderr));
        Guests { modules: root.join("../target/guests"), cache: tempfile::tempdir().unwrap() }
    })
}

/// A project with one of the guests, and what `settings` add to its `function.toml`.
fn project(name: &str, settings: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(guests().modules.join(format!("{name}.wasm")), dir.path().join("f.wasm")).unwrap();
    let text = format!(
        "name = \"{name}\"\ncode = \"f.wasm\"\n[limits]\ndeadline = \"120s\"\nmemory = \"128MiB\"\n{settings}\n"
    );
    fs::write(dir.path().join("function.toml"), text).unwrap();
    dir
}

fn skein_run(path: &Path, args: &[&str]) -> Output {
    Command::new(SKEIN).arg("run").arg(path).args(args).env("XDG_CACHE_HOME", guests().cache.path()).output().unwrap()
}

fn oracle(name: &str, dir: &Path, args: &[&str]) -> Output {
    use std::io::Write as _;
    let mut child = Command::new("python3")
        .arg(examples_dir().join("oracle.py"))
        .args(["--env", "COLOUR=red", "--dir"])
        .arg(format!("{}::/", dir.display()))
        .arg(guests().modules.join(format!("{name}.wasm")))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(INPUT.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

const INPUT: &str = "some input\n";

/// Everything below a directory: kinds, contents, targets, and the times that the guests set.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![dir.to_path_buf()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let what = if metadata.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).unwrap())
            } else if metadata.is_dir() {
                ahead.push(path.clone());
                "directory".to_owned()
            } else {
                format!("{} names, {:?}", metadata.nlink(), fs::read(&path).unwrap())
            };
            // What was set is long ago; what is of today differs.
            let set = Some(metadata.mtime()).filter(|mtime| *mtime < 1_500_000_000);
            found.insert(path.strip_prefix(dir).unwrap().to_owned(), format!("{set:?} {what}"));
        }
    }
    found
}

/// Runs a guest in both engines, and privately in ours; all must end with `exit`.
fn same_as_elsewhere(name: &str, args: &[&str], exit: i32) {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = oracle(name, theirs.path(), args);
    assert_eq!(expected.status.code(), Some(exit), "{}", String::from_utf8_lossy(&expected.stderr));
    let dir = format!("{}::/", ours.path().display());
    let guest_args: Vec<&str> = ["--env", "COLOUR=red", "-d", INPUT, "--"].iter().chain(args).copied().collect();
    let on_disk = skein_run(project(name, "").path(), &[&["--dir", &dir], &guest_args[..]].concat());
    let check = |ran: &Output, what: &str| {
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&expected.stdout), "{what}: {said}");
        assert_eq!(ran.status.code(), Some(exit), "{what}: {said}");
    };
    check(&on_disk, "on disk");
    assert!(
        tree(ours.path()) == tree(theirs.path()),
        "{:#?}\n{:#?}",
        tree(ours.path()).keys(),
        tree(theirs.path()).keys()
    );
    let settings = "scratch = \"64MiB\"\n[grants]\nscratch = true";
    check(&skein_run(project(name, settings).path(), &guest_args), "in memory");
}

#[test]
fn a_c_program_does_to_files_what_it_does_in_another_engine() {
    same_as_elsewhere("files-c", &["one", "5"], 5);
}

#[test]
fn a_rust_program_does_to_files_what_it_does_in_another_engine() {
    same_as_elsewhere("files-rust", &["one", "two words"], 7);
}

#[test]
fn a_go_program_does_to_files_what_it_does_in_another_engine() {
    same_as_elsewhere("files-go", &["one"], 3);
}

#[test]
fn removing_what_is_being_listed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shared = format!("{}::/", dir.path().display());
    let on_disk = skein_run(project("files-c", "").path(), &["--dir", &shared, "--", "listing"]);
    let in_memory = skein_run(project("files-c", "[grants]\nscratch = true").path(), &["--", "listing"]);
    for ran in [on_disk, in_memory] {
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "removed 1000\nrmdir: 0\n");
    }
}

#[test]
fn a_program_is_given_what_the_command_line_says_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("f.wat");
    // Copies stdin to stdout, and ends with the number of its arguments.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1000))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $args (i32.const 0) (i32.const 4)))
            (if (i32.eqz (call $prestat (i32.const 3) (i32.const 16))) (then (call $exit (i32.const 200))))
            (call $exit (i32.sub (i32.load (i32.const 0)) (i32.const 1)))))"#;
    fs::write(&module, text).unwrap();
    let run = |args: &[&str]| skein_run(&module, args);
    assert_eq!(run(&[]).status.code(), Some(0));
    let ran = run(&["-d", "payload", "--", "a", "b", "c"]);
    assert_eq!((ran.status.code(), &ran.stdout[..], &ran.stderr[..]), (Some(3), &b"payload"[..], &b""[..]));
    // Standard input is the payload, if it is no terminal and nothing else was said.
    let input = dir.path().join("input");
    fs::write(&input, "piped").unwrap();
    let piped = Command::new(SKEIN)
        .arg("run")
        .arg(&module)
        .env("XDG_CACHE_HOME", guests().cache.path())
        .stdin(fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert_eq!((piped.status.code(), &piped.stdout[..]), (Some(0), &b"piped"[..]));
    // A directory is there if it is named, and a wrong one is said to be wrong.
    let shared = format!("{}::/data:ro", dir.path().display());
    assert_eq!(run(&["--dir", &shared]).status.code(), Some(200));
    let missing = run(&["--dir", "/nowhere/at/all::/data"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at/all"));
    assert_eq!(run(&["--dir", "::"]).status.code(), Some(2));
}
