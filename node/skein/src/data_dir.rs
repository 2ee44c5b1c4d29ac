//! A node's data directory: its layout, its format version and the lock that keeps a second process out.
//!
//! It never looks inside what others keep there; see `identity`, `raft`, `artifacts` and `cache` for that. It only sees to
//! it that no other user may.

mod private;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use skein_proto::{ErrorCode, Failure};

/// The layout this release reads and writes. Raise it when an older release could misread the directory.
const FORMAT: u32 = 1;
/// Names it.
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const CACHE: &str = "cache";

/// An open data directory, locked while this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Held for its lock, which the system drops with the process, however it ends.
    _lock: File,
}

impl DataDir {
    /// Opens or creates `path` for this process alone, and closes it to other users.
    ///
    /// # Errors
    /// `bad-request` for a file, what this user may not use, or what others may and cannot be closed to them,
    /// `data-dir-in-use`, `data-dir-too-new`, `corrupt-store` for an unreadable format file, `disk-full`, or
    /// `internal` with the system's message.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| io_failure(what, path, &error);
        private::create(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let message = format!("--data takes a directory, and {} is a file", path.display());
                Failure::not_executed(ErrorCode::BadRequest, message)
            }
            _ => failed("create the data directory", error),
        })?;
        let path = path.canonicalize().map_err(|error| failed("find the data directory", error))?;
        let lock = lock(&path)?;
        private::close(&path, &path.join(FORMAT_FILE), &path.join(CACHE), &[LOCK_FILE])?;
        check_format(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    pub(crate) fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path.join(CACHE)
    }

    /// The key that the files of the cache are sealed with.
    pub(crate) fn cache_key(&self) -> PathBuf {
        self.path.join("cache.key")
    }

    /// The last known records of where the members are reached.
    pub(crate) fn addresses(&self) -> PathBuf {
        self.path.join("addresses")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.path.join("node.toml")
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.path.join("context.toml")
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let lock_path = path.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| io_failure("open the lock", &lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::not_executed(
            ErrorCode::DataDirInUse,
            format!("the data directory {} is in use by another skein process", path.display()),
        )),
        Err(TryLockError::Error(error)) => Err(io_failure("lock", &lock_path, &error)),
    }
}

fn check_format(path: &Path) -> Result<(), Failure> {
    let file = path.join(FORMAT_FILE);
    match fs::read(&file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let found: u32 = text.trim().parse().map_err(|_| {
                let message = format!(
                    "{} is damaged: it must hold the format's number, and nothing else. No release before this one \
                     wrote another than {FORMAT}",
                    file.display()
                );
                Failure::not_executed(ErrorCode::CorruptStore, message)
            })?;
            if found > FORMAT {
                let message = format!(
                    "{} names format {found}; this release reads up to {FORMAT}. If no newer release ever ran here, the \
                     file is damaged",
                    file.display()
                );
                return Err(Failure::not_executed(ErrorCode::DataDirTooNew, message));
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_private(&file, format!("{FORMAT}\n").as_bytes()),
        Err(error) => Err(io_failure("read", &file, &error)),
    }
}

/// Makes a directory that only its owner may use, and those above it, unless it is there.
///
/// # Errors
/// As [`io_failure`].
pub(crate) fn create_private(path: &Path) -> Result<(), Failure> {
    private::create(path).map_err(|error| io_failure("create", path, &error))
}

/// Writes a file that only its owner may read, whole or not at all, and durably.
///
/// # Errors
/// `disk-full` or `internal`; the old file, if any, is still there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_failure("write", path, &error)
    })
}

/// Works on files aside from the threads that tasks run on: a slow disk holds up whoever waits for this, and nobody else.
///
/// # Errors
/// Those of the work.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::maybe_executed(ErrorCode::Internal, error.to_string())))
}

/// A file operation that failed, as a failure that names the file.
pub(crate) fn io_failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        io::ErrorKind::NotFound => ErrorCode::NotFound,
        // The path is not one that this user can use so: that is for the user to correct.
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            ErrorCode::BadRequest
        }
        _ => ErrorCode::Internal,
    };
    Failure::not_executed(code, format!("could not {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert_eq!(DataDir::open(dir.path()).unwrap_err().code, ErrorCode::DataDirInUse);
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_is_no_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let failure = DataDir::open(&path).unwrap_err();
            assert_eq!(failure.code, ErrorCode::BadRequest, "{failure}");
            assert!(failure.message.contains(&*path.to_string_lossy()), "{failure}");
        }
    }

    #[test]
    fn a_newer_or_damaged_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (text, code) in [
            (&b"2\n"[..], ErrorCode::DataDirTooNew),
            (b"one", ErrorCode::CorruptStore),
            (b"\xb1\n", ErrorCode::CorruptStore),
        ] {
            fs::write(dir.path().join("FORMAT"), text).unwrap();
            let failure = DataDir::open(dir.path()).unwrap_err();
            assert_eq!(failure.code, code);
            assert!(failure.message.contains("FORMAT"), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn a_slow_disk_holds_nobody_else_up() {
        let (wake, disk) = std::sync::mpsc::channel();
        let slow =
            aside(move || disk.recv().map_err(|error| Failure::not_executed(ErrorCode::Internal, error.to_string())));
        // On this runtime's only thread: it comes to run while the disk is waited for, or never.
        let (written, ()) = tokio::join!(biased; slow, async { wake.send(()).unwrap() });
        written.unwrap();
    }

    #[test]
    fn private_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write_private(&file, b"x").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
