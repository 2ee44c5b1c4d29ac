//! Each node of three ends, dies and moves under load, by the client library and by HTTP: which answers are lost, and for
//! how long nothing is answered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use skein_client::Context;
use skein_harness::{Call, Calls, Expected, Mesh, Running};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{callers::pass, loads};

const NODES: usize = 3;
/// How long a call is in flight, so that some are at any moment.
const CALL_MS: u32 = 20;
/// Load before the fault, so that every connection is in use, and after it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is asked for: the longest time without an answer when a node dies.
const STANDSTILL_MAX: Duration = Duration::from_secs(2);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// It is told to end
    Sigterm,
    /// It is killed
    Sigkill,
    /// It is told to end, and started again at other ports
    Move,
}

/// A call that ended.
struct Ended {
    due: SystemTime,
    took: Duration,
    failure: Option<String>,
}

/// What became of the calls that came one way, from the fault on.
struct Outcome {
    calls: usize,
    failed: BTreeMap<String, usize>,
    standstill: Duration,
    slowest: Duration,
}

pub(crate) fn run(binary: &str, is_quick: bool, rate: u32, only: Option<Fault>) -> Result<()> {
    let nodes = if is_quick { 1 } else { NODES };
    let faults: Vec<Fault> =
        Fault::value_variants().iter().copied().filter(|fault| only.is_none_or(|it| it == *fault)).collect();
    let mut mesh = Mesh::start(binary, NODES);
    ensure!(publish(&mesh)?, "the function could not be published");
    println!(
        "{rate} calls a second by the client library, connected to the node, and {rate} by HTTP at the two others"
    );
    println!(
        "  {:<8} {:<5} {:<8} {:>6} {:>7} {:>12} {:>10}",
        "fault", "node", "by", "calls", "failed", "standstill s", "slowest s"
    );
    let mut missed = Vec::new();
    for fault in faults {
        for node in 0..nodes {
            let [client, http] = measure(&mut mesh, fault, node, rate)?;
            let name = mesh.nodes[node].name.clone();
            for (way, outcome) in [("client", &client), ("http", &http)] {
                outcome.show(fault, &name, way);
                if !outcome.is_met(fault, way) {
                    missed.push(format!("{fault:?} of {name}, by {way}"));
                }
            }
            for (message, count) in client.failed.iter().chain(&http.failed) {
                println!("    {count} × {message}");
            }
        }
    }
    println!();
    ensure!(missed.is_empty(), "MISSED: {}", missed.join("; "));
    println!(
        "  no answer lost by SIGTERM and by a move; by SIGKILL none by way of the others, and at most {STANDSTILL_MAX:?} without one: met\n"
    );
    Ok(())
}

fn publish(mesh: &Mesh) -> Result<bool> {
    let file = mesh.file("wait/wait.wat", loads::waiting(CALL_MS).as_bytes());
    let toml = "name = 'wait'\ncode = 'wait.wat'\n[limits]\nconcurrency = 512\n";
    mesh.file("wait/function.toml", toml.as_bytes());
    let ran = mesh.skein(0, &["publish", file.trim_end_matches("/wait.wat")]);
    ensure!(ran.code == 0, "{}", ran.stderr);
    Ok(true)
}

fn measure(mesh: &mut Mesh, fault: Fault, node: usize, rate: u32) -> Result<[Outcome; 2]> {
    let context = Context::load(mesh.nodes[node].context())?;
    let others = (0..NODES).filter(|other| *other != node).map(|other| mesh.nodes[other].http().to_owned()).collect();
    let (client, http) = (Client::start(context, rate), by_http(others, mesh.nodes[node].key(), rate));
    pass(BEFORE);
    let at = SystemTime::now();
    match fault {
        Fault::Sigkill => mesh.nodes[node].kill(),
        Fault::Sigterm | Fault::Move => {
            let ended = mesh.nodes[node].terminate();
            ensure!(ended.success(), "it ended with {ended}");
        }
    }
    if fault == Fault::Move {
        mesh.nodes[node].restart_with(&["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    }
    pass(AFTER);
    let (client, http) = (client.stop(), ended(http));
    if fault != Fault::Move {
        mesh.nodes[node].restart();
    }
    mesh.settle();
    Ok([client, http].map(|calls| Outcome::of(&calls, at)))
}

fn by_http(gateways: Vec<String>, key: String, rate: u32) -> Running {
    let answer = Expected::Exactly(String::new());
    let call = Call { path: "/fn/default/wait".to_owned(), body: String::new(), answer };
    Calls { gateways, key, rate, call: Arc::new(move |_| call.clone()) }.start()
}

fn ended(running: Running) -> Vec<Ended> {
    let samples = running.stop().samples.into_iter();
    samples.map(|call| Ended { due: call.due, took: call.took, failure: call.failure }).collect()
}

/// An open loop of calls by the client library.
struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Ended>>,
}

impl Client {
    fn start(context: Context, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(send(context, rate, &stopped))
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<Ended> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("no panic in the sender")
    }
}

async fn send(context: Context, rate: u32, stop: &AtomicBool) -> Vec<Ended> {
    let mesh = skein_client::Mesh::connect(context).await.expect("a node");
    let wait = mesh.function("wait").expect("a reference").deadline(PATIENCE);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    while !stop.load(Relaxed) {
        let due: Instant = ticks.tick().await;
        let (wait, ended) = (wait.clone(), ended.clone());
        calls.spawn(async move {
            let failure = wait.invoke("").await.err();
            let failure = failure.map(|failure| format!("{} ({}): {failure}", failure.code, failure.progress.as_str()));
            let took = due.elapsed();
            let call = Ended { due: SystemTime::now() - took, took, failure };
            ended.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    mesh.close().await;
    std::mem::take(&mut *ended.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Outcome {
    fn of(calls: &[Ended], at: SystemTime) -> Self {
        // Those that were under way at the fault count as well.
        let after: Vec<&Ended> = calls.iter().filter(|call| call.due + call.took >= at).collect();
        let mut failed = BTreeMap::new();
        for failure in after.iter().filter_map(|call| call.failure.clone()) {
            *failed.entry(failure).or_default() += 1;
        }
        let mut answers: Vec<SystemTime> =
            after.iter().filter(|call| call.failure.is_none()).map(|call| call.due + call.took).collect();
        answers.push(at);
        answers.sort();
        let gaps = answers.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap_or_default());
        Self {
            calls: after.len(),
            failed,
            standstill: gaps.max().unwrap_or(AFTER),
            slowest: after.iter().map(|call| call.took).max().unwrap_or_default(),
        }
    }

    fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    fn is_met(&self, fault: Fault, way: &str) -> bool {
        let may_lose = fault == Fault::Sigkill && way == "client";
        self.standstill <= STANDSTILL_MAX && (may_lose || self.failures() == 0)
    }

    fn show(&self, fault: Fault, node: &str, way: &str) {
        println!(
            "  {:<8} {node:<5} {way:<8} {:>6} {:>7} {:>12.2} {:>10.2}",
            format!("{fault:?}").to_lowercase(),
            self.calls,
            self.failures(),
            self.standstill.as_secs_f64(),
            self.slowest.as_secs_f64()
        );
    }
}
