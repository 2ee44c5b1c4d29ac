//! A script function beside the same handler in Node's `http` server and in workerd: start, calls, memory.

mod rivals;

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use skein_harness::Mesh;

use crate::{
    closed_loop,
    engine::{Guests, JSON, JSON_ANSWER},
    report::{Line, Row, Sample, lines, table},
    script::rivals::{Programs, Rival},
    single::Single,
};

const ROUND: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(200);
/// Starts of each kind.
const STARTS: usize = 10;

/// Where a handler is reached.
#[derive(Clone)]
struct Target {
    name: &'static str,
    url: String,
    key: String,
}

pub(crate) fn run(binary: &str, rounds: usize, is_quick: bool) -> Result<()> {
    let programs = Programs::install()?;
    let script = std::fs::read_to_string(Guests::script("json.js"))?;
    let mesh = Mesh::start(binary, 3);
    starts(&mesh, &programs, &script, if is_quick { 2 } else { STARTS })?;

    let node = programs.node()?;
    let workerd = programs.workerd()?;
    let (url, key) = (|name: &str| format!("http://{}/fn/default/{name}", mesh.nodes[0].http()), mesh.nodes[0].key());
    for (name, instance) in [("warm", "reuse"), ("fresh", "fresh")] {
        let toml = format!("name = \"{name}\"\nmain = \"index.js\"\ninstance = \"{instance}\"\n");
        publish(&mesh, name, &script, &toml)?;
    }
    let targets = [
        Target { name: "Node http", url: node.url(), key: String::new() },
        Target { name: "workerd", url: workerd.url(), key: String::new() },
        Target { name: "Skein, warm instance", url: url("warm"), key: key.clone() },
        Target { name: "Skein, fresh sandbox", url: url("fresh"), key },
    ];
    calls(&targets, rounds, if is_quick { QUICK } else { ROUND })?;
    println!("resident memory after these calls, MiB");
    for (name, pid) in
        [("Node", node.pid()), ("workerd", workerd.pid()), ("Skein, the whole node", mesh.nodes[0].pid())]
    {
        println!("  {name:<34} {:>8.1}", resident_kib(pid)? / 1024.0);
    }
    println!();
    Ok(())
}

fn publish(mesh: &Mesh, name: &str, script: &str, toml: &str) -> Result<()> {
    mesh.file(&format!("{name}/index.js"), script.as_bytes());
    let manifest = mesh.file(&format!("{name}/function.toml"), toml.as_bytes());
    let ran = mesh.skein(0, &["publish", manifest.trim_end_matches("/function.toml")]);
    ensure!(ran.code == 0, "{}", ran.stderr);
    Ok(())
}

/// From the command that starts it to the first answer: a script nobody has seen, on another node than it was given to;
/// a process, for the rivals.
fn starts(mesh: &Mesh, programs: &Programs, script: &str, count: usize) -> Result<()> {
    let client = Single::new()?;
    let mut rows = ["Node: process to answer", "workerd: process to answer", "Skein: publish to answer"]
        .map(|name| Line { name: name.to_owned(), nanos: Vec::new(), goals: Vec::new() });
    let key = mesh.nodes[2].key();
    for i in 0..count {
        let starters: [&dyn Fn() -> Result<Rival>; 2] = [&|| programs.node(), &|| programs.workerd()];
        for (row, start) in rows.iter_mut().zip(starters) {
            let begin = SystemTime::now();
            let rival = start()?;
            ensure!(client.post(&rival.url(), "", JSON)? == JSON_ANSWER, "{}: another answer", row.name);
            row.nanos.push(begin.elapsed()?.as_nanos() as f64);
        }
        let name = format!("start-{i}");
        let file = mesh.file(&format!("{name}.js"), format!("// {i}\n{script}").as_bytes());
        let url = format!("http://{}/fn/default/{name}", mesh.nodes[2].http());
        let begin = SystemTime::now();
        let ran = mesh.skein(0, &["publish", &file, "--as", &name]);
        ensure!(ran.code == 0, "{}", ran.stderr);
        ensure!(client.post(&url, &key, JSON)? == JSON_ANSWER, "another answer");
        rows[2].nanos.push(begin.elapsed()?.as_nanos() as f64);
    }
    lines("a handler's start: from the command to the first answer", &rows);
    Ok(())
}

fn calls(targets: &[Target], rounds: usize, time: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for connections in [1, 16] {
        let mut rows: Vec<Row> = targets.iter().map(|target| Row::new(target.name)).collect();
        for _ in 0..rounds {
            for (row, target) in rows.iter_mut().zip(targets) {
                row.samples.push(runtime.block_on(measure(target.clone(), connections, time))?);
            }
        }
        table(&format!("JSON in, JSON out by a script, {connections} connections"), &rows);
    }
    Ok(())
}

async fn measure(target: Target, connections: usize, time: Duration) -> Result<Sample> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(connections).tcp_nodelay(true).build()?;
    let name = target.name;
    closed_loop::run(connections, time, move |_| {
        let call = client.post(&target.url).bearer_auth(&target.key).body(JSON);
        async move {
            let answer = call.send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            ensure!(status.is_success() && body == JSON_ANSWER, "{name}: {status}: {body}");
            Ok(())
        }
    })
    .await
}

fn resident_kib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
