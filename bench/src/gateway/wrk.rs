//! The load of the gateway benchmark: Debian's `wrk`, one thread, the same for every subject.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::nodes::{TICKS, cpu_ticks};

/// What one round of load found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the server and of the load generator, for each call.
    pub(crate) server: Duration,
    pub(crate) generator: Duration,
}

/// A server under load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    /// Its process.
    pub(crate) pid: u32,
}

/// `true` if there is a `wrk`.
pub(crate) fn is_there() -> bool {
    Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Sends `body` by POST over so many connections for so long; any failed call is an error.
pub(crate) fn run(target: &Target, body: &str, connections: usize, time: Duration, dir: &Path) -> Result<Load> {
    let script = dir.join("post.lua");
    let key = target.key.as_ref().map_or(String::new(), |key| format!("wrk.headers['authorization'] = 'Bearer {key}'"));
    // What a script does for each answer would cost more than the answers: only the sums are asked for.
    let text = format!(
        "wrk.method = 'POST'\nwrk.body = '{body}'\n{key}\n
        function done(summary, latency)
          local failed = summary.errors
          io.write(string.format('figures %d %d %d %d %d %d\\n', summary.requests, summary.duration,
            latency:percentile(50), latency:percentile(99), failed.status,
            failed.connect + failed.read + failed.write + failed.timeout))
        end"
    );
    fs::write(&script, text)?;
    let (server, own) = (cpu_ticks(&format!("/proc/{}/stat", target.pid), 11)?, cpu_ticks("/proc/self/stat", 13)?);
    let ran = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{}s", time.as_secs().max(1)), "-s"])
        .arg(&script)
        .arg(&target.url)
        .output()
        .context("wrk: apt-get install wrk")?;
    let (server_end, own_end) =
        (cpu_ticks(&format!("/proc/{}/stat", target.pid), 11)?, cpu_ticks("/proc/self/stat", 13)?);
    let text = String::from_utf8_lossy(&ran.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("figures ")).with_context(|| format!("wrk: {ran:?}"))?;
    let figures: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [calls, micros, p50, p99, refused, broken] = figures[..] else { anyhow::bail!("wrk said {line}") };
    ensure!(refused == 0 && broken == 0 && calls > 0, "{}: {refused} refused, {broken} broken", target.url);
    let each = |ticks: u64| Duration::from_nanos(ticks * (1_000_000_000 / TICKS) / calls);
    Ok(Load {
        calls,
        per_second: calls as f64 / (micros as f64 / 1e6),
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
        server: each(server_end - server),
        generator: each(own_end - own),
    })
}
