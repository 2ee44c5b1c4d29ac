//! Images: the memory and globals that instances of a module begin with, in a file that is mapped copy-on-write.
//!
//! There are two kinds. The image of a module holds its data segments, which the [rewriting](crate::rewrite) takes out
//! of the module because wasmer would walk them for every instance. The image of a version is taken after the module
//! has initialised itself, so that instances need not.
//!
//! Each is a [sealed](crate::cache::sealed) file: its payload are the pages, with holes where they are zeros, what is
//! kept with them the description.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{cache::Entry, memory::Slot};

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
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    /// What holds it, from its start.
    pub(crate) file: Arc<File>,
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

impl Description {
    /// Says that there are pages from this one to that one.
    fn span(&mut self, first: usize, last: usize) {
        let at = first / ALIGN_BYTES * ALIGN_BYTES;
        self.at = at as u64;
        self.bytes = (last + PAGE_BYTES - at).next_multiple_of(ALIGN_BYTES) as u64;
    }
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

    /// The image in a file that the cache found sound.
    ///
    /// # Errors
    /// `InvalidData` says what is wrong with it.
    pub(crate) fn open(entry: &Entry) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let description: Description =
            rmp_serde::from_slice(&entry.meta).map_err(|error| invalid(&error.to_string()))?;
        if description.bytes != entry.payload_bytes || !description.at.is_multiple_of(ALIGN_BYTES as u64) {
            return Err(invalid("its pages are not where it says"));
        }
        let (at, bytes) = (description.at as usize, description.bytes as usize);
        let pages = if bytes > 0 { Some(Pages { file: Arc::new(entry.open()?), at, bytes }) } else { None };
        Ok(Self { pages, description })
    }
}

/// An image that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// By address.
    pages: BTreeMap<usize, Box<[u8]>>,
    /// The memory of an instance, whose pages it is made of instead.
    slot: Option<Arc<Slot>>,
    description: Description,
}

impl Draft {
    /// What memory and globals of an instance are, now that it has initialised itself; none if the pages are too far
    /// apart. They stay where they are until they are written to the file: they may be most of the node's memory, and a
    /// copy of them would be in no book. Nothing may run in the instance until then.
    pub(crate) fn of(slot: &Arc<Slot>, globals: &[u128]) -> Option<Self> {
        let mut draft = Self { slot: Some(Arc::clone(slot)), ..Self::default() };
        let mut pages = slot.pages_in_use().map(|(at, _)| at);
        if let Some(first) = pages.next() {
            let last = pages.last().unwrap_or(first);
            if last + PAGE_BYTES - first > EXTENT_BYTES_MAX {
                return None;
            }
            draft.description.span(first, last);
        }
        draft.initialised(globals, slot.length());
        Some(draft)
    }

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
    fn initialised(&mut self, globals: &[u128], memory_bytes: usize) {
        self.description.is_initialised = true;
        self.description.memory_bytes = memory_bytes as u64;
        self.description.globals = globals.iter().map(|value| ((value >> 64) as u64, *value as u64)).collect();
    }

    /// What is kept with the pages.
    ///
    /// # Errors
    /// What cannot be written down of it.
    pub(crate) fn describe(&mut self) -> Result<Vec<u8>, String> {
        let extent = self.pages.keys().next().zip(self.pages.keys().next_back());
        if let Some((first, last)) = extent {
            self.description.span(*first, *last);
        }
        rmp_serde::to_vec_named(&self.description).map_err(|error| error.to_string())
    }

    /// Writes the pages, as described, to an empty file; says how long that is.
    ///
    /// # Errors
    /// What the file has against it.
    pub(crate) fn fill(&self, file: &mut File) -> io::Result<u64> {
        let (at, bytes) = (self.description.at as usize, self.description.bytes);
        file.set_len(bytes)?;
        for (address, page) in self.slot.iter().flat_map(|slot| slot.pages_in_use()) {
            file.write_all_at(page, (address - at) as u64)?;
        }
        for (address, page) in self.pages.iter().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            file.write_all_at(page, (address - at) as u64)?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use skein_proto::Digest;

    use super::*;
    use crate::cache::{Cache, Key};

    fn stored(mut draft: Draft) -> (tempfile::TempDir, Image) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &dir.path().join("key"), "this release", 1 << 30).unwrap();
        let key = Key::image(Digest::of(b"a"), [7; 32]);
        let meta = draft.describe().unwrap();
        cache.store_with(key, &meta, |file| draft.fill(file)).unwrap();
        let image = Image::open(&cache.find(key).unwrap().unwrap()).unwrap();
        (dir, image)
    }

    #[test]
    fn what_was_put_is_read_back_from_where_it_goes() {
        let mut draft = Draft::default();
        assert!(draft.put(70_000, b"one") && draft.put(200_000 - 2, b"crosses a page") && draft.put(5, b""));
        draft.initialised(&[1, u128::MAX], 1 << 20);
        let (_dir, image) = stored(draft);
        let pages = image.pages().unwrap();
        let mut read = [0; 14];
        pages.file.read_exact_at(&mut read, (200_000 - 2 - pages.at) as u64).unwrap();
        assert_eq!(&read, b"crosses a page");
        assert_eq!(image.globals().collect::<Vec<_>>(), [1, u128::MAX]);
        assert!(image.is_initialised() && image.memory_bytes() == 1 << 20 && pages.at.is_multiple_of(ALIGN_BYTES));
    }

    #[test]
    fn an_image_without_pages_has_none() {
        let (_dir, image) = stored(Draft::default());
        assert!(image.pages().is_none());
    }

    #[test]
    fn pages_too_far_apart_are_refused() {
        let mut draft = Draft::default();
        assert!(draft.put(0, b"a") && !draft.put(EXTENT_BYTES_MAX, b"b") && draft.put(EXTENT_BYTES_MAX - 1, b"c"));
    }
}
