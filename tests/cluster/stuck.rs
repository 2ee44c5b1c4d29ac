//! A node that is stopped and goes on later: nobody is told of its death but by its silence.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use skein_harness::{ECHO, Load, Mesh, Node, until};

use crate::{SKEIN, migration::gather};

/// Calls a second while a node is stopped.
const RATE: u32 = 100;
/// How long it is stopped, in seconds: not long enough to be missed, just so, and long.
const STOPPED: [u64; 4] = [1, 3, 8, 20];
/// After how long nobody may wait for a stuck node any more. Two seconds are promised; the rest is for a busy machine.
const ROUTED_ROUND: Duration = Duration::from_millis(2_500);

/// The letter by which the system names the state of a node's process.
fn state(node: &Node) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    // The name before it is in brackets and may hold anything.
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap()
}

#[test]
fn a_stopped_node_is_routed_round_and_goes_on_where_it_was() {
    let mut mesh = Mesh::start(SKEIN, 3);
    mesh.publish_wat(0, "echo", ECHO).ok();
    for (round, seconds) in STOPPED.into_iter().enumerate() {
        // Each in turn; and all calls go to it, for a fault that concerns nobody shows nothing.
        let victim = round % 3;
        gather(&mesh, "echo", victim);
        stop_under_load(&mesh, victim, Duration::from_secs(seconds));
        mesh.settle();
        assert_eq!(mesh.gateway(victim).post("/fn/default/echo", "back").text(), "back");
    }
}

fn stop_under_load(mesh: &Mesh, victim: usize, time: Duration) {
    let rest: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let gateways = rest.iter().map(|node| mesh.nodes[*node].http().to_owned()).collect();
    let key = mesh.nodes[rest[0]].key();
    let load = Load { gateways, key, path: "/fn/default/echo".into(), body: "hello".into(), rate: RATE }.start();
    until("some calls", || (load.report().succeeded > u64::from(RATE)).then_some(()));
    let node = &mesh.nodes[victim];
    let before = load.report();
    assert!(before.samples.iter().any(|sample| sample.node.as_deref() == Some(&node.name)), "it had no calls");
    node.signal(Signal::STOP);
    let stopped = SystemTime::now();
    until("the system says that it is stopped", || (state(node) == 'T').then_some(()));
    load.run_for(time);
    assert_eq!(state(node), 'T', "it was stopped all the time");
    if time > ROUTED_ROUND {
        let status = mesh.try_status(rest[0]).unwrap();
        let seen =
            status["nodes"].as_array().unwrap().iter().find(|other| other["name"] == node.name.as_str()).cloned();
        assert_eq!(seen.unwrap()["state"], "down", "{status}");
        // What has to be written can be.
        mesh.skein(rest[0], &["alias", "set", "echo:x", "1"]).ok();
    }
    node.signal(Signal::CONT);
    load.run_for(Duration::from_secs(2));
    let report = load.stop().since(stopped);
    println!(
        "stopped for {time:?}: {} calls, {} failed, p99 {:?}, slowest {:?}",
        report.samples.len(),
        report.failed.len(),
        report.quantile(990),
        report.quantile(1_000)
    );
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);
    assert!(report.succeeded >= u64::from(RATE) * time.as_secs() / 2, "too little load to mean anything");
    // Whoever came later did not come to the stuck node at all.
    let late: Vec<_> = report
        .samples
        .iter()
        .filter(|sample| {
            sample.due > stopped + ROUTED_ROUND
                && sample.due < stopped + time.saturating_sub(Duration::from_millis(500))
        })
        .collect();
    assert!(late.iter().all(|sample| sample.node.as_deref() != Some(&node.name)), "{name} answered", name = node.name);
    let waited: Vec<_> = late.iter().filter(|sample| sample.took > Duration::from_secs(1)).collect();
    assert!(waited.is_empty(), "calls waited for it: {waited:?}");
}
