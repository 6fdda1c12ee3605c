//! HashKV as etcd computes it.
//!
//! The sum is CRC-32C over the word `key` and then, in the order of (revision, sub), the bucket
//! key and the value of every record that counts. At revision R over compact revision C there
//! count: all changes above C and not above R, tombstones included; and of what a compaction at C
//! leaves, the versions that are still live at R. If nothing at all is live at R, everything that
//! the compaction leaves counts, but for tombstones at C.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{Revision, Sub};
use crate::shard::memtable::{Memtable, Versions};

/// What a hash is of. Its reader holds the compact revision from start to end: history that a
/// later compaction forgets counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashOf {
    /// The revision to hash at.
    pub revision: Revision,
    /// The compact revision when it began; -1 if there never was a compaction.
    pub compact: Revision,
    /// Whether any key of the whole store, all shards, is live at `revision`.
    pub any_live: bool,
}

/// Lists what counts of one shard, in slices.
#[derive(Debug)]
pub struct HashList {
    of: HashOf,
    after: Option<Bytes>,
    found: Vec<Arc<Record>>,
}

impl HashList {
    /// Begins a list.
    #[must_use]
    pub fn new(of: HashOf) -> HashList {
        HashList { of, after: None, found: Vec::new() }
    }

    /// Looks at `keys` more keys. True when the list is complete.
    pub fn step(&mut self, table: &Memtable, keys: usize) -> bool {
        let everything = KeyRange::all();
        let mut walk = table.scan(&everything, self.after.as_deref());
        let mut last: Option<&[u8]> = None;
        for (key, versions) in walk.by_ref().take(keys) {
            list(self.of, versions, &mut self.found);
            last = Some(key);
        }
        let is_complete = walk.next().is_none();
        let last = last.map(Bytes::copy_from_slice);
        if last.is_some() {
            self.after = last;
        }
        is_complete
    }

    /// The complete list, by revision and sub.
    #[must_use]
    pub fn finish(mut self) -> Vec<Arc<Record>> {
        self.found.sort_unstable_by_key(|record| record.at());
        self.found
    }
}

/// What counts of one key's versions.
fn list(of: HashOf, versions: &Versions, found: &mut Vec<Arc<Record>>) {
    let base = versions.last_at(of.compact).filter(|record| !record.is_tombstone());
    let mut after = versions.above(of.compact);
    let mut after = after.by_ref().take_while(|record| record.revision <= of.revision).peekable();
    let replaced = after.peek().is_some();
    // What is replaced by `revision` is no more what a read there sees, so etcd leaves it out;
    // unless there is nothing that a read there sees.
    found.extend(base.filter(|_| !replaced || !of.any_live).cloned());
    found.extend(after.cloned());
}

/// Sums the shards' lists up, in slices.
#[derive(Debug)]
pub struct HashSum {
    lists: Vec<std::vec::IntoIter<Arc<Record>>>,
    /// The next record of each list that has one.
    next: BinaryHeap<Reverse<((Revision, Sub), usize)>>,
    crc: u32,
}

impl HashSum {
    /// Begins a sum over lists that are each in order.
    #[must_use]
    pub fn new(lists: Vec<Vec<Arc<Record>>>) -> HashSum {
        let lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
        let heads = lists.iter().enumerate();
        let next = heads
            .filter_map(|(list, rest)| Some(Reverse((rest.as_slice().first()?.at(), list))))
            .collect();
        HashSum { lists, next, crc: crc32c::crc32c(b"key") }
    }

    /// Adds about `bytes` more. The hash, when everything is in it.
    pub fn step(&mut self, bytes: usize) -> Option<u32> {
        let mut added = 0;
        while added < bytes {
            let Some(Reverse((_, list))) = self.next.pop() else { return Some(self.crc) };
            let rest = &mut self.lists[list];
            let record = rest.next().expect("a list that is named next has a record");
            if let Some(following) = rest.as_slice().first() {
                self.next.push(Reverse((following.at(), list)));
            }
            let (key, len) = bucket_key(&record);
            self.crc = crc32c::crc32c_append(self.crc, &key[..len]);
            self.crc = crc32c::crc32c_append(self.crc, record.hashed_value());
            added += len + record.hashed_value().len();
        }
        None
    }
}

/// Etcd's name for a record: `main '_' sub`, big-endian, and a `t` behind a tombstone's.
#[must_use]
pub fn bucket_key(record: &Record) -> ([u8; 18], usize) {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&record.revision.0.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&u64::from(record.sub.0).to_be_bytes());
    key[17] = b't';
    (key, if record.is_tombstone() { 18 } else { 17 })
}
