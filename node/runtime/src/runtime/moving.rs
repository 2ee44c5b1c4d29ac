//! What a move between nodes asks of each of them: ready there first, then away from here.

use std::time::Duration;

use ractor::rpc::CallResult;
use skein_proto::{ErrorCode, Failure, NodeId, VersionId};
use tokio::time::{Instant, timeout_at};

use super::Runtime;
use crate::{
    activation::name,
    supervisor::{self, draining},
};

impl Runtime {
    /// Makes a version ready here without a call, and ends what [`Runtime::release`] said of it. Doing it twice does
    /// nothing more.
    ///
    /// # Errors
    /// As for a call that starts it: `version-not-found`, `artifact-unavailable`, `bad-module`, `draining`,
    /// `deadline-exceeded`, after which the start goes on. All not executed.
    pub async fn warm(&self, version: VersionId, deadline: Instant) -> Result<(), Failure> {
        let record = self.shared.record(version, 0)?;
        let asked =
            self.shared.supervisor.call(|reply| supervisor::Message::Warm(version, record.clone(), reply), None);
        match timeout_at(deadline, asked).await {
            Ok(Ok(CallResult::Success(activation))) => activation?.started(deadline).await.map(drop),
            Ok(_) => Err(draining()),
            Err(_) => {
                let message = format!("the deadline passed before {} began to start", name(&record));
                Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message))
            }
        }
    }

    /// Takes no new calls of a version that has moved to `to`: for `hold` they are answered `moved`, not executed, and
    /// so are those in line; those that run go on to their end. Says how many do, or `None` if the version is not live
    /// here, and then nothing changes.
    pub async fn release(&self, version: VersionId, to: NodeId, hold: Duration) -> Option<u32> {
        let asked = self.shared.supervisor.call(|reply| supervisor::Message::Release(version, (to, hold), reply), None);
        match asked.await {
            Ok(CallResult::Success(released)) => released,
            // No supervisor: nothing is live.
            _ => None,
        }
    }

    /// Has versions that moved to a node of which `is_gone` is true run here again when they are called.
    pub fn forget_moves(&self, is_gone: impl Fn(NodeId) -> bool) {
        self.shared.table.holds.lift_to(is_gone);
    }
}
