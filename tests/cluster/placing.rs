//! Where calls go: apps bound to nodes, and what `skein why` says afterwards.

use std::time::Duration;

use serde_json::Value;
use skein_harness::{ECHO, Load, Mesh, until};

use crate::{
    SKEIN,
    outward::{ask, publish},
};

/// n1 in no zone, n2 in the EU, n3 in the US.
fn zones() -> Mesh {
    let mut mesh = Mesh::found(SKEIN);
    for zone in ["zone=eu", "zone=us"] {
        mesh.join_with(&["--label", zone]);
    }
    mesh.settle();
    mesh
}

fn node_of(mesh: &Mesh, gateway: usize) -> String {
    let answer = mesh.gateway(gateway).post("/fn/default/echo", "x");
    answer.header("skein-node").unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

/// Versions that a node has live, in whatever state.
fn live(mesh: &Mesh, node: usize) -> usize {
    mesh.try_status(node).unwrap()["activations"].as_array().unwrap().len()
}

#[test]
fn a_bound_app_runs_on_its_nodes_only_and_moves_under_calls_without_one_failing() {
    let mesh = zones();
    mesh.publish_wat(0, "echo", ECHO).ok();
    let nodes = mesh.skein(2, &["nodes", "--json"]).ok().json();
    assert_eq!(nodes["nodes"][1]["labels"]["zone"], "eu", "{nodes}");
    let gateways = mesh.nodes.iter().map(|node| node.http().to_owned()).collect();
    let key = mesh.nodes[0].key();
    let load = Load { gateways, key, path: "/fn/default/echo".into(), body: "hello".into(), rate: 200 }.start();
    load.run_for(Duration::from_secs(1));
    let bind = |node: usize, args: &[&str]| {
        let args: Vec<&str> = ["app", "bind", "default"].iter().chain(args).copied().collect();
        mesh.skein(node, &args).ok()
    };
    let places: [(&[&str], &str, usize); 5] = [
        (&["--label", "zone=eu"], "n2", 1),
        (&["--label", "zone=us"], "n3", 2),
        (&["--node", "n1"], "n1", 0),
        (&["--node", "n2", "--node", "n1", "--label", "zone=eu"], "n2", 1),
        (&["--label", "zone=us"], "n3", 2),
    ];
    for (turn, (args, name, index)) in places.into_iter().enumerate() {
        bind(turn % 3, args);
        for gateway in 0..3 {
            until("every gateway sends calls to the bound node", || (node_of(&mesh, gateway) == name).then_some(()));
        }
        for other in (0..3).filter(|other| *other != index) {
            until("nothing is live elsewhere", || (live(&mesh, other) == 0).then_some(()));
        }
        load.run_for(Duration::from_millis(500));
        assert!((0..3).all(|gateway| node_of(&mesh, gateway) == name), "calls stay at {name}");
    }
    let report = load.stop();
    assert!(report.succeeded > 500, "too little load to mean anything: {}", report.succeeded);
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);
    println!("{} calls, slowest {:?}", report.succeeded, report.latencies.iter().max().unwrap());

    let shown = mesh.skein(1, &["app", "show", "default", "--json"]).ok().json();
    assert_eq!((&shown["bound_to"], &shown["nodes"][0]), (&"nodes with zone=us".into(), &"n3".into()), "{shown}");
    assert!(mesh.skein(1, &["app", "ls"]).ok().text().contains("zone=us"));
}

#[test]
fn a_bound_app_without_a_node_says_what_it_is_bound_to_and_what_to_do() {
    let mut mesh = zones();
    mesh.skein(0, &["app", "create", "shop", "--label", "zone=us"]).ok();
    let file = mesh.file("price.wat", ECHO.as_bytes());
    let published = mesh.skein(0, &["publish", &file, "--as", "shop/price", "--json"]).ok().json();
    assert_eq!(published["serving"], serde_json::json!(["n3"]), "only a node that may run it must have compiled it");
    assert_eq!(mesh.skein(0, &["invoke", "shop/price", "-d", "x"]).ok().text(), "x");
    mesh.nodes[2].kill();
    let refused = until("the others know that it is gone", || {
        let ran = mesh.skein(0, &["invoke", "shop/price", "-d", "x"]);
        ran.stderr.contains("n3 is down").then_some(ran.failed(1, "unavailable"))
    });
    for words in ["app shop is bound to nodes with zone=us", "start such a node", "skein app bind shop"] {
        assert!(refused.stderr.contains(words), "no {words:?} in {}", refused.stderr);
    }
    mesh.skein(0, &["app", "bind", "shop", "--anywhere"]).ok();
    assert_eq!(mesh.skein(1, &["invoke", "shop/price", "-d", "x"]).ok().text(), "x");
    mesh.skein(0, &["app", "bind", "shop", "--node", "n9"]).failed(1, "not-found");
    assert_eq!(mesh.skein(0, &["app", "bind", "shop"]).code, 2, "nowhere is not a place");
    mesh.skein(0, &["app", "rm", "shop"]).failed(1, "conflict");
    mesh.skein(0, &["function", "delete", "shop/price"]).ok();
    mesh.skein(0, &["app", "rm", "shop"]).ok();
}

/// Calls a function at a node; gives the call's id and where it ran.
fn invoke(mesh: &Mesh, node: usize, function: &str, payload: &str) -> (String, String) {
    let reply = mesh.skein(node, &["invoke", function, "-d", payload, "--json"]).ok().json();
    let text = |field: &str| reply[field].as_str().unwrap().to_owned();
    (text("invocation"), text("node"))
}

fn why(mesh: &Mesh, node: usize, invocation: &str) -> Value {
    mesh.skein(node, &["why", invocation, "--json"]).ok().json()
}

#[test]
fn a_call_that_failed_is_explained_by_where_it_ran_and_for_how_long() {
    let mesh = Mesh::found(SKEIN);
    mesh.publish_wat(0, "trap", r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#).ok();
    let answer = mesh.gateway(0).post("/fn/default/trap", b"");
    let report = why(&mesh, 0, answer.header("skein-invocation").unwrap());
    assert_eq!((&report["ran_on"], &report["failure"]["progress"]), (&"n1".into(), &"executed".into()), "{report:#}");
    assert_eq!(report["candidates"][0]["is_chosen"], true, "{report:#}");
    assert!(!report["placed"].as_str().unwrap().contains("nowhere"), "{report:#}");
    let us = |part: &str| report["times"][part].as_u64().unwrap();
    assert!(us("run_us") > 0 && us("retry_us") == 0, "{report:#}");
}

#[test]
fn a_call_is_explained_cold_then_warm_here_and_at_a_peer() {
    let mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let (first, ran_on) = invoke(&mesh, 0, "echo", "x");
    let report = why(&mesh, 0, &first);
    assert_eq!((&report["function"], &report["start"]), (&"default/echo@1".into(), &"cold".into()), "{report:#}");
    assert_eq!((&report["ran_on"], &report["taken_by"]), (&ran_on.as_str().into(), &"n1".into()), "{report:#}");
    for words in ["not known to be warm on any node", "had not been live there since the node started"] {
        assert!(report["started"].as_str().unwrap().contains(words), "{report:#}");
    }
    assert_eq!(report["candidates"].as_array().unwrap().len(), 3, "{report:#}");
    let chosen: Vec<&Value> =
        report["candidates"].as_array().unwrap().iter().filter(|one| one["is_chosen"] == true).collect();
    assert_eq!((chosen.len(), &chosen[0]["node"], &chosen[0]["is_warm"]), (1, &report["ran_on"], &false.into()));
    let us = |report: &Value, part: &str| report["times"][part].as_u64().unwrap();
    let parts = ["route_us", "retry_us", "queue_us", "start_us", "run_us", "return_us"];
    assert!(us(&report, "start_us") > 0 && us(&report, "run_us") > 0, "{report:#}");
    let sum: u64 = parts.iter().map(|part| us(&report, part)).sum();
    assert!(sum <= us(&report, "total_us"), "{report:#}");

    // Where the first one ran, if that is known by then; on a busy machine the nodes' figures differ.
    let second = until("a warm call", || {
        let (id, _) = invoke(&mesh, 0, "echo", "x");
        (why(&mesh, 0, &id)["start"] != "cold").then_some(id)
    });
    // Asked of nodes that did not take the call.
    for node in [1, 2] {
        let report = why(&mesh, node, &second);
        assert!(["warm", "reused"].contains(&report["start"].as_str().unwrap()), "{report:#}");
        assert_eq!((us(&report, "start_us"), &report["taken_by"]), (0, &"n1".into()), "{report:#}");
    }
    let text = mesh.skein(2, &["why", &second]).ok().text();
    for word in ["taken by    n1", "CANDIDATE", "warm: ", "route", "return"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let verbose = mesh.skein(0, &["invoke", "echo", "-d", "x", "-v"]).ok().stderr;
    let id = verbose.lines().find_map(|line| line.strip_prefix("invocation")).unwrap().trim().to_owned();
    assert_eq!(why(&mesh, 1, &id)["invocation"], id.as_str());

    let unknown = mesh.skein(1, &["why", "00000000-0000-7000-8000-000000000000"]).failed(1, "not-found");
    assert!(unknown.stderr.contains("keeps its last 4096 calls"), "{}", unknown.stderr);
}

#[test]
fn a_call_that_was_retried_says_where_it_was_tried_first() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    // Not at the node that has the calls, so that each goes to one of the two others, picked at random.
    mesh.skein(0, &["app", "bind", "default", "--node", "n2", "--node", "n3"]).ok();
    let tried_twice = |mesh: &Mesh| {
        let (id, _) = invoke(mesh, 0, "echo", "x");
        let report = why(mesh, 0, &id);
        (report["attempts"].as_array().unwrap().len() == 2).then_some((id, report))
    };
    // Nobody is sent to a node that is known to be down: the calls must be quick.
    let found = (0..10).find_map(|_| {
        mesh.nodes[1].kill();
        let found = (0..10).find_map(|_| tried_twice(&mesh));
        mesh.nodes[1].restart();
        mesh.settle();
        found
    });
    let (id, report) = found.unwrap();
    let attempts = report["attempts"].as_array().unwrap();
    assert_eq!((&attempts[0]["node"], &attempts[1]["node"]), (&"n2".into(), &"n3".into()), "{report:#}");
    assert!(!attempts[0]["failure"].is_null() && attempts[1]["failure"].is_null(), "{report:#}");
    assert!(report["placed"].as_str().unwrap().contains("tried before: n2 ("), "{report:#}");
    assert!(report["times"]["retry_us"].as_u64().unwrap() > 0, "{report:#}");
    let text = mesh.skein(2, &["why", &id]).ok().text();
    assert!(text.contains("ATTEMPT") && text.contains("bound to other nodes"), "{text}");
}

#[test]
fn the_calls_of_a_function_are_explained_too() {
    let mesh = Mesh::start(SKEIN, 2);
    mesh.publish_wat(0, "echo", ECHO).ok();
    publish(&mesh, "ask", &ask(), "[grants]\ninvoke = [\"default/echo\"]");
    let (outer, _) = invoke(&mesh, 0, "ask", "default/echo");
    let report = why(&mesh, 1, &outer);
    let made = report["made"].as_array().unwrap();
    assert_eq!((made.len(), &made[0]["function"]), (1, &"default/echo@1".into()), "{report:#}");
    let inner = why(&mesh, 0, made[0]["invocation"].as_str().unwrap());
    assert_eq!((&inner["caller"], &inner["depth"]), (&outer.as_str().into(), &1.into()), "{inner:#}");
    assert!(mesh.skein(0, &["why", &outer]).ok().text().contains("CALLED"));
}

#[test]
fn a_node_that_has_just_joined_goes_on_reaching_members_that_were_there_before_it() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.skein(0, &["app", "bind", "default", "--node", "n3"]).ok();
    mesh.join();
    // What it learns of the mesh begins with states in which n3 was no member yet. Those that are gone are cut off after
    // two seconds.
    let load = Load {
        gateways: vec![mesh.nodes[3].http().to_owned()],
        key: mesh.nodes[3].key(),
        path: "/fn/default/echo".into(),
        body: "x".into(),
        rate: 20,
    };
    let load = load.start();
    load.run_for(Duration::from_secs(5));
    let report = load.stop();
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);
    assert!(report.succeeded > 50 && report.samples.iter().all(|sample| sample.node.as_deref() == Some("n3")));
}
