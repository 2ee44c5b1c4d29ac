//! The thread that writes the log: it drains its queue, writes once, syncs once, then answers.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::{
    frame::{Frame, HEADER_BYTES},
    lock,
    memory::{FrameRef, Memory, SegmentRef},
    segment::{PREFIX_BYTES, Prefix},
};
use crate::{
    Limits, metrics,
    volume::{Volume, VolumeFile},
};

/// What is told when a job is done.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the writer may be asked for. Jobs are done in the order of their arrival.
pub(super) enum Job {
    /// Entries that are already in memory, from this index on.
    Append { first: u64, entries: Vec<Bytes>, done: Done },
    /// A hint of what is committed; written, not synced.
    Committed(Bytes),
    /// A new vote.
    Vote { vote: Bytes, done: Done },
    /// The entries from `next` on are to go.
    Truncate { next: u64, done: Done },
    /// The entries before `first` are to go; the last of them has this id.
    Purge { first: u64, id: Bytes, done: Done },
    /// Nothing comes after what is in the queue now.
    Close,
}

/// Jobs drained at once: what 256 waiting proposers can have in the queue, many times over.
const DRAIN_MAX: usize = 1_024;

/// How often a write is tried again on a full disk, and for how long before the log gives up.
const FULL_DISK_RETRY: Duration = Duration::from_millis(200);
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(600);

/// The state of the thread.
pub(super) struct Writer {
    pub(super) volume: Arc<dyn Volume>,
    pub(super) dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// True while the disk has no room for what must be written.
    pub(super) is_stalled: Arc<AtomicBool>,
    /// Set when the log is closed, so that waiting for room ends.
    pub(super) is_closing: Arc<AtomicBool>,
    pub(super) file: Arc<dyn VolumeFile>,
    pub(super) number: u64,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// Up to where the segment is known to be on the disk.
    pub(super) synced: u64,
}

/// Frames on their way to the disk, and who waits for them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<FrameRef>,
    hint: Option<Bytes>,
    waiting: Vec<Done>,
    entries: u64,
}

impl Writer {
    /// Works until the log is dropped or closed.
    pub(super) async fn run(mut self) {
        let mut drained = Vec::new();
        let mut is_open = true;
        while is_open && self.jobs.recv_many(&mut drained, DRAIN_MAX).await > 0 {
            let mut batch = Batch::default();
            for job in drained.drain(..) {
                is_open &= !matches!(job, Job::Close);
                self.take(job, &mut batch).await;
            }
            self.flush(&mut batch).await;
        }
    }

    async fn take(&mut self, job: Job, batch: &mut Batch) {
        match job {
            Job::Append { first, entries, done } => self.gather(first, entries, done, batch),
            Job::Committed(id) => batch.hint = Some(id),
            Job::Close => {}
            Job::Vote { vote, done } => {
                self.flush(batch).await;
                self.volume.pace().await;
                done(self.guarded(|writer| writer.save_vote(vote)));
            }
            Job::Truncate { next, done } => {
                self.flush(batch).await;
                done(self.guarded(|writer| writer.truncate(next)));
            }
            Job::Purge { first, id, done } => {
                self.flush(batch).await;
                done(self.guarded(|writer| writer.purge(first, id)));
            }
        }
    }

    fn gather(&mut self, mut first: u64, entries: Vec<Bytes>, done: Done, batch: &mut Batch) {
        let frame_bytes = self.limits.frame_bytes;
        batch.entries += entries.len() as u64;
        batch.waiting.push(done);
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while let Some(entry) = entries.next_if(|entry| chunk.is_empty() || bytes + entry.len() <= frame_bytes) {
                bytes += entry.len() + 4;
                chunk.push(entry);
            }
            let next = first + chunk.len() as u64;
            let at = batch.bytes.len();
            Frame::Entries { first, entries: chunk }.write(self.synced, &mut batch.bytes);
            let payload_bytes = batch.bytes.len() - at - HEADER_BYTES;
            let (file, offset) = (self.file.clone(), self.offset + at as u64);
            batch.frames.push(FrameRef { file, offset, payload_bytes, first, next });
            first = next;
        }
    }

    /// Writes and syncs the batch, tells who waits, and leaves the batch empty.
    async fn flush(&mut self, batch: &mut Batch) {
        let Batch { mut bytes, frames, hint, waiting, entries } = std::mem::take(batch);
        if let Some(id) = &hint {
            Frame::Committed(id.clone()).write(self.synced, &mut bytes);
        }
        if bytes.is_empty() {
            return;
        }
        let mut result = self.guarded(|writer| writer.write(&bytes));
        if result.is_ok() && entries > 0 {
            self.volume.pace().await;
            result = self.guarded(|writer| writer.sync(entries));
        }
        if result.is_ok() {
            let mut memory = lock(&self.memory);
            frames.into_iter().for_each(|frame| memory.add_frame(frame));
            memory.committed = hint.or(memory.committed.take());
        }
        for done in waiting {
            done(copy(&result));
        }
        if self.offset >= self.limits.segment_bytes {
            // Its failure is kept in memory and met by the next job.
            let _ = self.guarded(Self::roll);
        }
    }

    /// Does what may fail. After the first failure nothing is done any more: what a disk that failed to sync holds is
    /// not known, and asking it again would be answered with a success that means nothing.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if let Some((kind, fault)) = &lock(&self.memory).fault {
            return Err(io::Error::new(*kind, fault.clone()));
        }
        let result = work(self);
        if let Err(error) = &result {
            tracing::error!(dir = %self.dir.display(), %error, "the log cannot be written; this node stops voting");
            lock(&self.memory).fault = Some((error.kind(), error.to_string()));
        }
        result
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, offset) = (self.file.clone(), self.offset);
        self.with_room(|| file.write_all_at(bytes, offset))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self, entries: u64) -> io::Result<()> {
        let started = Instant::now();
        self.file.sync()?;
        self.synced = self.offset;
        metrics::synced(started.elapsed(), entries);
        Ok(())
    }

    /// Tries again while the disk is full. A write at a fixed offset may be repeated: what it left half-done is
    /// overwritten.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let started = Instant::now();
        loop {
            let result = attempt();
            let is_full = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
            if self.is_stalled.swap(is_full, Ordering::Relaxed) != is_full {
                tracing::warn!(is_full, dir = %self.dir.display(), "room for the log");
            }
            if !is_full || self.is_closing.load(Ordering::Relaxed) || started.elapsed() > FULL_DISK_PATIENCE {
                return result;
            }
            std::thread::sleep(FULL_DISK_RETRY);
        }
    }

    fn save_vote(&mut self, vote: Bytes) -> io::Result<()> {
        let mut hard = lock(&self.memory).hard.clone();
        hard.vote = Some(vote);
        self.with_room(|| hard.save(&*self.volume, &self.dir))?;
        lock(&self.memory).hard = hard;
        Ok(())
    }

    fn truncate(&mut self, next: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        Frame::Truncate { next }.write(self.synced, &mut bytes);
        self.write(&bytes)?;
        self.sync(0)?;
        lock(&self.memory).truncate(next);
        Ok(())
    }

    fn purge(&mut self, first: u64, id: Bytes) -> io::Result<()> {
        let mut hard = lock(&self.memory).hard.clone();
        (hard.first, hard.purged) = (first, Some(id));
        lock(&self.memory).hard.first = first;
        let gone = lock(&self.memory).purged_segments();
        hard.oldest = gone.last().map_or(hard.oldest, |last| last + 1);
        self.with_room(|| hard.save(&*self.volume, &self.dir))?;
        {
            let mut memory = lock(&self.memory);
            memory.hard = hard;
            memory.purge(first);
            memory.segments.drain(..gone.len());
        }
        for number in gone {
            self.volume.remove(&segment_path(&self.dir, number))?;
        }
        Ok(())
    }

    /// Closes the segment and begins the next.
    fn roll(&mut self) -> io::Result<()> {
        self.file.sync()?;
        let (number, next) = (self.number + 1, lock(&self.memory).synced);
        self.file = self.with_room(|| create_segment(&*self.volume, &self.dir, Prefix { number, next }))?;
        let mut hard = lock(&self.memory).hard.clone();
        hard.newest = number;
        self.with_room(|| hard.save(&*self.volume, &self.dir))?;
        (self.number, self.offset, self.synced) = (number, PREFIX_BYTES as u64, PREFIX_BYTES as u64);
        let mut memory = lock(&self.memory);
        memory.hard = hard;
        memory.segments.push_back(SegmentRef { number, file: self.file.clone(), next });
        Ok(())
    }
}

/// The file of a segment.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// Makes a segment without frames. When it returns, the file and its name are on the disk.
pub(super) fn create_segment(volume: &dyn Volume, dir: &Path, prefix: Prefix) -> io::Result<Arc<dyn VolumeFile>> {
    let path = segment_path(dir, prefix.number);
    let file = volume.create(&path)?;
    file.write_all_at(&prefix.to_bytes(), 0)?;
    file.sync()?;
    volume.sync_dir(dir)?;
    Ok(file)
}

fn copy(result: &io::Result<()>) -> io::Result<()> {
    result.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string())).copied()
}
