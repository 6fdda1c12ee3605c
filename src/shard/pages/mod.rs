//! pages — the page file of a shard: checksummed pages that never change, in one file.
//! On no step of a write: checkpoints and reads of what no longer fits memory. In: pages to
//! write and free, wishes, completions. Out: `DiskOp`s, verified pages, the newest superblock.
//! Owns: the page file's bytes, which of its units are free, the page cache.
//! Invariants: (1) a page that a durable superblock reaches is not overwritten; (2) a page is
//!             verified before it is served; (3) a failed operation is final, but for want of
//!             space for a page, which gives up the checkpoint alone.
//! Limits: `PAGE_*`. Must not: touch a disk; know what a page holds, which it is handed the check
//!         for; keep an old root.
//! Tests: `tests`, on a disk in memory that crashes, tears and rots.
//!
//! # Assumptions about the medium
//!
//! - What was written before a sync that was reported done survives any crash. What was not may
//!   survive in part: any of its 512-byte sectors, and none of the bytes beside it.
//! - Pages never share a block of 4 KiB, so a write in flight endangers no page but its own.
//! - A failed write or sync leaves contents that nobody can know. Want of space is the one
//!   exception, and only for pages: no superblock names them yet.
//! - The first superblock of a new file needs space as well; who makes the file reserves it.
//! - Bits may rot and writes may be lost or misplaced. A reference tells what its page must be;
//!   the superblock is told by its copy, and its age by the log, which begins where it ends.
//! - Nobody but this process changes the file.

mod allocator;
mod cache;
mod checkpoint;
mod disk;
mod extent;
mod file;
mod holes;
mod image;
mod reader;
mod scrub;
mod superblock;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::base::record::Malformed;

pub use allocator::{Allocator, Overlap};
pub use disk::{Action, DiskOp, Fault, FileId, PageMedium};
pub use extent::{BadRef, Extent, PageRef, SUPERBLOCK_UNITS, UNIT_BYTES};
pub use file::{Done, PageFile, Read};
pub use image::{Codec, Damage, HEADER_BYTES, Packed, Place};
pub use scrub::Scrub;
pub use superblock::{
    AGGREGATE_BYTES, HEAD_BYTES, Identity, Opened, Refusal, Root, Roots, State, Superblock,
    Verdict, open,
};

/// Bytes of the largest page that takes so many units even if it cannot be compressed.
#[must_use]
pub const fn logical_bytes_in(units: usize) -> usize {
    units * UNIT_BYTES as usize - HEADER_BYTES
}

/// Pages in memory.
pub trait Pages {
    /// The page's bytes. `None`: it must be read first (a wish).
    fn page(&self, at: PageRef) -> Option<Bytes>;

    /// Whether the page is there. Who only looks ahead asks this: a page that was read for its
    /// bytes stays longer, and would drive out one that is needed before it.
    fn holds(&self, at: PageRef) -> bool;
}

/// What the tree that reads pages says of them.
#[derive(Clone, Copy, Debug)]
pub struct PageForm {
    /// Whether bytes whose checksum holds are a page to it.
    pub check: fn(&Bytes) -> Result<(), Malformed>,
    /// Turns a page into what compresses best, in place. Takes any bytes.
    pub fold: fn(&mut [u8]),
    /// Undoes that.
    pub unfold: fn(&mut [u8]),
}

/// Where a checkpoint puts pages, and finds those that it begins with.
pub trait PageSink: Pages {
    /// Gives a page its place. It can be read from now on, and is durable with the checkpoint.
    fn write(&mut self, logical: Bytes) -> PageRef;

    /// The new roots do not reach this page. It stays what it is until they are durable.
    fn free(&mut self, at: PageRef);
}
