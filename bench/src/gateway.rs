//! Echo through the gateway, with a fresh sandbox for each call and with a warm one, beside a bare axum echo and
//! `wasmtime serve` with an equivalent component: each a process of its own, all under the same load in one run.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use skein_harness::{ECHO, Mesh, until};

use self::wrk::Load;
pub(crate) use self::wrk::Target;
use crate::{
    report::micros,
    rivals::{axum_echo, wasmtime_serve::WasmtimeServe},
};

mod wrk;

const ROUND: Duration = Duration::from_secs(3);
const CONNECTIONS: [usize; 2] = [1, 64];
const BODY: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
/// What is asked for, as shares of bare axum's throughput.
const FRESH_MIN: f64 = 0.4;
const WARM_MIN: f64 = 0.6;
/// Calls before anything is measured, so that every subject is as warm as it gets.
const WARM_UP: Duration = Duration::from_secs(1);

/// One thing under load, and what was found.
struct Subject<'a> {
    name: &'static str,
    target: Target,
    /// The node of a mesh that must have run the calls, and the function.
    ran_by: Option<(&'a Mesh, usize, &'static str)>,
    goal: Option<f64>,
    loads: Vec<Load>,
}

pub(crate) fn run(binary: &str, rounds: usize) -> Result<()> {
    if !wrk::is_there() {
        println!("gateway: not measured, since there is no wrk (apt-get install wrk)\n");
        return Ok(());
    }
    let bare = axum_echo::Process::start()?;
    let one = Mesh::found(binary);
    publish(&one);
    let two = Mesh::start(binary, 2);
    publish(&two);
    two.skein(0, &["node", "drain", "n2"]).ok();
    until("the drain", || {
        let answer = two.gateway(1).post("/fn/default/echo", "x");
        (answer.header("skein-node") != Some("n2")).then_some(())
    });
    let mut subjects = vec![subject("bare axum echo", bare.target(), None, None)];
    let mut served = Vec::new();
    for (name, reuse) in [("wasmtime serve, fresh", None), ("wasmtime serve, reused", Some(1_000_000))] {
        match WasmtimeServe::start(reuse) {
            Ok(process) => {
                subjects.push(subject(name, process.target(), None, None));
                served.push(process);
            }
            Err(error) => println!("{name}: not measured: {error:#}"),
        }
    }
    for (name, function, goal) in [("Skein, fresh", "echo", FRESH_MIN), ("Skein, reused", "warm", WARM_MIN)] {
        subjects.push(subject(name, at(&one, 0, function), Some((&one, 0, function)), Some(goal)));
    }
    subjects.push(subject("Skein, fresh, at another node", at(&two, 1, "echo"), Some((&two, 0, "echo")), None));
    for connections in CONNECTIONS {
        for subject in &mut subjects {
            subject.loads.clear();
            subject.load(connections, WARM_UP, one.home())?;
        }
        for _ in 0..rounds {
            for subject in &mut subjects {
                let load = subject.load(connections, ROUND, one.home())?;
                subject.loads.push(load);
            }
        }
        table(connections, &subjects);
    }
    Ok(())
}

fn subject<'a>(
    name: &'static str,
    target: Target,
    ran_by: Option<(&'a Mesh, usize, &'static str)>,
    goal: Option<f64>,
) -> Subject<'a> {
    Subject { name, target, ran_by, goal, loads: Vec::new() }
}

/// The echo as a command, and as a reactor whose instances are reused.
fn publish(mesh: &Mesh) {
    mesh.publish_wat(0, "echo", ECHO).ok();
    let reactor = ECHO.replacen("(export \"_start\")", "(export \"handle\")", 1);
    mesh.file("warm/warm.wat", reactor.as_bytes());
    let manifest = mesh.file("warm/function.toml", b"name = 'warm'\ncode = 'warm.wat'\ninstance = 'reuse'\n");
    let folder = Path::new(&manifest).parent().and_then(Path::to_str).unwrap_or_default();
    mesh.skein(0, &["publish", folder]).ok();
}

fn at(mesh: &Mesh, node: usize, function: &str) -> Target {
    let node = &mesh.nodes[node];
    let url = format!("http://{}/fn/default/{function}", node.http());
    Target { url, key: Some(node.key()), pid: node.pid() }
}

impl Subject<'_> {
    fn load(&self, connections: usize, time: Duration, dir: &Path) -> Result<Load> {
        self.check()?;
        let before = self.calls_run();
        let load = wrk::run(&self.target, BODY, connections, time, dir)?;
        let ran = self.calls_run().zip(before).map(|(after, before)| after - before);
        ensure!(
            ran.is_none_or(|ran| ran >= load.calls),
            "{}: {} calls were answered, but the node that was to run them ran {ran:?}",
            self.name,
            load.calls
        );
        self.check()?;
        Ok(load)
    }

    /// One call whose answer is looked at.
    fn check(&self) -> Result<()> {
        let Target { url, key, .. } = &self.target;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let call = reqwest::Client::builder().no_proxy().build()?.post(url).body(BODY);
            let call = if let Some(key) = key { call.bearer_auth(key) } else { call };
            let response = call.send().await?;
            let (status, node) = (response.status(), response.headers().get("skein-node").cloned());
            let body = response.text().await?;
            ensure!(status.is_success() && body == BODY, "{}: {status}: {body}", self.name);
            if let Some((mesh, node_index, _)) = self.ran_by {
                let expected = mesh.nodes[node_index].name.as_str();
                ensure!(node.as_ref().is_some_and(|node| node == expected), "{}: ran on {node:?}", self.name);
            }
            Ok(())
        })
    }

    /// Calls of the function that the node has run, by its own count.
    fn calls_run(&self) -> Option<u64> {
        let (mesh, node, function) = self.ran_by?;
        let metrics = mesh.admin(node).get("/metrics").text();
        let label = format!("function=\"{function}\"");
        let counts = metrics.lines().filter(|line| line.starts_with("skein_runtime_calls_total{"));
        let counts = counts.filter(|line| line.contains(&label) && line.contains("code=\"ok\""));
        Some(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }
}

/// The medians of the rounds; ratios are to the first row.
fn table(connections: usize, subjects: &[Subject<'_>]) {
    println!("gateway echo, {} B, {connections} connections (wrk, one thread)", BODY.len());
    println!(
        "  {:<30} {:>9} {:>9} {:>10} {:>7}  {:>11} {:>8}  goal",
        "", "p50 µs", "p99 µs", "per second", "rate ×", "server µs", "wrk µs"
    );
    let base = subjects.first().map_or(1.0, |subject| median(&subject.loads, |load| load.per_second));
    for subject in subjects {
        let of = |figure: fn(&Load) -> f64| median(&subject.loads, figure);
        let (rate, ratio) = (of(|load| load.per_second), of(|load| load.per_second) / base);
        let goal = subject
            .goal
            .map_or(String::new(), |goal| format!("≥ {goal} {}", if ratio >= goal { "met" } else { "MISSED" }));
        println!(
            "  {:<30} {:>9.0} {:>9.0} {rate:>10.0} {ratio:>7.2}  {:>11.1} {:>8.1}  {goal}",
            subject.name,
            of(|load| micros(load.p50)),
            of(|load| micros(load.p99)),
            of(|load| micros(load.server)),
            of(|load| micros(load.generator)),
        );
    }
    println!("  server µs, wrk µs: CPU time of one call in the server's process and in the load generator's\n");
}

fn median(loads: &[Load], figure: impl Fn(&Load) -> f64) -> f64 {
    let mut figures: Vec<f64> = loads.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
