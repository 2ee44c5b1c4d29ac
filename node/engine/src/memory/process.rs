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

/// Has the allocator map what is large by itself, and give it back when it is freed: once for the process.
///
/// glibc begins so, but takes the largest thing that was ever freed for what is usual, and keeps all below it in the
/// arenas of threads, from which [`release_heap`] does not get it back: the modules of a few publishes hold 50 MiB until
/// the process ends.
pub(crate) fn settle_heap() {
    /// Modules and their code are larger, most payloads smaller: those would pay for their pages with each call.
    #[cfg(target_env = "gnu")]
    const MAPPED_FROM_BYTES: libc::c_int = 512 << 10;
    // SAFETY: it sets a number of the allocator's, under its own lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
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

/// Has the kernel merge no pages of this process with equal ones, which a service manager may have asked for: a page of
/// an image that a guest overwrote with zeros would become the shared page of zeros, which the
/// [scan](super::scan) takes for one that nobody wrote to.
pub(crate) fn keep_pages_apart() {
    #[cfg(target_os = "linux")]
    const NONE: libc::c_ulong = 0;
    // SAFETY: it changes how the kernel goes about this process's pages, not what is in them. A kernel that does not know
    // it merges nothing unasked.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_MEMORY_MERGE, NONE, NONE, NONE, NONE);
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
    #[cfg(target_os = "linux")]
    fn pages_are_not_merged_whatever_was_asked_for_before() {
        let none: libc::c_ulong = 0;
        // SAFETY: as in the function that is tested.
        let ask = |option, value: libc::c_ulong| unsafe { libc::prctl(option, value, none, none, none) };
        if ask(libc::PR_SET_MEMORY_MERGE, 1) != 0 {
            // This kernel knows of no such thing, or does not let us.
            return;
        }
        assert_eq!(ask(libc::PR_GET_MEMORY_MERGE, 0), 1);
        keep_pages_apart();
        assert_eq!(ask(libc::PR_GET_MEMORY_MERGE, 0), 0);
    }

    #[test]
    fn pages_are_there_once_they_were_touched() {
        let page = page_bytes() as usize;
        // Large enough for a mapping of its own, whose pages come when they are written: above 32 MiB, however much the
        // allocator has learnt to keep (mallopt(3), M_MMAP_THRESHOLD).
        let mut memory: Vec<u8> = Vec::with_capacity(9_000 * page);
        let start = (memory.as_ptr() as usize).next_multiple_of(page);
        let range = start..start + 8_999 * page;
        let map = PageMap::open().unwrap();
        let before = map.resident(range.clone()).unwrap();
        memory.resize(9_000 * page, 1);
        assert_eq!(map.resident(range).unwrap(), 8_999 * page as u64);
        assert!(before < 4_500 * page as u64, "{before}");
        assert!(resident() >= 8_999 * page as u64);
        drop(memory);
        release_heap();
    }
}
