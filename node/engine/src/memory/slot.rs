//! The slots themselves: reserved, mapped, grown, reset, and counted.
#![allow(unsafe_code, reason = "linear memory is mapped and protected by address")]

use std::{
    fmt, io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    ptr::{self, NonNull},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering},
    },
};

use wasmer::WASM_PAGE_SIZE;
use wasmer_vm::VMMemoryDefinition;

use super::{
    GATE_BYTES, GATE_OFFSET, Ledger, RESERVED_BYTES,
    held::{Bill, Tally},
    process::PageMap,
    scan::{PageScan, Part},
};
use crate::{
    config::mappings_max,
    image::{Image, Pages},
    metrics,
    stop::lock,
};

/// Most pages that a reset puts back and leaves with the instance, in the machine's own size. Copying 1 MiB costs less
/// than having so many pages taken away and faulted in again; more of it would be memory that idle instances hold.
pub(super) const PAGES_KEPT_MAX: u64 = 256;

/// Leaves to reserve address space: as many as instances may be alive, idle ones among them.
#[derive(Debug)]
pub(crate) struct Slots {
    live: AtomicUsize,
    live_max: usize,
    ledger: Arc<Ledger>,
    /// Those that are alive, among some that are gone.
    all: Mutex<Vec<Weak<Slot>>>,
    scan: Option<PageScan>,
}

impl Slots {
    pub(crate) fn new(live_max: usize, ledger: Arc<Ledger>) -> Arc<Self> {
        ::metrics::gauge!(metrics::SLOTS_MAX).set(live_max as f64);
        Arc::new(Self { live: AtomicUsize::new(0), live_max, ledger, all: Mutex::default(), scan: PageScan::open() })
    }

    /// What the guests of now have touched of the memory that is counted as theirs. Each is asked twice whether it is
    /// the same call's, with `look` in between: what one has given back meanwhile was not touched.
    pub(crate) fn touched<T>(&self, look: impl FnOnce() -> T) -> (T, u64) {
        let slots: Vec<_> = lock(&self.all).iter().filter_map(Weak::upgrade).collect();
        let map = PageMap::open().ok();
        let of = |slot: &Slot| {
            let start = slot.base.as_ptr() as usize;
            map.as_ref().and_then(|map| map.resident(start..start + slot.length()).ok()).unwrap_or(0)
        };
        let before = slots.into_iter().filter_map(|slot| Some((slot.bill.turn()?, of(&slot), slot)));
        let before: Vec<_> = before.collect();
        let seen = look();
        let still = before.iter().filter(|(turn, _, slot)| slot.bill.turn() == Some(*turn));
        let touched = still.inspect(|(_, _, slot)| slot.bill.was_seen_running()).map(|(_, touched, _)| touched);
        (seen, touched.sum())
    }

    /// How many are alive.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// How many instances may be alive in this process: as many as its address space and the kernel's bound on mappings
    /// (`vm.max_map_count`) hold, half of each left to everything else.
    pub(crate) fn budget() -> usize {
        /// Mappings of one slot at most: image, rest of the memory, what may be grown into, gate, beyond.
        const MAPPINGS_PER_SLOT: usize = 5;
        (mappings_max() / 2 / MAPPINGS_PER_SLOT).min(crate::EngineConfig::INSTANCES_MAX)
    }

    /// Reserves address space for one instance: nothing accessible but the gate.
    ///
    /// # Errors
    /// [`Unreserved::Full`] if as many are alive as may be.
    pub(crate) fn reserve(self: &Arc<Self>, tally: &Arc<Tally>) -> Result<Arc<Slot>, Unreserved> {
        let was_free = self
            .live
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |live| (live < self.live_max).then_some(live + 1));
        if was_free.is_err() {
            return Err(Unreserved::Full(self.live_max));
        }
        let permit = Permit(Arc::clone(self));
        ::metrics::gauge!(metrics::INSTANCES).increment(1.0);
        // SAFETY: a new anonymous mapping, placed by the kernel, touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                RESERVED_BYTES,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Unreserved::System(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast::<u8>());
        let base = base.ok_or_else(|| Unreserved::System(io::Error::other("mapped at address zero")))?;
        let slot = Slot {
            base,
            length: AtomicUsize::new(0),
            initial: AtomicUsize::new(0),
            limit_pages: AtomicU32::new(0),
            was_refused: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            definition: AtomicPtr::new(ptr::null_mut()),
            bill: Bill::new(Arc::clone(&self.ledger), Arc::clone(tally)),
            image: OnceLock::new(),
            owner: OnceLock::new(),
            permit,
        };
        slot.protect(GATE_OFFSET as usize, GATE_BYTES, libc::PROT_READ).map_err(Unreserved::System)?;
        let slot = Arc::new(slot);
        let mut all = lock(&self.all);
        // What has gone leaves room for what comes, at a constant cost each on average.
        if all.len() == all.capacity() {
            all.retain(|slot| slot.strong_count() > 0);
        }
        all.push(Arc::downgrade(&slot));
        drop(all);
        Ok(slot)
    }
}

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreserved {
    /// As many instances are alive as may be.
    #[error("{0} instances are alive, which is the most allowed")]
    Full(usize),
    /// The kernel refused.
    #[error("no address space for an instance: {0}")]
    System(io::Error),
}

/// One of the leaves; given back when dropped.
#[derive(Debug)]
struct Permit(Arc<Slots>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::AcqRel);
        ::metrics::gauge!(metrics::INSTANCES).decrement(1.0);
    }
}

/// The address space of one instance. Unmapped when the last of instance, host and watchdog lets go of it.
pub(crate) struct Slot {
    base: NonNull<u8>,
    /// How much from `base` on is the guest's.
    length: AtomicUsize,
    /// How much of it the module starts with, to which a reset returns.
    initial: AtomicUsize,
    /// How far the guest of now may grow it.
    limit_pages: AtomicU32,
    /// True if the guest's last attempt to grow was refused by its limit.
    was_refused: AtomicBool,
    /// True if the gate is closed.
    is_closed: AtomicBool,
    /// Where compiled code looks up base and length; inside the instance, null before there is one.
    definition: AtomicPtr<VMMemoryDefinition>,
    /// Who pays for the memory.
    bill: Bill,
    /// What is mapped into it, if anything is.
    image: OnceLock<Pages>,
    /// The function whose instance is in it.
    owner: OnceLock<Arc<str>>,
    permit: Permit,
}

// SAFETY: `base` is a mapping that lives as long as the slot. What the guest's thread and the watchdog do to it at the
// same time is changing the protection of pages, which the kernel orders; the guest's bytes and its definition are only
// touched by the thread that runs or resets the instance.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("length", &self.length()).finish_non_exhaustive()
    }
}

impl Slot {
    /// The guest's memory now, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Says whose instance it is for.
    pub(crate) fn belongs_to(&self, name: &Arc<str>) {
        // An instance is made once in each.
        let _ = self.owner.set(Arc::clone(name));
    }

    /// The function whose instance is in it.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.get().map(|name| &**name)
    }

    /// True if the guest's last attempt to grow was refused by its limit.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused.load(Ordering::Relaxed)
    }

    /// True if the node had no memory left when the guest last wanted to grow its.
    pub(crate) fn was_short(&self) -> bool {
        self.bill.was_short()
    }

    /// What the idle instance holds of its memory.
    pub(crate) fn resting(&self) -> u64 {
        self.bill.resting()
    }

    /// A call begins, with `paid` bytes that its caller has set aside for it. `may_wait` says whether its guest may be
    /// kept waiting for memory.
    pub(crate) fn enter(&self, paid: u64, may_wait: bool) {
        self.bill.enter(paid, may_wait, self.length() as u64);
    }

    /// The call is over and the memory stays as it is: it pays for itself from now on. False if it cannot.
    pub(crate) fn keep(&self) -> bool {
        self.bill.keep(self.length() as u64)
    }

    /// The memory of a new instance rests as it was made: it pays for the pages that are written already, which are
    /// those of data segments that are in no image.
    pub(crate) fn rest(&self) {
        let parts = if self.length() == 0 { None } else { self.written() };
        // Where the kernel does not tell them, the next look at the process finds them.
        self.bill.leave(parts.map_or(0, |parts| parts.map(|(from, to)| (to - from) as u64).sum()));
    }

    /// Counts what the host keeps for the guest besides its memory; false if the node has not as much.
    pub(crate) fn hold(&self, bytes: u64) -> bool {
        let is_held = self.bill.hold(bytes, self.length() as u64);
        self.was_refused.fetch_or(!is_held, Ordering::Relaxed);
        is_held
    }

    /// Lets the guest have `bytes` of memory from now on, whole pages only.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.change_limit(bytes);
        self.was_refused.store(false, Ordering::Relaxed);
        self.bill.forget_shortage();
    }

    /// Lets the guest have `bytes` of memory instead, because it uses more or less of its limit for something else.
    pub(crate) fn change_limit(&self, bytes: u64) {
        // One page less than all: there is the gate.
        let pages = bytes.min(GATE_OFFSET) / WASM_PAGE_SIZE as u64;
        self.limit_pages.store(pages as u32, Ordering::Relaxed);
    }

    /// Notes whether the guest was refused something else that counts as memory.
    pub(crate) fn note_refusal(&self, is_refused: bool) {
        self.was_refused.store(is_refused, Ordering::Relaxed);
    }

    /// Says whether the guest may have `pages`, and remembers a refusal.
    pub(super) fn allows(&self, pages: u32) -> bool {
        let is_allowed = pages <= self.limit_pages.load(Ordering::Relaxed);
        self.was_refused.store(!is_allowed, Ordering::Relaxed);
        is_allowed
    }

    /// Stops the guest at its next safepoint, and its wait for memory. Stays so until the slot is reset.
    pub(crate) fn close_gate(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.bill.wait_no_more();
        if let Err(error) = self.protect(GATE_OFFSET as usize, GATE_BYTES, libc::PROT_NONE) {
            // Taking away access splits no more mappings than there were; it fails only if the kernel is out of memory.
            tracing::error!(%error, "a guest could not be stopped");
        }
    }

    /// Copies guest memory at `at` to `target`; false, and nothing copied, if that is not all the guest's.
    pub(crate) fn read(&self, at: u32, target: &mut [u8]) -> bool {
        let Some(source) = self.range(at, target.len()) else { return false };
        // SAFETY: `range` has checked that the source is inside the accessible part; the target is another object, and
        // the guest does not run while its host does.
        unsafe { ptr::copy_nonoverlapping(source.cast_const(), target.as_mut_ptr(), target.len()) };
        true
    }

    /// Appends `length` bytes of guest memory at `at` to `target`; false, and nothing copied, if that is not all the
    /// guest's.
    pub(crate) fn append_to(&self, target: &mut Vec<u8>, at: u32, length: usize) -> bool {
        let Some(source) = self.range(at, length) else { return false };
        target.reserve(length);
        // SAFETY: `range` has checked the source; `reserve` has made room in the target, whose first `length` spare
        // bytes are written before its length says so.
        unsafe {
            ptr::copy_nonoverlapping(source.cast_const(), target.as_mut_ptr().add(target.len()), length);
            target.set_len(target.len() + length);
        }
        true
    }

    /// Copies `source` to guest memory at `at`; false, and nothing copied, if that is not all the guest's.
    pub(crate) fn write(&self, at: u32, source: &[u8]) -> bool {
        let Some(target) = self.range(at, source.len()) else { return false };
        // SAFETY: `range` has checked that the target is inside the accessible part; the source is another object, and
        // the guest does not run while its host does.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
        true
    }

    /// True if `length` bytes at `at` are all the guest's.
    pub(crate) fn contains(&self, at: u32, length: usize) -> bool {
        self.range(at, length).is_some()
    }

    fn range(&self, at: u32, length: usize) -> Option<*mut u8> {
        let end = (at as usize).checked_add(length)?;
        // SAFETY: `at` is at most the length of the memory, which lies inside the mapping.
        (end <= self.length()).then(|| unsafe { self.base.as_ptr().add(at as usize) })
    }

    /// Gives the memory of a new instance its first `bytes`, with `image` in them.
    pub(super) fn begin(&self, bytes: usize, image: &Image, definition: NonNull<VMMemoryDefinition>) -> io::Result<()> {
        self.definition.store(definition.as_ptr(), Ordering::Relaxed);
        self.initial.store(bytes, Ordering::Relaxed);
        self.grow_to(bytes)?;
        let Some(pages) = image.pages() else { return Ok(()) };
        if pages.at.checked_add(pages.bytes).is_none_or(|end| end > bytes) {
            return Err(io::Error::other("the image is larger than the memory"));
        }
        // SAFETY: the range lies inside the slot, and no guest has run in it yet; the file is mapped privately, and
        // does not change while it is mapped (see `image`).
        let mapped = unsafe {
            libc::mmap(
                self.base.as_ptr().add(pages.at).cast(),
                pages.bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                pages.file.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let _ = self.image.set(pages.clone());
        Ok(())
    }

    /// Makes the memory `length` bytes long; an error if the node has not as much left.
    pub(super) fn grow_to(&self, length: usize) -> io::Result<()> {
        let now = self.length();
        if !self.bill.charge(length as u64) {
            self.was_refused.store(true, Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the node's memory is used up"));
        }
        self.protect(now, length - now, libc::PROT_READ | libc::PROT_WRITE)?;
        self.set_length(length);
        Ok(())
    }

    fn set_length(&self, length: usize) {
        self.length.store(length, Ordering::Release);
        if let Some(mut definition) = NonNull::new(self.definition.load(Ordering::Relaxed)) {
            // SAFETY: the definition is part of the instance in this slot, which outlives its use of the slot, and only
            // the thread that runs or resets the instance gets here.
            let definition = unsafe { definition.as_mut() };
            definition.base = self.base.as_ptr();
            definition.current_length = length;
        }
    }

    /// Makes the memory what it was when the instance began: its image, zeros, and not a byte of any call. False if the
    /// kernel refused, which leaves the slot unusable.
    pub(crate) fn reset(&self) -> bool {
        let (length, initial) = (self.length(), self.initial.load(Ordering::Relaxed));
        let kept = if length == 0 { Some(0) } else { self.put_back() };
        let is_clean = kept.is_some() || self.give_back(length);
        let is_shrunk = length == initial || self.protect(initial, length - initial, libc::PROT_NONE).is_ok();
        if length != initial {
            self.set_length(initial);
        }
        self.was_refused.store(false, Ordering::Relaxed);
        if is_clean && is_shrunk {
            self.bill.leave(kept.unwrap_or(0));
        }
        is_clean && is_shrunk && self.open_gate()
    }

    /// Puts the pages that were written to back to what they were, and says how many bytes those are; none if they are
    /// too many for that, or the kernel does not say which they are.
    fn put_back(&self) -> Option<u64> {
        self.written()?.map(|(from, to)| self.put_part_back((from, to)).then_some((to - from) as u64)).sum()
    }

    /// The parts of the guest's memory that were written to since it began, from its start; none if they are too many,
    /// or the kernel does not say.
    pub(super) fn written(&self) -> Option<impl Iterator<Item = Part> + use<>> {
        let (start, length) = (self.base.as_ptr() as usize, self.length());
        let parts = self.permit.0.scan.as_ref()?.written(start, start + length)?;
        Some(parts.map(move |(from, to)| (from - start, to - start)))
    }

    fn put_part_back(&self, (from, to): Part) -> bool {
        // SAFETY: the kernel named pages of the guest's memory only, and no guest runs: nothing else refers to them.
        let part = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(from), to - from) };
        let (image, zeros) = match self.image.get() {
            Some(pages) => (pages.at.clamp(from, to), (pages.at + pages.bytes).clamp(from, to)),
            None => (to, to),
        };
        part[..image - from].fill(0);
        part[zeros - from..].fill(0);
        let held = &mut part[image - from..zeros - from];
        match self.image.get() {
            Some(pages) if !held.is_empty() => pages.file.read_exact_at(held, (image - pages.at) as u64).is_ok(),
            _ => true,
        }
    }

    /// Gives up what was written: private pages of a file are read from it again, anonymous ones are zeros again.
    fn give_back(&self, length: usize) -> bool {
        // SAFETY: the range is the slot's own, and no guest runs.
        unsafe { libc::madvise(self.base.as_ptr().cast(), length, libc::MADV_DONTNEED) == 0 }
    }

    /// Opens the gate again; false if that failed. Only while no guest runs and nobody may stop one.
    pub(crate) fn open_gate(&self) -> bool {
        !self.is_closed.swap(false, Ordering::AcqRel)
            || self.protect(GATE_OFFSET as usize, GATE_BYTES, libc::PROT_READ).is_ok()
    }

    /// The pages of the guest's memory that hold anything but zeros, in order.
    pub(crate) fn pages_in_use(&self) -> impl Iterator<Item = (usize, &[u8])> {
        const PAGE_BYTES: usize = 4_096;
        // SAFETY: the range is readable, and nobody writes to it while no guest runs.
        let memory = unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length()) };
        let is_used = |page: &[u8]| page.iter().any(|byte| *byte != 0);
        memory
            .chunks(PAGE_BYTES)
            .enumerate()
            .filter(move |(_, page)| is_used(page))
            .map(|(i, page)| (i * PAGE_BYTES, page))
    }

    fn protect(&self, at: usize, length: usize, protection: libc::c_int) -> io::Result<()> {
        debug_assert!(at + length <= RESERVED_BYTES);
        if length == 0 {
            return Ok(());
        }
        // SAFETY: callers stay inside the reservation, which the slot owns. Access is taken from the gate, which
        // nothing but safepoints reads, and from what a call had grown into, when it is over; and given to the rest.
        let result = unsafe { libc::mprotect(self.base.as_ptr().add(at).cast(), length, protection) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the mapping is this slot's own, and this was the last reference to it.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), RESERVED_BYTES) };
        debug_assert_eq!(result, 0, "unmapping a whole mapping cannot fail");
    }
}
