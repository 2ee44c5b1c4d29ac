//! Decides whether bytes are a module that can run, and says what is wrong if they are not.
//!
//! Pure: compiles nothing, runs nothing, and takes time in proportion to the size of the code.

mod effort;
mod likeness;
mod shape;

use shape::{Shape, ShapeError};
use skein_proto::{Abi, InstancePolicy, Limits, Manifest};
use wasmer_types::Features;
use wasmparser::{BinaryReaderError, ExternalKind, FuncType, MemoryType, TypeRef, Validator, WasmFeatures};

use crate::{EngineError, ModuleReport, extism, link, rewrite, skein, wasi};

/// The page of linear memory.
const PAGE_BYTES: u64 = 64 << 10;
/// Longest list of names in a message: a page of them.
const NAMES_MAX: usize = 100;
/// Longest name in a message or report.
const NAME_CHARS_MAX: usize = 80;
/// Most exports in a report.
const EXPORTS_REPORTED_MAX: usize = 64;

/// What the compiler is told to accept: WebAssembly 2.0 less what no call needs, plus extended constant expressions.
///
/// No threads: a call has one. No exceptions: each one thrown stays in the host's memory until the call ends. No
/// relaxed SIMD: the same input gives the same output on every machine.
pub(crate) fn features() -> Features {
    let mut features = Features::none();
    features.reference_types(true).bulk_memory(true).simd(true).multi_value(true).extended_const(true);
    features
}

/// The same, for the validator; mirrors how wasmer translates its own.
fn wasm_features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::FLOATS
        | WasmFeatures::GC_TYPES
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::EXTENDED_CONST
}

/// The export of a command.
pub(crate) const START: &str = "_start";
/// The export of a module that is no command, unless its version names another.
const HANDLER: &str = "handle";

/// What `code` is, if it can run as `manifest` declares it.
pub(crate) fn inspect(code: &[u8], manifest: &Manifest) -> Result<ModuleReport, EngineError> {
    match manifest.abi {
        Abi::Auto | Abi::Wasi | Abi::Extism => {}
        other => return Err(refuse(format!("the abi {other:?} is not known to this release"))),
    }
    let (report, shape) = examine(code)?;
    let limit = manifest.limits.memory_bytes;
    if report.memory_bytes_min > limit {
        return Err(refuse(format!(
            "the module starts with {} bytes of memory, over its limit of {limit}; raise limits.memory",
            report.memory_bytes_min
        )));
    }
    let limit = u64::from(manifest.limits.table_elements);
    if shape.table_elements > limit {
        let elements = shape.table_elements;
        return Err(refuse(format!(
            "a table starts with {elements} elements, over its limit of {limit}; raise limits.table"
        )));
    }
    check_entry(&shape, &report, manifest)?;
    Ok(report)
}

/// How a version is called; never [`Abi::Auto`].
pub(crate) fn abi(report: &ModuleReport, manifest: &Manifest) -> Abi {
    if manifest.abi == Abi::Auto { report.abi } else { manifest.abi }
}

/// The name of the export that is called for a version.
pub(crate) fn entry_name(report: &ModuleReport, manifest: &Manifest) -> String {
    let own = if report.is_command && abi(report, manifest) != Abi::Extism { START } else { HANDLER };
    manifest.entry.clone().unwrap_or_else(|| own.to_owned())
}

/// What `code` is, if it can run at all.
fn examine(code: &[u8]) -> Result<(ModuleReport, Shape<'_>), EngineError> {
    if let Some(refusal) = likeness::refusal(code) {
        return Err(EngineError::Module(refusal));
    }
    let code_bytes = code.len() as u64;
    if code_bytes > Limits::ARTIFACT_BYTES_MAX {
        return Err(EngineError::TooLarge { bytes: code_bytes, bytes_max: Limits::ARTIFACT_BYTES_MAX });
    }
    let shape = Shape::read(code, wasm_features()).map_err(|error| match error {
        ShapeError::Malformed(error) => malformed(&error, code),
        ShapeError::TooMany { what, count, most } => {
            refuse(format!("the module has {count} {what}; at most {most} are allowed"))
        }
        ShapeError::Unsupported(what) => refuse(what),
    })?;
    check_imports(&shape)?;
    if shape.exports.iter().any(|(name, ..)| *name == rewrite::START) {
        let name = shown(rewrite::START);
        return Err(refuse(format!("the module has an export `{name}`, a name that the engine needs; rename it")));
    }
    let memory = check_memory(&shape)?;
    Validator::new_with_features(wasm_features()).validate_all(code).map_err(|error| malformed(&error, code))?;
    let report = ModuleReport {
        abi: if shape.imports.iter().any(|import| extism::is_module(import.module)) { Abi::Extism } else { Abi::Wasi },
        imports: shape.imports.iter().map(|import| format!("{}.{}", import.module, import.name)).collect(),
        exports: shape.exports.iter().take(EXPORTS_REPORTED_MAX).map(|(name, ..)| shown(name)).collect(),
        functions: shape.bodies,
        memory_bytes_min: memory.map_or(0, |memory| memory.initial * PAGE_BYTES),
        memory_bytes_max: memory.and_then(|memory| memory.maximum).map(|pages| pages * PAGE_BYTES),
        code_bytes,
        is_command: shape.exports.iter().any(|(name, ..)| *name == START),
        is_resettable: false,
        is_portable: false,
    };
    Ok((report, shape))
}

fn refuse(message: impl Into<String>) -> EngineError {
    EngineError::Module(message.into())
}

fn malformed(error: &BinaryReaderError, code: &[u8]) -> EngineError {
    let (message, offset) = (error.message(), error.offset());
    let is_truncated = offset >= code.len() as u64 || message.contains("unexpected end") || message.contains("end-of-");
    let hint = [
        ("exceptions", "; build without WebAssembly exceptions"),
        ("threads", "; build without threads: a call has one"),
        ("shared memor", "; build without threads: a call has one"),
        ("multi-memory", "; a module has at most one memory"),
        ("memory64", "; build for wasm32"),
        ("relaxed SIMD", "; build without relaxed SIMD"),
        ("tail call", "; build without tail calls"),
        ("gc ", "; build without garbage-collected types"),
    ];
    let hint = hint.iter().find(|(word, _)| message.contains(word)).map_or("", |(_, hint)| hint);
    if is_truncated {
        refuse(format!("the module is truncated: it has {} bytes, and ends too early ({message})", code.len()))
    } else {
        refuse(format!("the module is not valid here: {message}, at offset {offset:#x}{hint}"))
    }
}

fn check_imports(shape: &Shape<'_>) -> Result<(), EngineError> {
    let mut missing = Vec::new();
    for import in &shape.imports {
        let known = link::signature(import.module, import.name);
        let name = format!("{}.{}", shown(import.module), shown(import.name));
        match (import.ty, known) {
            (TypeRef::Func(index), Some(signature)) => {
                let ty = shape.types.get(index as usize);
                if !ty.is_some_and(|ty| has_signature(ty, signature)) {
                    let whose = if import.module == wasi::MODULE { "WASI preview 1" } else { "its host" };
                    return Err(refuse(format!("the import {name} has another signature than {whose} gives it")));
                }
            }
            (TypeRef::Func(_), None) => missing.push(name),
            (TypeRef::Memory(_), _) => missing.push(format!("{name} (a memory)")),
            (TypeRef::Table(_), _) => missing.push(format!("{name} (a table)")),
            (TypeRef::Global(_), _) => missing.push(format!("{name} (a global)")),
            (TypeRef::Tag(_) | TypeRef::FuncExact(_), _) => missing.push(format!("{name} (not a function)")),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let hint = if missing.iter().any(|name| name.starts_with("extism:host/user.")) {
        "; a plug-in of Extism finds only Skein's services in extism:host/user (docs/extism.md)"
    } else if missing.iter().any(|name| name.starts_with("env.extism_")) {
        "; rebuild the plug-in with a kit of Extism 1.0 or later"
    } else if missing.iter().any(|name| name.starts_with("wasi_unstable.")) {
        "; rebuild it with a toolchain of 2020 or later"
    } else if missing.iter().any(|name| name.starts_with("wasi:")) {
        "; it is part of a component: build for wasm32-wasip1"
    } else if missing.iter().any(|name| name.starts_with("env.") || name.starts_with("wbg") || name.contains("__wb")) {
        "; link what is undefined, or build for wasm32-wasip1 instead of a browser"
    } else {
        ""
    };
    let list = listed(&missing);
    let there = [wasi::MODULE, extism::MODULE, skein::MODULE].join(" and ");
    Err(refuse(format!("the module imports what is not there: {list}; there are {there}{hint}")))
}

fn has_signature(ty: &FuncType, (params, results): (&str, &str)) -> bool {
    shape::letters(ty.params()) == params && shape::letters(ty.results()) == results
}

fn check_memory<'s>(shape: &'s Shape<'_>) -> Result<Option<&'s MemoryType>, EngineError> {
    if shape.memories.len() > 1 {
        return Err(refuse(format!("the module has {} memories; at most one is allowed", shape.memories.len())));
    }
    let Some(memory) = shape.memories.first() else { return Ok(None) };
    if memory.shared {
        return Err(refuse("the module has a shared memory; build without threads: a call has one"));
    }
    if memory.memory64 {
        return Err(refuse("the module has a 64-bit memory; build for wasm32"));
    }
    let most = Limits::MEMORY_BYTES_MAX / PAGE_BYTES;
    if memory.initial > most {
        return Err(refuse(format!("the module starts with {} pages of memory; at most {most} exist", memory.initial)));
    }
    Ok(Some(memory))
}

fn check_entry(shape: &Shape<'_>, report: &ModuleReport, manifest: &Manifest) -> Result<(), EngineError> {
    let entry = entry_name(report, manifest);
    let names: Vec<String> = shape.exports.iter().map(|(name, ..)| shown(name)).collect();
    let list = if names.is_empty() { "nothing".to_owned() } else { listed(&names) };
    if entry == START && manifest.instance == InstancePolicy::Reuse {
        return Err(refuse(
            "a command (`_start`) ends with its call, so that its instances cannot be reused; export a handler, or use \
             instance = \"fresh\"",
        ));
    }
    match shape.exports.iter().find(|(name, ..)| *name == entry) {
        Some((_, ExternalKind::Func, index)) => {
            let (params, results) = match shape.function(*index) {
                Some(ty) => (shape::letters(ty.params()), shape::letters(ty.results())),
                None => (String::new(), String::new()),
            };
            let is_entry = params.is_empty() && (results.is_empty() || (results == "i" && entry != START));
            if is_entry {
                return Ok(());
            }
            Err(refuse(format!(
                "the export `{}` must take nothing, and return nothing{}",
                shown(&entry),
                if entry == START { "" } else { " or an i32, which is 0 for success" }
            )))
        }
        Some(_) => Err(refuse(format!("the export `{}` is not a function", shown(&entry)))),
        None if manifest.entry.is_some() => {
            Err(refuse(format!("the module has no export `{}`, which `entry` names; it exports {list}", shown(&entry))))
        }
        None if abi(report, manifest) == Abi::Extism => Err(refuse(format!(
            "the plug-in exports no `handle`: name the function that is called by `entry` in function.toml; it exports \
             {list}"
        ))),
        None => Err(refuse(format!(
            "the module exports nothing runnable: neither `_start` (a command, with a `main`, for wasm32-wasip1) nor \
             `handle` (a reactor); `entry` in function.toml can name another export; it exports {list}"
        ))),
    }
}

/// Names for a message, all of them up to a page.
fn listed(names: &[String]) -> String {
    let mut list = names[..names.len().min(NAMES_MAX)].join(", ");
    if names.len() > NAMES_MAX {
        list += &format!(" and {} more", names.len() - NAMES_MAX);
    }
    list
}

/// A name from a module, fit for a message: short, and without control characters.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
