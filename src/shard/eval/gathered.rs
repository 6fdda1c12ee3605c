//! A view made of what several shards answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Missing, Page, View};
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{LeaseId, Revision};

/// One thing to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// The live version of a key.
    Key(Bytes),
    /// The live versions of a range, up to a limit (0: all).
    Range(KeyRange, u64),
    /// The same as of a revision.
    RangeAt(KeyRange, Revision, u64),
    /// The keys attached to a lease.
    LeaseKeys(LeaseId),
    /// The live versions of the keys attached to a lease.
    LeaseRecords(LeaseId),
}

/// What one shard says to one ask.
#[derive(Clone, Debug)]
pub enum Given {
    /// To `Key`.
    Key(Option<Arc<Record>>),
    /// To `Range`, `RangeAt` and `LeaseRecords`: the shard's share.
    Page(Page),
    /// To `LeaseKeys`: the shard's share, ascending.
    Keys(Vec<Bytes>),
}

/// A view that knows what it was given, and notes what it lacks.
#[derive(Debug, Default)]
pub struct Gathered {
    known: BTreeMap<Ask, Given>,
    missing: RefCell<Vec<Ask>>,
}

impl Gathered {
    /// Nothing given yet.
    #[must_use]
    pub fn new() -> Gathered {
        Gathered::default()
    }

    /// Adds one shard's answer; those of several shards are merged.
    pub fn give(&mut self, ask: Ask, given: Given) {
        let limit = match &ask {
            Ask::Range(_, limit) | Ask::RangeAt(_, _, limit) => *limit,
            _ => 0,
        };
        let merged = match (self.known.remove(&ask), given) {
            (None, given) => given,
            (Some(Given::Page(left)), Given::Page(right)) => {
                Given::Page(merge_pages(left, right, limit))
            }
            (Some(Given::Keys(mut left)), Given::Keys(right)) => {
                left.extend(right);
                left.sort();
                Given::Keys(left)
            }
            // A key has one shard.
            (Some(first), _) => first,
        };
        self.known.insert(ask, merged);
    }

    /// What was asked of it and not known, once each.
    pub fn take_missing(&mut self) -> Vec<Ask> {
        let mut missing = self.missing.take();
        missing.sort();
        missing.dedup();
        missing
    }

    /// A view of it, with leases as `exists` knows them: which there are is not gathered.
    pub fn with_leases<L: Fn(LeaseId) -> bool>(&self, exists: L) -> WithLeases<'_, L> {
        WithLeases { gathered: self, exists }
    }

    /// The keys of a lease, ascending.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn lease_keys(&self, id: LeaseId) -> Result<&[Bytes], Missing> {
        match self.known(Ask::LeaseKeys(id))? {
            Given::Keys(keys) => Ok(keys),
            other => unreachable!("LeaseKeys was answered with {other:?}"),
        }
    }

    /// The live versions of the keys of a lease, ascending.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn lease_records(&self, id: LeaseId) -> Result<&[Arc<Record>], Missing> {
        match self.known(Ask::LeaseRecords(id))? {
            Given::Page(page) => Ok(&page.records),
            other => unreachable!("LeaseRecords was answered with {other:?}"),
        }
    }

    fn known(&self, ask: Ask) -> Result<&Given, Missing> {
        if let Some(given) = self.known.get(&ask) {
            return Ok(given);
        }
        self.missing.borrow_mut().push(ask);
        Err(Missing)
    }

    fn page(&self, ask: Ask) -> Result<Page, Missing> {
        match self.known(ask)? {
            Given::Page(page) => Ok(page.clone()),
            other => unreachable!("a range was answered with {other:?}"),
        }
    }
}

/// What was gathered, and which leases exist.
#[derive(Debug)]
pub struct WithLeases<'a, L> {
    gathered: &'a Gathered,
    exists: L,
}

impl<L: Fn(LeaseId) -> bool> View for WithLeases<'_, L> {
    fn newest(&self, key: &Bytes) -> Result<Option<Arc<Record>>, Missing> {
        match self.gathered.known(Ask::Key(key.clone()))? {
            Given::Key(record) => Ok(record.clone()),
            other => unreachable!("a key was answered with {other:?}"),
        }
    }

    fn range(&self, range: &KeyRange, limit: u64) -> Result<Page, Missing> {
        self.gathered.page(Ask::Range(range.clone(), limit))
    }

    fn range_at(&self, range: &KeyRange, at: Revision, limit: u64) -> Result<Page, Missing> {
        self.gathered.page(Ask::RangeAt(range.clone(), at, limit))
    }

    fn lease_exists(&self, id: LeaseId) -> Result<bool, Missing> {
        Ok((self.exists)(id))
    }
}

fn merge_pages(left: Page, right: Page, limit: u64) -> Page {
    let count = left.count + right.count;
    let wanted = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut records = Vec::with_capacity(left.records.len() + right.records.len());
    let mut left = left.records.into_iter().peekable();
    let mut right = right.records.into_iter().peekable();
    while records.len() < wanted {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.key() < b.key() => left.next(),
            (_, Some(_)) => right.next(),
            (_, None) => left.next(),
        };
        match next {
            Some(record) => records.push(record),
            None => break,
        }
    }
    Page { records, count }
}
