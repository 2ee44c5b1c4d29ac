//! How much room the disk has: asked before entries are taken on, so that a full disk refuses instead of failing.

use std::{io, path::PathBuf, sync::Arc};

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

    /// Whether there is less room than the reserve.
    pub(crate) fn is_full(&self) -> bool {
        !self.has_room_for(0)
    }

    /// Whether the reserve remains when so many bytes were written. A disk that does not say counts as having room: a
    /// write will tell.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let needed = self.reserve_bytes.saturating_add(bytes);
        !self.volume.free_bytes(&self.dir).is_ok_and(|free| free < needed)
    }

    /// The failure of what did not fit.
    pub(crate) fn full(bytes: u64) -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, format!("{bytes} bytes would not leave the reserve on the disk"))
    }
}
