//! Images: the memory and globals that instances of a module begin with, in a file that is mapped copy-on-write.
//!
//! There are two kinds. The image of a module holds its data segments, which the [rewriting](crate::rewrite) takes out
//! of the module because wasmer would walk them for every instance. The image of a version is taken after the module
//! has initialised itself, so that instances need not.
//!
//! A file is written under another name, synced and renamed, and never written again, since instances have it mapped:
//!
//! ```text
//! pages (sparse) | description (MessagePack) | key 32 | length of the pages 8 | of the description 4 | CRC-32 4 | magic 8
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"skeinimg";
const TRAILER_BYTES: usize = 32 + 8 + 4 + 4 + 8;
/// What the checksum does not cover: itself and the magic after it.
const UNCOVERED_BYTES: u64 = 4 + 8;
/// Longest description: 20,000 globals, which the inspection bounds, of at most 20 bytes each.
const DESCRIPTION_BYTES_MAX: u32 = 1 << 20;
/// Where the pages begin and end is a multiple of this: of the largest page that a machine of ours may have.
const ALIGN_BYTES: usize = 64 << 10;
/// Pages are kept and told apart in this size.
pub(crate) const PAGE_BYTES: usize = 4 << 10;
/// Largest distance from the first page to the last: what is further apart stays in the module.
pub(crate) const EXTENT_BYTES_MAX: usize = 256 << 20;

/// What instances begin with.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pages: Option<Pages>,
    description: Description,
}

/// The part of memory that is not zeros.
#[derive(Debug)]
pub(crate) struct Pages {
    /// What holds it, from its start.
    pub(crate) file: File,
    /// Where it goes in memory.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// What a file says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    at: u64,
    bytes: u64,
    memory_bytes: u64,
    /// The values of all globals, in two halves; empty if they are what the module says.
    globals: Vec<(u64, u64)>,
    /// True if it was taken after the module had initialised itself.
    is_initialised: bool,
}

impl Image {
    pub(crate) fn pages(&self) -> Option<&Pages> {
        self.pages.as_ref()
    }

    /// The length of the memory it is for, in bytes; 0 for what the module says.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.description.memory_bytes as usize
    }

    /// The values of all globals; none if they are what the module says.
    pub(crate) fn globals(&self) -> impl ExactSizeIterator<Item = u128> {
        self.description.globals.iter().map(|(high, low)| u128::from(*high) << 64 | u128::from(*low))
    }

    /// True if it was taken after the module had initialised itself.
    pub(crate) fn is_initialised(&self) -> bool {
        self.description.is_initialised
    }

    /// The image at `path`, which must be the one of `key`.
    ///
    /// # Errors
    /// `InvalidData` says what is wrong with the file.
    pub(crate) fn open(path: &Path, key: &[u8; 32]) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let tail_at = length.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| invalid("too short"))?;
        let mut tail = [0; TRAILER_BYTES];
        file.read_exact_at(&mut tail, tail_at)?;
        let (of, rest) = tail.split_at(32);
        let (pages_bytes, rest) = rest.split_at(8);
        let (description_bytes, rest) = rest.split_at(4);
        let (crc, magic) = rest.split_at(4);
        if magic != MAGIC || of != key {
            return Err(invalid("no image of this module, or cut off"));
        }
        let pages_bytes = u64::from_le_bytes(pages_bytes.try_into().unwrap_or_default());
        let description_bytes = u32::from_le_bytes(description_bytes.try_into().unwrap_or_default());
        if description_bytes > DESCRIPTION_BYTES_MAX
            || pages_bytes.checked_add(description_bytes.into()) != Some(tail_at)
        {
            return Err(invalid("its lengths do not add up"));
        }
        if checksum(&mut (&mut file).take(length - UNCOVERED_BYTES))?.to_le_bytes() != crc {
            return Err(invalid("its checksum is wrong"));
        }
        let mut description = vec![0; description_bytes as usize];
        file.read_exact_at(&mut description, pages_bytes)?;
        let description: Description =
            rmp_serde::from_slice(&description).map_err(|error| invalid(&error.to_string()))?;
        if description.bytes != pages_bytes || !description.at.is_multiple_of(ALIGN_BYTES as u64) {
            return Err(invalid("its pages are not where it says"));
        }
        let (at, bytes) = (description.at as usize, description.bytes as usize);
        let pages = (bytes > 0).then_some(Pages { file, at, bytes });
        Ok(Self { pages, description })
    }
}

/// An image that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// By address.
    pages: BTreeMap<usize, Box<[u8]>>,
    description: Description,
}

impl Draft {
    /// Puts `bytes` at `at`; false, and nothing changed, if the pages would be too far apart.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> bool {
        let (Some(end), false) = (at.checked_add(bytes.len()), bytes.is_empty()) else { return bytes.is_empty() };
        let first = self.pages.keys().next().copied().unwrap_or(at).min(at);
        let last = self.pages.keys().next_back().map_or(end, |page| page + PAGE_BYTES).max(end);
        if last - first > EXTENT_BYTES_MAX {
            return false;
        }
        let mut done = 0;
        while done < bytes.len() {
            let page = (at + done) / PAGE_BYTES * PAGE_BYTES;
            let from = at + done - page;
            let piece = (PAGE_BYTES - from).min(bytes.len() - done);
            let target = self.pages.entry(page).or_insert_with(|| vec![0; PAGE_BYTES].into());
            target[from..from + piece].copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
        true
    }

    /// Says that the module has initialised itself, and what its globals and the length of its memory are by now.
    pub(crate) fn initialised(&mut self, globals: &[u128], memory_bytes: usize) {
        self.description.is_initialised = true;
        self.description.memory_bytes = memory_bytes as u64;
        self.description.globals = globals.iter().map(|value| ((value >> 64) as u64, *value as u64)).collect();
    }

    /// Keeps it at `path`, as the image of `key`. Nothing is left behind if it fails.
    pub(crate) fn store(mut self, path: &Path, key: &[u8; 32]) -> io::Result<()> {
        let extent = self.pages.keys().next().zip(self.pages.keys().next_back());
        if let Some((first, last)) = extent {
            let at = first / ALIGN_BYTES * ALIGN_BYTES;
            self.description.at = at as u64;
            self.description.bytes = (last + PAGE_BYTES - at).next_multiple_of(ALIGN_BYTES) as u64;
        }
        let first_name = path.with_extension(format!("{}-{:x}.tmp", std::process::id(), rand::random::<u64>()));
        let stored = self.write(&first_name, key).and_then(|()| fs::rename(&first_name, path));
        let stored = stored.and_then(|()| path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()));
        stored.inspect_err(|_| {
            // What cannot be removed now is removed as abandoned later.
            let _ = fs::remove_file(&first_name);
        })
    }

    fn write(&self, path: &Path, key: &[u8; 32]) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let (at, bytes) = (self.description.at as usize, self.description.bytes);
        file.set_len(bytes)?;
        for (address, page) in self.pages.iter().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            file.write_all_at(page, (address - at) as u64)?;
        }
        let description = rmp_serde::to_vec_named(&self.description).map_err(io::Error::other)?;
        let mut tail = key.to_vec();
        tail.extend_from_slice(&bytes.to_le_bytes());
        tail.extend_from_slice(&u32::try_from(description.len()).map_err(io::Error::other)?.to_le_bytes());
        file.write_all_at(&description, bytes)?;
        file.write_all_at(&tail, bytes + description.len() as u64)?;
        file.seek(SeekFrom::Start(0))?;
        let crc = checksum(&mut file)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(&crc.to_le_bytes())?;
        file.write_all(MAGIC)?;
        file.sync_all()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn stored(draft: Draft) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        draft.store(&path, &KEY).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_put_is_read_back_from_where_it_goes() {
        let mut draft = Draft::default();
        assert!(draft.put(70_000, b"one") && draft.put(200_000 - 2, b"crosses a page") && draft.put(5, b""));
        draft.initialised(&[1, u128::MAX], 1 << 20);
        let (_dir, path) = stored(draft);
        let image = Image::open(&path, &KEY).unwrap();
        let pages = image.pages().unwrap();
        let mut read = [0; 14];
        pages.file.read_exact_at(&mut read, (200_000 - 2 - pages.at) as u64).unwrap();
        assert_eq!(&read, b"crosses a page");
        assert_eq!(image.globals().collect::<Vec<_>>(), [1, u128::MAX]);
        assert!(image.is_initialised() && image.memory_bytes() == 1 << 20 && pages.at.is_multiple_of(ALIGN_BYTES));
    }

    #[test]
    fn an_image_without_pages_has_none() {
        let (_dir, path) = stored(Draft::default());
        assert!(Image::open(&path, &KEY).unwrap().pages().is_none());
    }

    #[test]
    fn pages_too_far_apart_are_refused() {
        let mut draft = Draft::default();
        assert!(draft.put(0, b"a") && !draft.put(EXTENT_BYTES_MAX, b"b") && draft.put(EXTENT_BYTES_MAX - 1, b"c"));
    }

    #[test]
    fn no_damaged_or_foreign_file_is_an_image() {
        let mut draft = Draft::default();
        draft.put(0, &[1; 5_000]);
        let (_dir, path) = stored(draft);
        assert!(Image::open(&path, &[8; 32]).is_err());
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(997).chain(whole.len() - 70..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(Image::open(&path, &KEY).is_err(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(Image::open(&path, &KEY).is_err(), "cut at {at}");
        }
    }
}
