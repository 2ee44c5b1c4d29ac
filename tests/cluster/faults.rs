//! Nodes are killed while the mesh works. Nothing acknowledged is lost, and the survivors answer on.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use skein_harness::{ECHO, Load, LoadReport, Mesh, PATIENCE, until};

use crate::SKEIN;

/// Calls a second while nodes die.
const RATE: u32 = 200;
/// How long the load goes on for each victim: before, during and after its death. `SKEIN_FAULT_SECONDS` overrides it
/// for a shorter or longer look.
fn load_time() -> Duration {
    let seconds = std::env::var("SKEIN_FAULT_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// Kills `victim` under load against the others, publishes meanwhile, brings it back.
fn kill_under_load(mesh: &mut Mesh, victim: usize) {
    let survivor = (victim + 1) % mesh.nodes.len();
    let gateways = (0..mesh.nodes.len()).filter(|i| *i != victim).map(|i| mesh.nodes[i].http().to_owned()).collect();
    let key = mesh.nodes[survivor].key();
    let load = Load { gateways, key, path: "/fn/default/echo".into(), body: "hello".into(), rate: RATE }.start();
    load.run_for(load_time() / 5);
    mesh.nodes[victim].kill();
    let killed = SystemTime::now();
    mesh.publish_wat(survivor, &format!("after-{victim}"), ECHO).ok();
    let writable_after = killed.elapsed().unwrap();
    load.run_for(load_time().saturating_sub(killed.elapsed().unwrap()));
    let report = load.stop();
    println!("victim {victim}: a publish was acknowledged {writable_after:?} after the kill; {}", describe(&report));
    assert!(report.succeeded >= u64::from(RATE) * load_time().as_secs() / 2, "too little load to mean anything");
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);

    mesh.nodes[victim].restart();
    mesh.settle();
    assert_eq!(mesh.skein(victim, &["invoke", &format!("after-{victim}"), "-d", "x"]).ok().text(), "x");
}

fn describe(report: &LoadReport) -> String {
    let mut latencies = report.latencies.clone();
    latencies.sort();
    let at = |share: usize| latencies.get(latencies.len() * share / 1000).copied().unwrap_or_default();
    format!("{} calls, p50 {:?}, p99 {:?}, slowest {:?}", report.succeeded, at(500), at(990), latencies.last().unwrap())
}

#[test]
fn any_one_of_three_may_die_and_the_others_answer_on() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let leader = mesh.leader();
    // The leader first, then the others.
    for offset in 0..3 {
        kill_under_load(&mut mesh, (leader + offset) % 3);
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_all() {
    let mut mesh = Mesh::start(SKEIN, 3);
    for i in 0..6 {
        mesh.publish_wat(i % 3, &format!("f{i}"), ECHO).ok();
    }
    mesh.skein(1, &["alias", "set", "f0:blue", "1"]).ok();
    for node in &mesh.nodes {
        node.signal(Signal::STOP);
    }
    for node in &mut mesh.nodes {
        node.kill();
    }
    for node in &mut mesh.nodes {
        node.restart();
    }
    mesh.settle();
    for i in 0..3 {
        for f in 0..6 {
            assert_eq!(mesh.skein(i, &["invoke", &format!("f{f}"), "-d", "x"]).ok().text(), "x", "f{f} at node {i}");
        }
        assert_eq!(mesh.skein(i, &["invoke", "f0:blue", "-d", "x"]).ok().text(), "x");
    }
    mesh.publish_wat(2, "later", ECHO).ok();
}

#[test]
fn without_a_quorum_functions_answer_and_writes_are_refused_in_time() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh.nodes[1].kill();
    mesh.nodes[2].kill();
    let started = SystemTime::now();
    let file = mesh.file("late.wat", ECHO.as_bytes());
    mesh.skein(0, &["publish", &file]).failed(3, "no-quorum");
    assert!(started.elapsed().unwrap() < PATIENCE);
    mesh.skein(0, &["alias", "set", "echo:x", "1"]).failed(3, "no-quorum");
    assert_eq!(mesh.gateway(0).post("/fn/default/echo", "still").text(), "still");
    assert_eq!(mesh.skein(0, &["invoke", "echo", "-d", "still"]).ok().text(), "still");
    let status = until("a status that says what is wrong", || {
        let status = mesh.skein(0, &["status"]).ok().text();
        status.contains("no majority of the voters answers").then_some(status)
    });
    assert!(status.contains("next: start the missing voters again"), "{status}");
    assert_eq!(mesh.admin(0).get("/readyz").status, 503);

    mesh.nodes[1].restart();
    until("writes again", || (mesh.skein(0, &["alias", "set", "echo:x", "1"]).code == 0).then_some(()));
}

#[test]
fn a_dead_voter_is_replaced_by_a_worker_that_may_vote() {
    let mut mesh = Mesh::start(SKEIN, 4);
    let status = mesh.try_status(0).unwrap();
    let voters = status["consensus"]["voters"].as_array().unwrap().clone();
    assert_eq!(voters.len(), 3, "{status}");
    let leader = mesh.leader();
    let victim = (0..4).find(|i| *i != leader && voters.iter().any(|name| *name == mesh.nodes[*i].name)).unwrap();
    let spare = (0..4).find(|i| !voters.iter().any(|name| *name == mesh.nodes[*i].name)).unwrap();
    mesh.nodes[victim].kill();
    until("the spare node votes", || {
        let status = mesh.try_status(leader)?;
        let voters = status["consensus"]["voters"].as_array()?.clone();
        let has = |i: usize| voters.iter().any(|name| *name == mesh.nodes[i].name);
        (voters.len() == 3 && has(spare) && !has(victim)).then_some(())
    });
    mesh.nodes[victim].restart();
    mesh.settle();
}

#[test]
fn a_removed_node_is_refused_for_good() {
    let mut mesh = Mesh::start(SKEIN, 4);
    let leader = mesh.leader();
    let victim = (leader + 1) % 4;
    let name = mesh.nodes[victim].name.clone();
    mesh.nodes[victim].kill();
    until("the others notice", || {
        let status = mesh.try_status(leader)?;
        let nodes = status["nodes"].as_array()?.clone();
        nodes.iter().any(|node| node["name"] == name.as_str() && node["state"] == "down").then_some(())
    });
    let key = mesh.nodes[victim].key();
    mesh.skein(leader, &["node", "remove", &name]).ok();
    mesh.admin(leader).with_key(Some(&key)).get("/v1/nodes").problem(401, "unauthenticated");
    let nodes = mesh.skein(leader, &["nodes", "--json"]).ok().json();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 3, "{nodes}");
    mesh.skein(leader, &["node", "remove", &name]).failed(1, "not-found");
    // Started again it never serves: what it has is old, and the key good by it alone.
    let started = mesh.skein_bare(&["up", "--data", mesh.nodes[victim].data.to_str().unwrap()]).failed(1, "untrusted");
    assert!(started.stderr.contains("was removed from the mesh"), "{}", started.stderr);
    assert_eq!(started.text(), "", "it was never ready");
    let publish = mesh.publish_wat(leader, "echo", ECHO).ok().text();
    assert!(publish.starts_with("default/echo@1"));
}

#[test]
fn a_removed_node_that_runs_learns_it_and_ends() {
    let mut mesh = Mesh::start(SKEIN, 3);
    let leader = mesh.leader();
    // The first leaves a mesh of two: what it must hear comes from one node alone.
    for victim in [(leader + 1) % 3, (leader + 2) % 3] {
        let name = mesh.nodes[victim].name.clone();
        until("the rest can do without it", || {
            (mesh.skein(leader, &["node", "remove", &name]).code == 0).then_some(())
        });
        let ended = mesh.nodes[victim].wait();
        assert_eq!(ended.code(), Some(1));
        let log = mesh.nodes[victim].log();
        assert!(log.contains("was removed from the mesh"), "{log}");
    }
}

#[test]
fn two_nodes_removed_at_the_same_time_leave_a_mesh_that_writes() {
    let mut mesh = Mesh::start(SKEIN, 3);
    let stays = mesh.leader();
    let gone = [(stays + 1) % 3, (stays + 2) % 3];
    let names = gone.map(|i| mesh.nodes[i].name.clone());
    let remove = |name: &str| mesh.skein(stays, &["node", "remove", name]).ok();
    std::thread::scope(|scope| {
        let removals = [scope.spawn(|| remove(&names[0])), scope.spawn(|| remove(&names[1]))];
        removals.into_iter().for_each(|removal| drop(removal.join().expect("both are removed")));
    });
    for i in gone {
        assert_eq!(mesh.nodes[i].wait().code(), Some(1));
        assert!(mesh.nodes[i].log().contains("was removed from the mesh"));
    }
    let publish = mesh.publish_wat(stays, "echo", ECHO).ok().text();
    assert!(publish.starts_with("default/echo@1"), "{publish}");
}

#[test]
fn the_first_node_of_a_mesh_of_two_can_be_taken_away() {
    let mut mesh = Mesh::start(SKEIN, 2);
    mesh.publish_wat(0, "echo", ECHO).ok();
    let first = mesh.nodes[0].name.clone();
    until("the other is known to be alive and to have the log", || {
        (mesh.skein(1, &["node", "remove", &first]).code == 0).then_some(())
    });
    assert_eq!(mesh.nodes[0].wait().code(), Some(1));
    mesh.publish_wat(1, "other", ECHO).ok();
    assert_eq!(mesh.skein(1, &["invoke", "echo", "-d", "x"]).ok().text(), "x");
}
