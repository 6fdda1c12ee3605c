//! What the log asks of a disk, and what a disk answers. `runtime` and `sim` carry it out.

use std::fmt;

use crate::base::block::Blocks;
use crate::shard::disk::{DiskFault, Token};

/// One segment file, named `wal/<lane>-<sequence>.seg` in the data directory, both in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The lane that it belongs to.
    pub lane: u16,
    /// Its place in the lane. A number is used once, so a recycled file gets a new name.
    pub sequence: u64,
}

impl SegmentId {
    /// The file's name inside the `wal` directory.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}-{}.seg", self.lane, self.sequence)
    }

    /// The segment that a file in the `wal` directory is; `None`: it is not one of ours.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<SegmentId> {
        let (lane, sequence) = name.strip_suffix(".seg")?.split_once('-')?;
        let id = SegmentId { lane: lane.parse().ok()?, sequence: sequence.parse().ok()? };
        // One name per segment: "00-1.seg" or "+0-1.seg" would be a second one.
        (id.file_name() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wal/{}-{}.seg", self.lane, self.sequence)
    }
}

/// A point in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub segment: SegmentId,
    /// Bytes from its start.
    pub offset: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.segment, self.offset)
    }
}

/// One operation with its token. Operations of different tokens may run and end in any order.
#[derive(Debug)]
pub struct DiskOp {
    /// What to answer with.
    pub token: Token,
    /// The file.
    pub segment: SegmentId,
    /// What to do with it.
    pub action: Action,
}

/// What to do with a segment file.
#[derive(Debug)]
pub enum Action {
    /// Make the file, empty, whether or not one of that name exists. Its space may be reserved
    /// beyond its end; its length stays 0, since a full length says that every block was written.
    Create,
    /// Write zeros at the file's end, which grows by them. Need not be durable when done.
    Zero {
        /// Where: the file's length so far.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Make the file, its length and its name durable: sync the file, then the directory.
    Sync,
    /// Write blocks over blocks that exist. Done means durable, and all of it.
    Write {
        /// Where, a multiple of 4 KiB.
        offset: u64,
        /// What; the padding is part of it.
        blocks: Blocks,
    },
    /// Give the file another name and make that durable: rename, then sync the directory.
    Rename {
        /// The new name; no file has it.
        to: SegmentId,
    },
    /// Remove the file, if it is there, and make that durable: unlink, then sync the directory.
    Delete,
}

/// An operation failed. It is final: the bytes' fate is unknown, and asking again could report
/// success over lost data. The member has to stop; recovery reads what is really there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What failed, as a noun.
    pub what: &'static str,
    /// On which file.
    pub segment: SegmentId,
    /// Why.
    pub cause: DiskFault,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { what, segment, cause } = self;
        write!(
            f,
            "a {what} of {segment} failed: {cause}; what is on the disk is unknown, so this \
             member stops and acknowledges nothing more; see to the disk, then start it again"
        )
    }
}

impl std::error::Error for Fault {}

/// The segment files as recovery reads them.
pub trait Medium {
    /// Makes durable whatever an earlier process left on its way: syncs every segment file and
    /// the directory. Recovery calls it before it reads, since what it reads it counts as kept.
    ///
    /// # Errors
    /// The first failure.
    fn settle(&self) -> Result<(), DiskFault>;

    /// Every segment file with its length in bytes, in any order.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault>;

    /// Bytes from `offset` on, past any cache: `len` of them, fewer only at the file's end.
    /// `offset` and `len` are multiples of 4 KiB.
    ///
    /// # Errors
    /// The bytes cannot be read.
    fn read(&self, segment: SegmentId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        let id = SegmentId { lane: 12, sequence: 345 };
        assert_eq!(id.file_name(), "12-345.seg");
        assert_eq!(id.to_string(), "wal/12-345.seg");
        assert_eq!(SegmentId::from_file_name("12-345.seg"), Some(id));
        for name in
            ["", "12-345", "012-345.seg", "+12-345.seg", "12-345.seg.tmp", "70000-1.seg", "1.seg"]
        {
            assert_eq!(SegmentId::from_file_name(name), None, "{name}");
        }
    }
}
