//! The memory that a plug-in and its host exchange data through: blocks in an address space of their own.
//!
//! Addresses are never used twice in a call, so that the handle of a freed block names nothing, for good. What is not
//! in a live block reads as zero, and writing to it does nothing, as in Extism's own runtime.

use bytes::Bytes;

/// The first address: small numbers are no handles.
const FIRST: u64 = 4096;
/// Blocks start at multiples of it, with at least as much between them: running over an end meets no neighbour.
const ALIGN: u64 = 16;
/// Most blocks of one call at a time.
const BLOCKS_MAX: usize = 1 << 20;
/// From this size on, memory is asked for first: a smaller piece is there, or the whole process is at its end.
const LARGE_BYTES: u64 = 1 << 20;
/// Freed entries are kept until there are more of them than live ones, and at least so many.
const SWEEP_MIN: usize = 64;

/// All blocks of one call.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By address. Freed ones, of length 0, are among them until they are swept.
    list: Vec<Block>,
    freed: usize,
    /// Past the last block there ever was.
    end: u64,
    charged: u64,
    /// Where the last access was: most come in a row.
    recent: usize,
}

#[derive(Debug)]
struct Block {
    start: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Owned(Vec<u8>),
    /// Nobody wrote to it yet.
    Shared(Bytes),
}

impl Block {
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Owned(bytes) => bytes,
            Content::Shared(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        if let Content::Shared(bytes) = &self.content {
            self.content = Content::Owned(bytes.to_vec());
        }
        match &mut self.content {
            Content::Owned(bytes) => bytes,
            Content::Shared(_) => &mut [],
        }
    }

    fn offset(&self, at: u64) -> Option<usize> {
        let offset = at.checked_sub(self.start)?;
        (offset < self.bytes().len() as u64).then_some(offset as usize)
    }
}

impl Blocks {
    /// What a block is charged for besides its bytes: the entries that keep it.
    pub(super) const OVERHEAD: u64 = 128;

    /// The bytes and overheads of all live blocks.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// Forgets every block.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A block of `length` zeros, if it costs at most `room`; else 0, as for a length of 0.
    pub(super) fn allocate(&mut self, length: u64, room: u64) -> u64 {
        if length == 0 || !self.fits(length, room) {
            return 0;
        }
        let Ok(size) = usize::try_from(length) else { return 0 };
        if length >= LARGE_BYTES && Vec::<u8>::new().try_reserve_exact(size).is_err() {
            return 0;
        }
        self.push(Content::Owned(vec![0; size]), length)
    }

    /// A block of `bytes`, if it costs at most `room`; else `None`. No bytes need no block: 0.
    pub(super) fn insert(&mut self, bytes: Bytes, room: u64) -> Option<u64> {
        let length = bytes.len() as u64;
        if length == 0 {
            return Some(0);
        }
        self.fits(length, room).then(|| self.push(Content::Shared(bytes), length))
    }

    fn fits(&self, length: u64, room: u64) -> bool {
        length.saturating_add(Self::OVERHEAD) <= room && self.list.len() - self.freed < BLOCKS_MAX
    }

    fn push(&mut self, content: Content, length: u64) -> u64 {
        let start = self.end.max(FIRST);
        // Bounded by 2^64 only after centuries of allocating.
        self.end = (start + length).next_multiple_of(ALIGN) + ALIGN;
        self.charged += length + Self::OVERHEAD;
        self.list.push(Block { start, content });
        start
    }

    /// Frees the block that starts at `handle`, and gives its bytes back; `None` if there is none.
    pub(super) fn free(&mut self, handle: u64) -> Option<Bytes> {
        let index = self.handle(handle)?;
        let content = std::mem::replace(&mut self.list[index].content, Content::Shared(Bytes::new()));
        let bytes = match content {
            Content::Owned(bytes) => bytes.into(),
            Content::Shared(bytes) => bytes,
        };
        self.charged -= bytes.len() as u64 + Self::OVERHEAD;
        if index + 1 == self.list.len() {
            self.list.pop();
        } else {
            self.freed += 1;
            if self.freed >= SWEEP_MIN && self.freed * 2 > self.list.len() {
                self.list.retain(|block| !block.bytes().is_empty());
                self.freed = 0;
                self.recent = 0;
            }
        }
        Some(bytes)
    }

    /// The length of the block that starts at `handle`; 0 if there is none.
    pub(super) fn length(&self, handle: u64) -> u64 {
        self.handle(handle).map_or(0, |index| self.list[index].bytes().len() as u64)
    }

    /// The bytes of the block that starts at `handle`.
    pub(super) fn block(&self, handle: u64) -> Option<&[u8]> {
        self.handle(handle).map(|index| self.list[index].bytes())
    }

    /// The `length` bytes at `at`, if they are all in one block.
    pub(super) fn range(&self, at: u64, length: u64) -> Option<&[u8]> {
        let (index, offset) = self.find(at)?;
        let end = offset.checked_add(usize::try_from(length).ok()?)?;
        self.list[index].bytes().get(offset..end)
    }

    /// Takes the `length` bytes at `at` away, if they are all in one block, without copying them.
    pub(super) fn take(&mut self, at: u64, length: u64) -> Option<Bytes> {
        self.range(at, length)?;
        let (index, offset) = self.find(at)?;
        let start = self.list[index].start;
        Some(self.free(start)?.slice(offset..offset + length as usize))
    }

    /// The byte at `at`, or 0.
    pub(super) fn load_u8(&mut self, at: u64) -> u8 {
        self.access(at).map_or(0, |(block, offset)| block.bytes()[offset])
    }

    /// The eight bytes at `at`, little end first. Those behind the end of the block are zero.
    pub(super) fn load_u64(&mut self, at: u64) -> u64 {
        let Some((block, offset)) = self.access(at) else { return 0 };
        let bytes = &block.bytes()[offset..];
        if let Some(whole) = bytes.first_chunk() {
            return u64::from_le_bytes(*whole);
        }
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(padded)
    }

    /// Sets the byte at `at`, if it is in a block.
    pub(super) fn store_u8(&mut self, at: u64, value: u8) {
        if let Some((block, offset)) = self.access(at) {
            block.bytes_mut()[offset] = value;
        }
    }

    /// Sets the eight bytes at `at`, as far as they are in one block.
    pub(super) fn store_u64(&mut self, at: u64, value: u64) {
        if let Some((block, offset)) = self.access(at) {
            let target = &mut block.bytes_mut()[offset..];
            let length = target.len().min(8);
            target[..length].copy_from_slice(&value.to_le_bytes()[..length]);
        }
    }

    fn access(&mut self, at: u64) -> Option<(&mut Block, usize)> {
        let (index, offset) = self.find(at)?;
        self.recent = index;
        Some((&mut self.list[index], offset))
    }

    /// The block that `at` is in, and where in it.
    fn find(&self, at: u64) -> Option<(usize, usize)> {
        let recent = self.list.get(self.recent).and_then(|block| block.offset(at));
        if let Some(offset) = recent {
            return Some((self.recent, offset));
        }
        let index = self.list.partition_point(|block| block.start <= at).checked_sub(1)?;
        self.list[index].offset(at).map(|offset| (index, offset))
    }

    fn handle(&self, handle: u64) -> Option<usize> {
        self.find(handle).and_then(|(index, offset)| (offset == 0).then_some(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: u64 = 1 << 20;

    #[test]
    fn a_block_keeps_what_is_stored_and_starts_with_zeros() {
        let mut blocks = Blocks::default();
        let at = blocks.allocate(20, ROOM);
        assert_eq!((blocks.length(at), blocks.load_u64(at + 12)), (20, 0));
        blocks.store_u64(at, 0x0807_0605_0403_0201);
        blocks.store_u8(at + 19, 9);
        assert_eq!(blocks.range(at, 9).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert_eq!((blocks.load_u8(at + 3), blocks.load_u8(at + 19)), (4, 9));
        // Over the end: what is there, and nothing of anything else.
        let next = blocks.allocate(8, ROOM);
        blocks.store_u64(next, u64::MAX);
        blocks.store_u64(at + 16, 0x1112_1314_1516_1718);
        assert_eq!(blocks.load_u64(at + 16), 0x1516_1718);
        assert_eq!(blocks.load_u64(next), u64::MAX);
    }

    #[test]
    fn what_is_in_no_live_block_reads_as_zero_and_takes_no_writes() {
        let mut blocks = Blocks::default();
        let (first, second) = (blocks.allocate(8, ROOM), blocks.allocate(8, ROOM));
        for at in [first, second] {
            blocks.store_u64(at, u64::MAX);
        }
        blocks.free(first);
        for at in [0, 1, first, first + 8, second - 1, second + 8, 1 << 32, (1 << 32) + second, u64::MAX] {
            blocks.store_u8(at, 5);
            blocks.store_u64(at, 5);
            assert_eq!((blocks.load_u8(at), blocks.load_u64(at), blocks.length(at)), (0, 0, 0), "{at}");
            assert!(blocks.free(at).is_none() && blocks.range(at, 1).is_none() && blocks.block(at).is_none(), "{at}");
        }
        assert_eq!(blocks.load_u64(second), u64::MAX);
        assert_eq!(blocks.length(second + 1), 0, "the middle of a block is no handle");
        assert!(blocks.range(second, 9).is_none() && blocks.range(second, u64::MAX).is_none());
        assert_ne!(blocks.allocate(8, ROOM), first, "addresses are not used twice");
    }

    #[test]
    fn the_charge_bounds_what_is_alive_and_falls_when_it_is_freed() {
        let mut blocks = Blocks::default();
        let room = |blocks: &Blocks| 10_000 - blocks.charged();
        assert_eq!(blocks.allocate(10_001, 10_000), 0);
        assert_eq!(blocks.allocate(u64::MAX, 10_000), 0);
        assert_eq!(blocks.allocate(0, 10_000), 0);
        let mut handles = Vec::new();
        while let at @ 1.. = blocks.allocate(1, room(&blocks)) {
            handles.push(at);
        }
        assert_eq!(handles.len() as u64, 10_000 / (1 + Blocks::OVERHEAD));
        assert!(blocks.insert(Bytes::from_static(b"x"), room(&blocks)).is_none());
        for at in handles {
            assert_eq!(blocks.free(at).unwrap().len(), 1);
        }
        assert_eq!(blocks.charged(), 0);
    }

    #[test]
    fn bytes_go_in_and_out_uncopied_unless_somebody_writes() {
        let mut blocks = Blocks::default();
        let input = Bytes::from_static(b"payload");
        let at = blocks.insert(input.clone(), ROOM).unwrap();
        let taken = blocks.take(at + 1, 3).unwrap();
        assert_eq!((&taken[..], taken.as_ptr()), (&b"ayl"[..], input[1..].as_ptr()));
        let at = blocks.insert(input.clone(), ROOM).unwrap();
        blocks.store_u8(at, b'P');
        assert_eq!((blocks.block(at).unwrap(), &input[..]), (&b"Payload"[..], &b"payload"[..]));
        assert_eq!(blocks.insert(Bytes::new(), ROOM), Some(0));
    }

    #[test]
    fn a_million_blocks_one_after_the_other_leave_nothing() {
        let mut blocks = Blocks::default();
        let stays = blocks.allocate(16, ROOM);
        let mut before = blocks.allocate(16, ROOM);
        for _ in 0..1_000_000 {
            let at = blocks.allocate(16, ROOM);
            blocks.free(before);
            before = at;
        }
        assert!(blocks.list.len() <= 2 * SWEEP_MIN + 2, "{}", blocks.list.len());
        assert_eq!(blocks.length(stays), 16);
    }

    proptest! {
        /// Against the plainest model there is: a map from every address to its byte.
        #[test]
        fn it_is_a_memory(steps in prop::collection::vec((0..5_u8, 0..12_usize, 0..40_u64, any::<u64>()), 1..300)) {
            let mut blocks = Blocks::default();
            let mut model: std::collections::BTreeMap<u64, Vec<u8>> = std::collections::BTreeMap::new();
            for (step, which, offset, value) in steps {
                let start = model.keys().nth(which).copied().unwrap_or(7);
                match step {
                    0 => if let at @ 1.. = blocks.allocate(offset, ROOM) {
                        prop_assert!(model.insert(at, vec![0; offset as usize]).is_none());
                    },
                    1 => prop_assert_eq!(blocks.free(start).map(Vec::from), model.remove(&start)),
                    2 => {
                        blocks.store_u64(start + offset, value);
                        let block = model.range_mut(..=start + offset).next_back();
                        let target = block.and_then(|(at, bytes)| bytes.get_mut((start + offset - at) as usize..));
                        for (byte, value) in target.into_iter().flatten().zip(value.to_le_bytes()) {
                            *byte = value;
                        }
                    }
                    3 => {
                        let block = model.range(..=start + offset).next_back();
                        let expected = block.and_then(|(at, bytes)| bytes.get((start + offset - at) as usize)).copied();
                        prop_assert_eq!(blocks.load_u8(start + offset), expected.unwrap_or(0));
                    }
                    _ => prop_assert_eq!(blocks.block(start), model.get(&start).map(Vec::as_slice)),
                }
                let charged: u64 = model.values().map(|bytes| bytes.len() as u64 + Blocks::OVERHEAD).sum();
                prop_assert_eq!(blocks.charged(), charged);
            }
        }
    }
}
