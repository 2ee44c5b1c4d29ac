//! A share of a core for each node, as if it had a small machine of its own: a group of the kernel's `cpu` controller.
//!
//! Nodes on one machine share its cores, so that a node with all the work simply takes what the idle ones leave, and
//! nothing is gained by spreading it. A bound for each makes them what they are in life.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use skein_harness::Mesh;

/// The kernel deals the share out anew so often: short, so that a node is never stopped for longer than a gossip or a
/// call bears.
const PERIOD_US: u32 = 10_000;
const GROUPS: &str = "/sys/fs/cgroup";
/// How much of its share a group gives to one processor at a time, in microseconds. The kernel's 5 ms are more than a whole
/// period's share: the processor that asked first would have all of it, and a thread on another would get none for as many
/// periods as it lost, which no small machine does to it.
const SLICE_US: u32 = 500;
const SLICE: &str = "/proc/sys/kernel/sched_cfs_bandwidth_slice_us";

/// The bounds of a mesh's nodes; gone when dropped.
pub(crate) struct Cages {
    parent: PathBuf,
    groups: Vec<PathBuf>,
    _slice: Slice,
}

/// The kernel's setting for all groups of the machine while there are cages; as it was before, when dropped.
struct Slice(Option<String>);

impl Slice {
    fn lower() -> Self {
        let before = fs::read_to_string(SLICE).ok();
        let is_set = before.is_some() && fs::write(SLICE, SLICE_US.to_string()).is_ok();
        if !is_set {
            println!("  {SLICE} cannot be set: a node may get nothing for several periods");
        }
        Self(before.filter(|_| is_set))
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = fs::write(SLICE, before.trim())
        {
            println!("{SLICE} is left at {SLICE_US}: {error}");
        }
    }
}

/// Where groups are made: the hierarchy of the `cpu` controller, of either version of cgroups. None without the right.
fn parent() -> Option<(PathBuf, bool)> {
    let root = Path::new(GROUPS);
    let has_cpu = |text: String| text.split_whitespace().any(|controller| controller == "cpu");
    let is_unified = fs::read_to_string(root.join("cgroup.subtree_control")).is_ok_and(has_cpu);
    let parent = if is_unified { root.to_owned() } else { root.join("cpu") };
    let tried = parent.join(format!("skein-bench-{}", std::process::id()));
    fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried)).ok()?;
    Some((parent, is_unified))
}

/// `true` if this process may bound others.
pub(crate) fn is_possible() -> bool {
    parent().is_some()
}

impl Cages {
    /// Lets each node of the mesh, and what it starts, use so many hundredths of a core from now on.
    pub(crate) fn around(mesh: &Mesh, percent: u32) -> Result<Self> {
        let (parent, is_unified) = parent().context("no right to make groups of the cpu controller: run as root")?;
        let mut cages = Self { parent, groups: Vec::new(), _slice: Slice::lower() };
        let quota = PERIOD_US / 100 * percent;
        for node in &mesh.nodes {
            let group = cages.parent.join(format!("skein-bench-{}-{}", std::process::id(), node.name));
            fs::create_dir(&group).with_context(|| format!("making {}", group.display()))?;
            cages.groups.push(group.clone());
            if is_unified {
                fs::write(group.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
            } else {
                fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
            }
            fs::write(group.join("cgroup.procs"), node.pid().to_string())?;
        }
        Ok(cages)
    }
}

impl Drop for Cages {
    fn drop(&mut self) {
        for group in &self.groups {
            // A group can go when nobody is in it.
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines() {
                let _ = fs::write(self.parent.join("cgroup.procs"), process);
            }
            if let Err(error) = fs::remove_dir(group) {
                println!("{} is left behind: {error}", group.display());
            }
        }
    }
}
