//! A thousand distinct functions on one node, each called once: what one costs, loaded and idle.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use skein_harness::{Mesh, echo_variant, until, wasm};

use crate::{
    engine::Guests,
    report::{median_time, micros},
    single::Single,
};

/// Functions of each kind that are small.
const SMALL: usize = 1_000;
/// Functions with a large module: each is compiled for itself, which takes a second of one core.
const LARGE: usize = 100;
/// The same for a smoke run.
const QUICK: usize = 10;
/// How long a function stays loaded without calls.
const IDLE: Duration = Duration::from_secs(15);

/// What kind of function there are many of.
struct Kind {
    title: String,
    count: usize,
    /// The code of number `i`, its file's name and its payload's.
    file: &'static str,
    code: Box<dyn Fn(usize) -> Vec<u8>>,
    payload: &'static str,
    answer: &'static str,
}

/// What the node's process has.
#[derive(Debug, Clone, Copy)]
struct Memory {
    resident: f64,
    anonymous: f64,
    mappings: f64,
    threads: f64,
}

pub(crate) fn run(binary: &str, is_quick: bool) -> Result<()> {
    let guests = Guests::build()?;
    let rust = fs::read(guests.module("json-rust")?)?;
    let script = String::from_utf8(fs::read(Guests::script("json.js"))?)?;
    let count = |count| if is_quick { QUICK } else { count };
    let kinds = [
        Kind {
            title: "small modules (an echo)".to_owned(),
            count: count(SMALL),
            file: "f.wasm",
            code: Box::new(|i| wasm(&echo_variant(i))),
            payload: "x",
            answer: "x",
        },
        Kind {
            title: format!("modules of {} KB (Rust, JSON)", rust.len() / 1_000),
            count: count(LARGE),
            file: "f.wasm",
            code: Box::new(move |i| with_custom_section(&rust, i)),
            payload: crate::engine::JSON,
            answer: crate::engine::JSON_ANSWER,
        },
        Kind {
            title: "scripts (one runtime for all)".to_owned(),
            count: count(SMALL),
            file: "index.js",
            code: Box::new(move |i| format!("// {i}\n{script}").into_bytes()),
            payload: crate::engine::JSON,
            answer: crate::engine::JSON_ANSWER,
        },
    ];
    for kind in kinds {
        measure(binary, &kind)?;
    }
    Ok(())
}

/// A module that differs from every other by a custom section at its end.
fn with_custom_section(module: &[u8], number: usize) -> Vec<u8> {
    let content = [&[1, b'n'][..], &(number as u64).to_le_bytes()].concat();
    [module, &[0, content.len() as u8], &content].concat()
}

fn measure(binary: &str, kind: &Kind) -> Result<()> {
    let mesh = Mesh::found(binary);
    let client = Single::new()?;
    // What a first publication and a first call leave behind is the node's, not the functions'.
    publish(&mesh, kind, kind.count)?;
    call(&client, &mesh, kind, kind.count)?;
    wait_for_idle(&mesh)?;
    let empty = memory(&mesh)?;
    let mut publishes = Vec::new();
    for i in 0..kind.count {
        publishes.push(publish(&mesh, kind, i)?);
    }
    let published = memory(&mesh)?;
    // Nobody watched the old connection meanwhile, and the node closes those that are idle for long.
    let client = Single::new()?;
    let mut calls = Vec::new();
    for i in 0..kind.count {
        calls.push(call(&client, &mesh, kind, i)?);
    }
    let loaded = memory(&mesh)?;
    let waited = wait_for_idle(&mesh)?;
    let idle = memory(&mesh)?;
    let client = Single::new()?;
    let mut again = Vec::new();
    for i in 0..kind.count.min(100) {
        again.push(call(&client, &mesh, kind, i)?);
    }
    println!("{} {}, each called once on one node", kind.count, kind.title);
    println!(
        "  publish, command and all {:.1} ms; first call {:.2} ms; first call after idling {:.2} ms (medians, over HTTP)",
        micros(median_time(publishes)) / 1e3,
        micros(median_time(calls)) / 1e3,
        micros(median_time(again)) / 1e3
    );
    println!("  {:<34} {:>12} {:>12} {:>10} {:>9}", "", "resident KiB", "anonymous KiB", "mappings", "threads");
    row("the node, one function loaded before", empty);
    for (name, state) in [("published, not called", published), ("called once: loaded", loaded)] {
        row(name, state);
        row("  each", state.each(empty, kind.count));
    }
    row(&format!("idle, after {} s", waited.as_secs()), idle);
    row("  each", idle.each(empty, kind.count));
    println!();
    Ok(())
}

fn row(name: &str, memory: Memory) {
    let Memory { resident, anonymous, mappings, threads } = memory;
    println!("  {name:<34} {resident:>12.1} {anonymous:>13.1} {mappings:>10.2} {threads:>9.2}");
}

fn name(i: usize) -> String {
    format!("f{i}")
}

/// The whole command's time, at the end of which the node serves the function.
fn publish(mesh: &Mesh, kind: &Kind, i: usize) -> Result<Duration> {
    let name = name(i);
    let source = if kind.file.ends_with(".js") { "main" } else { "code" };
    let toml = format!("name = \"{name}\"\n{source} = \"{}\"\n[scale]\nidle = \"{}s\"\n", kind.file, IDLE.as_secs());
    mesh.file(&format!("{name}/{}", kind.file), &(kind.code)(i));
    let manifest = mesh.file(&format!("{name}/function.toml"), toml.as_bytes());
    let folder = manifest.trim_end_matches("/function.toml");
    let begin = SystemTime::now();
    let ran = mesh.skein(0, &["publish", folder]);
    ensure!(ran.code == 0, "{}", ran.stderr);
    Ok(begin.elapsed()?)
}

fn call(client: &Single, mesh: &Mesh, kind: &Kind, i: usize) -> Result<Duration> {
    let node = &mesh.nodes[0];
    let (url, key) = (format!("http://{}/fn/default/{}", node.http(), name(i)), node.key());
    let begin = SystemTime::now();
    let answer = client.post(&url, &key, kind.payload)?;
    let took = begin.elapsed()?;
    ensure!(answer == kind.answer, "{answer}");
    Ok(took)
}

/// Waits until the node has let go of every function.
fn wait_for_idle(mesh: &Mesh) -> Result<Duration> {
    let begin = SystemTime::now();
    until("every function to idle", || {
        let metrics = mesh.admin(0).get("/metrics").text();
        let line = metrics.lines().find(|line| line.starts_with("skein_runtime_activations_live "))?;
        let activations: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (activations == 0.0).then_some(())
    });
    Ok(begin.elapsed()?)
}

fn memory(mesh: &Mesh) -> Result<Memory> {
    let pid = mesh.nodes[0].pid();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        anyhow::Ok(line.trim().trim_end_matches(" kB").parse::<f64>()?)
    };
    let mappings = fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count() as f64;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64;
    Ok(Memory { resident: field("Rss:")?, anonymous: field("Anonymous:")?, mappings, threads })
}

impl Memory {
    /// What one of `count` has added to `before`.
    fn each(self, before: Memory, count: usize) -> Self {
        let each = |now: f64, before: f64| (now - before) / count as f64;
        Self {
            resident: each(self.resident, before.resident),
            anonymous: each(self.anonymous, before.anonymous),
            mappings: each(self.mappings, before.mappings),
            threads: each(self.threads, before.threads),
        }
    }
}
