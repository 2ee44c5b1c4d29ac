//! What becomes of a module before it is compiled: the same module, in the form that starts fastest.
//!
//! - Data segments move into an [image](crate::image), which instances map. wasmer would evaluate and copy each of them
//!   for every instance; large programs have tens of thousands.
//! - A start section becomes an export, so that an instance may be made without running it.
//! - A module without a memory gets an empty one: [safepoints](crate::safepoint) need it to find their gate.
//! - Custom sections go, but for the names that traps are explained with.
//!
//! Nothing of this can be seen by the guest. On the way the code is searched for what a
//! [reset](crate::husk) cannot undo. Data segments that do not fit an image are among it: wasmer writes them into the
//! memory of a new instance, where a reset takes them for a call's own bytes.

mod constants;

use constants::Constants;
use wasm_encoder::{ExportKind, ExportSection, MemorySection, MemoryType, Module, RawSection};
use wasmparser::{
    BinaryReaderError, DataKind, DataSectionReader, ExternalKind, GlobalSectionReader, Operator, Parser, Payload,
};

use crate::image::Draft;

/// The export that a start section becomes. Starts with a byte that no toolchain's name has.
pub(crate) const START: &str = "\u{1}start";

/// A module in its new form.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub(crate) code: Vec<u8>,
    /// What its data segments were.
    pub(crate) image: Draft,
    /// True if memory and globals are all that a call can change.
    pub(crate) is_resettable: bool,
    /// True if memory and globals, once initialised, can be those of another instance: no global is a reference, whose
    /// value means nothing there.
    pub(crate) is_portable: bool,
}

/// Rewrites a valid module.
///
/// # Errors
/// What the parser has against it, which is nothing if it is valid.
pub(crate) fn rewrite(code: &[u8]) -> Result<Rewritten, BinaryReaderError> {
    let survey = Survey::of(code)?;
    let mut rewriting = Rewriting { code, survey, image: Draft::default(), module: Module::new(), names: None };
    match rewriting.survey.image(code)? {
        Some(image) => rewriting.image = image,
        None => rewriting.survey.keeps_data = true,
    }
    for payload in Parser::new(0).parse_all(code) {
        rewriting.add(&payload?)?;
    }
    rewriting.before(SECTION_END);
    let Rewriting { survey, image, mut module, names, .. } = rewriting;
    if let Some(names) = names {
        module.section(&wasm_encoder::CustomSection { name: "name".into(), data: names.into() });
    }
    let is_resettable = survey.is_resettable && !survey.keeps_data;
    let is_portable = is_resettable && !survey.has_references;
    Ok(Rewritten { code: module.finish(), image, is_resettable, is_portable })
}

/// What must be known of a module before its first section is written.
#[derive(Debug, Default)]
struct Survey {
    memory_bytes: u64,
    has_memory: bool,
    has_exports: bool,
    start: Option<u32>,
    is_resettable: bool,
    has_references: bool,
    /// True if the code names data segments, so that their numbers must stay.
    names_data: bool,
    /// True if the data segments stay in the module.
    keeps_data: bool,
    constants: Constants,
}

impl Survey {
    fn of(code: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut survey = Self { is_resettable: true, ..Self::default() };
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::MemorySection(section) => {
                    for memory in section {
                        survey.has_memory = true;
                        survey.memory_bytes = memory?.initial.saturating_mul(64 << 10);
                    }
                }
                Payload::ImportSection(section) => survey.constants.add_imports(section)?,
                Payload::GlobalSection(section) => survey.search_globals(section)?,
                Payload::ExportSection(_) => survey.has_exports = true,
                Payload::StartSection { func, .. } => survey.start = Some(func),
                Payload::CodeSectionEntry(body) => survey.search_code(&body)?,
                _ => {}
            }
        }
        Ok(survey)
    }

    fn search_globals(&mut self, section: GlobalSectionReader<'_>) -> Result<(), BinaryReaderError> {
        for global in section {
            let global = global?;
            self.constants.add(&global.init_expr)?;
            let ty = global.ty;
            let is_reference = ty.content_type.is_reference_type();
            self.has_references |= is_reference;
            self.is_resettable &= !(ty.mutable && is_reference);
        }
        Ok(())
    }

    fn search_code(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), BinaryReaderError> {
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. } => self.is_resettable = false,
                Operator::DataDrop { .. } => {
                    self.is_resettable = false;
                    self.names_data = true;
                }
                Operator::MemoryInit { .. } => self.names_data = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// The data segments as an image; none if one of them does not begin where constants say, or is not inside the
    /// memory, or too far from the others.
    fn image(&self, code: &[u8]) -> Result<Option<Draft>, BinaryReaderError> {
        let mut image = Draft::default();
        for payload in Parser::new(0).parse_all(code) {
            let Payload::DataSection(section) = payload? else { continue };
            for segment in section {
                let segment = segment?;
                let DataKind::Active { memory_index: 0, offset_expr } = segment.kind else { continue };
                let Some(at) = self.constants.value(&offset_expr)? else { return Ok(None) };
                let at = at as usize;
                let is_inside = (at + segment.data.len()) as u64 <= self.memory_bytes;
                if !is_inside || !image.put(at, segment.data) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(image))
    }
}

/// After the number of every section of WebAssembly.
const SECTION_END: u8 = u8::MAX;
const SECTION_MEMORY: u8 = 5;
const SECTION_EXPORT: u8 = 7;

/// The place of a section in the order that modules have.
fn place(id: u8) -> u8 {
    match id {
        // Data count goes before code, tags after memories.
        12 => 95,
        13 => 55,
        other => other.saturating_mul(10),
    }
}

struct Rewriting<'a> {
    code: &'a [u8],
    survey: Survey,
    image: Draft,
    module: Module,
    /// The section of names, which goes to the end.
    names: Option<Vec<u8>>,
}

impl Rewriting<'_> {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        if let Payload::CustomSection(section) = payload {
            if section.name() == "name" {
                self.names = Some(section.data().to_vec());
            }
            return Ok(());
        }
        let Some((id, range)) = payload.as_section() else { return Ok(()) };
        self.before(id);
        match payload {
            Payload::StartSection { .. } => {}
            // Whose place is taken by the section that `before` adds.
            Payload::MemorySection(section) if section.count() == 0 => {}
            Payload::DataCountSection { .. } if !self.survey.names_data && !self.survey.keeps_data => {}
            Payload::DataSection(section) if !self.survey.keeps_data => self.add_data(section.clone())?,
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    let export = export?;
                    exports.export(export.name, kind(export.kind), export.index);
                }
                if let Some(start) = self.survey.start {
                    exports.export(START, ExportKind::Func, start);
                }
                self.module.section(&exports);
            }
            _ => {
                self.module.section(&RawSection { id, data: &self.code[range.start as usize..range.end as usize] });
            }
        }
        Ok(())
    }

    /// Writes the sections that are missing and go before the section `id`.
    fn before(&mut self, id: u8) {
        let place_next = if id == SECTION_END { u8::MAX } else { place(id) };
        if !self.survey.has_memory && place_next > place(SECTION_MEMORY) {
            self.survey.has_memory = true;
            let mut memories = MemorySection::new();
            memories.memory(MemoryType {
                minimum: 0,
                maximum: Some(0),
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
            self.module.section(&memories);
        }
        if !self.survey.has_exports && place_next > place(SECTION_EXPORT) {
            self.survey.has_exports = true;
            if let Some(start) = self.survey.start {
                let mut exports = ExportSection::new();
                exports.export(START, ExportKind::Func, start);
                self.module.section(&exports);
            }
        }
    }

    /// Without the segments that are in the image. If the code names segments, each keeps its number: one that is in the
    /// image is empty, as any is after it was copied.
    fn add_data(&mut self, section: DataSectionReader<'_>) -> Result<(), BinaryReaderError> {
        if !self.survey.names_data {
            return Ok(());
        }
        let mut data = wasm_encoder::DataSection::new();
        for segment in section {
            let segment = segment?;
            match segment.kind {
                DataKind::Passive => data.passive(segment.data.iter().copied()),
                DataKind::Active { .. } => data.passive([]),
            };
        }
        self.module.section(&data);
        Ok(())
    }
}

fn kind(kind: ExternalKind) -> ExportKind {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    #[test]
    fn an_empty_section_of_memories_is_as_good_as_none() {
        const BEFORE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0";
        const EMPTY: &[u8] = b"\x05\x01\0";
        const AFTER: &[u8] = b"\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
        let [without, with] = [&[BEFORE, AFTER].concat(), &[BEFORE, EMPTY, AFTER].concat()].map(|code| {
            Validator::new().validate_all(code).unwrap();
            rewrite(code).unwrap().code
        });
        assert_eq!(with, without);
        Validator::new().validate_all(&with).unwrap();
    }
}
