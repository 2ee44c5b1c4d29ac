//! The names on a disk: a directory's changes survive a cut once that directory was synced, and otherwise the first few.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rand::{Rng, rngs::SmallRng};

/// What is in a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    File(usize),
    Dir,
}

/// All names, as they are and as a cut leaves them.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, Entry>,
    synced: BTreeMap<PathBuf, Entry>,
    /// Changes since, in order, by the directory in which they were made.
    changes: BTreeMap<PathBuf, Vec<Change>>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Make(PathBuf, Entry),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Names {
    /// The file of this name.
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        match self.now.get(path)? {
            Entry::File(id) => Some(*id),
            Entry::Dir => None,
        }
    }

    /// Whether there is such a directory. The root is always there.
    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || self.now.get(dir) == Some(&Entry::Dir)
    }

    /// What is in a directory.
    pub(super) fn list(&self, dir: &Path) -> Vec<PathBuf> {
        self.now.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()
    }

    /// The names of a file.
    pub(super) fn of(&self, id: usize) -> impl Iterator<Item = &Path> {
        self.now.iter().filter(move |(_, entry)| **entry == Entry::File(id)).map(|(path, _)| path.as_path())
    }

    pub(super) fn change(&mut self, change: Change) {
        let dir = change.dir();
        change.clone().apply(&mut self.now);
        self.changes.entry(dir).or_default().push(change);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        for change in self.changes.remove(dir).unwrap_or_default() {
            change.apply(&mut self.synced);
        }
    }

    pub(super) fn cut_power(&mut self, chance: &mut SmallRng) {
        for changes in std::mem::take(&mut self.changes).into_values() {
            let kept = chance.random_range(0..=changes.len());
            changes.into_iter().take(kept).for_each(|change| change.apply(&mut self.synced));
        }
        let dirs = self.synced.iter().filter(|(_, entry)| **entry == Entry::Dir);
        let dirs: BTreeSet<PathBuf> = dirs.map(|(dir, _)| dir.clone()).collect();
        // What was in a directory that is gone is not found again.
        let is_there = |path: &Path| path.ancestors().skip(1).all(|dir| dir.parent().is_none() || dirs.contains(dir));
        self.synced.retain(|path, _| is_there(path));
        self.now = self.synced.clone();
    }
}

impl Change {
    fn dir(&self) -> PathBuf {
        let (Self::Make(path, _) | Self::Rename(_, path) | Self::Remove(path)) = self;
        path.parent().unwrap_or(path).to_owned()
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Make(path, entry) => {
                names.insert(path, entry);
            }
            Self::Rename(from, to) => {
                if let Some(entry) = names.remove(&from) {
                    names.insert(to, entry);
                }
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}
