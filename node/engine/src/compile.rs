//! From WebAssembly to machine code, with safepoints in it.
//!
//! A compilation is bounded by what the inspection lets through (the size of a function most of all) and by time, which
//! is checked between functions. It runs in this process: a compiler process with a memory limit of its own would
//! contain a compiler bug better, and can take this file's place.

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use wasmer::{
    CompileError, MemoryStyle, TableStyle,
    sys::{Cranelift, CraneliftOptLevel},
};
use wasmer_compiler::{ArtifactBuild, ArtifactCreate as _, CompilerConfig as _, EngineBuilder};
use wasmer_types::{CompilationProgressCallback, UserAbort, entity::PrimaryMap, target::Target};
use wasmparser::{Parser, Payload};

use crate::{EngineConfig, EngineError, clock, inspect, safepoint};

/// Raised when what is compiled changes in a way that nothing else in the fingerprint shows.
const FORMAT_VERSION: u32 = 2;

/// All that artefacts depend on besides their module: those of another fingerprint are not looked at.
pub(crate) fn fingerprint() -> String {
    let target = Target::default();
    format!(
        "skein {FORMAT_VERSION}; wasmer {}; cranelift speed elf; safepoints {}; static memory; features {:?}; {} {:?}",
        wasmer_compiler::VERSION,
        safepoint::VERSION,
        inspect::features(),
        target.triple(),
        target.cpu_features(),
    )
}

/// Compiles a module that the inspection found good, into the ELF image that is loaded later.
pub(crate) fn compile(code: &[u8], config: &EngineConfig) -> Result<Vec<u8>, EngineError> {
    let work = || compile_unguarded(code, config.compile_threads, config.compile_time_max);
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(EngineError::Module("the compiler fails on this module".to_owned())))
}

fn compile_unguarded(code: &[u8], threads: usize, time_max: Duration) -> Result<Vec<u8>, EngineError> {
    let mut cranelift = Cranelift::new();
    cranelift
        .opt_level(CraneliftOptLevel::Speed)
        .num_threads(NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN))
        .experimental_artifact(true);
    cranelift.push_middleware(Arc::new(safepoint::Safepoints));
    let engine = EngineBuilder::new(cranelift).set_features(Some(inspect::features())).engine();
    engine.validate(code).map_err(|error| refusal(&error, time_max))?;
    let begin = clock::now();
    let in_time = CompilationProgressCallback::new(move |_| {
        if clock::now().saturating_duration_since(begin) < time_max {
            Ok(())
        } else {
            Err(UserAbort::new("it takes too long"))
        }
    });
    let memories = PrimaryMap::from_iter([MemoryStyle::Static]);
    let tables = (0..tables(code)).map(|_| TableStyle::CallerChecksSignature).collect();
    // Not through `Module::new`, which would also map the code; see `code` about mapping.
    let build = ArtifactBuild::new(&mut engine.inner_mut(), code, engine.target(), memories, tables, Some(&in_time));
    let build = build.map_err(|error| refusal(&error, time_max))?;
    build.serialize().map_err(|error| EngineError::Internal(error.to_string()))
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

fn refusal(error: &CompileError, time_max: Duration) -> EngineError {
    match error {
        CompileError::Aborted(_) => {
            EngineError::Module(format!("compiling the module takes longer than {} s", time_max.as_secs()))
        }
        CompileError::Resource(what) => EngineError::Internal(format!("compiling: {what}")),
        other => EngineError::Module(format!("the module cannot be compiled: {other}")),
    }
}
