//! Makes a command of a module that has another interface, by linking a `_start` of ours to it.
//!
//! The module's own functions, tables, memory and data stay as they are. What it imports is defined in its place, three
//! functions of WASI come before everything, and so only the numbers of functions change. The result is an ordinary
//! command: the engine under test treats it as any other, and so does every other engine.

use std::collections::HashMap;

use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, MemoryType, Module, StartSection,
    TableSection, TypeSection, ValType,
    reencode::{Error, Reencode},
};
use wasmparser::{ExternalKind, FuncType, Operator, Parser, Payload, TypeRef};

/// `fd_read` of WASI, in the result.
pub(crate) const FD_READ: u32 = 0;
/// `fd_write` of WASI, in the result.
pub(crate) const FD_WRITE: u32 = 1;
/// `proc_exit` of WASI, in the result.
pub(crate) const PROC_EXIT: u32 = 2;
/// So many functions come before the module's own.
const HOST_FUNCTIONS: u32 = 3;

/// What stands in for an import.
pub(crate) enum Stand {
    /// A function of the import's type.
    Function(Function),
    /// An immutable global of a constant.
    Global(Instruction<'static>),
    /// A memory of so many pages at the start, and at most.
    Memory(u64, u64),
    /// A table of so many elements at the start, and at most, of the imported type.
    Table(u64, u64),
}

/// A module taken apart, to be put together with what is added.
pub(crate) struct Wrap {
    types: TypeSection,
    type_count: u32,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    start: Option<u32>,
    elements: ElementSection,
    data_count: Option<u32>,
    code: CodeSection,
    data: DataSection,
    /// The type of each function of the module.
    function_types: Vec<FuncType>,
    exported: HashMap<String, (ExternalKind, u32)>,
    added: u32,
    /// Pages of memory at the start.
    pub(crate) memory_pages: Option<u64>,
}

/// Why a module was not wrapped.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl<E: std::fmt::Display> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Wrap {
    /// Takes a module apart. `stand` says what stands in for an import, by its module and name; no answer refuses it.
    pub(crate) fn read(code: &[u8], stand: impl Fn(&str, &str) -> Option<Stand>) -> Result<Self, Refused> {
        let mut wrap = Wrap {
            types: TypeSection::new(),
            type_count: 0,
            functions: FunctionSection::new(),
            tables: TableSection::new(),
            memories: MemorySection::new(),
            globals: GlobalSection::new(),
            exports: ExportSection::new(),
            start: None,
            elements: ElementSection::new(),
            data_count: None,
            code: CodeSection::new(),
            data: DataSection::new(),
            function_types: Vec::new(),
            exported: HashMap::new(),
            added: 0,
            memory_pages: None,
        };
        let mut types: Vec<FuncType> = Vec::new();
        let mut shift = Shift::default();
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::TypeSection(section) => {
                    types = section.clone().into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                    wrap.type_count = section.count();
                    shift.parse_type_section(&mut wrap.types, section)?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let name = format!("{}.{}", import.module, import.name);
                        let stand =
                            stand(import.module, import.name).ok_or_else(|| Refused(format!("imports {name}")))?;
                        wrap.define(&mut shift, &types, import.ty, stand)
                            .ok_or_else(|| Refused(format!("imports {name}")))?;
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section.clone() {
                        wrap.function_types.push(types.get(ty? as usize).ok_or("no type")?.clone());
                    }
                    shift.parse_function_section(&mut wrap.functions, section)?;
                }
                Payload::MemorySection(section) => {
                    wrap.memory_pages = section.clone().into_iter().next().transpose()?.map(|memory| memory.initial);
                    shift.parse_memory_section(&mut wrap.memories, section)?;
                }
                Payload::TableSection(section) => shift.parse_table_section(&mut wrap.tables, section)?,
                Payload::GlobalSection(section) => shift.parse_global_section(&mut wrap.globals, section)?,
                Payload::ExportSection(section) => {
                    for export in section.clone() {
                        let export = export?;
                        wrap.exported.insert(export.name.to_owned(), (export.kind, export.index));
                        if export.name != "_start" {
                            shift.parse_export(&mut wrap.exports, export)?;
                        }
                    }
                }
                Payload::StartSection { func, .. } => wrap.start = Some(func + HOST_FUNCTIONS),
                Payload::ElementSection(section) => shift.parse_element_section(&mut wrap.elements, section)?,
                Payload::DataCountSection { count, .. } => wrap.data_count = Some(count),
                Payload::CodeSectionEntry(body) => shift.parse_function_body(&mut wrap.code, body)?,
                Payload::DataSection(section) => shift.parse_data_section(&mut wrap.data, section)?,
                _ => {}
            }
        }
        Ok(wrap)
    }

    fn define(&mut self, shift: &mut Shift, types: &[FuncType], ty: TypeRef, stand: Stand) -> Option<()> {
        match (ty, stand) {
            (TypeRef::Func(index), Stand::Function(function)) => {
                self.function_types.push(types.get(index as usize)?.clone());
                self.functions.function(index);
                self.code.function(&function);
            }
            (TypeRef::Global(ty), Stand::Global(value)) => {
                self.globals.global(shift.global_type(ty).ok()?, &ConstExpr::extended([value.clone()]));
                shift.globals.push(value);
            }
            (TypeRef::Table(ty), Stand::Table(minimum, maximum)) => {
                let ty = shift.table_type(ty).ok()?;
                self.tables.table(wasm_encoder::TableType { minimum, maximum: Some(maximum), ..ty });
            }
            (TypeRef::Memory(ty), Stand::Memory(minimum, maximum)) => {
                let ty = shift.memory_type(ty).ok()?;
                self.memory_pages = Some(minimum);
                self.memories.memory(MemoryType { minimum, maximum: Some(maximum), ..ty });
            }
            _ => return None,
        }
        Some(())
    }

    /// The number of an exported function in the result, and its type.
    pub(crate) fn function(&self, name: &str) -> Option<(u32, &FuncType)> {
        let (kind, index) = self.exported.get(name)?;
        let ty = self.function_types.get(*index as usize)?;
        matches!(kind, ExternalKind::Func).then_some((index + HOST_FUNCTIONS, ty))
    }

    /// The number of an exported global.
    pub(crate) fn global(&self, name: &str) -> Option<u32> {
        self.exported.get(name).filter(|(kind, _)| matches!(kind, ExternalKind::Global)).map(|(_, index)| *index)
    }

    /// Adds a function and returns its number in the result.
    pub(crate) fn add(&mut self, params: &[ValType], results: &[ValType], body: &Function) -> u32 {
        let ty = self.add_type(params, results);
        self.functions.function(ty);
        self.code.function(body);
        self.added += 1;
        HOST_FUNCTIONS + self.function_types.len() as u32 + self.added - 1
    }

    fn add_type(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        self.types.ty().function(params.iter().copied(), results.iter().copied());
        self.type_count += 1;
        self.type_count - 1
    }

    /// Puts everything together, as a command that begins with `entry`.
    pub(crate) fn finish(mut self, entry: u32) -> Vec<u8> {
        let io = self.add_type(&[ValType::I32; 4], &[ValType::I32]);
        let exit = self.add_type(&[ValType::I32], &[]);
        let mut imports = ImportSection::new();
        for (name, ty) in [("fd_read", io), ("fd_write", io), ("proc_exit", exit)] {
            imports.import("wasi_snapshot_preview1", name, wasm_encoder::EntityType::Function(ty));
        }
        if self.memory_pages.is_none() {
            let ty = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
            self.memories.memory(ty);
        }
        self.exports.export("_start", ExportKind::Func, entry);
        if !self.exported.contains_key("memory") {
            self.exports.export("memory", ExportKind::Memory, 0);
        }
        let mut module = Module::new();
        module.section(&self.types).section(&imports).section(&self.functions);
        if !self.tables.is_empty() {
            module.section(&self.tables);
        }
        module.section(&self.memories).section(&self.globals).section(&self.exports);
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements);
        if let Some(count) = self.data_count {
            module.section(&DataCountSection { count });
        }
        module.section(&self.code).section(&self.data);
        module.finish()
    }
}

/// Numbers functions anew, and knows the values of globals that were imported: only those may be in constants.
#[derive(Default)]
struct Shift {
    globals: Vec<Instruction<'static>>,
}

impl Reencode for Shift {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Self::Error>> {
        Ok(index + HOST_FUNCTIONS)
    }

    fn const_expr(&mut self, expr: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error<Self::Error>> {
        let mut instructions = Vec::new();
        for operator in expr.get_operators_reader() {
            match operator? {
                Operator::End => {}
                Operator::GlobalGet { global_index } if (global_index as usize) < self.globals.len() => {
                    instructions.push(self.globals[global_index as usize].clone());
                }
                other => instructions.push(self.instruction(other)?),
            }
        }
        Ok(ConstExpr::extended(instructions))
    }
}

/// A function of these instructions; its end is added.
pub(crate) fn body<'a>(locals: &[ValType], instructions: impl IntoIterator<Item = Instruction<'a>>) -> Function {
    let mut function = Function::new_with_locals_types(locals.iter().copied());
    instructions.into_iter().for_each(|instruction| {
        function.instruction(&instruction);
    });
    function.instruction(&Instruction::End);
    function
}

/// A 32-bit constant.
pub(crate) fn number(value: i32) -> Instruction<'static> {
    Instruction::I32Const(value)
}

/// Where 32-bit words are in memory.
pub(crate) fn word(offset: u64) -> wasm_encoder::MemArg {
    wasm_encoder::MemArg { offset, align: 2, memory_index: 0 }
}
