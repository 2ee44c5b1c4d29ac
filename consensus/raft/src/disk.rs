//! How much room the disk has: asked before entries are taken on, so that a full disk refuses instead of failing.

use std::{path::PathBuf, sync::Arc};

use crate::volume::Volume;

/// The disk that a group writes to. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    volume: Arc<dyn Volume>,
    dir: Arc<PathBuf>,
    reserve_bytes: u64,
}

impl Disk {
    pub(crate) fn new(volume: Arc<dyn Volume>, dir: PathBuf, reserve_bytes: u64) -> Self {
        Self { volume, dir: Arc::new(dir), reserve_bytes }
    }

    /// Whether there is less room than the reserve. A disk that does not say counts as having room: a write will tell.
    pub(crate) fn is_full(&self) -> bool {
        self.volume.free_bytes(&self.dir).is_ok_and(|bytes| bytes < self.reserve_bytes)
    }
}
