//! shard::tree — the copy-on-write B+trees below a shard's memtable.
//! On no step of a write: a checkpoint merges the frozen memtable into them, reads that the
//! memtable does not answer go through them. In: pages, sorted changes. Out: entries, sums, new
//! pages, pages that are wanted.
//! Owns: the form of pages, entries and roots; nothing that lives but a merge under way.
//! Invariants: (1) a page never changes: a merge writes new ones and frees what it replaced, each
//!             once; (2) a branch says of each subtree what is in it; (3) between two calls a
//!             reader holds no page, and finds its place again by key on whatever root is newest.
//! Limits: CURRENT_LEAF_UNITS, UNDO_LEAF_UNITS, LEAF_UNITS, BRANCH_UNITS, TREE_HEIGHT_MAX,
//!         PAGES_AHEAD, MERGE_AHEAD_CHANGES, MERGE_PULLS_MAX, PAGE_LOGICAL_BYTES_MAX.
//! Must not: do I/O; wait; know where a page lies; unwrap what a page holds.
//! Tests: in its files; tests/ compares with a plain map over a cache that forgets.

mod aggregate;
mod entries;
mod fold;
mod level;
mod merge;
mod page;
mod read;
mod undone;

pub use self::aggregate::{Aggregate, Root};
pub use self::entries::{lease_of, leased_key, undo_key, undo_place};
pub use self::merge::{Change, Merge, REPLACED_COST_BYTES, Step, Take};
pub use self::page::{Entry, check, references};
pub use self::read::{Damaged, Leaf, Reader, Stop, Visitor, Walk};
pub use self::undone::{Chain, Delta, Form, Replaced, Undone, undone_key};

use crate::base::limits::{BRANCH_UNITS, CURRENT_LEAF_UNITS, LEAF_UNITS, UNDO_LEAF_UNITS};
use crate::shard::pages::{PageForm, logical_bytes_in};

/// Pages of trees, for whoever keeps them.
pub const FORM: PageForm = PageForm { check, fold: fold::fold, unfold: fold::unfold };

/// The trees of a shard. All are alike but for what an entry counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Key to its newest version and the chain behind it.
    Current,
    /// Place of a change to what undoes it; grows at its right edge, is cut at its left.
    Undo,
    /// Lease to nothing, lease and key to nothing.
    Leased,
    /// Small key to bytes.
    Meta,
}

impl Kind {
    /// The byte that a page names its tree by.
    fn tag(self) -> u8 {
        match self {
            Kind::Current => 1,
            Kind::Undo => 2,
            Kind::Leased => 3,
            Kind::Meta => 4,
        }
    }

    /// The tree that a page names by this byte.
    fn of_tag(tag: u8) -> Option<Kind> {
        let all = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];
        all.into_iter().find(|kind| kind.tag() == tag)
    }

    /// What a page of this level holds at most, but for entries that are larger by themselves:
    /// whole units on disk if it does not compress.
    fn page_bytes(self, level: u8) -> usize {
        logical_bytes_in(match (self, level) {
            (Kind::Current, 0) => CURRENT_LEAF_UNITS,
            (Kind::Undo, 0) => UNDO_LEAF_UNITS,
            (_, 0) => LEAF_UNITS,
            _ => BRANCH_UNITS,
        })
    }
}

#[cfg(test)]
mod tests;
