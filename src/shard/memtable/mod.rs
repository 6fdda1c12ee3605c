//! shard::memtable — what a shard applied: every version by key and by revision.
//! Step 5 of a write. In: effects in log order. Out: previous versions; versions by key, counts.
//! Owns: versions, the order of keys, the change log, which leases exist and what is on them.
//! Invariants: (1) changes arrive in the order of (revision, sub); (2) a read at or above the
//!             cut sees the same before and after any slice of a compaction.
//! Limits: RECORD_OVERHEAD_BYTES.
//! Must not: decide what a request means; know of writes in flight.
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
use self::keys::{Keys, Slot};
use self::leases::Leases;
use self::log::{ChangeLog, Logged, Turn};
use crate::base::limits::RECORD_OVERHEAD_BYTES;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::record::Record;
use crate::base::{LeaseId, Revision, Sub};

/// A shard's state in memory.
pub struct Memtable {
    keys: Keys,
    index: Index,
    log: ChangeLog,
    leases: Leases,
    newest: (Revision, Sub),
    /// The compact revision: what watches and hashes go by. Reads decide for themselves.
    floor: Revision,
    /// What no read at or above this revision needs may be gone already.
    cut: Revision,
    /// Changes at the very cut whose keys were looked at.
    cut_seen: usize,
    versions: u64,
    bytes: u64,
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (keys, versions) = (self.live_keys(), self.versions);
        write!(f, "Memtable({keys} keys, {versions} versions, up to {})", self.newest.0)
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
            newest: (Revision::EMPTY, Sub(0)),
            floor: Revision(-1),
            cut: Revision(-1),
            cut_seen: 0,
            versions: 0,
            bytes: 0,
        }
    }

    // --- changes --------------------------------------------------------------------------

    /// Takes in the next version of its key. Gives the key's version below the record's
    /// revision, which is what the event shows as previous: two changes of a key in one revision
    /// have the same.
    pub fn apply(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        assert!(record.at() > self.newest, "changes were applied out of order at {record:?}");
        self.newest = record.at();
        self.versions += 1;
        self.bytes += size_of_version(&record);
        let Some(slot) = self.keys.find(record.key()) else {
            self.apply_new(record);
            return None;
        };
        let versions = self.keys.versions(slot);
        let last = versions.newest();
        let turn = turn_of(last.map(|last| &**last), &record);
        let lease = last.map_or(LeaseId::NONE, |last| last.lease);
        let previous = versions.at(record.revision.before()).cloned();
        if turn != Turn::Updated {
            self.index.set_live(&self.keys, record.key(), turn == Turn::Created);
        }
        self.leases.attach(slot, lease, record.lease);
        self.keys.versions_mut(slot).push(Arc::clone(&record));
        self.log.push(Logged { record, slot, turn });
        previous
    }

    fn apply_new(&mut self, record: Arc<Record>) {
        let turn = turn_of(None, &record);
        let slot = self.keys.insert(Arc::clone(&record));
        self.index.insert(&self.keys, record.key(), slot, true);
        self.leases.attach(slot, LeaseId::NONE, record.lease);
        self.log.push(Logged { record, slot, turn });
    }

    /// A lease exists from here on.
    pub fn grant(&mut self, id: LeaseId) {
        self.leases.grant(id);
    }

    /// A lease is gone from here on. Its keys were deleted before.
    pub fn revoke(&mut self, id: LeaseId) {
        self.leases.revoke(id);
    }

    // --- versions -------------------------------------------------------------------------

    /// The newest version of `key`, if it is live.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.versions_of(key)?.newest()
    }

    /// The version of `key` as of `revision`, if it was live then.
    #[must_use]
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<&Arc<Record>> {
        self.check_readable(revision);
        self.versions_of(key)?.at(revision)
    }

    /// All versions of `key` that are held.
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

    // --- counts ---------------------------------------------------------------------------

    /// Live keys of `range` at the newest revision.
    #[must_use]
    pub fn count_newest(&self, range: &KeyRange) -> u64 {
        if let Some(key) = range.as_single() {
            return u64::from(self.newest(key).is_some());
        }
        let (from, to) = self.places(range);
        self.index.live_before(to).saturating_sub(self.index.live_before(from))
    }

    /// Live keys of `range` as of `revision`. Costs what changed since.
    #[must_use]
    pub fn count(&self, range: &KeyRange, revision: Revision) -> u64 {
        if let Some(key) = range.as_single() {
            return u64::from(self.at(key, revision).is_some());
        }
        let after = (revision, Sub(u32::MAX));
        let (net, _) = self.net_created(range, after, usize::MAX);
        self.count_newest(range).checked_add_signed(-net).expect("no range has fewer than 0 keys")
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
        self.check_readable(after.0);
        let (mut net, mut reached) = (0, after);
        let changes = self.log.iter_from(self.log.position_behind(after));
        for (seen, logged) in changes.enumerate() {
            if seen == budget {
                return (net, Some(reached));
            }
            reached = logged.record.at();
            let step = match logged.turn {
                Turn::Created => 1,
                Turn::Updated => continue,
                Turn::Deleted => -1,
            };
            if range.contains(logged.record.key()) {
                net += step;
            }
        }
        (net, None)
    }

    /// About how many keys `range` holds, live or not.
    #[must_use]
    pub fn keys_about(&self, range: &KeyRange) -> usize {
        let (from, to) = self.places(range);
        self.index.keys_between(from, to)
    }

    /// Changes above `revision` that are held.
    #[must_use]
    pub fn changes_above(&self, revision: Revision) -> usize {
        self.log.len() - self.log.position_above(revision)
    }

    /// Live keys.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.index.live_before(self.index.end())
    }

    /// Versions held, tombstones included.
    #[must_use]
    pub fn version_count(&self) -> u64 {
        self.versions
    }

    /// Bytes of all versions held, overhead included: what the quota counts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    // --- history --------------------------------------------------------------------------

    /// The changes above `revision`, oldest first, each with all versions of its key.
    pub fn history(&self, above: Revision) -> impl Iterator<Item = (&Arc<Record>, &Versions)> {
        let changes = self.log.iter_from(self.log.position_above(above));
        changes.map(|logged| (&logged.record, self.keys.versions(logged.slot)))
    }

    /// Notes a compaction. Nothing is forgotten before [`Memtable::compact_slice`].
    pub fn compact(&mut self, at: Revision) {
        assert!(at > self.floor, "compacted at {at}, below the compact revision");
        self.floor = at;
    }

    /// The compact revision; -1 if there never was a compaction.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.floor
    }

    /// Forgets what no read at or above `upto` can see, looking at `budget` changes at most;
    /// `upto` is the compact revision or the oldest revision that a reader holds below it.
    /// True when nothing is left to forget.
    pub fn compact_slice(&mut self, upto: Revision, budget: usize) -> bool {
        assert!(upto <= self.floor, "history above the compact revision was to be forgotten");
        if upto > self.cut {
            self.cut = upto;
            self.cut_seen = 0;
        }
        for _ in 0..budget {
            let below = |logged: &&Logged| logged.record.revision < self.cut;
            if self.log.front().filter(below).is_some() {
                if let Some(logged) = self.log.pop_front() {
                    self.forget(logged.slot);
                }
                continue;
            }
            // What the changes of the cut itself replaced goes, they stay: a watch may start
            // there.
            match self.log.get(self.cut_seen) {
                Some(logged) if logged.record.revision == self.cut => {
                    let slot = logged.slot;
                    self.cut_seen += 1;
                    self.forget(slot);
                }
                _ => return true,
            }
        }
        false
    }

    /// Drops versions of one key that the cut leaves unneeded. A few at a time is enough: as
    /// many changes of the key pass by as it has versions to drop.
    fn forget(&mut self, slot: Slot) {
        for _ in 0..8 {
            let versions = self.keys.versions(slot);
            let Some(last) = versions.last() else { return };
            let gone = versions.len() == 1 && last.is_tombstone() && last.revision < self.cut;
            let key = gone.then(|| last.key_bytes());
            if let Some(key) = &key {
                self.index.remove(&self.keys, key);
            }
            let dropped = self.keys.versions_mut(slot).take_unneeded(self.cut);
            let Some(dropped) = dropped else { return };
            self.versions -= 1;
            self.bytes -= size_of_version(&dropped);
            if let Some(key) = &key {
                self.keys.remove(slot, key);
                return;
            }
        }
    }

    // --- leases ---------------------------------------------------------------------------

    /// Whether a lease exists.
    #[must_use]
    pub fn has_lease(&self, id: LeaseId) -> bool {
        self.leases.contains(id)
    }

    /// All leases, ascending.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.all()
    }

    /// The keys whose newest version is on a lease, ascending.
    #[must_use]
    pub fn keys_of(&self, id: LeaseId) -> Vec<Bytes> {
        let newest = |slot| self.keys.versions(slot).newest().map(|record| record.key_bytes());
        let mut keys: Vec<Bytes> = self.leases.slots(id).filter_map(newest).collect();
        keys.sort_unstable();
        keys
    }

    // --------------------------------------------------------------------------------------

    fn check_readable(&self, revision: Revision) {
        let cut = self.cut;
        assert!(revision >= cut, "a read at {revision}, below the cut at {cut}: it held nothing");
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

fn size_of_version(record: &Record) -> u64 {
    record.log().len() as u64 + RECORD_OVERHEAD_BYTES
}

/// What `record` does to a key whose live version is `last`.
fn turn_of(last: Option<&Record>, record: &Record) -> Turn {
    match last {
        Some(_) if record.is_tombstone() => Turn::Deleted,
        Some(last) => {
            let follows = (record.create, record.version) == (last.create, last.version + 1);
            assert!(follows, "{record:?} does not follow {last:?}");
            Turn::Updated
        }
        None => {
            assert!(!record.is_tombstone(), "{record:?} deletes a key that is not live");
            let begins = (record.create, record.version) == (record.revision, 1);
            assert!(begins, "{record:?} begins no generation of its key");
            Turn::Created
        }
    }
}

#[cfg(test)]
mod tests;
