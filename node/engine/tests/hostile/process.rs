//! What this process uses of its machine.

use std::{fmt, fs, thread, time::Duration};

use tokio::time::Instant;

/// Memory and mappings of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    resident_bytes: u64,
    mappings: usize,
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB in {} mappings", self.resident_bytes >> 20, self.mappings)
    }
}

impl Footprint {
    /// What an allocator may keep for itself after a compilation, and what threads of the test itself need.
    const KEPT_BYTES: u64 = 160 << 20;
    const KEPT_MAPPINGS: usize = 400;

    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
        let mappings = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        Self { resident_bytes: kib << 10, mappings }
    }

    /// What it is once it is back to `before`, or after `time`.
    pub(crate) fn until(before: &Self, time: Duration) -> Self {
        let end = Instant::now() + time;
        loop {
            let now = Self::now();
            if now.is_back_to(before) || Instant::now() >= end {
                return now;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// True if it uses no more than `before`, and what may be kept.
    pub(crate) fn is_back_to(&self, before: &Self) -> bool {
        self.resident_bytes <= before.resident_bytes + Self::KEPT_BYTES
            && self.mappings <= before.mappings + Self::KEPT_MAPPINGS
    }
}
