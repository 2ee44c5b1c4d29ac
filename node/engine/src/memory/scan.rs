//! Which pages of a private mapping were written to: asked of the kernel, so that a reset puts back those few.
//!
//! Giving pages back (`madvise`) has the kernel interrupt every core that runs a thread of this process, and the next
//! call fault each page in again; on a machine of two virtual cores that was most of what a small call cost. The
//! `PAGEMAP_SCAN` request (Linux 6.7, `Documentation/admin-guide/mm/pagemap.rst`) walks the page tables instead and
//! interrupts nobody. Where the kernel has no such request, pages are given back as before.
#![allow(unsafe_code, reason = "a request to the kernel that no library wraps")]

use std::{fs::File, os::fd::AsRawFd as _};

use super::slot::PAGES_KEPT_MAX;

/// A part of memory, as addresses: its first byte, and the first after it.
pub(super) type Part = (usize, usize);

/// Asks the kernel about this process's pages.
#[derive(Debug)]
pub(super) struct PageScan(File);

/// What is asked, as the kernel lays it out (`struct pm_scan_arg`).
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    found: u64,
    found_max: u64,
    pages_max: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    told: u64,
}

/// What is answered (`struct page_region`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<Scan>() as u64) << 16 | (b'f' as u64) << 8 | 16;

/// Most separate parts told in one answer; memory that is dirty in more places is given back.
const PARTS_MAX: usize = 48;

impl PageScan {
    /// None where the kernel does not answer such questions, or merges this process's equal pages (`MemoryKSM=` of
    /// systemd): one of an image that a guest has filled with zeros may be the shared page of zeros then, and would not
    /// be told.
    pub(super) fn open() -> Option<Self> {
        if is_merged() {
            return None;
        }
        let scan = Self(File::open("/proc/self/pagemap").ok()?);
        scan.written(0, 4_096).is_some().then_some(scan)
    }

    /// Each part from `start` to `end` that is not as it was mapped; none if they are too many, or too large together,
    /// or the kernel does not say.
    ///
    /// Such a page is the process's own: neither the file's, nor the page of zeros that all share until they write.
    pub(super) fn written(&self, start: usize, end: usize) -> Option<impl Iterator<Item = Part> + use<>> {
        let mut found = [Region::default(); PARTS_MAX];
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start: start as u64,
            end: end as u64,
            found: found.as_mut_ptr() as u64,
            found_max: PARTS_MAX as u64,
            // One more than is put back, so that it shows when there are more.
            pages_max: PAGES_KEPT_MAX + 1,
            inverted: IS_FILE | IS_ZERO_PAGE,
            all_of: IS_FILE | IS_ZERO_PAGE,
            any_of: IS_PRESENT | IS_SWAPPED,
            told: IS_PRESENT | IS_SWAPPED,
            ..Scan::default()
        };
        // SAFETY: the kernel reads and writes `scan`, and writes at most `PARTS_MAX` regions to `found`; both outlive
        // the call. It changes nothing else.
        let count = unsafe { libc::ioctl(self.0.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut scan) };
        let count = usize::try_from(count).ok()?;
        let is_all = scan.walk_end == end as u64;
        is_all.then(|| found.into_iter().take(count).map(|region| (region.start as usize, region.end as usize)))
    }
}

fn is_merged() -> bool {
    /// Since Linux 6.4; before, no process can ask to be merged as a whole.
    const PR_GET_MEMORY_MERGE: libc::c_int = 68;
    // SAFETY: a question, which changes nothing.
    unsafe { libc::prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use std::sync::Arc;

    use crate::memory::{GATE_OFFSET, Ledger, Slot, Slots, Tally};

    const PAGE: u32 = 4_096;

    fn slot() -> Arc<Slot> {
        let slot = Slots::new(4, Ledger::new(u64::MAX)).reserve(&Arc::<Tally>::default()).unwrap();
        slot.set_limit(GATE_OFFSET);
        slot.grow_to(1 << 20).unwrap();
        slot
    }

    /// Writes to these pages, reads them all, and says which of them are told.
    fn check(written: &[u32], expected: Option<&[(u32, u32)]>) {
        let slot = slot();
        for page in written {
            assert!(slot.write(page * PAGE + 7, b"x"));
        }
        let mut all = Vec::new();
        assert!(slot.append_to(&mut all, 0, slot.length()));
        let found = slot.written().map(|parts| {
            parts.map(|(from, to)| ((from / PAGE as usize) as u32, (to / PAGE as usize) as u32)).collect::<Vec<_>>()
        });
        assert_eq!(found.as_deref(), expected, "{written:?}");
        assert!(slot.reset());
        let mut again = Vec::new();
        assert!(slot.append_to(&mut again, 0, slot.length()));
        assert!(again.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_was_written_is_told_and_what_was_read_is_not() {
        if super::PageScan::open().is_none() {
            // A kernel before 6.7: pages are given back, which the tests of instances show.
            return;
        }
        check(&[], Some(&[]));
        check(&[3], Some(&[(3, 4)]));
        check(&[0, 1, 2, 9, 255], Some(&[(0, 3), (9, 10), (255, 256)]));
    }

    #[test]
    fn too_many_parts_are_not_told() {
        let every_other: Vec<_> = (0..128).map(|page| page * 2).collect();
        check(&every_other, None);
    }
}
