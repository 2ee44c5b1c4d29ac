//! What the kernel says of this process's memory, and giving back what the allocator keeps for itself.
#![allow(unsafe_code, reason = "the page size and the allocator are asked by C functions")]

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::OnceLock};

/// Entries of the page map read at a time: 2 MiB of memory with small pages.
const ENTRIES: usize = 512;
/// The bit of an entry that says that there is a page.
const IS_PRESENT: u64 = 1 << 63;

/// What the process holds of the machine's memory, in bytes; 0 if the kernel does not say.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes()
}

/// The kernel's map of which pages of the process are there.
#[derive(Debug)]
pub(crate) struct PageMap(File);

impl PageMap {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// How many bytes between these addresses are there.
    pub(crate) fn resident(&self, addresses: Range<usize>) -> io::Result<u64> {
        let page = page_bytes() as usize;
        let (mut next, end) = (addresses.start / page, addresses.end.div_ceil(page));
        let (mut buffer, mut present) = ([0; ENTRIES * 8], 0);
        while next < end {
            let wanted = (end - next).min(ENTRIES) * 8;
            let read = self.0.read_at(&mut buffer[..wanted], next as u64 * 8)? / 8;
            if read == 0 {
                break;
            }
            let entries = buffer[..read * 8].chunks_exact(8).filter_map(|entry| entry.try_into().ok());
            present += entries.filter(|entry| u64::from_le_bytes(*entry) & IS_PRESENT != 0).count();
            next += read;
        }
        Ok((present * page) as u64)
    }
}

/// Has the allocator give back the pages that nothing is in. Takes some milliseconds for a heap of many.
pub(crate) fn release_heap() {
    // SAFETY: it only touches the allocator's own free memory, under its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn page_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    // SAFETY: it takes a number and gives a number.
    *BYTES.get_or_init(|| u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn pages_are_there_once_they_were_touched() {
        let page = page_bytes() as usize;
        // Large enough for a mapping of its own, whose pages come when they are written.
        let mut memory: Vec<u8> = Vec::with_capacity(600 * page);
        let start = (memory.as_ptr() as usize).next_multiple_of(page);
        let range = start..start + 599 * page;
        let map = PageMap::open().unwrap();
        let before = map.resident(range.clone()).unwrap();
        memory.resize(600 * page, 1);
        assert_eq!(map.resident(range).unwrap(), 599 * page as u64);
        assert!(before < 300 * page as u64, "{before}");
        assert!(resident() >= 599 * page as u64);
        drop(memory);
        release_heap();
    }
}
