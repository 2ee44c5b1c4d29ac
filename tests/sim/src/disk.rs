//! A disk with a power switch: what was not synced may be lost at a cut, in whole, in part, or only in the middle.
//!
//! After a cut, each sector that was written since the last sync holds what it held after one of these writes or before
//! all of them, whatever the other sectors hold; of a directory's names, the first few changes since it was synced are
//! there. Both are what file systems allow (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
//!
//! A process that is killed loses nothing that it wrote, but nothing becomes safer by it either: what it had not synced
//! is read by the next, and lost at a later cut. It may be killed before any one thing that it asks of the disk.

mod content;
mod names;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use rand::{Rng, rngs::SmallRng};
use skein_raft::{Volume, VolumeFile};
use tokio::time::sleep;

use self::{
    content::{Content, Write},
    names::{Change, Entry, Names},
};

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<Content>,
    names: Names,
    chance: SmallRng,
    /// What may go wrong with it now.
    trouble: Trouble,
    /// Whether the sync of a log says that it is done before it is: what it promises comes with the next one.
    is_lying: bool,
    /// Whether the sync of a log does nothing at all.
    is_idle: bool,
    /// Whether the process that used it was killed, so that nothing it still asks is done.
    is_dead: bool,
    /// Whether a sync of that process failed.
    has_failed: bool,
    syncs: u64,
}

#[derive(Default)]
struct Trouble {
    /// The longest that a sync takes, in milliseconds, if that is more than usual.
    slow_ms: Option<u64>,
    /// The bytes that there is room for, if there is an end to it.
    room: Option<u64>,
    /// So many syncs fail from now on.
    failing: u32,
    /// The process is killed at the change after so many; then somebody is told.
    kill: Option<(u32, Box<dyn FnOnce() + Send>)>,
}

/// The longest that a sync of a healthy disk takes, in milliseconds.
const PACE_MS: u64 = 8;

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(chance: SmallRng) -> Self {
        let (files, names, trouble) = (Vec::new(), Names::default(), Trouble::default());
        let (is_lying, is_idle, is_dead, has_failed) = (false, false, false, false);
        let state = State { files, names, chance, trouble, is_lying, is_idle, is_dead, has_failed, syncs: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A mistake: has each sync of a log say that it is done when the one before it is.
    pub fn lie(&self) {
        self.state().is_lying = true;
    }

    /// A mistake, for as long as it is made: the sync of a log does nothing, and says that it is done.
    pub fn idle(&self, is_idle: bool) {
        self.state().is_idle = is_idle;
    }

    /// Has each sync take up to so many milliseconds, or as long as usual.
    pub fn slow(&self, most_ms: Option<u64>) {
        self.state().trouble.slow_ms = most_ms;
    }

    /// Has no more room than so many bytes, or as much as one likes. What is removed makes room again.
    pub fn fill(&self, room: Option<u64>) {
        self.state().trouble.room = room;
    }

    /// Has the next syncs fail, so many of them.
    pub fn fail_syncs(&self, count: u32) {
        self.state().trouble.failing = count;
    }

    /// Has the process that uses it be killed at the change after so many; `died` is called then.
    pub fn kill_after(&self, changes: u32, died: impl FnOnce() + Send + 'static) {
        self.state().trouble.kill = Some((changes, Box::new(died)));
    }

    /// Serves a process that starts: nothing is about to kill it, and no sync to fail.
    pub fn begin(&self) {
        let state = &mut *self.state();
        (state.is_dead, state.has_failed) = (false, false);
        (state.trouble.kill, state.trouble.failing) = (None, 0);
    }

    /// Whether the process that uses it may fail: it was killed, or a sync of its own has failed.
    pub fn is_excused(&self) -> bool {
        let state = self.state();
        state.is_dead || state.has_failed
    }

    /// Whether there is an end to the room on it.
    pub fn is_filled(&self) -> bool {
        self.state().trouble.room.is_some()
    }

    /// Whether the process that uses it was killed.
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// The paths of what is in a directory, for who looks on.
    pub fn names(&self, dir: &Path) -> Vec<PathBuf> {
        self.state().names.list(dir)
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the power: what is left is what a restart finds.
    pub fn cut_power(&self) {
        let state = &mut *self.state();
        // Often nothing was on its way to the plates yet.
        let loses_all = state.chance.random();
        for content in &mut state.files {
            content.cut_power(&mut state.chance, loses_all);
        }
        state.names.cut_power(&mut state.chance);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does what a process asks for, if it lives.
    fn ask<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.state();
        if state.is_dead {
            return Err(killed());
        }
        act(state)
    }

    /// The same, if it is something that it may be killed before.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.ask(|state| {
            state.survives()?;
            act(state)
        })
    }

    fn file(&self, id: usize) -> Arc<dyn VolumeFile> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

impl State {
    /// Kills the process if it is time.
    fn survives(&mut self) -> io::Result<()> {
        match &mut self.trouble.kill {
            Some((left, _)) if *left > 0 => *left -= 1,
            Some(_) => {
                self.is_dead = true;
                if let Some((_, died)) = self.trouble.kill.take() {
                    died();
                }
                return Err(killed());
            }
            None => {}
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.file(path);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display())))
    }

    fn in_dir(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(dir) if !self.names.has_dir(dir) => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", dir.display())))
            }
            _ => Ok(()),
        }
    }

    /// Writes what there is room for.
    fn write(&mut self, id: usize, bytes: &[u8], offset: usize) -> io::Result<()> {
        let len = self.files[id].bytes.len();
        let grown = Write::At(offset, bytes.to_vec()).len_after(len) - len;
        let short = match &mut self.trouble.room {
            Some(room) => {
                let short = grown.saturating_sub(usize::try_from(*room).unwrap_or(usize::MAX));
                *room -= (grown - short) as u64;
                short
            }
            None => 0,
        };
        let written = bytes.len() - short.min(bytes.len());
        self.files[id].write(Write::At(offset, bytes[..written].to_vec()));
        if short > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, id: usize) -> io::Result<()> {
        self.syncs += 1;
        if self.trouble.failing > 0 {
            self.trouble.failing -= 1;
            self.has_failed = true;
            self.files[id].fail_to_sync(&mut self.chance);
            return Err(io::Error::other("the disk failed to sync"));
        }
        let is_log = self.names.of(id).any(|path| path.extension().is_some_and(|extension| extension == "log"));
        match (self.is_lying && is_log, self.is_idle && is_log) {
            (_, true) => {}
            (true, _) => self.files[id].promise(),
            _ => self.files[id].sync(),
        }
        Ok(())
    }
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

impl Volume for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = dir.ancestors().filter(|dir| !self.state().names.has_dir(dir)).collect();
        missing.reverse();
        for dir in missing {
            self.change(|state| {
                state.names.change(Change::Make(dir.to_owned(), Entry::Dir));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.ask(|state| Ok(state.names.list(dir)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.ask(|state| Ok(state.files[state.find(path)?].bytes.clone()))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        self.ask(|state| state.find(path)).map(|id| self.file(id))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VolumeFile>> {
        let id = self.change(|state| {
            state.in_dir(path)?;
            state.files.push(Content::default());
            let id = state.files.len() - 1;
            state.names.change(Change::Make(path.to_owned(), Entry::File(id)));
            Ok(id)
        })?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            state.find(from)?;
            state.names.change(Change::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let freed = state.files[state.find(path)?].bytes.len() as u64;
            state.names.change(Change::Remove(path.to_owned()));
            state.trouble.room = state.trouble.room.map(|room| room + freed);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|state| {
            state.names.sync(dir);
            Ok(())
        })
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        self.ask(|state| Ok(state.trouble.room.unwrap_or(u64::MAX)))
    }

    fn pace(&self) -> BoxFuture<'static, ()> {
        let state = &mut *self.state();
        let time = state.chance.random_range(0..=state.trouble.slow_ms.unwrap_or(PACE_MS));
        // tidy: sleeps because a disk takes its time; the clock is simulated.
        sleep(Duration::from_millis(time)).boxed()
    }

    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        // tidy: sleeps because that is what is asked for; the clock is simulated.
        sleep(time).boxed()
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
        self.disk.ask(|state| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let found = state.files[self.id].bytes.get(start..start + bytes.len());
            bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.disk.ask(|state| {
            // A process may be killed while it writes.
            state.survives().inspect_err(|_| {
                let written = state.chance.random_range(0..=bytes.len());
                let _ = state.write(self.id, &bytes[..written], offset);
            })?;
            state.write(self.id, bytes, offset)
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        self.disk.change(|state| {
            state.files[self.id].write(Write::Cut(len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(|state| state.sync(self.id))
    }
}
