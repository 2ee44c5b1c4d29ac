//! Versions move between nodes under load: no call fails, and none runs twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use skein_harness::{Call, Calls, ECHO, Expected, Ledger, Mesh, PATIENCE, until};

use crate::{SKEIN, outward};

/// Functions that move, all at the same time.
const FUNCTIONS: usize = 12;
/// Moves of the campaign.
const MOVES: u64 = 1_000;
/// Calls a second, over all functions and entrances.
const RATE: u32 = 200;
/// Between two moves of one function: several calls come in that time, and the next move comes long before the peers have
/// forgotten the last.
const MOVE_PERIOD: Duration = Duration::from_millis(250);
/// How long an execution is in flight.
const IN_FLIGHT: Duration = Duration::from_millis(15);

/// Moves a function round the mesh, from the node with number `at`, until enough moves were made in all.
async fn move_round(admins: Vec<(String, String)>, function: String, mut at: usize, moves: Arc<AtomicU64>) {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut ticks = tokio::time::interval(MOVE_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for step in 0.. {
        ticks.tick().await;
        // By way of the source, the target and a third in turn.
        let (admin, key) = &admins[(at + step) % admins.len()];
        let to = (at + 1 + step % (admins.len() - 1)) % admins.len();
        let body = json!({ "from": format!("n{}", at + 1), "to": format!("n{}", to + 1) });
        let url = format!("http://{admin}/v1/functions/default/{function}/versions/1/migrate");
        let answer = client.post(url).bearer_auth(key).json(&body).send().await.unwrap();
        let (status, report) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!(status, 200, "{function}: {body}: {report}");
        at = to;
        if moves.fetch_add(1, Ordering::SeqCst) + 1 >= MOVES {
            return;
        }
    }
}

/// The sum of a metric over all nodes and labels.
pub(crate) fn total(mesh: &Mesh, metric: &str) -> f64 {
    let of = |node: usize| mesh.admin(node).with_key(None).get("/metrics").text();
    let texts: Vec<String> = (0..mesh.nodes.len()).map(of).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    let values =
        lines.filter(|line| line.starts_with(metric)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>()
}

/// Has a function run on one node only, and its calls go there from everywhere.
pub(crate) fn gather(mesh: &Mesh, function: &str, to: usize) {
    let is_live = |node: usize| {
        let activations = mesh.try_status(node)?["activations"].as_array()?.clone();
        Some(activations.iter().any(|one| one["name"] == function && one["state"] == "ready"))
    };
    until("its calls go there", || {
        let name = mesh.nodes[to].name.as_str();
        let body = if function == "echo" { "x" } else { "" };
        let asked = |node: usize| mesh.gateway(node).post(&format!("/fn/default/{function}"), body);
        let is_there = |node: usize| asked(node).header("skein-node") == Some(name);
        if (0..mesh.nodes.len()).all(is_there) {
            return Some(());
        }
        for from in (0..mesh.nodes.len()).filter(|from| *from != to && is_live(*from) == Some(true)) {
            let from = mesh.nodes[from].name.as_str();
            mesh.skein(0, &["function", "move", function, "--from", from, "--to", name]).ok();
        }
        None
    });
}

/// The node that runs a function, by asking it.
fn place(mesh: &Mesh, function: &str, body: &str) -> usize {
    let answer = mesh.gateway(0).post(&format!("/fn/default/{function}"), body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.header("skein-node").unwrap().to_owned();
    mesh.nodes.iter().position(|node| node.name == name).unwrap()
}

#[test]
fn a_thousand_moves_under_load_fail_no_call_and_repeat_none() {
    let mesh = Mesh::start(SKEIN, 3);
    let ledger = Ledger::start(IN_FLIGHT);
    let origin = ledger.origin();
    let functions: Vec<String> = (0..FUNCTIONS).map(|i| format!("f{i}")).collect();
    for function in &functions {
        // The grant says that it has effects: the mesh must not repeat what may have run.
        outward::publish(&mesh, function, &outward::fetch(), &format!("[grants]\nhttp = [\"{origin}\"]"));
    }
    let places: Vec<_> =
        functions.iter().map(|function| place(&mesh, function, &format!("POST {origin}/first-{function}\n"))).collect();
    let (named, at) = (functions.clone(), origin.clone());
    let call = move |number: u64| {
        let function = &named[number as usize % named.len()];
        let body = format!("POST {at}/call-{number}\n");
        Call { path: format!("/fn/default/{function}"), body, answer: Expected::Containing(format!("/call-{number}")) }
    };
    let gateways = mesh.nodes.iter().map(|node| node.http().to_owned()).collect();
    let load = Calls { gateways, key: mesh.nodes[0].key(), rate: RATE, call: Arc::new(call) }.start();
    until("some calls before the first move", || (load.report().succeeded > u64::from(RATE)).then_some(()));
    let (quiet, began) = (load.report(), SystemTime::now());

    let (moves, admins) = (Arc::new(AtomicU64::new(0)), admins(&mesh));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut movers = tokio::task::JoinSet::new();
        for (function, at) in functions.iter().zip(&places) {
            movers.spawn(move_round(admins.clone(), function.clone(), *at, moves.clone()));
        }
        movers.join_all().await;
    });
    let took = began.elapsed().unwrap();
    let report = load.stop();

    let during = report.since(began);
    println!(
        "{} moves in {took:.1?}; a caller saw p50 {:?}, p99 {:?}, slowest {:?} (before the moves p50 {:?}, p99 {:?})",
        moves.load(Ordering::SeqCst),
        during.quantile(500),
        during.quantile(990),
        during.quantile(1_000),
        quiet.quantile(500),
        quiet.quantile(990),
    );
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);
    let executed: BTreeMap<String, u32> =
        ledger.entries().into_iter().filter(|(path, _)| path.starts_with("/call-")).collect();
    let repeated: Vec<_> = executed.iter().filter(|(_, times)| **times != 1).collect();
    assert!(repeated.is_empty(), "executed more than once: {repeated:?}");
    assert_eq!(executed.len() as u64, report.succeeded, "each call that was answered was executed");
    // A campaign in which little moved, or nobody was there to notice, proves nothing.
    assert!(moves.load(Ordering::SeqCst) >= MOVES && total(&mesh, "skein_moves_total{") >= MOVES as f64);
    assert!(during.succeeded >= 2 * MOVES, "only {} calls while {MOVES} moves were made", during.succeeded);
    let redirects = total(&mesh, "skein_router_redirects_total");
    println!("{redirects} of {} calls came to the old place and were sent on", during.succeeded);
    assert!(redirects > 0.0, "no call ever came to the old place");
}

fn admins(mesh: &Mesh) -> Vec<(String, String)> {
    mesh.nodes.iter().map(|node| (node.admin().to_owned(), node.key())).collect()
}

#[test]
fn an_operator_moves_a_function_by_name() {
    let mesh = Mesh::start(SKEIN, 2);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let at = place(&mesh, "echo", "x");
    let (from, to) = (mesh.nodes[at].name.as_str(), mesh.nodes[1 - at].name.as_str());
    let said = mesh.skein(0, &["function", "move", "echo", "--from", from, "--to", to]).ok().text();
    assert_eq!(said, format!("default/echo@1: {from} -> {to}"));
    assert_eq!(place(&mesh, "echo", "x"), 1 - at, "calls follow it at once");
    let moved = |from: &str, to: &str| mesh.skein(0, &["function", "move", "echo@1", "--from", from, "--to", to]);
    moved(from, from).failed(2, "bad-request");
    moved(from, "nobody").failed(1, "not-found");
    mesh.skein(0, &["function", "move", "echo:x", "--from", from, "--to", to]).failed(1, "alias-not-found");
    let report = mesh.skein(0, &["--json", "function", "move", "echo", "--from", to, "--to", from]).ok().json();
    assert_eq!((report["from"].as_str(), report["to"].as_str()), (Some(to), Some(from)));
    assert_eq!(place(&mesh, "echo", "x"), at);
    mesh.skein(0, &["node", "drain", to]).ok();
    until("the drain is known", || {
        let ran = moved(from, to);
        (ran.code == 1 && ran.stderr.contains("[unavailable]")).then_some(())
    });
}

#[test]
fn where_a_version_moved_to_a_node_that_dies_it_comes_back() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let at = place(&mesh, "echo", "x");
    let to = (at + 1) % 3;
    let (from_name, to_name) = (mesh.nodes[at].name.clone(), mesh.nodes[to].name.clone());
    mesh.skein(at, &["function", "move", "echo", "--from", &from_name, "--to", &to_name]).ok();
    mesh.nodes[to].kill();
    for _ in 0..20 {
        assert_eq!(mesh.gateway(at).post("/fn/default/echo", "x").text(), "x");
    }
}
