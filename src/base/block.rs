//! Memory that O_DIRECT accepts: whole 4 KiB blocks at 4 KiB addresses, without unsafe code.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::limits::{BLOCK_POOL_RUN_BYTES_MAX, BLOCK_POOL_RUNS_MAX};

/// The unit of direct I/O in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// One aligned block.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// A growing run of aligned blocks, written from the front and zero-padded to a whole block.
#[derive(Clone, Default)]
pub struct Blocks {
    /// What lies beyond `written` may be of a run before.
    blocks: Vec<Block>,
    written: usize,
    /// Where the memory goes when it is done with.
    pool: Option<BlockPool>,
}

/// Memory of runs that are done with, for runs to come: memory that is touched for the first time
/// costs several times what the copy into it does. Runs may end on another thread.
#[derive(Clone)]
pub struct BlockPool(Arc<ArrayQueue<Vec<Block>>>);

impl Default for BlockPool {
    fn default() -> BlockPool {
        BlockPool(Arc::new(ArrayQueue::new(BLOCK_POOL_RUNS_MAX)))
    }
}

impl BlockPool {
    /// A run without bytes yet.
    #[must_use]
    pub fn take(&self) -> Blocks {
        let blocks = self.0.pop().unwrap_or_default();
        Blocks { blocks, written: 0, pool: Some(self.clone()) }
    }

    /// Keeps memory for later, if the limits allow.
    fn give(&self, blocks: Vec<Block>) {
        let bytes = blocks.capacity() * BLOCK_BYTES;
        if (1..=BLOCK_POOL_RUN_BYTES_MAX).contains(&bytes) {
            // A full pool is no failure: the allocator takes the memory back.
            let _ = self.0.push(blocks);
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give(std::mem::take(&mut self.blocks));
        }
    }
}

impl std::fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockPool({} runs)", self.0.len())
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} B in {})", self.written, self.written.div_ceil(BLOCK_BYTES))
    }
}

impl Blocks {
    /// No blocks yet.
    #[must_use]
    pub fn new() -> Blocks {
        Blocks::default()
    }

    /// Makes room for `bytes` more: a run that grows step by step is copied at each.
    pub fn reserve(&mut self, bytes: usize) {
        let needed = (self.written + bytes).div_ceil(BLOCK_BYTES);
        self.blocks.reserve(needed.saturating_sub(self.blocks.len()));
    }

    /// Appends `bytes` behind what was written.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.written + bytes.len();
        let needed = end.div_ceil(BLOCK_BYTES);
        if needed > self.blocks.len() {
            self.blocks.resize(needed, Block([0; BLOCK_BYTES]));
        }
        let mut at = self.written;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = at % BLOCK_BYTES;
            let (head, tail) = rest.split_at(rest.len().min(BLOCK_BYTES - offset));
            let block = &mut self.blocks[at / BLOCK_BYTES].0;
            block[offset..offset + head.len()].copy_from_slice(head);
            if offset == 0 {
                // What a run before left here must not be this one's padding.
                block[head.len()..].fill(0);
            }
            at += head.len();
            rest = tail;
        }
        self.written = end;
    }

    /// Bytes written, without the padding.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Bytes in whole blocks, padding included: what goes to the disk.
    #[must_use]
    pub fn padded_len(&self) -> usize {
        self.written.next_multiple_of(BLOCK_BYTES)
    }

    /// Address of the first block, for the kernel. Valid for `padded_len` bytes while `self` is
    /// neither changed nor dropped.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.blocks.as_ptr().cast()
    }

    /// The blocks in order, for media that copy.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; BLOCK_BYTES]> {
        self.blocks[..self.written.div_ceil(BLOCK_BYTES)].iter().map(|block| &block.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_to_whole_aligned_blocks() {
        let mut blocks = Blocks::new();
        blocks.extend(&[7; 5000]);
        blocks.extend(&[9; 10]);
        assert_eq!(blocks.written(), 5010);
        assert_eq!(blocks.padded_len(), 2 * BLOCK_BYTES);
        assert_eq!(blocks.as_ptr() as usize % BLOCK_BYTES, 0);
        let flat: Vec<u8> = blocks.iter().flatten().copied().collect();
        assert!(flat[..5000].iter().all(|b| *b == 7));
        assert!(flat[5000..5010].iter().all(|b| *b == 9));
        assert!(flat[5010..].iter().all(|b| *b == 0));
    }

    #[test]
    fn memory_that_comes_back_is_used_again_and_shows_nothing_of_before() {
        let pool = BlockPool::default();
        let mut first = pool.take();
        first.extend(&vec![7; 3 * BLOCK_BYTES]);
        let address = first.as_ptr();
        drop(first);
        let mut second = pool.take();
        assert_eq!((second.as_ptr(), second.written(), second.padded_len()), (address, 0, 0));
        for part in [&[1; 5000][..], &[2; 3]] {
            second.extend(part);
        }
        assert_eq!(second.padded_len(), 2 * BLOCK_BYTES);
        let mut fresh = Blocks::new();
        fresh.extend(&[1; 5000]);
        fresh.extend(&[2; 3]);
        assert!(second.iter().eq(fresh.iter()));
    }

    #[test]
    fn a_pool_keeps_no_more_than_it_may() {
        let pool = BlockPool::default();
        let make = |bytes: usize| {
            let mut blocks = pool.take();
            blocks.extend(&vec![1; bytes]);
            blocks
        };
        drop(make(BLOCK_POOL_RUN_BYTES_MAX + 1));
        drop(pool.take());
        assert_eq!(pool.0.len(), 0, "too large, or nothing");
        let runs: Vec<Blocks> = (0..BLOCK_POOL_RUNS_MAX + 3).map(|_| make(1)).collect();
        drop(runs);
        assert_eq!(pool.0.len(), BLOCK_POOL_RUNS_MAX);
    }
}
