//! Which versions are live: read by every call without a lock, written by the supervisor alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use skein_proto::VersionId;

use crate::{activation::Activation, holds::Holds};

type Shard = HashMap<VersionId, Arc<Activation>>;

/// The live activations by version. Copied on write, one shard at a time.
pub(crate) struct Table {
    shards: Box<[ArcSwap<Shard>]>,
    /// Those that take no new calls any more, but are not over.
    leaving: Mutex<Vec<Arc<Activation>>>,
    /// Versions that are not here any more because they moved.
    pub(crate) holds: Holds,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            leaving: Mutex::default(),
            holds: Holds::default(),
        }
    }

    /// The activation of `version` that takes new calls, if there is one.
    pub(crate) fn find(&self, version: VersionId) -> Option<Arc<Activation>> {
        self.shard(version).load().get(&version).cloned()
    }

    /// All that are not over, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Activation>> {
        let live = self.shards.iter().flat_map(|shard| shard.load().values().cloned().collect::<Vec<_>>());
        let mut all: Vec<_> = live.collect();
        all.extend(self.leaving().iter().cloned());
        all
    }

    /// How many take new calls.
    pub(crate) fn live(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// Adds an activation. For the supervisor only.
    pub(crate) fn insert(&self, activation: Arc<Activation>) {
        let version = activation.version();
        self.shard(version).rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.insert(version, activation.clone());
            shard
        });
    }

    /// Hides this activation from new calls; false if it was hidden before. For the supervisor only.
    pub(crate) fn retire(&self, activation: &Arc<Activation>) -> bool {
        let version = activation.version();
        let is_live = self.find(version).is_some_and(|found| Arc::ptr_eq(&found, activation));
        if is_live {
            self.leaving().push(activation.clone());
            self.shard(version).rcu(|shard| {
                let mut shard = Shard::clone(shard);
                shard.remove(&version);
                shard
            });
        }
        is_live
    }

    /// Forgets an activation that is over. For the supervisor only.
    pub(crate) fn forget(&self, activation: &Arc<Activation>) {
        self.retire(activation);
        self.leaving().retain(|other| !Arc::ptr_eq(other, activation));
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Activation>>> {
        // Nothing panics under the lock.
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, version: VersionId) -> &ArcSwap<Shard> {
        // Function ids are counted, so their low bits spread evenly; versions of one function should spread too.
        let index = version.function.0.wrapping_mul(31).wrapping_add(version.number) % SHARDS;
        &self.shards[usize::try_from(index).unwrap_or(0)]
    }
}

/// Enough that a copy stays small with ten thousand activations.
const SHARDS: u64 = 64;
