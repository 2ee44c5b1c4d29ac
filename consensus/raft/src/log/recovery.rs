//! Opens what a log left on the disk: replays its segments, cuts off a write that never finished, refuses damage.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use bytes::Bytes;
use skein_proto::NodeId;

use super::{
    frame::Frame,
    hard_state::HardState,
    memory::{FrameRef, Memory, SegmentRef},
    segment::{Damage, PREFIX_BYTES, Placed, Prefix, VERSION, scan},
    writer::{create_segment, segment_path},
};
use crate::{
    Limits, StartError,
    volume::{Volume, VolumeFile},
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
        let is_last = Some(number) == numbers.last();
        if let Some(at) = replay(volume, (dir, *number), is_last, &mut memory)? {
            end = at;
        }
    }
    check_no_gap(dir, &memory)?;
    memory.purge(memory.hard.first);
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
/// Older ones are left over from a purge and removed.
fn present_segments(volume: &dyn Volume, dir: &Path, hard: &HardState) -> Result<Vec<u64>, StartError> {
    let mut numbers = listed_segments(volume, dir)?;
    let kept = numbers.split_off(&hard.oldest);
    for number in numbers {
        let path = segment_path(dir, number);
        volume.remove(&path).map_err(StartError::io("remove", path))?;
    }
    let newest = kept.last().copied().unwrap_or(0).max(hard.newest);
    if let Some(missing) = (hard.oldest..=newest).find(|number| !kept.contains(number)) {
        return Err(StartError::corrupt(segment_path(dir, missing), 0, "the segment is missing"));
    }
    if newest > hard.newest.max(hard.oldest - 1) + 1 {
        return Err(StartError::corrupt(segment_path(dir, newest), 0, "the segment was never begun by this log"));
    }
    Ok(kept.into_iter().collect())
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

/// Adds a segment to the memory and says where its frames end; none for one whose making never finished.
fn replay(
    volume: &dyn Volume,
    (dir, number): (&Path, u64),
    is_last: bool,
    memory: &mut Memory,
) -> Result<Option<u64>, StartError> {
    let path = segment_path(dir, number);
    let bytes = Bytes::from(volume.read(&path).map_err(StartError::io("read", &path))?);
    let refuse = |damage| match damage {
        Damage::TooNew(version) => StartError::TooNew { file: path.clone(), version, known: VERSION },
        Damage::Corrupt { offset, what } => StartError::corrupt(&path, offset, what),
        Damage::Unborn => StartError::corrupt(&path, 0, "the segment has no prefix"),
    };
    let prefix = match Prefix::parse(&bytes) {
        Err(Damage::Unborn) if is_last && number > memory.hard.newest => return Ok(None),
        prefix => prefix.map_err(refuse)?,
    };
    if prefix.number != number {
        return Err(StartError::corrupt(path, 12, format!("the file holds segment {}", prefix.number)));
    }
    let scanned = scan(&bytes, is_last).map_err(refuse)?;
    let file = volume.open(&path).map_err(StartError::io("open", &path))?;
    if scanned.end < bytes.len() as u64 {
        let lost = bytes.len() as u64 - scanned.end;
        tracing::warn!(file = %path.display(), at = scanned.end, bytes = lost, "cut off a write that never finished");
        let cut = file.set_len(scanned.end).and_then(|()| file.sync());
        cut.map_err(StartError::io("cut", &path))?;
    }
    if memory.segments.is_empty() {
        memory.next = prefix.next;
    }
    memory.segments.push_back(SegmentRef { number, file: file.clone(), next: prefix.next });
    for placed in scanned.frames {
        apply(placed, &file, &path, memory)?;
    }
    Ok(Some(scanned.end))
}

fn apply(placed: Placed, file: &Arc<dyn VolumeFile>, path: &Path, memory: &mut Memory) -> Result<(), StartError> {
    let Placed { offset, payload_bytes, frame } = placed;
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
            memory.add_frame(FrameRef { file: file.clone(), offset, payload_bytes, first, next });
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
