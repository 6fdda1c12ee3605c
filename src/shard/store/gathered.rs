//! What the merge into `current` says of the other trees.
//!
//! The merge goes by key and `undo` by revision, so what each change replaced waits in between:
//! versions of the layer are there anyway, what comes from the old tree is made a delta at once or
//! copied. It waits in buckets of neighbouring revisions, each of which is put in order when its
//! turn comes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::MetaChanges;
use super::delta::Deltas;
use crate::base::limits::MERGE_AHEAD_CHANGES;
use crate::base::range::KeyRange;
use crate::base::record::{Malformed, Record};
use crate::base::{LeaseId, Revision};
use crate::shard::memtable::{Memtable, Position, Versions};
use crate::shard::tree::{Chain, Change, Delta, Form, REPLACED_COST_BYTES, leased_key, undo_key};

/// Changes of one bucket, about.
const BUCKET_CHANGES: u64 = 512;
/// What a change costs of a budget in bytes, whatever it replaced.
const ENTRY_COST_BYTES: usize = 64;

/// A change of the layer and what it replaced.
#[derive(Debug)]
struct Undoing {
    record: Arc<Record>,
    replaced: Replaced,
}

#[derive(Debug)]
enum Replaced {
    Nothing,
    /// A version of the layer's own, of which a delta is to be tried.
    Before(Arc<Record>),
    /// A version of the layer's own. The entry is named if `before` is there, and says so.
    Version {
        record: Arc<Record>,
        before: Named,
    },
    /// One of the old tree, in its log form.
    Below {
        log: Bytes,
        before: Named,
    },
    Delta(Delta),
}

/// For an entry that is named, the one before it that is.
type Named = Option<Position>;

/// The versions of the keys that the merge has been given and has not taken yet.
type Ahead = Rc<RefCell<VecDeque<Versions>>>;

#[derive(Debug)]
pub(super) struct Gathered {
    cut: Revision,
    first: Revision,
    /// Revisions of a bucket.
    width: u64,
    buckets: VecDeque<Vec<Undoing>>,
    /// Buckets and changes of the next one of which deltas were tried.
    encoded: (usize, usize),
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
            encoded: (0, 0),
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

    /// The next key's change, and what `current` held beside it. What it holds from now on.
    pub(super) fn take(
        &mut self,
        change: &Change,
        old: Option<Bytes>,
        deltas: &mut Deltas,
    ) -> Option<Bytes> {
        let versions = self.ahead.borrow_mut().pop_front().expect("a key that was given");
        match self.take_key(&change.key, &versions, old.as_ref(), deltas) {
            Ok(chain) => versions.last().map(|newest| chain.behind(newest)),
            Err(what) => {
                self.wrong = Some(what);
                change.value.clone()
            }
        }
    }

    fn take_key(
        &mut self,
        key: &Bytes,
        versions: &Versions,
        old: Option<&Bytes>,
        deltas: &mut Deltas,
    ) -> Result<Chain, Malformed> {
        let below = old.map(Chain::split).transpose()?;
        let (below, mut chain) =
            below.map_or((None, Chain::default()), |(log, chain)| (Some(log), chain));
        let head = below.as_ref().map(|log| Record::head(log)).transpose()?;
        self.take_lease(key, head.map_or(LeaseId::NONE, |head| head.lease), versions);
        let mut last: Option<&Arc<Record>> = None;
        for version in versions.above(Revision(-1)) {
            let named = chain.whole;
            let is_first = last.is_none() && below.is_none();
            let is_named = !is_first && chain.push(version.at());
            let before = named.filter(|_| is_named);
            let is_whole = is_named || version.is_tombstone();
            let replaced = match (last.replace(version), &below) {
                (Some(last), _) if is_whole || last.is_tombstone() => {
                    Replaced::Version { record: Arc::clone(last), before }
                }
                (Some(last), _) => Replaced::Before(Arc::clone(last)),
                (None, None) => Replaced::Nothing,
                (None, Some(log)) => {
                    let delta = match is_whole {
                        true => None,
                        false => deltas.make(&Record::decode(log.clone())?, version),
                    };
                    // A copy: what waits must not keep a page.
                    let whole = || Replaced::Below { log: Bytes::copy_from_slice(log), before };
                    delta.map_or_else(whole, Replaced::Delta)
                }
            };
            // What a compaction has cut already never reaches the disk.
            if version.revision >= self.cut {
                let place = (version.revision.0 - self.first.0).unsigned_abs() / self.width;
                let place = usize::try_from(place).expect("few buckets");
                self.buckets[place].push(Undoing { record: Arc::clone(version), replaced });
            }
        }
        Ok(chain)
    }

    fn take_lease(&mut self, key: &Bytes, before: LeaseId, versions: &Versions) {
        let after = versions.last().map_or(LeaseId::NONE, |last| last.lease);
        if before != after {
            let key_on = |lease| Bytes::from(leased_key(lease, key));
            if before != LeaseId::NONE {
                self.leased.insert(key_on(before), None);
            }
            if after != LeaseId::NONE {
                self.leased.insert(key_on(after), Some(Bytes::new()));
            }
        }
    }

    /// Tries deltas of about so many bytes of versions that the layer itself replaced. True if
    /// there are more.
    pub(super) fn encode(&mut self, budget: usize, deltas: &mut Deltas) -> bool {
        let mut left = budget;
        let (bucket, change) = &mut self.encoded;
        while let Some(changes) = self.buckets.get_mut(*bucket) {
            for Undoing { record, replaced } in &mut changes[*change..] {
                if left == 0 {
                    return true;
                }
                *change += 1;
                let cost = replaced.encode(record, deltas);
                left = left.saturating_sub(cost);
            }
            (*bucket, *change) = (*bucket + 1, 0);
        }
        false
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

impl Replaced {
    /// Tries a delta, if one is due. How many bytes were looked at.
    fn encode(&mut self, next: &Record, deltas: &mut Deltas) -> usize {
        let Replaced::Before(last) = self else { return ENTRY_COST_BYTES };
        let record = Arc::clone(last);
        let cost = REPLACED_COST_BYTES + record.log().len();
        *self = match deltas.make(&record, next) {
            Some(delta) => Replaced::Delta(delta),
            None => Replaced::Version { record, before: None },
        };
        cost
    }
}

impl Undoing {
    fn change(&self) -> Change {
        let form = match &self.replaced {
            Replaced::Nothing => Form::Nothing,
            Replaced::Before(record) => Form::Whole { log: record.log(), before: None },
            Replaced::Version { record, before } => {
                Form::Whole { log: record.log(), before: *before }
            }
            Replaced::Below { log, before } => Form::Whole { log, before: *before },
            Replaced::Delta(delta) => Form::Delta(delta),
        };
        let value = form.encode(self.record.turn(), self.record.key());
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
