//! What the merge into `current` says of the other trees.
//!
//! The merge goes by key and `undo` by revision, so what each change replaced waits in between:
//! versions of the layer are there anyway, what comes from the old tree is copied. It waits in
//! buckets of neighbouring revisions, each of which is put in order when its turn comes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::MetaChanges;
use crate::base::limits::MERGE_AHEAD_CHANGES;
use crate::base::range::KeyRange;
use crate::base::record::{Malformed, Record};
use crate::base::{LeaseId, Revision};
use crate::shard::memtable::{Memtable, Versions};
use crate::shard::tree::{Change, Undone, leased_key, undo_key};

/// Changes of one bucket, about.
const BUCKET_CHANGES: u64 = 512;

/// A change of the layer and what it replaced.
#[derive(Debug)]
struct Undoing {
    record: Arc<Record>,
    replaced: Replaced,
}

#[derive(Debug)]
enum Replaced {
    Nothing,
    /// A version of the layer's own.
    Version(Arc<Record>),
    /// One of the old tree, in its log form.
    Below(Bytes),
}

/// The versions of the keys that the merge has been given and has not taken yet.
type Ahead = Rc<RefCell<VecDeque<Versions>>>;

#[derive(Debug)]
pub(super) struct Gathered {
    cut: Revision,
    first: Revision,
    /// Revisions of a bucket.
    width: u64,
    buckets: VecDeque<Vec<Undoing>>,
    leased: MetaChanges,
    ahead: Ahead,
    wrong: Option<Malformed>,
}

impl Gathered {
    /// Of no layer.
    pub(super) fn none() -> Gathered {
        Gathered {
            cut: Revision(0),
            first: Revision(0),
            width: 1,
            buckets: VecDeque::new(),
            leased: BTreeMap::new(),
            ahead: Ahead::default(),
            wrong: None,
        }
    }

    /// Of a layer of which no version below `cut` is needed but the newest ones.
    pub(super) fn new(table: &Memtable, cut: Revision) -> Gathered {
        let Some((first, _)) = table.history(Revision(-1)).next() else { return Gathered::none() };
        let first = first.revision;
        let span = (table.last_change().0.0 - first.0).unsigned_abs() + 1;
        let count = (table.version_count() as u64).div_ceil(BUCKET_CHANGES);
        let width = span.div_ceil(count);
        let buckets = (0..span.div_ceil(width)).map(|_| Vec::new()).collect();
        Gathered { cut, first, width, buckets, ..Gathered::none() }
    }

    /// The newest version of each key of the layer, in key order. Each key is to be taken in the
    /// same order.
    pub(super) fn newest(&self, table: &Arc<Memtable>) -> impl Iterator<Item = Change> + use<> {
        Newest {
            table: Arc::clone(table),
            after: None,
            changes: VecDeque::new(),
            ahead: Rc::clone(&self.ahead),
        }
    }

    /// The next key, and what `current` held beside it.
    pub(super) fn take(&mut self, key: &Bytes, old: Option<Bytes>) {
        let versions = self.ahead.borrow_mut().pop_front().expect("a key that was given");
        let lease_before = match old.as_ref().map(|old| Record::head(old)).transpose() {
            Ok(head) => head.map_or(LeaseId::NONE, |head| head.lease),
            Err(what) => {
                self.wrong = Some(what);
                return;
            }
        };
        let lease_after = versions.last().map_or(LeaseId::NONE, |last| last.lease);
        if lease_before != lease_after {
            let key_on = |lease| Bytes::from(leased_key(lease, key));
            if lease_before != LeaseId::NONE {
                self.leased.insert(key_on(lease_before), None);
            }
            if lease_after != LeaseId::NONE {
                self.leased.insert(key_on(lease_after), Some(Bytes::new()));
            }
        }
        // A copy: what waits must not keep a page.
        let mut replaced =
            old.map_or(Replaced::Nothing, |old| Replaced::Below(Bytes::copy_from_slice(&old)));
        for version in versions.above(Revision(-1)) {
            let next = Replaced::Version(Arc::clone(version));
            let replaced = std::mem::replace(&mut replaced, next);
            // What a compaction has cut already never reaches the disk.
            if version.revision >= self.cut {
                let place = (version.revision.0 - self.first.0).unsigned_abs() / self.width;
                let place = usize::try_from(place).expect("few buckets");
                self.buckets[place].push(Undoing { record: Arc::clone(version), replaced });
            }
        }
    }

    /// What was wrong with the old tree, if anything was.
    pub(super) fn take_wrong(&mut self) -> Option<Malformed> {
        self.wrong.take()
    }

    /// What goes into `undo`, in order.
    pub(super) fn take_undo(&mut self) -> impl Iterator<Item = Change> + use<> {
        let mut buckets = std::mem::take(&mut self.buckets);
        let mut bucket = Vec::new();
        std::iter::from_fn(move || {
            while bucket.is_empty() {
                bucket = buckets.pop_front()?;
                bucket.sort_unstable_by_key(|one: &Undoing| std::cmp::Reverse(one.record.at()));
            }
            bucket.pop().map(|one| one.change())
        })
    }

    /// What goes into `leased`.
    pub(super) fn take_leased(&mut self) -> MetaChanges {
        std::mem::take(&mut self.leased)
    }
}

impl Undoing {
    fn change(&self) -> Change {
        let replaced = match &self.replaced {
            Replaced::Nothing => None,
            Replaced::Version(version) => Some(&version.log()[..]),
            Replaced::Below(log) => Some(&log[..]),
        };
        let value = Undone::encode_parts(self.record.turn(), self.record.key(), replaced);
        Change { key: Bytes::copy_from_slice(&undo_key(self.record.at())), value: Some(value) }
    }
}

/// The newest versions of a layer; the rest of them goes to who takes the keys.
struct Newest {
    table: Arc<Memtable>,
    after: Option<Bytes>,
    changes: VecDeque<Change>,
    ahead: Ahead,
}

impl Iterator for Newest {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        if self.changes.is_empty() {
            let everything = KeyRange::all();
            let mut ahead = self.ahead.borrow_mut();
            let keys = self.table.scan(&everything, self.after.as_deref());
            for (_, versions) in keys.take(MERGE_AHEAD_CHANGES / 8) {
                let last = versions.last().expect("a key of a layer has a version");
                let (key, value) = (last.key_bytes(), Some(last.log().clone()));
                self.changes.push_back(Change { key, value });
                ahead.push_back(versions.clone());
            }
            self.after = self.changes.back().map(|last| last.key.clone()).or(self.after.take());
        }
        self.changes.pop_front()
    }
}
