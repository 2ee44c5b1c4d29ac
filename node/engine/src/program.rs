//! A module ready to be called.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    Call, ModuleReport, Output, RunError,
    cache::Loaded,
    clock,
    code::Code,
    engine::Shared,
    run::{Run, stopped},
    stop::{Interrupt, Reason},
    wasi,
};

/// A compiled module, loaded. Every run has an instance of its own; runs on several threads do not meet.
pub struct Program {
    code: Code,
    report: ModuleReport,
    /// The functions of WASI that the module imports, in its order.
    imports: Vec<String>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn new(loaded: Loaded, shared: Arc<Shared>) -> Arc<Self> {
        let Loaded { code, report } = loaded;
        let in_module = |name: &String| name.strip_prefix(wasi::MODULE)?.strip_prefix('.').map(str::to_owned);
        let imports = report.imports.iter().filter_map(in_module).collect();
        Arc::new(Self { code, report, imports, shared })
    }

    /// What inspecting the module found.
    pub fn report(&self) -> &ModuleReport {
        &self.report
    }

    /// Runs the program once, in a fresh instance, on the calling thread, which it blocks until the guest has ended or
    /// was stopped.
    ///
    /// # Errors
    /// Every [`RunError`]. None leaves anything behind.
    pub fn run(&self, call: Call<'_>) -> Result<Output, RunError> {
        let now = clock::now();
        let limit = now.checked_add(Duration::from_millis(call.limits.deadline_ms));
        let deadline = call.deadline.into_std();
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        if deadline <= now {
            return Err(stopped(Reason::Deadline, Output::default(), false));
        }
        let slot = self.shared.slots.reserve().map_err(|error| RunError::Full(error.to_string()))?;
        let interrupt = Interrupt::new(Arc::clone(&slot));
        let Some(_watch) = self.shared.watchdog.watch(deadline, &interrupt) else {
            return Err(stopped(Reason::Cancelled, Output::default(), false));
        };
        call.stop.attach(&interrupt);
        if let Some(reason) = interrupt.reason() {
            return Err(stopped(reason, Output::default(), false));
        }
        let run = Run {
            code: &self.code,
            imports: &self.imports,
            stack_bytes: self.shared.config.guest_stack_bytes,
            slot,
            interrupt: Arc::clone(&interrupt),
        };
        let result = catch_unwind(AssertUnwindSafe(|| run.run(&call)));
        interrupt.detach();
        result.unwrap_or_else(|_| Err(RunError::Internal("the host panicked".to_owned())))
    }
}
