//! The secret by which a process knows the cached files that it wrote, or another of the same user with the same key.
//!
//! Cached code runs with all that the process may do. A checksum finds damage, not a forger, who computes it anew; without
//! this key nobody makes a file that is taken.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// The key of keyed BLAKE3.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealKey([u8; KEY_BYTES]);

const KEY_BYTES: usize = 32;

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(secret)")
    }
}

impl SealKey {
    /// The key in the file at `path`; a new one if there is none that only this user can know.
    ///
    /// A key that cannot be kept, for want of room for one, is used all the same: files are then made anew by the next
    /// process.
    pub(crate) fn open(path: &Path) -> Self {
        let problem = match read(path) {
            Ok(key) => return key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(error),
        };
        if let Some(problem) = &problem {
            tracing::warn!(
                path = %path.display(),
                %problem,
                "the key of the code cache cannot be used; there is a new one, and code is compiled again when it is needed"
            );
        }
        let key = Self(rand::random());
        match key.keep(path, problem.is_some()) {
            Ok(key) => key,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the key of the code cache cannot be kept; the next start compiles code again");
                key
            }
        }
    }

    /// A hasher that makes codes nobody makes without the key.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    /// Writes the key to `path`, whole and synced. Unless it is to be `replaced`, one that another process wrote meanwhile
    /// stays, and is the one that is used.
    fn keep(&self, path: &Path, replaced: bool) -> io::Result<Self> {
        let first = first_name(path);
        let kept = self.write(&first).and_then(|()| {
            if replaced {
                return fs::rename(&first, path).map(|()| self.clone());
            }
            match fs::hard_link(&first, path) {
                Ok(()) => Ok(self.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
                // Some file systems have no links.
                Err(_) => fs::rename(&first, path).map(|()| self.clone()),
            }
        });
        // Gone already if it was renamed.
        let _ = fs::remove_file(&first);
        let key = kept?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(key)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&self.0)?;
        file.sync_all()
    }
}

/// A name beside `path` that nobody else uses. What a process leaves there when it dies is removed with what else it left.
fn first_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}-{}-{:016x}.tmp", std::process::id(), rand::random::<u64>()))
}

/// The key in a file that only this user may read.
///
/// # Errors
/// `NotFound`; `InvalidData` for a file that somebody else may know or have written.
fn read(path: &Path) -> io::Result<SealKey> {
    let file = open_own(path)?;
    let meta = file.metadata()?;
    if meta.mode() & 0o077 != 0 {
        return Err(invalid("other users may read or write it"));
    }
    let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    bytes.try_into().map(SealKey).map_err(|_| invalid("it has not the length of a key"))
}

/// Opens a regular file of this user's to be read; no link is followed, nothing is waited for.
///
/// # Errors
/// `NotFound`; `InvalidData` for anything that is no such file; what the system says.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => invalid("a symbolic link"),
        Some(rustix::io::Errno::NXIO) => invalid("not a file"),
        _ => error,
    })?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(invalid("not a file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(invalid("another user's"));
    }
    Ok(file)
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SealKey::open(&path);
        assert!(key == SealKey::open(&path));
        assert_eq!((mode(&path), fs::read_dir(dir.path()).unwrap().count()), (0o600, 1));
        assert!(key != SealKey::open(&dir.path().join("other")), "no two are alike");
    }

    #[test]
    fn a_key_that_others_may_know_or_have_written_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("key"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, [7; KEY_BYTES]).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SealKey::open(&elsewhere) == SealKey([7; KEY_BYTES]), "a sound one is taken");
        let spoil: [&dyn Fn(); 5] = [
            &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap(),
            &|| fs::write(&path, [7; KEY_BYTES - 1]).unwrap(),
            &|| fs::write(&path, [7; KEY_BYTES + 1]).unwrap(),
            &|| {
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
            },
            // Only the superuser can try it.
            &|| drop(std::os::unix::fs::chown(&path, Some(12_345), None)),
        ];
        let may_give_away = rustix::process::geteuid().is_root();
        for spoil in spoil.iter().take(if may_give_away { 5 } else { 4 }) {
            let before = SealKey::open(&path);
            spoil();
            let after = SealKey::open(&path);
            assert!(after != before && after != SealKey([7; KEY_BYTES]));
            assert!(after == SealKey::open(&path), "and kept");
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(fs::read(&elsewhere).unwrap(), [7; KEY_BYTES], "what a link points to is left alone");
    }

    #[test]
    fn a_key_that_cannot_be_kept_is_used_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("missing/key");
        assert!(SealKey::open(&nowhere) != SealKey::open(&nowhere));
    }

    #[test]
    fn who_comes_second_takes_the_key_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = SealKey::open(&path);
        assert!(SealKey([9; KEY_BYTES]).keep(&path, false).unwrap() == first);
        assert!(SealKey([9; KEY_BYTES]).keep(&path, true).unwrap() == SealKey::open(&path));
    }
}
