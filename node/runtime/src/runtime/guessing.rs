//! Making versions ready before they are called: who is asked for it, and what this node has to spare for it.

use std::{num::NonZero, thread};

use ractor::rpc::CallResult;
use skein_catalog::VersionRecord;
use skein_engine::Room;
use skein_proto::VersionId;
use tokio::time::Instant;

use super::Runtime;
use crate::{
    metrics::{self, Guess},
    supervisor,
};

impl Runtime {
    /// Says who makes a version ready that functions which start here will probably call: on this node with
    /// [`Runtime::prewarm`], or on another. It must not wait. Only the first word counts.
    pub fn foresee(&self, wanted: impl Fn(VersionId) + Send + Sync + 'static) {
        self.shared.foresight.open(wanted);
    }

    /// Makes a version ready that will probably be called, if its code is compiled here, memory is plenty, and no core is
    /// missing. Evicts nothing, and counts as no use. True when it is ready; false if it was there before, is not to be
    /// here, or was not ready by the deadline.
    pub async fn prewarm(&self, version: VersionId, deadline: Instant) -> bool {
        let shared = &self.shared;
        let Ok(record) = shared.record(version, 0) else { return false };
        // Without idle time it would be stopped before its call comes.
        if shared.table.find(version).is_some() || record.manifest.scale.idle_ms == 0 {
            return false;
        }
        let Some(room) = self.spare(&record) else {
            metrics::guessed(Guess::Refused);
            return false;
        };
        let asked = shared.supervisor.call(|reply| supervisor::Message::Guess(version, (record, room), reply), None);
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok(CallResult::Success(Some(activation)))) => activation.started(deadline).await.is_ok(),
            _ => false,
        }
    }

    /// What the code takes, if this node has it to spare.
    fn spare(&self, record: &VersionRecord) -> Option<Room> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        if self.shared.executor.is_busy(cores) { None } else { self.shared.preparer.spare(record.digest) }
    }
}
