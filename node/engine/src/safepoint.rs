//! Safepoints: the loads by which every guest can be stopped, and the memory they need.
//!
//! Compiled code reads the gate of its memory (see [`crate::memory`]) at the start of every function and of every turn
//! of a loop. The load is atomic, because the compiler removes a plain one whose value nobody wants. There is no way
//! to run for long without passing one: code without loops and calls ends, and bulk instructions are bounded by the
//! memory. Nothing is paid per call, no signal is sent, and the stop holds: a guest cannot outrun it.
//!
//! Decided against metering (twice the time) and against wasmer's interrupt by signal (experimental, and lost when the
//! guest is in its host).

use wasmer::LocalFunctionIndex;
use wasmer_compiler::{FunctionMiddleware, MiddlewareReaderState, ModuleMiddleware};
use wasmer_types::MiddlewareError;
use wasmparser::{MemArg, Operator};

use crate::memory::GATE_OFFSET;

/// Goes into the name of every artefact: raised when safepoints change, so that none without them is ever loaded.
pub(crate) const VERSION: u32 = 1;

/// Puts safepoints into every function, while it is compiled.
#[derive(Debug)]
pub(crate) struct Safepoints;

impl ModuleMiddleware for Safepoints {
    fn generate_function_middleware<'a>(&self, _: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(InFunction { has_started: false })
    }
}

#[derive(Debug)]
struct InFunction {
    has_started: bool,
}

impl<'a> FunctionMiddleware<'a> for InFunction {
    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        if !self.has_started {
            self.has_started = true;
            state.extend(&SAFEPOINT);
        }
        let is_loop = matches!(operator, Operator::Loop { .. });
        state.push_operator(operator);
        if is_loop {
            state.extend(&SAFEPOINT);
        }
        Ok(())
    }
}

const SAFEPOINT: [Operator<'static>; 3] = [
    Operator::I32Const { value: 0 },
    Operator::I32AtomicLoad { memarg: MemArg { align: 2, max_align: 2, offset: GATE_OFFSET, memory: 0 } },
    Operator::Drop,
];
