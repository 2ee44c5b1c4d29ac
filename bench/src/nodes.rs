//! What nodes say of themselves and what the kernel says of their processes.

use std::fs;

use anyhow::{Context as _, Result};
use skein_harness::Mesh;

/// Kernel ticks a second, in which `/proc` counts; the same on every Linux that this runs on.
pub(crate) const TICKS: u64 = 100;

/// Each node's metrics.
pub(crate) fn metrics(mesh: &Mesh) -> Vec<String> {
    (0..mesh.nodes.len()).map(|i| mesh.admin(i).get("/metrics").text()).collect()
}

/// The sum of a metric's series whose lines begin so.
pub(crate) fn sum(text: &str, start: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(start));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What each node's process holds in memory, in bytes.
pub(crate) fn resident(mesh: &Mesh) -> Result<Vec<u64>> {
    process(mesh, "VmRSS:")
}

/// A field of each node's process status, in bytes.
pub(crate) fn process(mesh: &Mesh, field: &str) -> Result<Vec<u64>> {
    let of = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
    };
    mesh.nodes.iter().map(|node| of(node.pid())).collect()
}

/// Ticks in user and in kernel mode, from the two fields that begin at `first` after the process's name: 11 for its own,
/// 13 for those of children it has waited for.
pub(crate) fn cpu_ticks(path: &str, first: usize) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let (_, fields) = text.rsplit_once(')').context("no process name")?;
    let ticks: Vec<u64> = fields.split_whitespace().skip(first).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum())
}

/// Bytes of each node in whole MiB, to be shown.
pub(crate) fn mib(bytes: &[u64]) -> String {
    let each: Vec<_> = bytes.iter().map(|bytes| format!("{:.0}", *bytes as f64 / f64::from(1 << 20))).collect();
    each.join(", ")
}
