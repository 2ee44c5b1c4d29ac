//! From WebAssembly to machine code, with safepoints and headroom in it: the calls of wasmer's compilers.

use std::{
    any::Any,
    error::Error as _,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use wasmer::{
    CompileError, MemoryStyle, TableStyle,
    sys::{Cranelift, CraneliftOptLevel, Singlepass},
};
use wasmer_compiler::{ArtifactBuild, ArtifactCreate as _, CompilerConfig as _, EngineBuilder};
use wasmer_types::{CompilationProgressCallback, UserAbort, entity::PrimaryMap};
use wasmparser::{Parser, Payload};

use super::{Cause, Failed};
use crate::Tier;
use crate::{clock, headroom::Headroom, inspect, safepoint};

/// What one compilation may use.
#[derive(Debug, Clone)]
pub(super) struct Effort {
    pub(super) threads: usize,
    /// Longest time, checked between functions.
    pub(super) time_max: Duration,
    /// Ends it early, between functions.
    pub(super) is_cancelled: Arc<AtomicBool>,
}

/// Compiles a module that the inspection found good, into the ELF image that is loaded later.
pub(super) fn compile(code: &[u8], tier: Tier, effort: &Effort) -> Result<Vec<u8>, Failed> {
    let work = AssertUnwindSafe(|| compile_unguarded(code, tier, effort));
    catch_unwind(work).unwrap_or_else(|panic| Err(broken(&*panic)))
}

/// The compiler panicked: for want of memory for its threads, or over the module.
fn broken(panic: &(dyn Any + Send)) -> Failed {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    if said.is_some_and(|said| said.contains("WouldBlock") || said.contains("Cannot allocate memory")) {
        return Failed::new(Cause::Memory, "compiling the module needs more than there is: memory for its threads");
    }
    Failed::new(Cause::Crashed, "the compiler fails on this module")
}

fn compile_unguarded(code: &[u8], tier: Tier, effort: &Effort) -> Result<Vec<u8>, Failed> {
    let threads = NonZero::new(effort.threads).unwrap_or(NonZero::<usize>::MIN);
    let (code, headroom) = Headroom::add(code, tier).map_err(|error| {
        // What the parser says is in it, and not in its own words.
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Failed::new(Cause::Crashed, format!("adding headroom: {why}"))
    })?;
    let (code, headroom) = (&*code, Arc::new(headroom));
    let engine = match tier {
        Tier::Baseline => {
            let mut singlepass = Singlepass::new();
            // As in the optimised code, where a machine's own NaNs stay as well.
            singlepass.canonicalize_nans(false).num_threads(threads).experimental_artifact(true);
            singlepass.push_middleware(headroom);
            singlepass.push_middleware(Arc::new(safepoint::Safepoints));
            EngineBuilder::new(singlepass)
        }
        Tier::Optimised => {
            let mut cranelift = Cranelift::new();
            cranelift.opt_level(CraneliftOptLevel::Speed).num_threads(threads).experimental_artifact(true);
            cranelift.push_middleware(headroom);
            cranelift.push_middleware(Arc::new(safepoint::Safepoints));
            EngineBuilder::new(cranelift)
        }
    };
    let engine = engine.set_features(Some(inspect::features())).engine();
    engine.validate(code).map_err(|error| refusal(&error, effort))?;
    let memories = PrimaryMap::from_iter([MemoryStyle::Static]);
    let tables = (0..tables(code)).map(|_| TableStyle::CallerChecksSignature).collect();
    // Not through `Module::new`, which would also map the code; see `code` about mapping.
    let goes_on = goes_on(effort);
    let build = ArtifactBuild::new(&mut engine.inner_mut(), code, engine.target(), memories, tables, Some(&goes_on));
    let build = build.map_err(|error| refusal(&error, effort))?;
    build.serialize().map_err(|error| Failed::new(Cause::Crashed, format!("the compiled module is lost: {error}")))
}

fn goes_on(effort: &Effort) -> CompilationProgressCallback {
    let (begin, Effort { time_max, is_cancelled, .. }) = (clock::now(), effort.clone());
    CompilationProgressCallback::new(move |_| {
        let is_late = clock::now().saturating_duration_since(begin) >= time_max;
        if is_late || is_cancelled.load(Ordering::Relaxed) { Err(UserAbort::new("it takes too long")) } else { Ok(()) }
    })
}

/// How many tables a valid module has. None is imported.
fn tables(code: &[u8]) -> u32 {
    Parser::new(0)
        .parse_all(code)
        .find_map(|payload| match payload {
            Ok(Payload::TableSection(section)) => Some(section.count()),
            _ => None,
        })
        .unwrap_or(0)
}

fn refusal(error: &CompileError, effort: &Effort) -> Failed {
    match error {
        CompileError::Aborted(_) if effort.is_cancelled.load(Ordering::Relaxed) => {
            Failed::new(Cause::Shutdown, "the engine is shut down")
        }
        CompileError::Aborted(_) => too_long(effort.time_max),
        CompileError::Resource(what) => {
            Failed::new(Cause::Memory, format!("compiling the module needs more than there is: {what}"))
        }
        other => Failed::new(Cause::Refused, format!("the module cannot be compiled: {other}")),
    }
}

/// What a module is told that takes longer than `most`.
pub(super) fn too_long(most: Duration) -> Failed {
    let message = format!(
        "compiling the module takes longer than {} s; split it, or cut down its largest functions",
        most.as_secs_f64()
    );
    Failed::new(Cause::Time, message)
}
