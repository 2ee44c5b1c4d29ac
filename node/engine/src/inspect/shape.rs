//! What a module is made of, read section by section without looking into its code, and held to bounds.

use wasmparser::{
    BinaryReaderError, ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, FuncType, FunctionBody, Import,
    MemoryType, Operator, Parser, Payload, TableType, TypeRef, ValType, WasmFeatures,
};

use skein_proto::Limits;

use super::effort;

/// A module's parts, as far as deciding about it needs them.
#[derive(Debug, Default)]
pub(super) struct Shape<'a> {
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// The type of each function, imported ones first.
    pub(super) functions: Vec<u32>,
    pub(super) bodies: u32,
    pub(super) memories: Vec<MemoryType>,
    pub(super) exports: Vec<(&'a str, ExternalKind, u32)>,
    /// What the largest table begins with.
    pub(super) table_elements: u64,
    element_items: u64,
    /// Of each element segment, whether it is one of external references.
    is_external: Vec<bool>,
    pub(super) has_wide_types: bool,
    /// Function bodies seen so far.
    bodies_seen: u32,
}

/// A module that cannot be read, or that has too much of something.
#[derive(Debug)]
pub(super) enum ShapeError {
    Malformed(BinaryReaderError),
    TooMany {
        what: &'static str,
        count: u64,
        most: u64,
    },
    /// It does what wasmer cannot.
    Unsupported(&'static str),
}

impl From<BinaryReaderError> for ShapeError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error)
    }
}

// What a module may have. A large Go program has some 5,000 functions and 42,000 data segments, of which the bounds
// leave a multiple. They bound what compiling and instantiating costs: the time grows with each of them.
const TYPES_MAX: u32 = 20_000;
/// Of all types together: each of them is compiled into a function that passes them on.
const TYPE_VALUES_MAX: u64 = 200_000;
const IMPORTS_MAX: u32 = 1_000;
const FUNCTIONS_MAX: u32 = 100_000;
const TABLES_MAX: u32 = 16;
const GLOBALS_MAX: u32 = 20_000;
const EXPORTS_MAX: u32 = 20_000;
const ELEMENT_SEGMENTS_MAX: u32 = 10_000;
const ELEMENT_ITEMS_MAX: u64 = 1 << 20;
const DATA_SEGMENTS_MAX: u32 = 200_000;
/// Of one function: compile time is checked between functions, and grows faster than their size.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// What is evaluated for each instance; a sum of three terms has a dozen.
const CONSTANT_BYTES_MAX: u64 = 1 << 10;
/// Of one function, parameters not counted.
const LOCALS_MAX: u64 = 20_000;

impl<'a> Shape<'a> {
    pub(super) fn read(code: &'a [u8], features: WasmFeatures) -> Result<Self, ShapeError> {
        let mut shape = Shape::default();
        let mut parser = Parser::new(0);
        parser.set_features(features);
        for payload in parser.parse_all(code) {
            shape.add(payload?)?;
        }
        Ok(shape)
    }

    fn add(&mut self, payload: Payload<'a>) -> Result<(), ShapeError> {
        match payload {
            Payload::TypeSection(section) => {
                bound("types", section.count(), TYPES_MAX)?;
                self.types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                let values = |ty: &FuncType| (ty.params().len() + ty.results().len()) as u64;
                let all = self.types.iter().map(values).sum();
                bound_wide("parameters and results in its types", all, TYPE_VALUES_MAX)?;
                self.has_wide_types = effort::has_wide(&self.types);
            }
            Payload::ImportSection(section) => {
                bound("imports", section.count(), IMPORTS_MAX)?;
                for import in section.into_imports() {
                    let import = import?;
                    if let TypeRef::Func(ty) = import.ty {
                        self.functions.push(ty);
                    }
                    self.imports.push(import);
                }
            }
            Payload::FunctionSection(section) => {
                bound("functions", section.count(), FUNCTIONS_MAX)?;
                self.bodies = section.count();
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                bound("tables", section.count(), TABLES_MAX)?;
                for table in section {
                    self.add_table(&table?.ty)?;
                }
            }
            Payload::MemorySection(section) => self.memories = section.into_iter().collect::<Result<_, _>>()?,
            Payload::GlobalSection(section) => {
                bound("globals", section.count(), GLOBALS_MAX)?;
                for global in section {
                    bound_constant(&global?.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                bound("exports", section.count(), EXPORTS_MAX)?;
                for export in section {
                    let export = export?;
                    self.exports.push((export.name, export.kind, export.index));
                }
            }
            Payload::ElementSection(section) => {
                bound("element segments", section.count(), ELEMENT_SEGMENTS_MAX)?;
                for element in section {
                    let element = element?;
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        bound_constant(offset_expr)?;
                    }
                    let is_external = matches!(&element.items, ElementItems::Expressions(ty, _) if ty.is_extern_ref());
                    self.is_external.push(is_external);
                    self.add_elements(&element.items)?;
                }
            }
            Payload::DataSection(section) => {
                bound("data segments", section.count(), DATA_SEGMENTS_MAX)?;
                for data in section {
                    if let DataKind::Active { offset_expr, .. } = data?.kind {
                        bound_constant(&offset_expr)?;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.add_body(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn add_body(&mut self, body: &FunctionBody<'_>) -> Result<(), ShapeError> {
        let range = body.range();
        bound_wide("bytes in one function", range.end - range.start, BODY_BYTES_MAX)?;
        let mut locals = 0;
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
            bound_wide("locals in one function", locals, LOCALS_MAX)?;
        }
        let imported = (self.functions.len() as u32).saturating_sub(self.bodies);
        let params = self.function(imported + self.bodies_seen).map_or(0, |ty| ty.params().len() as u64);
        self.bodies_seen += 1;
        self.check_elements(body)?;
        effort::check(body, locals + params, self)
    }

    /// wasmer puts functions into tables by `table.init`, whatever the table is of: it aborts the process over a table of
    /// external references. All that a segment of those can hold is null.
    fn check_elements(&self, body: &FunctionBody<'_>) -> Result<(), ShapeError> {
        if !self.is_external.contains(&true) {
            return Ok(());
        }
        for operator in body.get_operators_reader()? {
            if let Operator::TableInit { elem_index, .. } = operator?
                && self.is_external.get(elem_index as usize) == Some(&true)
            {
                return Err(ShapeError::Unsupported(
                    "the module initialises a table from a segment of external references (`table.init`), which can \
                     only be null: use `table.fill` with `ref.null extern`",
                ));
            }
        }
        Ok(())
    }

    fn add_table(&mut self, table: &TableType) -> Result<(), ShapeError> {
        self.table_elements = self.table_elements.max(table.initial);
        bound_wide("elements in a table", table.initial, u64::from(Limits::TABLE_ELEMENTS_MAX))
    }

    fn add_elements(&mut self, items: &ElementItems<'_>) -> Result<(), ShapeError> {
        self.element_items += u64::from(match items {
            ElementItems::Functions(items) => items.count(),
            ElementItems::Expressions(_, items) => items.count(),
        });
        bound_wide("elements", self.element_items, ELEMENT_ITEMS_MAX)
    }

    /// The type of a function, by its index.
    pub(super) fn function(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(index as usize)? as usize)
    }
}

/// The letters of a type's parameters, as in the table of WASI's functions; `?` for what WASI never takes.
pub(super) fn letters(types: &[ValType]) -> String {
    let letter = |ty: &ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        _ => '?',
    };
    types.iter().map(letter).collect()
}

fn bound(what: &'static str, count: u32, most: u32) -> Result<(), ShapeError> {
    bound_wide(what, count.into(), most.into())
}

fn bound_constant(expression: &ConstExpr<'_>) -> Result<(), ShapeError> {
    let range = expression.get_binary_reader().range();
    bound_wide("bytes in one constant expression", range.end - range.start, CONSTANT_BYTES_MAX)
}

pub(super) fn bound_wide(what: &'static str, count: u64, most: u64) -> Result<(), ShapeError> {
    if count <= most { Ok(()) } else { Err(ShapeError::TooMany { what, count, most }) }
}
