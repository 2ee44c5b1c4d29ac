//! From WebAssembly to machine code: by two compilers, in a process of its own or in this one.
//!
//! A compilation is bounded by what the inspection lets through, and by time. In a process of its own
//! ([`EngineConfig::worker`]) it is bounded by memory and CPU time as well, can be ended at any point, and a crash of the
//! compiler is no more than a refusal. In this process time is only looked at between functions, memory is not bounded,
//! and a compiler that overflows its stack takes the process with it: good enough for tests and for code of one's own.

mod child;
mod failed;
mod frame;
mod native;
mod sandbox;
mod sys;
mod worker;

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use child::WorkerCommand;
pub(crate) use failed::{Cause, Failed};
pub(crate) use sys::lower_priority;
pub use worker::serve_compilation;

use frame::Request;
use native::Effort;
use wasmer_types::target::Target;
use wasmparser::{Parser, Payload};

use crate::{EngineConfig, Tier, clock, headroom, inspect, metrics, safepoint, stop::lock};

/// Raised when what is compiled, or how it is kept, changes in a way that nothing else in the fingerprint shows.
const FORMAT_VERSION: u32 = 4;

/// All that artefacts depend on besides their module: those of another fingerprint are not looked at.
pub(crate) fn fingerprint() -> String {
    let target = Target::default();
    format!(
        "skein {FORMAT_VERSION}; wasmer {}; singlepass, cranelift speed, elf; safepoints {}; headroom {}; static memory; \
         features {:?}; {} {:?}",
        wasmer_compiler::VERSION,
        safepoint::VERSION,
        headroom::VERSION,
        inspect::features(),
        target.triple(),
        target.cpu_features(),
    )
}

/// Who waits for a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A publish or a call.
    Awaited,
    /// Nobody: it gets one thread, what time others leave, and longer.
    Background,
}

/// Compiles, in a process of its own if the configuration names one.
#[derive(Debug)]
pub(crate) struct Compiler {
    worker: Option<WorkerCommand>,
    threads: usize,
    time_max: Duration,
    memory_bytes_max: u64,
    is_cancelled: Arc<AtomicBool>,
    /// Whether it was said what the processes' sandbox lacks.
    has_told: AtomicBool,
    /// Closed at shutdown, which whoever waits for a process sees at the reader.
    hold: Mutex<Option<PipeWriter>>,
    cancelled: PipeReader,
}

impl Compiler {
    pub(crate) fn new(config: &EngineConfig) -> io::Result<Self> {
        let (cancelled, hold) = io::pipe()?;
        Ok(Self {
            worker: config.worker.clone(),
            threads: config.compile_threads.max(1),
            time_max: config.compile_time_max,
            memory_bytes_max: config.compile_memory_bytes_max,
            is_cancelled: Arc::default(),
            has_told: AtomicBool::new(false),
            hold: Mutex::new(Some(hold)),
            cancelled,
        })
    }

    /// Compiles a module that the inspection found good, into an artefact. Blocks for as long as that takes.
    pub(crate) fn compile(&self, code: &[u8], tier: Tier, urgency: Urgency) -> Result<Vec<u8>, Failed> {
        let begin = clock::now();
        let mut compiled = self.attempt(code, tier, urgency);
        if matches!(&compiled, Err(failed) if failed.cause == Cause::Lost) {
            // Not the module's doing, as far as one can tell.
            compiled = self.attempt(code, tier, urgency);
        }
        let outcome = compiled.as_ref().map_or_else(|failed| failed.cause.outcome(), |_| "ok");
        metrics::compiled(tier, outcome, clock::now().saturating_duration_since(begin));
        compiled
    }

    fn attempt(&self, code: &[u8], tier: Tier, urgency: Urgency) -> Result<Vec<u8>, Failed> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Failed::new(Cause::Shutdown, "the engine is shut down"));
        }
        let (threads, patience, nice) = match urgency {
            Urgency::Awaited => (self.threads, 1, NICE_AWAITED),
            Urgency::Background => (1, BACKGROUND_PATIENCE, NICE_BACKGROUND),
        };
        let time_max = self.time_max * patience;
        let Some(worker) = &self.worker else {
            let effort = Effort { threads, time_max, is_cancelled: Arc::clone(&self.is_cancelled) };
            return native::compile(code, tier, &effort);
        };
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let request = Request {
            fingerprint: fingerprint(),
            tier,
            threads,
            time_ms: milliseconds(time_max),
            // Wall time is what a publish waits; CPU time is what a module costs, however busy the machine is.
            cpu_ms: milliseconds(self.time_max.saturating_mul(u32::try_from(threads).unwrap_or(u32::MAX))),
            memory_bytes: self.memory_bytes_max,
            nice,
            code_bytes: code.len() as u64,
        };
        let compiled = child::compile(worker, &request, code, self.cancelled.as_fd())?;
        self.tell(&compiled.missing);
        Ok(compiled.artefact)
    }

    /// Says once what this machine's kernel does not take from a compiler's process.
    fn tell(&self, missing: &[String]) {
        if missing.is_empty() || self.has_told.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            missing = missing.join(", "),
            "compiling is less confined than it could be: this kernel, or the container's policy, does not give all of it"
        );
    }

    /// Ends every compilation under way, and lets none begin.
    pub(crate) fn shutdown(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        drop(lock(&self.hold).take());
    }
}

/// True if the baseline compiler may have the module. What else it does not take, vectors most of all, it says itself.
pub(crate) fn is_for_baseline(code: &[u8]) -> bool {
    // Its code makes room for arguments and results on the stack without touching it: they have to be fewer than what
    // reaches over the guard page.
    const VALUES_MAX: usize = 64;
    for payload in Parser::new(0).parse_all(code) {
        match payload {
            Ok(Payload::TypeSection(types)) => {
                let mut types = types.into_iter_err_on_gc_types();
                return types.all(|ty| ty.is_ok_and(|ty| ty.params().len().max(ty.results().len()) <= VALUES_MAX));
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Behind calls in line for a core, but not by much: somebody waits.
const NICE_AWAITED: i32 = 5;
/// Behind everything.
const NICE_BACKGROUND: i32 = 19;
/// How many times as long a compilation may take that nobody waits for. Its CPU time stays bounded as ever.
const BACKGROUND_PATIENCE: u32 = 10;
