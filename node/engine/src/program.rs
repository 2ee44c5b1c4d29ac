//! A module ready to be called.

use crate::{Call, ModuleReport, Output, RunError};

/// A compiled module, loaded. Every run has an instance of its own; runs on several threads do not meet.
#[derive(Debug)]
pub struct Program {
    report: ModuleReport,
}

impl Program {
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
        let _ = call;
        Err(RunError::Internal("not built yet".to_owned()))
    }
}
