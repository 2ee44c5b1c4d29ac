//! How much room the disk has: asked before entries are taken on, so that a full disk refuses instead of failing.

use std::{path::PathBuf, sync::Arc};

/// The disk that a group writes to. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    dir: Arc<PathBuf>,
    reserve_bytes: u64,
}

impl Disk {
    pub(crate) fn new(dir: PathBuf, reserve_bytes: u64) -> Self {
        Self { dir: Arc::new(dir), reserve_bytes }
    }

    /// Whether there is less room than the reserve. A disk that does not say counts as having room: a write will tell.
    pub(crate) fn is_full(&self) -> bool {
        let free = rustix::fs::statvfs(&*self.dir).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        free.is_ok_and(|bytes| bytes < self.reserve_bytes)
    }
}
