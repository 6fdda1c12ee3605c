//! Why a rewriting came to nothing.

use std::fmt;

use super::Side;
use crate::base::record::Malformed;
use crate::shard::disk::REMEDY;
use crate::shard::pages::{Fault, FileId};
use crate::shard::tree::{Damaged, Kind};

/// Why a store is not written for another number of shards. What is there stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// No space was left for a page.
    NoSpace {
        /// In which store.
        side: Side,
        /// In which file.
        file: FileId,
    },
    /// A page file cannot be relied upon.
    Fault {
        /// Of which store.
        side: Side,
        /// Why.
        fault: Fault,
    },
    /// The log's entries are intact and yet no effects of this format.
    Log(Malformed),
    /// A root is none.
    Root {
        /// In which file.
        file: FileId,
        /// What is wrong with it.
        what: Malformed,
    },
    /// A page is not what it has to be.
    Tree {
        /// In which file.
        file: FileId,
        /// What is wrong with it.
        what: Damaged,
    },
    /// An entry is none of its tree.
    Entry {
        /// In which file.
        file: FileId,
        /// In which tree.
        kind: Kind,
        /// What is wrong with it.
        what: Malformed,
    },
    /// An entry stands twice, in one shard or in two, or behind one that comes after it.
    Order {
        /// In which file.
        file: FileId,
        /// In which tree.
        kind: Kind,
    },
    /// A file is not as of an entry of the log that the others are of.
    Apart {
        /// The file.
        file: FileId,
    },
    /// What was read is not what the old roots say.
    Sums {
        /// In which tree.
        kind: Kind,
    },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::NoSpace { side, file } => {
                write!(
                    f,
                    "no space is left for {}: free some, then run this again",
                    of(*side, file)
                )
            }
            Failed::Fault { side, fault } => fault_text(f, *side, fault),
            Failed::Log(Malformed(what)) => {
                write!(f, "the log holds {what}: it was written by another version of ringbolt")
            }
            Failed::Root { file, what: Malformed(what) } => {
                write!(f, "{file} is damaged: {what}; {REMEDY}")
            }
            Failed::Tree { file, what } => write!(f, "{file}: {what}; see to the disk; {REMEDY}"),
            Failed::Entry { file, kind, what: Malformed(what) } => {
                write!(f, "{file} is damaged: the tree {} holds {what}; {REMEDY}", name(*kind))
            }
            Failed::Order { file, kind } => write!(
                f,
                "{file} is damaged: the tree {} holds an entry twice or out of order; {REMEDY}",
                name(*kind)
            ),
            Failed::Apart { file } => {
                write!(f, "{file} is of an entry of the log that the others are not of; {REMEDY}")
            }
            Failed::Sums { kind } => write!(
                f,
                "what the trees {} hold is not what their roots say; {REMEDY}",
                name(*kind)
            ),
        }
    }
}

impl std::error::Error for Failed {}

/// A page file of a store, in a sentence.
fn of(side: Side, file: &FileId) -> String {
    match side {
        Side::Old => file.to_string(),
        Side::New => format!("the new {file}"),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Current => "current",
        Kind::Undo => "undo",
        Kind::Leased => "leased",
        Kind::Meta => "meta",
    }
}

/// As a member says it, but that no member stops.
fn fault_text(f: &mut fmt::Formatter<'_>, side: Side, fault: &Fault) -> fmt::Result {
    match fault {
        Fault::Failed { file, what, at, cause } => {
            write!(f, "a {what} of {} failed", of(side, file))?;
            if let Some(extent) = at {
                write!(f, ", {extent}")?;
            }
            write!(f, ": {cause}; see to the disk, then run this again")
        }
        Fault::Overlap { file, overlap } => write!(f, "{}: {overlap}; {REMEDY}", of(side, file)),
        Fault::Damaged { file, at, damage } => {
            let (of, extent) = (of(side, file), at.extent());
            write!(f, "{of}: the page of {extent} is damaged: {damage}; see to the disk; {REMEDY}")
        }
    }
}
