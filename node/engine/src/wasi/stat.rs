//! What is known about a file, and how a guest reads and changes it.

use super::{Errno, Fault};

/// What kind of file it is, in the numbers of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    /// A stream, a pipe, or what WASI has no word for.
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    Regular = 4,
    Socket = 6,
    Link = 7,
}

/// What is known about a file. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed_ns: u64,
    pub(crate) modified_ns: u64,
    pub(crate) changed_ns: u64,
}

/// Bytes of a [`Stat`] in guest memory.
pub(crate) const STAT_BYTES: usize = 64;

impl Stat {
    /// A stream: one link, and everything else zero, as for a pipe.
    pub(crate) const STREAM: Self = Self {
        device: 0,
        inode: 0,
        kind: FileType::Unknown,
        links: 1,
        size: 0,
        accessed_ns: 0,
        modified_ns: 0,
        changed_ns: 0,
    };

    /// As the guest reads it.
    pub(crate) fn encode(&self) -> [u8; STAT_BYTES] {
        let mut raw = [0; STAT_BYTES];
        raw[16] = self.kind as u8;
        let numbers = [
            (0, self.device),
            (8, self.inode),
            (24, self.links),
            (32, self.size),
            (40, self.accessed_ns),
            (48, self.modified_ns),
            (56, self.changed_ns),
        ];
        for (at, number) in numbers {
            raw[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        raw
    }
}

/// What to set a time to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// What the clock shows.
    Now,
    /// Nanoseconds since the Unix epoch.
    At(u64),
}

/// Which times to set; the others stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) accessed: Option<Time>,
    pub(crate) modified: Option<Time>,
}

impl Times {
    /// What the guest asked for; `EINVAL` for flags that there are not, or that contradict each other.
    pub(crate) fn decode(accessed_ns: u64, modified_ns: u64, flags: u32) -> Result<Self, Fault> {
        let time = |at, flags| match flags {
            0 => Ok(None),
            1 => Ok(Some(Time::At(at))),
            2 => Ok(Some(Time::Now)),
            _ => Err(Errno::INVAL),
        };
        Ok(Self { accessed: time(accessed_ns, flags & 3)?, modified: time(modified_ns, flags >> 2)? })
    }
}
