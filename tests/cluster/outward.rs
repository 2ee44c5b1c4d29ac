//! Functions that reach out: to one another across nodes, and to HTTP servers.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use skein_harness::{ECHO, Mesh, until};

use crate::SKEIN;

/// Reads its payload to 4096, does `action` with it, and gives the answer of the request that makes, or the failure as JSON.
fn guest(action: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "skein" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "skein" "http" (func $http (param i32 i32 i32 i32) (result i32)))
  (import "skein" "answer" (func $answer (param i32) (result i64)))
  (import "skein" "take" (func $take (param i32 i32)))
  (import "skein" "output" (func $output (param i32 i32)))
  (memory (export "memory") 4)
  (func (export "_start") (local $length i32) (local $request i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $length (i32.load (i32.const 8)))
    (local.set $request {action})
    (local.set $length (i32.wrap_i64 (call $answer (local.get $request))))
    (call $take (local.get $request) (i32.const 65536))
    (call $output (i32.const 65536) (local.get $length))))"#
    )
}

/// No bytes.
const NONE: &str = "(i32.const 0) (i32.const 0)";

/// Calls the function that the payload names, with the name as its payload.
pub(crate) fn ask() -> String {
    let name = "(i32.const 4096) (local.get $length)";
    guest(&format!("(call $invoke {name} {NONE} {name})"))
}

/// Sends the request whose head is the payload.
pub(crate) fn fetch() -> String {
    guest(&format!("(call $http (i32.const 4096) (local.get $length) {NONE})"))
}

/// Publishes `name`, with these further lines of function.toml.
pub(crate) fn publish(mesh: &Mesh, name: &str, guest: &str, settings: &str) {
    let settings = format!("name = \"{name}\"\ncode = \"{name}.wat\"\n{settings}\n");
    mesh.file(&format!("{name}/function.toml"), settings.as_bytes());
    let code = mesh.file(&format!("{name}/{name}.wat"), guest.as_bytes());
    mesh.skein(0, &["publish", code.trim_end_matches(&format!("/{name}.wat"))]).ok();
}

/// How many calls of `function` a node has run well.
fn calls(mesh: &Mesh, node: usize, function: &str) -> u64 {
    let metrics = mesh.admin(node).with_key(None).get("/metrics").text();
    let (function, ok) = (format!("function=\"{function}\""), "code=\"ok\"");
    let mut lines = metrics.lines().filter(|line| line.starts_with("skein_runtime_calls_total{"));
    let line = lines.find(|line| line.contains(&function) && line.contains(ok));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// A server of one request: tells when it is there, and answers when told to.
fn held_server() -> (SocketAddr, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ((told, tells), (answer, answers)) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        told.send(()).unwrap();
        answers.recv().unwrap();
        (&stream).write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    });
    (address, tells, answer)
}

#[test]
fn a_function_calls_one_that_runs_on_another_node() {
    let mesh = Mesh::start(SKEIN, 2);
    mesh.publish_wat(0, "echo", ECHO).ok();
    // Its node drains before it calls: what is new runs on the other, and it itself goes on.
    let (address, arrived, answer) = held_server();
    let head = format!("GET http://{address}/");
    let wait = format!("(drop (call $answer (call $http (i32.const 64) (i32.const {}) {NONE})))", head.len());
    let slow = ask().replace("(local.set $request", &format!("{wait}\n(local.set $request"));
    let slow = slow.replace("(memory", &format!("(data (i32.const 64) \"{head}\") (memory"));
    let grants = format!("[grants]\ninvoke = [\"default/echo\"]\nhttp = [\"http://{address}\"]");
    publish(&mesh, "slow", &slow, &format!("[limits]\ndeadline = \"2m\"\n{grants}"));
    let gateway = mesh.gateway(0);
    let call = thread::spawn(move || gateway.post("/fn/default/slow", "default/echo"));
    arrived.recv().unwrap();
    let outer = until("one of the nodes runs it", || {
        (0..2).find(|node| {
            let activations = mesh.try_status(*node).and_then(|status| status["activations"].as_array().cloned());
            activations.into_iter().flatten().any(|one| one["name"] == "slow" && one["in_flight"] == 1)
        })
    });
    let (name, other) = (mesh.nodes[outer].name.clone(), 1 - outer);
    mesh.skein(other, &["node", "drain", &name]).ok();
    until("it knows that it drains", || {
        let nodes = mesh.try_status(outer)?["nodes"].as_array()?.clone();
        nodes.iter().any(|node| node["name"] == name.as_str() && node["is_draining"] == true).then_some(())
    });
    let before = calls(&mesh, other, "echo");
    answer.send(()).unwrap();
    let answer = call.join().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("skein-node")), ("default/echo", Some(name.as_str())));
    assert_eq!(calls(&mesh, other, "echo"), before + 1, "the inner call ran on the other node");
    mesh.skein(other, &["node", "resume", &name]).ok();
    let refused = mesh.gateway(1).post("/fn/default/slow", "default/slow").text();
    assert!(refused.contains("not-granted") && refused.contains("invoke = [\\\"default/slow\\\"]"), "{refused}");
}

#[test]
fn a_loop_of_functions_is_named_and_ends() {
    let mesh = Mesh::start(SKEIN, 2);
    publish(&mesh, "ask", &ask(), "[grants]\ninvoke = [\"default/*\"]\n[limits]\nconcurrency = 1\ndeadline = \"1m\"");
    let answer = mesh.gateway(0).post("/fn/default/ask", "default/ask").text();
    assert!(answer.contains("limit-exceeded") && answer.contains("default/ask → default/ask"), "{answer}");
    let metrics = mesh.admin(0).with_key(None).get("/metrics").text();
    for family in ["skein_runtime_guests_waiting", "skein_runtime_outbound_total", "skein_runtime_outbound_seconds"] {
        assert!(metrics.contains(&format!("# HELP {family} ")), "no help for {family}");
    }
    assert!(metrics.contains("outcome=\"limit-exceeded\"") || metrics.contains("outcome=\"ok\""), "{metrics}");
}

#[test]
fn a_cycle_of_functions_is_named_by_its_functions() {
    let mesh = Mesh::start(SKEIN, 2);
    for (name, next) in [("x", "default/y"), ("y", "default/x")] {
        let call = format!("(call $invoke (i32.const 64) (i32.const {}) {NONE} {NONE})", next.len());
        let data = format!("(data (i32.const 64) \"{next}\") (memory");
        publish(&mesh, name, &guest(&call).replace("(memory", &data), "[grants]\ninvoke = [\"default/*\"]");
    }
    let answer = mesh.gateway(1).post("/fn/default/x", "").text();
    assert!(answer.contains("limit-exceeded") && answer.contains("(default/x → default/y → default/x)"), "{answer}");
}

#[test]
fn a_caller_that_goes_away_stops_what_its_function_called() {
    let mesh = Mesh::start(SKEIN, 2);
    let forever = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
    publish(&mesh, "forever", forever, "[limits]\ndeadline = \"10m\"");
    publish(&mesh, "ask", &ask(), "[grants]\ninvoke = [\"*\"]\n[limits]\ndeadline = \"10m\"");
    let mut caller = Command::new(mesh.binary())
        .args(["invoke", "ask", "-d", "default/forever", "--deadline", "10m"])
        .env("SKEIN_CONTEXT", mesh.nodes[0].context())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let in_flight = || -> u64 {
        let of = |node: usize| mesh.try_status(node).and_then(|status| status["activations"].as_array().cloned());
        let all = (0..2).filter_map(of).flatten();
        all.filter_map(|activation| activation["in_flight"].as_u64()).sum()
    };
    until("both functions run", || (in_flight() >= 2).then_some(()));
    caller.kill().unwrap();
    caller.wait().unwrap();
    until("both functions are stopped", || (in_flight() == 0).then_some(()));
}

/// Answers every request with its own head.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let body = head.join("\n");
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_function_sends_requests_where_it_was_granted_and_nowhere_else() {
    let mesh = Mesh::start(SKEIN, 1);
    let (granted, other) = (server(), server());
    publish(&mesh, "fetch", &fetch(), &format!("[grants]\nhttp = [\"http://{granted}\"]"));
    let head = format!("GET http://{granted}/path?q=1\nx-own: 7\nhost: evil.example\n");
    let answer = mesh.gateway(0).post("/fn/default/fetch", head.clone()).text();
    assert!(answer.starts_with("200\n") && answer.contains("GET /path?q=1 HTTP/1.1"), "{answer}");
    assert!(answer.contains("x-own: 7") && answer.contains("user-agent: skein/"), "{answer}");
    assert!(!answer.contains("evil.example"), "{answer}");
    let refused = mesh.gateway(0).post("/fn/default/fetch", format!("GET http://{other}/\n")).text();
    assert!(refused.contains("not-granted") && refused.contains(&other.to_string()), "{refused}");
    let said = mesh.skein(0, &["invoke", "fetch", "-v", "-d", &head]).ok();
    assert!(
        said.stderr.contains("1 calls and requests of others") && said.stderr.contains("to reset"),
        "{}",
        said.stderr
    );
    // The same without a mesh.
    let dir = mesh.home().join("fetch");
    let ran = mesh.skein_bare(&["run", dir.to_str().unwrap(), "-d", &head]).ok().text();
    assert!(ran.contains("GET /path?q=1"), "{ran}");
    let refused =
        mesh.file("bad/function.toml", b"name = \"bad\"\ncode = \"a.wat\"\n[grants]\nhttp = [\"a.example\"]\n");
    mesh.file("bad/a.wat", b"(module)");
    mesh.skein(0, &["publish", refused.trim_end_matches("/function.toml")]).failed(1, "bad-manifest");
}
