//! How a run ended: from what the guest and wasmer say to a result.

use std::sync::Arc;

use wasmer::{FrameInfo, RuntimeError};
use wasmer_types::TrapCode;

use crate::{
    Call, Output, RunError, TrapKind, extism, headroom,
    memory::Slot,
    stop::{Interrupt, Reason},
    wasi::Halt,
};

/// A run that has ended.
pub(crate) struct Ended {
    pub(crate) result: Result<Output, RunError>,
    /// True if its instance may be reset: the guest returned or asked to end, and nothing stopped it.
    pub(crate) is_sound: bool,
    /// True if it may even be used as it is: the guest returned. One that asked to end left its stack in the middle.
    pub(crate) has_returned: bool,
}

impl Ended {
    /// The host panicked.
    pub(crate) fn panicked() -> Self {
        Self { result: Err(RunError::Internal("the host panicked".to_owned())), is_sound: false, has_returned: false }
    }
}

/// How a guest's code ended.
pub(crate) struct End {
    /// The number it returned, or how it failed.
    pub(crate) returned: Result<i32, RuntimeError>,
    /// What a plug-in, or its host, said went wrong.
    pub(crate) said: Option<extism::Ended>,
}

/// Says how a run ended.
pub(crate) fn judge(
    End { returned, said }: End,
    call: &Call<'_>,
    slot: &Slot,
    interrupt: &Arc<Interrupt>,
    mut output: Output,
) -> Ended {
    let error = match returned {
        Ok(code) => {
            let result = match said {
                Some(said) => Err(failed(said, call, output)),
                None if code == 0 => Ok(output),
                None => exit(code, call, slot, output),
            };
            return Ended { result, is_sound: true, has_returned: true };
        }
        Err(error) => error,
    };
    let halt = error.downcast_ref::<Halt>().copied();
    if let Some(Halt::Exit(code)) = halt {
        let result = if let Some(said) = said {
            Err(failed(said, call, output))
        } else if code == 0 {
            Ok(output)
        } else {
            exit(code, call, slot, output)
        };
        return Ended { result, is_sound: true, has_returned: false };
    }
    let trap = error.clone().to_trap();
    // The gate faults like any other address: whether it was closed tells the two apart.
    let was_stopped = halt == Some(Halt::Stopped) || (halt.is_none() && trap == Some(TrapCode::HeapAccessOutOfBounds));
    let failure = if was_stopped && let Some(reason) = interrupt.reason() {
        stopped(reason, output, true)
    } else if halt == Some(Halt::Output) {
        output.payload.clear();
        RunError::Output { bytes_max: call.limits.payload_bytes, output: Box::new(output) }
    } else if let Some(said) = said {
        failed(said, call, output)
    } else if slot.was_refused() && matches!(trap.map(kind), Some(TrapKind::Unreachable | TrapKind::MemoryOutOfBounds))
    {
        // Out of memory shows as an abort or a stray access, after a refusal to grow.
        RunError::Memory { bytes_max: call.limits.memory_bytes, output: Box::new(output) }
    } else {
        trapped(&error, Box::new(output))
    };
    Ended { result: Err(failure), is_sound: false, has_returned: false }
}

/// What a plug-in or its host said went wrong.
fn failed(said: extism::Ended, call: &Call<'_>, output: Output) -> RunError {
    let output = Box::new(output);
    match said {
        extism::Ended::Failed(code, message) => RunError::Failed { code, message, output },
        extism::Ended::Memory => RunError::Memory { bytes_max: call.limits.memory_bytes, output },
    }
}

/// The guest ended with a code of its own that says it failed.
fn exit(code: i32, call: &Call<'_>, slot: &Slot, output: Output) -> Result<Output, RunError> {
    let output = Box::new(output);
    Err(if slot.was_refused() {
        RunError::Memory { bytes_max: call.limits.memory_bytes, output }
    } else {
        RunError::Exit { code, output }
    })
}

/// The error of a guest that trapped by itself.
pub(crate) fn trapped(error: &RuntimeError, output: Box<Output>) -> RunError {
    match error.clone().to_trap() {
        Some(trap) => RunError::Trap { kind: kind(trap), function: function(error), output },
        None => RunError::Internal(error.message()),
    }
}

/// The error of a run that was stopped.
pub(crate) fn stopped(reason: Reason, output: Output, has_started: bool) -> RunError {
    let output = Box::new(output);
    match reason {
        Reason::Deadline => RunError::Deadline { output, has_started },
        Reason::Cancelled => RunError::Cancelled { output, has_started },
        Reason::Cpu => RunError::Cpu { output },
        Reason::NotBrief => RunError::NotBrief,
    }
}

/// The guest's function in which it trapped, by the name its toolchain gave it.
fn function(error: &RuntimeError) -> Option<String> {
    const NAME_CHARS_MAX: usize = 120;
    let name =
        error.trace().iter().map(FrameInfo::function_name).find(|name| !name.is_some_and(headroom::is_added))??;
    Some(name.chars().take(NAME_CHARS_MAX).filter(|letter| !letter.is_control()).collect())
}

fn kind(code: TrapCode) -> TrapKind {
    match code {
        TrapCode::StackOverflow => TrapKind::StackOverflow,
        TrapCode::HeapAccessOutOfBounds => TrapKind::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => TrapKind::TableOutOfBounds,
        TrapCode::IndirectCallToNull => TrapKind::NullFunction,
        TrapCode::BadSignature => TrapKind::SignatureMismatch,
        TrapCode::IntegerOverflow => TrapKind::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => TrapKind::DivisionByZero,
        TrapCode::BadConversionToInteger => TrapKind::BadConversion,
        TrapCode::UnreachableCodeReached => TrapKind::Unreachable,
        _ => TrapKind::Other,
    }
}
