//! Where pages lie: extents of 4 KiB units, and references to the pages in them.

use std::fmt;

use bytes::Buf;

use crate::base::block::BLOCK_BYTES;
use crate::base::limits::{PAGE_LOGICAL_BYTES_MAX, PAGE_UNITS_MAX};

use super::image::HEADER_BYTES;

/// Bytes of a unit: what is allocated, written and read is whole units.
pub const UNIT_BYTES: u64 = BLOCK_BYTES as u64;
/// Units at the front of the file that hold the superblocks.
pub const SUPERBLOCK_UNITS: u32 = 4;

/// A run of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The first one.
    pub unit: u32,
    /// How many, at least one.
    pub units: u32,
}

impl Extent {
    /// The unit behind the last.
    #[must_use]
    pub fn end(self) -> u32 {
        self.unit + self.units
    }

    /// Where it begins in the file, in bytes.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.unit) * UNIT_BYTES
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.units) * UNIT_BYTES
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B at offset {}", self.bytes(), self.offset())
    }
}

/// Where a page lies in the file and what it must be. Stored in branch pages and superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// First unit of its extent.
    pub unit: u32,
    /// Units of its extent: `stored` in whole units.
    pub units: u32,
    /// Bytes on disk: the page's header and its body, compressed or not.
    pub stored: u32,
    /// Bytes of the page as it was handed in.
    pub logical: u32,
    /// CRC-32C of the stored bytes.
    pub checksum: u32,
}

/// Bytes that are no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRef {
    /// What is impossible about them.
    pub why: &'static str,
}

impl fmt::Display for BadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a reference to a page is impossible: {}", self.why)
    }
}

impl std::error::Error for BadRef {}

impl PageRef {
    /// Bytes of an encoded reference: unit, stored, logical, checksum.
    pub const ENCODED_BYTES: usize = 16;

    /// The extent that the page takes.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent { unit: self.unit, units: self.units }
    }

    /// The bytes for a branch page or a superblock. The units follow from the stored bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PageRef::ENCODED_BYTES] {
        let mut out = [0; PageRef::ENCODED_BYTES];
        let words = [self.unit, self.stored, self.logical, self.checksum];
        for (slot, word) in out.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads a reference from the front of `bytes`.
    ///
    /// # Errors
    /// Too few bytes, or a place or a size that no page has.
    pub fn decode(bytes: &[u8]) -> Result<PageRef, BadRef> {
        let bad = |why| Err(BadRef { why });
        let Some(mut rest) = bytes.get(..PageRef::ENCODED_BYTES) else {
            return bad("it is cut short");
        };
        let (unit, stored) = (rest.get_u32_le(), rest.get_u32_le());
        let (logical, checksum) = (rest.get_u32_le(), rest.get_u32_le());
        let units = stored.div_ceil(UNIT_BYTES as u32);
        if unit < SUPERBLOCK_UNITS {
            return bad("it points at the superblocks");
        }
        if stored as usize <= HEADER_BYTES || units > PAGE_UNITS_MAX {
            return bad("no page takes so many bytes on disk");
        }
        if unit.checked_add(units).is_none() {
            return bad("it points beyond the largest file");
        }
        if logical == 0 || logical as usize > PAGE_LOGICAL_BYTES_MAX {
            return bad("no page is of so many bytes");
        }
        Ok(PageRef { unit, units, stored, logical, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(unit: u32, stored: u32, logical: u32) -> PageRef {
        let units = stored.div_ceil(UNIT_BYTES as u32);
        PageRef { unit, units, stored, logical, checksum: 0x1234_5678 }
    }

    #[test]
    fn a_reference_comes_back() {
        for at in [reference(4, 49, 1), reference(u32::MAX - 2, 4097, 131_000)] {
            assert_eq!(PageRef::decode(&at.encode()), Ok(at));
        }
    }

    #[test]
    fn an_impossible_reference_is_refused() {
        let impossible = [
            reference(3, 100, 100),
            reference(4, HEADER_BYTES as u32, 100),
            reference(4, (PAGE_UNITS_MAX + 1) * UNIT_BYTES as u32, 100),
            reference(u32::MAX - 1, 4097, 100),
            reference(4, 100, 0),
            reference(4, 100, PAGE_LOGICAL_BYTES_MAX as u32 + 1),
            reference(4, u32::MAX, 100),
        ];
        for at in impossible {
            assert!(PageRef::decode(&at.encode()).is_err(), "{at:?}");
        }
        assert!(PageRef::decode(&reference(4, 100, 100).encode()[..15]).is_err());
    }
}
