//! Makes a command of a module of the suite: it does what the script does with it, and says by its exit code where
//! something was not as it should be.

use wasm_encoder::{BlockType, Function, Instruction, MemArg, ValType};

use crate::{
    script::{Arg, Check, Expect, Float, Step, Unit, What},
    wrap::{FD_READ, PROC_EXIT, Refused, Stand, Wrap, body, number, word},
};

/// The exit code if a call that must trap came back.
pub(crate) const CAME_BACK: i32 = -2;
/// Chosen to leave out every step that must trap.
pub(crate) const NONE: u32 = u32::MAX;

/// Which of the steps that must trap the command does, after all before it that return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one whose number it reads from its input.
    Input,
    /// This one: for modules without a byte of memory to read into.
    Fixed(u32),
}

/// How a unit's commands are told which step to do.
pub(crate) fn reads_input(unit: &Unit) -> Result<bool, Refused> {
    Ok(Wrap::read(&unit.code, spectest)?.memory_pages != Some(0))
}

/// The command of a unit.
pub(crate) fn command(unit: &Unit, choice: Choice) -> Result<Vec<u8>, Refused> {
    let mut wrap = Wrap::read(&unit.code, spectest)?;
    let mut entry = match choice {
        Choice::Input => read_choice(),
        Choice::Fixed(number) => vec![Instruction::I32Const(number.cast_signed()), Instruction::LocalSet(0)],
    };
    let mut trapping = 0;
    for step in &unit.steps {
        let function = add_step(&mut wrap, step)?;
        if matches!(step.expect, Expect::Trap(_)) {
            entry.extend([Instruction::LocalGet(0), number(trapping), Instruction::I32Eq]);
            entry.extend([Instruction::If(BlockType::Empty), Instruction::Call(function)]);
            entry.extend([number(CAME_BACK), Instruction::Call(PROC_EXIT), Instruction::End]);
            trapping += 1;
        } else {
            entry.push(Instruction::Call(function));
        }
    }
    let entry = wrap.add(&[], &[], &body(&[ValType::I32, ValType::I64, ValType::I64, ValType::I64], entry));
    Ok(wrap.finish(entry))
}

/// The module with an entry that does nothing; as it is, if it cannot be had.
pub(crate) fn with_entry(code: &[u8]) -> Vec<u8> {
    let Ok(mut wrap) = Wrap::read(code, spectest) else { return code.to_vec() };
    let entry = wrap.add(&[], &[], &body(&[], []));
    wrap.finish(entry)
}

/// What the suite's own host has.
fn spectest(module: &str, name: &str) -> Option<Stand> {
    (module == "spectest").then_some(())?;
    Some(match name {
        "global_i32" => Stand::Global(number(666)),
        "global_i64" => Stand::Global(Instruction::I64Const(666)),
        "global_f32" => Stand::Global(Instruction::F32Const(666.6.into())),
        "global_f64" => Stand::Global(Instruction::F64Const(666.6.into())),
        "table" => Stand::Table(10, 20),
        "memory" => Stand::Memory(1, 2),
        _ if name.starts_with("print") => Stand::Function(body(&[], [])),
        _ => return None,
    })
}

/// Reads the choice into local 0, and leaves memory as it was.
fn read_choice() -> Vec<Instruction<'static>> {
    let long = |offset| MemArg { offset, align: 3, memory_index: 0 };
    let mut code = Vec::new();
    for (local, offset) in [(1, 0), (2, 8), (3, 16)] {
        code.extend([number(0), Instruction::I64Load(long(offset)), Instruction::LocalSet(local)]);
    }
    code.extend([number(0), number(16), Instruction::I32Store(word(0))]);
    code.extend([number(0), number(4), Instruction::I32Store(word(4))]);
    code.extend([number(0), number(0), number(1), number(8), Instruction::Call(FD_READ), Instruction::Drop]);
    code.extend([number(0), Instruction::I32Load(word(16)), Instruction::LocalSet(0)]);
    for (local, offset) in [(1, 0), (2, 8), (3, 16)] {
        code.extend([number(0), Instruction::LocalGet(local), Instruction::I64Store(long(offset))]);
    }
    code
}

/// A function that does one step, and ends the command with the step's line if it does not give what it must.
fn add_step(wrap: &mut Wrap, step: &Step) -> Result<u32, Refused> {
    let mut code = Vec::new();
    let results: Vec<ValType> = match &step.what {
        What::Call { name, args } => {
            let (function, ty) = wrap.function(name).ok_or_else(|| Refused(format!("no function {name}")))?;
            code.extend(args.iter().map(|arg| constant(*arg)));
            code.push(Instruction::Call(function));
            ty.results().iter().map(|ty| ValType::try_from(*ty)).collect::<Result<_, _>>().map_err(|_| "a type")?
        }
        What::Global(name) => {
            let global = wrap.global(name).ok_or_else(|| Refused(format!("no global {name}")))?;
            code.push(Instruction::GlobalGet(global));
            let Expect::Values(checks) = &step.expect else { return Err("a global".into()) };
            checks.iter().map(type_of).collect()
        }
    };
    code.extend((0..results.len() as u32).rev().map(Instruction::LocalSet));
    if let Expect::Values(checks) = &step.expect {
        if checks.len() != results.len() {
            return Err(Refused(format!("line {}: {} results, not {}", step.line, results.len(), checks.len())));
        }
        for (local, check) in (0..).zip(checks) {
            code.extend(compare(local, *check));
            code.extend([Instruction::I32Eqz, Instruction::If(BlockType::Empty)]);
            code.extend([number(step.line as i32), Instruction::Call(PROC_EXIT), Instruction::End]);
        }
    }
    let function: Function = body(&results, code);
    Ok(wrap.add(&[], &[], &function))
}

fn constant(arg: Arg) -> Instruction<'static> {
    match arg {
        Arg::I32(value) => Instruction::I32Const(value),
        Arg::I64(value) => Instruction::I64Const(value),
        Arg::F32(bits) => Instruction::F32Const(wasm_encoder::Ieee32::new(bits)),
        Arg::F64(bits) => Instruction::F64Const(wasm_encoder::Ieee64::new(bits)),
        Arg::V128(value) => Instruction::V128Const(value),
        Arg::NullFunction => Instruction::RefNull(wasm_encoder::HeapType::FUNC),
        Arg::NullExtern => Instruction::RefNull(wasm_encoder::HeapType::EXTERN),
    }
}

fn type_of(check: &Check) -> ValType {
    match check {
        Check::I32(_) => ValType::I32,
        Check::I64(_) => ValType::I64,
        Check::F32(_) => ValType::F32,
        Check::F64(_) => ValType::F64,
        Check::V128(_) | Check::F32x4(_) | Check::F64x2(_) => ValType::V128,
        Check::Null | Check::NotNull => ValType::FUNCREF,
    }
}

/// Leaves 1 if a local is as it must be, else 0.
fn compare(local: u32, check: Check) -> Vec<Instruction<'static>> {
    let mut code = vec![Instruction::LocalGet(local)];
    match check {
        Check::I32(value) => code.extend([Instruction::I32Const(value), Instruction::I32Eq]),
        Check::I64(value) => code.extend([Instruction::I64Const(value), Instruction::I64Eq]),
        Check::F32(float) => {
            code.push(Instruction::I32ReinterpretF32);
            code.extend(compare32(float));
        }
        Check::F64(float) => {
            code.push(Instruction::I64ReinterpretF64);
            code.extend(compare64(float));
        }
        Check::V128(value) => {
            code.extend([Instruction::V128Const(value), Instruction::I8x16Eq, Instruction::I8x16AllTrue]);
        }
        Check::F32x4(lanes) => {
            code.clear();
            for (lane, float) in (0..).zip(lanes) {
                code.extend([Instruction::LocalGet(local), Instruction::F32x4ExtractLane(lane)]);
                code.push(Instruction::I32ReinterpretF32);
                code.extend(compare32(float));
            }
            code.extend([Instruction::I32And, Instruction::I32And, Instruction::I32And]);
        }
        Check::F64x2(lanes) => {
            code.clear();
            for (lane, float) in (0..).zip(lanes) {
                code.extend([Instruction::LocalGet(local), Instruction::F64x2ExtractLane(lane)]);
                code.push(Instruction::I64ReinterpretF64);
                code.extend(compare64(float));
            }
            code.push(Instruction::I32And);
        }
        Check::Null => code.push(Instruction::RefIsNull),
        Check::NotNull => code.extend([Instruction::RefIsNull, Instruction::I32Eqz]),
    }
    code
}

/// A canonical NaN has the quiet bit alone, with either sign; an arithmetic one has it among others.
fn compare32(float: Float) -> Vec<Instruction<'static>> {
    const QUIET: i32 = 0x7fc0_0000;
    let (mask, bits) = match float {
        Float::Canonical => (i32::MAX, QUIET),
        Float::Arithmetic => (QUIET, QUIET),
        Float::Bits(bits) => (-1, (bits as u32).cast_signed()),
    };
    vec![number(mask), Instruction::I32And, number(bits), Instruction::I32Eq]
}

fn compare64(float: Float) -> Vec<Instruction<'static>> {
    const QUIET: i64 = 0x7ff8_0000_0000_0000;
    let (mask, bits) = match float {
        Float::Canonical => (i64::MAX, QUIET),
        Float::Arithmetic => (QUIET, QUIET),
        Float::Bits(bits) => (-1, bits.cast_signed()),
    };
    vec![Instruction::I64Const(mask), Instruction::I64And, Instruction::I64Const(bits), Instruction::I64Eq]
}
