//! shard::pages — the seam between a shard's trees and the file that holds their pages.
//! On no step of a write: checkpoints and reads below the memtable. In: pages, in full. Out: where
//! they lie.
//! Owns: the form of a reference to a page.
//! Invariants: (1) a page never changes; (2) a reference says all that a page must be.
//! Limits: none of its own.
//! Must not: know what a page holds.
//! Tests: at the bottom.

use bytes::Bytes;

/// Where a page lies in the file and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// First 4 KiB unit.
    pub unit: u32,
    /// Units that it takes.
    pub units: u32,
    /// Bytes on disk, compressed.
    pub stored: u32,
    /// Bytes expanded.
    pub logical: u32,
    /// CRC-32C of the stored bytes.
    pub checksum: u32,
}

impl PageRef {
    /// Bytes of the encoded form.
    pub const ENCODED_BYTES: usize = 20;

    /// The five fields in their order, little-endian.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        let fields = [self.unit, self.units, self.stored, self.logical, self.checksum];
        for (place, field) in out.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        out
    }

    /// Reads the encoded form back. Any bytes are a reference; what they name is checked when it
    /// is read.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::ENCODED_BYTES]) -> PageRef {
        let field = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        PageRef {
            unit: field(0),
            units: field(4),
            stored: field(8),
            logical: field(12),
            checksum: field(16),
        }
    }
}

/// Pages in memory.
pub trait Pages {
    /// The expanded page. `None`: it must be read first.
    fn page(&self, at: PageRef) -> Option<Bytes>;
}

/// Where a checkpoint puts pages.
pub trait PageSink {
    /// Takes a new page in and says where it will lie.
    fn write(&mut self, logical: &[u8]) -> PageRef;

    /// The page is not part of the newest tree any more.
    fn free(&mut self, at: PageRef);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back() {
        let at = PageRef { unit: 1, units: 2, stored: 5000, logical: 70_000, checksum: u32::MAX };
        assert_eq!(PageRef::decode(&at.encode()), at);
    }
}
