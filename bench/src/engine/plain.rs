//! wasmer as its documentation shows it: a store and an instance for each call. Compiled as Skein compiles, but without
//! the checks by which a guest is stopped; so it is also the "stopping off" of the compute guests.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use wasmer::{
    FunctionEnv, Imports, Instance, Module, Store, TypedFunction,
    sys::{Cranelift, CraneliftOptLevel, EngineBuilder, Features},
};

use crate::engine::{
    Subject,
    job::{Done, Job, Start},
    plain_host::{self, Exit, Host},
};

/// An engine, and what it has compiled.
pub(crate) struct Plain {
    engine: wasmer::Engine,
    modules: HashMap<PathBuf, Module>,
}

/// An instance in its store.
struct Made {
    store: Store,
    host: FunctionEnv<Host>,
    instance: Instance,
}

/// What is called, by its type.
enum Entry {
    Command(TypedFunction<(), ()>),
    Handler(TypedFunction<(), i32>),
}

impl Plain {
    pub(crate) fn new() -> Self {
        let mut cranelift = Cranelift::new();
        cranelift.opt_level(CraneliftOptLevel::Speed);
        let mut features = Features::none();
        features.reference_types(true).bulk_memory(true).simd(true).multi_value(true).extended_const(true);
        let engine = EngineBuilder::new(cranelift).set_features(Some(features)).engine().into();
        Self { engine, modules: HashMap::new() }
    }

    fn module(&mut self, job: &Job) -> Result<Module> {
        if let Some(module) = self.modules.get(&job.module) {
            return Ok(module.clone());
        }
        let code = fs::read(&job.module).with_context(|| job.module.display().to_string())?;
        let module = Module::new(&self.engine, code)?;
        self.modules.insert(job.module.clone(), module.clone());
        Ok(module)
    }

    fn make(&self, module: &Module, payload: &str) -> Result<Made> {
        let mut store = Store::new(self.engine.clone());
        let host = FunctionEnv::new(&mut store, Host::default());
        host.as_mut(&mut store).begin(payload);
        let mut imports = Imports::new();
        for import in module.imports() {
            let function = plain_host::function(&mut store, &host, import.module(), import.name(), import.ty());
            imports.define(import.module(), import.name(), function?);
        }
        let instance = Instance::new(&mut store, module, &imports)?;
        host.as_mut(&mut store).memory = instance.exports.get_memory("memory").ok().cloned();
        if let Ok(initialize) = instance.exports.get_typed_function::<(), ()>(&store, "_initialize") {
            initialize.call(&mut store)?;
        }
        Ok(Made { store, host, instance })
    }
}

impl Made {
    fn entry(&self, name: &str) -> Result<Entry> {
        if let Ok(function) = self.instance.exports.get_typed_function(&self.store, name) {
            return Ok(Entry::Command(function));
        }
        Ok(Entry::Handler(self.instance.exports.get_typed_function(&self.store, name)?))
    }

    fn call(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        let code = match entry {
            Entry::Command(function) => function.call(&mut self.store).map(|()| 0),
            Entry::Handler(function) => function.call(&mut self.store),
        };
        let code = match code {
            Ok(code) => code,
            Err(error) => error.downcast::<Exit>()?.0,
        };
        ensure!(code == 0, "the guest answered {code}");
        Ok(self.host.as_mut(&mut self.store).end())
    }
}

impl Subject for Plain {
    fn run(&mut self, job: &Job) -> Result<Done> {
        let module = self.module(job)?;
        match job.start {
            Start::Disk => {
                anyhow::bail!("loading code from disk is an unsafe call of wasmer's, which is not made here")
            }
            Start::Fresh => job.time(|| {
                let mut made = self.make(&module, &job.payload)?;
                let entry = made.entry(&job.entry)?;
                made.call(&entry)
            }),
            Start::Warm => {
                let mut made = self.make(&module, &job.payload)?;
                let entry = made.entry(&job.entry)?;
                job.time(|| {
                    made.host.as_mut(&mut made.store).begin(&job.payload);
                    made.call(&entry)
                })
            }
        }
    }
}
