//! Linear memory: one reservation of address space for each instance, with the page by which its guest is stopped.
//!
//! ```text
//! base                     length        limit                 4 GiB - 64 KiB        4 GiB          8 GiB + 64 KiB
//!  | readable, writable ... | no access ... (grows up to limit)  | gate | no access ... | no access ... |
//! ```
//! Compiled code checks no bounds: a 32-bit address plus a 32-bit offset stays inside the reservation, and what is not
//! the guest's faults. The gate is one page of zeros that may only be read. Safepoints read it; closing it stops the
//! guest at the next one.
#![allow(unsafe_code, reason = "linear memory is mapped, protected and handed to compiled code by address")]

use std::{
    fmt, io,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages, TableStyle, TableType, WASM_PAGE_SIZE};
use wasmer_compiler::{BaseTunables, Tunables};
use wasmer_vm::{LinearMemory, VMConfig, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition};

use crate::metrics;

/// Where the gate is, from the start of the memory: the last of the 65,536 pages, which no memory may have.
pub(crate) const GATE_OFFSET: u64 = 0xFFFF_0000;
/// Four GiB of addresses, four GiB of offsets, and the widest access.
const RESERVED_BYTES: usize = (8 << 30) + WASM_PAGE_SIZE;
/// The gate takes the whole wasm page, so that it is a whole number of pages of any machine.
const GATE_BYTES: usize = WASM_PAGE_SIZE;
/// Most elements of one table: some ten times the functions of the largest module measured. 16 bytes each.
pub(crate) const TABLE_ELEMENTS_MAX: u32 = 1 << 17;

/// Leaves to reserve address space: as many as instances may be alive.
#[derive(Debug)]
pub(crate) struct Slots {
    live: AtomicUsize,
    live_max: usize,
}

impl Slots {
    pub(crate) fn new(live_max: usize) -> Arc<Self> {
        Arc::new(Self { live: AtomicUsize::new(0), live_max })
    }

    /// Reserves address space for one instance: all zeros, nothing accessible but the gate.
    pub(crate) fn reserve(self: &Arc<Self>) -> io::Result<Arc<Slot>> {
        let was_free = self
            .live
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |live| (live < self.live_max).then_some(live + 1));
        if was_free.is_err() {
            return Err(io::Error::other(format!("{} instances are alive, which is the most allowed", self.live_max)));
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
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        let slot = Slot { base, length: AtomicUsize::new(0), was_refused: AtomicBool::new(false), _permit: permit };
        slot.protect(GATE_OFFSET as usize, GATE_BYTES, libc::PROT_READ)?;
        Ok(Arc::new(slot))
    }
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
    /// How much from `base` on is the guest's. Only grows.
    length: AtomicUsize,
    /// True if the guest's last attempt to grow was refused by its limit.
    was_refused: AtomicBool,
    _permit: Permit,
}

// SAFETY: `base` is a mapping that lives as long as the slot. What the guest's thread and the watchdog do to it at the
// same time is changing the protection of pages, which the kernel orders; the guest's bytes are only touched by the
// thread that runs the guest.
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

    /// True if the guest's last attempt to grow was refused by its limit.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused.load(Ordering::Relaxed)
    }

    /// Stops the guest at its next safepoint, for good.
    pub(crate) fn close_gate(&self) {
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

    /// Makes the memory `length` bytes long.
    fn grow_to(&self, length: usize) -> io::Result<()> {
        let now = self.length();
        self.protect(now, length - now, libc::PROT_READ | libc::PROT_WRITE)?;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    fn protect(&self, at: usize, length: usize, protection: libc::c_int) -> io::Result<()> {
        debug_assert!(at + length <= RESERVED_BYTES);
        if length == 0 {
            return Ok(());
        }
        // SAFETY: callers stay inside the reservation, which the slot owns. Access is only ever taken from the gate,
        // which nothing but safepoints reads, and given to what was never accessible before.
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

/// The memory of an instance, as wasmer sees it.
#[derive(Debug)]
struct GuestMemory {
    slot: Arc<Slot>,
    ty: MemoryType,
    limit: Pages,
    /// Where compiled code looks up base and length; inside the instance, which owns this memory.
    definition: NonNull<VMMemoryDefinition>,
}

// SAFETY: the definition belongs to the instance that owns this memory; both are only used by the thread that runs it.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    fn set_length(&mut self, pages: Pages) -> Result<(), MemoryError> {
        self.slot.grow_to(pages.bytes().0).map_err(|error| MemoryError::Region(error.to_string()))?;
        // SAFETY: the definition is valid as long as the instance, and only this thread uses it.
        let definition = unsafe { self.definition.as_mut() };
        definition.base = self.slot.base.as_ptr();
        definition.current_length = self.slot.length();
        Ok(())
    }
}

impl LinearMemory for GuestMemory {
    fn ty(&self) -> MemoryType {
        MemoryType { minimum: self.size(), ..self.ty }
    }

    fn size(&self) -> Pages {
        Pages(u32::try_from(self.slot.length() / WASM_PAGE_SIZE).unwrap_or(u32::MAX))
    }

    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.size();
        let refusal = MemoryError::CouldNotGrow { current, attempted_delta: delta };
        let wanted = current.checked_add(delta).ok_or_else(|| refusal.clone())?;
        if self.ty.maximum.is_some_and(|maximum| wanted > maximum) {
            return Err(refusal);
        }
        let is_refused = wanted > self.limit;
        self.slot.was_refused.store(is_refused, Ordering::Relaxed);
        if is_refused {
            return Err(refusal);
        }
        self.set_length(wanted)?;
        Ok(current)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "a guest's memory is not copied".to_owned() })
    }
}

/// What wasmer asks when it makes an instance: the memory of one call, and its limits.
pub(crate) struct CallTunables {
    slot: Arc<Slot>,
    limit: Pages,
    vm: VMConfig,
    base: BaseTunables,
}

impl CallTunables {
    pub(crate) fn new(slot: Arc<Slot>, memory_bytes: u64, stack_bytes: usize) -> Self {
        // One page less than all: there is the gate.
        let pages = (memory_bytes.min(GATE_OFFSET) / WASM_PAGE_SIZE as u64) as u32;
        let vm = VMConfig { wasm_stack_size: Some(stack_bytes) };
        Self { slot, limit: Pages(pages), vm, base: BaseTunables::new() }
    }
}

impl Tunables for CallTunables {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "the host has no memories".to_owned() })
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        _: &MemoryStyle,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        if ty.minimum > self.limit {
            self.slot.was_refused.store(true, Ordering::Relaxed);
            return Err(MemoryError::MinimumMemoryTooLarge { min_requested: ty.minimum, max_allowed: self.limit });
        }
        if self.slot.length() != 0 {
            return Err(MemoryError::UnsupportedOperation { message: "an instance has one memory".to_owned() });
        }
        let mut memory = GuestMemory { slot: Arc::clone(&self.slot), ty: *ty, limit: self.limit, definition };
        memory.set_length(ty.minimum)?;
        Ok(VMMemory(Box::new(memory)))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err("the host has no tables".to_owned())
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        let maximum = ty.maximum.map_or(TABLE_ELEMENTS_MAX, |maximum| maximum.min(TABLE_ELEMENTS_MAX));
        let limited = TableType { maximum: Some(maximum), ..*ty };
        // SAFETY: as promised by our caller.
        unsafe { self.base.create_vm_table(&limited, style, definition) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}
