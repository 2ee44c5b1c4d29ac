//! Scripts: the guest of `skein_script`, given an author's files and called with frames instead of streams.
//!
//! All scripts share one compiled module. An instance becomes a script's by its export `skein_load`; what its memory is
//! like then is kept as an image, since the guest keeps nothing elsewhere. Every call begins by seeding the guest's
//! randomness anew, which an image has frozen.

mod prepare;

use std::sync::{Arc, Mutex, OnceLock};

use rand::Rng as _;
use skein_proto::{Abi, Digest, Manifest};
use skein_script::{Bundle, BundleError, RUNTIME, frame};
use wasmer::{ExportError, FunctionEnv, Instance, RuntimeError, Store, TypedFunction};
use wasmer_types::TrapCode;

use crate::{
    EngineError, ModuleReport,
    artefacts::LiveCode,
    clock,
    host::{Host, Inconstant},
    image::Image,
    wasi::Halt,
};

/// A script's files, in the form that its instances take; none where an image has them already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    frame: Option<Arc<[u8]>>,
}

/// What the scripts of an engine share: the guest, from its first use on.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    guest: Mutex<Option<Guest>>,
}

/// The guest that runs scripts, compiled and loaded.
#[derive(Debug, Clone)]
struct Guest {
    live: Arc<LiveCode>,
    image: Arc<Image>,
    report: ModuleReport,
}

/// What the guest exports to its host.
pub(crate) struct Exports {
    alloc: TypedFunction<u32, u32>,
    reseed: TypedFunction<u64, ()>,
    load: TypedFunction<(u32, u32), i32>,
    handle: TypedFunction<(u32, u32), i32>,
}

/// The stack of the host's that a script gets at least. The guest ends a recursion by its own count of the stack in
/// linear memory; compiled code takes several times as much of the host's.
const STACK_BYTES_MIN: u64 = 4 << 20;
/// What `skein_load` returns if the top level of the script used `Math.random`.
const USED_RANDOM: i32 = 2;
/// The files that can be the entry of a script.
const EXTENSIONS: [&str; 3] = [".js", ".mjs", ".cjs"];

/// The digest of the guest's code.
pub(crate) fn runtime_digest() -> Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    *DIGEST.get_or_init(|| Digest::of(RUNTIME))
}

/// True if `manifest` is a script's: by its abi, or by the file that it begins with.
pub(crate) fn is_script(manifest: &Manifest) -> bool {
    let is_named = |entry: &String| EXTENSIONS.iter().any(|extension| entry.ends_with(extension));
    manifest.abi == Abi::Script || (manifest.abi == Abi::Auto && manifest.entry.as_ref().is_some_and(is_named))
}

impl Script {
    /// True if its instances must be given its files.
    pub(crate) fn is_to_load(&self) -> bool {
        self.frame.is_some()
    }

    /// Reads what was published.
    fn parse(code: &[u8], manifest: &Manifest) -> Result<Self, EngineError> {
        let bundle = Bundle::parse(code, manifest.entry.as_deref()).map_err(|error| match error {
            BundleError::NotText(_) if code.starts_with(b"\0asm") => {
                EngineError::Module("abi is `script`, but this is a WebAssembly module; remove `abi`".to_owned())
            }
            BundleError::TooLarge { .. } => {
                EngineError::TooLarge { bytes: code.len() as u64, bytes_max: Bundle::BYTES_MAX as u64 }
            }
            other => EngineError::Module(other.to_string()),
        })?;
        Ok(Self { frame: Some(frame::load(&bundle).into()) })
    }
}

impl Exports {
    /// The exports of an instance of the guest.
    pub(crate) fn of(instance: &Instance, store: &Store) -> Result<Self, ExportError> {
        let exports = &instance.exports;
        Ok(Self {
            alloc: exports.get_typed_function(store, "skein_alloc")?,
            reseed: exports.get_typed_function(store, "skein_reseed")?,
            load: exports.get_typed_function(store, "skein_load")?,
            handle: exports.get_typed_function(store, "skein_handle")?,
        })
    }

    /// Makes an initialised instance the script's.
    pub(crate) fn load(&self, store: &mut Store, env: &FunctionEnv<Host>, script: &Script) -> Result<(), RuntimeError> {
        // What the engine asked for itself is not what the script asks for.
        env.as_mut(store).asked = Inconstant::default();
        let Some(frame) = &script.frame else { return Ok(()) };
        self.reseed(store)?;
        let (at, length) = self.put(store, env, frame)?;
        match self.load.call(store, at, length)? {
            0 => Ok(()),
            USED_RANDOM => {
                env.as_mut(store).asked.random = true;
                Ok(())
            }
            code => Err(RuntimeError::user(Box::new(Halt::Exit(code)))),
        }
    }

    /// Has the script handle the call that its host has begun: 0 if it did.
    pub(crate) fn handle(&self, store: &mut Store, env: &FunctionEnv<Host>) -> Result<i32, RuntimeError> {
        self.reseed(store)?;
        let host = env.as_mut(store);
        let left = host.deadline.saturating_duration_since(clock::now());
        let payload = std::mem::take(&mut host.payload);
        let frame = frame::call(left.as_secs_f64() * 1e3, &host.env, &payload);
        drop(payload);
        let (at, length) = self.put(store, env, &frame)?;
        self.handle.call(store, at, length)
    }

    fn reseed(&self, store: &mut Store) -> Result<(), RuntimeError> {
        self.reseed.call(store, rand::rng().random())
    }

    /// Writes a frame where the guest wants it.
    fn put(&self, store: &mut Store, env: &FunctionEnv<Host>, frame: &[u8]) -> Result<(u32, u32), RuntimeError> {
        let at = self.alloc.call(store, u32::try_from(frame.len()).unwrap_or(u32::MAX))?;
        // Null where memory may not grow any more, which the slot has noted: out of memory, like an abort of the guest.
        if at == 0 || !env.as_ref(store).slot.write(at, frame) {
            return Err(wasmer_vm::Trap::lib(TrapCode::UnreachableCodeReached).into());
        }
        Ok((at, frame.len() as u32))
    }
}
