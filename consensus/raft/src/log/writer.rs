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
    hard_state::{HardState, Place},
    lock,
    memory::{FrameRef, Memory, SegmentRef},
    segment::{PREFIX_BYTES, Prefix},
};
use crate::{
    Limits, metrics,
    volume::{Volume, VolumeFile, is_passing},
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

/// What may fail, and is not tried again after it did.
enum Step<'a> {
    Write(&'a [u8]),
    /// So many entries are made safe by it.
    Sync(u64),
    SaveVote(Bytes),
    Truncate(u64),
    Purge(u64, Bytes),
    Roll,
    Seal,
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
        if !is_open {
            // Its failure was logged, and the next start does without.
            let _ = self.guarded(Step::Seal).await;
        }
    }

    async fn take(&mut self, job: Job, batch: &mut Batch) {
        match job {
            Job::Append { first, entries, done } => self.gather(first, entries, done, batch).await,
            Job::Committed(id) => batch.hint = Some(id),
            Job::Close => {}
            Job::Vote { vote, done } => {
                self.flush(batch).await;
                self.volume.pace().await;
                done(self.guarded(Step::SaveVote(vote)).await);
            }
            Job::Truncate { next, done } => {
                self.flush(batch).await;
                done(self.guarded(Step::Truncate(next)).await);
            }
            Job::Purge { first, id, done } => {
                self.flush(batch).await;
                done(self.guarded(Step::Purge(first, id)).await);
            }
        }
    }

    async fn gather(&mut self, mut first: u64, entries: Vec<Bytes>, done: Done, batch: &mut Batch) {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            if self.offset + batch.bytes.len() as u64 >= self.limits.segment_bytes {
                // However much is in the queue, a segment stays so small that a start can read it as a whole.
                self.flush(batch).await;
            }
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            let frame_bytes = self.limits.frame_bytes;
            while let Some(entry) = entries.next_if(|entry| chunk.is_empty() || bytes + entry.len() <= frame_bytes) {
                bytes += entry.len() + 4;
                chunk.push(entry);
            }
            let next = first + chunk.len() as u64;
            let at = batch.bytes.len();
            batch.entries += chunk.len() as u64;
            Frame::Entries { first, entries: chunk }.write(self.synced, &mut batch.bytes);
            let payload_bytes = batch.bytes.len() - at - HEADER_BYTES;
            let (file, offset) = (self.file.clone(), self.offset + at as u64);
            batch.frames.push(FrameRef { file, offset, payload_bytes, first, next, before: 0 });
            first = next;
        }
        batch.waiting.push(done);
    }

    /// Writes and syncs the batch, tells who waits, and leaves the batch empty.
    async fn flush(&mut self, batch: &mut Batch) {
        let Batch { mut bytes, frames, hint, waiting, entries } = std::mem::take(batch);
        let entry_bytes = bytes.len();
        if let Some(id) = &hint {
            Frame::Committed(id.clone()).write(self.synced, &mut bytes);
        }
        if bytes.is_empty() {
            return;
        }
        let mut result = self.guarded(Step::Write(&bytes)).await;
        if result.is_ok() && entries > 0 {
            self.volume.pace().await;
            result = self.guarded(Step::Sync(entries)).await;
        }
        if result.is_ok() {
            let mut memory = lock(&self.memory);
            frames.into_iter().for_each(|frame| memory.add_frame(frame));
            memory.add_bytes(bytes.len() - entry_bytes);
            memory.committed = hint.or(memory.committed.take());
        }
        for done in waiting {
            done(copy(&result));
        }
        if self.offset >= self.limits.segment_bytes {
            // Its failure is kept in memory and met by the next job.
            let _ = self.guarded(Step::Roll).await;
        }
    }

    /// Does what may fail. After the first failure nothing is done any more: what a disk that failed to sync holds is
    /// not known, and asking it again would be answered with a success that means nothing.
    async fn guarded(&mut self, step: Step<'_>) -> io::Result<()> {
        if let Some((kind, fault)) = &lock(&self.memory).fault {
            return Err(io::Error::new(*kind, fault.clone()));
        }
        let result = match step {
            Step::Write(bytes) => self.write(bytes).await,
            Step::Sync(entries) => self.sync(entries),
            Step::SaveVote(vote) => self.save_vote(vote).await,
            Step::Truncate(next) => self.truncate(next).await,
            Step::Purge(first, id) => self.purge(first, id).await,
            Step::Roll => self.roll().await,
            Step::Seal => self.seal(),
        };
        if let Err(error) = &result {
            tracing::error!(dir = %self.dir.display(), %error, "the log cannot be written; this node stops voting");
            lock(&self.memory).fault = Some((error.kind(), error.to_string()));
        }
        result
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, offset) = (self.file.clone(), self.offset);
        self.with_room(|| file.write_all_at(bytes, offset)).await?;
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

    /// Tries again while the disk is full or descriptors are short. A write at a fixed offset may be repeated, and so may
    /// a file that is written aside: what an attempt left half-done is overwritten.
    async fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let started = Instant::now();
        loop {
            let result = attempt();
            let is_short = result.as_ref().is_err_and(is_passing);
            if self.is_stalled.swap(is_short, Ordering::Relaxed) != is_short {
                let why = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(is_short, why, dir = %self.dir.display(), "room for the log");
            }
            if !is_short || self.is_closing.load(Ordering::Relaxed) || started.elapsed() > FULL_DISK_PATIENCE {
                return result;
            }
            self.volume.pause(FULL_DISK_RETRY).await;
        }
    }

    /// Replaces the hard state, and notes in it up to where the log is on the disk now.
    async fn save(&self, mut hard: HardState) -> io::Result<HardState> {
        hard.synced = Some(Place { segment: self.number, offset: self.synced });
        self.with_room(|| hard.save(&*self.volume, &self.dir)).await?;
        Ok(hard)
    }

    async fn save_vote(&mut self, vote: Bytes) -> io::Result<()> {
        let mut hard = lock(&self.memory).hard.clone();
        hard.vote = Some(vote);
        let hard = self.save(hard).await?;
        lock(&self.memory).hard = hard;
        Ok(())
    }

    async fn truncate(&mut self, next: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        Frame::Truncate { next }.write(self.synced, &mut bytes);
        self.write(&bytes).await?;
        self.sync(0)?;
        lock(&self.memory).truncate(next);
        Ok(())
    }

    async fn purge(&mut self, first: u64, id: Bytes) -> io::Result<()> {
        let mut hard = lock(&self.memory).hard.clone();
        (hard.first, hard.purged) = (first, Some(id));
        lock(&self.memory).hard.first = first;
        let gone = lock(&self.memory).purged_segments();
        hard.oldest = gone.last().map_or(hard.oldest, |last| last + 1);
        let hard = self.save(hard).await?;
        {
            let mut memory = lock(&self.memory);
            memory.hard = hard;
            memory.purge(first);
            memory.segments.drain(..gone.len());
        }
        for number in gone {
            let path = segment_path(&self.dir, number);
            if let Err(error) = self.volume.remove(&path) {
                // It is not needed, and the next start tries again.
                tracing::warn!(file = %path.display(), %error, "a purged segment of the log cannot be removed");
            }
        }
        Ok(())
    }

    /// Closes the segment and begins the next.
    async fn roll(&mut self) -> io::Result<()> {
        self.sync(0)?;
        let (number, next) = (self.number + 1, lock(&self.memory).synced);
        let create = || create_segment(&*self.volume, &self.dir, Prefix { number, next });
        self.file = self.with_room(create).await?;
        (self.number, self.offset, self.synced) = (number, PREFIX_BYTES as u64, PREFIX_BYTES as u64);
        let mut hard = lock(&self.memory).hard.clone();
        hard.newest = number;
        let hard = self.save(hard).await?;
        let mut memory = lock(&self.memory);
        memory.hard = hard;
        memory.segments.push_back(SegmentRef { number, file: self.file.clone(), next });
        Ok(())
    }

    /// Notes, at an orderly end, that all of the log is on the disk: should the next start find less, it is not for a
    /// crash.
    fn seal(&mut self) -> io::Result<()> {
        self.sync(0)?;
        let mut hard = lock(&self.memory).hard.clone();
        hard.synced = Some(Place { segment: self.number, offset: self.synced });
        match hard.save(&*self.volume, &self.dir) {
            // There is no waiting for room at the end: the note before this one holds as well.
            Err(error) if is_passing(&error) => Ok(()),
            saved => saved,
        }
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

/// The same result for one more who waits.
pub(super) fn copy(result: &io::Result<()>) -> io::Result<()> {
    result.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string())).copied()
}
