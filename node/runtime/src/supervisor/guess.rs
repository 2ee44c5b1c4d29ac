//! Starts versions that nobody has called yet, because functions that start usually call them.
//!
//! A guess takes what is to spare and nothing else: it fetches and compiles nothing, evicts nothing, waits for nobody,
//! leaves before all others when memory is short, and soon when nobody calls it.

use std::{sync::Arc, time::Duration};

use ractor::ActorRef;
use skein_catalog::VersionRecord;
use skein_engine::Room;
use skein_proto::VersionId;
use tokio::time::Instant;

use super::{Message, Origin, State};
use crate::{
    activation::Activation,
    metrics::{self, Guess},
};

impl State {
    /// Has made ready what `version`, which is being started for a call, will probably call.
    pub(super) fn look_ahead(&self, version: VersionId) {
        let table = &self.arguments.table;
        let ahead = self.habits.ahead(version, &self.arguments.catalog.borrow());
        for callee in ahead.into_iter().filter(|callee| table.find(*callee).is_none()) {
            self.arguments.foresight.want(callee);
        }
    }

    /// Starts a version on a guess, with the memory set aside for it. None if it is there, or is not to be here now.
    pub(super) async fn guess(
        &mut self,
        myself: ActorRef<Message>,
        version: VersionId,
        (record, room): (Arc<VersionRecord>, Room),
    ) -> Option<Arc<Activation>> {
        let (table, now) = (&self.arguments.table, Instant::now());
        if table.find(version).is_some() || table.holds.find(version, now).is_some() {
            return None;
        }
        let started = self.activate(myself, version, (record, Origin::Guess(room))).await.ok()?;
        metrics::guessed(Guess::Started);
        Some(started)
    }
}

/// How long a guess stays that nobody calls, unless its own `scale.idle` is shorter: whoever starts calls what it calls
/// within seconds, or not at all.
pub(super) const GUESS_STAYS: Duration = Duration::from_secs(10);
