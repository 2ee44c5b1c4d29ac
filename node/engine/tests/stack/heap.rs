//! How much of the heap the calling thread holds: what it was given, less what it gave back.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait; all of the work is the system's")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Without a destructor, so that it may be used as long as the thread allocates.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// In bytes; less than nothing for a thread that gives back what others were given.
pub(crate) fn held() -> i64 {
    HELD.get()
}

struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

// SAFETY: the system's allocator is asked for just what this one is asked for.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}
