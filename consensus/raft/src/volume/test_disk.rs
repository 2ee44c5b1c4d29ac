//! A disk in memory that can lose its power, its room, its descriptors and its syncs.
//!
//! A file is two things: what the system's cache shows, which survives the death of a process, and what is on the disk,
//! which survives a power cut. A sync that fails leaves the cache as it is and takes it for clean, as Linux does
//! (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020): only what is written again after that
//! comes to the disk with the next sync. Names come to the disk by the directory, in order.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Volume, VolumeFile};

/// A disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    /// Of each directory what is in it, and what a cut leaves.
    names: BTreeMap<PathBuf, Names>,
    faults: Faults,
}

/// What is wrong with a disk for now.
#[derive(Debug, Default, Clone)]
pub(crate) struct Faults {
    /// Bytes that may still be written; none for as many as one likes.
    pub(crate) room: Option<usize>,
    /// How many syncs succeed before one fails.
    pub(crate) good_syncs: Option<u64>,
    /// Whether no file can be opened.
    pub(crate) has_no_descriptors: bool,
    /// Whether nothing can be removed.
    pub(crate) cannot_remove: bool,
    /// Whether no names can be made durable.
    pub(crate) cannot_sync_names: bool,
}

#[derive(Debug, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Writes and cuts that are not on the disk, in order.
    dirty: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    At(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Debug, Default)]
struct Names {
    cached: BTreeMap<PathBuf, Option<usize>>,
    durable: BTreeMap<PathBuf, Option<usize>>,
    changes: Vec<(PathBuf, Option<Option<usize>>)>,
}

const SECTOR: usize = 512;

impl TestDisk {
    /// What is wrong from now on.
    pub(crate) fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The names in a directory.
    pub(crate) fn names(&self, dir: &Path) -> Vec<PathBuf> {
        self.list(dir).unwrap_or_default()
    }

    /// Changes the content of a file, as damage does: on the disk, too.
    pub(crate) fn damage(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
        let id = self.find(path).unwrap();
        let content = &mut self.state().files[id];
        damage(&mut content.cached);
        content.durable = content.cached.clone();
        content.dirty.clear();
    }

    /// Cuts the power. `choose(n)` says which of 0..=n unsynced changes came to the disk: asked for each sector, each
    /// cut of a length and each directory.
    pub(crate) fn cut_power(&self, mut choose: impl FnMut(usize) -> usize) {
        let state = &mut *self.state();
        for content in &mut state.files {
            content.cut_power(&mut choose);
        }
        for names in state.names.values_mut() {
            let kept = choose(names.changes.len());
            names.changes.drain(..).take(kept).for_each(|change| apply(&mut names.durable, change));
            names.cached = names.durable.clone();
        }
        // What lies in a directory without a name is gone with it.
        let all: Vec<PathBuf> = state.names.keys().cloned().collect();
        for dir in all {
            let Some(parent) = dir.parent() else { continue };
            let is_named = state.names.get(parent).is_some_and(|names| names.cached.contains_key(&dir));
            if !is_named {
                state.names.remove(&dir);
            }
        }
        state.faults = Faults::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let state = self.state();
        let names = path.parent().and_then(|dir| state.names.get(dir));
        let found = names.and_then(|names| names.cached.get(path).copied().flatten());
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display())))
    }

    fn name(&self, path: &Path, id: Option<Option<usize>>) -> io::Result<()> {
        let state = &mut *self.state();
        let names = path.parent().and_then(|dir| state.names.get_mut(dir)).ok_or(io::ErrorKind::NotFound)?;
        apply(&mut names.cached, (path.to_owned(), id));
        names.changes.push((path.to_owned(), id));
        Ok(())
    }

    fn check_descriptors(&self) -> io::Result<()> {
        match self.state().faults.has_no_descriptors {
            true => Err(rustix::io::Errno::MFILE.into()),
            false => Ok(()),
        }
    }

    fn file(&self, id: usize) -> Arc<dyn VolumeFile> {
        Arc::new(TestFile { disk: self.clone(), id })
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Option<usize>>, (path, id): (PathBuf, Option<Option<usize>>)) {
    match id {
        Some(id) => drop(names.insert(path, id)),
        None => drop(names.remove(&path)),
    }
}

impl Content {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.cached);
        self.dirty.push(write);
    }

    fn cut_power(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let dirty = std::mem::take(&mut self.dirty);
        let end = dirty.iter().map(Write::end).max().unwrap_or(0);
        for from in (0..end).step_by(SECTOR) {
            let pieces: Vec<Write> = dirty.iter().filter_map(|write| write.within(from..from + SECTOR)).collect();
            if !pieces.is_empty() {
                pieces[..choose(pieces.len())].iter().for_each(|piece| piece.apply(&mut self.durable));
            }
        }
        for cut in dirty.iter().filter(|write| matches!(write, Write::Cut(_))) {
            if choose(1) == 1 {
                cut.apply(&mut self.durable);
            }
        }
        self.cached = self.durable.clone();
    }
}

impl Write {
    fn end(&self) -> usize {
        match self {
            Self::At(offset, bytes) => offset + bytes.len(),
            Self::Cut(_) => 0,
        }
    }

    /// What it writes to a sector.
    fn within(&self, sector: std::ops::Range<usize>) -> Option<Self> {
        let Self::At(offset, bytes) = self else { return None };
        let (from, to) = (sector.start.max(*offset), sector.end.min(offset + bytes.len()));
        (from < to).then(|| Self::At(from, bytes[from - offset..to - offset].to_vec()))
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::At(offset, written) => {
                let end = offset + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Cut(len) => bytes.resize(*len, 0),
        }
    }
}

impl Volume for TestDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        for dir in dir.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let is_there = self.state().names.contains_key(dir);
            if !is_there {
                self.state().names.insert(dir.to_owned(), Names::default());
                if dir.parent().is_some() {
                    self.name(dir, Some(None))?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        let names = state.names.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(names.cached.keys().cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.check_descriptors()?;
        let id = self.find(path)?;
        Ok(self.state().files[id].cached.clone())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.check_descriptors()?;
        self.find(path).map(|id| self.file(id))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.check_descriptors()?;
        let id = {
            let state = &mut *self.state();
            state.files.push(Content::default());
            state.files.len() - 1
        };
        self.name(path, Some(Some(id)))?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        // One change of the directory, be it that its halves are listed one by one: `to` comes first.
        self.name(to, Some(Some(id)))?;
        self.name(from, None)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        if self.state().faults.cannot_remove {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.name(path, None)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        if state.faults.cannot_sync_names {
            return Err(io::ErrorKind::Other.into());
        }
        let names = state.names.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        names.changes.clear();
        names.durable = names.cached.clone();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.state().faults.room.map_or(u64::MAX, |room| room as u64))
    }

    fn pace(&self) -> BoxFuture<'static, ()> {
        // A place at which the process may end between a write and its sync.
        tokio::task::yield_now().boxed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        // tidy: sleeps because whoever waits for room on a disk lets time pass; the clock of the tests is paused.
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
struct TestFile {
    disk: TestDisk,
    id: usize,
}

impl VolumeFile for TestFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = state.files[self.id].cached.get(start..start + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let state = &mut *self.disk.state();
        let fitting = state.faults.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if let Some(room) = &mut state.faults.room {
            *room -= fitting;
        }
        state.files[self.id].write(Write::At(offset, bytes[..fitting].to_vec()));
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        self.disk.state().files[self.id].write(Write::Cut(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let fails = state.faults.good_syncs == Some(0);
        state.faults.good_syncs = state.faults.good_syncs.and_then(|left| left.checked_sub(1));
        let content = &mut state.files[self.id];
        let dirty = std::mem::take(&mut content.dirty);
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        dirty.iter().for_each(|write| write.apply(&mut content.durable));
        Ok(())
    }
}
