//! One run: make the instance, call it, and say how it ended.

use std::{sync::Arc, time::Duration};

use wasmer::{
    Extern, FunctionEnv, Instance, InstantiationError, LinkError, RuntimeError, Store, sys::NativeEngineExt as _,
};
use wasmer_types::TrapCode;

use crate::{
    Call, Output, RunError, TrapKind, clock,
    code::Code,
    host::Host,
    memory::{CallTunables, Slot},
    stop::{Interrupt, Reason},
    wasi::{self, Halt},
};

/// What one run is made of.
pub(crate) struct Run<'p> {
    pub(crate) code: &'p Code,
    pub(crate) imports: &'p [String],
    pub(crate) stack_bytes: usize,
    pub(crate) slot: Arc<Slot>,
    pub(crate) interrupt: Arc<Interrupt>,
}

/// How a guest ended.
enum End {
    Returned,
    Failed(RuntimeError),
    /// No instance could be made.
    NotMade(InstantiationError),
}

impl Run<'_> {
    pub(crate) fn run(self, call: &Call<'_>) -> Result<Output, RunError> {
        let begin = clock::now();
        let mut engine = self.code.engine().clone();
        engine.set_tunables(CallTunables::new(Arc::clone(&self.slot), call.limits.memory_bytes, self.stack_bytes));
        let mut store = Store::new(engine);
        let mut host = Host::new(Arc::clone(&self.slot), Arc::clone(&self.interrupt));
        host.begin(call, Arc::clone(&self.interrupt));
        let env = FunctionEnv::new(&mut store, host);
        let mut instantiate = Duration::ZERO;
        let end = match self.instantiate(&mut store, &env) {
            Ok(instance) => {
                instantiate = clock::now().saturating_duration_since(begin);
                start(&mut store, &instance)?
            }
            Err(error) => match *error {
                InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => {
                    End::Failed(error)
                }
                other => End::NotMade(other),
            },
        };
        let written = env.as_mut(&mut store).end();
        let output = Output {
            payload: written.output.into(),
            log: written.log.into(),
            log_bytes_total: written.log_bytes_total,
            instantiate,
            run: clock::now().saturating_duration_since(begin).saturating_sub(instantiate),
            memory_bytes: self.slot.length() as u64,
        };
        self.judge(end, call, output)
    }

    fn instantiate(&self, store: &mut Store, env: &FunctionEnv<Host>) -> Result<Instance, Box<InstantiationError>> {
        let missing = |name: &String| {
            // The inspection lets no such module through.
            Box::new(InstantiationError::Link(LinkError::Resource(format!("no host function {name}"))))
        };
        let imports: Vec<Extern> = self
            .imports
            .iter()
            .map(|name| wasi::import(store, env, name).map(Extern::from).ok_or_else(|| missing(name)))
            .collect::<Result<_, _>>()?;
        Ok(Instance::new_by_index(store, self.code.module(), &imports)?)
    }

    fn judge(&self, end: End, call: &Call<'_>, mut output: Output) -> Result<Output, RunError> {
        let error = match end {
            End::Returned => return Ok(output),
            End::NotMade(_) if self.slot.was_refused() => {
                return Err(RunError::Memory { bytes_max: call.limits.memory_bytes, output: Box::new(output) });
            }
            End::NotMade(InstantiationError::Link(LinkError::Resource(what))) => return Err(RunError::Full(what)),
            End::NotMade(error) => return Err(RunError::Internal(error.to_string())),
            End::Failed(error) => error,
        };
        let halt = error.downcast_ref::<Halt>().copied();
        let trap = error.clone().to_trap();
        // The gate faults like any other address: whether it was closed tells the two apart.
        let was_stopped =
            halt == Some(Halt::Stopped) || (halt.is_none() && trap == Some(TrapCode::HeapAccessOutOfBounds));
        if was_stopped && let Some(reason) = self.interrupt.reason() {
            return Err(stopped(reason, output, true));
        }
        if halt == Some(Halt::Output) {
            output.payload.clear();
            return Err(RunError::Output { bytes_max: call.limits.payload_bytes, output: Box::new(output) });
        }
        if halt == Some(Halt::Exit(0)) {
            return Ok(output);
        }
        let kind = trap.map(kind);
        // Out of memory shows as an abort, a stray access or an exit code, after a refusal to grow.
        let may_be_memory = halt.is_some() || matches!(kind, Some(TrapKind::Unreachable | TrapKind::MemoryOutOfBounds));
        let output = Box::new(output);
        if may_be_memory && self.slot.was_refused() {
            return Err(RunError::Memory { bytes_max: call.limits.memory_bytes, output });
        }
        Err(match (halt, kind) {
            (Some(Halt::Exit(code)), _) => RunError::Exit { code, output },
            (None, Some(kind)) => RunError::Trap { kind, function: function(&error), output },
            _ => RunError::Internal(error.message()),
        })
    }
}

fn start(store: &mut Store, instance: &Instance) -> Result<End, RunError> {
    let entry = instance.exports.get_typed_function::<(), ()>(store, "_start");
    // The inspection lets no other module through.
    let entry = entry.map_err(|error| RunError::Internal(format!("_start: {error}")))?;
    Ok(entry.call(store).map_or_else(End::Failed, |()| End::Returned))
}

/// The error of a run that was stopped.
pub(crate) fn stopped(reason: Reason, output: Output, has_started: bool) -> RunError {
    let output = Box::new(output);
    match reason {
        Reason::Deadline => RunError::Deadline { output, has_started },
        Reason::Cancelled => RunError::Cancelled { output, has_started },
    }
}

/// The guest's function in which it trapped, by the name its toolchain gave it.
fn function(error: &RuntimeError) -> Option<String> {
    const NAME_CHARS_MAX: usize = 120;
    let name = error.trace().first()?.function_name()?;
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
