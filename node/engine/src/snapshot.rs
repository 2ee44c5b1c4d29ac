//! Images of versions: what a module is like after it has initialised itself, taken once instead of for each instance.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use skein_proto::{Abi, Digest, InstancePolicy, Manifest, Snapshot as Policy};
use tokio::time::Instant;

use crate::{
    Call, EngineError, ModuleReport, StopHandle,
    artefacts::LiveCode,
    engine::Shared,
    host::{Inconstant, Written},
    husk::{Husk, Mould},
    image::Image,
    inspect, metrics,
    stop::Interrupt,
};

/// The key of a module's own image, which depends on nothing but the module.
pub(crate) const MODULE_IMAGE: [u8; 32] = [0; 32];

/// Longest initialisation that an image is taken after, if its version's deadline is no shorter; one that takes longer is
/// left to each call's deadline.
const INITIALISATION_MAX: Duration = Duration::from_secs(10);

/// What instances of a version are made of, before anything was initialised.
pub(crate) fn mould(live: Arc<LiveCode>, image: Image, manifest: &Manifest, stack_bytes_max: usize) -> Mould {
    let split = |import: &String| import.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let report = live.report();
    let entry = inspect::entry_name(report, manifest);
    let is_plugin = inspect::abi(report, manifest) == Abi::Extism;
    Mould {
        name: named(manifest),
        image: Arc::new(image),
        imports: report.imports.iter().filter_map(split).collect(),
        is_reactor: is_plugin || entry != inspect::START,
        is_plugin,
        is_reused: manifest.instance == InstancePolicy::Reuse,
        grants: Arc::new(manifest.grants.clone()),
        entry: entry.into(),
        table_elements: manifest.limits.table_elements,
        stack_bytes: usize::try_from(manifest.limits.stack_bytes).unwrap_or(stack_bytes_max),
        script: None,
        live,
    }
}

/// One version, about to be given its image.
pub(crate) struct Snapshot<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) digest: Digest,
    pub(crate) manifest: &'a Manifest,
}

impl Snapshot<'_> {
    /// The image of the version, from the cache or taken now; none if its instances must initialise themselves.
    pub(crate) fn image(&self, mould: &Mould, report: &ModuleReport) -> Option<Image> {
        if !mould.is_reactor || !report.is_portable || self.manifest.snapshot == Policy::Never {
            return None;
        }
        let key = self.key();
        let cached = self.shared.artefacts.image(self.digest, &key).ok().flatten();
        let image = match cached {
            Some(image) => Some(image),
            None => self.take(mould, &key).unwrap_or_else(|error| {
                // Not an error of the version: its instances initialise themselves.
                tracing::warn!(digest = %self.digest, %error, "no image could be kept");
                None
            }),
        };
        image.filter(Image::is_initialised)
    }

    /// All that the state after the initialisation depends on, besides the module.
    fn key(&self) -> [u8; 32] {
        let Manifest { app, name, abi, entry, args, grants, snapshot, limits, .. } = self.manifest;
        let bound = (limits.memory_bytes, limits.table_elements, limits.stack_bytes);
        let mut hash = Sha256::new();
        // Libraries look for directories when they are initialised: whether there is one is part of the state. The name
        // is an argument; the app is in the key so that nothing an app's initialisation leaves is ever another app's.
        let whose = (app.as_str(), name.as_str());
        let given = (args, &grants.env, grants.scratch);
        hash.update(format!("4 {whose:?} {abi:?} {entry:?} {given:?} {snapshot:?} {bound:?}"));
        hash.finalize().into()
    }

    /// Initialises an instance and takes its image, or one that says that there is none to take. `None` if the guest
    /// failed, which is for the call to show, or if it was another guest's doing what it found.
    fn take(&self, mould: &Mould, key: &[u8; 32]) -> Result<Option<Image>, EngineError> {
        let limits = self.manifest.limits;
        let Ok(slot) = self.shared.slots.reserve(&Arc::default()) else { return Ok(None) };
        slot.enter(0, true);
        slot.set_limit(limits.memory_bytes);
        let Ok(mut husk) = Husk::make(mould, Arc::clone(&slot)) else { return Ok(None) };
        let interrupt = Interrupt::new(Arc::clone(&slot));
        let deadline = Instant::now() + INITIALISATION_MAX.min(Duration::from_millis(limits.deadline_ms));
        let Some(watch) = self.shared.watchdog.watch(deadline.into_std(), &interrupt) else { return Ok(None) };
        let environment: Vec<_> = self.manifest.grants.env.clone().into_iter().collect();
        let args = arguments(self.manifest);
        let mut call = Call::new(limits, deadline, StopHandle::new());
        (call.args, call.env, call.scratch) = (&args, &environment, self.manifest.grants.scratch);
        husk.begin(&call, Arc::clone(&interrupt));
        let initialised = husk.initialise();
        drop(watch);
        interrupt.detach();
        let (written, asked) = husk.end();
        // What the node was short of, another instance may get.
        if initialised.is_err() || interrupt.reason().is_some() || slot.was_short() {
            return Ok(None);
        }
        let draft = is_for_all(self.manifest.snapshot, asked, &written).then(|| husk.draft()).flatten();
        ::metrics::counter!(metrics::SNAPSHOTS).increment(u64::from(draft.is_some()));
        self.shared.artefacts.store_image(self.digest, key, draft.unwrap_or_default())?;
        self.shared.artefacts.image(self.digest, key)
    }
}

/// Whether what an initialisation leaves may be what all instances begin with: nobody can tell, or the author says that
/// what one could tell by does not matter. What it says to its caller, as result or as failure, always matters.
pub(crate) fn is_for_all(policy: Policy, asked: Inconstant, written: &Written) -> bool {
    let is_of_its_call = asked.input || !written.output.is_empty() || written.failure.is_some();
    let differs = asked.random || asked.clock || asked.environment || written.log_bytes_total > 0;
    match policy {
        Policy::Never => false,
        Policy::Always => !is_of_its_call,
        _ => !is_of_its_call && !differs,
    }
}

/// How a version's function is called, its app first.
pub(crate) fn named(manifest: &Manifest) -> Arc<str> {
    format!("{}/{}", manifest.app, manifest.name).into()
}

/// The arguments of a version: its name, then what it declares.
pub(crate) fn arguments(manifest: &Manifest) -> Vec<String> {
    std::iter::once(manifest.name.to_string()).chain(manifest.args.iter().cloned()).collect()
}
