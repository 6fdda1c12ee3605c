//! A tree and a plain map under the same changes, read through a cache of a few pages.

use std::ops::{Bound, ControlFlow};

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::base::range::{KeyRange, RangeEnd};

type Plain = BTreeMap<Bytes, Bytes>;

struct World {
    prng: Prng,
    disk: Disk,
    kind: Kind,
    root: Option<Root>,
    plain: Plain,
    revision: i64,
    /// Keys begin with so many equal bytes, which separators have to hold, too.
    common: usize,
    numbers: u64,
}

impl World {
    fn new(seed: u64, kind: Kind, common: usize, numbers: u64) -> World {
        let (prng, disk) = (Prng::new(seed), Disk::new(10));
        World { prng, disk, kind, root: None, plain: Plain::new(), revision: 1, common, numbers }
    }

    fn key(&self, number: u64) -> Bytes {
        let mut key = vec![b'k'; self.common];
        key.extend(format!("{number:07}").into_bytes());
        key.into()
    }

    fn any_key(&mut self) -> Bytes {
        let number = self.prng.below(self.numbers);
        match self.prng.below(20) {
            0 => Bytes::from_static(b"a"),
            1 => Bytes::from_static(b"z"),
            _ => self.key(number),
        }
    }

    fn any_value(&mut self, key: &Bytes) -> Option<Bytes> {
        self.revision += 1;
        let len = match self.prng.below(200) {
            0 => 60_000 + self.prng.below(30_000),
            1 => 300_000,
            2..10 => self.prng.below(20_000),
            _ => self.prng.below(300),
        };
        let value = vec![self.revision as u8; len as usize];
        match (self.kind, self.prng.below(10)) {
            (Kind::Current, 0) => None,
            (Kind::Current, 1..3) => Some(tombstone(key, self.revision)),
            (Kind::Current, _) => Some(put(key, self.revision, &value)),
            (_, 0..3) => None,
            _ => Some(value.into()),
        }
    }

    /// Changes here and there, of a stretch, or of everything.
    fn any_changes(&mut self) -> Plain2 {
        let mut changes = Plain2::new();
        let from = self.prng.below(self.numbers);
        let size = self.prng.below(4);
        let count = self.prng.below(match size {
            0 => 3,
            1 => 30,
            _ => 600,
        });
        let shape = self.prng.below(5);
        for step in 0..count {
            let near = from + self.prng.below(200);
            let key = match shape {
                0 | 1 => self.any_key(),
                2 => self.key((from + step) % self.numbers),
                _ => self.key(near % self.numbers),
            };
            let value = self.any_value(&key);
            // A stretch may go as a whole.
            let value = value.filter(|_| shape != 4);
            changes.insert(key, value);
        }
        if self.prng.below(60) == 0 {
            changes.extend(self.plain.keys().map(|key| (key.clone(), None)));
        }
        changes
    }

    fn round(&mut self) {
        let changes = self.any_changes();
        let drop_below = match self.prng.below(3) {
            0 => self.revision - self.prng.below(500) as i64,
            _ => 0,
        };
        let expected: Old =
            changes.keys().map(|key| (key.clone(), self.plain.get(key).cloned())).collect();
        for (key, value) in &changes {
            match value {
                Some(value) => self.plain.insert(key.clone(), value.clone()),
                None => self.plain.remove(key),
            };
        }
        if self.kind == Kind::Current {
            let is_needed = |log: &Bytes| {
                let record = Record::decode(log.clone()).unwrap();
                !record.is_tombstone() || record.revision.0 >= drop_below
            };
            self.plain.retain(|_, log| is_needed(log));
        }
        let budget = [1, 1_000, 100_000, usize::MAX][self.prng.below(4) as usize];
        let changes = changes.into_iter().map(|(key, value)| Change { key, value }).collect();
        let (root, old) = merge(&self.disk, self.kind, self.root, drop_below, changes, budget);
        assert_eq!(old, expected, "what the merge replaced");
        self.root = root;
        let total = root.map_or(Aggregate::EMPTY, |root| root.total);
        assert_eq!(total, sum(self.kind, self.plain.iter()));
    }

    fn any_range(&mut self) -> KeyRange {
        let (start, end) = (self.any_key(), self.any_key());
        match self.prng.below(6) {
            0 => KeyRange::all(),
            1 => KeyRange::single(start),
            2 => KeyRange { start, end: RangeEnd::Open },
            // Crossed ends among them.
            _ => KeyRange { start, end: RangeEnd::Before(end) },
        }
    }

    fn check_reads(&mut self) {
        for _ in 0..20 {
            let key = self.any_key();
            let reader = self.disk.reader(self.kind, self.root);
            assert_eq!(self.disk.wait(|| reader.get(&key)), self.plain.get(&key).cloned());
        }
        for _ in 0..4 {
            let range = self.any_range();
            let from = self.any_key();
            let is_bound = self.prng.percent(50);
            let from = Some(&from).filter(|_| is_bound);
            let inside: Vec<_> = self.plain.iter().filter(|(key, _)| range.contains(key)).collect();
            let reader = self.disk.reader(self.kind, self.root);
            let expected = sum(self.kind, inside.iter().copied());
            assert_eq!(self.disk.wait(|| reader.digest(&range)), expected, "{range:?}");
            let unhashed = Aggregate { hash: 0, ..expected };
            let counted = self.disk.wait(|| reader.count(&range));
            assert_eq!(Aggregate { hash: 0, ..counted }, unhashed, "{range:?}");
            for is_back in [false, true] {
                let walked = self.walk(&range, from, is_back);
                let behind = |key: &Bytes| match (from, is_back) {
                    (None, _) => true,
                    (Some(from), false) => key > from,
                    (Some(from), true) => key < from,
                };
                let mut expected: Vec<_> = inside
                    .iter()
                    .filter(|(key, _)| behind(key))
                    .map(|(key, value)| ((*key).clone(), (*value).clone()))
                    .collect();
                if is_back {
                    expected.reverse();
                }
                assert!(walked == expected, "{range:?} from {from:?}, back {is_back}");
            }
        }
    }

    /// A walk that goes on wherever a page is missing or the visitor breaks off.
    fn walk(&self, range: &KeyRange, from: Option<&Bytes>, is_back: bool) -> Vec<(Bytes, Bytes)> {
        let mut prng = self.prng.clone();
        let mut found: Vec<(Bytes, Bytes)> = Vec::new();
        loop {
            let ended = self.disk.wait(|| {
                let last = found.last().map(|(key, _)| key.clone()).or(from.cloned());
                let last = last.as_deref();
                let mut visit = |entry: Entry<'_>| {
                    let key = Bytes::copy_from_slice(entry.key());
                    assert_eq!(entry.value(), entry.value_bytes());
                    found.push((key, entry.value_bytes()));
                    match prng.percent(5) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                let reader = self.disk.reader(self.kind, self.root);
                match is_back {
                    false => reader.walk(range, last, &mut visit),
                    true => reader.walk_back(range, last, &mut visit),
                }
            });
            if ended == Walk::Ended {
                return found;
            }
        }
    }
}

type Plain2 = BTreeMap<Bytes, Option<Bytes>>;

/// The sums of plain entries, from first principles.
fn sum<'a>(kind: Kind, entries: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Aggregate {
    let mut sum = Aggregate::EMPTY;
    for (key, value) in entries {
        let hash = xxh3_64(&[&key[..], &value[..]].concat());
        if kind != Kind::Current {
            sum.live += 1;
            sum.bytes += value.len() as u64;
            sum.hash = sum.hash.wrapping_add(hash);
            continue;
        }
        let record = Record::decode(value.clone()).unwrap();
        sum.newest = sum.newest.max(record.revision);
        if record.is_tombstone() {
            sum.oldest = sum.oldest.min(record.revision);
        } else {
            sum.live += 1;
            sum.bytes += record.kv().len() as u64;
            sum.hash = sum.hash.wrapping_add(hash);
        }
    }
    sum
}

fn run(seeds: std::ops::Range<u64>, kind: Kind, common: usize, numbers: u64, rounds: usize) -> u8 {
    let mut highest = 0;
    for seed in seeds {
        let mut world = World::new(seed, kind, common, numbers);
        for round in 0..rounds {
            world.round();
            highest = highest.max(world.root.map_or(0, |root| root.height));
            if round % 3 == 0 {
                world.check_reads();
            }
        }
    }
    highest
}

#[test]
fn current_follows_a_plain_map() {
    assert!(run(0..3, Kind::Current, 20, 20_000, 60) >= 1);
}

#[test]
fn current_follows_a_plain_map_in_a_high_tree() {
    assert!(run(10..13, Kind::Current, 3_000, 3_000, 40) >= 2);
}

#[test]
fn meta_follows_a_plain_map_in_a_high_tree() {
    assert!(run(20..23, Kind::Meta, 6_000, 2_000, 60) >= 2);
}

#[test]
fn keys_longer_than_pages_make_a_tree_all_the_same() {
    let disk = Disk::new(16);
    let mut plain = Plain::new();
    let mut root = None;
    for round in 0..4_u8 {
        let mut changes = Vec::new();
        for number in 0..10_u8 {
            let mut key = vec![b'k'; 50_000];
            key.extend([number, round]);
            let value = Bytes::copy_from_slice(&[number]);
            plain.insert(key.clone().into(), value.clone());
            changes.push(change(&key, Some(value)));
        }
        root = merge(&disk, Kind::Meta, root, 0, changes, usize::MAX).0;
    }
    assert!(root.is_some_and(|root| root.height >= 5));
    for (key, value) in &plain {
        let reader = disk.reader(Kind::Meta, root);
        assert_eq!(disk.wait(|| reader.get(key)).as_ref(), Some(value));
        let before = KeyRange { start: Bytes::new(), end: RangeEnd::Before(key.clone()) };
        let rank = plain.range::<Bytes, _>((Bound::Unbounded, Bound::Excluded(key))).count();
        assert_eq!(disk.wait(|| reader.count(&before)).live, rank as u64);
    }
}
