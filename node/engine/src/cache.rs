//! What is kept on disk of each module: machine code by tier, the source of code yet to be optimised, images.
//!
//! Files are [`sealed`] by a [key](seal_key) that only this user has: checked as a whole the first time this process
//! looks at one, and not again as long as it is the same file. No link is followed. The directory is private and has a
//! budget; what was not used for longest leaves first.

mod budget;
mod key;
mod seal_key;
pub(crate) mod sealed;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use budget::Usage;
pub(crate) use key::{Key, Kind};
use seal_key::SealKey;
use sealed::{Label, Stamp};
use sha2::{Digest as _, Sha256};
use skein_proto::Digest;

use crate::{EngineError, metrics, stop::lock};

/// A file under its first name that is older was left by a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);

/// The directory.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    fingerprint: [u8; 32],
    bytes_max: u64,
    key: SealKey,
    /// Files found sound.
    verified: Mutex<HashMap<PathBuf, Entry>>,
    usage: Mutex<Usage>,
}

/// A sound file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// The payload, from the file's start.
    pub(crate) payload_bytes: u64,
    /// What was kept with it.
    pub(crate) meta: Arc<[u8]>,
    stamp: Stamp,
}

impl Entry {
    /// Opens the very file that was found sound.
    ///
    /// # Errors
    /// `InvalidData` if another is there by now; `NotFound`; what the system says.
    pub(crate) fn open(&self) -> io::Result<File> {
        sealed::open(&self.path, &self.stamp)
    }

    /// Whether the file that was found sound is not there any more, for whatever reason.
    pub(crate) fn is_gone(&self) -> bool {
        !Stamp::of(&self.path).is_ok_and(|stamp| stamp == self.stamp)
    }
}

impl Cache {
    /// Opens `dir`, for files that depend on what `fingerprint` describes, sealed by the key in the file `key`. Beyond
    /// `bytes_max` files are removed.
    pub(crate) fn open(dir: &Path, key: &Path, fingerprint: &str, bytes_max: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        remove_abandoned(dir)?;
        let cache = Self {
            dir: dir.to_path_buf(),
            fingerprint: Sha256::digest(fingerprint.as_bytes()).into(),
            bytes_max,
            key: SealKey::open(key),
            verified: Mutex::default(),
            usage: Mutex::default(),
        };
        cache.recount()?;
        Ok(cache)
    }

    /// True if there is a file. Whether it is sound shows when it is used.
    pub(crate) fn contains(&self, key: Key) -> bool {
        fs::symlink_metadata(self.path(key)).is_ok_and(|meta| meta.is_file())
    }

    /// The size of the file, if there is one.
    pub(crate) fn bytes(&self, key: Key) -> Option<u64> {
        fs::symlink_metadata(self.path(key)).ok().map(|meta| meta.len())
    }

    /// The file of `key`, if there is a sound one; it counts as used. A damaged one is removed.
    pub(crate) fn find(&self, key: Key) -> Result<Option<Entry>, EngineError> {
        let entry = self.check(key)?;
        if entry.is_some() {
            lock(&self.usage).touch(key.digest);
        }
        Ok(entry)
    }

    /// As [`Cache::find`], and the file is used no more than before.
    pub(crate) fn check(&self, key: Key) -> Result<Option<Entry>, EngineError> {
        let path = self.path(key);
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        if let Some(entry) = lock(&self.verified).get(&path)
            && entry.stamp == stamp
        {
            return Ok(Some(entry.clone()));
        }
        match self.verify(key, &path) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.condemn(key, &error.to_string()).map(|()| None)
            }
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    fn verify(&self, key: Key, path: &Path) -> io::Result<Entry> {
        let (sealed, stamp) = sealed::verify(path, &self.label(key), &self.key)?;
        let (payload_bytes, meta) = (sealed.payload_bytes, Arc::from(sealed.meta));
        let entry = Entry { path: path.to_path_buf(), payload_bytes, meta, stamp };
        lock(&self.verified).insert(path.to_path_buf(), entry.clone());
        Ok(entry)
    }

    /// Removes a file that is damaged, as `problem` says.
    pub(crate) fn condemn(&self, key: Key, problem: &str) -> Result<(), EngineError> {
        tracing::warn!(path = %self.path(key).display(), %problem, "cached file damaged or forged, made again when it is needed");
        ::metrics::counter!(metrics::CACHE_CORRUPT).increment(1);
        self.remove(key)
    }

    /// Keeps `payload` as the file of `key`. Nothing is left behind if it fails.
    pub(crate) fn store(&self, key: Key, payload: &[u8], meta: &[u8]) -> Result<(), EngineError> {
        self.store_with(key, meta, |file| file.write_all(payload).map(|()| payload.len() as u64))
    }

    /// Keeps what `fill` writes as the file of `key`, from the start of an empty file; it says how long it is, and may
    /// leave holes. Nothing is left behind if it fails.
    pub(crate) fn store_with(
        &self,
        key: Key,
        meta: &[u8],
        fill: impl FnOnce(&mut File) -> io::Result<u64>,
    ) -> Result<(), EngineError> {
        let path = self.path(key);
        let mut payload_bytes = 0;
        let fill = |file: &mut File| {
            payload_bytes = fill(file)?;
            Ok(payload_bytes)
        };
        let written = sealed::write(&path, &self.label(key), &self.key, meta, fill);
        let stamp = written.map_err(|error| failed("write", &path, &error))?;
        // Written and sealed by this very process.
        let entry = Entry { path: path.clone(), payload_bytes, meta: Arc::from(meta), stamp };
        lock(&self.verified).insert(path.clone(), entry);
        lock(&self.usage).add(key.digest, &path, stamp.bytes);
        Ok(())
    }

    /// Removes the file of `key`, if there is one.
    pub(crate) fn remove(&self, key: Key) -> Result<(), EngineError> {
        let path = self.path(key);
        self.remove_file(&path).map_err(|error| failed("remove", &path, &error))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.verified).remove(path);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                lock(&self.usage).subtract(path);
                Ok(())
            }
        }
    }

    /// Removes the files of everything but `digests`, and those of other releases; says how many.
    pub(crate) fn retain(&self, digests: &HashSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for (path, digest) in self.files()? {
            if !(digests.contains(&digest) && self.is_of_this_release(&path, digest)) {
                self.remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// While files take more than the budget, removes those of the module that was not used for longest, unless it
    /// `is_in_use`.
    pub(crate) fn evict(&self, is_in_use: impl Fn(Digest) -> bool) {
        if lock(&self.usage).bytes() <= self.bytes_max {
            return;
        }
        // Other processes may have added and removed.
        let recounted = self.recount();
        let leaving = lock(&self.usage).leaving(self.bytes_max, is_in_use);
        let mut evicted = 0;
        let result = recounted.and_then(|()| {
            leaving.iter().flat_map(|(_, paths)| paths).try_for_each(|path| {
                evicted += 1;
                self.remove_file(path)
            })
        });
        ::metrics::counter!(metrics::CACHE_EVICTIONS).increment(evicted);
        if let Err(error) = result {
            tracing::warn!(dir = %self.dir.display(), %error, "the cache cannot be held to its size");
        }
    }

    /// The modules that this release has kept something of, the newest first.
    pub(crate) fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut files: Vec<_> = self
            .files()?
            .into_iter()
            .filter(|(path, digest)| self.is_of_this_release(path, *digest))
            .filter_map(|(path, digest)| Some((fs::symlink_metadata(&path).ok()?.modified().ok()?, digest)))
            .collect();
        files.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
        let mut seen = HashSet::new();
        Ok(files.into_iter().map(|(_, digest)| digest).filter(|digest| seen.insert(*digest)).collect())
    }

    /// Where the file of `key` is, or would be.
    pub(crate) fn path(&self, key: Key) -> PathBuf {
        self.dir.join(key.file_name(&self.fingerprint))
    }

    fn is_of_this_release(&self, path: &Path, digest: Digest) -> bool {
        // All names of one module and release begin alike.
        let own = self.path(Key::source(digest)).with_extension("");
        path.to_string_lossy().starts_with(&format!("{}.", own.display()))
    }

    /// Our files of any release, and what they are of.
    fn files(&self) -> io::Result<Vec<(PathBuf, Digest)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(digest) = entry.file_name().to_str().and_then(Key::digest_in) {
                files.push((entry.path(), digest));
            }
        }
        Ok(files)
    }

    fn recount(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for (path, digest) in self.files()? {
            // Somebody else may just have removed it.
            if let Ok(meta) = fs::symlink_metadata(&path) {
                files.push((meta.modified().ok(), digest, path, meta.len()));
            }
        }
        files.sort();
        lock(&self.usage).recount(files.into_iter().map(|(_, digest, path, bytes)| (digest, path, bytes)));
        Ok(())
    }

    fn label(&self, key: Key) -> Label {
        Label { fingerprint: self.fingerprint, digest: key.digest, kind: key.kind.label() }
    }
}

fn remove_abandoned(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_temporary = entry.path().extension().is_some_and(|extension| extension == "tmp");
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_temporary && age.is_some_and(|age| age > ABANDONED_AFTER) {
            // Another engine may be faster.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::Cache(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
