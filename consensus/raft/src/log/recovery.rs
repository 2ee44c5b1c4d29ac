//! Opens what a log left on the disk: replays its segments, cuts off a write that never finished, refuses damage.
//!
//! What is read need not be on the disk. A process that was killed, or whose sync failed, may have left bytes that only
//! the system's cache holds, and after a failed sync the cache may even take them for written. Whoever answers by them
//! promises what a power cut can still take away. So before a log is used, all that its last life may not have synced
//! is written and synced again:
//!
//! - of the last segment, what lies behind the `synced` of its last frame: a frame says up to where the segment was
//!   on the disk when it was written, and no frame was written after a sync had failed;
//! - the names: of segments, of the hard state, and of the directory itself. Files are synced before they get the name
//!   by which they are read.
//!
//! The other segments were synced before the next was begun.

use std::{collections::BTreeSet, io, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use skein_proto::NodeId;

use super::{
    frame::{Frame, HEADER_BYTES},
    hard_state::HardState,
    memory::{FrameRef, Memory, SegmentRef},
    segment::{Damage, Ending, PREFIX_BYTES, Placed, Prefix, VERSION, scan},
    writer::{create_segment, segment_path},
};
use crate::{
    Limits, StartError,
    volume::{Volume, VolumeFile, settle_dir},
};

/// A log as it was found, and where to go on writing.
pub(super) struct Recovered {
    pub(super) memory: Memory,
    pub(super) file: Arc<dyn VolumeFile>,
    pub(super) number: u64,
    pub(super) offset: u64,
}

/// What the owner of a log knows about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// Whose log it must be.
    pub(crate) node: NodeId,
    pub(crate) limits: Limits,
    /// Whether there was a log before.
    pub(crate) must_exist: bool,
}

/// Opens the log in `dir`, which is made as needed.
pub(super) fn recover(volume: &dyn Volume, dir: &Path, origin: &Origin) -> Result<Recovered, StartError> {
    let hard = load_hard_state(volume, dir, origin)?;
    let mut memory = Memory::new(hard, origin.limits.cache_bytes);
    let numbers = present_segments(volume, dir, &memory.hard)?;
    let mut end = PREFIX_BYTES as u64;
    for number in &numbers {
        end = replay(volume, (dir, *number), Some(number) == numbers.last(), &mut memory)?;
        memory.detach();
    }
    check_no_gap(dir, &memory)?;
    memory.purge(memory.hard.first);
    settle_dir(volume, dir).map_err(StartError::io("sync", dir))?;
    let Some(last) = memory.segments.back().cloned() else {
        return begin(volume, dir, memory);
    };
    if memory.hard.newest != last.number {
        memory.hard.newest = last.number;
        memory.hard.save(volume, dir).map_err(StartError::io("write", HardState::path(dir)))?;
    }
    Ok(Recovered { memory, file: last.file, number: last.number, offset: end })
}

fn load_hard_state(volume: &dyn Volume, dir: &Path, origin: &Origin) -> Result<HardState, StartError> {
    let Origin { node, must_exist, .. } = *origin;
    match HardState::load(volume, dir)? {
        Some(hard) if hard.node != node => {
            Err(StartError::OtherNode { dir: dir.to_owned(), found: hard.node, expected: node })
        }
        // A node has begun when its log has, and that begins with a segment.
        Some(hard) if must_exist && hard.newest == 0 => Err(StartError::Gone { dir: dir.to_owned() }),
        Some(hard) => Ok(hard),
        None if !listed_segments(volume, dir)?.is_empty() => {
            Err(StartError::corrupt(HardState::path(dir), 0, "the file is missing, but there is a log beside it"))
        }
        None if must_exist => Err(StartError::Gone { dir: dir.to_owned() }),
        None => {
            volume.create_dir_all(dir).map_err(StartError::io("create", dir))?;
            settle_dir(volume, dir).map_err(StartError::io("sync", dir))?;
            let hard = HardState::new(node);
            hard.save(volume, dir).map_err(StartError::io("write", HardState::path(dir)))?;
            Ok(hard)
        }
    }
}

/// The first segment of a log that has none.
fn begin(volume: &dyn Volume, dir: &Path, mut memory: Memory) -> Result<Recovered, StartError> {
    let prefix = Prefix { number: memory.hard.oldest, next: memory.next };
    let path = segment_path(dir, prefix.number);
    let file = create_segment(volume, dir, prefix).map_err(StartError::io("create", path))?;
    memory.hard.newest = prefix.number;
    memory.hard.save(volume, dir).map_err(StartError::io("write", HardState::path(dir)))?;
    memory.segments.push_back(SegmentRef { number: prefix.number, file: file.clone(), next: prefix.next });
    Ok(Recovered { memory, file, number: prefix.number, offset: PREFIX_BYTES as u64 })
}

/// The segments that are there, which must be those that the hard state names and at most one that was just begun.
/// What a purge or a crash left over is removed.
fn present_segments(volume: &dyn Volume, dir: &Path, hard: &HardState) -> Result<Vec<u64>, StartError> {
    let mut numbers = listed_segments(volume, dir)?;
    let mut kept = numbers.split_off(&hard.oldest);
    if let Some(last) = kept.last().copied().filter(|last| *last > hard.newest)
        && is_unborn(volume, &segment_path(dir, last))?
    {
        kept.remove(&last);
        numbers.insert(last);
    }
    for number in numbers {
        let path = segment_path(dir, number);
        if let Err(error) = volume.remove(&path) {
            tracing::warn!(file = %path.display(), %error, "a segment that is no longer needed cannot be removed");
        }
    }
    let newest = kept.last().copied().unwrap_or(0).max(hard.newest);
    if let Some(missing) = (hard.oldest..=newest).find(|number| !kept.contains(number)) {
        return Err(StartError::corrupt(segment_path(dir, missing), 0, "the segment is missing"));
    }
    if newest > hard.newest.max(hard.oldest.saturating_sub(1)) + 1 {
        return Err(StartError::corrupt(segment_path(dir, newest), 0, "the segment was never begun by this log"));
    }
    Ok(kept.into_iter().collect())
}

/// Whether the segment was being made when the power failed or the process ended: nothing was ever written to it.
fn is_unborn(volume: &dyn Volume, path: &Path) -> Result<bool, StartError> {
    let file = volume.open(path).map_err(StartError::io("open", path))?;
    let mut prefix = [0; PREFIX_BYTES];
    match file.read_exact_at(&mut prefix, 0) {
        Ok(()) => Ok(matches!(Prefix::parse(&prefix), Err(Damage::Unborn))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(StartError::io("read", path)(error)),
    }
}

fn listed_segments(volume: &dyn Volume, dir: &Path) -> Result<BTreeSet<u64>, StartError> {
    let list = || -> io::Result<BTreeSet<u64>> {
        let mut numbers = BTreeSet::new();
        let paths = match volume.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            paths => paths?,
        };
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
            numbers.extend(number);
        }
        Ok(numbers)
    };
    list().map_err(StartError::io("list", dir))
}

/// Adds a segment to the memory and says where its frames end.
fn replay(
    volume: &dyn Volume,
    (dir, number): (&Path, u64),
    is_last: bool,
    memory: &mut Memory,
) -> Result<u64, StartError> {
    let path = segment_path(dir, number);
    let bytes = Bytes::from(volume.read(&path).map_err(StartError::io("read", &path))?);
    let refuse = |damage| match damage {
        Damage::TooNew(version) => StartError::TooNew { file: path.clone(), version, known: VERSION },
        Damage::Corrupt { offset, what } => StartError::corrupt(&path, offset, what),
        Damage::Unborn => StartError::corrupt(&path, 0, "the segment has no prefix"),
    };
    let prefix = Prefix::parse(&bytes).map_err(refuse)?;
    if prefix.number != number {
        return Err(StartError::corrupt(path, 12, format!("the file holds segment {}", prefix.number)));
    }
    check_follows(&path, prefix, memory)?;
    let ending = Ending { is_last, synced: memory.hard.synced_in(number) };
    let scanned = scan(&bytes, ending).map_err(refuse)?;
    let file = volume.open(&path).map_err(StartError::io("open", &path))?;
    if is_last {
        let from = scanned.frames.last().map_or(0, |last| last.synced).max(ending.synced);
        settle_end(&*file, &bytes, from..scanned.end, &path)
            .map_err(StartError::io("write and sync the end of", &path))?;
    }
    memory.segments.push_back(SegmentRef { number, file: file.clone(), next: prefix.next });
    for placed in scanned.frames {
        apply(placed, &file, &path, memory)?;
    }
    Ok(scanned.end)
}

/// Whether the segment goes on where the one before ended, or where a purge ended that went beyond it.
fn check_follows(path: &Path, prefix: Prefix, memory: &mut Memory) -> Result<(), StartError> {
    if memory.segments.is_empty() {
        memory.next = prefix.next;
    }
    let is_purged = prefix.next > memory.next && prefix.next <= memory.hard.first;
    if prefix.next == memory.next || is_purged {
        return Ok(());
    }
    let what = format!("the segment was begun at index {}, but the one before ends at {}", prefix.next, memory.next);
    Err(StartError::corrupt(path, 20, what))
}

/// Cuts off what lies beyond the frames, and has those on the disk that may not be there yet.
fn settle_end(file: &dyn VolumeFile, bytes: &Bytes, unsynced: Range<u64>, path: &Path) -> io::Result<()> {
    if unsynced.end < bytes.len() as u64 {
        let lost = bytes.len() as u64 - unsynced.end;
        tracing::warn!(file = %path.display(), at = unsynced.end, bytes = lost, "cut off a write that never finished");
        file.set_len(unsynced.end)?;
    }
    let from = unsynced.start.min(unsynced.end);
    file.write_all_at(&bytes[from as usize..unsynced.end as usize], from)?;
    file.sync()
}

fn apply(placed: Placed, file: &Arc<dyn VolumeFile>, path: &Path, memory: &mut Memory) -> Result<(), StartError> {
    let Placed { offset, payload_bytes, frame, .. } = placed;
    if !matches!(frame, Frame::Entries { .. }) {
        memory.add_bytes(HEADER_BYTES + payload_bytes);
    }
    match frame {
        Frame::Committed(id) => memory.committed = Some(id),
        Frame::Truncate { next } => memory.truncate(next),
        Frame::Entries { first, entries } => {
            // A log that was purged beyond its end, by a snapshot from the leader, goes on after a gap.
            if first > memory.next && first <= memory.hard.first {
                memory.purge(first);
            }
            if first != memory.next {
                let what = format!("entries from index {first} on follow a log that goes on with {}", memory.next);
                return Err(StartError::corrupt(path, offset, what));
            }
            let next = first + entries.len() as u64;
            entries.into_iter().for_each(|entry| memory.push(entry));
            memory.add_frame(FrameRef { file: file.clone(), offset, payload_bytes, first, next, before: 0 });
        }
    }
    Ok(())
}

/// Whether every entry from the first that was not purged on is there.
fn check_no_gap(dir: &Path, memory: &Memory) -> Result<(), StartError> {
    let start = memory.frames.front().map_or(memory.next, |frame| frame.first);
    if memory.segments.is_empty() || start <= memory.hard.first {
        return Ok(());
    }
    let file = segment_path(dir, memory.hard.oldest);
    Err(StartError::corrupt(file, 0, format!("entries from index {} to {start} are missing", memory.hard.first)))
}
