//! What a page file asks of a disk, and what a disk answers. `runtime` and `sim` carry it out.

use std::fmt;

use crate::base::ShardId;
use crate::base::block::Blocks;
use crate::shard::disk::{DiskFault, REMEDY, Token};

use super::allocator::Overlap;
use super::extent::{Extent, PageRef};
use super::image::Damage;

/// One page file, named `shards/<shard>.pages` in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub ShardId);

impl FileId {
    /// The file's name inside the `shards` directory.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}.pages", self.0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shards/{}.pages", self.0)
    }
}

/// One operation with its token. Operations of different tokens may run and end in any order;
/// the page file waits where order matters. The file exists, and its name is durable, before
/// the first one.
#[derive(Debug)]
pub struct DiskOp {
    /// What to answer with.
    pub token: Token,
    /// What to do.
    pub action: Action,
}

/// What to do with the file. Offsets and lengths are multiples of 4 KiB.
#[derive(Debug)]
pub enum Action {
    /// Read, past any cache: as many bytes as there are, fewer only at the file's end.
    Read {
        /// Where.
        extent: Extent,
    },
    /// Write, beyond the file's end too. Need not be durable when done.
    Write {
        /// Where, in units.
        unit: u32,
        /// What; the padding is part of it.
        blocks: Blocks,
    },
    /// Make what was written, and the file's length, durable: fdatasync.
    Sync,
    /// Cut the file to this many units. Need not be durable when done.
    Cut {
        /// Its new length.
        units: u32,
    },
    /// Give the space of a free run back; it then reads as zeros. On a filesystem that cannot
    /// it is done when nothing was done. Need not be durable when done.
    Punch {
        /// The run.
        extent: Extent,
    },
}

/// The page files as a start reads them, before any operation is begun. All of them exist: who
/// opens the data directory makes those that are missing, with the space of their superblocks
/// reserved, and makes their names durable.
pub trait PageMedium {
    /// Makes durable whatever an earlier process left on its way in the file, and gives its
    /// length in bytes.
    ///
    /// # Errors
    /// Why the disk did not.
    fn settle(&self, file: FileId) -> Result<u64, DiskFault>;

    /// Reads past any cache, fewer bytes only at the file's end.
    ///
    /// # Errors
    /// Why the disk did not.
    fn read(&self, file: FileId, extent: Extent) -> Result<Vec<u8>, DiskFault>;
}

/// The page file can no longer be relied upon: the member has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An operation failed. It is final: what is on the disk is unknown, and asking again could
    /// report success over lost data.
    Failed {
        /// On which file.
        file: FileId,
        /// What failed, as a noun.
        what: &'static str,
        /// Where; none: the file as a whole.
        at: Option<Extent>,
        /// Why.
        cause: DiskFault,
    },
    /// Two pages lie in one place, or one outside the file: the references are wrong.
    Overlap {
        /// In which file.
        file: FileId,
        /// Which pages.
        overlap: Overlap,
    },
    /// A page is not what was written. It is not served.
    Damaged {
        /// In which file.
        file: FileId,
        /// Which page.
        at: PageRef,
        /// What is wrong with it.
        damage: Damage,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Failed { file, what, at, cause } => {
                write!(f, "a {what} of {file} failed")?;
                if let Some(extent) = at {
                    write!(f, ", {extent}")?;
                }
                write!(
                    f,
                    ": {cause}; what is on the disk is unknown, so this member stops; see to the \
                     disk, then start it again"
                )
            }
            Fault::Overlap { file, overlap } => {
                write!(
                    f,
                    "{file}: {overlap}; this member stops, since writing could destroy \
                 a page; {REMEDY}"
                )
            }
            Fault::Damaged { file, at, damage } => write!(
                f,
                "{file}: the page of {} is damaged: {damage}; this member stops, since it would \
                 answer from it; see to the disk; {REMEDY}",
                at.extent()
            ),
        }
    }
}

impl std::error::Error for Fault {}
