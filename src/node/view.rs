//! A shard's own state as evaluation and reads see it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::mail::Rests;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{LeaseId, Revision};
use crate::shard::eval::{Ask, Given, Missing, Page, View};
use crate::shard::memtable::size_of_version;
use crate::shard::mvcc::source::{AsOf, Source, Stop};
use crate::shard::store::{Overlaid, Store};

/// A shard's writes in flight.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Newest version in flight of each key that has one, tombstones included.
    pub(super) records: BTreeMap<Bytes, Arc<Record>>,
    /// Leases whose end is in flight.
    pub(super) leases_gone: BTreeSet<LeaseId>,
    /// What the records will take of a layer.
    bytes: u64,
}

impl Overlay {
    pub(super) fn insert(&mut self, record: &Arc<Record>) {
        self.bytes += size_of_version(record);
        if let Some(before) = self.records.insert(record.key_bytes(), Arc::clone(record)) {
            self.bytes -= size_of_version(&before);
        }
    }

    /// What will come to a layer, but for versions that a newer one has overtaken here.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A record is applied: its entry goes unless a newer one has taken its place.
    pub(super) fn applied(&mut self, record: &Record) {
        if self.records.get(record.key()).is_some_and(|held| held.at() == record.at()) {
            self.records.remove(record.key());
            self.bytes -= size_of_version(record);
        }
    }
}

/// What an evaluation has to wait for.
#[derive(Debug)]
pub(super) enum Lack {
    /// This revision is to be applied first.
    Applied(Revision),
    /// Pages are missing, or damaged.
    Pages(Stop),
}

/// What was read of ranges, kept while an operation waits for the rest of them: nothing else is
/// evaluated meanwhile, so the newest state stays what it is.
#[derive(Debug, Default)]
pub(super) struct Memo(BTreeMap<Ask, Partial>);

/// A range as far as it was read.
#[derive(Debug, Default)]
struct Partial {
    records: Vec<Arc<Record>>,
    after: Option<Bytes>,
}

/// The newest state of one shard, what is in flight included. Notes what an evaluation rests on
/// and what it lacks.
#[derive(Debug)]
pub(super) struct Newest<'a> {
    store: &'a Store,
    overlay: &'a Overlay,
    /// What the store stands at.
    applied: Revision,
    memo: &'a RefCell<Memo>,
    rests: Cell<Rests>,
    /// A revision in flight that was asked for as an old one.
    wants_applied: Cell<Option<Revision>>,
    stop: RefCell<Option<Stop>>,
    /// Whether a range was read that is no single key.
    ranged: Cell<bool>,
}

impl<'a> Newest<'a> {
    pub(super) fn new(
        store: &'a Store,
        overlay: &'a Overlay,
        applied: Revision,
        memo: &'a RefCell<Memo>,
    ) -> Newest<'a> {
        Newest {
            store,
            overlay,
            applied,
            memo,
            rests: Cell::default(),
            wants_applied: Cell::new(None),
            stop: RefCell::new(None),
            ranged: Cell::new(false),
        }
    }

    pub(super) fn rests(&self) -> Rests {
        self.rests.get()
    }

    /// What is to be waited for before this can be evaluated again.
    pub(super) fn lack(&self) -> Lack {
        match (self.stop.take(), self.wants_applied.get()) {
            (Some(stop), _) => Lack::Pages(stop),
            (None, Some(revision)) => Lack::Applied(revision),
            (None, None) => unreachable!("a shard lacks nothing of its own else"),
        }
    }

    /// Whether nothing else may be evaluated until this is.
    pub(super) fn holds_up(&self) -> bool {
        self.ranged.get()
    }

    fn overlaid(&self) -> Overlaid<'a> {
        Overlaid { store: self.store, overlay: &self.overlay.records }
    }

    fn rest_on(&self, revision: Revision) {
        self.rests.set(self.rests.get().and(Rests { in_flight: true, revision }));
    }

    fn rest_on_range(&self, range: &KeyRange) {
        for record in self.overlaid().in_flight(range) {
            self.rest_on(record.revision);
        }
    }

    /// Notes what is missing. Damage counts above all; pages are gathered.
    fn noted<T>(&self, read: Result<T, Stop>) -> Result<T, Missing> {
        read.map_err(|stop| {
            let mut noted = self.stop.borrow_mut();
            match (&mut *noted, stop) {
                (Some(Stop::Wanted(all)), Stop::Wanted(more)) => all.extend(more),
                (Some(Stop::Damaged(_)), _) => {}
                (noted, stop) => *noted = Some(stop),
            }
            Missing
        })
    }

    /// Answers one ask.
    pub(super) fn give(&self, ask: &Ask) -> Result<Given, Missing> {
        match ask {
            Ask::Key(key) => self.newest(key).map(Given::Key),
            Ask::Range(range, limit) => self.range(range, *limit).map(Given::Page),
            Ask::RangeAt(range, at, limit) => self.range_at(range, *at, *limit).map(Given::Page),
            Ask::LeaseKeys(id) => self.lease_keys(*id).map(Given::Keys),
            Ask::LeaseRecords(id) => {
                let keys = self.lease_keys(*id)?;
                let found: Vec<_> = keys.iter().map(|key| self.newest(key)).collect();
                let found = found.into_iter().collect::<Result<Vec<_>, Missing>>()?;
                let records: Vec<_> = found.into_iter().flatten().collect();
                Ok(Given::Page(Page { count: records.len() as u64, records }))
            }
        }
    }

    /// The keys attached to a lease, attachments in flight included.
    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Missing> {
        let mut keys = self.noted(self.store.keys_of(id))?;
        keys.retain(|key| !self.overlay.records.contains_key(key));
        for (key, record) in &self.overlay.records {
            if record.lease == id && !record.is_tombstone() {
                self.rest_on(record.revision);
                keys.push(key.clone());
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn page(
        &self,
        ask: Ask,
        source: &dyn Source,
        (range, as_of, limit): (&KeyRange, AsOf, u64),
        count: impl FnOnce() -> Result<u64, Stop>,
    ) -> Result<Page, Missing> {
        let mut memo = self.memo.borrow_mut();
        let partial = memo.0.entry(ask).or_default();
        self.noted(partial.page(source, (range, as_of, limit), count))
    }
}

impl Memo {
    /// Reads a page of a range as of an applied revision, or goes on with it.
    pub(super) fn page_at(
        &mut self,
        store: &Store,
        range: &KeyRange,
        at: Revision,
        limit: u64,
    ) -> Result<Page, Stop> {
        let partial = self.0.entry(Ask::RangeAt(range.clone(), at, limit)).or_default();
        partial.page(store, (range, AsOf::At(at), limit), || store.count(range, at))
    }

    /// Forgets everything: something else is evaluated.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Partial {
    fn page(
        &mut self,
        source: &dyn Source,
        (range, as_of, limit): (&KeyRange, AsOf, u64),
        count: impl FnOnce() -> Result<u64, Stop>,
    ) -> Result<Page, Stop> {
        let Partial { records, after } = self;
        let limit = if limit == 0 { usize::MAX } else { limit.try_into().unwrap_or(usize::MAX) };
        let mut cut = false;
        let from = after.clone();
        let walked = source.walk(range, from.as_deref(), as_of, &mut |_, live| {
            if let Some(record) = live {
                if records.len() == limit {
                    cut = true;
                    return ControlFlow::Break(());
                }
                records.push(Arc::clone(record));
            }
            ControlFlow::Continue(())
        });
        *after = records.last().map(|last| last.key_bytes());
        walked?;
        let count = if cut { count()? } else { records.len() as u64 };
        Ok(Page { records: records.clone(), count })
    }
}

impl View for Newest<'_> {
    fn newest(&self, key: &Bytes) -> Result<Option<Arc<Record>>, Missing> {
        if let Some(record) = self.overlay.records.get(key) {
            self.rest_on(record.revision);
        }
        self.noted(self.overlaid().newest(key))
    }

    fn range(&self, range: &KeyRange, limit: u64) -> Result<Page, Missing> {
        if let Some(key) = range.as_single() {
            let records: Vec<_> = self.newest(key)?.into_iter().collect();
            return Ok(Page { count: records.len() as u64, records });
        }
        self.ranged.set(true);
        self.rest_on_range(range);
        let overlaid = self.overlaid();
        let ask = Ask::Range(range.clone(), limit);
        let count = || overlaid.count_newest(range);
        self.page(ask, &overlaid, (range, AsOf::Newest, limit), count)
    }

    fn range_at(&self, range: &KeyRange, at: Revision, limit: u64) -> Result<Page, Missing> {
        self.ranged.set(true);
        if at > self.applied {
            // The overlay holds the newest version of a key alone, not the one at `at`.
            if !self.overlay.records.is_empty() {
                self.wants_applied.set(self.wants_applied.get().max(Some(at)));
                return Err(Missing);
            }
            // Nothing of this shard is in flight, but the revision itself is.
            self.rest_on(at);
        }
        let mut memo = self.memo.borrow_mut();
        self.noted(memo.page_at(self.store, range, at, limit))
    }

    fn lease_exists(&self, id: LeaseId) -> Result<bool, Missing> {
        if self.overlay.leases_gone.contains(&id) {
            self.rest_on(Revision(0));
            return Ok(false);
        }
        Ok(self.store.has_lease(id))
    }
}
