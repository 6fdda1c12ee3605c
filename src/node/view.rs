//! A shard's own state as evaluation and reads see it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::mail::Rests;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{LeaseId, Revision};
use crate::shard::eval::{Ask, Given, Missing, Page, View};
use crate::shard::memtable::Memtable;
use crate::shard::mvcc::source::{AsOf, Overlaid, Source};

/// A shard's writes in flight.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Newest version in flight of each key that has one, tombstones included.
    pub(super) records: BTreeMap<Bytes, Arc<Record>>,
    /// Leases whose end is in flight.
    pub(super) leases_gone: BTreeSet<LeaseId>,
}

impl Overlay {
    pub(super) fn insert(&mut self, record: &Arc<Record>) {
        self.records.insert(record.key_bytes(), Arc::clone(record));
    }

    /// A record is applied: its entry goes unless a newer one has taken its place.
    pub(super) fn applied(&mut self, record: &Record) {
        if self.records.get(record.key()).is_some_and(|held| held.at() == record.at()) {
            self.records.remove(record.key());
        }
    }
}

/// The newest state of one shard, what is in flight included. Notes what an evaluation rests on.
#[derive(Debug)]
pub(super) struct Newest<'a> {
    store: &'a Memtable,
    overlay: &'a Overlay,
    /// What the store stands at.
    applied: Revision,
    rests: Cell<Rests>,
    /// A revision in flight that was asked for as an old one.
    wants_applied: Cell<Option<Revision>>,
}

impl<'a> Newest<'a> {
    pub(super) fn new(store: &'a Memtable, overlay: &'a Overlay, applied: Revision) -> Newest<'a> {
        let (rests, wants_applied) = (Cell::default(), Cell::new(None));
        Newest { store, overlay, applied, rests, wants_applied }
    }

    pub(super) fn rests(&self) -> Rests {
        self.rests.get()
    }

    /// The revision that has to be applied before this can be evaluated.
    pub(super) fn wants_applied(&self) -> Option<Revision> {
        self.wants_applied.get()
    }

    fn overlaid(&self) -> Overlaid<'a> {
        Overlaid { table: self.store, overlay: &self.overlay.records }
    }

    fn rest_on(&self, revision: Revision) {
        self.rests.set(self.rests.get().and(Rests { in_flight: true, revision }));
    }

    fn rest_on_range(&self, range: &KeyRange) {
        for record in self.overlaid().in_flight(range) {
            self.rest_on(record.revision);
        }
    }

    /// Answers one ask; `None` if a revision has to be applied first.
    pub(super) fn give(&self, ask: &Ask) -> Option<Given> {
        let given = match ask {
            Ask::Key(key) => self.newest(key).map(Given::Key),
            Ask::Range(range, limit) => self.range(range, *limit).map(Given::Page),
            Ask::RangeAt(range, at, limit) => self.range_at(range, *at, *limit).map(Given::Page),
            Ask::LeaseKeys(id) => Ok(Given::Keys(self.lease_keys(*id))),
        };
        given.ok()
    }

    /// The keys attached to a lease, attachments in flight included.
    fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        let mut keys = self.store.keys_of(id);
        keys.retain(|key| !self.overlay.records.contains_key(key));
        for (key, record) in &self.overlay.records {
            if record.lease == id && !record.is_tombstone() {
                self.rest_on(record.revision);
                keys.push(key.clone());
            }
        }
        keys.sort();
        keys
    }
}

impl View for Newest<'_> {
    fn newest(&self, key: &Bytes) -> Result<Option<Arc<Record>>, Missing> {
        if let Some(record) = self.overlay.records.get(key) {
            self.rest_on(record.revision);
        }
        Ok(self.overlaid().newest(key).cloned())
    }

    fn range(&self, range: &KeyRange, limit: u64) -> Result<Page, Missing> {
        if let Some(key) = range.as_single() {
            let records: Vec<_> = self.newest(key)?.into_iter().collect();
            return Ok(Page { count: records.len() as u64, records });
        }
        self.rest_on_range(range);
        let overlaid = self.overlaid();
        Ok(page(&overlaid, range, AsOf::Newest, limit, || overlaid.count_newest(range)))
    }

    fn range_at(&self, range: &KeyRange, at: Revision, limit: u64) -> Result<Page, Missing> {
        if at > self.applied {
            // The overlay holds the newest version of a key alone, not the one at `at`.
            if !self.overlay.records.is_empty() {
                self.wants_applied.set(self.wants_applied.get().max(Some(at)));
                return Err(Missing);
            }
            // Nothing of this shard is in flight, but the revision itself is.
            self.rest_on(at);
        }
        Ok(page_at(self.store, range, at, limit))
    }

    fn lease_exists(&self, id: LeaseId) -> Result<bool, Missing> {
        if self.overlay.leases_gone.contains(&id) {
            self.rest_on(Revision(0));
            return Ok(false);
        }
        Ok(self.store.has_lease(id))
    }
}

/// The live versions of a range as of an applied revision.
pub(super) fn page_at(store: &Memtable, range: &KeyRange, at: Revision, limit: u64) -> Page {
    page(store, range, AsOf::At(at), limit, || store.count(range, at))
}

fn page(
    source: &dyn Source,
    range: &KeyRange,
    as_of: AsOf,
    limit: u64,
    count: impl FnOnce() -> u64,
) -> Page {
    let wanted = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut records = Vec::new();
    let mut cut = false;
    source.walk(range, None, as_of, &mut |_, live| {
        if let Some(record) = live {
            if records.len() == wanted {
                cut = true;
                return ControlFlow::Break(());
            }
            records.push(Arc::clone(record));
        }
        ControlFlow::Continue(())
    });
    let count = if cut { count() } else { records.len() as u64 };
    Page { records, count }
}
