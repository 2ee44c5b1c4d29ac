//! Keeps the versions ready that are to be (`scale.warm`): started without a call, and never stopped for being idle.

use std::{collections::HashMap, sync::Arc};

use ractor::ActorRef;
use skein_catalog::VersionRecord;
use skein_proto::{ColdCause, VersionId};
use tokio::{task::spawn_blocking, time::Instant};

use super::{Message, Origin, State};
use crate::{ActivationState, activation::Activation};

/// What this node is to keep ready, and how many instances of each.
pub type Kept = HashMap<VersionId, (Arc<VersionRecord>, u32)>;

impl State {
    /// Whether an activation of `version` stays without calls.
    pub(super) fn is_kept(&self, version: VersionId) -> bool {
        self.kept.contains_key(&version)
    }

    /// Takes over what is to be kept from now on. What is not any more is as idle as its last call is old.
    pub(super) fn keep(&mut self, kept: Kept) {
        let gone = self.kept.keys().filter(|version| !kept.contains_key(version));
        for program in gone.filter_map(|version| self.arguments.table.find(*version)?.program()) {
            program.keep_ready(0);
        }
        self.kept = kept;
        self.starved.retain(|version| self.kept.contains_key(version));
    }

    /// Remembers a kept version that left, or could not start, for want of memory.
    pub(super) fn note_starved(&mut self, activation: &Activation) {
        let could_not_start = activation.failure().is_some_and(|failure| failure.lacks_memory);
        if (could_not_start || activation.left_for() == Some(ColdCause::Memory)) && self.is_kept(activation.version()) {
            self.starved.insert(activation.version());
        }
    }

    /// How a version that is to be kept may start now. One that memory was short for comes back, without a call, only
    /// where there is some to spare: else two of which one fits would drive each other out for ever.
    fn may_start(&self, version: VersionId, record: &VersionRecord) -> Option<Origin> {
        if self.starved.contains(&version) {
            return self.arguments.preparer.spare(record.digest).map(Origin::Spare);
        }
        Some(Origin::Wanted)
    }

    /// Starts what is to be kept and is not there, and has its instances made.
    pub(super) async fn start_kept(&mut self, myself: &ActorRef<Message>) {
        let (table, now) = (&self.arguments.table, Instant::now());
        // What was sent to another node stays there for as long as it was sent.
        let is_missing = |version| table.find(version).is_none() && table.holds.find(version, now).is_none();
        let missing = self.kept.iter().filter(|(version, _)| is_missing(**version));
        let missing = missing
            .filter_map(|(version, (record, _))| Some((*version, record.clone(), self.may_start(*version, record)?)));
        let missing: Vec<_> = missing.take(STARTS_MAX).collect();
        for (version, record, origin) in missing {
            // One that failed lately has its pause; it is tried again at a later tick.
            let _ = self.activate(myself.clone(), version, (record, origin)).await;
        }
        for (version, (_, count)) in &self.kept {
            let Some(activation) = self.arguments.table.find(*version) else { continue };
            let Some(program) = activation.program() else { continue };
            let (count, busy) = (*count as usize, activation.in_flight() as usize);
            if activation.status().state == ActivationState::Ready && program.idle() + busy < count {
                // Made beside calls, and no more than are missing.
                self.arguments.tasks.spawn(async move { spawn_blocking(move || program.keep_ready(count)).await });
            }
        }
    }
}

/// Most started at one tick, so that a mesh that starts serves calls meanwhile.
const STARTS_MAX: usize = 8;
