//! What an engine may use of its machine.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

/// The settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Where compiled artefacts are kept: machine code, so the directory is made private (0700). Several engines, also
    /// of several processes, may share it.
    pub cache_dir: PathBuf,
    /// Most compilations at a time. Default 2: a large module does not hold up a small one.
    pub compiles_max: usize,
    /// Threads of one compilation. Default: the cores divided by `compiles_max`, at least one.
    pub compile_threads: usize,
    /// Longest compilation, checked between functions. Default 60 s, some 25 times what the largest measured module
    /// takes. Raising it lets a hostile module keep `compile_threads` cores busy for longer.
    pub compile_time_max: Duration,
    /// Most instances alive at a time. Default 4,096; each reserves 8 GiB of address space, so that
    /// [`EngineConfig::INSTANCES_MAX`] is what a process can hold.
    pub instances_max: usize,
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
            compiles_max,
            compile_threads: (cores / compiles_max).max(1),
            compile_time_max: Duration::from_secs(60),
            instances_max: 4_096,
            guest_stack_bytes: 1 << 20,
        }
    }
}
