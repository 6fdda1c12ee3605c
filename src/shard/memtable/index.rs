//! Keys in order, with what the layer adds to the number of live ones before any place: 1 for a
//! key that it made, -1 for one that it deleted, nothing for others.
//!
//! Slots stand in chunks of bounded size, the chunks in a vector with a fence each, and a Fenwick
//! tree sums the chunks. Within a chunk the eight bytes behind what all its keys have
//! in common stand beside each slot, so that a search rarely touches a key: a control plane's
//! keys share long prefixes.

use std::cmp::Ordering;

use super::keys::{Keys, Slot};
use crate::base::record::Turn;

/// Keys of one chunk; one more splits it.
const CHUNK_KEYS: usize = 512;
/// Set in a slot whose key is not live behind the layer's last change.
const DEAD: Slot = 1 << 31;
/// Set in a slot whose key was not live before the layer's first change.
const BORN: Slot = 1 << 30;
/// The slot itself.
const SLOT: Slot = BORN - 1;

/// A position in key order: chunk, and place in it. Good until the index changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    chunk: usize,
    at: usize,
}

pub(super) struct Index {
    /// A key belongs to the last chunk whose fence is not above it. The first fence is empty.
    fences: Vec<Box<[u8]>>,
    #[expect(clippy::vec_box, reason = "a chunk put in between moves pointers, not chunks")]
    chunks: Vec<Box<Chunk>>,
    /// What each chunk adds, and the sums.
    net: Vec<i32>,
    net_sums: Sums,
}

#[derive(Default)]
struct Chunk {
    /// What all keys of the chunk begin with; possibly less than all that they have in common.
    common: Box<[u8]>,
    /// The eight bytes behind it, of each key.
    heads: Vec<u64>,
    slots: Vec<Slot>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            fences: vec![Box::default()],
            chunks: vec![Box::default()],
            net: vec![0],
            net_sums: Sums::of(&[0]),
        }
    }

    #[cfg(test)]
    fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Puts in a key that is not there, with its first change: whether it made the key or deleted
    /// it.
    pub(super) fn insert(&mut self, keys: &Keys, key: &[u8], slot: Slot, turn: Turn) {
        let mut at = self.chunk_of(key);
        if self.chunks[at].slots.len() == CHUNK_KEYS {
            self.split(keys, at, key);
            at = self.chunk_of(key);
        }
        let flagged = match turn {
            Turn::Created => slot | BORN,
            Turn::Updated => slot,
            Turn::Deleted => slot | DEAD,
        };
        self.chunks[at].insert(keys, key, flagged);
        self.add(at, net_of(flagged));
    }

    /// Notes that a key became live or ceased to be.
    pub(super) fn set_live(&mut self, keys: &Keys, key: &[u8], is_live: bool) {
        let at = self.chunk_of(key);
        let chunk = &mut self.chunks[at];
        let place = chunk.search(keys, key).expect("a key that changes is in the index");
        let slot = &mut chunk.slots[place];
        assert!((*slot & DEAD != 0) == is_live, "a key's liveness did not change");
        *slot ^= DEAD;
        self.add(at, if is_live { 1 } else { -1 });
    }

    fn add(&mut self, chunk: usize, delta: i32) {
        self.net[chunk] += delta;
        self.net_sums.add(chunk, i64::from(delta));
    }

    /// The first place whose key is at or above `key`.
    pub(super) fn lower_bound(&self, keys: &Keys, key: &[u8]) -> Place {
        let chunk = self.chunk_of(key);
        let at = match self.chunks[chunk].search(keys, key) {
            Ok(at) | Err(at) => at,
        };
        Place { chunk, at }
    }

    /// The place behind the last key.
    pub(super) fn end(&self) -> Place {
        Place { chunk: self.chunks.len(), at: 0 }
    }

    /// The slot at `place`, which moves on by one.
    pub(super) fn next(&self, place: &mut Place) -> Option<Slot> {
        self.next_before(place, self.end())
    }

    /// The slot at `place`, which moves on by one, while it stands before `end`.
    pub(super) fn next_before(&self, place: &mut Place, end: Place) -> Option<Slot> {
        while *place < end {
            if let Some(slot) = self.chunks[place.chunk].slots.get(place.at) {
                place.at += 1;
                return Some(slot & SLOT);
            }
            *place = Place { chunk: place.chunk + 1, at: 0 };
        }
        None
    }

    /// What the layer adds to the number of live keys before `place`.
    pub(super) fn net_before(&self, place: Place) -> i64 {
        let within = self.chunks.get(place.chunk).map_or(0, |chunk| {
            chunk.slots[..place.at].iter().map(|slot| i64::from(net_of(*slot))).sum()
        });
        self.net_sums.before(place.chunk) + within
    }

    /// About how many keys lie between two places, live or not.
    pub(super) fn keys_between(&self, from: Place, to: Place) -> usize {
        match to.chunk.checked_sub(from.chunk) {
            None => 0,
            Some(0) => to.at.saturating_sub(from.at),
            Some(chunks) => chunks * CHUNK_KEYS,
        }
    }

    fn chunk_of(&self, key: &[u8]) -> usize {
        self.fences.partition_point(|fence| **fence <= *key) - 1
    }

    fn split(&mut self, keys: &Keys, at: usize, key: &[u8]) {
        let chunk = &mut self.chunks[at];
        // Keys that arrive in ascending order leave full chunks behind.
        let appends = chunk.search(keys, key) == Err(chunk.slots.len());
        let middle = if appends { chunk.slots.len() } else { chunk.slots.len() / 2 };
        let mut right = Chunk {
            common: chunk.common.clone(),
            heads: chunk.heads.split_off(middle),
            slots: chunk.slots.split_off(middle),
        };
        right.narrow(keys);
        chunk.narrow(keys);
        let fence = right.slots.first().map_or(key, |slot| keys.key(slot & SLOT));
        self.fences.insert(at + 1, fence.into());
        let net = right.net();
        self.chunks.insert(at + 1, Box::new(right));
        self.net[at] -= net;
        self.net.insert(at + 1, net);
        self.net_sums = Sums::of(&self.net);
    }
}

impl Chunk {
    /// Where `key` is, or where it would be.
    fn search(&self, keys: &Keys, key: &[u8]) -> Result<usize, usize> {
        let skip = self.common.len();
        match key.get(..skip).unwrap_or(key).cmp(&self.common) {
            // A key that ends within the common bytes compares below them, too.
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.slots.len()),
            Ordering::Equal => {}
        }
        let head = head_of(&key[skip..]);
        let low = self.heads.partition_point(|other| *other < head);
        let equal = self.heads[low..].partition_point(|other| *other == head);
        let found =
            self.slots[low..low + equal].binary_search_by(|slot| keys.key(slot & SLOT).cmp(key));
        found.map(|at| at + low).map_err(|at| at + low)
    }

    fn insert(&mut self, keys: &Keys, key: &[u8], slot: Slot) {
        let at = match self.search(keys, key) {
            Ok(_) => panic!("a key was put into the index twice"),
            Err(at) => at,
        };
        let fits = !self.slots.is_empty() && key.starts_with(&self.common);
        self.slots.insert(at, slot);
        if fits {
            self.heads.insert(at, head_of(&key[self.common.len()..]));
        } else {
            self.measure(keys);
        }
    }

    /// Measures anew if the keys have so much more in common that heads would not tell.
    fn narrow(&mut self, keys: &Keys) {
        if self.common(keys).len() >= self.common.len() + 4 {
            self.measure(keys);
        }
    }

    fn common<'a>(&self, keys: &'a Keys) -> &'a [u8] {
        match (self.slots.first(), self.slots.last()) {
            (Some(first), Some(last)) => {
                let (first, last) = (keys.key(first & SLOT), keys.key(last & SLOT));
                &first[..common_len(first, last)]
            }
            _ => &[],
        }
    }

    fn measure(&mut self, keys: &Keys) {
        self.common = self.common(keys).into();
        let skip = self.common.len();
        let heads = self.slots.iter().map(|slot| head_of(&keys.key(slot & SLOT)[skip..]));
        self.heads = heads.collect();
    }

    fn net(&self) -> i32 {
        self.slots.iter().map(|slot| net_of(*slot)).sum()
    }
}

/// What a key adds to the number of live ones.
fn net_of(flagged: Slot) -> i32 {
    i32::from(flagged & BORN != 0) - i32::from(flagged & DEAD != 0)
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number that orders as they do, but for ties.
fn head_of(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = bytes.len().min(8);
    head[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(head)
}

/// A Fenwick tree: sums of a vector's prefixes under single changes (Fenwick, "A new data
/// structure for cumulative frequency tables", 1994).
struct Sums {
    nodes: Vec<i64>,
}

impl Sums {
    fn of(values: &[i32]) -> Sums {
        let mut nodes: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
        for at in 0..nodes.len() {
            let parent = at | (at + 1);
            if parent < nodes.len() {
                nodes[parent] += nodes[at];
            }
        }
        Sums { nodes }
    }

    fn add(&mut self, mut at: usize, delta: i64) {
        while let Some(node) = self.nodes.get_mut(at) {
            *node += delta;
            at |= at + 1;
        }
    }

    /// The sum of the values before `end`.
    fn before(&self, end: usize) -> i64 {
        let mut end = end.min(self.nodes.len());
        let mut sum = 0;
        while end > 0 {
            sum += self.nodes[end - 1];
            end &= end - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::base::prng::Prng;
    use crate::base::record::Record;
    use crate::base::{Revision, Sub};

    fn any_key(prng: &mut Prng) -> Vec<u8> {
        let prefix: &[u8] = match prng.below(4) {
            0 => b"",
            1 => b"/registry/leases/kube-node-lease/",
            2 => b"/registry/leases/kube-node",
            _ => b"\0",
        };
        let mut key = prefix.to_vec();
        for _ in 0..prng.below(4) {
            key.push(prng.below(3) as u8 * 100);
        }
        if prng.percent(50) {
            key.extend(prng.below(1500).to_string().into_bytes());
        }
        key
    }

    fn check_all(keys: &Keys, index: &Index, plain: &BTreeMap<Vec<u8>, (Slot, bool, bool)>) {
        let mut place = index.lower_bound(keys, b"");
        let mut net = 0;
        for (key, (slot, is_born, is_dead)) in plain {
            assert_eq!(keys.find(key), Some(*slot));
            assert_eq!(index.net_before(index.lower_bound(keys, key)), net, "{key:?}");
            assert_eq!(index.next(&mut place), Some(*slot));
            net += i64::from(*is_born) - i64::from(*is_dead);
        }
        assert_eq!(index.next(&mut place), None);
        assert_eq!(index.net_before(index.end()), net);
    }

    #[test]
    fn order_counts_and_lookups_follow_a_plain_map() {
        for seed in 0..4 {
            let mut prng = Prng::new(seed);
            let (mut keys, mut index) = (Keys::new(seed), Index::new());
            let mut plain: BTreeMap<Vec<u8>, (Slot, bool, bool)> = BTreeMap::new();
            for step in 0..12_000 {
                let key = any_key(&mut prng);
                match plain.get_mut(&key) {
                    None => {
                        let turn = [Turn::Created, Turn::Updated, Turn::Deleted];
                        let turn = turn[prng.below(3) as usize];
                        let record = Record::tombstone(&key, Revision(1), Sub(0));
                        let slot = keys.insert(Arc::new(record));
                        index.insert(&keys, &key, slot, turn);
                        let (is_born, is_dead) = (turn == Turn::Created, turn == Turn::Deleted);
                        plain.insert(key, (slot, is_born, is_dead));
                    }
                    Some((_, _, is_dead)) => {
                        index.set_live(&keys, &key, *is_dead);
                        *is_dead = !*is_dead;
                    }
                }
                if step % 3000 == 2999 {
                    check_all(&keys, &index, &plain);
                }
            }
        }
    }

    #[test]
    fn ascending_keys_leave_full_chunks() {
        let (mut keys, mut index) = (Keys::new(1), Index::new());
        for number in 0..CHUNK_KEYS * 10 {
            let key = format!("/registry/pods/{number:09}");
            let record = Record::tombstone(key.as_bytes(), Revision(1), Sub(0));
            let slot = keys.insert(Arc::new(record));
            index.insert(&keys, key.as_bytes(), slot, Turn::Created);
        }
        assert_eq!(index.chunks(), 10);
    }
}
