//! The handle to everything: inspect, prepare, load.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::{Digest, Failure, Manifest};

use crate::{
    EngineConfig, EngineError, ModuleReport, Program, Tier,
    artefacts::{Artefacts, LiveCode, Source},
    clock,
    image::Image,
    inspect,
    memory::{Ledger, Memory, NoRoom, Room, Slots, keep_pages_apart, release_heap, resident, settle_heap},
    metrics,
    pool::Pools,
    program::INSTANCE_BYTES,
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
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) watchdog: Watchdog,
    pub(crate) pools: Pools,
    pub(crate) artefacts: Artefacts,
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
    /// The best there is. Better code may follow by itself; see [`Engine::tier`].
    pub tier: Tier,
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
        settle_heap();
        keep_pages_apart();
        metrics::describe();
        let artefacts = Artefacts::open(&config)?;
        let watchdog = Watchdog::spawn(config.lost_after);
        let watchdog = watchdog.map_err(|error| EngineError::Internal(format!("watchdog: {error}")))?;
        let ledger = Ledger::new(config.memory_bytes_max);
        let slots = Slots::new(config.instances_max.min(Slots::budget()), Arc::clone(&ledger));
        let pools = Pools::default();
        let scripts = script::Shared::default();
        Ok(Engine { shared: Arc::new(Shared { config, ledger, slots, watchdog, pools, artefacts, scripts }) })
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
        if script::is_script(manifest) {
            return self.prepare_script(digest, manifest, code);
        }
        self.shared.artefacts.prepare(digest, || {
            let mut report = inspect::inspect(code, manifest)?;
            let actual = Digest::of(code);
            if actual != digest {
                return Err(EngineError::Digest { expected: digest, actual });
            }
            let rewritten = rewrite(code).map_err(|error| EngineError::Internal(format!("rewriting: {error}")))?;
            (report.is_resettable, report.is_portable) = (rewritten.is_resettable, rewritten.is_portable);
            Ok(Source { code: rewritten.code, image: rewritten.image, report })
        })
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
        let (live, image) = match cached {
            Some(cached) => cached,
            None => {
                let code = code().map_err(EngineError::Code)?;
                self.prepare(digest, manifest, &code)?;
                let gone = || EngineError::Cache("an artefact vanished while it was loaded".to_owned());
                self.loaded(digest)?.ok_or_else(gone)?
            }
        };
        let report = live.report().clone();
        let mut mould = mould(live, image, manifest, self.shared.config.guest_stack_bytes);
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

    /// The code of `digest` and the image that goes with it, if both are there and sound.
    pub(crate) fn loaded(&self, digest: Digest) -> Result<Option<(Arc<LiveCode>, Image)>, EngineError> {
        let artefacts = &self.shared.artefacts;
        let Some(live) = artefacts.load(digest)? else { return Ok(None) };
        let Some(image) = artefacts.image(digest, &MODULE_IMAGE)? else {
            artefacts.remove(digest)?;
            return Ok(None);
        };
        Ok(Some((live, image)))
    }

    /// Drops the instances, of all programs, that have been idle for `age` and longer; says how many.
    pub fn trim(&self, age: Duration) -> usize {
        self.shared.pools.trim(age)
    }

    /// Looks at what the process holds, and goes by that until the next look: every tenth of a second keeps what nobody
    /// announces within the part of the budget that is nobody's. Takes some microseconds and a few milliseconds for
    /// each GiB of guests that run.
    pub fn observe(&self) -> Memory {
        let Shared { ledger, slots, .. } = &*self.shared;
        ledger.observe(|| slots.touched(resident));
        self.memory()
    }

    /// What the process holds, by what it is, as of the last [`Engine::observe`].
    pub fn memory(&self) -> Memory {
        let Shared { ledger, slots, artefacts, .. } = &*self.shared;
        Memory {
            budget: ledger.budget(),
            resident: ledger.resident(),
            base: ledger.base(),
            guests: ledger.given(),
            code: artefacts.bytes_loaded(),
            instances: slots.live() as u64 * INSTANCE_BYTES,
        }
    }

    /// Ends when something was refused for want of memory since the last time.
    pub async fn short_of_memory(&self) {
        self.shared.ledger.refused().await;
    }

    /// Sets `bytes` aside for work of which the caller knows what it needs.
    ///
    /// # Errors
    /// [`NoRoom`] if the budget has not as much left.
    pub fn room(&self, bytes: u64) -> Result<Room, NoRoom> {
        self.shared.ledger.room(bytes)
    }

    /// Sets aside what [`Engine::load`] takes for `digest`. To be [settled](Room::settle) when it is loaded.
    ///
    /// # Errors
    /// [`NoRoom`] if the budget has not as much left, or [`EngineConfig::modules_max`] are loaded.
    pub fn room_to_load(&self, digest: Digest) -> Result<Room, NoRoom> {
        let Shared { artefacts, ledger, .. } = &*self.shared;
        let bytes = artefacts.bytes_to_load(digest);
        if artefacts.is_full_for(digest) { Err(ledger.refuse(bytes)) } else { self.room(bytes) }
    }

    /// The same for code that nobody has asked for yet: only if there is plenty of room, and if there is not, nobody is
    /// asked to let go of anything.
    pub fn spare_to_load(&self, digest: Digest) -> Option<Room> {
        let Shared { artefacts, ledger, .. } = &*self.shared;
        if artefacts.is_full_for(digest) { None } else { ledger.spare(artefacts.bytes_to_load(digest)) }
    }

    /// Has the allocator give back what nothing is in any more; without that, what was dropped stays the process's.
    /// Blocks for some milliseconds.
    pub fn release_memory(&self) {
        release_heap();
    }

    /// Drops half of the instances, of all programs, that have been idle for `age` and longer; says how many.
    pub fn shrink(&self, age: Duration) -> usize {
        self.shared.pools.shrink(age)
    }

    /// True if an artefact of `digest` is in the cache. Whether it is sound shows when it is loaded.
    pub fn is_cached(&self, digest: Digest) -> bool {
        self.tier(digest).is_some()
    }

    /// The best tier of `digest` in the cache: grows from baseline to optimised by itself. Programs that are loaded use
    /// it from their next instance on.
    pub fn tier(&self, digest: Digest) -> Option<Tier> {
        self.shared.artefacts.tier(digest)
    }

    /// Removes the artefacts of everything but `digests`, those of other releases too; says how many. Programs that are
    /// loaded run on.
    ///
    /// # Errors
    /// [`EngineError::Cache`] if the directory cannot be read or a file not be removed; others may be gone by then.
    pub fn retain(&self, digests: &HashSet<Digest>) -> Result<usize, EngineError> {
        let mut kept = digests.clone();
        kept.insert(script::runtime_digest());
        self.shared.artefacts.retain(&kept).map_err(|error| EngineError::Cache(error.to_string()))
    }

    /// Stops every guest and every compilation and takes no new ones; returns when the engine's own threads and
    /// processes have ended.
    pub fn shutdown(&self) {
        self.shared.artefacts.shutdown();
        self.shared.watchdog.shutdown();
    }
}
