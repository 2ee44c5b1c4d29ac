//! How much of the processors the kernel lets this process use: the bound of its control groups, of either version.
//!
//! A node in a container shares a machine whose processors may be idle while its own part of them is used up.

use std::fs;

/// Where the hierarchies of control groups are, in a container too.
const GROUPS: &str = "/sys/fs/cgroup";

/// Cores that this process and what else is in its groups may use at most; none if nothing bounds them. Read anew each
/// time, since bounds are changed under running processes.
pub(super) fn cores() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    narrowest(&groups, |path| fs::read_to_string(format!("{GROUPS}{path}")).ok())
}

/// The narrowest bound of the groups listed as `/proc/self/cgroup` does, and of those they are in. A path that cannot be
/// read is passed by: a container may see its own group as the root, under whatever name the host knows it.
fn narrowest(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let mut narrowest: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(mut path)) = (parts.next(), parts.next()) else { continue };
        let is_unified = controllers.is_empty();
        if !is_unified && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        loop {
            path = path.trim_end_matches('/');
            let bound = if is_unified { unified(path, &read) } else { separate(path, &read) };
            narrowest = match (narrowest, bound) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    narrowest
}

/// `cpu.max` of version 2: `max 100000` or `50000 100000`.
fn unified(path: &str, read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let text = read(&format!("{path}/cpu.max"))?;
    let (quota, period) = text.trim().split_once(' ')?;
    share(quota, period)
}

/// Two files of version 1; a quota of -1 is none.
fn separate(path: &str, read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let file = |name: &str| read(&format!("/cpu{path}/cpu.cfs_{name}_us"));
    share(file("quota")?.trim(), file("period")?.trim())
}

fn share(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of a process in these groups, where the kernel has these files.
    fn check(groups: &str, files: &[(&str, &str)], expected: Option<f64>) {
        let read = |path: &str| files.iter().find(|(known, _)| *known == path).map(|(_, text)| (*text).to_owned());
        assert_eq!(narrowest(groups, read), expected, "{groups} {files:?}");
    }

    #[test]
    fn the_narrowest_of_a_group_and_those_it_is_in_counts() {
        let nested =
            [("/a/b/cpu.max", "400000 100000\n"), ("/a/cpu.max", "50000 100000\n"), ("/cpu.max", "max 100000\n")];
        check("0::/a/b\n", &nested, Some(0.5));
        check("0::/a\n", &nested[..1], None);
        check("0::/\n", &[("/cpu.max", "max 100000\n")], None);
    }

    #[test]
    fn a_container_sees_its_bound_at_the_root_whatever_the_host_calls_it() {
        check("0::/\n", &[("/cpu.max", "150000 100000\n")], Some(1.5));
        let files = [("/cpu/cpu.cfs_quota_us", "4000\n"), ("/cpu/cpu.cfs_period_us", "10000\n")];
        check("5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/docker/1\n", &files, Some(0.4));
    }

    #[test]
    fn no_bound_and_nonsense_are_none() {
        let files = [("/cpu/a/cpu.cfs_quota_us", "-1\n"), ("/cpu/a/cpu.cfs_period_us", "100000\n")];
        check("4:cpu:/a\n", &files, None);
        check("4:cpuset:/a\n", &files, None);
        check("nonsense\n0::/\n", &[("/cpu.max", "much\n")], None);
        check("0::/\n", &[("/cpu.max", "0 0\n")], None);
    }
}
