//! Keys that change very often: every version of theirs, from every checkpoint's pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Paged;
use crate::base::limits::STRETCH_CHANGES_MAX;
use crate::base::prng::Prng;
use crate::base::range::KeyRange;
use crate::base::record::{PutFields, Record};
use crate::base::{LeaseId, Revision, Sub};
use crate::shard::store::StretchCursor;

const KEYS: [&[u8]; 3] = [b"/registry/leases/a", b"/registry/leases/b", b"/registry/leases/c"];

/// All changes of some keys.
struct History {
    shard: Paged,
    changes: Vec<Arc<Record>>,
    newest: BTreeMap<usize, Arc<Record>>,
    prng: Prng,
}

impl History {
    fn new(seed: u64, cache_bytes: usize) -> History {
        History {
            shard: Paged::new(seed, cache_bytes),
            changes: Vec::new(),
            newest: BTreeMap::new(),
            prng: Prng::new(seed),
        }
    }

    /// Another change of a key; one in `deletes` is a delete.
    fn change(&mut self, deletes: u64) {
        let last = self.changes.last().map_or((Revision(1), Sub(0)), |last| last.at());
        let is_same = !self.changes.is_empty() && self.prng.percent(10);
        let (revision, sub) = match is_same {
            true => (last.0, Sub(last.1.0 + 1)),
            false => (last.0.next(), Sub(0)),
        };
        let number = self.prng.below(KEYS.len() as u64) as usize;
        let key = KEYS[number];
        let before = self.newest.get(&number).filter(|one| !one.is_tombstone());
        let record = if before.is_some() && self.prng.below(deletes) == 0 {
            Record::tombstone(key, revision, sub)
        } else {
            let fields =
                "\"kind\":\"Lease\",\"spec\":{\"holderIdentity\":\"node-1\",\"seconds\":40}";
            let mut value = format!("{{{fields},\"renewed\":{revision},{fields}}}").into_bytes();
            if self.prng.percent(5) {
                value = (0..300).map(|_| self.prng.next_u64() as u8).collect();
            }
            Record::put(PutFields {
                key,
                value: &value,
                revision,
                sub,
                create: before.map_or(revision, |before| before.create),
                version: before.map_or(1, |before| before.version + 1),
                lease: LeaseId(i64::from(self.prng.percent(30))),
            })
        };
        let record = Arc::new(record);
        self.shard.store.apply(Arc::clone(&record));
        self.newest.insert(number, Arc::clone(&record));
        self.changes.push(record);
    }

    fn at(&self, key: &[u8], revision: Revision) -> Option<&Arc<Record>> {
        let last =
            self.changes.iter().rev().find(|one| one.revision <= revision && one.key() == key);
        last.filter(|last| !last.is_tombstone())
    }

    fn check_reads(&mut self, from: Revision) {
        let last = self.changes.last().expect("changes").revision;
        for revision in (from.0..=last.0).map(Revision) {
            for key in KEYS {
                let found = self.shard.read(|store| store.at(key, revision));
                let expected = self.at(key, revision);
                assert_eq!(found.as_ref().map(|one| one.log()), expected.map(|one| one.log()));
            }
        }
    }

    fn check_stretches(&mut self, from: Revision) {
        let upto = self.changes.last().expect("changes").revision;
        let key = self.prng.below(4) as usize;
        let range =
            KEYS.get(key).map_or(KeyRange::all(), |key| KeyRange::single(key.to_vec().into()));
        let mut after = from;
        let mut found = Vec::new();
        while after < upto {
            let bytes = [1, 2_000, 40_000][self.prng.below(3) as usize];
            let mut cursor = StretchCursor::new(range.clone(), after, upto, bytes);
            let slice = [STRETCH_CHANGES_MAX, 20, 1][self.prng.below(3) as usize];
            cursor = cursor.within(slice);
            let stretch = loop {
                if let Some(stretch) = self.shard.read(|store| cursor.step(store)) {
                    break stretch;
                }
            };
            assert!(stretch.reached > after);
            after = stretch.reached;
            found.extend(stretch.changes);
        }
        let expected =
            self.changes.iter().filter(|one| one.revision > from && range.contains(one.key()));
        let expected: Vec<_> = expected.collect();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.record.log(), expected.log());
            let before = expected.revision.before();
            let previous = self.at(expected.key(), before).filter(|_| before >= from);
            assert_eq!(found.previous.as_ref().map(|one| one.log()), previous.map(|one| one.log()));
        }
    }
}

#[test]
fn every_version_of_a_hot_key_is_read_from_the_pages() {
    for seed in 0..24 {
        let cache_bytes = [500 << 10, 4 << 20][(seed % 2) as usize];
        let mut history = History::new(seed, cache_bytes);
        let deletes = [5, 50, 1_000][(seed % 3) as usize];
        let mut cut = Revision(1);
        for _ in 0..8 {
            for _ in 0..history.prng.below(90) + 1 {
                history.change(deletes);
            }
            let newest = history.changes.last().expect("changes").revision;
            if history.prng.percent(30) {
                cut = cut.max(Revision(newest.0 / 3));
                history.shard.store.compact(cut);
                history.shard.store.cut(cut);
            }
            history.shard.checkpoint(newest);
            history.check_reads(cut);
            history.check_stretches(cut);
        }
    }
}

#[test]
fn a_read_far_back_hops() {
    let mut history = History::new(1, 1 << 20);
    for _ in 0..3_000 {
        history.change(100_000);
    }
    let newest = history.changes.last().expect("changes").revision;
    history.shard.checkpoint(newest);
    // Each page alone fits, and each step is made once: so the calls are the pages on the way.
    let mut calls = 0;
    let found = history.shard.read(|store| {
        calls += 1;
        store.at(KEYS[0], Revision(20))
    });
    assert_eq!(found.map(|one| one.at()), history.at(KEYS[0], Revision(20)).map(|one| one.at()));
    assert!(calls < 40, "{calls} calls");
}
