//! Nodes join, are drained, end and die under load that must not run twice: what fails, and what must not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use skein_harness::{Call, Calls, Expected, Ledger, LoadReport, Mesh, Running, until};

use crate::{
    SKEIN,
    migration::{gather, total},
    outward,
};

/// Functions that are called.
const FUNCTIONS: usize = 6;
/// Calls a second, over all of them.
const RATE: u32 = 100;
/// How long an execution is in flight.
const IN_FLIGHT: Duration = Duration::from_millis(20);
/// How long the load goes on after the fault.
const AFTER: Duration = Duration::from_secs(4);

/// A mesh with functions that write each of their executions down, and calls of them.
struct Scene {
    mesh: Mesh,
    ledger: Ledger,
}

impl Scene {
    fn of(nodes: usize) -> Self {
        let (mesh, ledger) = (Mesh::start(SKEIN, nodes), Ledger::start(IN_FLIGHT));
        for i in 0..FUNCTIONS {
            let grant = format!("[grants]\nhttp = [\"{}\"]", ledger.origin());
            outward::publish(&mesh, &format!("f{i}"), &outward::fetch(), &grant);
        }
        Self { mesh, ledger }
    }

    /// Calls of all functions by way of these nodes, of which some have been answered.
    fn load(&self, entrances: &[usize]) -> Running {
        let origin = self.ledger.origin();
        let call = move |number: u64| Call {
            path: format!("/fn/default/f{}", number as usize % FUNCTIONS),
            body: format!("POST {origin}/call-{number}\n"),
            answer: Expected::Containing(format!("/call-{number}")),
        };
        let gateways = entrances.iter().map(|node| self.mesh.nodes[*node].http().to_owned()).collect();
        let key = self.mesh.nodes[entrances[0]].key();
        let load = Calls { gateways, key, rate: RATE, call: Arc::new(call) }.start();
        until("some calls", || (load.report().succeeded > u64::from(RATE)).then_some(()));
        load
    }

    /// Has all functions run on one node.
    fn gather(&self, node: usize) {
        (0..FUNCTIONS).for_each(|i| gather(&self.mesh, &format!("f{i}"), node));
    }

    /// Ends the load; no call was executed twice, and each that was answered was executed.
    fn end(&self, load: Running, since: SystemTime) -> LoadReport {
        let report = load.stop();
        let entries: BTreeMap<String, u32> = self.ledger.entries();
        let repeated: Vec<_> = entries.iter().filter(|(_, times)| **times != 1).collect();
        assert!(repeated.is_empty(), "executed more than once: {repeated:?}");
        assert!(entries.len() as u64 >= report.succeeded, "{} executed, {} answered", entries.len(), report.succeeded);
        let after = report.since(since);
        println!(
            "{} calls after it, {} failed, p50 {:?}, p99 {:?}, slowest {:?}",
            after.samples.len(),
            after.samples.len() as u64 - after.succeeded,
            after.quantile(500),
            after.quantile(990),
            after.quantile(1_000)
        );
        assert!(after.succeeded >= u64::from(RATE) * AFTER.as_secs() / 2, "too little load to mean anything");
        after
    }
}

fn check_none_failed(report: &LoadReport) {
    assert!(report.failed.is_empty(), "calls failed: {:?}", report.failed);
}

#[test]
fn a_drained_node_hands_over_what_is_in_use_and_no_call_fails() {
    let scene = Scene::of(3);
    let mesh = &scene.mesh;
    let busiest = mesh.leader();
    scene.gather(busiest);
    let load = scene.load(&[0, 1, 2]);
    let name = mesh.nodes[busiest].name.clone();
    let report = load.report();
    let had_calls = report.samples.iter().any(|sample| sample.node.as_deref() == Some(&name));
    let drained = SystemTime::now();
    mesh.skein((busiest + 1) % 3, &["node", "drain", &name]).ok();
    load.run_for(AFTER);
    // The fault happened: it had calls, handed its versions over, and runs none any more.
    assert!(had_calls, "{name} had nothing to hand over");
    assert!(total(mesh, "skein_moves_total{why=\"leaving\",outcome=\"ok\"}") >= 1.0);
    until("it has stopped everything", || {
        mesh.try_status(busiest)?["activations"].as_array()?.is_empty().then_some(())
    });
    let after = scene.end(load, drained);
    check_none_failed(&after);
    let late = after.since(drained + Duration::from_secs(3));
    assert!(late.samples.iter().all(|sample| sample.node.as_deref() != Some(&name)), "{name} took calls when drained");
}

#[test]
fn sigterm_hands_over_and_no_call_fails_or_runs_twice() {
    let mut scene = Scene::of(3);
    let leaving = scene.mesh.leader();
    let rest: Vec<usize> = (0..3).filter(|node| *node != leaving).collect();
    scene.gather(leaving);
    let load = scene.load(&rest);
    let told = SystemTime::now();
    assert!(scene.mesh.nodes[leaving].terminate().success());
    load.run_for(AFTER);
    assert!(scene.mesh.nodes[leaving].log().contains("why=\"leaving\""), "nothing was handed over");
    let report = scene.mesh.nodes[leaving].log();
    assert!(report.contains("left"), "{report}");
    let after = scene.end(load, told);
    check_none_failed(&after);
}

#[test]
fn a_balancer_that_asks_whether_a_node_is_ready_has_time_to_notice() {
    let mut scene = Scene::of(3);
    // Whoever comes by way of the node that leaves, as long as that says that it is ready, and a moment longer.
    let leaving = scene.mesh.leader();
    let load = scene.load(&[leaving]);
    let told = SystemTime::now();
    scene.mesh.nodes[leaving].signal(Signal::TERM);
    until("it says that it is not ready", || (scene.mesh.admin(leaving).get("/readyz").status == 503).then_some(()));
    load.run_for(Duration::from_millis(500));
    let report = load.stop().since(told);
    assert!(report.succeeded > 0);
    check_none_failed(&report);
    assert!(scene.mesh.nodes[leaving].wait().success());
}

#[test]
fn sigterm_of_the_node_that_a_client_is_connected_to_costs_it_nothing() {
    let mut scene = Scene::of(3);
    let leaving = scene.mesh.leader();
    let context = skein_client::Context::load(scene.mesh.nodes[leaving].context()).unwrap();
    let (origin, stop) = (scene.ledger.origin(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let caller = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mesh = skein_client::Mesh::connect(context).await.unwrap();
            let (mut calls, mut ended) = (tokio::task::JoinSet::new(), Vec::new());
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                ticks.tick().await;
                let function = mesh.function(&format!("f{}", number % FUNCTIONS)).unwrap();
                let body = format!("POST {origin}/call-{number}\n");
                calls.spawn(async move { function.invoke(body).await });
                ended.extend(std::iter::from_fn(|| calls.try_join_next()).map(Result::unwrap));
            }
            ended.extend(calls.join_all().await);
            ended
        })
    });
    until("some calls", || (scene.ledger.entries().len() > RATE as usize).then_some(()));
    assert!(scene.mesh.nodes[leaving].terminate().success());
    let before = scene.ledger.entries().len();
    until("calls at the others", || (scene.ledger.entries().len() > before + RATE as usize).then_some(()));
    stop.store(true, Ordering::SeqCst);
    let ended = caller.join().unwrap();
    let failed: Vec<_> = ended.iter().filter_map(|ended| ended.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {failed:?}", failed.len(), ended.len());
    assert!(scene.ledger.entries().values().all(|times| *times == 1), "executed more than once");
}

#[test]
fn sigkill_costs_the_calls_that_it_had_and_repeats_none() {
    let mut scene = Scene::of(3);
    let victim = scene.mesh.leader();
    let rest: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    scene.gather(victim);
    let load = scene.load(&rest);
    let killed = SystemTime::now();
    let name = scene.mesh.nodes[victim].name.clone();
    let before = load.report();
    assert!(before.samples.iter().any(|sample| sample.node.as_deref() == Some(&name)), "{name} had no calls");
    scene.mesh.nodes[victim].kill();
    load.run_for(AFTER);
    let after = scene.end(load, killed);
    // Only what it had may be lost, and it is told as what it is: it may have run.
    for message in after.failed.keys() {
        assert!(message.contains("\"maybe-executed\""), "{message}");
    }
    let late = after.since(killed + Duration::from_secs(2));
    assert!(late.failed.is_empty(), "two seconds after its death calls still failed: {:?}", late.failed);
    assert!(late.succeeded > 0);
}

#[test]
fn a_node_that_joins_a_busy_mesh_fails_no_call() {
    let mut scene = Scene::of(2);
    let load = scene.load(&[0, 1]);
    scene.mesh.join();
    scene.mesh.settle();
    let joined = SystemTime::now();
    load.run_for(AFTER);
    check_none_failed(&scene.end(load, joined));
}

/// Computes for some 20 ms: forty calls a second of it are a third of a core for each of two nodes, which is more than
/// what makes a move to an empty node worth it, on a quick machine, too.
const BURN: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (i32.mul (local.get $i) (i32.const 1)) (i32.const 60000000))))))"#;

#[test]
fn a_node_that_joins_a_busy_mesh_gets_some_of_it() {
    let mut mesh = Mesh::start(SKEIN, 2);
    for i in 0..FUNCTIONS {
        mesh.publish_wat(0, &format!("burn{i}"), BURN).ok();
    }
    let call = |number: u64| Call {
        path: format!("/fn/default/burn{}", number as usize % FUNCTIONS),
        body: String::new(),
        answer: Expected::Exactly(String::new()),
    };
    let gateways = mesh.nodes.iter().map(|node| node.http().to_owned()).collect();
    let load = Calls { gateways, key: mesh.nodes[0].key(), rate: 40, call: Arc::new(call) }.start();
    until("some calls", || (load.report().succeeded > 40).then_some(()));
    mesh.join();
    mesh.settle();
    let joined = SystemTime::now();
    // By moves; or by the routers themselves, if every other CPU is busy: it has not said yet how busy its own is. Some may
    // be stopped at their deadline: the load wants most of a processor, which others may have.
    until("it runs calls", || {
        load.report().since(joined).samples.iter().any(|sample| sample.node.as_deref() == Some("n3")).then_some(())
    });
    let moves = total(&mesh, "skein_moves_total{why=\"joined\",outcome=\"ok\"}");
    let report = load.stop();
    println!("{} calls, p99 {:?}, {moves} moves", report.succeeded, report.quantile(990));
}
