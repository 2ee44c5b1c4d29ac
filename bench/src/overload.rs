//! Five times more calls than a mesh can run: what it still does, how it says no, and how soon it is itself again.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use skein_harness::{Calls, Expected, LoadReport, Mesh, Running, Sample};
use tokio::time::Instant;

use crate::{
    cage::{Cages, is_possible},
    callers::{Callers, pass},
    loads,
    nodes::{mib, resident},
    report::micros,
};

const NODES: usize = 3;
/// Offered, as a multiple of the peak.
const OVERLOAD: f64 = 5.0;
/// Offered before and after, as a share of the peak; it goes on meanwhile, as a part of the overload.
const CALM: f64 = 0.5;
/// Callers in a closed loop, for each call that may run at a time in the whole mesh: the best of these is the peak. As
/// many more as run can wait in line.
const CALLERS_PER_PERMIT: [usize; 3] = [1, 2, 3];
/// How long each of these and the calm before are measured.
const PHASE: Duration = Duration::from_secs(6);
/// How long the calm after is looked at.
const AFTER: Duration = Duration::from_secs(12);
/// Between two looks at the nodes' memory.
const LOOK: Duration = Duration::from_millis(200);
/// Calls due in such a time make one p99 of the calm after.
const WINDOW: Duration = Duration::from_secs(1);

/// What is asked for.
const GOODPUT_MIN: f64 = 0.8;
const REFUSED_WITHIN: Duration = Duration::from_millis(100);
const BACK_WITHIN: Duration = Duration::from_secs(5);
const BACK_RATIO: f64 = 1.5;

/// A kind of load.
struct Kind {
    title: &'static str,
    code: fn(usize) -> String,
    /// Distinct functions, each with this `limits.concurrency`.
    functions: usize,
    concurrency: u32,
    /// What each node may use, in hundredths of a core.
    node_percent: Option<u32>,
}

/// What a run gave.
struct Found {
    peak: f64,
    before: LoadReport,
    flood: Vec<Sample>,
    /// Calls answered well while the flood lasted, a second.
    goodput: f64,
    back: Option<Duration>,
    memory: [Vec<u64>; 3],
}

pub(crate) fn run(binary: &str, is_quick: bool, seconds: u64) -> Result<()> {
    let time = Duration::from_secs(if is_quick { 5 } else { seconds });
    let kinds = [
        Kind {
            title: "waiting: a function that waits for 50 ms, 8 at a time on each node; the permits are the bound",
            code: |_| loads::waiting(50),
            functions: 1,
            concurrency: 8,
            node_percent: None,
        },
        Kind {
            title: "computing: a function that computes for some ms, 8 at a time on each node; 40 % of a core is the bound",
            code: |_| loads::computing(1_500, 0),
            functions: 1,
            concurrency: 8,
            node_percent: Some(40),
        },
    ];
    for kind in kinds {
        if kind.node_percent.is_some() && !is_possible() {
            println!("{}\n  not measured: only root may bound each node's share of the processors\n", kind.title);
            continue;
        }
        println!("{}", kind.title);
        let found = measure(binary, &kind, time)?;
        found.show(time)?;
    }
    Ok(())
}

fn measure(binary: &str, kind: &Kind, time: Duration) -> Result<Found> {
    let mesh = Mesh::start(binary, NODES);
    let paths = publish(&mesh, kind)?;
    let _cages = kind.node_percent.map(|percent| Cages::around(&mesh, percent)).transpose()?;
    let peak = peak(&mesh, kind, &paths)?;
    let calm = (peak * CALM).max(1.0);
    // From before the flood until after it: what a caller sees who does not change.
    let steady = stream(&mesh, &paths, calm);
    steady.run_for(PHASE / 3);
    let calm_from = SystemTime::now();
    steady.run_for(PHASE);
    let before = steady.report().since(calm_from);
    let idle = resident(&mesh)?;
    let (flood_from, mut most) = (SystemTime::now(), idle.clone());
    let flood = stream(&mesh, &paths, peak * OVERLOAD - calm);
    let began = Instant::now();
    while began.elapsed() < time {
        pass(LOOK);
        most.iter_mut().zip(resident(&mesh)?).for_each(|(most, now)| *most = now.max(*most));
    }
    let flood_to = SystemTime::now();
    let flood = flood.stop();
    steady.run_for(AFTER);
    let memory = [idle, most, resident(&mesh)?];
    let steady = steady.stop();
    let all = flood.samples.iter().chain(&steady.samples);
    let flood: Vec<Sample> = all.filter(|call| call.due >= flood_from && call.due < flood_to).cloned().collect();
    let ended = |call: &&Sample| call.failure.is_none() && call.due + call.took < flood_to;
    let goodput = flood.iter().filter(ended).count() as f64 / flood_to.duration_since(flood_from)?.as_secs_f64();
    let back = back(&steady, flood_to, before.quantile(990));
    Ok(Found { peak, before, flood, goodput, back, memory })
}

fn publish(mesh: &Mesh, kind: &Kind) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for i in 0..kind.functions {
        let name = format!("load{i}");
        let toml = format!("name = '{name}'\ncode = 'load.wat'\n[limits]\nconcurrency = {}\n", kind.concurrency);
        mesh.file(&format!("{name}/load.wat"), (kind.code)(i).as_bytes());
        let manifest = mesh.file(&format!("{name}/function.toml"), toml.as_bytes());
        let ran = mesh.skein(0, &["publish", manifest.trim_end_matches("/function.toml")]);
        ensure!(ran.code == 0, "publishing {name}: {}", ran.stderr);
        paths.push(format!("/fn/default/{name}"));
    }
    Ok(paths)
}

/// Calls answered well a second when there are always enough, in the best of some closed loops.
fn peak(mesh: &Mesh, kind: &Kind, paths: &[String]) -> Result<f64> {
    let mut best: f64 = 0.0;
    for each in CALLERS_PER_PERMIT {
        let callers =
            Callers::start(mesh, each * NODES * kind.functions * kind.concurrency as usize, Duration::ZERO, paths)?;
        pass(PHASE / 3);
        let from = Instant::now();
        pass(PHASE);
        let to = Instant::now();
        let calls = callers.stop()?;
        let within = calls.iter().filter(|call| call.failure.is_none() && call.at >= from && call.at < to).count();
        best = best.max(within as f64 / (to - from).as_secs_f64());
    }
    ensure!(best > 0.0, "no call was answered at the peak");
    Ok(best)
}

/// An open loop over all gateways.
fn stream(mesh: &Mesh, paths: &[String], rate: f64) -> Running {
    let gateways = mesh.nodes.iter().map(|node| node.http().to_owned()).collect();
    let paths = paths.to_vec();
    let call = move |number: u64| skein_harness::Call {
        path: paths[number as usize % paths.len()].clone(),
        body: String::new(),
        answer: Expected::Exactly(String::new()),
    };
    Calls { gateways, key: mesh.nodes[0].key(), rate: rate as u32, call: std::sync::Arc::new(call) }.start()
}

/// How long after the flood the calls of one second are again about as quick as before it, and none is refused.
fn back(steady: &LoadReport, flood_to: SystemTime, p99: Duration) -> Option<Duration> {
    let is_back = |from: SystemTime| {
        let due: Vec<_> = steady.samples.iter().filter(|call| call.due >= from && call.due < from + WINDOW).collect();
        let mut took: Vec<_> = due.iter().map(|call| call.took).collect();
        took.sort();
        let at = took.get(took.len() * 99 / 100).or(took.last());
        due.iter().all(|call| call.failure.is_none()) && at.is_some_and(|at| *at <= p99.mul_f64(BACK_RATIO))
    };
    let steps = (AFTER - WINDOW).as_millis() / 100;
    let after = |step: u32| Duration::from_millis(100) * step;
    (0..u32::try_from(steps).ok()?).map(after).find(|after| is_back(flood_to + *after))
}

impl Found {
    fn show(&self, time: Duration) -> Result<()> {
        let refused: Vec<&Sample> = self.flood.iter().filter(|call| call.failure.is_some()).collect();
        let is_refusal = |call: &&&Sample| call.failure.as_ref().is_some_and(|answer| answer.starts_with("429: "));
        let other = refused.iter().find(|call| !is_refusal(call));
        let accepted = self.flood.iter().filter(|call| call.failure.is_none()).map(|call| call.took);
        let offered = self.flood.len() as f64 / time.as_secs_f64();
        println!("  peak, the best of some closed loops: {:.0} calls a second", self.peak);
        println!(
            "  offered for {} s: {offered:.0} a second, {:.1} × the peak; refused {} of {}",
            time.as_secs(),
            offered / self.peak,
            refused.len(),
            self.flood.len()
        );
        let ratio = self.goodput / self.peak;
        goal(&format!("goodput {:.0} a second, {ratio:.2} × the peak", self.goodput), ratio >= GOODPUT_MIN);
        row("calls before, at half the peak", self.before.latencies.clone());
        row("calls accepted in the flood", accepted.collect());
        let times = row("calls refused in the flood", refused.iter().map(|call| call.took).collect());
        let late = times.iter().filter(|took| **took > REFUSED_WITHIN).count();
        goal(&format!("{late} of them refused later than {REFUSED_WITHIN:?}"), late == 0);
        let told = refused.iter().filter(|call| call.retry_after_s.is_some()).count();
        goal(&format!("{told} of {} refused with Retry-After", refused.len()), told == refused.len());
        let [before, most, after] = &self.memory;
        println!("  resident of each node, MiB: before {}; most {}; after {}", mib(before), mib(most), mib(after));
        let back =
            self.back.map_or(format!("not within {AFTER:?}"), |back| format!("after {:.1} s", back.as_secs_f64()));
        let is_met = self.back.is_some_and(|back| back <= BACK_WITHIN);
        goal(&format!("p99 of a second at most {BACK_RATIO} × that before, and none refused: {back}"), is_met);
        println!();
        if let Some(other) = other {
            let all = refused.iter().filter(|call| !is_refusal(call)).count();
            anyhow::bail!("{all} calls failed otherwise than by 429; one with {:?}", other.failure);
        }
        ensure!(offered >= 0.95 * OVERLOAD * self.peak, "VOID: the callers could not offer {OVERLOAD} × the peak");
        let slowest = self.flood.iter().map(|call| call.took).max().context("VOID: nothing was offered")?;
        println!("  slowest of all {slowest:.2?}\n");
        Ok(())
    }
}

fn goal(what: &str, is_met: bool) {
    println!("  {what}: {}", if is_met { "met" } else { "MISSED" });
}

fn row(name: &str, mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort();
    let at = |permille: usize| {
        let at = (times.len() * permille / 1_000).min(times.len().saturating_sub(1));
        micros(times.get(at).copied().unwrap_or_default()) / 1e3
    };
    println!(
        "  {name:<32} {:>7} calls; ms at p50 {:>7.1}, p99 {:>7.1}, most {:>7.1}",
        times.len(),
        at(500),
        at(990),
        at(1_000)
    );
    times
}
