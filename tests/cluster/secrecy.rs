//! What a node keeps to itself, what it believes of what others could have written, and what of guests' text reaches a
//! terminal.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use skein_harness::{ECHO, Mesh, Node, NodeOptions, until};

use crate::SKEIN;

/// Everything in a directory, and itself.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if found[next].is_dir() {
            found.extend(fs::read_dir(&found[next]).unwrap().map(|entry| entry.unwrap().path()));
        }
        next += 1;
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn is_private(dir: &Path) {
    for path in tree(dir) {
        let most = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path) & !most, 0, "{} has mode {:o}", path.display(), mode(&path));
    }
}

#[test]
fn a_nodes_data_is_its_users_alone_whatever_the_umask_and_whatever_it_was() {
    let home = tempfile::tempdir().unwrap();
    let careless = home.path().join("careless");
    fs::write(&careless, format!("#!/bin/sh\numask 000\nexec '{SKEIN}' \"$@\"\n")).unwrap();
    fs::set_permissions(&careless, fs::Permissions::from_mode(0o755)).unwrap();
    let data = home.path().join("n1");
    // As somebody makes it who does not think of it.
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let mut node = Node::start(&careless, home.path(), "n1", NodeOptions::default());
    assert_eq!(node.data, data);
    is_private(&data);
    assert!(tree(&data).len() > 12, "it has begun: {:?}", tree(&data));

    // As a backup that was restored by hand leaves it.
    assert!(node.terminate().success());
    for path in tree(&data) {
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
    }
    node.restart();
    is_private(&data);
    assert!(node.log().contains("it is closed to them now"), "{}", node.log());
}

#[test]
fn an_open_directory_that_cannot_be_closed_is_no_data_directory() {
    let mesh = Mesh::found(SKEIN);
    let shared = mesh.home().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("thesis"), "").unwrap();
    let up = || mesh.skein_bare(&["up", "--data", shared.to_str().unwrap()]).failed(2, "bad-request");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = up();
    assert!(ran.stderr.contains("not a node's") && ran.stderr.contains("chmod 700"), "{}", ran.stderr);
    assert_eq!(mode(&shared), 0o755, "what is somebody's is left alone");
    fs::remove_file(shared.join("thesis")).unwrap();
    // Only the superuser gives a directory away.
    if chown(&shared, Some(12_345), None).is_ok() {
        let ran = up();
        assert!(ran.stderr.contains("user 12345") && ran.stderr.contains("chown -R"), "{}", ran.stderr);
    }
}

#[test]
fn cached_code_of_another_key_or_behind_a_link_is_told_and_compiled_anew() {
    let mut mesh = Mesh::start(SKEIN, 2);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let called = |mesh: &Mesh| mesh.skein(0, &["invoke", "echo", "-d", "hello"]).ok().text();
    assert_eq!(called(&mesh), "hello");
    assert!(mesh.nodes[0].terminate().success());
    let code_of = |mesh: &Mesh, i: usize| {
        let files = tree(&mesh.nodes[i].data.join("cache"));
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "elf")).unwrap()
    };
    let (own, other) = (code_of(&mesh, 0), code_of(&mesh, 1));
    let sound = fs::read(&own).unwrap();
    // Whole and well labelled, but not this node's: what a forger makes who has the program and not the key.
    fs::copy(&other, &own).unwrap();
    mesh.nodes[0].restart();
    assert_eq!(called(&mesh), "hello");
    // The call may run on the other node; what is cached is looked at beside it.
    let tells = |mesh: &Mesh, what: &str| {
        let said = || mesh.nodes[0].log().lines().any(|line| line.contains("damaged or forged") && line.contains(what));
        until(what, || said().then_some(()));
        until("the link is gone", || (!own.is_symlink()).then_some(()));
    };
    tells(&mesh, "not written with this node's key");

    assert!(mesh.nodes[0].terminate().success());
    let elsewhere = mesh.home().join("elsewhere");
    fs::write(&elsewhere, &sound).unwrap();
    fs::remove_file(&own).unwrap();
    symlink(&elsewhere, &own).unwrap();
    mesh.nodes[0].restart();
    assert_eq!(called(&mesh), "hello");
    tells(&mesh, "a symbolic link");
    assert_eq!(fs::read(&elsewhere).unwrap(), sound);
}

/// Writes what moves a terminal to its result and to its log, and fails if the payload is empty.
const RUDE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\0e\00\00\00\40\00\00\00\10\00\00\00")
    (data (i32.const 16) "\1b[2Jrude\c2\9b\e2\80\ae\n")
    (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 96)))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 96)))
        (if (i32.eqz (i32.load8_u (i32.const 64))) (then (call $exit (i32.const 3))))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 96)))))"#;

#[test]
fn control_characters_of_guests_reach_files_but_no_terminal() {
    let mesh = Mesh::found(SKEIN);
    mesh.publish_wat(0, "rude", RUDE).ok();
    let shown = "\\u001b[2Jrude\\u009b\\u202e";
    let failed = mesh.skein(0, &["invoke", "rude"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains(shown), "{}", failed.stderr);
    let obeyed = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
    assert!(!failed.stderr.contains(obeyed), "{:?}", failed.stderr);
    // A program that reads the result gets what the function wrote.
    let answered = mesh.skein(0, &["invoke", "rude", "-d", "x"]).ok();
    assert_eq!(answered.stdout, "\u{1b}[2Jrude\u{9b}\u{202e}\n".as_bytes());
    let json = mesh.skein(0, &["invoke", "rude", "-d", "x", "--json"]).ok();
    assert!(!String::from_utf8_lossy(&json.stdout).contains(obeyed));
    assert_eq!(json.json()["payload"], "\u{1b}[2Jrude\u{9b}\u{202e}\n");
}

#[test]
fn a_manifest_of_more_than_16_kib_is_refused_before_anything_is_kept() {
    let mesh = Mesh::found(SKEIN);
    mesh.file("f.wat", ECHO.as_bytes());
    let publish = |bytes: usize| {
        let text = format!("name = \"f\"\ncode = \"f.wat\"\ndescription = \"{}\"\n", "x".repeat(bytes));
        mesh.file("function.toml", text.as_bytes());
        mesh.skein(0, &["publish", mesh.home().to_str().unwrap()])
    };
    let refused = publish(16 << 10).failed(1, "too-large");
    assert!(refused.stderr.contains("default/f") && refused.stderr.contains("16384"), "{}", refused.stderr);
    assert_eq!(mesh.skein(0, &["functions", "--json"]).ok().json()["total"], 0);
    publish(15 << 10).ok();
}
