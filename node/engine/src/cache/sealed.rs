//! A file that says what it is and shows when it is damaged or forged.
//!
//! The payload comes first, so that it can be mapped as it is; then what is to be known of it, then a trailer:
//!
//! ```text
//! payload | meta | fingerprint 32 | digest 32 | kind 32 | payload length 8 | meta length 4 | code 32 | magic 8
//! ```
//! The code is a keyed BLAKE3 of all before it: whoever has not the [key](SealKey) makes no file that is taken.
//!
//! Files are written under another name, synced and renamed, and never written again: processes may share them, and
//! what is mapped does not change.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use skein_proto::Digest;

use super::seal_key::{SealKey, invalid, open_own};

const MAGIC: &[u8; 8] = b"skeinsf2";
const TRAILER_BYTES: usize = 32 + 32 + 32 + 8 + 4 + 32 + 8;
/// What the code does not cover: itself and the magic after it.
const UNCOVERED_BYTES: u64 = 32 + 8;
/// Longest meta: names of at most 1,000 imports, and an image's globals, which the inspection bounds.
const META_BYTES_MAX: u32 = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// What a file is of; another than the one looked for is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    /// Of all that the content depends on besides the module.
    pub(crate) fingerprint: [u8; 32],
    /// The module.
    pub(crate) digest: Digest,
    /// What it holds of the module.
    pub(crate) kind: [u8; 32],
}

/// A file that was found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The payload, from the file's start.
    pub(crate) payload_bytes: u64,
    pub(crate) meta: Vec<u8>,
}

/// By what one sees that a file is still the one that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    owner: u32,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what is at `path` now; of a link, its own.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::symlink_metadata(path)?))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(meta: &fs::Metadata) -> Self {
        Self {
            owner: meta.uid(),
            bytes: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Writes a file at `path`, whole and synced or not at all, in place of one that may be there. `fill` writes the payload,
/// from the start of an empty file, and says how long it is; it may leave holes. Gives the stamp of the file.
pub(crate) fn write(
    path: &Path,
    label: &Label,
    key: &SealKey,
    meta: &[u8],
    fill: impl FnOnce(&mut File) -> io::Result<u64>,
) -> io::Result<Stamp> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let first = dir.join(format!(".{name}-{}-{number}.tmp", std::process::id()));
    let written = write_synced(&first, label, key, meta, fill).and_then(|file| {
        fs::rename(&first, path)?;
        File::open(dir)?.sync_all()?;
        // Of what was written, whatever has that name by now.
        Ok(Stamp::from(&file.metadata()?))
    });
    if written.is_err() {
        // What cannot be removed now is removed as abandoned later.
        let _ = fs::remove_file(&first);
    }
    written
}

fn write_synced(
    path: &Path,
    label: &Label,
    key: &SealKey,
    meta: &[u8],
    fill: impl FnOnce(&mut File) -> io::Result<u64>,
) -> io::Result<File> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "its description is too long");
    let meta_bytes = u32::try_from(meta.len()).ok().filter(|length| *length <= META_BYTES_MAX).ok_or_else(too_long)?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let payload_bytes = fill(&mut file)?;
    file.seek(SeekFrom::Start(payload_bytes))?;
    let mut tail = Vec::with_capacity(TRAILER_BYTES);
    tail.extend_from_slice(&label.fingerprint);
    tail.extend_from_slice(label.digest.as_bytes());
    tail.extend_from_slice(&label.kind);
    tail.extend_from_slice(&payload_bytes.to_le_bytes());
    tail.extend_from_slice(&meta_bytes.to_le_bytes());
    file.write_all(meta)?;
    file.write_all(&tail)?;
    file.rewind()?;
    // Of what the file says, not of what it was told: it is checked once before it counts as sound.
    let code = code(&mut file, key)?;
    file.write_all(code.as_bytes())?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    Ok(file)
}

/// Opens the file, if it is still the one that was looked at; `InvalidData` if it is not.
pub(crate) fn open(path: &Path, stamp: &Stamp) -> io::Result<File> {
    let file = open_own(path)?;
    if Stamp::from(&file.metadata()?) == *stamp { Ok(file) } else { Err(invalid("another file by now")) }
}

/// Reads the whole file and checks all that can be; `InvalidData` says what is wrong with it.
pub(crate) fn verify(path: &Path, label: &Label, key: &SealKey) -> io::Result<(Sealed, Stamp)> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, open_own(path)?);
    let stamp = Stamp::from(&file.get_ref().metadata()?);
    let tail_at = stamp.bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| invalid("too short"))?;
    let mut tail = [0; TRAILER_BYTES];
    file.seek(SeekFrom::Start(tail_at))?;
    file.read_exact(&mut tail)?;
    let (fingerprint, rest) = tail.split_at(32);
    let (digest, rest) = rest.split_at(32);
    let (kind, rest) = rest.split_at(32);
    let (payload_bytes, rest) = rest.split_at(8);
    let (meta_bytes, rest) = rest.split_at(4);
    let (found, magic) = rest.split_at(32);
    if magic != MAGIC {
        return Err(invalid("not ours, or cut off"));
    }
    if fingerprint != label.fingerprint || digest != label.digest.as_bytes() || kind != label.kind {
        return Err(invalid("of another compiler or module"));
    }
    let payload_bytes = u64::from_le_bytes(payload_bytes.try_into().unwrap_or_default());
    let meta_bytes = u32::from_le_bytes(meta_bytes.try_into().unwrap_or_default());
    if meta_bytes > META_BYTES_MAX || payload_bytes.checked_add(meta_bytes.into()) != Some(tail_at) {
        return Err(invalid("its lengths do not add up"));
    }
    file.rewind()?;
    let made = code(&mut file.by_ref().take(stamp.bytes - UNCOVERED_BYTES), key)?;
    let found: [u8; 32] = found.try_into().unwrap_or_default();
    // In constant time: nobody finds the code out byte by byte.
    if made != blake3::Hash::from_bytes(found) {
        return Err(invalid("changed, or not written with this node's key"));
    }
    let mut meta = vec![0; meta_bytes as usize];
    file.seek(SeekFrom::Start(payload_bytes))?;
    file.read_exact(&mut meta)?;
    Ok((Sealed { payload_bytes, meta }, stamp))
}

/// The code of all that `source` gives.
fn code(source: &mut impl io::Read, key: &SealKey) -> io::Result<blake3::Hash> {
    let mut hasher = key.hasher();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        };
    }
}
