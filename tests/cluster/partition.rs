//! The network between nodes is cut, in both directions or in one: each side serves what it has, and only the majority
//! writes. Two nodes that only lost each other go on as before.

use std::time::{Duration, SystemTime};

use skein_harness::{ECHO, Load, Mesh, Running, Sample, until};

use crate::{SKEIN, migration::gather};

/// Calls a second at each side.
const RATE: u32 = 50;
/// How long the network is cut, with what is done meanwhile.
const CUT: Duration = Duration::from_secs(8);
/// After how long nobody may wait for the other side any more. Two seconds are promised; the rest is for a busy machine.
const ROUTED_ROUND: Duration = Duration::from_millis(2_500);
/// Within what a write without a majority must be refused.
const REFUSED: Duration = Duration::from_secs(2);

/// What is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Both,
    FromVictim,
    ToVictim,
}

impl Cut {
    fn each(self, victim: u8, mut act: impl FnMut(u8, u8)) {
        for other in (0..3).filter(|node| *node != victim) {
            if self != Self::ToVictim {
                act(victim, other);
            }
            if self != Self::FromVictim {
                act(other, victim);
            }
        }
    }
}

#[test]
fn a_minority_that_is_cut_off_serves_what_it_has_and_writes_nothing() {
    let mut mesh = mesh();
    let leader = mesh.leader();
    // A follower first, then the leader.
    partition(&mut mesh, (leader + 1) % 3, Cut::Both);
    let leader = mesh.leader();
    partition(&mut mesh, leader, Cut::Both);
}

#[test]
fn a_node_that_is_not_heard_serves_what_it_has_and_writes_nothing() {
    let mut mesh = mesh();
    let leader = mesh.leader();
    partition(&mut mesh, leader, Cut::FromVictim);
}

#[test]
fn a_node_that_hears_nobody_serves_what_it_has_and_writes_nothing() {
    let mut mesh = mesh();
    let leader = mesh.leader();
    partition(&mut mesh, leader, Cut::ToVictim);
}

#[test]
fn two_nodes_that_reach_all_others_but_not_each_other_fail_no_call() {
    let mut mesh = mesh();
    let leader = mesh.leader();
    let (caller, place) = ((leader + 1) % 3, (leader + 2) % 3);
    let load = load(&mesh, &[caller]);
    // Under load the mesh may have spread it.
    gather(&mesh, "echo", place);
    let gathered = SystemTime::now();
    load.run_for(Duration::from_millis(300));
    let wires = [caller, place].map(|node| u8::try_from(node).unwrap());
    let began = SystemTime::now();
    mesh.netns().cut(wires[0], wires[1]);
    mesh.netns().cut(wires[1], wires[0]);
    let name = mesh.nodes[place].name.as_str();
    let is_there = |sample: &Sample| sample.node.as_deref() == Some(name);
    assert!(load.report().since(gathered).samples.iter().any(is_there), "no call went over the wire");
    load.run_for(CUT);
    assert!(!mesh.netns().is_open(wires[0], wires[1]));
    // Neither is down: the third node hears both.
    let status = mesh.try_status(caller).expect("the caller serves");
    assert!(status["nodes"].as_array().unwrap().iter().all(|node| node["state"] != "down"), "{status}");
    let warnings: Vec<_> =
        status["warnings"].as_array().unwrap().iter().map(|one| one["message"].to_string()).collect();
    let is_told = |warning: &String| warning.contains(&format!("hears nothing from {name}"));
    assert!(warnings.iter().any(is_told), "the operator is told: {warnings:?}");
    let here = [caller, leader].map(|node| mesh.nodes[node].name.as_str());
    check(load, began, "one wire", &here);
    mesh.netns().heal(wires[0], wires[1]);
    mesh.netns().heal(wires[1], wires[0]);
    mesh.settle();
    assert_eq!(mesh.gateway(caller).post("/fn/default/echo", "x").text(), "x");
}

fn mesh() -> Mesh {
    let mesh = Mesh::start_apart(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    mesh
}

fn load(mesh: &Mesh, nodes: &[usize]) -> Running {
    let gateways = nodes.iter().map(|node| mesh.nodes[*node].http().to_owned()).collect();
    let key = mesh.nodes[nodes[0]].key();
    let load = Load { gateways, key, path: "/fn/default/echo".into(), body: "hello".into(), rate: RATE }.start();
    until("some calls", || (load.report().succeeded > u64::from(RATE)).then_some(()));
    load
}

#[test]
fn a_node_that_was_removed_while_it_was_cut_off_learns_it_and_ends() {
    let mut mesh = mesh();
    let leader = mesh.leader();
    let victim = (leader + 1) % 3;
    let wire = u8::try_from(victim).unwrap();
    let name = mesh.nodes[victim].name.clone();
    Cut::Both.each(wire, |from, to| mesh.netns().cut(from, to));
    until("it can be removed", || (mesh.skein(leader, &["node", "remove", &name]).code == 0).then_some(()));
    assert!(mesh.nodes[victim].is_running());
    Cut::Both.each(wire, |from, to| mesh.netns().heal(from, to));
    assert_eq!(mesh.nodes[victim].wait().code(), Some(1));
    let log = mesh.nodes[victim].log();
    assert!(log.contains("was removed from the mesh"), "{log}");
}

/// Cuts `victim` off under load at both sides, and heals it.
fn partition(mesh: &mut Mesh, victim: usize, cut: Cut) {
    let rest: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    // Where the other side will need it most: all calls are answered by nodes that are about to be out of reach.
    let place = if cut == Cut::Both { victim } else { rest[0] };
    gather(mesh, "echo", place);
    let (alone, together) = (load(mesh, &[victim]), load(mesh, &rest));
    let wire = u8::try_from(victim).unwrap();
    cut.each(wire, |from, to| mesh.netns().cut(from, to));
    let began = SystemTime::now();
    let quickest = (0..3).map(|_| refused(mesh, victim, began)).min().unwrap();
    // The best of three, since a busy machine may be late for its own reasons.
    assert!(quickest < REFUSED, "{cut:?}: a write without a majority was refused after {quickest:?} at best");
    until("the majority writes", || (mesh.skein(rest[0], &["alias", "set", "echo:cut", "1"]).code == 0).then_some(()));
    until("each side knows", || {
        let down = |node: usize, other: &str| {
            let status = mesh.try_status(node)?;
            let nodes = status["nodes"].as_array()?.clone();
            Some(nodes.iter().any(|seen| seen["name"] == other && seen["state"] == "down"))
        };
        (down(rest[0], &mesh.nodes[victim].name)? && down(victim, &mesh.nodes[rest[0]].name)?).then_some(())
    });
    alone.run_for(CUT.saturating_sub(began.elapsed().unwrap()));
    // The fault happened, and lasted.
    cut.each(wire, |from, to| assert!(!mesh.netns().is_open(from, to)));
    check(alone, began, &format!("{cut:?}: alone"), &[&mesh.nodes[victim].name]);
    check(
        together,
        began,
        &format!("{cut:?}: together"),
        &rest.iter().map(|node| mesh.nodes[*node].name.as_str()).collect::<Vec<_>>(),
    );
    cut.each(wire, |from, to| mesh.netns().heal(from, to));
    mesh.settle();
    let answer = until("the victim learns what was written", || {
        let answer = mesh.gateway(victim).post("/fn/default/echo:cut", "x");
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(answer.text(), "x");
}

/// How long a write at the node takes to be refused. Before the node has noticed, an attempt may find a majority.
fn refused(mesh: &Mesh, node: usize, began: SystemTime) -> Duration {
    let body = br#"{"version":1}"#.to_vec();
    let started = SystemTime::now();
    let answer = mesh.admin(node).send("PUT", "/v1/functions/default/echo/aliases/alone", &[], body);
    let took = started.elapsed().unwrap();
    assert_eq!(answer.status, 503, "{:?} after the cut: {}", began.elapsed(), answer.text());
    assert_eq!(answer.json()["code"], "no-quorum", "{}", answer.text());
    took
}

/// No call failed, and those that came when the cut was known ran at this side without a wait.
fn check(load: Running, began: SystemTime, what: &str, here: &[&str]) {
    let report = load.stop().since(began);
    let late = report.since(began + ROUTED_ROUND);
    println!(
        "{what}: {} calls, {} failed, slowest {:?}; {} of them late, slowest {:?}",
        report.samples.len(),
        report.failed.len(),
        report.quantile(1_000),
        late.samples.len(),
        late.quantile(1_000)
    );
    assert!(report.failed.is_empty(), "{what}: calls failed: {:?}", report.failed);
    assert!(late.succeeded > u64::from(RATE), "{what}: too little load to mean anything");
    let elsewhere: Vec<_> =
        late.samples.iter().filter(|sample| !here.contains(&sample.node.as_deref().unwrap_or_default())).collect();
    assert!(elsewhere.is_empty(), "{what}: {elsewhere:?}");
    let waited: Vec<_> = late.samples.iter().filter(|sample| sample.took > Duration::from_secs(1)).collect();
    assert!(waited.is_empty(), "{what}: calls waited for the other side: {waited:?}");
}
