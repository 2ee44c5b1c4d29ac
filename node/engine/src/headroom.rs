//! Headroom: no function of wasmer's runs out of a guest's stack while it holds something.
//!
//! Compiled code calls some functions of wasmer's on the guest's own stack. Where one of them traps, wasmer makes the
//! trap there: it walks the stack under a lock of the whole process, and allocates. Were the stack to end in the middle
//! of that, the signal handler would take it for a stack overflow of the guest's and leave the function behind with its
//! locks held, and every later trap of the process would wait for ever.
//!
//! So every place that can come to this first calls `room`, a function that touches as much of the stack as making a
//! trap may take. What does not fit is a stack overflow in guest code, which leaves nothing behind.
//!
//! - `unreachable` and what works on tables or copies segments calls `room` each time: the former once in its life, the
//!   latter seldom.
//! - `memory.fill` and `memory.copy` are frequent. They become calls of functions that compare the addresses with the
//!   length of the memory, and call `room` only for those that will trap.
//! - A host function runs on the host's stack, but what hands its result over does not: an error would be left on the
//!   heap, with a line for each frame of the guest. Calls of imports call `room`, and where an import is a value, in a
//!   table for one, something else stands for it that does so too ([`callers`]).
//!
//! All else that traps does so by a signal, whose handler has a stack of its own, and what allocates without trapping
//! (`memory.grow`, `table.grow`) runs on the host's.
//!
//! Decided against a compiler's own stack limit (wasmer sets none) and against opening more of the stack in a signal
//! handler (a guest would go on in what was opened).

use wasm_encoder::{
    BlockType as Block, Encode as _, Function, MemArg as At, Module, RawSection, ValType, reencode::Error,
};
use wasmer::LocalFunctionIndex;
use wasmer_compiler::{FunctionMiddleware, MiddlewareReaderState, ModuleMiddleware};
use wasmer_types::{FunctionIndex, MiddlewareError, ModuleInfo};
use wasmparser::{BinaryReader, BinaryReaderError, BlockType, Operator, Parser, Payload, TypeRef};

use crate::Tier;

mod callers;

use callers::Callers;

/// Goes into the name of every artefact: raised when this file changes what is compiled.
pub(crate) const VERSION: u32 = 3;

/// The names of what is added begin with a byte that no toolchain's names have.
const NAMES: [&str; 4] = ["\u{1}room", "\u{1}fill", "\u{1}copy", "\u{1}deep"];
/// The name of every caller of an import.
const CALLER: &str = "\u{1}call";

/// True if a function of this name was added here.
pub(crate) fn is_added(name: &str) -> bool {
    name == CALLER || NAMES.contains(&name)
}

/// What must be left of the stack. Making a trap was measured to take 5 KiB in optimised code; the rest is for other
/// unwinders, and for compilers that optimise less.
pub(crate) const BYTES: u32 = 32 << 10;
/// The frame of `deep` in optimised code, which calls itself until all of them are [`BYTES`]. Below a page, since a
/// larger frame costs a probe each; and small, since the code that makes it large is part of every artefact.
const FRAME_BYTES: u32 = 2 << 10;
const LEVELS: i32 = (BYTES / FRAME_BYTES).cast_signed();

// Baseline code makes room on the stack for more than it touches at once. What it has not touched must not reach over
// the guard page: what comes after would be written to somebody else's memory, and no handler knows such a stack pointer.
/// Most results of blocks under way in one function of baseline code; beside what calls have
/// ([`is_for_baseline`](crate::compile::is_for_baseline)).
const RESULTS_UNTOUCHED_MAX: u32 = 128;
/// Most locals of one function of baseline code, beside as many parameters as a function may have there: less than a
/// page. It probes the pages of more of them, but not the first.
const LOCALS_UNTOUCHED_MAX: usize = 416;

/// What is added to a module, by the numbers of functions in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headroom {
    imports: u32,
    /// The functions of its own; the added ones come after.
    bodies: u32,
    /// What stands for imports as values, in a module that has some.
    callers: Option<Callers>,
    /// How many results and parameters each type has, if the code is for the baseline compiler.
    widths: Option<Vec<(u32, u32)>>,
}

impl Headroom {
    /// Adds what code of `tier` needs to a valid module that has a memory.
    ///
    /// # Errors
    /// What the parser has against it, which is nothing if it is valid.
    pub(crate) fn add(code: &[u8], tier: Tier) -> Result<(Vec<u8>, Self), Error> {
        let (mut headroom, mut module, mut types) = (Self::default(), Module::new(), 0);
        let (mut widths, mut import_types) = (Vec::new(), Vec::new());
        let has_callers = Callers::are_needed(code)?;
        for payload in Parser::new(0).parse_all(code) {
            let payload = payload?;
            let Some((id, range)) = payload.as_section() else {
                if let Payload::CustomSection(section) = &payload {
                    module.section(&wasm_encoder::CustomSection {
                        name: section.name().into(),
                        data: section.data().into(),
                    });
                }
                continue;
            };
            let section = &code[range.start as usize..range.end as usize];
            let longer = match &payload {
                Payload::TypeSection(section_types) => {
                    types = section_types.count();
                    for ty in section_types.clone().into_iter_err_on_gc_types() {
                        let ty = ty?;
                        widths.push((ty.results().len() as u32, ty.params().len() as u32));
                    }
                    Some(append(section, &added_types())?)
                }
                Payload::ImportSection(imports) => {
                    for import in imports.clone().into_imports() {
                        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                            import_types.push(ty);
                        }
                    }
                    headroom.imports = import_types.len() as u32;
                    None
                }
                // Sections with nothing in them may be there, and one of the two without the other: what came into one would
                // be missing in the other. Where no function runs, none needs room.
                Payload::FunctionSection(functions) if functions.count() == 0 => continue,
                Payload::CodeSectionStart { count: 0, .. } => continue,
                Payload::FunctionSection(functions) => {
                    headroom.bodies = functions.count();
                    headroom.callers = has_callers.then(|| Callers::new(headroom.imports, headroom.caller()));
                    let callers = if has_callers { &*import_types } else { &[] };
                    Some(append(section, &added_functions(types, callers))?)
                }
                Payload::GlobalSection(globals) if let Some(callers) = headroom.callers => {
                    module.section(&callers.globals(globals.clone())?);
                    continue;
                }
                Payload::ElementSection(elements) if let Some(callers) = headroom.callers => {
                    module.section(&callers.elements(elements.clone())?);
                    continue;
                }
                Payload::CodeSectionStart { .. } => {
                    let callers =
                        import_types.iter().map(|ty| widths.get(*ty as usize).map_or(0, |(_, params)| *params));
                    let callers: Vec<u32> = if has_callers { callers.collect() } else { Vec::new() };
                    Some(append(section, &headroom.added_bodies(tier, &callers))?)
                }
                _ => None,
            };
            module.section(&RawSection { id, data: longer.as_deref().unwrap_or(section) });
        }
        headroom.widths = (tier == Tier::Baseline).then_some(widths);
        Ok((module.finish(), headroom))
    }

    fn first(&self) -> u32 {
        self.imports + self.bodies
    }

    fn room(&self) -> u32 {
        self.first()
    }

    fn fill(&self) -> u32 {
        self.first() + 1
    }

    fn copy(&self) -> u32 {
        self.first() + 2
    }

    fn deep(&self) -> u32 {
        self.first() + 3
    }

    /// The first caller of an import.
    fn caller(&self) -> u32 {
        self.first() + NAMES.len() as u32
    }

    /// `callers` are the numbers of parameters of the imports that have one.
    fn added_bodies(&self, tier: Tier, callers: &[u32]) -> Vec<Vec<u8>> {
        let room = function([], |room| {
            room.instructions().i32_const(LEVELS).call(self.deep());
        });
        let deep = match tier {
            Tier::Baseline => self.deep_body_baseline(),
            Tier::Optimised => self.deep_body(),
        };
        let fill = self.bulk_body(&[0], |body| {
            body.instructions().memory_fill(0);
        });
        let copy = self.bulk_body(&[0, 1], |body| {
            body.instructions().memory_copy(0, 0);
        });
        let callers = (0..).zip(callers).map(|(import, params)| Callers::body(self.room(), import, *params));
        [room, fill, copy, deep].into_iter().chain(callers).map(|function| encoded(&function)).collect()
    }

    /// Calls itself as often as its parameter says. In a branch that is never taken it needs many values after a call,
    /// for which every frame of it has the room.
    fn deep_body(&self) -> Function {
        const VALUES: u32 = FRAME_BYTES / 16;
        function([(VALUES, ValType::V128)], |body| {
            let at = |offset: u32| At { offset: u64::from(offset) * 16, align: 0, memory_index: 0 };
            body.instructions().local_get(0).if_(Block::Empty);
            body.instructions().local_get(0).i32_const(LEVELS).i32_gt_u().if_(Block::Empty);
            for value in 1..=VALUES {
                body.instructions().i32_const(0).v128_load(at(value)).local_set(value);
            }
            body.instructions().i32_const(0).call(self.deep()).i32_const(0).v128_const(0);
            for value in 1..=VALUES {
                body.instructions().local_get(value).v128_xor();
            }
            body.instructions().v128_store(at(0)).else_();
            body.instructions().local_get(0).i32_const(1).i32_sub().call(self.deep());
            body.instructions().end().end();
        })
    }

    /// The same where locals are on the stack, needed or not.
    fn deep_body_baseline(&self) -> Function {
        function([(FRAME_BYTES / 8, ValType::I64)], |body| {
            body.instructions().local_get(0).if_(Block::Empty);
            body.instructions().local_get(0).i32_const(1).i32_sub().call(self.deep()).end();
        })
    }

    /// A bulk instruction of three operands, the last of which is a length, with `room` before it if one of `starts`
    /// is too near the end of the memory.
    fn bulk_body(&self, starts: &[u32], instruction: impl FnOnce(&mut Function)) -> Function {
        const LENGTH: u32 = 2;
        const END: u32 = 3;
        function([(1, ValType::I64)], |body| {
            body.instructions().memory_size(0).i64_extend_i32_u().i64_const(16).i64_shl().local_set(END);
            for (nth, start) in starts.iter().enumerate() {
                body.instructions().local_get(*start).i64_extend_i32_u().local_get(LENGTH).i64_extend_i32_u();
                body.instructions().i64_add().local_get(END).i64_gt_u();
                if nth > 0 {
                    body.instructions().i32_or();
                }
            }
            body.instructions().if_(Block::Empty).call(self.room()).end();
            body.instructions().local_get(0).local_get(1).local_get(2);
            instruction(body);
        })
    }
}

/// Types of what is added: of `room`, of `fill` and `copy`, of `deep`.
fn added_types() -> Vec<Vec<u8>> {
    const FUNCTION: u8 = 0x60;
    const I32: u8 = 0x7f;
    let of = |params: usize| [&[FUNCTION, params as u8][..], &[I32; 3][..params], &[0]].concat();
    vec![of(0), of(3), of(1)]
}

/// The type of each, after so many types; then those of `callers`.
fn added_functions(types: u32, callers: &[u32]) -> Vec<Vec<u8>> {
    [types, types + 1, types + 1, types + 2].iter().chain(callers).map(encoded).collect()
}

fn function<const N: usize>(locals: [(u32, ValType); N], body: impl FnOnce(&mut Function)) -> Function {
    let mut function = Function::new(locals);
    body(&mut function);
    function.instructions().end();
    function
}

fn encoded(item: &impl wasm_encoder::Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    item.encode(&mut bytes);
    bytes
}

/// A section, which begins with the number of its items, with more of them at its end.
fn append(section: &[u8], items: &[Vec<u8>]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut reader = BinaryReader::new(section, 0);
    let count = reader.read_var_u32()? + items.len() as u32;
    let mut longer = Vec::with_capacity(section.len() + items.iter().map(Vec::len).sum::<usize>() + 5);
    count.encode(&mut longer);
    longer.extend_from_slice(&section[reader.current_position()..]);
    items.iter().for_each(|item| longer.extend_from_slice(item));
    Ok(longer)
}

impl ModuleMiddleware for Headroom {
    fn generate_function_middleware<'a>(&self, index: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let is_added = index.as_u32() >= self.bodies;
        Box::new(InFunction { headroom: self.clone(), is_added, locals: 0, results: Vec::new(), results_under_way: 0 })
    }

    fn transform_module_info(&self, module: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        for (index, name) in (self.first()..).zip(NAMES) {
            module.function_names.insert(FunctionIndex::from_u32(index), name.to_owned());
        }
        let callers = if self.callers.is_some() { self.imports } else { 0 };
        for index in (self.caller()..).take(callers as usize) {
            module.function_names.insert(FunctionIndex::from_u32(index), CALLER.to_owned());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct InFunction {
    headroom: Headroom,
    is_added: bool,
    locals: usize,
    /// How many results each block under way has.
    results: Vec<u32>,
    results_under_way: u32,
}

impl InFunction {
    /// Counts what baseline code leaves untouched, and refuses too much of it: the module is left to the other compiler.
    fn count(&mut self, operator: &Operator<'_>) -> Result<(), MiddlewareError> {
        let Some(widths) = &self.headroom.widths else { return Ok(()) };
        if self.locals > LOCALS_UNTOUCHED_MAX {
            return Err(MiddlewareError::new("headroom", "a function has too many locals for baseline code"));
        }
        let width = |ty: &BlockType, is_loop| match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(ty) => {
                let (results, params) = widths.get(*ty as usize).copied().unwrap_or_default();
                if is_loop { results + params } else { results }
            }
        };
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => self.results.push(width(blockty, false)),
            Operator::Loop { blockty } => self.results.push(width(blockty, true)),
            Operator::End => {
                self.results_under_way -= self.results.pop().unwrap_or(0);
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.results_under_way += self.results.last().copied().unwrap_or(0);
        if self.results_under_way <= RESULTS_UNTOUCHED_MAX {
            return Ok(());
        }
        Err(MiddlewareError::new("headroom", "blocks within one another have too many results for baseline code"))
    }
}

impl<'a> FunctionMiddleware<'a> for InFunction {
    fn locals_info(&mut self, locals: &[wasmparser::ValType]) {
        self.locals = locals.len();
    }

    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        if self.is_added {
            state.push_operator(operator);
            return Ok(());
        }
        self.count(&operator)?;
        let headroom = &self.headroom;
        match operator {
            Operator::MemoryFill { .. } => state.push_operator(Operator::Call { function_index: headroom.fill() }),
            Operator::MemoryCopy { .. } => state.push_operator(Operator::Call { function_index: headroom.copy() }),
            Operator::RefFunc { function_index } if let Some(callers) = headroom.callers => {
                state.push_operator(Operator::RefFunc { function_index: callers.stand_in(function_index) });
            }
            _ => {
                if headroom.needs_room(&operator) {
                    state.push_operator(Operator::Call { function_index: headroom.room() });
                }
                state.push_operator(operator);
            }
        }
        Ok(())
    }
}

impl Headroom {
    fn needs_room(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Unreachable
            | Operator::MemoryInit { .. }
            | Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. } => true,
            Operator::Call { function_index } => *function_index < self.imports,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, ExportKind, ExportSection, FunctionSection, ImportSection, MemorySection, TypeSection,
    };

    use super::*;

    /// A module without a function of its own, which hands out an import, and has these of the two sections.
    fn without_functions(has_functions: bool, has_code: bool) -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        module.section(&types);
        let mut imports = ImportSection::new();
        imports.import("env", "f", wasm_encoder::EntityType::Function(0));
        module.section(&imports);
        if has_functions {
            module.section(&FunctionSection::new());
        }
        let mut memories = MemorySection::new();
        memories.memory(wasm_encoder::MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        module.section(&memories);
        let mut exports = ExportSection::new();
        exports.export("_start", ExportKind::Func, 0);
        module.section(&exports);
        if has_code {
            module.section(&CodeSection::new());
        }
        module.finish()
    }

    #[test]
    fn a_module_without_functions_stays_valid_whichever_of_their_sections_it_has() {
        for tier in [Tier::Baseline, Tier::Optimised] {
            for (has_functions, has_code) in [(false, false), (true, false), (false, true), (true, true)] {
                let module = without_functions(has_functions, has_code);
                wasmparser::validate(&module).unwrap();
                let (added, _) = Headroom::add(&module, tier).unwrap();
                if let Err(error) = wasmparser::validate(&added) {
                    panic!("functions {has_functions}, code {has_code}: {error}");
                }
            }
        }
    }
}
