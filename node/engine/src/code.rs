//! Machine code in memory: mapped from an artefact, unmapped when dropped.
#![allow(unsafe_code, reason = "mapping compiled code is an unsafe call")]

use std::{
    mem::ManuallyDrop,
    os::fd::AsRawFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
};

use wasmer::{Engine, Module, sys::NativeEngineExt as _};

use crate::{cache::Entry, stop::lock};

/// Held while code is mapped and unmapped. wasmer 7.4 keeps a process-wide list of where code is, and takes a module
/// off it only after its code was unmapped: code that another thread maps to the same place in between collides with the
/// stale entry, and the panic poisons the list for good.
static MAPPING: Mutex<()> = Mutex::new(());

/// A module, and the engine that holds its code. One each, because an engine keeps the code of modules until it is
/// dropped itself.
#[derive(Debug)]
pub(crate) struct Code {
    module: ManuallyDrop<Module>,
    engine: ManuallyDrop<Engine>,
    /// The artefact, all of which may be mapped.
    bytes: u64,
}

impl Code {
    /// Maps an artefact that the cache found sound.
    ///
    /// # Errors
    /// What wasmer has against the file.
    pub(crate) fn map(artefact: &Entry) -> Result<Self, String> {
        let file = artefact.open().map_err(|error| error.to_string())?;
        // The file that is open, whatever has its name by now.
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        let _mapping = lock(&MAPPING);
        let engine = Engine::headless();
        // SAFETY: the file is one that this crate wrote: in a directory only this user can write to, with our label, the
        // fingerprint of this very compiler and machine, and a code over every byte that nobody makes without this user's
        // key, which was checked when the file was last changed. Files are never written again once they have their name,
        // so that it does not change while it is mapped.
        let map = || unsafe { Module::deserialize_from_file(&engine, Path::new(&opened)) };
        let module = catch_unwind(AssertUnwindSafe(map));
        let module = module.map_err(|_| "wasmer panicked".to_owned())?.map_err(|error| error.to_string())?;
        Ok(Self { module: ManuallyDrop::new(module), engine: ManuallyDrop::new(engine), bytes: artefact.payload_bytes })
    }

    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    /// What it takes of memory at most: every page of the artefact, and what describes it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + DESCRIPTION_BYTES
    }

    /// The engine. Clones of it must be dropped before the code is.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// What a loaded module has on the heap: measured for a small one (`tests/memory` prints it). Large ones have more, but
/// not all of their code is touched.
pub(crate) const DESCRIPTION_BYTES: u64 = 6 << 10;

impl Drop for Code {
    fn drop(&mut self) {
        let _mapping = lock(&MAPPING);
        // SAFETY: each is dropped once, here, and not used after; the module first, because its code is the engine's.
        unsafe {
            ManuallyDrop::drop(&mut self.module);
            ManuallyDrop::drop(&mut self.engine);
        }
    }
}
