//! How long a node takes to open its log again, and how much memory: after 10, 100 and 1,000 MiB of proposals, with the
//! rule that bounds the log and without it, beside reading and checksumming the same bytes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_raft::{Config, Eligibility, Group, Limits, StateMachine};
use skein_transport::{Duplex, Service, Transport};
use tokio::{task::JoinSet, time::Instant};

const NODE: NodeId = NodeId(1);

/// Bytes of a proposal.
const PROPOSAL_BYTES: usize = 16 << 10;

/// The state: so many of the newest proposals, 4 MiB together.
const KEPT: usize = 256;

/// Proposals under way at a time.
const CALLERS: usize = 64;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(quick: bool) -> Result<()> {
    println!("restart of one node after so much was proposed in entries of 16 KiB, on a state of 4 MiB");
    println!("  {:<26} {:>9} {:>12} {:>10} {:>10} {:>8}", "", "MiB there", "floor ms", "ms", "MiB peak", "× floor");
    let sizes: &[usize] = if quick { &[10] } else { &[10, 100, 1_000] };
    for mib in sizes {
        for is_bounded in [true, false] {
            let dir = tempfile::tempdir()?;
            tokio::runtime::Runtime::new()?.block_on(fill(dir.path(), *mib, is_bounded))?;
            let (floor, node) = (once(dir.path(), true)?, once(dir.path(), false)?);
            let rule = if is_bounded { "with the rule" } else { "without" };
            println!(
                "  {:<26} {:>9.1} {:>12.1} {:>10.1} {:>10.1} {:>8.1}",
                format!("{mib} MiB, {rule}"),
                bytes_in(dir.path())? as f64 / f64::from(1 << 20),
                floor.ms,
                node.ms,
                node.peak_mib,
                node.ms / floor.ms
            );
        }
    }
    println!();
    Ok(())
}

/// What one start took.
#[derive(Debug, Serialize, Deserialize)]
struct Took {
    ms: f64,
    peak_mib: f64,
}

/// Starts in a process of its own, so that the peak of its memory is that of the start.
fn once(dir: &Path, is_floor: bool) -> Result<Took> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("restart-once").arg(dir).args(is_floor.then_some("--floor"));
    let output = command.output()?;
    ensure!(output.status.success(), "a start failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Opens the group in `dir` once, or only reads what is there, and prints what that took.
pub(crate) fn run_once(dir: &Path, is_floor: bool) -> Result<()> {
    let started = Instant::now();
    if is_floor {
        let mut sum = 0;
        for file in files_in(dir)? {
            sum ^= crc32fast::hash(&fs::read(file)?);
        }
        std::hint::black_box(sum);
    } else {
        let config = config(dir, true);
        tokio::runtime::Runtime::new()?.block_on(async {
            let group = Group::<Window>::start(config, Arc::new(Alone)).await?;
            ensure!(!group.state().kept.is_empty(), "the state was not restored");
            anyhow::Ok(())
        })?;
    }
    let ms = started.elapsed().as_secs_f64() * 1e3;
    println!("{}", serde_json::to_string(&Took { ms, peak_mib: peak_mib()? })?);
    Ok(())
}

fn peak_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak of memory")?;
    let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1_024.0)
}

fn config(dir: &Path, is_bounded: bool) -> Config {
    let mut config = Config::new(dir, NODE);
    if !is_bounded {
        let unbounded = Limits { snapshot_entries: u64::MAX, snapshot_bytes: u64::MAX, ..Limits::default() };
        config.limits = unbounded;
    }
    config
}

/// Proposes so many MiB, and ends as a node that was killed: without a last snapshot.
async fn fill(dir: &Path, mib: usize, is_bounded: bool) -> Result<()> {
    let group = Group::<Window>::start(config(dir, is_bounded), Arc::new(Alone)).await?;
    group.found(Vec::new()).await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let mut left = (mib << 20) / PROPOSAL_BYTES;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let share = left.div_ceil(CALLERS - callers.len());
        left -= share;
        let group = group.clone();
        callers.spawn(async move {
            for _ in 0..share {
                let proposal = Bytes::from(vec![7; PROPOSAL_BYTES]);
                group.submit(&proposal, Instant::now() + PATIENCE).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done?.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    }
    group.shutdown().await.map_err(|failure| anyhow::anyhow!("{failure}"))
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in ["log", "snapshots"] {
        for entry in fs::read_dir(dir.join(part))? {
            files.push(entry?.path());
        }
    }
    Ok(files)
}

fn bytes_in(dir: &Path) -> Result<u64> {
    files_in(dir)?.iter().try_fold(0, |sum, file| Ok(sum + fs::metadata(file)?.len()))
}

/// A state of bounded size: the newest proposals.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Window {
    index: u64,
    kept: Vec<Bytes>,
}

impl StateMachine for Window {
    type Proposal = Bytes;
    type Outcome = ();

    fn is_of_newer_release(_: &[u8]) -> bool {
        false
    }

    fn index(&self) -> u64 {
        self.index
    }

    fn apply(&mut self, index: u64, proposal: &Bytes) {
        self.index = index;
        let at = index as usize % KEPT;
        self.kept.resize(self.kept.len().max(at + 1), Bytes::new());
        self.kept[at] = proposal.clone();
    }

    fn advance(&mut self, index: u64) {
        self.index = index;
    }

    fn set_voters(&mut self, index: u64, _: &BTreeSet<NodeId>) {
        self.index = index;
    }

    /// There is nobody to compare with.
    fn fingerprint(&self) -> u64 {
        0
    }

    fn snapshot(&self) -> Result<Bytes, String> {
        skein_proto::codec::encode(self).map_err(|error| error.to_string())
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        skein_proto::codec::decode(bytes).map_err(|error| error.to_string())
    }

    fn refusal((): &()) -> Option<Failure> {
        None
    }

    fn remembered(&self, _: &Bytes) -> Option<(u64, ())> {
        None
    }

    fn members(&self) -> Vec<(NodeId, Eligibility)> {
        vec![(NODE, Eligibility::May)]
    }
}

/// The network of a group of one.
struct Alone;

#[async_trait]
impl Transport for Alone {
    fn local(&self) -> NodeId {
        NODE
    }

    async fn call(&self, _: NodeId, _: Service, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Err(nobody())
    }

    async fn open(&self, _: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(nobody())
    }

    fn datagram(&self, _: NodeId, _: Service, _: Bytes) {}
}

fn nobody() -> Failure {
    Failure::not_executed(ErrorCode::Unreachable, "there is nobody else")
}
