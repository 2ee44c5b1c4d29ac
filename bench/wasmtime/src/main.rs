//! The rival of `skein-bench engine`: wasmtime with its pooling allocator, driven by lines of JSON on stdin.
//!
//! Each line is a job, each answer a line. `--epochs` compiles checks into the code by which guests can be stopped.
#![allow(unsafe_code, reason = "loading code that this program compiled and wrote itself is an unsafe call")]

mod host;
#[path = "../../src/engine/job.rs"]
mod job;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use wasmtime::{
    Config, Engine, Instance, InstanceAllocationStrategy, InstancePre, Linker, Module, OptLevel,
    PoolingAllocationConfig, Store,
};

use crate::{
    host::{Exit, Host},
    job::{Done, Job, Start},
};

/// Most memory of a guest: as Skein's default limit, rounded up to what the largest guest here needs.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Most elements of a table: a module built by Go has some ten thousand.
const TABLE_ELEMENTS_MAX: usize = 131_072;

fn main() -> Result<()> {
    let has_epochs = std::env::args().any(|argument| argument == "--epochs");
    let mut rival = Rival::new(has_epochs)?;
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let done =
            rival.run(&job).unwrap_or_else(|error| Done { error: Some(format!("{error:#}")), ..Done::default() });
        writeln!(stdout, "{}", serde_json::to_string(&done)?)?;
        stdout.flush()?;
    }
    Ok(())
}

/// The engine, and what it has compiled.
struct Rival {
    engine: Engine,
    linker: Linker<Host>,
    has_epochs: bool,
    modules: HashMap<PathBuf, Prepared>,
}

/// A module, linked once.
#[derive(Clone)]
struct Prepared {
    compiled: PathBuf,
    linked: InstancePre<Host>,
}

impl Rival {
    fn new(has_epochs: bool) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(64)
            .total_memories(64)
            .total_tables(64)
            .max_memory_size(MEMORY_BYTES_MAX)
            .table_elements(TABLE_ELEMENTS_MAX)
            .max_core_instance_size(16 << 20)
            .max_unused_warm_slots(64);
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .memory_init_cow(true)
            .epoch_interruption(has_epochs)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let linker = host::linker(&engine)?;
        Ok(Self { engine, linker, has_epochs, modules: HashMap::new() })
    }

    fn run(&mut self, job: &Job) -> Result<Done> {
        let prepared = self.prepare(&job.module)?;
        let linker = self.linker.clone();
        match job.start {
            Start::Disk => job.time(|| {
                let linked = link(&self.engine, &linker, &prepared.compiled)?;
                let (mut store, instance) = self.instance(&linked, &job.payload)?;
                call(&mut store, &instance, &job.entry)
            }),
            Start::Fresh => job.time(|| {
                let (mut store, instance) = self.instance(&prepared.linked, &job.payload)?;
                call(&mut store, &instance, &job.entry)
            }),
            Start::Warm => {
                let (mut store, instance) = self.instance(&prepared.linked, &job.payload)?;
                let entry = Entry::of(&mut store, &instance, &job.entry)?;
                job.time(|| {
                    store.data_mut().begin(&job.payload);
                    entry.call(&mut store)
                })
            }
        }
    }

    fn instance(&self, linked: &InstancePre<Host>, payload: &str) -> Result<(Store<Host>, Instance)> {
        let mut store = Store::new(&self.engine, Host::default());
        store.data_mut().begin(payload);
        if self.has_epochs {
            store.set_epoch_deadline(1);
        }
        let instance = linked.instantiate(&mut store)?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
            initialize.call(&mut store, ())?;
        }
        Ok((store, instance))
    }

    /// Compiles the module unless that was done before, by this process or another.
    fn prepare(&mut self, path: &Path) -> Result<Prepared> {
        if let Some(prepared) = self.modules.get(path) {
            return Ok(prepared.clone());
        }
        let code = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let compiled = path.with_extension(if self.has_epochs { "epochs.cwasm" } else { "cwasm" });
        let is_newer =
            |of: &Path| Some(fs::metadata(of).ok()?.modified().ok()? > fs::metadata(path).ok()?.modified().ok()?);
        if is_newer(&compiled) != Some(true) || link(&self.engine, &self.linker, &compiled).is_err() {
            fs::write(&compiled, self.engine.precompile_module(&code)?)?;
        }
        let linked = link(&self.engine, &self.linker, &compiled)?;
        let prepared = Prepared { compiled, linked };
        self.modules.insert(path.to_path_buf(), prepared.clone());
        Ok(prepared)
    }
}

/// Loads compiled code and looks up its imports.
fn link(engine: &Engine, linker: &Linker<Host>, compiled: &Path) -> Result<InstancePre<Host>> {
    // SAFETY: the file was written by this program, from a module of the benchmarks.
    let module = unsafe { Module::deserialize_file(engine, compiled)? };
    if let Ok(linked) = linker.instantiate_pre(&module) {
        return Ok(linked);
    }
    let mut linker = linker.clone();
    linker.define_unknown_imports_as_traps(&module)?;
    Ok(linker.instantiate_pre(&module)?)
}

/// What is called, by its type.
enum Entry {
    Command(wasmtime::TypedFunc<(), ()>),
    Handler(wasmtime::TypedFunc<(), i32>),
}

impl Entry {
    fn of(store: &mut Store<Host>, instance: &Instance, name: &str) -> Result<Self> {
        if let Ok(function) = instance.get_typed_func::<(), ()>(&mut *store, name) {
            return Ok(Self::Command(function));
        }
        Ok(Self::Handler(instance.get_typed_func::<(), i32>(&mut *store, name)?))
    }

    fn call(&self, store: &mut Store<Host>) -> Result<Vec<u8>> {
        let code = match self {
            Self::Command(function) => function.call(&mut *store, ()).map(|()| 0),
            Self::Handler(function) => function.call(&mut *store, ()),
        };
        let code = match code {
            Ok(code) => code,
            Err(error) => error.downcast::<Exit>()?.0,
        };
        anyhow::ensure!(code == 0, "the guest answered {code}");
        Ok(store.data_mut().end())
    }
}

fn call(store: &mut Store<Host>, instance: &Instance, entry: &str) -> Result<Vec<u8>> {
    Entry::of(store, instance, entry)?.call(store)
}
