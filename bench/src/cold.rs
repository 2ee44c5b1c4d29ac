//! The first call of a function whose compiled code is on disk, beside a warm call of the same function.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use skein_harness::{Mesh, echo_variant};

use crate::report::{Row, Sample, table};

/// Functions called once each: every one has code of its own.
const FUNCTIONS: usize = 100;

pub(crate) fn run(binary: &str) -> Result<()> {
    let mut mesh = Mesh::start(binary, 1);
    for i in 0..FUNCTIONS {
        let text = echo_variant(i);
        mesh.publish_wat(0, &format!("echo-{i}"), &text).ok();
    }
    // The node forgets what it has loaded; the compiled code stays on disk.
    mesh.nodes[0].terminate();
    mesh.nodes[0].restart();
    let mut rows = [Row::new("warm call"), Row::new("first call, from the cached artefact")];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let mut times = [Vec::new(), Vec::new()];
    for i in 0..FUNCTIONS {
        let url = format!("http://{}/fn/default/echo-{i}", mesh.nodes[0].http());
        for start in ["cold", "warm"] {
            let call = client.post(&url).bearer_auth(mesh.nodes[0].key()).body("x");
            let sent = SystemTime::now();
            let answer = runtime.block_on(async { call.send().await?.error_for_status() })?;
            let took = sent.elapsed().unwrap_or(Duration::ZERO);
            let said = answer.headers().get("skein-start").and_then(|value| value.to_str().ok()).unwrap_or_default();
            anyhow::ensure!(said == start, "echo-{i} was {said}, not {start}");
            times[usize::from(start == "cold")].push(took);
        }
    }
    for (row, times) in rows.iter_mut().zip(times) {
        let total = times.iter().sum();
        row.samples.push(Sample::of(times, total));
    }
    table(&format!("first call over HTTP, {FUNCTIONS} small functions, one caller"), &rows);
    Ok(())
}
