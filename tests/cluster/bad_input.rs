//! Bad input of every kind gets a clear error, the right codes, and leaves nothing half-done.

use skein_harness::{ECHO, Mesh, wasm};

use crate::SKEIN;

/// Publishes bytes that must be refused; what was said.
#[track_caller]
fn refused(mesh: &Mesh, name: &str, bytes: &[u8], says: &[&str]) {
    let file = mesh.file(&format!("{name}.wasm"), bytes);
    let ran = mesh.skein(0, &["publish", &file, "--as", name]).failed(1, "bad-module");
    for part in says {
        assert!(ran.stderr.contains(part), "{name}: no `{part}` in: {}", ran.stderr);
    }
    // Nothing of it is there.
    mesh.skein(0, &["function", "show", name]).failed(1, "function-not-found");
}

#[test]
fn what_is_no_runnable_module_is_refused_at_publish() {
    let mesh = Mesh::start(SKEIN, 1);
    refused(&mesh, "text", b"#!/bin/sh\necho hello\n", &["not"]);
    refused(&mesh, "empty", b"", &["empty"]);
    let echo = wasm(ECHO);
    for cut in [5, 9, echo.len() / 2, echo.len() - 1] {
        refused(&mesh, "cut", &echo[..cut], &[]);
    }
    let unknown = r#"(module (import "env" "fetch" (func)) (import "env" "store" (func (param i32)))
        (func (export "_start")))"#;
    refused(&mesh, "unknown", &wasm(unknown), &["env.fetch", "env.store"]);
    refused(&mesh, "nothing", &wasm("(module (func))"), &["_start"]);
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend([0; 8]);
    refused(&mesh, "component", &component, &["component"]);
    let zeros = vec![0; 100 << 20];
    let file = mesh.file("zeros.wasm", &zeros);
    mesh.skein(0, &["publish", &file]).failed(1, "too-large");
    // The server refuses it as well, whatever the command line does.
    let path = format!("/v1/artifacts/sha256:{}", "0".repeat(64));
    mesh.admin(0).send("PUT", &path, &[], zeros).problem(413, "too-large");
    refused(&mesh, "zeros", &vec![0; 10 << 20], &[]);
    mesh.publish_wat(0, "echo", ECHO).ok();
}

#[test]
fn settings_that_are_wrong_are_refused_by_name() {
    let mesh = Mesh::start(SKEIN, 1);
    let publish = |toml: &str| {
        mesh.file("f/f.wasm", &wasm(ECHO));
        let file = mesh.file("f/function.toml", toml.as_bytes());
        mesh.skein(0, &["publish", file.trim_end_matches("/function.toml")])
    };
    let said = publish("name = \"f\"\ncode = \"f.wasm\"\nlimit = 3\n").failed(1, "bad-manifest").stderr;
    assert!(said.contains("did you mean `limits`?"), "{said}");
    publish("name = \"F\"\ncode = \"f.wasm\"\n").failed(1, "bad-manifest");
    publish("name = \"f\"\ncode = \"f.wasm\"\nabi = \"http\"\n").failed(1, "bad-manifest");
    publish("name = \"f\"\ncode = \"f.wasm\"\n[limits]\ndeadline = \"1h\"\n").failed(1, "bad-manifest");
    publish("name = \"f\"\ncode = \"missing.wasm\"\n").failed(1, "not-found");
    let file = mesh.file("fn.js", b"export default 1");
    mesh.skein(0, &["publish", &file]).failed(1, "bad-module");
    let file = mesh.file("bad.wat", b"(module (func");
    mesh.skein(0, &["publish", &file]).failed(1, "bad-module");
}

/// A module whose `_start` is `body`, and its deadline of one second.
fn publish_guest(mesh: &Mesh, name: &str, body: &str) {
    let toml = format!("name = \"{name}\"\ncode = \"{name}.wat\"\n[limits]\ndeadline = \"1s\"\nmemory = \"8MiB\"\n");
    mesh.file(&format!("{name}/function.toml"), toml.as_bytes());
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
            (func (export "_start") {body}))"#
    );
    let file = mesh.file(&format!("{name}/{name}.wat"), text.as_bytes());
    mesh.skein(0, &["publish", file.trim_end_matches(&format!("/{name}.wat"))]).ok();
}

#[test]
fn guests_that_misbehave_end_with_an_error_of_their_own() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let cases: &[(&str, &str, u16, i32, &str)] = &[
        ("forever", "(loop $l (br $l))", 504, 4, "deadline-exceeded"),
        ("trap", "unreachable", 502, 1, "function-trapped"),
        ("outside", "(drop (i32.load (i32.const 10000000)))", 502, 1, "function-trapped"),
        ("deep", "(drop (call $deep (i32.const 1)))", 502, 1, "function-trapped"),
        ("fails", "(call $exit (i32.const 3))", 502, 1, "function-failed"),
        (
            "bomb",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            502,
            1,
            "memory-exceeded",
        ),
        (
            "flood",
            "(i32.store (i32.const 4) (i32.const 65536))
             (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))) (br $l))",
            502,
            1,
            "output-exceeded",
        ),
    ];
    for (name, body, status, exit, code) in cases {
        publish_guest(&mesh, name, body);
        mesh.gateway(0).post(&format!("/fn/default/{name}"), "x").problem(*status, code);
        mesh.skein(0, &["invoke", name, "-d", "x"]).failed(*exit, code);
        // The neighbour is not touched.
        assert_eq!(mesh.gateway(0).post("/fn/default/echo", "x").text(), "x", "after {name}");
    }
    let answer = mesh.gateway(0).post("/fn/default/fails", "").problem(502, "function-failed");
    assert_eq!((answer.json()["exit_code"].as_i64(), answer.json()["progress"].as_str()), (Some(3), Some("executed")));
}

#[test]
fn names_that_are_not_there_are_not_found() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let cases = [
        ("missing", "function-not-found"),
        ("shop/echo", "function-not-found"),
        ("echo@7", "version-not-found"),
        ("echo:blue", "alias-not-found"),
    ];
    for (reference, code) in cases {
        mesh.skein(0, &["invoke", reference]).failed(1, code);
        let path = if reference.contains('/') { reference.to_owned() } else { format!("default/{reference}") };
        mesh.gateway(0).post(&format!("/fn/{path}"), "").problem(404, code);
    }
    mesh.gateway(0).get("/nowhere").problem(404, "not-found");
    mesh.gateway(0).post("/fn/default/Bad..Name", "").problem(400, "bad-request");
    assert_eq!(mesh.skein(0, &["invoke", "Bad_Name"]).code, 2);
    assert_eq!(mesh.skein(0, &["nonsense"]).code, 2);
}

#[test]
fn payloads_are_taken_up_to_the_limit_and_not_a_byte_more() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.file("f/f.wasm", &wasm(ECHO));
    let toml = b"name = \"small\"\ncode = \"f.wasm\"\n[limits]\npayload = \"1000B\"\n";
    let file = mesh.file("f/function.toml", toml);
    mesh.skein(0, &["publish", file.trim_end_matches("/function.toml")]).ok();
    for (size, is_taken) in [(999, true), (1000, true), (1001, false)] {
        let answer = mesh.gateway(0).post("/fn/default/small", vec![b'x'; size]);
        if is_taken {
            assert_eq!((answer.status, answer.body.len()), (200, size));
        } else {
            answer.problem(413, "too-large");
        }
        let ran = mesh.skein_with(0, &["invoke", "small", "-"], &vec![b'x'; size]);
        assert_eq!(ran.code, i32::from(!is_taken), "{}", ran.stderr);
    }
}

#[test]
fn malformed_requests_of_the_admin_api_are_problems() {
    let mesh = Mesh::start(SKEIN, 1);
    let admin = mesh.admin(0);
    let json = [("content-type", "application/json")];
    admin.send("POST", "/v1/functions/default/f/versions", &json, b"{".to_vec()).problem(400, "bad-request");
    admin.send("POST", "/v1/functions/default/f/versions", &json, b"{}".to_vec()).problem(400, "bad-request");
    admin.send("POST", "/v1/keys", &json, br#"{"role":"king"}"#.to_vec()).problem(400, "bad-request");
    assert_eq!(admin.get("/v1/none").problem(404, "not-found").status, 404);
    let digest = format!("/v1/artifacts/sha256:{}", "0".repeat(64));
    let answer = admin.send("PUT", &digest, &[], b"other bytes".to_vec());
    assert!((400..500).contains(&answer.status), "{}", answer.text());
}

#[test]
fn a_mesh_that_is_not_there_is_reported_as_such() {
    let mut mesh = Mesh::start(SKEIN, 1);
    mesh.nodes[0].kill();
    mesh.skein(0, &["nodes"]).failed(3, "unreachable");
    mesh.skein(0, &["invoke", "echo", "-d", "x"]).failed(3, "unreachable");
    mesh.skein_bare(&["--context", "/nonexistent", "nodes"]).failed(1, "not-found");
}

#[test]
fn deleting_names_a_whole_function_and_nothing_less() {
    let mesh = Mesh::start(SKEIN, 1);
    mesh.publish_wat(0, "echo", ECHO).ok();
    for reference in ["echo@1", "echo:live", "default/echo:beta"] {
        let ran = mesh.skein(0, &["function", "delete", reference]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("default/echo"), "{}", ran.stderr);
    }
    assert_eq!(mesh.skein(0, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
}
