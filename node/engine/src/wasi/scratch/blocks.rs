//! The bytes of a file in memory: blocks of 4 KiB, made when they are first written, each counted.

use std::collections::BTreeMap;

use crate::wasi::Errno;

/// Size of a block. Files are charged by whole blocks, as in any file system; holes are free.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Longest file, holes included: 1 TiB, for which block numbers of 32 bits are plenty.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 40;

/// Blocks that may be used, and those that are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Budget {
    pub(crate) used: u64,
    pub(crate) most: u64,
}

impl Budget {
    /// Takes `blocks`; `ENOSPC` if there are not as many.
    pub(crate) fn take(&mut self, blocks: u64) -> Result<(), Errno> {
        if self.most - self.used < blocks {
            return Err(Errno::NOSPC);
        }
        self.used += blocks;
        Ok(())
    }

    /// Gives `blocks` back.
    pub(crate) fn give(&mut self, blocks: u64) {
        self.used = self.used.saturating_sub(blocks);
    }
}

/// The content of one file.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    size: u64,
    blocks: BTreeMap<u32, Box<[u8; BLOCK_BYTES as usize]>>,
}

impl Blocks {
    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How many blocks it holds.
    pub(crate) fn count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Reads from `offset` on; less than asked for only at the end.
    pub(crate) fn read(&self, offset: u64, target: &mut [u8]) -> usize {
        let length = target.len().min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < length {
            let (block, from) = place(offset + done as u64);
            let piece = (length - done).min(BLOCK_BYTES as usize - from);
            let target = &mut target[done..done + piece];
            match self.blocks.get(&block) {
                Some(bytes) => target.copy_from_slice(&bytes[from..from + piece]),
                None => target.fill(0),
            }
            done += piece;
        }
        length
    }

    /// Writes at `offset`. Writes less if the budget ends, and fails only if it can write nothing.
    pub(crate) fn write(&mut self, offset: u64, source: &[u8], budget: &mut Budget) -> Result<usize, Errno> {
        if offset.saturating_add(source.len() as u64) > FILE_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        let mut done = 0;
        while done < source.len() {
            let (block, from) = place(offset + done as u64);
            let piece = (source.len() - done).min(BLOCK_BYTES as usize - from);
            match self.block(block, budget) {
                Ok(bytes) => bytes[from..from + piece].copy_from_slice(&source[done..done + piece]),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            done += piece;
        }
        if done > 0 {
            self.size = self.size.max(offset + done as u64);
        }
        Ok(done)
    }

    /// Makes it `size` bytes long: what is cut off is gone, what is added is zero.
    pub(crate) fn set_size(&mut self, size: u64, budget: &mut Budget) -> Result<(), Errno> {
        if size > FILE_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        let (block, from) = place(size);
        let mut cut = self.blocks.split_off(&block);
        if from > 0
            && let Some(mut last) = cut.remove(&block)
        {
            last[from..].fill(0);
            self.blocks.insert(block, last);
        }
        budget.give(cut.len() as u64);
        self.size = size;
        Ok(())
    }

    /// Makes sure that writing the `length` bytes from `offset` on will not lack space.
    pub(crate) fn allocate(&mut self, offset: u64, length: u64, budget: &mut Budget) -> Result<(), Errno> {
        let end = offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Errno::FBIG)?;
        let (first, last) = (place(offset).0, place(end - 1).0);
        let there = self.blocks.range(first..=last).count() as u64;
        let missing = u64::from(last - first) + 1 - there;
        // Checked before any is made: a failure leaves the file as it was.
        if budget.most - budget.used < missing {
            return Err(Errno::NOSPC);
        }
        for block in first..=last {
            self.block(block, budget)?;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    fn block(&mut self, block: u32, budget: &mut Budget) -> Result<&mut [u8; BLOCK_BYTES as usize], Errno> {
        use std::collections::btree_map::Entry;
        match self.blocks.entry(block) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(missing) => {
                budget.take(1)?;
                Ok(missing.insert(Box::new([0; BLOCK_BYTES as usize])))
            }
        }
    }
}

/// The block of an offset, and where it is in it.
fn place(offset: u64) -> (u32, usize) {
    ((offset / BLOCK_BYTES) as u32, (offset % BLOCK_BYTES) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a file, in numbers small enough to meet each other.
    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Size(u64),
        Allocate(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_u64, proptest::collection::vec(any::<u8>(), 0..9_000)).prop_map(|(at, b)| Step::Write(at, b)),
            (0..20_000_u64).prop_map(Step::Size),
            (0..20_000_u64, 1..9_000_u64).prop_map(|(at, length)| Step::Allocate(at, length)),
        ]
    }

    proptest! {
        #[test]
        fn a_file_holds_what_a_plain_array_of_bytes_holds(steps in proptest::collection::vec(step(), 1..20)) {
            let mut budget = Budget { used: 0, most: 6 };
            let (mut file, mut plain) = (Blocks::default(), Vec::<u8>::new());
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        if let Ok(written) = file.write(at, &bytes, &mut budget) && written > 0 {
                            let end = at as usize + written;
                            plain.resize(plain.len().max(end), 0);
                            plain[at as usize..end].copy_from_slice(&bytes[..written]);
                        }
                    }
                    Step::Size(size) => {
                        file.set_size(size, &mut budget).unwrap();
                        plain.resize(size as usize, 0);
                    }
                    Step::Allocate(at, length) => {
                        if file.allocate(at, length, &mut budget).is_ok() {
                            plain.resize(plain.len().max((at + length) as usize), 0);
                        }
                    }
                }
                prop_assert_eq!(file.size(), plain.len() as u64);
                prop_assert_eq!(file.count(), budget.used);
                prop_assert!(budget.used <= budget.most);
                let mut read = vec![1; plain.len() + 5];
                prop_assert_eq!(file.read(0, &mut read), plain.len());
                prop_assert_eq!(&read[..plain.len()], &plain[..]);
            }
        }
    }
}
