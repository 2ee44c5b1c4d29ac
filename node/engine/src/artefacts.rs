//! The machine code of every module: made once, kept on disk, loaded once, shared by all programs.
//!
//! ```text
//! prepare: small -> optimised -------------------------------> stored
//!          large -> baseline -> stored, served -> (background) optimised -> stored, swapped in
//! load:    loaded already, else the best tier on disk -> mapped, shared until the last program leaves
//! ```

mod background;
mod live;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

pub(crate) use live::LiveCode;
use skein_proto::Digest;

use crate::{
    EngineConfig, EngineError, ModuleReport, Prepared, Tier, Tiering,
    cache::{Cache, Entry, Key},
    clock,
    code::{Code, DESCRIPTION_BYTES},
    compile::{Cause, Compiler, Urgency, fingerprint, is_for_baseline},
    flight::Flights,
    image::{Draft, Image},
    metrics,
    snapshot::MODULE_IMAGE,
    stop::lock,
};
use background::Background;

/// A module as it goes to the compiler.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) code: Vec<u8>,
    /// What its instances start from.
    pub(crate) image: Draft,
    /// What is kept with its artefacts.
    pub(crate) report: ModuleReport,
}

/// The store of machine code of one engine.
#[derive(Debug)]
pub(crate) struct Artefacts {
    shared: Arc<Shared>,
    background: Background,
}

#[derive(Debug)]
struct Shared {
    cache: Cache,
    compiler: Compiler,
    flights: Flights,
    /// What is loaded, as long as a program has it.
    live: Mutex<HashMap<Digest, Weak<LiveCode>>>,
    live_max: usize,
    tiering: Tiering,
}

impl Artefacts {
    pub(crate) fn open(config: &EngineConfig) -> Result<Self, EngineError> {
        let cache = Cache::open(&config.cache_dir, &config.cache_key, &fingerprint(), config.cache_bytes_max)
            .map_err(|error| EngineError::Cache(format!("cannot open {}: {error}", config.cache_dir.display())))?;
        let internal = |error: io::Error| EngineError::Internal(format!("compiler: {error}"));
        let shared = Arc::new(Shared {
            cache,
            compiler: Compiler::new(config).map_err(internal)?,
            flights: Flights::new(config.compiles_max, config.compiles_waiting_max),
            live: Mutex::default(),
            live_max: config.modules_max,
            tiering: config.tiering,
        });
        let background = match config.tiering {
            Tiering::Both { .. } => Background::spawn(&shared).map_err(internal)?,
            Tiering::Baseline | Tiering::Optimised => Background::none(),
        };
        Ok(Self { shared, background })
    }

    /// Has an artefact of some tier on disk, compiling the source unless there is one. Concurrent calls for one digest
    /// share one compilation. Blocks for as long as that takes.
    pub(crate) fn prepare(
        &self,
        digest: Digest,
        source: impl FnOnce() -> Result<Source, EngineError>,
    ) -> Result<Prepared, EngineError> {
        if let Some(prepared) = self.cached(digest)? {
            return Ok(prepared);
        }
        // Looked at again, because another flight may have landed just now.
        self.shared.flights.share(digest, || match self.cached(digest)? {
            Some(prepared) => Ok(prepared),
            None => self.compile(digest, source()?),
        })
    }

    /// What is there of `digest`, if anything is.
    pub(crate) fn cached(&self, digest: Digest) -> Result<Option<Prepared>, EngineError> {
        let Some((tier, _, report)) = self.shared.best(digest)? else { return Ok(None) };
        Ok(Some(Prepared { was_cached: true, compile: Duration::ZERO, tier, report }))
    }

    fn compile(&self, digest: Digest, source: Source) -> Result<Prepared, EngineError> {
        let begin = clock::now();
        let Source { code, image, report } = source;
        let meta = encode(&report)?;
        let shared = &self.shared;
        // The image first: where there is code, there is its image.
        self.store_image(digest, &MODULE_IMAGE, image)?;
        let tier = shared.compile(digest, &code, &meta).inspect_err(|_| {
            // Of no use without code; what cannot be removed now leaves with the rest of the module.
            let _ = shared.cache.remove(Key::image(digest, MODULE_IMAGE));
        })?;
        let compile = clock::now().saturating_duration_since(begin);
        if tier == Tier::Baseline {
            self.background.optimise(digest);
        }
        shared.evict(Some(digest));
        tracing::debug!(%digest, ?compile, tier = tier.as_str(), code_bytes = code.len(), "module compiled");
        Ok(Prepared { was_cached: false, compile, tier, report })
    }

    /// The code of `digest`, if there is an artefact of it: what is loaded already, else the best on disk.
    pub(crate) fn load(&self, digest: Digest) -> Result<Option<Arc<LiveCode>>, EngineError> {
        let shared = &self.shared;
        if let Some(live) = shared.live(digest) {
            return Ok(Some(live));
        }
        let Some((tier, report, code)) = shared.map_best(digest)? else { return Ok(None) };
        let live = {
            let mut all = lock(&shared.live);
            if let Some(live) = all.get(&digest).and_then(Weak::upgrade) {
                // Somebody was faster; one mapping is enough.
                return Ok(Some(live));
            }
            all.retain(|_, live| live.strong_count() > 0);
            let live = Arc::new(LiveCode::new(report, tier, code));
            all.insert(digest, Arc::downgrade(&live));
            live
        };
        // What was stored since the look at the disk found nothing loaded to be swapped into.
        if tier < Tier::Optimised && shared.cache.contains(Key::code(digest, Tier::Optimised)) {
            shared.swap(digest);
        }
        Ok(Some(live))
    }

    /// What loading `digest` takes of memory; nothing if it is loaded already.
    pub(crate) fn bytes_to_load(&self, digest: Digest) -> u64 {
        if self.shared.live(digest).is_some() {
            return 0;
        }
        let of = |tier| self.shared.cache.bytes(Key::code(digest, tier));
        TIERS.into_iter().find_map(of).unwrap_or(0) + DESCRIPTION_BYTES
    }

    /// Whether loading `digest` would be one too many.
    pub(crate) fn is_full_for(&self, digest: Digest) -> bool {
        let mut live = lock(&self.shared.live);
        if live.len() < self.shared.live_max || live.get(&digest).is_some_and(|code| code.strong_count() > 0) {
            return false;
        }
        live.retain(|_, code| code.strong_count() > 0);
        live.len() >= self.shared.live_max
    }

    /// What all the code takes of memory that is loaded.
    pub(crate) fn bytes_loaded(&self) -> u64 {
        lock(&self.shared.live).values().filter_map(Weak::upgrade).map(|live| live.bytes()).sum()
    }

    /// The best tier on disk. Whether it is sound shows when it is loaded.
    pub(crate) fn tier(&self, digest: Digest) -> Option<Tier> {
        TIERS.into_iter().find(|tier| self.shared.cache.contains(Key::code(digest, *tier)))
    }

    /// Removes what is kept of everything but `digests`; says how many files.
    pub(crate) fn retain(&self, digests: &HashSet<Digest>) -> io::Result<usize> {
        self.shared.cache.retain(digests)
    }

    /// Does `work` for `digest`, or shares the outcome of whoever does it already.
    pub(crate) fn share(
        &self,
        digest: Digest,
        work: impl FnOnce() -> Result<Prepared, EngineError>,
    ) -> Result<Prepared, EngineError> {
        self.shared.flights.share(digest, work)
    }

    /// Keeps a note of what has no code of its own, only an image.
    pub(crate) fn note(&self, digest: Digest, report: &ModuleReport) -> Result<(), EngineError> {
        self.shared.cache.store(Key::code(digest, Tier::Optimised), &[], &encode(report)?)?;
        self.shared.evict(Some(digest));
        Ok(())
    }

    /// Keeps an image of `digest`, under a key of its own.
    pub(crate) fn store_image(&self, digest: Digest, key: &[u8; 32], mut image: Draft) -> Result<(), EngineError> {
        let meta = image.describe().map_err(EngineError::Internal)?;
        self.shared.cache.store_with(Key::image(digest, *key), &meta, |file| image.fill(file))
    }

    /// The image of `digest` with that key, if there is a sound one.
    pub(crate) fn image(&self, digest: Digest, key: &[u8; 32]) -> Result<Option<Image>, EngineError> {
        let key = Key::image(digest, *key);
        let Some(entry) = self.shared.cache.find(key)? else { return Ok(None) };
        match Image::open(&entry) {
            Ok(image) => Ok(Some(image)),
            // It was removed, or replaced by another process.
            Err(_) if entry.is_gone() => Ok(None),
            Err(error) => self.shared.cache.condemn(key, &error.to_string()).map(|()| None),
        }
    }

    /// Removes the code of `digest`, so that it is compiled again.
    pub(crate) fn remove(&self, digest: Digest) -> Result<(), EngineError> {
        [Key::code(digest, Tier::Optimised), Key::code(digest, Tier::Baseline), Key::source(digest)]
            .into_iter()
            .try_for_each(|key| self.shared.cache.remove(key))
    }

    /// Ends every compilation and lets none begin; returns when nothing of it runs any more.
    pub(crate) fn shutdown(&self) {
        self.shared.flights.shutdown();
        self.shared.compiler.shutdown();
        self.background.shutdown();
    }
}

impl Drop for Artefacts {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// Compiles and stores the first tier of a module.
    fn compile(&self, digest: Digest, code: &[u8], meta: &[u8]) -> Result<Tier, EngineError> {
        let is_wanted = match self.tiering {
            Tiering::Both { baseline_from_bytes } => code.len() as u64 >= baseline_from_bytes,
            Tiering::Baseline => true,
            Tiering::Optimised => false,
        };
        if is_wanted && is_for_baseline(code) {
            match self.compiler.compile(code, Tier::Baseline, Urgency::Awaited) {
                Ok(artefact) => {
                    if self.tiering != Tiering::Baseline {
                        // First, so that what is served is optimised one day, also by a later process.
                        self.cache.store(Key::source(digest), code, meta)?;
                    }
                    self.cache.store(Key::code(digest, Tier::Baseline), &artefact, meta)?;
                    return Ok(Tier::Baseline);
                }
                Err(failed) if matches!(failed.cause, Cause::Refused | Cause::Crashed | Cause::Memory) => {
                    tracing::debug!(%digest, problem = failed.message, "no baseline code of this module");
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        let artefact = self.compiler.compile(code, Tier::Optimised, Urgency::Awaited)?;
        self.cache.store(Key::code(digest, Tier::Optimised), &artefact, meta)?;
        Ok(Tier::Optimised)
    }

    /// The best sound artefact on disk.
    fn best(&self, digest: Digest) -> Result<Option<(Tier, Entry, ModuleReport)>, EngineError> {
        for tier in TIERS {
            let key = Key::code(digest, tier);
            if let Some(entry) = self.cache.find(key)? {
                match rmp_serde::from_slice(&entry.meta) {
                    Ok(report) => return Ok(Some((tier, entry, report))),
                    Err(error) => self.cache.condemn(key, &error.to_string())?,
                }
            }
        }
        Ok(None)
    }

    fn map_best(&self, digest: Digest) -> Result<Option<(Tier, ModuleReport, Code)>, EngineError> {
        let begin = clock::now();
        while let Some((tier, entry, report)) = self.best(digest)? {
            match Code::map(&entry) {
                Ok(code) => {
                    metrics::mapped(tier, clock::now().saturating_duration_since(begin));
                    return Ok(Some((tier, report, code)));
                }
                // Better code came, and this was removed; or another process put its own there.
                Err(_) if entry.is_gone() => {}
                // It is gone then, and the next look finds another or none.
                Err(problem) => self.cache.condemn(Key::code(digest, tier), &problem)?,
            }
        }
        metrics::cache_missed();
        Ok(None)
    }

    /// What is loaded of `digest`.
    fn live(&self, digest: Digest) -> Option<Arc<LiveCode>> {
        lock(&self.live).get(&digest).and_then(Weak::upgrade)
    }

    /// Puts the best code there is in place of the loaded one. Instances that run keep theirs.
    fn swap(&self, digest: Digest) {
        let Some(live) = self.live(digest) else { return };
        match self.map_best(digest) {
            Ok(Some((tier, _, code))) => {
                if live.improve(tier, code) {
                    metrics::swapped();
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%digest, %error, "optimised code cannot be loaded; the baseline code stays"),
        }
    }

    fn evict(&self, besides: Option<Digest>) {
        self.cache.evict(|digest| besides == Some(digest) || self.live(digest).is_some());
    }
}

fn encode(report: &ModuleReport) -> Result<Vec<u8>, EngineError> {
    rmp_serde::to_vec_named(report).map_err(|error| EngineError::Internal(error.to_string()))
}

/// The best one first.
const TIERS: [Tier; 2] = [Tier::Optimised, Tier::Baseline];
