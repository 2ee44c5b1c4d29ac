//! The handle to everything: inspect, prepare, load.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::{Digest, Failure, Manifest};

use crate::{
    EngineConfig, EngineError, ModuleReport, Program,
    cache::{Cache, Loaded},
    clock,
    compile::{compile, fingerprint},
    flight::Flights,
    image::Image,
    inspect,
    memory::Slots,
    metrics,
    pool::Pools,
    rewrite::rewrite,
    script,
    snapshot::{MODULE_IMAGE, Snapshot, mould},
    watchdog::Watchdog,
};

/// Compiles modules and loads them. A clone is another handle to the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What an engine and its programs share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) slots: Arc<Slots>,
    pub(crate) watchdog: Watchdog,
    pub(crate) pools: Pools,
    pub(crate) cache: Cache,
    pub(crate) flights: Flights,
    pub(crate) scripts: script::Shared,
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
    /// [`EngineError::Cache`] if the directory cannot be made or used, [`EngineError::Internal`] if no thread can be
    /// started.
    pub fn open(config: EngineConfig) -> Result<Engine, EngineError> {
        metrics::describe();
        let cache = Cache::open(&config.cache_dir, &fingerprint())
            .map_err(|error| EngineError::Cache(format!("cannot open {}: {error}", config.cache_dir.display())))?;
        let watchdog = Watchdog::spawn().map_err(|error| EngineError::Internal(format!("watchdog: {error}")))?;
        let slots = Slots::new(config.instances_max.min(Slots::budget()));
        let (flights, pools) = (Flights::new(config.compiles_max), Pools::default());
        Ok(Engine {
            shared: Arc::new(Shared { config, slots, watchdog, pools, cache, flights, scripts: Default::default() }),
        })
    }

    /// Says whether `code` can run as `manifest` declares it, and what it is. Compiles nothing, but the guest that runs
    /// scripts at the first of those; a script is loaded once, in a sandbox.
    ///
    /// # Errors
    /// [`EngineError::Module`] with what is wrong, [`EngineError::TooLarge`].
    pub fn inspect(&self, code: &[u8], manifest: &Manifest) -> Result<ModuleReport, EngineError> {
        if script::is_script(manifest) { self.inspect_script(code, manifest) } else { inspect::inspect(code, manifest) }
    }

    /// Has the artefact of `code` in the cache, compiling it unless it is there. Concurrent calls for one digest share
    /// one compilation. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`Engine::inspect`], and [`EngineError::Digest`], [`EngineError::Cache`], [`EngineError::Shutdown`].
    pub fn prepare(&self, digest: Digest, manifest: &Manifest, code: &[u8]) -> Result<Prepared, EngineError> {
        if let Some(prepared) = self.cached(digest) {
            return Ok(prepared);
        }
        if script::is_script(manifest) {
            return self.prepare_script(digest, manifest, code);
        }
        // Looked at again, because another flight may have landed just now.
        self.shared
            .flights
            .share(digest, || self.cached(digest).map_or_else(|| self.compile(digest, manifest, code), Ok))
    }

    pub(crate) fn cached(&self, digest: Digest) -> Option<Prepared> {
        let report = self.shared.cache.report(digest)?;
        Some(Prepared { was_cached: true, compile: Duration::ZERO, report })
    }

    fn compile(&self, digest: Digest, manifest: &Manifest, code: &[u8]) -> Result<Prepared, EngineError> {
        let mut report = inspect::inspect(code, manifest)?;
        let actual = Digest::of(code);
        if actual != digest {
            return Err(EngineError::Digest { expected: digest, actual });
        }
        let begin = clock::now();
        let rewritten = rewrite(code).map_err(|error| EngineError::Internal(format!("rewriting: {error}")))?;
        (report.is_resettable, report.is_portable) = (rewritten.is_resettable, rewritten.is_portable);
        let artefact = compile(&rewritten.code, &self.shared.config);
        let compile = clock::now().saturating_duration_since(begin);
        ::metrics::counter!(metrics::COMPILATIONS).increment(1);
        ::metrics::histogram!(metrics::COMPILE_SECONDS).record(compile.as_secs_f64());
        // The image first: where there is an artefact, there is its image.
        self.shared.cache.store_image(digest, &MODULE_IMAGE, rewritten.image)?;
        self.shared.cache.store(digest, &artefact?, &report)?;
        tracing::debug!(%digest, ?compile, code_bytes = report.code_bytes, "module compiled");
        Ok(Prepared { was_cached: false, compile, report })
    }

    /// Loads the program of a version: of the module `digest`, as `manifest` declares it. `code` is asked for the bytes
    /// only if the cache does not have a sound artefact. Every call makes a new `Program`: the runtime keeps one per
    /// version.
    ///
    /// # Errors
    /// As [`Engine::prepare`], and [`EngineError::Code`] if `code` fails.
    pub fn load(
        &self,
        digest: Digest,
        manifest: &Manifest,
        code: impl FnOnce() -> Result<Bytes, Failure>,
    ) -> Result<Arc<Program>, EngineError> {
        if script::is_script(manifest) {
            return self.load_script(digest, manifest, code);
        }
        let begin = clock::now();
        let cached = self.loaded(digest)?;
        let is_cached = cached.is_some();
        let (loaded, image) = match cached {
            Some(cached) => cached,
            None => {
                let code = code().map_err(EngineError::Code)?;
                self.prepare(digest, manifest, &code)?;
                let gone = || EngineError::Cache("an artefact vanished while it was loaded".to_owned());
                self.loaded(digest)?.ok_or_else(gone)?
            }
        };
        let Loaded { code, report } = loaded;
        let mut mould = mould(code, image, &report, manifest, self.shared.config.guest_stack_bytes);
        let snapshot = Snapshot { shared: &self.shared, digest, manifest };
        if let Some(image) = snapshot.image(&mould, &report) {
            mould.image = Arc::new(image);
        }
        if is_cached {
            ::metrics::histogram!(metrics::LOAD_SECONDS).record(begin.elapsed().as_secs_f64());
        }
        let idle_max = manifest.limits.concurrency as usize;
        Ok(Arc::new(Program::new(mould, report, manifest.instance, idle_max, Arc::clone(&self.shared))))
    }

    /// The artefact of `digest` and the image that goes with it, if both are there and sound.
    pub(crate) fn loaded(&self, digest: Digest) -> Result<Option<(Loaded, Image)>, EngineError> {
        let Some(loaded) = self.shared.cache.load(digest)? else { return Ok(None) };
        let Some(image) = self.shared.cache.image(digest, &MODULE_IMAGE)? else {
            drop(loaded);
            self.shared.cache.remove(digest)?;
            return Ok(None);
        };
        Ok(Some((loaded, image)))
    }

    /// Drops the instances, of all programs, that have been idle for `age` and longer; says how many.
    pub fn trim(&self, age: Duration) -> usize {
        self.shared.pools.trim(age)
    }

    /// True if an artefact of `digest` is in the cache. Whether it is sound shows when it is loaded.
    pub fn is_cached(&self, digest: Digest) -> bool {
        self.shared.cache.contains(digest)
    }

    /// Removes the artefacts of everything but `digests`, those of other releases too; says how many. Programs that are
    /// loaded run on.
    ///
    /// # Errors
    /// [`EngineError::Cache`] if the directory cannot be read or a file not be removed; others may be gone by then.
    pub fn retain(&self, digests: &HashSet<Digest>) -> Result<usize, EngineError> {
        let mut kept = digests.clone();
        kept.insert(script::runtime_digest());
        self.shared.cache.retain(&kept).map_err(|error| EngineError::Cache(error.to_string()))
    }

    /// Stops every guest and takes no new calls and compilations; returns when the engine's own thread has ended.
    pub fn shutdown(&self) {
        self.shared.flights.shutdown();
        self.shared.watchdog.shutdown();
    }
}
