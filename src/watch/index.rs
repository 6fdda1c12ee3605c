//! Which watchers does a key concern? A hash map for single keys, and for ranges a treap ordered
//! by start in which every node knows the furthest end below it: a key finds its ranges in
//! O(log n + hits) however they nest. Watchers of the same range share a node.
//!
//! (Seidel, Aragon: "Randomized Search Trees", 1996; the furthest end is the interval tree of
//! Cormen et al.)

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Builder;

use crate::base::prng::Prng;
use crate::base::range::{KeyRange, RangeEnd};

const NIL: u32 = u32::MAX;

/// Where a range ends, `None` for nowhere.
type End = Option<Bytes>;

/// The live watchers of a hub by the keys that concern them.
#[derive(Debug)]
pub(super) struct Index {
    singles: HashMap<Bytes, BTreeSet<usize>, Xxh3Builder>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    /// Priorities, so that nobody can choose keys that make the tree a list.
    prng: Prng,
    len: usize,
}

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: End,
    /// The furthest end in this subtree.
    reach: End,
    priority: u64,
    left: u32,
    right: u32,
    watchers: BTreeSet<usize>,
}

impl Index {
    pub(super) fn new(mut prng: Prng) -> Index {
        Index {
            singles: HashMap::with_hasher(Xxh3Builder::new().with_seed(prng.next_u64())),
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            prng,
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a watcher of `range`, which is not empty.
    pub(super) fn insert(&mut self, range: &KeyRange, watcher: usize) {
        let added = match end_of(range) {
            None => self.singles.entry(range.start.clone()).or_default().insert(watcher),
            Some(end) => match self.find(&range.start, &end) {
                Some(node) => self.node(node).watchers.insert(watcher),
                None => {
                    self.grow(range.start.clone(), end, watcher);
                    true
                }
            },
        };
        assert!(added, "a watcher is in the index once");
        self.len += 1;
    }

    /// Takes a watcher of `range` out again.
    pub(super) fn remove(&mut self, range: &KeyRange, watcher: usize) {
        let removed = match end_of(range) {
            None => {
                let Some(watchers) = self.singles.get_mut(&range.start) else {
                    panic!("a watcher to remove is in the index");
                };
                let removed = watchers.remove(&watcher);
                if watchers.is_empty() {
                    self.singles.remove(&range.start);
                }
                removed
            }
            Some(end) => {
                let node = self.find(&range.start, &end);
                let node = node.expect("a watcher to remove is in the index");
                let removed = self.node(node).watchers.remove(&watcher);
                if self.node(node).watchers.is_empty() {
                    self.root = self.erase(self.root, node);
                    self.free.push(node);
                }
                removed
            }
        };
        assert!(removed, "a watcher to remove is in the index");
        self.len -= 1;
    }

    /// Appends the watchers that `key` concerns to `hits`.
    pub(super) fn stab(&self, key: &[u8], hits: &mut Vec<usize>) {
        if let Some(watchers) = self.singles.get(key) {
            hits.extend(watchers);
        }
        self.visit(self.root, key, hits);
    }

    fn visit(&self, at: u32, key: &[u8], hits: &mut Vec<usize>) {
        if at == NIL {
            return;
        }
        let node = &self.nodes[at as usize];
        if !is_before(key, &node.reach) {
            return;
        }
        self.visit(node.left, key, hits);
        if node.start[..] <= *key {
            if is_before(key, &node.end) {
                hits.extend(&node.watchers);
            }
            self.visit(node.right, key, hits);
        }
    }

    fn node(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    fn find(&self, start: &Bytes, end: &End) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            match order((start, end), (&node.start, &node.end)) {
                Ordering::Equal => return Some(at),
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
            }
        }
        None
    }

    fn grow(&mut self, start: Bytes, end: End, watcher: usize) {
        let node = Node {
            reach: end.clone(),
            start,
            end,
            priority: self.prng.next_u64(),
            left: NIL,
            right: NIL,
            watchers: BTreeSet::from([watcher]),
        };
        let at = match self.free.pop() {
            Some(at) => {
                *self.node(at) = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("watchers are bounded far below 2^32")
            }
        };
        let (below, above) = self.split(self.root, at);
        let low = self.merge(below, at);
        self.root = self.merge(low, above);
    }

    /// Splits the tree at `from` into what stands before node `pivot` and what stands behind.
    fn split(&mut self, from: u32, pivot: u32) -> (u32, u32) {
        if from == NIL {
            return (NIL, NIL);
        }
        if self.compare(from, pivot) == Ordering::Less {
            let (low, high) = self.split(self.nodes[from as usize].right, pivot);
            self.node(from).right = low;
            self.pull(from);
            (from, high)
        } else {
            let (low, high) = self.split(self.nodes[from as usize].left, pivot);
            self.node(from).left = high;
            self.pull(from);
            (low, from)
        }
    }

    /// Joins two trees; all of `low` stands before all of `high`.
    fn merge(&mut self, low: u32, high: u32) -> u32 {
        if low == NIL {
            return high;
        }
        if high == NIL {
            return low;
        }
        if self.nodes[low as usize].priority >= self.nodes[high as usize].priority {
            let right = self.merge(self.nodes[low as usize].right, high);
            self.node(low).right = right;
            self.pull(low);
            low
        } else {
            let left = self.merge(low, self.nodes[high as usize].left);
            self.node(high).left = left;
            self.pull(high);
            high
        }
    }

    /// The tree at `from` without node `gone`.
    fn erase(&mut self, from: u32, gone: u32) -> u32 {
        assert!(from != NIL, "a node to erase is in the tree");
        let (left, right) = (self.nodes[from as usize].left, self.nodes[from as usize].right);
        match self.compare(gone, from) {
            Ordering::Equal => return self.merge(left, right),
            Ordering::Less => self.node(from).left = self.erase(left, gone),
            Ordering::Greater => self.node(from).right = self.erase(right, gone),
        }
        self.pull(from);
        from
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        order((&a.start, &a.end), (&b.start, &b.end))
    }

    /// Makes a node's reach right again after its children changed.
    fn pull(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut reach = &node.end;
        for child in [node.left, node.right] {
            if child != NIL {
                let below = &self.nodes[child as usize].reach;
                if order_end(below, reach) == Ordering::Greater {
                    reach = below;
                }
            }
        }
        self.nodes[at as usize].reach = reach.clone();
    }
}

/// `None` for a single key, else where the range ends.
fn end_of(range: &KeyRange) -> Option<End> {
    match &range.end {
        RangeEnd::Single => None,
        RangeEnd::Open => Some(None),
        RangeEnd::Before(end) => Some(Some(end.clone())),
    }
}

fn is_before(key: &[u8], end: &End) -> bool {
    end.as_ref().is_none_or(|end| key < &end[..])
}

fn order(a: (&Bytes, &End), b: (&Bytes, &End)) -> Ordering {
    a.0.cmp(b.0).then_with(|| order_end(a.1, b.1))
}

fn order_end(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prng: &mut Prng) -> Vec<u8> {
        let len = 1 + prng.below(3) as usize;
        (0..len).map(|_| b'a' + prng.below(4) as u8).collect()
    }

    fn range(prng: &mut Prng) -> KeyRange {
        let start = Bytes::from(key(prng));
        let end = match prng.below(4) {
            0 => Bytes::new(),
            1 => Bytes::from_static(&[0]),
            _ => Bytes::from(key(prng)),
        };
        KeyRange::from_request(start, end)
    }

    fn depth(index: &Index, at: u32) -> usize {
        match at {
            NIL => 0,
            at => {
                let node = &index.nodes[at as usize];
                1 + depth(index, node.left).max(depth(index, node.right))
            }
        }
    }

    #[test]
    fn finds_what_a_scan_finds() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let mut index = Index::new(Prng::new(seed + 1000));
            let mut all: Vec<(usize, KeyRange)> = Vec::new();
            for step in 0..600 {
                if prng.percent(60) || all.is_empty() {
                    let range = range(&mut prng);
                    if range.is_empty() {
                        continue;
                    }
                    index.insert(&range, step);
                    all.push((step, range));
                } else {
                    let gone = prng.below(all.len() as u64) as usize;
                    let (watcher, range) = all.swap_remove(gone);
                    index.remove(&range, watcher);
                }
                let key = key(&mut prng);
                let mut hits = Vec::new();
                index.stab(&key, &mut hits);
                hits.sort_unstable();
                let mut expected: Vec<usize> = all
                    .iter()
                    .filter(|(_, range)| range.contains(&key))
                    .map(|(watcher, _)| *watcher)
                    .collect();
                expected.sort_unstable();
                assert_eq!(hits, expected, "seed {seed} step {step} key {key:?}");
            }
            for (watcher, range) in all {
                index.remove(&range, watcher);
            }
            assert!(index.is_empty() && index.root == NIL && index.singles.is_empty());
        }
    }

    #[test]
    fn ascending_and_nested_ranges_do_not_make_it_deep() {
        let mut index = Index::new(Prng::new(3));
        for i in 0..4096u32 {
            let start = Bytes::from(format!("{i:08}"));
            let end = Bytes::from(format!("{:08}", 99_999 - i));
            index.insert(&KeyRange::from_request(start, end), i as usize);
        }
        assert!(depth(&index, index.root) < 60);
        let mut hits = Vec::new();
        index.stab(b"00000003", &mut hits);
        assert_eq!(hits, [0, 1, 2, 3]);
    }
}
