//! Publish to serving on three nodes, for a small module, and where the time goes.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use skein_harness::{Mesh, echo_variant};

use crate::report::{median_time, micros};

/// Publications; each is a new module, so that each is stored, committed and compiled.
const PUBLISHES: usize = 40;

pub(crate) fn run(binary: &str) -> Result<()> {
    let mesh = Mesh::start(binary, 3);
    let names = [
        "inspect",
        "store and replicate",
        "commit and apply",
        "compile and serve on all three",
        "first call",
        "whole: command to first answer",
    ];
    let mut times: [Vec<Duration>; 6] = Default::default();
    for i in 0..PUBLISHES {
        let text = echo_variant(i);
        let file = mesh.file(&format!("p{i}.wat"), text.as_bytes());
        let started = SystemTime::now();
        let report = mesh.skein(0, &["publish", &file, "--as", "echo", "--json"]).ok().json();
        ensure!(report["serving"].as_array().is_some_and(|nodes| nodes.len() == 3), "not served by all: {report}");
        let called = SystemTime::now();
        let answer = mesh.gateway(1).post("/fn/default/echo", "x");
        ensure!(answer.status == 200 && answer.header("skein-version") == Some(&format!("{}", i + 1)), "{answer:?}");
        let part = |name: &str| Duration::from_micros(report["timings"][name].as_u64().unwrap_or_default());
        let parts = [
            part("inspect_us"),
            part("store_us"),
            part("commit_us"),
            part("serve_us"),
            called.elapsed()?,
            started.elapsed()?,
        ];
        for (times, part) in times.iter_mut().zip(parts) {
            times.push(part);
        }
    }
    println!("publish of a small module on three nodes, {PUBLISHES} times: median ms");
    for (name, times) in names.iter().zip(times) {
        println!("  {name:<34} {:>8.2}", micros(median_time(times)) / 1e3);
    }
    println!();
    Ok(())
}
