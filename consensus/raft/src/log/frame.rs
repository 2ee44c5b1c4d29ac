//! One frame of the log: what is written with one call and checked as a whole.
//!
//! ```text
//! 0      4      8        16     17     20           24
//! | len  | crc  | synced | kind | zero | header crc | payload, `len` bytes |
//! ```
//! Numbers are little-endian; `crc` is the CRC-32 of the payload, `header crc` that of the 20 bytes before it.
//! `synced` says up to which byte of this segment the writer knew its bytes to be on the disk when it wrote the frame;
//! it is what tells a write that never finished from damage to what was acknowledged.

use bytes::Bytes;

/// Bytes before a frame's payload.
pub(super) const HEADER_BYTES: usize = 24;

/// Largest payload: far above what a batch of proposals holds, and small enough to read at once.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Largest entry: with the bytes around it, it fills a frame. What is longer could never be read again.
pub(super) const ENTRY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 12;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// These entries follow, the first of them with this index.
    Entries { first: u64, entries: Vec<Bytes> },
    /// Entries up to some id are committed. A hint: it may be missing or old.
    Committed(Bytes),
    /// The entries from this index on are gone.
    Truncate { next: u64 },
}

const ENTRIES: u8 = 1;
const COMMITTED: u8 = 2;
const TRUNCATE: u8 = 3;

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) crc: u32,
    pub(super) synced: u64,
    pub(super) kind: u8,
}

impl Frame {
    /// Appends the frame to `out`.
    pub(super) fn write(&self, synced: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let kind = match self {
            Self::Entries { first, entries } => {
                out.extend_from_slice(&first.to_le_bytes());
                for entry in entries {
                    out.extend_from_slice(&(entry.len() as u32).to_le_bytes());
                    out.extend_from_slice(entry);
                }
                ENTRIES
            }
            Self::Committed(id) => {
                out.extend_from_slice(id);
                COMMITTED
            }
            Self::Truncate { next } => {
                out.extend_from_slice(&next.to_le_bytes());
                TRUNCATE
            }
        };
        let payload = start + HEADER_BYTES;
        let header = Header { len: out.len() - payload, crc: crc32fast::hash(&out[payload..]), synced, kind };
        out[start..payload].copy_from_slice(&header.to_bytes());
    }

    /// The frame with this header and payload, whose checksum is known to be right.
    pub(super) fn parse(kind: u8, payload: &Bytes) -> Result<Self, &'static str> {
        match kind {
            ENTRIES => parse_entries(payload),
            COMMITTED => Ok(Self::Committed(payload.clone())),
            TRUNCATE => Ok(Self::Truncate { next: u64_at(payload, 0).ok_or("a truncation names no index")? }),
            _ => Err("a frame is of an unknown kind"),
        }
    }
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.synced.to_le_bytes());
        bytes[16] = self.kind;
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if one is there whole and with the right checksum.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let len = u32_at(header, 0)? as usize;
        let is_sound = u32_at(header, 20)? == crc32fast::hash(&header[..20]) && len <= PAYLOAD_BYTES_MAX;
        is_sound.then_some(Self { len, crc: u32_at(header, 4)?, synced: u64_at(header, 8)?, kind: header[16] })
    }
}

fn parse_entries(payload: &Bytes) -> Result<Frame, &'static str> {
    let first = u64_at(payload, 0).ok_or("a frame of entries names no first index")?;
    let mut entries = Vec::new();
    let mut at = 8;
    while at < payload.len() {
        let len = u32_at(payload, at).ok_or("an entry's length is cut")? as usize;
        let end = at + 4 + len;
        if end > payload.len() {
            return Err("an entry is longer than its frame");
        }
        entries.push(payload.slice(at + 4..end));
        at = end;
    }
    Ok(Frame::Entries { first, entries })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<Frame> {
        vec![
            Frame::Entries { first: 7, entries: vec![Bytes::from_static(b"one"), Bytes::new()] },
            Frame::Committed(Bytes::from_static(b"id")),
            Frame::Truncate { next: 9 },
        ]
    }

    #[test]
    fn a_frame_has_these_golden_bytes() {
        let mut out = Vec::new();
        Frame::Truncate { next: 9 }.write(5, &mut out);
        let expected = [
            8, 0, 0, 0, 146, 130, 144, 23, 5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 225, 169, 229, 216, 9, 0, 0, 0, 0, 0, 0,
            0,
        ];
        assert_eq!(out[..4], expected[..4]);
        assert_eq!(out[8..20], expected[8..20]);
        assert_eq!(out[24..], expected[24..]);
        assert_eq!(out[4..8], crc32fast::hash(&expected[24..]).to_le_bytes());
    }

    #[test]
    fn every_kind_round_trips() {
        for frame in sample() {
            let mut out = Vec::new();
            frame.write(3, &mut out);
            let header = Header::parse(&out).unwrap();
            assert_eq!((header.synced, header.len), (3, out.len() - HEADER_BYTES));
            let payload = Bytes::copy_from_slice(&out[HEADER_BYTES..]);
            assert_eq!(header.crc, crc32fast::hash(&payload));
            assert_eq!(Frame::parse(header.kind, &payload).unwrap(), frame);
        }
    }

    proptest! {
        #[test]
        fn any_payload_parses_or_is_refused(kind in 0_u8..5, payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::parse(kind, &Bytes::from(payload));
        }
    }
}
