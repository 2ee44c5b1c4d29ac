//! What a log knows without reading: where each entry lies, and the newest entries themselves.

use std::{collections::VecDeque, io, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{frame::HEADER_BYTES, hard_state::HardState};
use crate::volume::VolumeFile;

/// A frame of entries on the disk. Those of its entries that were truncated since are not counted.
#[derive(Debug, Clone)]
pub(super) struct FrameRef {
    pub(super) file: Arc<dyn VolumeFile>,
    pub(super) offset: u64,
    pub(super) payload_bytes: usize,
    pub(super) first: u64,
    pub(super) next: u64,
    /// Bytes of all frames that came before it.
    pub(super) before: u64,
}

/// A segment on the disk. The last one is being written.
#[derive(Debug, Clone)]
pub(super) struct SegmentRef {
    pub(super) number: u64,
    pub(super) file: Arc<dyn VolumeFile>,
    /// One more than the largest index it ever held.
    pub(super) next: u64,
}

/// The log as its readers see it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) hard: HardState,
    /// The index that the next entry gets.
    pub(super) next: u64,
    pub(super) segments: VecDeque<SegmentRef>,
    pub(super) frames: VecDeque<FrameRef>,
    pub(super) committed: Option<Bytes>,
    /// Entries below this index are on the disk.
    pub(super) synced: u64,
    /// Bytes of all frames that were written so far, those that are gone again included.
    written: u64,
    /// The newest entries, so that replication and apply seldom read the disk.
    cache: VecDeque<Bytes>,
    cache_bytes: usize,
    /// The bytes of the cache that are kept. Entries that are not on the disk yet are kept beyond it.
    cache_bytes_max: usize,
    /// Why nothing more is written, once that is so.
    pub(super) fault: Option<(io::ErrorKind, String)>,
}

/// Where the entries of a range are found: first these frames, then these entries.
#[derive(Debug, Default)]
pub(super) struct Located {
    pub(super) range: Range<u64>,
    pub(super) frames: Vec<FrameRef>,
    pub(super) cached: Vec<Bytes>,
}

impl Memory {
    pub(super) fn new(hard: HardState, cache_bytes_max: usize) -> Self {
        Self { hard, cache_bytes_max, ..Self::default() }
    }

    fn cache_first(&self) -> u64 {
        self.next - self.cache.len() as u64
    }

    /// Adds an entry at the end; it is not on the disk yet.
    pub(super) fn push(&mut self, entry: Bytes) {
        self.cache_bytes += entry.len();
        self.cache.push_back(entry);
        self.next += 1;
    }

    /// Notes that a frame is on the disk and forgets old entries that need not be in memory.
    pub(super) fn add_frame(&mut self, frame: FrameRef) {
        self.synced = self.synced.max(frame.next);
        if let Some(segment) = self.segments.back_mut() {
            segment.next = segment.next.max(frame.next);
        }
        let before = self.written;
        self.written += (HEADER_BYTES + frame.payload_bytes) as u64;
        self.frames.push_back(FrameRef { before, ..frame });
        self.evict();
    }

    /// Notes a frame that holds no entries.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Gives the cached entries memory of their own: a slice of a segment would keep all of it in memory.
    pub(super) fn detach(&mut self) {
        self.cache.iter_mut().for_each(|entry| *entry = Bytes::copy_from_slice(entry));
    }

    /// Bytes of the log from the entry at `index` on, and of what was truncated behind it.
    pub(super) fn bytes_from(&self, index: u64) -> u64 {
        let at = self.frames.partition_point(|frame| frame.next <= index);
        self.frames.get(at).map_or(0, |frame| self.written - frame.before)
    }

    /// The first index from which on the log holds at most so many bytes.
    pub(super) fn first_within(&self, bytes: u64) -> u64 {
        let at = self.frames.partition_point(|frame| self.written - frame.before > bytes);
        self.frames.get(at).map_or(self.next, |frame| frame.first)
    }

    fn evict(&mut self) {
        while self.cache_bytes > self.cache_bytes_max && self.cache_first() < self.synced {
            let Some(entry) = self.cache.pop_front() else { return };
            self.cache_bytes -= entry.len();
        }
    }

    /// Forgets the entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        let kept = next.saturating_sub(self.cache_first());
        while self.cache.len() as u64 > kept {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |entry| entry.len());
        }
        self.next = self.next.min(next);
        self.synced = self.synced.min(next);
        while let Some(frame) = self.frames.back_mut() {
            frame.next = frame.next.min(next);
            if frame.first < frame.next {
                return;
            }
            self.frames.pop_back();
        }
    }

    /// Forgets the entries before `first`; when that is beyond the end, the log goes on there.
    pub(super) fn purge(&mut self, first: u64) {
        while self.cache_first() < first {
            match self.cache.pop_front() {
                Some(entry) => self.cache_bytes -= entry.len(),
                None => self.next = first,
            }
        }
        self.synced = self.synced.max(first);
        while self.frames.front().is_some_and(|frame| frame.next <= first) {
            self.frames.pop_front();
        }
    }

    /// The numbers of the segments that hold nothing but purged entries, oldest first.
    pub(super) fn purged_segments(&self) -> Vec<u64> {
        let closed = self.segments.len().saturating_sub(1);
        let purged = self.segments.iter().take(closed).take_while(|segment| segment.next <= self.hard.first);
        purged.map(|segment| segment.number).collect()
    }

    /// Where the entries of `range` are that the log has.
    pub(super) fn locate(&self, range: &Range<u64>) -> Located {
        let range = range.start.max(self.hard.first)..range.end.min(self.next);
        if range.is_empty() {
            return Located::default();
        }
        // What lies before the cache begins is on the disk, be it all of the range or nothing of it.
        let boundary = self.cache_first().clamp(range.start, range.end);
        Located { frames: self.frames_of(range.start..boundary), cached: self.cached(boundary..range.end), range }
    }

    /// The frames that hold entries of `range`.
    fn frames_of(&self, range: Range<u64>) -> Vec<FrameRef> {
        if range.is_empty() {
            return Vec::new();
        }
        let from = self.frames.partition_point(|frame| frame.next <= range.start);
        self.frames.iter().skip(from).take_while(|frame| frame.first < range.end).cloned().collect()
    }

    /// The entries of `range`, which must not begin before the cache does unless it is empty.
    fn cached(&self, range: Range<u64>) -> Vec<Bytes> {
        let skipped = range.start.saturating_sub(self.cache_first()) as usize;
        let wanted = (range.end - range.start) as usize;
        self.cache.iter().skip(skipped).take(wanted).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::volume::{FileSystem, Volume};

    /// Ten entries of ten bytes in a frame of its own, of which the newest four are cached.
    fn outgrown() -> Memory {
        let dir = tempfile::tempdir().unwrap();
        let file = FileSystem.create(&Path::new(dir.path()).join("1.log")).unwrap();
        let mut memory = Memory::new(HardState::default(), 40);
        for index in 0..10_u8 {
            memory.push(Bytes::from(vec![index; 10]));
            let (first, next) = (u64::from(index), u64::from(index) + 1);
            memory.add_frame(FrameRef { file: file.clone(), offset: 0, payload_bytes: 76, first, next, before: 0 });
        }
        memory
    }

    #[test]
    fn any_range_is_found_however_it_lies_to_the_cache() {
        let memory = outgrown();
        assert_eq!(memory.cache_first(), 6);
        for (start, end) in (0..12).flat_map(|start| (0..12).map(move |end| (start, end))) {
            let located = memory.locate(&(start..end));
            let frames = located.frames.iter().map(|frame| frame.first);
            let cached = located.cached.iter().map(|entry| u64::from(entry[0]));
            let found: Vec<_> = frames.chain(cached).collect();
            assert_eq!(found, (start..end.min(10)).collect::<Vec<_>>(), "{start}..{end}");
        }
    }

    #[test]
    fn what_lies_behind_an_index_is_measured_by_frames() {
        let mut memory = outgrown();
        assert_eq!((memory.bytes_from(0), memory.bytes_from(7), memory.bytes_from(10)), (1_000, 300, 0));
        let within = |bytes| memory.first_within(bytes);
        assert_eq!((within(1_000), within(999), within(300), within(99), within(0)), (0, 1, 7, 10, 10));
        memory.truncate(8);
        assert_eq!(memory.bytes_from(7), 300, "what was truncated is still on the disk");
        memory.purge(7);
        assert_eq!((memory.bytes_from(0), memory.first_within(u64::MAX)), (300, 7));
    }

    #[test]
    fn a_truncation_may_reach_behind_the_cache() {
        let mut memory = outgrown();
        memory.truncate(3);
        assert_eq!((memory.next, memory.cache_first(), memory.cache_bytes), (3, 3, 0));
        memory.push(Bytes::from_static(b"new"));
        assert_eq!(memory.locate(&(2..9)).frames.len(), 1);
        assert_eq!(memory.locate(&(2..9)).cached, [Bytes::from_static(b"new")]);
    }
}
