//! Artifacts on this node's disk, one file each, named by digest. Blocking: callers keep it off async threads.
//!
//! ```text
//! DIR/tmp/17               being written; removed at the next start
//! DIR/ab/abcdef…           an artifact: written, synced, then renamed into its place, directory synced
//! DIR/ab/abcdef….corrupt   bytes that did not match their digest, kept for a look until they are collected
//! ```

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use skein_proto::{Digest, Limits};

#[cfg(test)]
mod tests;

/// The files of one node's artifacts.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    bytes_max: u64,
    /// Bytes of artifacts kept or being written.
    used: AtomicU64,
    temp_next: AtomicU64,
    /// Held while a file takes or leaves its place, so that nobody sets aside or collects what was just put there.
    places: Mutex<()>,
}

/// What a look at a digest's file found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The bytes, which match the digest.
    Sound(Bytes),
    /// No file.
    Absent,
    /// A file that did not match; it was set aside.
    Corrupt,
}

/// Why bytes were not kept. Nothing is left of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// More than an artifact may have.
    #[error("the artifact has {0} bytes; at most {max} may be", max = Limits::ARTIFACT_BYTES_MAX)]
    TooLarge(u64),
    /// Not the bytes they were said to be.
    #[error("the bytes have digest {found}, not {expected}")]
    Mismatch { expected: Digest, found: Digest },
    /// The disk, or the share of it that artifacts may use, is full.
    #[error("there is no room for an artifact of {0} bytes")]
    NoRoom(usize),
    /// The system failed otherwise.
    #[error("the artifact could not be written: {0}")]
    Io(#[from] io::Error),
}

/// What a garbage collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Artifacts that stayed.
    pub kept: usize,
    /// Artifacts removed, and corrupt files removed.
    pub removed: usize,
    /// Bytes given back.
    pub freed_bytes: u64,
}

const TEMP: &str = "tmp";
const CORRUPT: &str = "corrupt";

impl Store {
    /// Opens or makes the store; what interrupted writes left behind is removed.
    pub(crate) fn open(dir: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let temp = dir.join(TEMP);
        create_private_dir(&temp)?;
        for entry in fs::read_dir(&temp)? {
            let remove = |path: &Path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            // What cannot be removed takes up room and is in nobody's way.
            if let Err(error) = entry.and_then(|entry| remove(&entry.path())) {
                tracing::warn!(dir = %temp.display(), %error, "a left-over in the directory of artifacts stays");
            }
        }
        sync_dir(&dir)?;
        let store =
            Self { dir, bytes_max, used: AtomicU64::new(0), temp_next: AtomicU64::new(0), places: Mutex::new(()) };
        let used = store.files()?.into_iter().filter(|(_, digest)| digest.is_some());
        let used = used.map(|(path, _)| path.metadata().map_or(0, |metadata| metadata.len())).sum();
        store.used.store(used, Ordering::Relaxed);
        Ok(store)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The bytes of `digest`, verified. What does not match is set aside.
    pub(crate) fn read(&self, digest: Digest) -> io::Result<Found> {
        let path = self.path(digest);
        match read_bounded(&path)? {
            None => return Ok(Found::Absent),
            Some(bytes) if Digest::of(&bytes) == digest => return Ok(Found::Sound(bytes.into())),
            Some(_) => {}
        }
        // Somebody may have put the right bytes in its place meanwhile: look again, now that the place is ours.
        let _places = self.places();
        match read_bounded(&path)? {
            Some(bytes) if Digest::of(&bytes) == digest => Ok(Found::Sound(bytes.into())),
            Some(bytes) => {
                fs::rename(&path, path.with_extension(CORRUPT))?;
                self.release(bytes.len());
                Ok(Found::Corrupt)
            }
            None => Ok(Found::Corrupt),
        }
    }

    /// Whether the artifact is here, sound and durable; if so it counts as stored now.
    pub(crate) fn confirm(&self, digest: Digest) -> io::Result<Found> {
        let found = self.read(digest)?;
        if let Found::Sound(_) = found {
            let _places = self.places();
            match File::options().append(true).open(self.path(digest)) {
                Ok(file) => file.set_modified(SystemTime::now())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
                Err(error) => return Err(error),
            }
            // The file was synced before it came here; its name may not have been when the node crashed.
            sync_dir(&self.shard(digest))?;
        }
        Ok(found)
    }

    /// Keeps `bytes` durably. With `expected`, only if that is their digest. True beside the digest: a corrupt file
    /// was found in its place and set aside.
    pub(crate) fn put(&self, expected: Option<Digest>, bytes: &[u8]) -> Result<(Digest, bool), PutError> {
        if bytes.len() as u64 > Limits::ARTIFACT_BYTES_MAX {
            return Err(PutError::TooLarge(bytes.len() as u64));
        }
        let found = Digest::of(bytes);
        if let Some(expected) = expected
            && expected != found
        {
            return Err(PutError::Mismatch { expected, found });
        }
        let was_corrupt = match self.confirm(found) {
            Ok(Found::Sound(_)) => return Ok((found, false)),
            // A file that cannot be read is replaced like one that is not there.
            Ok(Found::Absent) | Err(_) => false,
            Ok(Found::Corrupt) => true,
        };
        self.reserve(bytes.len())?;
        match self.write(found, bytes) {
            Ok(true) => Ok((found, was_corrupt)),
            Ok(false) => {
                self.release(bytes.len());
                Ok((found, was_corrupt))
            }
            Err(error) => {
                self.release(bytes.len());
                Err(match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PutError::NoRoom(bytes.len()),
                    _ => error.into(),
                })
            }
        }
    }

    /// False if somebody else put it there meanwhile.
    fn write(&self, digest: Digest, bytes: &[u8]) -> io::Result<bool> {
        let temp = Temp(self.dir.join(TEMP).join(self.temp_next.fetch_add(1, Ordering::Relaxed).to_string()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp.0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        let shard = self.shard(digest);
        if !shard.is_dir() {
            create_private_dir(&shard)?;
            sync_dir(&self.dir)?;
        }
        let is_new = {
            let _places = self.places();
            let path = self.path(digest);
            let is_new = !path.exists();
            // Renaming over the same bytes does no harm and renews the time.
            fs::rename(&temp.0, &path)?;
            is_new
        };
        // An error here leaves a whole file that nobody was promised: the next put finds it and syncs again.
        sync_dir(&shard)?;
        Ok(is_new)
    }

    /// Removes artifacts that are not `live` and corrupt files, if they were stored longer ago than `older_than`.
    pub(crate) fn collect(&self, live: &HashSet<Digest>, older_than: Duration) -> io::Result<CollectReport> {
        let mut report = CollectReport::default();
        for (path, digest) in self.files()? {
            let _places = self.places();
            let Ok(metadata) = path.metadata() else { continue };
            // A clock that went back makes a file look young: it is kept, and collected later.
            let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            let is_old = age.unwrap_or_default() >= older_than;
            if !is_old || digest.is_some_and(|digest| live.contains(&digest)) {
                report.kept += usize::from(digest.is_some());
                continue;
            }
            fs::remove_file(&path)?;
            report.removed += 1;
            report.freed_bytes += metadata.len();
            if digest.is_some() {
                self.release(usize::try_from(metadata.len()).unwrap_or(usize::MAX));
            }
        }
        Ok(report)
    }

    /// All files in their places: artifacts with their digest, corrupt ones with none. Others are not ours.
    fn files(&self) -> io::Result<Vec<(PathBuf, Option<Digest>)>> {
        let mut files = Vec::new();
        for shard in fs::read_dir(&self.dir)? {
            let shard = shard?;
            if shard.file_name() == TEMP || !shard.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(shard.path())? {
                let path = file?.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let Ok(digest) = format!("sha256:{stem}").parse::<Digest>() else { continue };
                match path.extension() {
                    None => files.push((path, Some(digest))),
                    Some(extension) if extension == CORRUPT => files.push((path, None)),
                    Some(_) => {}
                }
            }
        }
        Ok(files)
    }

    fn reserve(&self, bytes: usize) -> Result<(), PutError> {
        let within = |used: u64| used.checked_add(bytes as u64).filter(|used| *used <= self.bytes_max);
        let reserved = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        reserved.map(|_| ()).map_err(|_| PutError::NoRoom(bytes))
    }

    fn release(&self, bytes: usize) {
        let less = |used: u64| Some(used.saturating_sub(bytes as u64));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn places(&self) -> MutexGuard<'_, ()> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 256 directories, so that none grows large.
    fn shard(&self, digest: Digest) -> PathBuf {
        self.dir.join(&digest.to_hex()[..2])
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.shard(digest).join(digest.to_hex())
    }
}

/// A file that goes away unless it was renamed.
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        // Not found is the usual case: it was renamed. What else fails is cleaned at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// The file's bytes, but never more than one over the most an artifact has; none if there is no file.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len().min(Limits::ARTIFACT_BYTES_MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(Limits::ARTIFACT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Makes a directory, and those above it, that only its owner may use.
fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
