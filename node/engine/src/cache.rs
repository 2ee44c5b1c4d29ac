//! Compiled modules on disk, by the digest of their code and the fingerprint of the compiler.
//!
//! A file is the ELF image that wasmer maps, followed by a trailer that says what it is of and carries a checksum, so
//! that a damaged or foreign file is never mapped. Files are written under another name, synced and renamed, and never
//! written again: engines of several processes may share a directory.
//!
//! ```text
//! ELF image | report (MessagePack) | fingerprint 32 | digest 32 | image length 8 | report length 4 | CRC-32 4 | magic 8
//! ```
#![allow(unsafe_code, reason = "only here it is known that an artefact is sound enough to map")]

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use skein_proto::Digest;

use crate::{
    EngineError, ModuleReport,
    code::Code,
    image::{Draft, Image},
    metrics,
};

const MAGIC: &[u8; 8] = b"skeinelf";
const TRAILER_BYTES: usize = 32 + 32 + 8 + 4 + 4 + 8;
/// What the checksum does not cover: itself and the magic after it.
const UNCOVERED_BYTES: u64 = 4 + 8;
/// Longest report: names of at most 1,000 imports, which the inspection bounds.
const REPORT_BYTES_MAX: u32 = 1 << 20;
/// A file under its first name that is older was left by a process that died.
const ABANDONED_AFTER: Duration = Duration::from_secs(3_600);

/// The directory.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    fingerprint: [u8; 32],
}

/// A module loaded from the cache.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) code: Code,
    pub(crate) report: ModuleReport,
}

impl Cache {
    /// Opens `dir`, for artefacts of a compiler that `fingerprint` describes.
    pub(crate) fn open(dir: &Path, fingerprint: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        remove_abandoned(dir)?;
        Ok(Self { dir: dir.to_path_buf(), fingerprint: Sha256::digest(fingerprint.as_bytes()).into() })
    }

    pub(crate) fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The artefact of `digest`, if there is a sound one. A damaged one is removed.
    pub(crate) fn load(&self, digest: Digest) -> Result<Option<Loaded>, EngineError> {
        let path = self.path(digest);
        let problem = match self.verify(&path, digest) {
            Ok(report) => {
                // SAFETY: the file is one that this crate wrote: in a directory only this user can write to, with our
                // magic, the fingerprint of this very compiler and machine, and a checksum that covers every byte.
                // Files are never written again once they have their name, so that it does not change while mapped.
                match unsafe { Code::map(&path) } {
                    Ok(code) => return Ok(Some(Loaded { code, report })),
                    Err(problem) => problem,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        tracing::warn!(path = %path.display(), %problem, "artefact damaged, compiling again");
        ::metrics::counter!(metrics::CACHE_CORRUPT).increment(1);
        remove(&path).map(|()| None)
    }

    /// What is known of `digest` from its artefact, if there is a sound one.
    pub(crate) fn report(&self, digest: Digest) -> Option<ModuleReport> {
        self.verify(&self.path(digest), digest).ok()
    }

    /// Keeps `image` as the artefact of `digest`. Nothing is left behind if it fails.
    pub(crate) fn store(&self, digest: Digest, image: &[u8], report: &ModuleReport) -> Result<(), EngineError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = self.path(digest);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let first = self.dir.join(format!(".{}-{}-{number}.tmp", digest.to_hex(), std::process::id()));
        let report = rmp_serde::to_vec_named(report).map_err(|error| EngineError::Internal(error.to_string()))?;
        let tail = self.tail(digest, image, &report);
        let written = write_synced(&first, &[image, &report, &tail])
            .and_then(|()| fs::rename(&first, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        written.map_err(|error| {
            // What cannot be removed now is removed as abandoned later.
            let _ = fs::remove_file(&first);
            failed("write", &path, &error)
        })
    }

    /// Keeps an image of `digest`, under a key of its own. Nothing is left behind if it fails.
    pub(crate) fn store_image(&self, digest: Digest, key: &[u8; 32], image: Draft) -> Result<(), EngineError> {
        let path = self.image_path(digest, key);
        image.store(&path, &self.image_seal(digest, key)).map_err(|error| failed("write", &path, &error))
    }

    /// The image of `digest` with that key, if there is a sound one. A damaged one is removed.
    pub(crate) fn image(&self, digest: Digest, key: &[u8; 32]) -> Result<Option<Image>, EngineError> {
        let path = self.image_path(digest, key);
        let problem = match Image::open(&path, &self.image_seal(digest, key)) {
            Ok(image) => return Ok(Some(image)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => error,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        tracing::warn!(path = %path.display(), %problem, "image damaged, making it again");
        ::metrics::counter!(metrics::CACHE_CORRUPT).increment(1);
        remove(&path).map(|()| None)
    }

    /// Removes the artefact of `digest`.
    pub(crate) fn remove(&self, digest: Digest) -> Result<(), EngineError> {
        remove(&self.path(digest))
    }

    fn image_path(&self, digest: Digest, key: &[u8; 32]) -> PathBuf {
        let short: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.path(digest).with_extension(format!("{short}.img"))
    }

    /// What an image says it is of.
    fn image_seal(&self, digest: Digest, key: &[u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update(self.fingerprint).chain_update(digest.as_bytes()).chain_update(key).finalize().into()
    }

    /// Removes the artefacts of everything but `digests`; says how many.
    pub(crate) fn retain(&self, digests: &HashSet<Digest>) -> io::Result<usize> {
        let keep: HashSet<PathBuf> = digests.iter().map(|digest| self.path(*digest)).collect();
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            // An image goes with its module: `MODULE.KEY.img` with `MODULE.elf`.
            let artefact = match path.extension().and_then(|extension| extension.to_str()) {
                Some("elf") => path.clone(),
                Some("img") => path.with_extension("").with_extension("elf"),
                _ => continue,
            };
            if !keep.contains(&artefact) {
                fs::remove_file(&path)?;
                removed += usize::from(artefact == path);
            }
        }
        Ok(removed)
    }

    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        let short: String = self.fingerprint[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{}-{short}.elf", digest.to_hex()))
    }

    fn tail(&self, digest: Digest, image: &[u8], report: &[u8]) -> Vec<u8> {
        let mut tail = Vec::with_capacity(TRAILER_BYTES);
        tail.extend_from_slice(&self.fingerprint);
        tail.extend_from_slice(digest.as_bytes());
        tail.extend_from_slice(&(image.len() as u64).to_le_bytes());
        tail.extend_from_slice(&u32::try_from(report.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        [image, report, &tail].iter().for_each(|part| crc.update(part));
        tail.extend_from_slice(&crc.finalize().to_le_bytes());
        tail.extend_from_slice(MAGIC);
        tail
    }

    /// Reads the whole file and checks all that can be; `InvalidData` says what is wrong with it.
    fn verify(&self, path: &Path, digest: Digest) -> io::Result<ModuleReport> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
        let length = file.get_ref().metadata()?.len();
        let tail_at = length.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| invalid("too short"))?;
        let mut tail = [0; TRAILER_BYTES];
        file.seek(SeekFrom::Start(tail_at))?;
        file.read_exact(&mut tail)?;
        let (fingerprint, rest) = tail.split_at(32);
        let (of, rest) = rest.split_at(32);
        let (image_bytes, rest) = rest.split_at(8);
        let (report_bytes, rest) = rest.split_at(4);
        let (crc, magic) = rest.split_at(4);
        if magic != MAGIC {
            return Err(invalid("no artefact, or cut off"));
        }
        if fingerprint != self.fingerprint || of != digest.as_bytes() {
            return Err(invalid("of another compiler or module"));
        }
        let image_bytes = u64::from_le_bytes(image_bytes.try_into().unwrap_or_default());
        let report_bytes = u32::from_le_bytes(report_bytes.try_into().unwrap_or_default());
        if report_bytes > REPORT_BYTES_MAX || image_bytes.checked_add(report_bytes.into()) != Some(tail_at) {
            return Err(invalid("its lengths do not add up"));
        }
        file.rewind()?;
        if checksum(&mut file.by_ref().take(length - UNCOVERED_BYTES))?.to_le_bytes() != crc {
            return Err(invalid("its checksum is wrong"));
        }
        let mut report = vec![0; report_bytes as usize];
        file.seek(SeekFrom::Start(image_bytes))?;
        file.read_exact(&mut report)?;
        rmp_serde::from_slice(&report).map_err(|error| invalid(&error.to_string()))
    }
}

fn checksum(source: &mut impl io::Read) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(crc.finalize()),
            read => crc.update(&buffer[..read]),
        }
    }
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
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

fn remove(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::Cache(format!("cannot {what} {}: {error}", path.display()))
}
