//! What an engine may use of its machine.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::WorkerCommand;

/// Which compilers are used for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tiering {
    /// Small modules are compiled optimised at once. Large ones are served with baseline code and compiled again,
    /// optimised, in the background; that goes on after a restart. The engine also checks at start what the cache has,
    /// so that no call has to.
    Both {
        /// What counts as large, in bytes of code.
        baseline_from_bytes: u64,
    },
    /// Everything is compiled optimised at once, and nothing is done in the background: for a process that soon ends.
    Optimised,
    /// Everything the baseline compiler takes has only its code, and nothing is done in the background: for trying
    /// things out, where the time to the first call counts most.
    Baseline,
}

/// The settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Where compiled artefacts are kept: machine code, so the directory is made private (0700). Several engines, also
    /// of several processes, may share it.
    pub cache_dir: PathBuf,
    /// The file of the key that artefacts are sealed with (0600): what was not written with it is not loaded but made
    /// anew. Made if it is not there. Default `key` in [`EngineConfig::cache_dir`]; elsewhere, it also protects from who can
    /// write to that directory and read nothing else.
    pub cache_key: PathBuf,
    /// The program that compiles, each module in a process of its own, held to
    /// [`EngineConfig::compile_memory_bytes_max`] and to its CPU time. Default none: modules are compiled in this
    /// process, where memory is not bounded, time is only looked at between functions, and a module that makes the
    /// compiler overflow its stack ends the process. Good enough for code of one's own.
    pub worker: Option<WorkerCommand>,
    /// Which compilers are used for what. Default: both, with baseline code first from 128 KiB on, which the optimising
    /// compiler takes a tenth of a second for.
    pub tiering: Tiering,
    /// Most bytes that the cache keeps on disk; what was not used for longest leaves, unless it is loaded. Default
    /// 16 GiB, about a thousand modules of 4 MB.
    pub cache_bytes_max: u64,
    /// Most compilations at a time. Default 2: a large module does not hold up a small one.
    pub compiles_max: usize,
    /// Most modules in line for one of the compilations. Default 256; further ones are refused as
    /// [`EngineError::Busy`](crate::EngineError::Busy).
    pub compiles_waiting_max: usize,
    /// Threads of one compilation. Default: the cores divided by `compiles_max`, at least one.
    pub compile_threads: usize,
    /// Longest compilation, checked between functions. Default 60 s, some 25 times what the largest measured module
    /// takes. Raising it lets a hostile module keep `compile_threads` cores busy for longer.
    pub compile_time_max: Duration,
    /// Most private memory of a compiler's process. Default 2 GiB. A module of 4 MB takes a fifth of it.
    pub compile_memory_bytes_max: u64,
    /// Most instances alive at a time. Default 4,096; each reserves 8 GiB of address space, so that
    /// [`EngineConfig::INSTANCES_MAX`] is what a process can hold.
    pub instances_max: usize,
    /// Most modules whose code is loaded at a time. Default: as many as a third of the kernel's bound on mappings
    /// (`vm.max_map_count`) holds, at four each; instances may take a half. What would be one more finds no room, as
    /// if memory were short, until something is let go of.
    pub modules_max: usize,
    /// Most memory that the whole process may hold, whoever holds it. Default `u64::MAX`, which is no bound. Calls that
    /// find no room in it are refused, and guests that want to grow beyond it fail; letting go of what is loaded and not
    /// used is up to whoever loaded it. Processes that compile are not counted.
    pub memory_bytes_max: u64,
    /// How long a guest that was stopped may leave its thread without a step before it counts as lost, and the process
    /// says so and ends itself with exit code [`EXIT_CODE_LOST`](crate::EXIT_CODE_LOST): what holds such a thread will
    /// sooner or later hold the others. Default 15 s. No host function sleeps for a hundredth of that after a stop, and a
    /// slow disk or a busy machine does not count as sleep. A shorter time makes the mesh whole again sooner; a longer
    /// one helps nobody.
    pub lost_after: Duration,
    /// The stack of a guest. Default 1 MiB; every thread that runs guests keeps one.
    pub guest_stack_bytes: usize,
}

impl EngineConfig {
    /// Most instances that fit the 47-bit address space of a process, with room for everything else.
    pub const INSTANCES_MAX: usize = 12_000;

    /// The defaults, with artefacts kept in `cache_dir`.
    pub fn new(cache_dir: impl AsRef<Path>) -> Self {
        let compiles_max = 2;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            cache_dir: cache_dir.as_ref().to_path_buf(),
            cache_key: cache_dir.as_ref().join("key"),
            worker: None,
            tiering: Tiering::Both { baseline_from_bytes: 128 << 10 },
            cache_bytes_max: 16 << 30,
            compiles_max,
            compiles_waiting_max: 256,
            compile_threads: (cores / compiles_max).max(1),
            compile_time_max: Duration::from_secs(60),
            compile_memory_bytes_max: 2 << 30,
            instances_max: 4_096,
            modules_max: mappings_max() / 3 / MAPPINGS_PER_MODULE,
            memory_bytes_max: u64::MAX,
            lost_after: Duration::from_secs(15),
            guest_stack_bytes: 1 << 20,
        }
    }
}

/// The parts of an artefact are mapped with the rights that each needs.
const MAPPINGS_PER_MODULE: usize = 4;
/// What Linux has unless it is told otherwise.
const MAP_COUNT_DEFAULT: usize = 65_530;

/// How many mappings the kernel lets this process have.
pub(crate) fn mappings_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(MAP_COUNT_DEFAULT)
}
