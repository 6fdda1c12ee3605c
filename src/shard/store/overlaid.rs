//! A shard's state with its writes in flight over it: what evaluation reads.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::record::Record;
use crate::shard::mvcc::source::{AsOf, CountState, Counted, Source, Stop, Visitor, Walk};

/// The state with writes in flight over it.
#[derive(Clone, Copy, Debug)]
pub struct Overlaid<'a> {
    /// What is applied.
    pub store: &'a Store,
    /// The newest version in flight of each key that has one, tombstones included. All are
    /// newer than anything applied.
    pub overlay: &'a BTreeMap<Bytes, Arc<Record>>,
}

impl<'a> Overlaid<'a> {
    /// The newest version of `key`, if it is live.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn newest(&self, key: &[u8]) -> Result<Option<Arc<Record>>, Stop> {
        match self.overlay.get(key) {
            Some(record) => Ok(live(record).cloned()),
            None => self.store.newest(key),
        }
    }

    /// The writes in flight to keys of `range`, in key order.
    pub fn in_flight(&self, range: &KeyRange) -> impl Iterator<Item = &'a Arc<Record>> + use<'a> {
        self.over(range, None).map(|(_, record)| record)
    }

    /// Live keys of `range`, writes in flight included.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn count_newest(&self, range: &KeyRange) -> Result<u64, Stop> {
        let mut count = self.store.count_newest(range)?;
        for record in self.in_flight(range) {
            match (self.store.newest(record.key())?.is_some(), live(record).is_some()) {
                (false, true) => count += 1,
                (true, false) => count -= 1,
                _ => {}
            }
        }
        Ok(count)
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

fn live(record: &Arc<Record>) -> Option<&Arc<Record>> {
    Some(record).filter(|record| !record.is_tombstone())
}

impl Source for Overlaid<'_> {
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        if as_of != AsOf::Newest {
            // What is in flight is newer than every revision that can be asked for.
            return self.store.walk(range, after, as_of, visit);
        }
        let mut over = self.over(range, after).peekable();
        let walked = self.store.walk(range, after, as_of, &mut |key, below| {
            while let Some((above, record)) = over.next_if(|(above, _)| *above < key) {
                if visit(above, live(record)).is_break() {
                    return ControlFlow::Break(());
                }
            }
            match over.next_if(|(above, _)| *above == key) {
                Some((_, record)) => visit(key, live(record)),
                None => visit(key, below),
            }
        })?;
        if walked == Walk::Broken {
            return Ok(Walk::Broken);
        }
        for (above, record) in over {
            if visit(above, live(record)).is_break() {
                return Ok(Walk::Broken);
            }
        }
        Ok(Walk::Ended)
    }

    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Result<Counted, Stop> {
        match as_of {
            AsOf::Newest => self.count_newest(range).map(Counted::Total),
            AsOf::At(_) => self.store.count_slice(range, as_of, from, budget),
        }
    }

    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool {
        self.store.counts_slower_than_walking(range, as_of)
    }
}
