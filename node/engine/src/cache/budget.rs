//! How much of the disk each module takes, and who leaves when it is too much. Pure.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use skein_proto::Digest;

use crate::metrics;

/// Of the budget, what is left in use once something has to go, so that not every file costs a look at all.
const KEPT_PERCENT: u64 = 90;

/// What is on the disk.
#[derive(Debug, Default)]
pub(super) struct Usage {
    files: HashMap<PathBuf, (Digest, u64)>,
    bytes: u64,
    /// When each module was last used, as a count of uses.
    used: HashMap<Digest, u64>,
    uses: u64,
}

impl Usage {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Starts anew with `files`, the oldest first. What was not known counts as used in this order, now.
    pub(super) fn recount(&mut self, files: impl Iterator<Item = (Digest, PathBuf, u64)>) {
        (self.files, self.bytes) = (HashMap::new(), 0);
        for (digest, path, bytes) in files {
            if !self.used.contains_key(&digest) {
                self.touch(digest);
            }
            self.add_file(digest, &path, bytes);
        }
        let present: HashSet<Digest> = self.files.values().map(|(digest, _)| *digest).collect();
        self.used.retain(|digest, _| present.contains(digest));
        self.show();
    }

    pub(super) fn add(&mut self, digest: Digest, path: &Path, bytes: u64) {
        self.touch(digest);
        self.add_file(digest, path, bytes);
        self.show();
    }

    fn add_file(&mut self, digest: Digest, path: &Path, bytes: u64) {
        let before = self.files.insert(path.to_path_buf(), (digest, bytes));
        self.bytes = self.bytes - before.map_or(0, |(_, bytes)| bytes) + bytes;
    }

    pub(super) fn subtract(&mut self, path: &Path) {
        if let Some((_, bytes)) = self.files.remove(path) {
            self.bytes -= bytes;
            self.show();
        }
    }

    pub(super) fn touch(&mut self, digest: Digest) {
        self.uses += 1;
        self.used.insert(digest, self.uses);
    }

    /// The modules whose files have to leave for the rest to fit well below `bytes_max`.
    pub(super) fn leaving(&self, bytes_max: u64, is_in_use: impl Fn(Digest) -> bool) -> Vec<(Digest, Vec<PathBuf>)> {
        if self.bytes <= bytes_max {
            return Vec::new();
        }
        let mut modules: HashMap<Digest, (u64, Vec<PathBuf>)> = HashMap::new();
        for (path, (digest, bytes)) in &self.files {
            let module = modules.entry(*digest).or_default();
            module.0 += bytes;
            module.1.push(path.clone());
        }
        let mut modules: Vec<_> = modules.into_iter().filter(|(digest, _)| !is_in_use(*digest)).collect();
        modules.sort_by_key(|(digest, _)| self.used.get(digest).copied().unwrap_or(0));
        let kept = bytes_max / 100 * KEPT_PERCENT;
        let mut bytes = self.bytes;
        let mut leaving = Vec::new();
        for (digest, (module_bytes, paths)) in modules {
            if bytes <= kept {
                break;
            }
            bytes -= module_bytes;
            leaving.push((digest, paths));
        }
        leaving
    }

    fn show(&self) {
        ::metrics::gauge!(metrics::CACHE_BYTES).set(self.bytes as f64);
    }
}
