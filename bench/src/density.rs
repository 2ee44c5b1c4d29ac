//! Far more functions than a mesh's memory holds: what each costs while nobody calls it, what calling all of them costs,
//! and whether the nodes stay within their budgets meanwhile.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use skein_harness::{Mesh, echo_variant, until, wasm};
use skein_proto::{Digest, Manifest};
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

use crate::{
    callers::pass,
    nodes::{metrics, mib, process, resident, sum},
    report::micros,
};

/// Distinct functions, each a module of its own.
const FUNCTIONS: usize = 10_000;
/// Of the floor: they all fit.
const FITTING: usize = 100;
/// Calls of one stream.
const CALLS: usize = 60_000;
/// What one node of each mesh may use.
const BUDGET_MIB: u64 = 1_024;
/// At last: the same functions where they do not fit.
const TIGHT_MIB: u64 = 192;
/// The same for a smoke run. A debug build has 70 MiB before it has any function.
const QUICK: (usize, usize, u64) = (120, 1_500, 128);

/// Between two looks at how far the nodes are, and after how long without a step they are stuck.
const LOOK: Duration = Duration::from_millis(500);
const STALLED: Duration = Duration::from_secs(60);

/// Callers at a time, over all nodes.
const CALLERS: usize = 16;
/// Publications at a time.
const PUBLISHERS: usize = 8;
/// The exponent of the popularity of functions: that of the invocations of Azure's functions is about one (Shahrad et
/// al., "Serverless in the Wild", ATC 2020).
const SKEW: f64 = 1.0;

/// What a stream of calls gave.
#[derive(Default)]
struct Stream {
    warm: Vec<Duration>,
    cold: Vec<Duration>,
    /// How often, by what was said.
    refused: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

pub(crate) fn run(binary: &str, is_quick: bool) -> Result<()> {
    let (functions, calls, budget) = if is_quick { QUICK } else { (FUNCTIONS, CALLS, BUDGET_MIB) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let budget_arg = format!("{budget}MiB");
    let mut mesh = Mesh::found_with(binary, &["--memory", &budget_arg]);
    for _ in 0..2 {
        mesh.join_with(&["--memory", &budget_arg]);
    }
    mesh.settle();
    println!("{functions} functions, each a module of its own, on three nodes of {budget} MiB each");
    let empty = resident(&mesh)?;
    let begin = SystemTime::now();
    publish(&runtime, &mesh, functions)?;
    println!("  published in {:.1} s, {PUBLISHERS} at a time", begin.elapsed()?.as_secs_f64());
    prepared(&mesh, functions)?;
    println!("  compiled on every node after {:.1} s", begin.elapsed()?.as_secs_f64());
    let idle = resident(&mesh)?;
    rows("  nodes without functions", &empty);
    rows("  published, none called", &idle);
    let each = idle.iter().zip(&empty).map(|(idle, empty)| (idle - empty) as f64 / functions as f64 / 1_024.0);
    println!("  each function, not called: {:.2} KiB of a node", each.sum::<f64>() / 3.0);
    let fitting = FITTING.min(functions / 4);
    for (title, count) in [("the floor: those that fit", fitting), ("all of them", functions)] {
        streamed(&runtime, &mesh, title, (count, calls), budget)?;
    }
    restart(&mut mesh, functions)?;
    if is_quick {
        return Ok(());
    }
    // What they used above is more than what this leaves beside the catalogue.
    for node in &mut mesh.nodes {
        ensure!(node.terminate().success(), "{} did not stop well", node.name);
        node.restart_with(&["--memory", &format!("{TIGHT_MIB}MiB")]);
    }
    mesh.settle();
    streamed(&runtime, &mesh, &format!("all of them in {TIGHT_MIB} MiB a node"), (functions, calls), TIGHT_MIB)
}

/// A stream of `calls` over `count` functions, with what it took and what the nodes did for it, within `budget` MiB.
fn streamed(runtime: &Runtime, mesh: &Mesh, title: &str, (count, calls): (usize, usize), budget: u64) -> Result<()> {
    let before = Counters::of(mesh)?;
    let stream = runtime.block_on(stream(mesh, count, calls))?;
    show(title, count, stream, Counters::of(mesh)?.since(&before))?;
    let most = process(mesh, "VmHWM:")?;
    rows("    most resident so far", &most);
    ensure!(most.iter().all(|bytes| *bytes < budget << 20), "a node was over its budget: {most:?}");
    Ok(())
}

/// What starting costs a node that has the whole catalogue.
fn restart(mesh: &mut Mesh, functions: usize) -> Result<()> {
    ensure!(mesh.nodes[2].terminate().success(), "the third node did not stop well");
    let begin = SystemTime::now();
    mesh.nodes[2].restart();
    let ready = begin.elapsed()?;
    let gateway = mesh.gateway(2);
    until("an answer", || {
        let answer = gateway.post(&format!("/fn/default/{}", name(functions - 1)), "x");
        (answer.status == 200).then_some(())
    });
    let answered = begin.elapsed()?;
    println!(
        "  started again with this catalogue: ready after {ready:.2?}, a first cold call answered after {answered:.2?}"
    );
    Ok(())
}

fn name(i: usize) -> String {
    format!("f{i}")
}

/// Publishes by the admin API of all nodes, without waiting for the nodes to compile.
fn publish(runtime: &Runtime, mesh: &Mesh, functions: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::<Result<()>>::new();
    for i in 0..PUBLISHERS {
        let node = &mesh.nodes[i % mesh.nodes.len()];
        let (admin, key, next) = (format!("http://{}/v1", node.admin()), node.key(), next.clone());
        let work = async move {
            let client = reqwest::Client::builder().no_proxy().build()?;
            loop {
                let i = next.fetch_add(1, Relaxed);
                if i >= functions {
                    return Ok(());
                }
                publish_one(&client, &admin, &key, i).await.with_context(|| format!("publishing {}", name(i)))?;
            }
        };
        publishers.spawn_on(work, runtime.handle());
    }
    runtime.block_on(async {
        while let Some(ended) = publishers.join_next().await {
            ended??;
        }
        Ok(())
    })
}

async fn publish_one(client: &reqwest::Client, admin: &str, key: &str, i: usize) -> Result<()> {
    let code = wasm(&echo_variant(i));
    let digest = Digest::of(&code);
    let put = client.put(format!("{admin}/artifacts/{digest}")).bearer_auth(key).body(code).send().await?;
    ensure!(put.status().is_success(), "{}", put.text().await?);
    let mut manifest = Manifest::named(Default::default(), name(i).parse()?);
    // Nothing leaves but for want of memory.
    manifest.scale.idle_ms = 24 * 3_600 * 1_000;
    let publish = serde_json::json!({ "manifest": manifest, "digest": digest, "alias": "live", "wait": false });
    let post = client.post(format!("{admin}/functions/default/{}/versions", name(i))).bearer_auth(key);
    let post = post.header("content-type", "application/json").body(publish.to_string()).send().await?;
    ensure!(post.status().is_success(), "{}", post.text().await?);
    Ok(())
}

/// Waits until each node has prepared as many versions as there are, by its own count.
fn prepared(mesh: &Mesh, functions: usize) -> Result<()> {
    let (mut counts, mut moved) = (vec![0; mesh.nodes.len()], Instant::now());
    while counts.iter().any(|count| *count < functions) {
        ensure!(moved.elapsed() < STALLED, "the nodes stopped at {counts:?} of {functions} compiled versions");
        pass(LOOK);
        let count = |text: &String| sum(text, "skein_runtime_prepared_total{outcome=\"ok\"}") as usize;
        let now: Vec<usize> = metrics(mesh).iter().map(count).collect();
        if now != counts {
            (counts, moved) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Calls spread over `count` functions as their popularity is, in an order that is the same every time.
async fn stream(mesh: &Mesh, count: usize, calls: usize) -> Result<Stream> {
    let weights = (1..=count).map(|rank| 1.0 / (rank as f64).powf(SKEW));
    let sums: Arc<[f64]> = weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for i in 0..CALLERS {
        let node = &mesh.nodes[i % mesh.nodes.len()];
        let (url, key) = (format!("http://{}/fn/default", node.http()), node.key());
        let (sums, next) = (sums.clone(), next.clone());
        callers.spawn(async move {
            let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
            let mut seen = Stream::default();
            loop {
                let i = next.fetch_add(1, Relaxed);
                if i >= calls {
                    return anyhow::Ok(seen);
                }
                // A number between 0 and 1 that is different for each call: multiples of the golden ratio.
                let point = (i as f64 * 0.618_033_988_749_894_9).fract() * sums.last().copied().unwrap_or(1.0);
                let function = sums.partition_point(|sum| *sum < point).min(sums.len() - 1);
                seen.call(&client, &format!("{url}/{}", name(function)), &key).await?;
            }
        });
    }
    let mut all = Stream::default();
    while let Some(ended) = callers.join_next().await {
        let one = ended.map_err(|error| anyhow!("a caller broke: {error}"))??;
        all.warm.extend(one.warm);
        all.cold.extend(one.cold);
        all.wrong.extend(one.wrong);
        for (text, count) in one.refused {
            *all.refused.entry(text).or_default() += count;
        }
    }
    Ok(all)
}

impl Stream {
    async fn call(&mut self, client: &reqwest::Client, url: &str, key: &str) -> Result<()> {
        let sent = Instant::now();
        let answer = client.post(url).bearer_auth(key).body("x").send().await?;
        let status = answer.status().as_u16();
        let is_cold = answer.headers().get("skein-start").is_some_and(|start| start == "cold");
        let text = answer.text().await?;
        let took = sent.elapsed();
        match status {
            200 if text == "x" => {
                if is_cold {
                    self.cold.push(took)
                } else {
                    self.warm.push(took)
                }
            }
            429 => *self.refused.entry(text).or_default() += 1,
            _ => self.wrong.push(format!("{status}: {text}")),
        }
        Ok(())
    }
}

fn show(title: &str, count: usize, mut stream: Stream, counters: Counters) -> Result<()> {
    let calls = stream.warm.len() + stream.cold.len();
    let refused: usize = stream.refused.values().sum();
    println!("  {title} ({count}): {calls} calls answered, {refused} refused with 429");
    if let Some((text, count)) = stream.refused.iter().max_by_key(|(_, count)| **count) {
        println!("    most often, {count} times: {text}");
    }
    for (what, latencies) in [("warm", &mut stream.warm), ("cold", &mut stream.cold)] {
        latencies.sort();
        let at = |permille: usize| {
            micros(latencies.get(latencies.len() * permille / 1_000).copied().unwrap_or_default()) / 1e3
        };
        println!(
            "    {what}: {:>6} calls; ms at p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}",
            latencies.len(),
            at(500),
            at(900),
            at(990),
            at(999)
        );
    }
    println!(
        "    {} activations started, {} evicted for memory, {} idle instances dropped for it",
        counters.started, counters.evicted, counters.trimmed
    );
    if let Some(first) = stream.wrong.first() {
        return Err(anyhow!("{} calls failed; one with {first}", stream.wrong.len()));
    }
    Ok(())
}

/// What the nodes have counted, all together.
struct Counters {
    started: f64,
    evicted: f64,
    trimmed: f64,
}

impl Counters {
    fn of(mesh: &Mesh) -> Result<Self> {
        let texts = metrics(mesh);
        let all = |start: &str| texts.iter().map(|text| sum(text, start)).sum();
        Ok(Self {
            started: all("skein_runtime_cold_starts_total"),
            evicted: all("skein_runtime_evictions_total{reason=\"memory\"}"),
            trimmed: all("skein_runtime_instances_trimmed_total"),
        })
    }

    fn since(self, before: &Self) -> Self {
        Self {
            started: self.started - before.started,
            evicted: self.evicted - before.evicted,
            trimmed: self.trimmed - before.trimmed,
        }
    }
}

fn rows(title: &str, bytes: &[u64]) {
    println!("{title}: {} MiB", mib(bytes));
}
