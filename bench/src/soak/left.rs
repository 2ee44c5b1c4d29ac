//! What nodes hold when nobody calls them: permits, memory, threads, descriptors.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use skein_harness::Mesh;

use crate::nodes::sum;

/// Of each node that runs.
#[derive(Debug)]
pub(super) struct Left(Vec<Node>);

#[derive(Debug)]
struct Node {
    name: String,
    resident_mib: u64,
    threads: u64,
    files: u64,
    /// Calls that run or wait, and guests.
    calls: u64,
}

/// What a node may hold more than the largest did at the beginning: the heap keeps some of what bursts needed, caches fill.
const RESIDENT_MIB: u64 = 64;
const THREADS: u64 = 8;
const FILES: u64 = 24;

impl Left {
    pub(super) fn of(mesh: &Mesh) -> Result<Self> {
        let mut nodes = Vec::new();
        for (i, node) in mesh.nodes.iter().enumerate() {
            if !node.has_process() {
                continue;
            }
            let pid = node.pid();
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let field = |name: &str| -> Result<u64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
                Ok(line.trim().trim_end_matches(" kB").parse()?)
            };
            let metrics = mesh.admin(i).get("/metrics").text();
            let calls: f64 = [
                "skein_runtime_calls_in_flight",
                "skein_runtime_calls_queued",
                "skein_runtime_guests_running",
                "skein_runtime_guests_waiting",
            ]
            .iter()
            .map(|name| sum(&metrics, name))
            .sum();
            nodes.push(Node {
                name: node.name.clone(),
                resident_mib: field("VmRSS:")? / 1_024,
                threads: field("Threads:")?,
                files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
                calls: calls as u64,
            });
        }
        Ok(Self(nodes))
    }

    pub(super) fn show(&self, when: &str) {
        println!("{when}: resident MiB, threads, descriptors, calls");
        for node in &self.0 {
            println!("  {}: {}, {}, {}, {}", node.name, node.resident_mib, node.threads, node.files, node.calls);
        }
    }

    /// Whether nothing is left over.
    pub(super) fn check(&self, began: &Self) -> Result<()> {
        let most = |of: fn(&Node) -> u64| began.0.iter().map(of).max().unwrap_or_default();
        for node in &self.0 {
            let name = &node.name;
            ensure!(node.calls == 0, "{name} believes that {} calls are under way", node.calls);
            for (what, now, then, more) in [
                ("MiB resident", node.resident_mib, most(|node| node.resident_mib), RESIDENT_MIB),
                ("threads", node.threads, most(|node| node.threads), THREADS),
                ("descriptors", node.files, most(|node| node.files), FILES),
            ] {
                ensure!(now <= then + more, "{name} has {now} {what}; the most at the beginning was {then}");
            }
        }
        Ok(())
    }
}
