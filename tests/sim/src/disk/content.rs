//! What is in a file: in the page cache, on the plates, and in between.

use std::collections::BTreeSet;

use rand::{Rng, rngs::SmallRng};

/// The unit in which a disk writes, or does not.
const SECTOR: usize = 512;

/// A file.
#[derive(Default, Clone)]
pub(super) struct Content {
    /// What a reader sees: it outlives the process, not the power.
    pub(super) bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Writes and cuts since, in order.
    writes: Vec<Write>,
    /// How many of them a sync was lied about.
    promised: usize,
}

#[derive(Clone)]
pub(super) enum Write {
    At(usize, Vec<u8>),
    Cut(usize),
}

impl Content {
    pub(super) fn write(&mut self, write: Write) {
        write.apply(&mut self.bytes);
        self.writes.push(write);
    }

    pub(super) fn sync(&mut self) {
        self.promised = self.writes.len();
        self.keep_promises();
    }

    /// A sync that is always one behind.
    pub(super) fn promise(&mut self) {
        self.keep_promises();
        self.promised = self.writes.len();
    }

    fn keep_promises(&mut self) {
        for write in self.writes.drain(..self.promised) {
            write.apply(&mut self.synced);
        }
        self.promised = 0;
    }

    /// A sync that failed: some of what it was about is on the plates. The rest is read from the page cache as if it
    /// were, and no later sync is about it, as Linux has it (Rebello et al., "Can Applications Recover from fsync
    /// Failures?", USENIX ATC 2020).
    pub(super) fn fail_to_sync(&mut self, chance: &mut SmallRng) {
        self.keep_some(chance);
    }

    /// What is on the plates is all there is: what was synced, and some of the rest or nothing.
    pub(super) fn cut_power(&mut self, chance: &mut SmallRng, loses_all: bool) {
        if loses_all {
            (self.writes, self.promised) = (Vec::new(), 0);
        }
        self.keep_some(chance);
        self.bytes = self.synced.clone();
    }

    fn keep_some(&mut self, chance: &mut SmallRng) {
        let writes = std::mem::take(&mut self.writes);
        self.promised = 0;
        let sectors: BTreeSet<usize> = writes.iter().flat_map(Write::sectors).collect();
        for sector in sectors {
            let pieces: Vec<Write> = writes.iter().filter_map(|write| write.within(sector)).collect();
            let kept = match chance.random_range(0..10) {
                0..4 => 0,
                4..8 => pieces.len(),
                _ => chance.random_range(0..=pieces.len()),
            };
            pieces[..kept].iter().for_each(|piece| piece.apply(&mut self.synced));
        }
        // Lengths are kept by the journal, in order.
        let cuts = writes.iter().filter(|write| matches!(write, Write::Cut(_)));
        cuts.filter(|_| chance.random()).for_each(|cut| cut.apply(&mut self.synced));
    }
}

impl Write {
    /// How long the file is after it.
    pub(super) fn len_after(&self, before: usize) -> usize {
        match self {
            Self::At(offset, bytes) => before.max(offset + bytes.len()),
            Self::Cut(len) => *len,
        }
    }

    /// The sectors that it touches.
    fn sectors(&self) -> std::ops::Range<usize> {
        match self {
            Self::At(offset, bytes) => offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR),
            Self::Cut(_) => 0..0,
        }
    }

    /// What it writes to one of them.
    fn within(&self, sector: usize) -> Option<Self> {
        let Self::At(offset, bytes) = self else { return None };
        let (from, to) = ((sector * SECTOR).max(*offset), ((sector + 1) * SECTOR).min(offset + bytes.len()));
        (from < to).then(|| Self::At(from, bytes[from - offset..to - offset].to_vec()))
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::At(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Cut(len) => bytes.resize(*len, 0),
        }
    }
}
