//! A disk with a power switch: what was not synced may be lost at a cut, in whole, in part, or only in the middle.
//!
//! After a cut, each sector that was written since the last sync holds what it held after one of these writes or before
//! all of them, whatever the other sectors hold; of the names, the first few changes since the last sync are there. Both
//! are what file systems allow (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use rand::{Rng, rngs::SmallRng};
use skein_raft::{Volume, VolumeFile};

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    /// What a cut leaves of the names.
    synced_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since, in order.
    changes: Vec<Change>,
    chance: SmallRng,
    is_slow: bool,
    /// Whether the sync of a log says that it is done before it is: what it promises comes with the next one.
    is_lying: bool,
    syncs: u64,
}

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Writes and cuts since, in order.
    writes: Vec<Write>,
    /// How many of them a sync was lied about.
    promised: usize,
}

#[derive(Clone)]
enum Write {
    At(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// The unit in which a disk writes, or does not.
const SECTOR: usize = 512;

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(chance: SmallRng, is_lying: bool) -> Self {
        let (names, synced_names) = (BTreeMap::new(), BTreeMap::new());
        let (files, changes) = (Vec::new(), Vec::new());
        let state = State { files, names, synced_names, changes, chance, is_slow: false, is_lying, syncs: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Has each sync take up to half a second, or no longer.
    pub fn slow(&self, is_slow: bool) {
        self.state().is_slow = is_slow;
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the power: what is left is what a restart finds.
    pub fn cut_power(&self) {
        let state = &mut *self.state();
        for content in &mut state.files {
            content.cut_power(&mut state.chance);
        }
        let kept = state.chance.random_range(0..=state.changes.len());
        let changes: Vec<Change> = state.changes.drain(..).take(kept).collect();
        for change in changes {
            change.apply(&mut state.synced_names);
        }
        state.names = state.synced_names.clone();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.state().names.get(path).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display())))
    }

    fn change(&self, change: Change) {
        let state = &mut *self.state();
        change.clone().apply(&mut state.names);
        state.changes.push(change);
    }

    fn file(&self, id: usize) -> Arc<dyn VolumeFile> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

impl Content {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.bytes);
        self.writes.push(write);
    }

    fn sync(&mut self) {
        self.promised = self.writes.len();
        self.keep_promises();
    }

    fn keep_promises(&mut self) {
        for write in self.writes.drain(..self.promised) {
            write.apply(&mut self.synced);
        }
        self.promised = 0;
    }

    /// A sync that is always one behind.
    fn promise(&mut self) {
        self.keep_promises();
        self.promised = self.writes.len();
    }

    fn cut_power(&mut self, chance: &mut SmallRng) {
        let writes = std::mem::take(&mut self.writes);
        self.promised = 0;
        let sectors: BTreeSet<usize> = writes.iter().flat_map(Write::sectors).collect();
        for sector in sectors {
            let pieces: Vec<Write> = writes.iter().filter_map(|write| write.within(sector)).collect();
            let kept = match chance.random_range(0..10) {
                0..4 => 0,
                4..8 => pieces.len(),
                _ => chance.random_range(0..=pieces.len()),
            };
            pieces[..kept].iter().for_each(|piece| piece.apply(&mut self.synced));
        }
        // Lengths are kept by the journal, in order.
        let cuts = writes.iter().filter(|write| matches!(write, Write::Cut(_)));
        cuts.filter(|_| chance.random()).for_each(|cut| cut.apply(&mut self.synced));
        self.bytes = self.synced.clone();
    }
}

impl Write {
    /// The sectors that it touches.
    fn sectors(&self) -> std::ops::Range<usize> {
        match self {
            Self::At(offset, bytes) => offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR),
            Self::Cut(_) => 0..0,
        }
    }

    /// What it writes to one of them.
    fn within(&self, sector: usize) -> Option<Self> {
        let Self::At(offset, bytes) = self else { return None };
        let (from, to) = ((sector * SECTOR).max(*offset), ((sector + 1) * SECTOR).min(offset + bytes.len()));
        (from < to).then(|| Self::At(from, bytes[from - offset..to - offset].to_vec()))
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::At(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Cut(len) => bytes.resize(*len, 0),
        }
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, id) => {
                names.insert(path, id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(&from) {
                    names.insert(to, id);
                }
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}

impl Volume for SimDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state().names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let id = self.find(path)?;
        Ok(self.state().files[id].bytes.clone())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.find(path).map(|id| self.file(id))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let id = {
            let state = &mut *self.state();
            state.files.push(Content::default());
            state.files.len() - 1
        };
        self.change(Change::Create(path.to_owned(), id));
        Ok(self.file(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.find(from)?;
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        // One journal for all directories: syncing one of them brings the changes of all before it.
        let state = &mut *self.state();
        state.changes.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn pace(&self) -> BoxFuture<'static, ()> {
        let longest = if self.state().is_slow { 500 } else { 8 };
        let time = self.state().chance.random_range(0..=longest);
        // tidy: sleeps because a disk takes its time; the clock is simulated.
        tokio::time::sleep(Duration::from_millis(time)).boxed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        // tidy: sleeps because whoever waits for room on a disk lets time pass; the clock is simulated.
        tokio::time::sleep(time).boxed()
    }

    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, io::Result<()>> {
        async move {
            work();
            Ok(())
        }
        .boxed()
    }

    fn start(&self, _: String, work: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, io::Result<()>>> {
        Ok(tokio::spawn(work).map(|ended| ended.map_err(io::Error::other)).boxed())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: usize,
}

impl VolumeFile for SimFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = state.files[self.id].bytes.get(start..start + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.disk.state().files[self.id].write(Write::At(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        self.disk.state().files[self.id].write(Write::Cut(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.syncs += 1;
        let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
        let lies = state.is_lying && state.names.iter().any(|(path, id)| *id == self.id && is_log(path));
        let content = &mut state.files[self.id];
        if lies {
            content.promise()
        } else {
            content.sync()
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn disk(seed: u64, is_lying: bool) -> SimDisk {
        SimDisk::new(SmallRng::seed_from_u64(seed), is_lying)
    }

    /// What is left of `synced` and then `late` after a cut.
    fn left(seed: u64, is_lying: bool) -> Vec<u8> {
        let (disk, path) = (disk(seed, is_lying), Path::new("/d/f.log"));
        let file = disk.create(path).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[1; 700], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[2; 700], 700).unwrap();
        disk.cut_power();
        disk.read(path).unwrap()
    }

    #[test]
    fn what_was_synced_is_there_after_a_cut_and_the_rest_may_be() {
        let all: Vec<Vec<u8>> = (0..200).map(|seed| left(seed, false)).collect();
        assert!(all.iter().all(|bytes| bytes[..700] == [1; 700]));
        assert!(all.iter().any(|bytes| bytes.len() == 700), "nothing of the rest");
        assert!(all.iter().any(|bytes| bytes.get(700..) == Some(&[2; 700])), "all of it");
        assert!(all.iter().any(|bytes| bytes.len() == 1_400 && bytes[700..].contains(&0)), "a hole in it");
    }

    #[test]
    fn a_sync_that_lies_keeps_nothing_for_certain() {
        assert!((0..50).any(|seed| left(seed, true).is_empty()));
    }

    #[test]
    fn a_name_is_certain_once_its_directory_is_synced() {
        let (old, new, dir) = (Path::new("/d/old"), Path::new("/d/new"), Path::new("/d"));
        let found = |seed| {
            let disk = disk(seed, false);
            disk.create(old).unwrap();
            disk.sync_dir(dir).unwrap();
            disk.rename(old, new).unwrap();
            disk.cut_power();
            disk.list(dir).unwrap()
        };
        let all: Vec<_> = (0..50).map(found).collect();
        assert!(all.iter().all(|names| names.len() == 1));
        assert!(all.iter().any(|names| names == &[old]) && all.iter().any(|names| names == &[new]));
    }
}
