//! What is warm before it is called: callees of functions that start, and functions whose time has come.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use skein_harness::{Answer, ECHO, Mesh, until};

use crate::{SKEIN, outward};

/// A server that keeps whoever asks waiting until it is told to answer.
struct Held {
    address: SocketAddr,
    arrived: mpsc::Receiver<TcpStream>,
}

impl Held {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrives, arrived) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                // The test is over when nobody takes it.
                if arrives.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, arrived }
    }

    /// A guest that asks this server first, and then calls the function that its payload names.
    fn guest(&self) -> String {
        let head = format!("GET http://{}/", self.address);
        let request = format!("(call $http (i32.const 64) (i32.const {}) (i32.const 0) (i32.const 0))", head.len());
        let wait = format!("(drop (call $answer {request}))\n(local.set $request");
        let guest = outward::ask().replace("(local.set $request", &wait);
        guest.replace("(memory", &format!("(data (i32.const 64) \"{head}\") (memory"))
    }

    /// A call of `a` at the first node, with its request at this server.
    fn call(&self, mesh: &Mesh, callee: &'static str) -> (JoinHandle<Answer>, TcpStream) {
        let gateway = mesh.gateway(0);
        let call = thread::spawn(move || gateway.post("/fn/default/a", callee));
        let stream = self.arrived.recv().unwrap();
        (call, stream)
    }
}

/// Lets the guest go on, and gives what its caller got.
fn go_on((call, mut stream): (JoinHandle<Answer>, TcpStream)) -> Answer {
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    drop(stream);
    let answer = call.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Publishes `a`, which calls others, and `b`, each alone with what it stays without calls.
fn publish(mesh: &Mesh, held: &Held, b: &str) {
    let grants = format!("[grants]\ninvoke = [\"*\"]\nhttp = [\"http://{}\"]", held.address);
    let settings = format!("[limits]\ndeadline = \"2m\"\n{grants}\n[scale]\nidle = \"1s\"");
    outward::publish(mesh, "a", &held.guest(), &settings);
    outward::publish(mesh, "b", ECHO, &format!("{b}\n[scale]\nidle = \"5s\""));
}

fn live(mesh: &Mesh, node: usize, name: &str) -> Option<Value> {
    let status = mesh.try_status(node)?;
    status["activations"].as_array()?.iter().find(|one| one["name"] == name).cloned()
}

/// Waits until neither is live any more.
fn until_cold(mesh: &Mesh) {
    until("both have idled out", || {
        let nodes = 0..mesh.nodes.len();
        let is_live = |node| live(mesh, node, "a").is_some() || live(mesh, node, "b").is_some();
        (!nodes.into_iter().any(is_live)).then_some(())
    });
}

/// Versions made ready on a guess at a node: started, used, wasted.
fn prewarms(mesh: &Mesh, node: usize) -> [u64; 3] {
    let text = mesh.admin(node).with_key(None).get("/metrics").text();
    ["started", "used", "wasted"].map(|outcome| {
        let start = format!("skein_runtime_prewarms_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    })
}

#[test]
fn what_a_function_usually_calls_is_ready_before_it_calls() {
    let (mesh, held) = (Mesh::found(SKEIN), Held::start());
    publish(&mesh, &held, "");
    assert_eq!(go_on(held.call(&mesh, "default/b")).text(), "default/b");
    assert_eq!(prewarms(&mesh, 0), [0, 0, 0], "what is not yet known is not guessed");
    until_cold(&mesh);

    let call = held.call(&mesh, "default/b");
    let ready = until("b is ready while a has not called it", || {
        live(&mesh, 0, "b").filter(|status| status["state"] == "ready")
    });
    assert_eq!((&ready["calls"], prewarms(&mesh, 0)), (&0.into(), [1, 0, 0]), "{ready}");
    let answer = go_on(call);
    assert_eq!((answer.text().as_str(), prewarms(&mesh, 0)), ("default/b", [1, 1, 0]));
    let why = |id: &str| mesh.skein(0, &["why", id, "--json"]).ok().json();
    let outer = why(answer.header("skein-invocation").unwrap());
    let inner = why(outer["made"][0]["invocation"].as_str().unwrap());
    assert!(inner["started"].as_str().unwrap().contains("started ahead of this call"), "{inner:#}");
    assert!(!outer["started"].as_str().unwrap().contains("ahead"), "{outer:#}");
    until_cold(&mesh);

    // A guess that was wrong: it leaves as it came.
    go_on(held.call(&mesh, "default/none"));
    until("b has left without a call", || (prewarms(&mesh, 0) == [2, 1, 1]).then_some(()));
}

/// A window of two hours, the first of which has passed in as many hours; as `HH:MM-HH:MM`, in UTC.
fn window(begins_in: u64) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let hour = since / 3_600 % 24;
    format!("{:02}:00-{:02}:00", (hour + begins_in) % 24, (hour + begins_in + 2) % 24)
}

#[test]
fn in_its_window_a_function_is_kept_ready_and_outside_it_not() {
    let mesh = Mesh::start(SKEIN, 2);
    // The hour may end while the test runs; the window then goes on for another.
    let windows = [("now", window(0)), ("later", window(6))];
    for (name, between) in &windows {
        let schedule = format!("[[scale.schedule]]\nbetween = \"{between}\"\nwarm = 2");
        outward::publish(&mesh, name, ECHO, &format!("[scale]\nidle = \"1s\"\n{schedule}"));
    }
    for node in 0..2 {
        until("each node keeps one", || live(&mesh, node, "now").filter(|status| status["state"] == "ready"));
        assert!(live(&mesh, node, "later").is_none());
    }
    let reply = mesh.gateway(1).post("/fn/default/now", "x");
    assert_eq!((reply.text().as_str(), reply.header("skein-start")), ("x", Some("warm")));
    let shown = mesh.skein(0, &["function", "show", "now"]).ok().text();
    let expected = format!("warm 2 on every day between {} UTC", windows[0].1);
    assert!(shown.contains(&expected) && shown.contains("scale: warm 0, "), "{shown}");
    let detail = mesh.skein(0, &["function", "show", "now", "--json"]).ok().json();
    assert_eq!(
        detail["versions"][0]["manifest"]["scale"]["schedule"][0]["between"],
        windows[0].1.as_str(),
        "{detail:#}"
    );
}

#[test]
fn a_callee_is_made_ready_where_its_app_may_run() {
    let (mesh, held) = (Mesh::start(SKEIN, 2), Held::start());
    mesh.skein(0, &["app", "create", "far", "--node", "n2"]).ok();
    publish(&mesh, &held, "app = \"far\"");
    mesh.skein(0, &["app", "bind", "default", "--node", "n1"]).ok();
    assert_eq!(go_on(held.call(&mesh, "far/b")).text(), "far/b");
    until_cold(&mesh);
    until("the first node has heard of it", || {
        let nodes = mesh.skein(0, &["nodes", "--json"]).ok().json();
        nodes["nodes"].as_array()?.iter().all(|node| node["load"]["activations"] == 0).then_some(())
    });

    let call = held.call(&mesh, "far/b");
    until("b is ready on the other node", || live(&mesh, 1, "b").filter(|status| status["state"] == "ready"));
    assert_eq!((prewarms(&mesh, 0), prewarms(&mesh, 1)), ([0, 0, 0], [1, 0, 0]));
    go_on(call);
    assert_eq!(prewarms(&mesh, 1), [1, 1, 0]);
}
