//! Memory that O_DIRECT accepts: whole 4 KiB blocks at 4 KiB addresses, without unsafe code.

/// The unit of direct I/O in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// One aligned block.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// A growing run of aligned blocks, written from the front and zero-padded to a whole block.
#[derive(Clone, Default)]
pub struct Blocks {
    blocks: Vec<Block>,
    written: usize,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} B in {})", self.written, self.blocks.len())
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
            self.blocks[at / BLOCK_BYTES].0[offset..offset + head.len()].copy_from_slice(head);
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
        self.blocks.len() * BLOCK_BYTES
    }

    /// Address of the first block, for the kernel. Valid for `padded_len` bytes while `self` is
    /// neither changed nor dropped.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.blocks.as_ptr().cast()
    }

    /// The blocks in order, for media that copy.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; BLOCK_BYTES]> {
        self.blocks.iter().map(|block| &block.0)
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
}
