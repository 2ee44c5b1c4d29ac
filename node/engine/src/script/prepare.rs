//! Scripts as versions: checked by loading them once, kept as images of what they are like then.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use skein_proto::{Abi, Digest, Failure, FunctionName, InstancePolicy, Manifest};
use skein_script::RUNTIME;
use tokio::time::Instant;

use super::{Guest, STACK_BYTES_MIN, Script, runtime_digest};
use crate::{
    Call, Engine, EngineError, ModuleReport, Prepared, Program, RunError, StopHandle, clock,
    husk::{Husk, Mould, NotMade},
    image::Image,
    metrics,
    run::trapped,
    snapshot::{is_for_all, named},
    stop::{Interrupt, lock},
};

/// Longest that the top level of a script may take.
const LOADING_MAX: Duration = Duration::from_secs(10);
/// The key of the guest's image before it has a script.
const BASE_IMAGE: [u8; 32] = [1; 32];

impl Engine {
    /// Whether `code` is a script that loads.
    pub(crate) fn inspect_script(&self, code: &[u8], manifest: &Manifest) -> Result<ModuleReport, EngineError> {
        let guest = self.guest()?;
        let mould = mould(&guest, manifest, Script::parse(code, manifest)?);
        self.load_once(&guest, &mould, manifest)?;
        Ok(report(&guest, code))
    }

    /// Has the image of a script in the cache, and a note of it that [`Engine::is_cached`] finds.
    pub(crate) fn prepare_script(
        &self,
        digest: Digest,
        manifest: &Manifest,
        code: &[u8],
    ) -> Result<Prepared, EngineError> {
        // Before the flight: compiling the guest is a flight of its own.
        let guest = self.guest()?;
        let artefacts = &self.shared.artefacts;
        artefacts.share(digest, || {
            if let Some(prepared) = artefacts.cached(digest)? {
                return Ok(prepared);
            }
            let actual = Digest::of(code);
            if actual != digest {
                return Err(EngineError::Digest { expected: digest, actual });
            }
            let mould = mould(&guest, manifest, Script::parse(code, manifest)?);
            let begin = clock::now();
            self.keep_image(&guest, digest, &mould, manifest)?;
            let report = report(&guest, code);
            // A module without code: all that there is to say of a script besides its image.
            artefacts.note(digest, &report)?;
            let compile = clock::now().saturating_duration_since(begin);
            tracing::debug!(%digest, ?compile, code_bytes = report.code_bytes, "script loaded");
            Ok(Prepared { was_cached: false, compile, tier: guest.live.tier(), report })
        })
    }

    /// Loads the program of a script. `code` is asked for the text unless there is an image.
    pub(crate) fn load_script(
        &self,
        digest: Digest,
        manifest: &Manifest,
        code: impl FnOnce() -> Result<Bytes, Failure>,
    ) -> Result<Arc<Program>, EngineError> {
        let guest = self.guest()?;
        let mut mould = mould(&guest, manifest, Script::default());
        let kept = self.shared.artefacts.image(digest, &key(manifest)).ok().flatten();
        let has_note = kept.is_some();
        let mut image = kept.filter(Image::is_initialised);
        if image.is_none() {
            let code = code().map_err(EngineError::Code)?;
            mould.script = Some(Script::parse(&code, manifest)?);
            if !has_note {
                image = self.keep_image(&guest, digest, &mould, manifest)?;
            }
        }
        if let Some(image) = image {
            mould.image = Arc::new(image);
            mould.script = Some(Script::default());
        }
        let idle_max = manifest.limits.concurrency as usize;
        let mut report = guest.report.clone();
        report.abi = Abi::Script;
        Ok(Arc::new(Program::new(mould, report, manifest.instance, idle_max, Arc::clone(&self.shared))))
    }

    /// The guest, compiled at its first use.
    fn guest(&self) -> Result<Guest, EngineError> {
        if let Some(guest) = &*lock(&self.shared.scripts.guest) {
            return Ok(guest.clone());
        }
        let name: FunctionName =
            "script".parse().map_err(|error| EngineError::Internal(format!("the guest's name: {error}")))?;
        let mut manifest = Manifest::named(Default::default(), name);
        manifest.entry = Some("_initialize".to_owned());
        let digest = runtime_digest();
        let loaded = match self.loaded(digest)? {
            Some(loaded) => Some(loaded),
            None => {
                self.prepare(digest, &manifest, RUNTIME)?;
                self.loaded(digest)?
            }
        };
        let gone = || EngineError::Cache("the compiled script runtime vanished while it was loaded".to_owned());
        let (live, image) = loaded.ok_or_else(gone)?;
        let report = live.report().clone();
        if !(report.is_resettable && report.is_portable) {
            return Err(EngineError::Internal("the script runtime keeps state outside of its memory".to_owned()));
        }
        let mut guest = Guest { live, image: Arc::new(image), report };
        guest.image = Arc::new(self.base_image(&guest, &manifest)?);
        Ok(lock(&self.shared.scripts.guest).get_or_insert(guest).clone())
    }

    /// What the guest is like before it has a script: its engine made, its prelude run.
    fn base_image(&self, guest: &Guest, manifest: &Manifest) -> Result<Image, EngineError> {
        let digest = runtime_digest();
        if let Some(image) = self.shared.artefacts.image(digest, &BASE_IMAGE)? {
            return Ok(image);
        }
        let (mut husk, _) = self.load_once(guest, &mould(guest, manifest, Script::default()), manifest)?;
        self.shared.artefacts.store_image(digest, &BASE_IMAGE, husk.draft().unwrap_or_default())?;
        let gone = || EngineError::Cache("the image of the script runtime vanished while it was taken".to_owned());
        self.shared.artefacts.image(digest, &BASE_IMAGE)?.ok_or_else(gone)
    }

    /// Takes and keeps the image of a script that has been loaded; `None`, which is kept too, if its instances must load
    /// it themselves.
    fn keep_image(
        &self,
        guest: &Guest,
        digest: Digest,
        mould: &Mould,
        manifest: &Manifest,
    ) -> Result<Option<Image>, EngineError> {
        let (mut husk, is_for_all) = self.load_once(guest, mould, manifest)?;
        if husk.slot().was_short() {
            // What the node was short of, another instance may get.
            return Ok(None);
        }
        let draft = is_for_all.then(|| husk.draft()).flatten();
        ::metrics::counter!(metrics::SNAPSHOTS).increment(u64::from(draft.is_some()));
        let key = key(manifest);
        self.shared.artefacts.store_image(digest, &key, draft.unwrap_or_default())?;
        Ok(self.shared.artefacts.image(digest, &key)?.filter(Image::is_initialised))
    }

    /// An instance in which the script's top level has run, and whether others may begin as it is then.
    fn load_once(&self, guest: &Guest, mould: &Mould, manifest: &Manifest) -> Result<(Husk, bool), EngineError> {
        let limits = manifest.limits;
        if limits.memory_bytes < guest.report.memory_bytes_min {
            return Err(EngineError::Module(format!("{}; raise limits.memory", short_of_memory(limits.memory_bytes))));
        }
        let reserved = self.shared.slots.reserve(&Arc::default());
        let slot = reserved.map_err(|error| EngineError::Short(error.to_string()))?;
        slot.enter(0, true);
        slot.set_limit(limits.memory_bytes);
        let made = Husk::make(mould, Arc::clone(&slot));
        let short = || EngineError::Short("its memory is used up".to_owned());
        let mut husk = made.map_err(|why| if slot.was_short() { short() } else { unmade(why, limits.memory_bytes) })?;
        let interrupt = Interrupt::new(Arc::clone(&slot));
        let deadline = Instant::now() + LOADING_MAX;
        let Some(watch) = self.shared.watchdog.watch(deadline.into_std(), &interrupt) else {
            return Err(EngineError::Shutdown);
        };
        husk.begin(&Call::new(limits, deadline, StopHandle::new()), Arc::clone(&interrupt));
        let initialised = husk.initialise();
        drop(watch);
        interrupt.detach();
        let (written, asked) = husk.end();
        let Err(error) = initialised else {
            return Ok((husk, is_for_all(manifest.snapshot, asked, &written)));
        };
        if interrupt.reason().is_none() && slot.was_short() {
            return Err(short());
        }
        Err(EngineError::Module(if interrupt.reason().is_some() {
            format!(
                "the script's top level took longer than {} s; do less before the first call",
                LOADING_MAX.as_secs()
            )
        } else if slot.was_refused() {
            format!("{}; raise limits.memory", short_of_memory(limits.memory_bytes))
        } else {
            written.failure.unwrap_or_else(|| trapped(&error, Box::default()).to_string())
        }))
    }
}

fn mould(guest: &Guest, manifest: &Manifest, script: Script) -> Mould {
    let split = |import: &String| import.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let stack_bytes = manifest.limits.stack_bytes.max(STACK_BYTES_MIN);
    Mould {
        name: named(manifest),
        live: Arc::clone(&guest.live),
        image: Arc::clone(&guest.image),
        imports: guest.report.imports.iter().filter_map(split).collect(),
        is_reactor: true,
        is_plugin: false,
        is_reused: manifest.instance == InstancePolicy::Reuse,
        entry: "skein_handle".into(),
        table_elements: manifest.limits.table_elements,
        stack_bytes: usize::try_from(stack_bytes).unwrap_or(STACK_BYTES_MIN as usize),
        grants: Arc::new(manifest.grants.clone()),
        script: Some(script),
    }
}

/// All that a loaded script depends on, besides its files.
fn key(manifest: &Manifest) -> [u8; 32] {
    let Manifest { app, name, entry, snapshot, limits, .. } = manifest;
    let mut hash = Sha256::new();
    // As with modules, what a top level leaves is never another app's, or another function's.
    let whose = (app.as_str(), name.as_str());
    let bound = (limits.memory_bytes, limits.stack_bytes);
    hash.update(format!("script 2 {} {whose:?} {entry:?} {snapshot:?} {bound:?}", runtime_digest()));
    hash.finalize().into()
}

fn report(guest: &Guest, code: &[u8]) -> ModuleReport {
    ModuleReport {
        abi: Abi::Script,
        imports: Vec::new(),
        exports: Vec::new(),
        code_bytes: code.len() as u64,
        ..guest.report.clone()
    }
}

fn short_of_memory(bytes: u64) -> String {
    format!("{bytes} bytes of memory are too few for the script as it begins")
}

fn unmade(why: NotMade, memory_bytes: u64) -> EngineError {
    match why {
        NotMade::Failed(error) => EngineError::Module(match trapped(&error, Box::default()) {
            RunError::Trap { .. } => format!("{}; raise limits.memory", short_of_memory(memory_bytes)),
            other => other.to_string(),
        }),
        NotMade::Short(what) => EngineError::Short(what),
        NotMade::Broken(what) => EngineError::Internal(what),
    }
}
