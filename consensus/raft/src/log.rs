//! The log of one node: entries by index, a vote, and the promise that what was acknowledged is still there.
//!
//! Knows nothing of Raft: entries, votes and ids are bytes to it; see `storage` for what they mean.
//!
//! ```text
//! append ──> memory ──> queue ──> writer thread: drain, one write, one fdatasync, then all callbacks
//! read <──── memory, else the frame on disk, its checksum verified again
//! ```
//! The log is a row of segments that are only ever appended to; a truncation is a frame like any other. A batch is one
//! frame or a few, so that no reader takes part of a write that never finished for the whole. A purge deletes segments
//! as a whole. After an error in writing or syncing nothing is written any more: what a disk holds that failed to sync
//! is not known. A full disk is waited out.

mod frame;
mod hard_state;
mod memory;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::recovery::Origin;
use self::{
    frame::{ENTRY_BYTES_MAX, Frame, HEADER_BYTES},
    memory::{FrameRef, Memory},
    segment::frame_at,
    writer::{Job, Writer},
};
use crate::{
    StartError,
    planted::{self, Planted},
    volume::{self, Volume},
};

/// A handle on the log; clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    volume: Arc<dyn Volume>,
    dir: PathBuf,
    memory: Arc<Mutex<Memory>>,
    jobs: mpsc::Sender<Job>,
    is_stalled: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    /// Waits for the end of the writer.
    writer: Mutex<Option<BoxFuture<'static, io::Result<()>>>>,
}

/// Jobs that may wait for the writer; whoever wants to append more waits itself.
const QUEUE_MAX: usize = 1_024;

/// How often a read starts over because the log was changed under it.
const READS_MAX: usize = 5;

impl Log {
    /// Opens the log in `dir`, which is made as needed. Reads all of it: a few segments.
    pub(crate) fn open(volume: &Arc<dyn Volume>, dir: &Path, origin: &Origin) -> Result<Self, StartError> {
        let recovered = recovery::recover(&**volume, dir, origin)?;
        let memory = Arc::new(Mutex::new(recovered.memory));
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (is_stalled, is_closing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writer = Writer {
            volume: volume.clone(),
            dir: dir.to_owned(),
            limits: origin.limits,
            memory: memory.clone(),
            jobs: queue,
            is_stalled: is_stalled.clone(),
            is_closing: is_closing.clone(),
            file: recovered.file,
            number: recovered.number,
            offset: recovered.offset,
            synced: recovered.offset,
        };
        let end = volume.start(format!("raft-log-{}", origin.node), writer.run().boxed());
        let writer = Mutex::new(Some(end.map_err(StartError::io("start the writer of", dir))?));
        let (volume, dir) = (volume.clone(), dir.to_owned());
        let inner = Inner { volume, dir, memory, jobs, is_stalled, is_closing, writer };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The indexes that are in the log.
    pub(crate) fn range(&self) -> Range<u64> {
        let memory = lock(&self.inner.memory);
        memory.hard.first..memory.next
    }

    /// The id of the last purged entry.
    pub(crate) fn purged(&self) -> Option<Bytes> {
        lock(&self.inner.memory).hard.purged.clone()
    }

    /// The last vote that was saved.
    pub(crate) fn vote(&self) -> Option<Bytes> {
        lock(&self.inner.memory).hard.vote.clone()
    }

    /// The last hint of what is committed.
    pub(crate) fn committed(&self) -> Option<Bytes> {
        lock(&self.inner.memory).committed.clone()
    }

    /// Why nothing more is written, once that is so.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.inner.memory).fault.as_ref().map(|(_, fault)| fault.clone())
    }

    /// Whether a write waits for room on the disk.
    pub(crate) fn is_stalled(&self) -> bool {
        self.inner.is_stalled.load(Ordering::Relaxed)
    }

    /// Adds entries at the end. They can be read when this returns, and are on the disk when `done` is told so.
    pub(crate) async fn append(
        &self,
        first: u64,
        entries: Vec<Bytes>,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<()> {
        if let Some(entry) = entries.iter().find(|entry| entry.len() > ENTRY_BYTES_MAX) {
            let what =
                format!("an entry of {} bytes could not be read again; at most {ENTRY_BYTES_MAX} can", entry.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if entries.is_empty() {
            done(Ok(()));
            return Ok(());
        }
        {
            let mut memory = lock(&self.inner.memory);
            if first != memory.next {
                let what =
                    format!("entries from index {first} on would follow a log that goes on with {}", memory.next);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            entries.iter().for_each(|entry| memory.push(entry.clone()));
        }
        self.submit(Job::Append { first, entries, done: Box::new(done) }).await
    }

    /// Bytes of the log from the entry at `index` on: what a start would have to read again.
    pub(crate) fn bytes_from(&self, index: u64) -> u64 {
        lock(&self.inner.memory).bytes_from(index)
    }

    /// The first index from which on the log holds at most so many bytes.
    pub(crate) fn first_within(&self, bytes: u64) -> u64 {
        lock(&self.inner.memory).first_within(bytes)
    }

    /// Notes what is committed, without waiting for the disk.
    pub(crate) async fn save_committed(&self, id: Bytes) -> io::Result<()> {
        self.submit(Job::Committed(id)).await
    }

    /// Saves a vote. It is on the disk when this returns.
    pub(crate) async fn save_vote(&self, vote: Bytes) -> io::Result<()> {
        self.and_wait(|done| Job::Vote { vote, done }).await
    }

    /// Removes the entries from `next` on. They stay removed when this has returned.
    pub(crate) async fn truncate(&self, next: u64) -> io::Result<()> {
        self.and_wait(|done| Job::Truncate { next, done }).await
    }

    /// Removes the entries before `first`, the last of which has this id; the log goes on with `first` at least.
    pub(crate) async fn purge(&self, first: u64, id: Bytes) -> io::Result<()> {
        self.and_wait(|done| Job::Purge { first, id, done }).await
    }

    /// The entries of `range` that the log has, with the index of the first of them.
    pub(crate) async fn read(&self, range: Range<u64>) -> io::Result<(u64, Vec<Bytes>)> {
        let mut failed = None;
        for _ in 0..READS_MAX {
            let located = lock(&self.inner.memory).locate(&range);
            if located.frames.is_empty() {
                return Ok((located.range.start, located.cached));
            }
            if planted::is(Planted::RangeBeforeCache) && located.cached.is_empty() {
                return Err(io::Error::other(format!("entries {:?} lie before the cache", located.range)));
            }
            let on_disk = located.range.start..located.range.end - located.cached.len() as u64;
            let frames = located.frames;
            let read = volume::run(&*self.inner.volume, move || read_frames(&frames, &on_disk)).await;
            match read? {
                Ok(mut entries) => {
                    entries.extend(located.cached);
                    return Ok((located.range.start, entries));
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::other("the log could not be read")))
    }

    /// From now on a write that finds no room fails at once: openraft waits for its vote while it is told to end, and the
    /// log is closed only after that.
    pub(crate) fn begin_close(&self) {
        self.inner.is_closing.store(true, Ordering::Relaxed);
    }

    /// Writes what is in the queue and ends the writer. The log can be read on, not written.
    pub(crate) async fn close(&self) -> io::Result<()> {
        self.begin_close();
        // Refused when the writer has ended already.
        let _ = self.inner.jobs.send(Job::Close).await;
        let writer = lock(&self.inner.writer).take();
        match writer {
            Some(end) => end.await,
            None => Ok(()),
        }
    }

    /// The directory of the log.
    pub(crate) fn dir(&self) -> &Path {
        &self.inner.dir
    }

    async fn submit(&self, job: Job) -> io::Result<()> {
        if let Some((kind, fault)) = &lock(&self.inner.memory).fault {
            return Err(io::Error::new(*kind, fault.clone()));
        }
        self.inner.jobs.send(job).await.map_err(|_| io::Error::other("the log is closed"))
    }

    async fn and_wait(&self, job: impl FnOnce(writer::Done) -> Job) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        // Whoever waits may have gone away; the work is done all the same.
        self.submit(job(Box::new(move |result| drop(tx.send(result))))).await?;
        rx.await.unwrap_or_else(|_| Err(io::Error::other("the log is closed")))
    }
}

/// The entries of `range` in these frames, each verified by its checksum.
fn read_frames(frames: &[FrameRef], range: &Range<u64>) -> io::Result<Vec<Bytes>> {
    let mut found = Vec::with_capacity((range.end - range.start) as usize);
    for frame in frames {
        let mut bytes = vec![0; HEADER_BYTES + frame.payload_bytes];
        frame.file.read_exact_at(&mut bytes, frame.offset)?;
        let placed = frame_at(&Bytes::from(bytes), 0);
        let corrupt = |what| io::Error::new(io::ErrorKind::InvalidData, format!("at byte {}: {what}", frame.offset));
        let Frame::Entries { first, entries } = placed.map_err(corrupt)?.frame else {
            return Err(corrupt("not a frame of entries"));
        };
        let wanted = range.start.max(frame.first)..range.end.min(frame.next);
        let skipped = (wanted.start - first) as usize;
        found.extend(entries.into_iter().skip(skipped).take((wanted.end - wanted.start) as usize));
    }
    if found.len() as u64 == range.end - range.start {
        Ok(found)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("entries of {range:?} are missing")))
    }
}

/// The lock's content. A panic elsewhere leaves it whole: nothing that is done under it can fail half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
