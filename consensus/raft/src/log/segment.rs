//! One file of the log: a header, then frames.
//!
//! Reading is pure: bytes in, frames and a verdict out. The verdict tells a write that never finished, which is cut
//! off, from damage to what was acknowledged, which is refused.

use std::ops::Range;

use bytes::Bytes;

use super::frame::{Frame, HEADER_BYTES, Header};

/// Bytes before a segment's first frame: magic, format version, sequence number, first index, checksum.
pub(super) const PREFIX_BYTES: usize = 32;

/// The newest format of a segment that is known here.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"skeinlog";

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Segments are numbered from 1, without gaps.
    pub(super) number: u64,
    /// The index that the log was to continue with when the segment was begun.
    pub(super) next: u64,
}

/// A frame and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) payload_bytes: usize,
    /// Up to which byte the segment was on the disk when the frame was written.
    pub(super) synced: u64,
    pub(super) frame: Frame,
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) frames: Vec<Placed>,
    /// Where the frames end. Beyond it lies nothing, or a write that never finished.
    pub(super) end: u64,
}

/// What makes a segment unusable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// The file ends within its prefix, as after a crash while it was being made.
    Unborn,
    /// The format is newer than what is known here.
    TooNew(u32),
    /// The bytes at this offset are not what was written.
    Corrupt { offset: u64, what: &'static str },
}

impl Prefix {
    pub(super) fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.next.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
            return Err(Damage::Unborn);
        };
        if prefix.iter().all(|byte| *byte == 0) {
            return Err(Damage::Unborn);
        }
        let corrupt = |what| Damage::Corrupt { offset: 0, what };
        let (fields, crc) = prefix.split_at(28);
        if fields[..8] != MAGIC {
            return Err(corrupt("not a segment of the log"));
        }
        if crc != crc32fast::hash(fields).to_le_bytes() {
            return Err(corrupt("the segment's prefix does not match its checksum"));
        }
        let number = |at: usize| fields[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let version = fields[8..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if version > VERSION {
            return Err(Damage::TooNew(version));
        }
        Ok(Self { number: number(12), next: number(20) })
    }
}

/// How a segment may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Whether it is the last one. Only that may end in an unfinished write: the others were synced before the next was
    /// begun.
    pub(super) is_last: bool,
    /// Up to which byte it is known to have been on the disk. What was there cannot be unfinished.
    pub(super) synced: u64,
}

/// The frames of the segment in `bytes`.
pub(super) fn scan(bytes: &Bytes, ending: Ending) -> Result<Scan, Damage> {
    let mut scan = Scan { frames: Vec::new(), end: PREFIX_BYTES as u64 };
    let mut at = PREFIX_BYTES;
    while at < bytes.len() {
        match frame_at(bytes, at) {
            Ok(placed) => {
                at += HEADER_BYTES + placed.payload_bytes;
                scan.end = at as u64;
                scan.frames.push(placed);
            }
            Err(what) if ending.is_last && at as u64 >= ending.synced && is_unfinished(bytes, at) => {
                tracing::debug!(at, what, "the log ends in an unfinished write");
                return Ok(scan);
            }
            Err(what) => return Err(Damage::Corrupt { offset: at as u64, what }),
        }
    }
    if scan.end < ending.synced {
        return Err(Damage::Corrupt {
            offset: scan.end,
            what: "the segment ends here, but more of it was on the disk",
        });
    }
    Ok(scan)
}

/// The frame at this offset, or what is wrong with it.
pub(super) fn frame_at(bytes: &Bytes, at: usize) -> Result<Placed, &'static str> {
    let rest = bytes.get(at..).unwrap_or_default();
    let header = Header::parse(rest).ok_or("a frame's header does not match its checksum")?;
    if rest.len() < HEADER_BYTES + header.len {
        return Err("a frame is cut");
    }
    let payload = bytes.slice(at + HEADER_BYTES..at + HEADER_BYTES + header.len);
    if crc32fast::hash(&payload) != header.crc {
        return Err("a frame does not match its checksum");
    }
    let frame = Frame::parse(header.kind, &payload)?;
    Ok(Placed { offset: at as u64, payload_bytes: header.len, synced: header.synced, frame })
}

/// Whether the unreadable frame at `at` is a write that never finished, so that nobody was told that it is safe.
///
/// It is not when a later frame says that the bytes up to beyond `at` had been synced. Otherwise it is when the file
/// ends within it, or holds a stretch of the disk that was never written, which reads as zeros. What is left, a whole
/// frame at the very end that is merely wrong, is taken for damage: refusing it costs a rejoin, cutting it off may cost
/// an entry that was acknowledged.
fn is_unfinished(bytes: &Bytes, at: usize) -> bool {
    if is_synced_beyond(bytes, at) {
        return false;
    }
    let rest = &bytes[at..];
    let end = match Header::parse(rest) {
        Some(header) if rest.len() < HEADER_BYTES + header.len => return true,
        Some(header) => at + HEADER_BYTES + header.len,
        None if rest.len() < HEADER_BYTES || begins_unwritten(rest, at) => return true,
        None => bytes.len(),
    };
    has_hole(bytes, at..end)
}

/// Whether any readable frame after `at` was written when the bytes at `at` were known to be on the disk.
///
/// What the unreadable frame holds is left out where its length is known: an entry may hold what looks like a frame.
fn is_synced_beyond(bytes: &Bytes, at: usize) -> bool {
    let behind = Header::parse(&bytes[at..]).map_or(at + 1, |header| at + HEADER_BYTES + header.len);
    (behind..bytes.len().saturating_sub(HEADER_BYTES - 1)).any(|start| {
        // A frame cannot know more to be on the disk than what was written before it.
        let knows = at as u64 + 1..=start as u64;
        let is_later = Header::parse(&bytes[start..]).is_some_and(|header| knows.contains(&header.synced));
        is_later && frame_at(bytes, start).is_ok()
    })
}

/// The unit in which a disk writes, or does not.
const SECTOR_BYTES: usize = 512;

/// Whether what a sector holds of the beginning of a frame at `at` is zero, be it a byte: its header begins with the
/// length, which is never zero, so that it does not begin so unless the length is a multiple of 256.
fn begins_unwritten(rest: &[u8], at: usize) -> bool {
    let left = SECTOR_BYTES - at % SECTOR_BYTES;
    rest.iter().take(left).all(|byte| *byte == 0)
}

/// Whether one of the sectors in which `frame` lies was never written: all of it that comes after the frame's beginning
/// is zero, be it the frame's or what follows it. The last one of the file, which is cut, counts from eight bytes up.
fn has_hole(bytes: &[u8], frame: Range<usize>) -> bool {
    let mut from = frame.start;
    while from < frame.end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(bytes.len());
        let is_whole = to - from == SECTOR_BYTES || to - from >= 8;
        if is_whole && bytes[from..to].iter().all(|byte| *byte == 0) {
            return true;
        }
        from = to;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Three frames of entries, each synced before the next is written; the offsets of the frames come along.
    fn segment(tail_hint: bool) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Prefix { number: 1, next: 0 }.to_bytes().to_vec();
        let mut offsets = Vec::new();
        for first in 0..3_u64 {
            let synced = bytes.len() as u64;
            offsets.push(bytes.len());
            let entries = vec![Bytes::from(vec![0xa5; 40 + first as usize])];
            Frame::Entries { first, entries }.write(synced, &mut bytes);
        }
        if tail_hint {
            let synced = bytes.len() as u64;
            Frame::Committed(Bytes::from_static(b"2")).write(synced, &mut bytes);
        }
        (bytes, offsets)
    }

    const LAST: Ending = Ending { is_last: true, synced: 0 };

    fn frames_of(bytes: Vec<u8>) -> Result<usize, Damage> {
        scan(&Bytes::from(bytes), LAST).map(|scan| scan.frames.len())
    }

    #[test]
    fn a_last_frame_cut_at_any_byte_is_an_unfinished_write() {
        let (bytes, offsets) = segment(false);
        for cut in offsets[2]..bytes.len() {
            assert_eq!(frames_of(bytes[..cut].to_vec()), Ok(2), "cut at {cut}");
        }
        assert_eq!(frames_of(bytes), Ok(3));
    }

    #[test]
    fn a_last_frame_with_an_unwritten_sector_is_an_unfinished_write() {
        let (mut bytes, _) = segment(false);
        let at = bytes.len();
        Frame::Entries { first: 3, entries: vec![Bytes::from(vec![7; 3_000])] }.write(at as u64, &mut bytes);
        for hole in [512, 1_024, 2_560] {
            let mut torn = bytes.clone();
            torn[hole..hole + 512].fill(0);
            assert_eq!(frames_of(torn), Ok(3), "hole at {hole}");
        }
        let mut torn = bytes.clone();
        torn[at..].fill(0);
        assert_eq!(frames_of(torn), Ok(3));
    }

    #[test]
    fn a_frame_of_which_a_sector_holds_a_few_bytes_may_be_unfinished_too() {
        let (mut bytes, _) = segment(false);
        let first = bytes.len() as u64;
        // What the next frame begins in holds three bytes of it; what it ends in, three bytes and the one after it.
        let fill = |bytes: &mut Vec<u8>, until: usize| {
            let len = until - bytes.len() - HEADER_BYTES - 12;
            Frame::Entries { first: 3, entries: vec![Bytes::from(vec![7; len])] }.write(first, bytes);
        };
        fill(&mut bytes, 1_021);
        let at = bytes.len();
        fill(&mut bytes, 1_539);
        fill(&mut bytes, 2_300);
        for hole in [at..1_024, 1_536..2_048] {
            let mut torn = bytes.clone();
            torn[hole.clone()].fill(0);
            assert_eq!(frames_of(torn), Ok(4), "hole at {hole:?}");
        }
    }

    #[test]
    fn no_segment_but_the_last_may_end_in_an_unfinished_write() {
        let (bytes, offsets) = segment(false);
        let cut = Bytes::copy_from_slice(&bytes[..bytes.len() - 1]);
        let damage = scan(&cut, Ending { is_last: false, synced: 0 }).unwrap_err();
        assert_eq!(damage, Damage::Corrupt { offset: offsets[2] as u64, what: "a frame is cut" });
    }

    #[test]
    fn what_is_known_to_have_been_on_the_disk_is_no_unfinished_write() {
        let (bytes, offsets) = segment(false);
        for synced in [offsets[2] + 1, bytes.len()] {
            let ending = Ending { is_last: true, synced: synced as u64 };
            for cut in PREFIX_BYTES..synced {
                let damage = scan(&Bytes::copy_from_slice(&bytes[..cut]), ending).unwrap_err();
                assert!(matches!(damage, Damage::Corrupt { offset, .. } if offset <= cut as u64), "{damage:?}");
            }
            assert_eq!(scan(&Bytes::copy_from_slice(&bytes), ending).unwrap().frames.len(), 3);
        }
        let ending = Ending { is_last: true, synced: offsets[2] as u64 };
        assert_eq!(scan(&Bytes::copy_from_slice(&bytes[..offsets[2] + 9]), ending).unwrap().frames.len(), 2);
    }

    #[test]
    fn an_entry_that_looks_like_a_frame_does_not_make_a_torn_write_look_like_damage() {
        let (mut bytes, _) = segment(false);
        let at = bytes.len();
        let mut image = vec![7; 600];
        Frame::Truncate { next: 0 }.write(at as u64 + 1, &mut image);
        image.resize(3_000, 7);
        Frame::Entries { first: 3, entries: vec![Bytes::from(image)] }.write(at as u64, &mut bytes);
        bytes[2_560..3_072].fill(0);
        assert_eq!(frames_of(bytes), Ok(3));
    }

    #[test]
    fn a_prefix_of_a_newer_format_is_told_from_a_broken_one() {
        let mut bytes = Prefix { number: 1, next: 0 }.to_bytes();
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Prefix::parse(&bytes), Err(Damage::TooNew(9)));
        bytes[8] = 8;
        assert!(matches!(Prefix::parse(&bytes), Err(Damage::Corrupt { offset: 0, .. })));
        assert_eq!(Prefix::parse(&bytes[..31]), Err(Damage::Unborn));
    }

    proptest! {
        #[test]
        fn a_bit_flipped_anywhere_before_a_hint_is_damage(byte in 0_usize..1_000, bit in 0_u8..8) {
            let (mut bytes, offsets) = segment(true);
            let hint = bytes.len() - HEADER_BYTES - 1;
            prop_assume!((offsets[0]..hint).contains(&byte));
            let frame = offsets.iter().rev().find(|offset| **offset <= byte).copied().unwrap();
            bytes[byte] ^= 1 << bit;
            let damage = scan(&Bytes::from(bytes), LAST).unwrap_err();
            prop_assert!(matches!(damage, Damage::Corrupt { offset, .. } if offset == frame as u64), "{damage:?}");
        }

        #[test]
        fn any_bytes_are_scanned_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Prefix { number: 1, next: 0 }.to_bytes().to_vec();
            bytes.extend(tail);
            let _ = scan(&Bytes::from(bytes), LAST);
        }
    }
}
