//! All load on one node, then let go: how the mesh spreads it, beside the same load placed evenly from the beginning.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;
use skein_harness::{Mesh, until};
use tokio::time::Instant;

use self::table::{Phase, table};
use crate::{
    cage::{Cages, is_possible},
    callers::{Answered, Callers, pass},
    loads,
    nodes::{TICKS, cpu_ticks, metrics, sum},
};

mod table;

const NODES: usize = 3;
/// Functions; each a module of its own, and as many of each app as there are nodes.
const FUNCTIONS: usize = 24;
/// What each node may use, in hundredths of a core: two cores have room for three nodes, the callers and some more, so
/// that no node is bounded by another.
const NODE_PERCENT: u32 = 40;

/// How long each steady phase is measured.
const PHASE: Duration = Duration::from_secs(12);
/// Before a phase is measured, so that queues are as long as they get.
const LEAD: Duration = Duration::from_secs(3);
/// No move for so long: the load has settled. A plan is made every two seconds, and leaves nodes alone for four.
const SETTLED: Duration = Duration::from_secs(20);
/// Longest wait for that.
const SETTLING_MAX: Duration = Duration::from_secs(120);
/// Between two looks at what was moved, which cost the nodes some of their time.
const LOOK: Duration = Duration::from_secs(2);
/// Of the time in which the load spreads, one row shows so much.
const ROW: Duration = Duration::from_secs(10);

/// Calls that the mesh is asked about.
const ASKED: usize = 40;

/// What has moved so far, since the nodes started.
#[derive(Debug, Clone, Copy, Default)]
struct Moves {
    loaded: f64,
    joined: f64,
    failed: f64,
    redirects: f64,
    starts: f64,
}

/// The moves seen at a time.
struct Seen {
    at: Instant,
    moves: Moves,
}

/// What the callers want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demand {
    /// More than one node can do, of functions that compute for less than a thread runs at a stretch.
    Short,
    /// More than one node can do, of functions that compute for several such stretches.
    Long,
    /// Two thirds of what one node can do: it keeps up, but with most calls waiting for others.
    Light,
}

impl Demand {
    /// Thousands of rounds that a function computes.
    fn thousands(self) -> u32 {
        match self {
            Self::Short | Self::Light => 1_500,
            Self::Long => 10_000,
        }
    }

    /// Between two calls of a caller.
    fn pause(self) -> Duration {
        match self {
            Self::Short | Self::Long => Duration::ZERO,
            Self::Light => Duration::from_millis(45),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short: more than one node can do, of functions that compute for",
            Self::Long => "long: more than one node can do, of functions that compute for",
            Self::Light => "light: some two thirds of what one node can do, of functions that compute for",
        }
    }
}

pub(crate) fn run(binary: &str, is_quick: bool, callers: usize, only: Option<Demand>) -> Result<()> {
    if !is_possible() {
        println!("imbalance: not measured: only root may bound each node's share of the processors\n");
        return Ok(());
    }
    let demands = only.map_or(vec![Demand::Short, Demand::Long, Demand::Light], |only| vec![only]);
    demands.into_iter().try_for_each(|demand| measure(binary, is_quick, callers, demand))
}

fn measure(binary: &str, is_quick: bool, callers: usize, demand: Demand) -> Result<()> {
    let (phase, settled) = if is_quick { (LEAD, SETTLED / 4) } else { (PHASE, SETTLED) };
    let mesh = Mesh::start(binary, NODES);
    let paths = publish(&mesh, demand)?;
    let alone = alone(&mesh, &paths)?;
    let _cages = Cages::around(&mesh, NODE_PERCENT)?;
    println!(
        "{} {:.1} ms\n  {FUNCTIONS} functions, {callers} callers over all gateways, each with one call at a time and {:?} \
         between two; each of {NODES} nodes is bounded to {NODE_PERCENT} % of a core, as if it had a small machine of its own",
        demand.as_str(),
        alone.as_secs_f64() * 1e3,
        demand.pause()
    );
    let running = Callers::start(&mesh, callers, demand.pause(), &paths)?;
    let mut phases = vec![steady(&mesh, "even from the beginning", phase, Some)?];
    phases.push(steady(&mesh, "all on n1", phase, |_| Some(0))?);
    let (spreading, reasons) = spread(&mesh, settled, &running)?;
    phases.push(measured(&mesh, "let go, settled", phase)?);
    phases.push(steady(&mesh, "even again", phase, Some)?);
    let calls = running.stop()?;
    table(&phases, &spreading, &calls);
    for (reason, count) in reasons {
        println!("  {count} of the first cold starts: {reason}");
    }
    verdict(&phases, &spreading, &calls)
}

/// The paths of the functions, published in one app for each node.
fn publish(mesh: &Mesh, demand: Demand) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for i in 0..FUNCTIONS {
        let (name, file) = (format!("{}/f{i}", app(i % NODES)), format!("f{i}.wat"));
        let file = mesh.file(&file, loads::computing(demand.thousands(), i).as_bytes());
        let ran = mesh.skein(0, &["publish", &file, "--as", &name]);
        ensure!(ran.code == 0, "publishing {name}: {}", ran.stderr);
        paths.push(format!("/fn/{name}"));
    }
    Ok(paths)
}

fn app(number: usize) -> String {
    format!("app{number}")
}

/// What one warm call takes when nothing else runs and no node is bounded.
fn alone(mesh: &Mesh, paths: &[String]) -> Result<Duration> {
    let callers = Callers::start(mesh, 1, Duration::ZERO, &paths[..1])?;
    pass(Duration::from_secs(1));
    let mut times: Vec<_> = callers.stop()?.into_iter().map(|call| call.took).collect();
    times.sort();
    times.get(times.len() / 2).copied().context("no call in a second")
}

/// Binds each app to the node that `place` says, or to none, under calls.
fn bind(mesh: &Mesh, place: impl Fn(usize) -> Option<usize>) -> Result<()> {
    for number in 0..NODES {
        let (app, node) = (app(number), place(number).map(|node| mesh.nodes[node].name.as_str()));
        let to = node.map_or(vec!["--anywhere"], |node| vec!["--node", node]);
        let args: Vec<&str> = ["app", "bind", &app].into_iter().chain(to).collect();
        let ran = mesh.skein(0, &args);
        ensure!(ran.code == 0, "{args:?}: {}", ran.stderr);
    }
    Ok(())
}

/// A phase in which each app runs on one node.
fn steady(
    mesh: &Mesh,
    name: &'static str,
    time: Duration,
    place: impl Fn(usize) -> Option<usize> + Copy,
) -> Result<Phase> {
    bind(mesh, place)?;
    let mut expected = [0; NODES];
    (0..FUNCTIONS).filter_map(|i| place(i % NODES)).for_each(|node| expected[node] += 1);
    until("the functions where they are bound to", || (live(mesh)? == expected).then_some(()));
    pass(LEAD);
    measured(mesh, name, time)
}

/// What happens from now on for a while.
fn measured(mesh: &Mesh, name: &'static str, time: Duration) -> Result<Phase> {
    let (from, ticks) = (Instant::now(), ticks(mesh)?);
    pass(time);
    let (to, used) = (Instant::now(), ticks_since(mesh, &ticks)?);
    let share = |ticks: &u64| *ticks as f64 / TICKS as f64 / (to - from).as_secs_f64();
    Ok(Phase { name, from, to, cores: used.iter().map(share).collect(), live: until("a status", || live(mesh)) })
}

fn ticks(mesh: &Mesh) -> Result<Vec<u64>> {
    mesh.nodes.iter().map(|node| cpu_ticks(&format!("/proc/{}/stat", node.pid()), 11)).collect()
}

fn ticks_since(mesh: &Mesh, before: &[u64]) -> Result<Vec<u64>> {
    Ok(ticks(mesh)?.iter().zip(before).map(|(now, before)| now - before).collect())
}

/// How many versions take calls on each node.
fn live(mesh: &Mesh) -> Option<Vec<usize>> {
    let of = |node: usize| {
        let status = mesh.try_status(node)?;
        let activations = status["activations"].as_array()?;
        Some(activations.iter().filter(|one| one["state"] == "ready" || one["state"] == "loading").count())
    };
    (0..NODES).map(of).collect()
}

/// Lets all functions go, and looks on until nothing has moved for a while. The first look is from before that.
fn spread(mesh: &Mesh, settled: Duration, running: &Callers) -> Result<(Vec<Seen>, BTreeMap<String, usize>)> {
    let mut seen = vec![Seen { at: Instant::now(), moves: Moves::of(mesh) }];
    bind(mesh, |_| None)?;
    let began = Instant::now();
    let (mut last, mut made) = (began, seen[0].moves.made());
    pass(LOOK);
    let reasons = reasons(mesh, began, &running.so_far())?;
    while last.elapsed() < settled && began.elapsed() < SETTLING_MAX {
        pass(LOOK);
        let moves = Moves::of(mesh);
        if moves.made() > made {
            (last, made) = (Instant::now(), moves.made());
        }
        seen.push(Seen { at: Instant::now(), moves });
    }
    Ok((seen, reasons))
}

/// Why calls since `began` ran where their version had to be started for it, as the mesh says when it is asked.
fn reasons(mesh: &Mesh, began: Instant, calls: &[Answered]) -> Result<BTreeMap<String, usize>> {
    let mut reasons = BTreeMap::new();
    for call in calls.iter().filter(|call| call.at >= began && call.is_cold).take(ASKED) {
        let report = mesh.admin(0).get(&format!("/v1/invocations/{}/why", call.invocation)).json();
        let n1 = report["candidates"].as_array().and_then(|all| all.iter().find(|one| one["node"] == "n1"));
        let n1 = n1.context("n1 was no candidate")?;
        let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let reason = format!("{}; n1 was {}: {}", text(&report, "placed"), text(n1, "group"), text(n1, "reason"));
        *reasons.entry(reason).or_default() += 1;
    }
    Ok(reasons)
}

impl Moves {
    fn of(mesh: &Mesh) -> Self {
        let texts = metrics(mesh);
        let lines = |start: &str, part: &str| -> f64 {
            let lines = |text: &str| -> String {
                text.lines().filter(|line| line.contains(part)).flat_map(|line| [line, "\n"]).collect()
            };
            texts.iter().map(|text| sum(&lines(text), start)).sum()
        };
        let (all, done) = (lines("skein_moves_total{", ""), lines("skein_moves_total{", "outcome=\"ok\""));
        Self {
            loaded: lines("skein_moves_total{", "why=\"loaded\""),
            joined: lines("skein_moves_total{", "why=\"joined\""),
            failed: all - done,
            redirects: lines("skein_router_redirects_total", ""),
            starts: lines("skein_runtime_cold_starts_total", ""),
        }
    }

    /// Those that a plan made.
    fn made(self) -> f64 {
        self.loaded + self.joined
    }

    fn since(self, before: Self) -> Self {
        Self {
            loaded: self.loaded - before.loaded,
            joined: self.joined - before.joined,
            failed: self.failed - before.failed,
            redirects: self.redirects - before.redirects,
            starts: self.starts - before.starts,
        }
    }
}

/// Whether the run shows anything.
fn verdict(phases: &[Phase], spreading: &[Seen], calls: &[Answered]) -> Result<()> {
    let failed: Vec<_> = calls.iter().filter_map(|call| call.failure.as_deref()).collect();
    ensure!(failed.is_empty(), "VOID: {} of {} calls failed; one with {}", failed.len(), calls.len(), failed[0]);
    let made = spreading.last().map_or(0.0, |last| last.moves.made()) - spreading[0].moves.made();
    let started = spreading.last().map_or(0.0, |last| last.moves.starts) - spreading[0].moves.starts;
    ensure!(made + started > 0.0, "VOID: nothing was moved, and nothing was started elsewhere");
    let gathered = &phases[1];
    let elsewhere = gathered.calls(calls).filter(|call| call.node != "n1").count();
    ensure!(elsewhere == 0, "VOID: {elsewhere} calls ran elsewhere while all functions were bound to n1");
    Ok(())
}
