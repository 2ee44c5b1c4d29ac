//! Keeps the versions ready that are to be (`scale.warm`): started without a call, and never stopped for being idle.

use std::{collections::HashMap, sync::Arc};

use ractor::ActorRef;
use skein_catalog::VersionRecord;
use skein_proto::VersionId;
use tokio::{task::spawn_blocking, time::Instant};

use super::{Message, Origin, State};
use crate::ActivationState;

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
    }

    /// Starts what is to be kept and is not there, and has its instances made.
    pub(super) async fn start_kept(&mut self, myself: &ActorRef<Message>) {
        let (table, now) = (&self.arguments.table, Instant::now());
        // What was sent to another node stays there for as long as it was sent.
        let is_missing = |version| table.find(version).is_none() && table.holds.find(version, now).is_none();
        let missing = self.kept.iter().filter(|(version, _)| is_missing(**version));
        let missing: Vec<_> =
            missing.map(|(version, (record, _))| (*version, record.clone())).take(STARTS_MAX).collect();
        for (version, record) in missing {
            // One that failed lately has its pause; it is tried again at a later tick.
            let _ = self.activate(myself.clone(), version, (record, Origin::Wanted)).await;
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
