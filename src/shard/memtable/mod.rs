//! shard::memtable — one layer of a shard's state: what it applied within a span of the log.
//! Step 5 of a write. In: changes in log order. Out: versions by key and by revision, counts.
//! Owns: the layer's versions, the order of their keys, its change log, keys by lease.
//! Invariants: (1) changes arrive in the order of (revision, sub); (2) what is below the layer is
//!             not looked at: a change tells by itself what it did to its key.
//! Limits: RECORD_OVERHEAD_BYTES.
//! Must not: decide what a request means; know of writes in flight, or of other layers.
//! Tests: in its files; mvcc/tests.rs compares with the naive model.

mod index;
mod keys;
mod leases;
mod log;
mod versions;

use std::sync::Arc;

use bytes::Bytes;

pub use self::versions::Versions;

use self::index::{Index, Place};
use self::keys::Keys;
use self::leases::Leases;
use self::log::{ChangeLog, Logged};
use crate::base::limits::RECORD_OVERHEAD_BYTES;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::record::{Record, Turn};
use crate::base::{LeaseId, Revision, Sub};

/// A layer.
pub struct Memtable {
    keys: Keys,
    index: Index,
    log: ChangeLog,
    leases: Leases,
    newest: Position,
    bytes: u64,
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memtable({} versions, up to {})", self.log.len(), self.newest.0)
    }
}

/// Position of a change in history: all changes up to and including it are behind it.
pub type Position = (Revision, Sub);

impl Memtable {
    /// An empty one. The seed keys the hash of its keys, so that clients cannot aim at it.
    #[must_use]
    pub fn new(seed: u64) -> Memtable {
        Memtable {
            keys: Keys::new(seed),
            index: Index::new(),
            log: ChangeLog::default(),
            leases: Leases::default(),
            newest: (Revision(0), Sub(0)),
            bytes: 0,
        }
    }

    /// Takes in the next version of its key.
    pub fn apply(&mut self, record: Arc<Record>) {
        assert!(record.at() > self.newest, "changes were applied out of order at {record:?}");
        self.newest = record.at();
        self.bytes += size_of_version(&record);
        let turn = record.turn();
        let Some(slot) = self.keys.find(record.key()) else {
            let slot = self.keys.insert(Arc::clone(&record));
            self.index.insert(&self.keys, record.key(), slot, turn);
            self.leases.attach(slot, LeaseId::NONE, record.lease);
            self.log.push(Logged { record, slot });
            return;
        };
        let last = self.keys.versions(slot).last().expect("a slot in use has a version");
        check_follows(last, &record);
        if turn != Turn::Updated {
            self.index.set_live(&self.keys, record.key(), turn == Turn::Created);
        }
        self.leases.attach(slot, last.lease, record.lease);
        self.keys.versions_mut(slot).push(Arc::clone(&record));
        self.log.push(Logged { record, slot });
    }

    /// All versions of `key` in this layer.
    #[must_use]
    pub fn versions_of(&self, key: &[u8]) -> Option<&Versions> {
        self.keys.find(key).map(|slot| self.keys.versions(slot))
    }

    /// The keys of `range` above `after`, in order, live or not.
    pub fn scan<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], &'a Versions)> + use<'a> {
        let (mut place, end) = self.places(range);
        if let Some(after) = after.filter(|after| *after >= &range.start[..]) {
            place = self.index.lower_bound(&self.keys, after);
            let mut behind = place;
            let found = self.index.next(&mut behind);
            if found.is_some_and(|slot| self.keys.key(slot) == after) {
                place = behind;
            }
        }
        std::iter::from_fn(move || {
            let slot = self.index.next_before(&mut place, end)?;
            Some((self.keys.key(slot), self.keys.versions(slot)))
        })
    }

    /// Position of the last change applied.
    #[must_use]
    pub fn last_change(&self) -> Position {
        self.newest
    }

    /// What the layer adds to the number of live keys of `range`.
    #[must_use]
    pub fn net(&self, range: &KeyRange) -> i64 {
        let (from, to) = self.places(range);
        match to > from {
            true => self.index.net_before(to) - self.index.net_before(from),
            false => 0,
        }
    }

    /// Keys created less keys deleted in `range` by at most `budget` changes behind `after`, and
    /// the position reached: `None` when nothing is left.
    #[must_use]
    pub fn net_created(
        &self,
        range: &KeyRange,
        after: Position,
        budget: usize,
    ) -> (i64, Option<Position>) {
        let (mut net, mut reached) = (0, after);
        let changes = self.log.iter_from(self.log.position_behind(after));
        for (seen, logged) in changes.enumerate() {
            if seen == budget {
                return (net, Some(reached));
            }
            reached = logged.record.at();
            let step = net_of(logged.record.turn());
            if step != 0 && range.contains(logged.record.key()) {
                net += step;
            }
        }
        (net, None)
    }

    /// About how many keys of `range` the layer holds, live or not.
    #[must_use]
    pub fn keys_about(&self, range: &KeyRange) -> usize {
        let (from, to) = self.places(range);
        self.index.keys_between(from, to)
    }

    /// Changes above `revision`.
    #[must_use]
    pub fn changes_above(&self, revision: Revision) -> usize {
        self.log.len() - self.log.position_above(revision)
    }

    /// Versions held, tombstones included.
    #[must_use]
    pub fn version_count(&self) -> usize {
        self.log.len()
    }

    /// Bytes of all versions held, overhead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The changes above `revision`, oldest first, each with all versions of its key.
    pub fn history(&self, above: Revision) -> impl Iterator<Item = (&Arc<Record>, &Versions)> {
        let changes = self.log.iter_from(self.log.position_above(above));
        changes.map(|logged| (&logged.record, self.keys.versions(logged.slot)))
    }

    /// The keys whose last version in this layer is on a lease, in no order.
    pub fn keys_on(&self, id: LeaseId) -> impl Iterator<Item = Bytes> {
        let last = |slot| self.keys.versions(slot).last().map(|record| record.key_bytes());
        self.leases.slots(id).filter_map(last)
    }

    /// Lets go of up to `count` changes and keys: a whole layer at once would take long. Nothing
    /// may be read from then on. True when nothing is left.
    pub fn dismantle(&mut self, count: usize) -> bool {
        self.leases = Leases::default();
        let log_is_gone = self.log.dismantle(count);
        log_is_gone && self.keys.dismantle(count)
    }

    fn places(&self, range: &KeyRange) -> (Place, Place) {
        if range.is_empty() {
            return (self.index.end(), self.index.end());
        }
        let from = self.index.lower_bound(&self.keys, &range.start);
        let to = match &range.end {
            RangeEnd::Open => self.index.end(),
            RangeEnd::Before(end) => self.index.lower_bound(&self.keys, end),
            RangeEnd::Single => {
                let mut behind = from;
                match self.index.next(&mut behind) {
                    Some(slot) if self.keys.key(slot) == &range.start[..] => behind,
                    _ => from,
                }
            }
        };
        (from, to)
    }
}

/// What a change adds to the number of live keys.
#[must_use]
pub fn net_of(turn: Turn) -> i64 {
    match turn {
        Turn::Created => 1,
        Turn::Updated => 0,
        Turn::Deleted => -1,
    }
}

/// What a version takes of a layer.
#[must_use]
pub fn size_of_version(record: &Record) -> u64 {
    record.log().len() as u64 + RECORD_OVERHEAD_BYTES
}

/// Whether a key's next change can follow its last.
fn check_follows(last: &Record, next: &Record) {
    let follows = match next.turn() {
        Turn::Deleted => !last.is_tombstone(),
        Turn::Created => last.is_tombstone() && next.create == next.revision,
        Turn::Updated => (next.create, next.version) == (last.create, last.version + 1),
    };
    assert!(follows, "{next:?} does not follow {last:?}");
}

#[cfg(test)]
mod tests;
