//! The handle to everything: inspect, prepare, load.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::{Digest, Failure, Manifest};

use crate::{EngineConfig, EngineError, ModuleReport, Program};

/// Compiles modules and loads them. A clone is another handle to the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    config: Arc<EngineConfig>,
}

/// How a module became ready.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Prepared {
    /// True if the artefact was there already.
    pub was_cached: bool,
    /// What the compilation took; zero if there was none.
    pub compile: Duration,
    /// What inspecting the module found.
    pub report: ModuleReport,
}

impl Engine {
    /// Opens the artefact cache and starts the thread that watches deadlines.
    ///
    /// # Errors
    /// [`EngineError::Cache`] if the directory cannot be made or used, [`EngineError::Internal`] if the machine's CPU is
    /// none the compiler knows or no thread can be started.
    pub fn open(config: EngineConfig) -> Result<Engine, EngineError> {
        Ok(Engine { config: Arc::new(config) })
    }

    /// Says whether `code` can run as `manifest` declares it, and what it is. Compiles nothing.
    ///
    /// # Errors
    /// [`EngineError::Module`] with what is wrong, [`EngineError::TooLarge`].
    pub fn inspect(&self, code: &[u8], manifest: &Manifest) -> Result<ModuleReport, EngineError> {
        let _ = (code, manifest);
        Err(EngineError::Shutdown)
    }

    /// Has the artefact of `code` in the cache, compiling it unless it is there. Concurrent calls for one digest share
    /// one compilation. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`Engine::inspect`], and [`EngineError::Digest`], [`EngineError::Cache`], [`EngineError::Shutdown`].
    pub fn prepare(&self, digest: Digest, code: &[u8]) -> Result<Prepared, EngineError> {
        let _ = (digest, code);
        Err(EngineError::Shutdown)
    }

    /// Loads the program of `digest`. `code` is asked for the bytes only if the cache does not have a sound artefact.
    /// Every call makes a new `Program`: the runtime keeps one per version.
    ///
    /// # Errors
    /// As [`Engine::prepare`], and [`EngineError::Code`] if `code` fails.
    pub fn load(
        &self,
        digest: Digest,
        code: impl FnOnce() -> Result<Bytes, Failure>,
    ) -> Result<Arc<Program>, EngineError> {
        let _ = (digest, code);
        Err(EngineError::Shutdown)
    }

    /// True if an artefact of `digest` is in the cache. Whether it is sound shows when it is loaded.
    pub fn is_cached(&self, digest: Digest) -> bool {
        let _ = digest;
        self.config.compiles_max == 0
    }

    /// Stops every guest and takes no new calls; returns when the engine's own thread has ended.
    pub fn shutdown(&self) {}
}
