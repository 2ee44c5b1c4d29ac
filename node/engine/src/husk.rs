//! An instance that outlives its call: made once, reset after each call, and used again.
//!
//! A fresh sandbox for every call does not need a new instance for every call, only one in which nothing of an earlier
//! call is left. A call can change memory, globals, tables and which segments were dropped. Memory goes back to its
//! image by the kernel's doing ([`Slot::reset`]), globals are written back, and modules whose code can change the rest
//! get a new instance each time (`ModuleReport::is_resettable`). An instance that trapped or was stopped is never used
//! again.
#![allow(unsafe_code, reason = "a store is moved between threads")]

use std::{fmt, sync::Arc};

use skein_proto::{ErrorCode, Grants};
use wasmer::{
    AsStoreMut as _, Extern, Function, FunctionEnv, Instance, InstantiationError, LinkError, RuntimeError, Store,
    TypedFunction, Value, sys::NativeEngineExt as _,
};

use crate::{
    Call,
    artefacts::LiveCode,
    code::Code,
    extism::{self, Told},
    host::{Host, Inconstant, Written},
    image::{Draft, Image},
    link,
    memory::{Slot, SlotTunables},
    rewrite::START,
    script::{self, Script},
    stop::Interrupt,
};

/// What instances of a program are made of.
#[derive(Debug, Clone)]
pub(crate) struct Mould {
    /// Whose instances they are.
    pub(crate) name: Arc<str>,
    pub(crate) live: Arc<LiveCode>,
    pub(crate) image: Arc<Image>,
    /// The module and the name of each function that it imports, in its order.
    pub(crate) imports: Arc<[(String, String)]>,
    /// The export that is called.
    pub(crate) entry: Arc<str>,
    /// True if `_initialize`, or what Extism knows instead, goes before the first call.
    pub(crate) is_reactor: bool,
    /// True if it is called as a plug-in of Extism.
    pub(crate) is_plugin: bool,
    /// True if instances serve many calls, and may remember the calls before.
    pub(crate) is_reused: bool,
    /// What the version may reach.
    pub(crate) grants: Arc<Grants>,
    pub(crate) table_elements: u32,
    pub(crate) stack_bytes: usize,
    /// The script, if the module is the guest that runs scripts.
    pub(crate) script: Option<Script>,
}

impl Mould {
    /// True if its instances begin as they are after their initialisation: of a script, after it was loaded.
    fn is_initialised(&self) -> bool {
        self.image.is_initialised() && !self.script.as_ref().is_some_and(Script::is_to_load)
    }
}

/// An instance, with all that it needs to be called.
pub(crate) struct Husk {
    // In the order in which they must be dropped.
    entry: Entry,
    /// The start section, then what the toolchain made for it, with the number of zeros each takes.
    initialisers: Vec<(Function, usize)>,
    _instance: Instance,
    env: FunctionEnv<Host>,
    store: Store,
    slot: Arc<Slot>,
    /// The globals it began with.
    globals: Vec<u128>,
    /// What it is made of; must outlive the store.
    code: Arc<Code>,
    mould: Mould,
    is_initialised: bool,
    /// How many calls it has served since it was made or reset.
    served: u64,
}

// SAFETY: a store is not `Send` because of what wasmer keeps per thread while a call is active on it. None is when a
// husk moves: it is moved only between calls, and used by one thread at a time since every use takes `&mut self`. All
// that is in it, its host included, is `Send` otherwise.
unsafe impl Send for Husk {}

impl fmt::Debug for Husk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Husk").field("slot", &self.slot).field("served", &self.served).finish_non_exhaustive()
    }
}

/// What is called, by the results it has.
enum Entry {
    Nothing(TypedFunction<(), ()>),
    Code(TypedFunction<(), i32>),
    Script(script::Exports),
}

/// Why no instance could be made.
pub(crate) enum NotMade {
    /// It trapped, or its host ended it.
    Failed(RuntimeError),
    /// The machine is short of something.
    Short(String),
    /// Anything else.
    Broken(String),
}

impl From<InstantiationError> for NotMade {
    fn from(error: InstantiationError) -> Self {
        match error {
            InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => Self::Failed(error),
            InstantiationError::Link(LinkError::Resource(what)) => Self::Short(what),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Husk {
    /// Makes an instance in `slot`, whose limit says how much memory it may begin with.
    pub(crate) fn make(mould: &Mould, slot: Arc<Slot>) -> Result<Self, NotMade> {
        let code = Arc::clone(&mould.live.code());
        let mut engine = code.engine().clone();
        let image = Arc::clone(&mould.image);
        engine.set_tunables(SlotTunables::new(Arc::clone(&slot), image, mould.table_elements, mould.stack_bytes));
        slot.belongs_to(&mould.name);
        let mut store = Store::new(engine);
        let mut host = Host::new(Arc::clone(&slot), Interrupt::new(Arc::clone(&slot)));
        host.keeps_variables = mould.is_reused;
        host.grants = Arc::clone(&mould.grants);
        let env = FunctionEnv::new(&mut store, host);
        let imports = mould.imports.iter().map(|(module, name)| {
            let function = link::import(&mut store, &env, module, name).map(Extern::from);
            // The inspection lets no such module through.
            function.ok_or_else(|| NotMade::Broken(format!("there is no host function {module}.{name}")))
        });
        let imports: Vec<Extern> = imports.collect::<Result<_, _>>()?;
        let instance = Instance::new_by_index(&mut store, code.module(), &imports)?;
        let initialisers = initialisers(mould, &store, &instance);
        let entry = Entry::find(&instance, &store, mould)?;
        restore(&mut store, mould.image.globals())?;
        let globals = store.objects_mut().as_u128_globals();
        let is_initialised = mould.is_initialised();
        Ok(Self {
            entry,
            initialisers,
            _instance: instance,
            env,
            store,
            slot,
            globals,
            code,
            mould: mould.clone(),
            is_initialised,
            served: 0,
        })
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// True if there is no better code than what it is made of.
    pub(crate) fn is_current(&self, mould: &Mould) -> bool {
        Arc::ptr_eq(&self.code, &mould.live.code())
    }

    /// True if it has served a call since it was made or reset.
    pub(crate) fn is_used(&self) -> bool {
        self.served > 0
    }

    /// How many calls it has served since then.
    pub(crate) fn served(&self) -> u64 {
        self.served
    }

    /// Prepares the host for a call.
    pub(crate) fn begin(&mut self, call: &Call<'_>, interrupt: Arc<Interrupt>) {
        self.slot.set_limit(call.limits.memory_bytes);
        self.env.as_mut(&mut self.store).begin(call, interrupt);
    }

    /// Runs what initialises the instance, unless it was or its image was taken after that.
    pub(crate) fn initialise(&mut self) -> Result<(), RuntimeError> {
        if !self.is_initialised {
            let initialisers = if self.mould.image.is_initialised() { &[][..] } else { &self.initialisers[..] };
            for (initialiser, zeros) in initialisers {
                initialiser.call(&mut self.store, &vec![Value::I32(0); *zeros])?;
            }
            if let (Entry::Script(exports), Some(script)) = (&self.entry, &self.mould.script) {
                exports.load(&mut self.store, &self.env, script)?;
            }
            self.is_initialised = true;
        }
        Ok(())
    }

    /// Calls the entry; the number it returned, 0 if it returns nothing.
    pub(crate) fn call(&mut self) -> Result<i32, RuntimeError> {
        self.served += 1;
        if self.mould.is_plugin {
            self.env.as_mut(&mut self.store).begin_plugin();
        }
        match &self.entry {
            Entry::Nothing(entry) => entry.call(&mut self.store).map(|()| 0),
            Entry::Code(entry) => entry.call(&mut self.store),
            Entry::Script(exports) => exports.handle(&mut self.store, &self.env),
        }
    }

    /// Takes what a plug-in and its host say of the call, whose function returned `code` or did not return.
    pub(crate) fn take_told(&mut self, code: Option<i32>) -> Option<Told> {
        self.mould.is_plugin.then(|| self.env.as_mut(&mut self.store).plugin.take_told(code))
    }

    /// Takes what the guest wrote and asked for.
    pub(crate) fn end(&mut self) -> (Written, Inconstant) {
        let host = self.env.as_mut(&mut self.store);
        (host.end(), host.asked)
    }

    /// How a call ended of which the guest said that it failed: for want of memory, if it was refused any.
    pub(crate) fn failed(&self, message: String) -> extism::Ended {
        if self.slot.was_refused() {
            extism::Ended::Memory
        } else {
            extism::Ended::Failed(ErrorCode::FunctionFailed, message)
        }
    }

    /// Makes it what it was before its first call; false if that failed, and it must not be used again. Nobody may be
    /// able to stop it any more.
    pub(crate) fn reset(&mut self) -> bool {
        self.is_initialised = self.mould.is_initialised();
        self.served = 0;
        self.slot.reset() && restore(&mut self.store, self.globals.iter().copied()).is_ok()
    }

    /// What memory and globals are now, as the image of instances that need no initialisation; none if it would be too
    /// large. It is made of this instance's memory, so that nothing may be called until it is stored.
    pub(crate) fn draft(&mut self) -> Option<Draft> {
        Draft::of(&self.slot, &self.store.objects_mut().as_u128_globals())
    }
}

impl Entry {
    fn find(instance: &Instance, store: &Store, mould: &Mould) -> Result<Self, NotMade> {
        let name = &*mould.entry;
        if mould.script.is_some() {
            let exports = script::Exports::of(instance, store);
            return exports.map(Self::Script).map_err(|error| NotMade::Broken(format!("the script runtime: {error}")));
        }
        if let Ok(entry) = instance.exports.get_typed_function(store, name) {
            return Ok(Self::Nothing(entry));
        }
        let entry = instance.exports.get_typed_function(store, name);
        // The inspection lets no such module through.
        entry.map(Self::Code).map_err(|error| NotMade::Broken(format!("the export `{name}`: {error}")))
    }
}

/// What is to be called before the first call, in order.
fn initialisers(mould: &Mould, store: &Store, instance: &Instance) -> Vec<(Function, usize)> {
    let plain = |name: &str| {
        let function = instance.exports.get_function(name).ok()?;
        function.typed::<(), ()>(store).is_ok().then(|| (function.clone(), 0))
    };
    let own = if mould.is_plugin {
        extism::initialisers(store, instance)
    } else if mould.is_reactor {
        plain("_initialize").into_iter().collect()
    } else {
        Vec::new()
    };
    plain(START).into_iter().chain(own).collect()
}

/// Gives the globals of a store these values, unless there are none.
fn restore(store: &mut Store, values: impl ExactSizeIterator<Item = u128>) -> Result<(), NotMade> {
    if values.len() == 0 {
        return Ok(());
    }
    let objects = store.objects_mut();
    for (index, value) in values.enumerate() {
        objects.set_global_unchecked(index, value);
    }
    Ok(())
}
