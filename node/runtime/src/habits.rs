//! What versions that ran here call, kept beyond the life of their activations, in memory only: after a restart, and on
//! a node where a version has not run, nothing is known of it. What follows from it is [`skein_placement::ahead`]'s to say.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use skein_catalog::{Catalog, VersionRecord};
use skein_placement::{CALLEES_MAX, Habit, ahead};
use skein_proto::{FunctionRef, VersionId};

/// One version's habit, as its runs add to it.
#[derive(Debug, Default)]
pub(crate) struct Learning(Mutex<Habit>);

/// The habits of the versions that started here lately.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    by_version: HashMap<VersionId, Arc<Learning>>,
    /// In the order they came; some may have been deleted since.
    order: VecDeque<VersionId>,
}

/// Who makes versions ready that will probably be called; nobody until it is said who.
#[derive(Default)]
pub(crate) struct Foresight(OnceLock<Box<dyn Fn(VersionId) + Send + Sync>>);

/// The functions that one run has called.
#[derive(Debug, Default)]
pub(crate) struct Called(Mutex<Vec<FunctionRef>>);

impl Learning {
    /// Learns from a run that has ended.
    pub(crate) fn ran(&self, called: &Called) {
        self.habit().ran(&called.names());
    }

    fn habit(&self) -> MutexGuard<'_, Habit> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Habits {
    /// The habit of a version that starts; none for one that may call nobody.
    pub(crate) fn of(&mut self, version: VersionId, record: &VersionRecord) -> Option<Arc<Learning>> {
        if record.manifest.grants.invoke.is_empty() {
            return None;
        }
        if let Some(known) = self.by_version.get(&version) {
            return Some(known.clone());
        }
        let new = Arc::<Learning>::default();
        self.by_version.insert(version, new.clone());
        self.order.push_back(version);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_version.remove(&oldest);
        }
        Some(new)
    }

    /// Forgets versions that are no more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(VersionId) -> bool) {
        self.by_version.retain(|version, _| is_there(*version));
        self.order.retain(|version| is_there(*version));
    }

    /// What a call of `version` will probably reach, as its names are resolved now.
    pub(crate) fn ahead(&self, version: VersionId, catalog: &Catalog) -> Vec<VersionId> {
        ahead(version, |caller| {
            let Some(learning) = self.by_version.get(&caller) else { return Vec::new() };
            let habit = learning.habit();
            let resolved = habit.likely().filter_map(|(name, chance)| Some((catalog.resolve(name).ok()?.id, chance)));
            resolved.collect()
        })
    }
}

impl Foresight {
    /// Says who. Only the first word counts.
    pub(crate) fn open(&self, wanted: impl Fn(VersionId) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(wanted));
    }

    /// Wants a version made ready, wherever that is.
    pub(crate) fn want(&self, version: VersionId) {
        if let Some(wanted) = self.0.get() {
            wanted(version);
        }
    }
}

impl Called {
    /// Notes a call. Of one run no more are kept than of all of them.
    pub(crate) fn note(&self, name: &FunctionRef) {
        let mut names = self.names();
        if names.len() < CALLEES_MAX && !names.contains(name) {
            names.push(name.clone());
        }
    }

    fn names(&self) -> MutexGuard<'_, Vec<FunctionRef>> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Callers remembered. Each takes up to 8 names of some 100 bytes: 4 MiB if all call eight others, a tenth of it as
/// functions are.
const REMEMBERED_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use skein_proto::{FunctionId, Manifest};

    use super::*;
    use crate::testing::{manifest, publish};

    fn caller(name: &str) -> Manifest {
        let mut manifest = manifest(name);
        manifest.grants.invoke = vec!["*".into()];
        manifest
    }

    fn run(learning: &Learning, names: &[&str]) {
        let called = Called::default();
        names.iter().for_each(|name| called.note(&name.parse().unwrap()));
        learning.ran(&called);
    }

    #[test]
    fn what_was_called_by_name_is_the_version_that_the_name_means_now() {
        let mut catalog = Catalog::default();
        let a = publish(&mut catalog, caller("a"), b"a", true);
        let first = publish(&mut catalog, manifest("b"), b"b1", true);
        let mut habits = Habits::default();
        let learning = habits.of(a, catalog.version(a).unwrap()).unwrap();
        run(&learning, &["b", "gone", "b"]);
        assert_eq!(habits.ahead(a, &catalog), [first]);
        let second = publish(&mut catalog, manifest("b"), b"b2", true);
        assert_eq!(habits.ahead(a, &catalog), [second]);
        assert_eq!(habits.ahead(second, &catalog), []);
    }

    #[test]
    fn habits_outlive_activations_but_not_versions_and_are_bounded() {
        let mut catalog = Catalog::default();
        let a = publish(&mut catalog, caller("a"), b"a", true);
        let b = publish(&mut catalog, manifest("b"), b"b", true);
        let (of_a, mut habits) = (catalog.version(a).unwrap().clone(), Habits::default());
        run(&habits.of(a, &of_a).unwrap(), &["b"]);
        assert!(habits.of(b, catalog.version(b).unwrap()).is_none(), "it may call nobody");
        habits.of(a, &of_a).unwrap();
        assert_eq!(habits.ahead(a, &catalog), [b]);
        habits.retain(|version| version != a);
        assert_eq!((habits.ahead(a, &catalog), habits.order.len()), (vec![], 0));
        for number in 0..=REMEMBERED_MAX as u64 {
            habits.of(VersionId { function: FunctionId(9), number }, &of_a);
        }
        assert_eq!((habits.by_version.len(), habits.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
