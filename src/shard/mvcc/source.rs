//! What cursors read from: the memtable, with or without the writes in flight above it.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::range::{KeyRange, RangeEnd};
use crate::base::record::Record;
use crate::base::{Revision, Sub};
use crate::shard::memtable::{Memtable, Position};

/// The state that a read sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest there is, writes in flight included where the source has them.
    Newest,
    /// As of a revision that is applied and held.
    At(Revision),
}

/// Names a page of the store that has to be in memory before a read can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u64);

/// Why a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    /// There is no further key in the range.
    Ended,
    /// The visitor broke off.
    Broken,
    /// These pages are missing. What was visited before stays true.
    Wanted(Vec<PageId>),
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
    net: i64,
    reached: Position,
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
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Walk;

    /// Counts the live keys of `range`, looking at about `budget` changes.
    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Counted;

    /// Whether counting as of a revision costs more than walking the range would.
    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool;
}

impl Source for Memtable {
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Walk {
        for (key, versions) in self.scan(range, after) {
            let live = match as_of {
                AsOf::Newest => versions.newest(),
                AsOf::At(revision) => versions.at(revision),
            };
            if visit(key, live).is_break() {
                return Walk::Broken;
            }
        }
        Walk::Ended
    }

    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Counted {
        if as_of == AsOf::Newest {
            return Counted::Total(self.count_newest(range));
        }
        let (net, left) = self.net_created(range, from.reached, budget);
        let net = from.net + net;
        match left {
            Some(reached) => Counted::Partly(CountState { net, reached }),
            // Taken in the same slice as the last changes, so the two agree.
            None => {
                let now = self.count_newest(range);
                let total = now.checked_add_signed(-net);
                Counted::Total(total.expect("no range has fewer than 0 keys"))
            }
        }
    }

    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool {
        match as_of {
            AsOf::Newest => false,
            // A key costs more to visit than a change to pass over.
            AsOf::At(revision) => self.changes_above(revision) / 8 > self.keys_about(range),
        }
    }
}

/// The memtable with a shard's writes in flight over it: what evaluation reads.
#[derive(Clone, Copy, Debug)]
pub struct Overlaid<'a> {
    /// What is applied.
    pub table: &'a Memtable,
    /// The newest version in flight of each key that has one, tombstones included. All are
    /// newer than anything applied.
    pub overlay: &'a BTreeMap<Bytes, Arc<Record>>,
}

impl<'a> Overlaid<'a> {
    /// The newest version of `key`, if it is live.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<&'a Arc<Record>> {
        match self.overlay.get(key) {
            Some(record) => Some(record).filter(|record| !record.is_tombstone()),
            None => self.table.newest(key),
        }
    }

    /// The writes in flight to keys of `range`, in key order.
    pub fn in_flight(&self, range: &KeyRange) -> impl Iterator<Item = &'a Arc<Record>> + use<'a> {
        self.over(range, None).map(|(_, record)| record)
    }

    /// Live keys of `range`, writes in flight included.
    #[must_use]
    pub fn count_newest(&self, range: &KeyRange) -> u64 {
        let mut count = self.table.count_newest(range);
        for record in self.in_flight(range) {
            let is_live = !record.is_tombstone();
            match (self.table.newest(record.key()).is_some(), is_live) {
                (false, true) => count += 1,
                (true, false) => count -= 1,
                _ => {}
            }
        }
        count
    }

    fn over(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a Arc<Record>)> + use<'a> {
        let from = match after.filter(|after| *after >= &range.start[..]) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(&range.start[..]),
        };
        let to = match &range.end {
            RangeEnd::Single => Bound::Included(&range.start[..]),
            RangeEnd::Open => Bound::Unbounded,
            RangeEnd::Before(end) => Bound::Excluded(&end[..]),
        };
        // A map panics on bounds that cross; such a range holds nothing.
        let crossed = match (from, to) {
            (Bound::Included(from), Bound::Excluded(to)) => from >= to,
            (Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        let over = (!crossed).then(|| self.overlay.range::<[u8], _>((from, to)));
        over.into_iter().flatten().map(|(key, record)| (&key[..], record))
    }
}

impl Source for Overlaid<'_> {
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Walk {
        if as_of != AsOf::Newest {
            // What is in flight is newer than every revision that can be asked for.
            return self.table.walk(range, after, as_of, visit);
        }
        let mut over = self.over(range, after).peekable();
        let mut below = self.table.scan(range, after).peekable();
        loop {
            let (key, live) = match (over.peek(), below.peek()) {
                (None, None) => return Walk::Ended,
                (Some((above, _)), Some((key, _))) if above <= key => {
                    if above == key {
                        below.next();
                    }
                    over.next().map(|(key, record)| (key, Some(record)))
                }
                (Some(_), None) => over.next().map(|(key, record)| (key, Some(record))),
                (_, Some(_)) => below.next().map(|(key, versions)| (key, versions.newest())),
            }
            .expect("a peeked item is there");
            if visit(key, live.filter(|record| !record.is_tombstone())).is_break() {
                return Walk::Broken;
            }
        }
    }

    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Counted {
        match as_of {
            AsOf::Newest => Counted::Total(self.count_newest(range)),
            AsOf::At(_) => self.table.count_slice(range, as_of, from, budget),
        }
    }

    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool {
        self.table.counts_slower_than_walking(range, as_of)
    }
}
