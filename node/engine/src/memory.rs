//! Linear memory: a slot of address space for each instance, with the page by which its guest is stopped.
//!
//! ```text
//! base            initial         length       limit               4 GiB - 64 KiB      4 GiB         8 GiB + 64 KiB
//!  | image, copied | zeros ... grown | no access ... (grows up to limit) | gate | no access ... | no access ... |
//!  | when written  |
//! ```
//! Compiled code checks no bounds: a 32-bit address plus a 32-bit offset stays inside the slot, and what is not the
//! guest's faults. The gate is one page of zeros that may only be read. Safepoints read it; closing it stops the guest
//! at the next one.
//!
//! An instance starts from the [image](crate::image) of its module, mapped copy-on-write. [`Slot::reset`] puts the
//! pages that a call wrote back to what they were, or, if they are many, gives them back to the kernel: the next call
//! finds the image and zeros again.

mod guest;
mod held;
mod ledger;
mod process;
mod scan;
mod slot;

pub(crate) use guest::SlotTunables;
pub(crate) use held::Tally;
pub use held::{Held, Memory};
pub(crate) use ledger::{Ledger, Purpose};
pub use ledger::{NoRoom, Room};
pub(crate) use process::{keep_pages_apart, release_heap, resident, settle_heap};
pub(crate) use slot::{Slot, Slots, Unreserved};

use wasmer::WASM_PAGE_SIZE;

/// Where the gate is, from the start of the memory: the last of the 65,536 pages, which no memory may have.
pub(crate) const GATE_OFFSET: u64 = 0xFFFF_0000;
/// Four GiB of addresses, four GiB of offsets, and the widest access.
const RESERVED_BYTES: usize = (8 << 30) + WASM_PAGE_SIZE;
/// What of that page may be read: as little as can be, because a guest that reads there gets zeros where WebAssembly has
/// a trap. The kernel makes it a whole page of the machine's.
const GATE_BYTES: usize = 4 << 10;
