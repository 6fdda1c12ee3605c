//! Reads past the page cache, and the memory that they want.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::block::BLOCK_BYTES;

/// Bytes at an address that O_DIRECT accepts. They stay where they are when this moves.
pub(super) struct Aligned {
    /// A little more than asked for has an aligned address in it.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub(super) fn new(len: usize) -> Aligned {
        let memory = vec![0; len + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, start, len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What lies behind the first `filled` bytes.
    pub(super) fn rest(&mut self, filled: usize) -> &mut [u8] {
        &mut self.memory[self.start + filled..self.start + self.len]
    }

    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

/// Whether a transfer of so many bytes, fewer than asked for, may have more behind it: at a file's
/// end it is none, or no whole number of blocks.
pub(super) fn may_go_on(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES)
}

/// Reads from a file that was opened with O_DIRECT, fewer bytes only at its end.
pub(super) fn read(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut memory = Aligned::new(len);
    let mut filled = 0;
    while filled < len {
        let bytes = file.read_at(memory.rest(filled), offset + filled as u64)?;
        filled += bytes;
        if !may_go_on(bytes) {
            break;
        }
    }
    memory.truncate(filled);
    Ok(memory.as_ref().to_vec())
}
