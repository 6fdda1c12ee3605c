//! What cursors read from: versions by key, some of which may have to be brought into memory first.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{Revision, Sub};
use crate::shard::memtable::Position;

pub use crate::shard::tree::{Stop, Walk};

/// The state that a read sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest there is, writes in flight included where the source has them.
    Newest,
    /// As of a revision that is applied and held.
    At(Revision),
}

/// Part of a count that may take several slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The whole count.
    Total(u64),
    /// Go on from here.
    Partly(CountState),
}

/// How far a sliced count has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountState {
    /// Keys created less keys deleted, so far.
    pub net: i64,
    /// By the changes up to here.
    pub reached: Position,
}

impl CountState {
    /// The start of a count as of `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> CountState {
        CountState { net: 0, reached: (revision, Sub(u32::MAX)) }
    }
}

/// Sees each key of a walk with its live version, if it has one.
pub type Visitor<'a> = dyn FnMut(&[u8], Option<&Arc<Record>>) -> ControlFlow<()> + 'a;

/// Versions by key.
pub trait Source {
    /// Visits the keys of `range` above `after`, in order, those without a live version too.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged. What was visited before stays true.
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop>;

    /// Counts the live keys of `range`, looking at about `budget` changes.
    ///
    /// # Errors
    /// [`Stop`]: nothing was counted in this slice.
    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Result<Counted, Stop>;

    /// Whether counting as of a revision costs more than walking the range would.
    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool;
}
