//! A directory of the machine that a call is given.

use std::{io, path::Path, sync::Arc};

use super::disk::DiskDirectory;

/// A directory of the machine that a guest finds open when it starts. For runs by hand (`skein run --dir`): a mesh
/// gives none to its functions.
///
/// The guest reaches what is in the directory and below it, and nothing else: no `..`, absolute path, symbolic link or
/// renaming leads out of it.
#[derive(Debug, Clone)]
pub struct Preopen {
    directory: DiskDirectory,
    guest: Arc<str>,
}

impl Preopen {
    /// Opens the directory `path`, which the guest sees as `guest`. If `is_read_only`, everything that would change
    /// something fails.
    ///
    /// # Errors
    /// The system's, if it cannot be opened; `InvalidInput` for a name that no guest can have: an empty one, one with a
    /// NUL, one of more than 4,096 bytes.
    pub fn open(path: &Path, guest: &str, is_read_only: bool) -> io::Result<Self> {
        if guest.is_empty() || guest.contains('\0') || guest.len() > super::paths::PATH_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "that is no name a guest can have for a directory",
            ));
        }
        Ok(Self { directory: DiskDirectory::open_ambient(path, is_read_only)?, guest: guest.into() })
    }

    pub(super) fn directory(&self) -> DiskDirectory {
        self.directory.clone()
    }

    pub(super) fn guest(&self) -> Arc<str> {
        Arc::clone(&self.guest)
    }
}
