//! Callers: what stands for an import wherever functions are values.
//!
//! A direct call of an import is seen where it is compiled. An import in a table is called by whoever finds it there, and
//! `call_indirect` is too frequent to make room each time. So modules that hand out imports as values have a function of
//! their own for each import, which makes room and calls it, and hand out that one instead. No guest can tell the two
//! apart, since function references cannot be compared here.

use wasm_encoder::{
    ConstExpr, ElementSection, Elements, Function, GlobalSection, GlobalType, ValType,
    reencode::{Error, Reencode},
};
use wasmparser::{ElementSectionReader, ExternalKind, GlobalSectionReader, Parser, Payload, TypeRef};

use super::function;

/// Puts callers in place of imports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callers {
    imports: u32,
    /// The number of the first one's caller; the others follow.
    first: u32,
    /// Whether an import was met, in the section under way.
    are_used: bool,
}

impl Callers {
    pub(super) fn new(imports: u32, first: u32) -> Self {
        Self { imports, first, are_used: false }
    }

    /// Whether a valid module hands out imports: has them as values, or names them so that `ref.func` may make some.
    pub(super) fn are_needed(code: &[u8]) -> Result<bool, Error> {
        let mut callers = Self::new(0, 0);
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        callers.imports += u32::from(matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                    }
                }
                Payload::GlobalSection(globals) => {
                    callers.parse_global_section(&mut GlobalSection::new(), globals)?;
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            callers.function_index(export.index)?;
                        }
                    }
                }
                Payload::ElementSection(elements) => {
                    callers.parse_element_section(&mut ElementSection::new(), elements)?;
                }
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(callers.are_used)
    }

    /// What stands for a function where it is a value: its caller if it is an import, and itself otherwise.
    pub(super) fn stand_in(&self, function: u32) -> u32 {
        if function < self.imports { self.first + function } else { function }
    }

    /// A section of globals with callers in it.
    pub(super) fn globals(mut self, globals: GlobalSectionReader<'_>) -> Result<GlobalSection, Error> {
        let mut section = GlobalSection::new();
        self.are_used = false;
        self.parse_global_section(&mut section, globals)?;
        // Naming imports here has declared them, and code is validated as it was, with `ref.func` of them.
        let ty = GlobalType { val_type: ValType::FUNCREF, mutable: false, shared: false };
        for import in (0..self.imports).filter(|_| self.are_used) {
            section.global(ty, &ConstExpr::ref_func(import));
        }
        Ok(section)
    }

    /// A section of elements with callers in it.
    pub(super) fn elements(mut self, elements: ElementSectionReader<'_>) -> Result<ElementSection, Error> {
        let mut section = ElementSection::new();
        self.are_used = false;
        self.parse_element_section(&mut section, elements)?;
        if self.are_used {
            // As above. At the end, so that the others keep their numbers.
            section.declared(Elements::Functions((0..self.imports).collect()));
        }
        Ok(section)
    }

    /// The body of an import's caller.
    pub(super) fn body(room: u32, import: u32, params: u32) -> Function {
        function([], |body| {
            body.instructions().call(room);
            (0..params).for_each(|param| {
                body.instructions().local_get(param);
            });
            body.instructions().call(import);
        })
    }
}

impl Reencode for Callers {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        self.are_used |= function < self.imports;
        Ok(self.stand_in(function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a module hands out imports that has this besides an import and a function of its own.
    fn check(declaration: &str, expected: bool) {
        let text = format!(
            r#"(module (import "skein" "log" (func $log (param i32 i32))) (memory 1) (table 2 funcref)
                {declaration} (func $own))"#
        );
        assert_eq!(Callers::are_needed(&wat::parse_str(text).unwrap()).unwrap(), expected, "{declaration}");
    }

    #[test]
    fn a_module_hands_out_an_import_if_it_names_it_outside_of_code() {
        for function in ["$log", "$own"] {
            let is_import = function == "$log";
            check(&format!("(elem (i32.const 0) func $own {function})"), is_import);
            check(&format!("(elem (i32.const 0) funcref (ref.null func) (ref.func {function}))"), is_import);
            check(&format!("(elem declare func {function})"), is_import);
            check(&format!("(global funcref (ref.func {function}))"), is_import);
            check(&format!(r#"(export "run" (func {function}))"#), is_import);
        }
        check("", false);
    }
}
