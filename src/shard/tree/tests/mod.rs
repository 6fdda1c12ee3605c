//! What the tests share: a disk with a cache that forgets, a merge from end to end, and a check of
//! a whole tree.

mod damage;
mod model;
mod shape;
mod undo;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::aggregate::{Child, measure_and_hash};
use super::page::Page;
use super::*;
use crate::base::limits::PAGE_LOGICAL_BYTES_MAX;
use crate::base::prng::Prng;
use crate::base::record::{PutFields, Record, Turn};
use crate::base::{LeaseId, Revision, Sub};
use crate::shard::pages::{HEADER_BYTES, PageRef, PageSink, Pages, SUPERBLOCK_UNITS};
use bytes::Bytes;

/// Pages by their units, which are never used twice, and a cache of a few of them.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    pages: BTreeMap<u32, (PageRef, Bytes)>,
    freed: BTreeSet<u32>,
    cached: VecDeque<u32>,
    cache_pages: usize,
    units: u32,
    /// Levels of the pages that were read, in order.
    read: Vec<u8>,
    written: usize,
}

impl Pages for Disk {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        let inner = &mut *self.0.borrow_mut();
        let place = inner.cached.iter().position(|unit| *unit == at.unit)?;
        inner.cached.remove(place);
        inner.cached.push_back(at.unit);
        let (written, bytes) = &inner.pages[&at.unit];
        assert_eq!(*written, at, "a reference is what was given out");
        Some(bytes.clone())
    }

    fn holds(&self, at: PageRef) -> bool {
        self.0.borrow().cached.contains(&at.unit)
    }
}

impl PageSink for Disk {
    fn write(&mut self, logical: Bytes) -> PageRef {
        let inner = &mut *self.0.borrow_mut();
        assert!(logical.len() <= PAGE_LOGICAL_BYTES_MAX, "a page of {} B", logical.len());
        inner.units += 1;
        inner.written += 1;
        let stored = u32::try_from(HEADER_BYTES + logical.len()).unwrap();
        let at = PageRef {
            unit: SUPERBLOCK_UNITS - 1 + inner.units,
            units: stored.div_ceil(4096),
            stored,
            logical: logical.len() as u32,
            checksum: crc32c::crc32c(&logical),
        };
        inner.pages.insert(at.unit, (at, logical.clone()));
        at
    }

    fn free(&mut self, at: PageRef) {
        let inner = &mut *self.0.borrow_mut();
        assert!(inner.pages.contains_key(&at.unit), "what is freed was written");
        assert!(inner.freed.insert(at.unit), "a page is freed once");
    }
}

impl Disk {
    fn new(cache_pages: usize) -> Disk {
        let disk = Disk::default();
        disk.0.borrow_mut().cache_pages = cache_pages;
        disk
    }

    /// Reads what is wanted; the first of it stays longest.
    fn load(&self, wanted: &[PageRef]) {
        let inner = &mut *self.0.borrow_mut();
        assert!(!wanted.is_empty() && wanted.len() <= 64, "{} pages wanted", wanted.len());
        for at in wanted.iter().rev() {
            assert!(!inner.cached.contains(&at.unit), "a page in memory is not wanted");
            inner.read.push(inner.pages[&at.unit].1[0]);
            inner.cached.push_back(at.unit);
            if inner.cached.len() > inner.cache_pages {
                inner.cached.pop_front();
            }
        }
    }

    /// Calls until nothing is missing.
    fn wait<T>(&self, mut call: impl FnMut() -> Result<T, Stop>) -> T {
        let mut last = Vec::new();
        for _ in 0..10_000 {
            match call() {
                Ok(found) => return found,
                Err(Stop::Wanted(pages)) => {
                    self.load(&pages);
                    last = pages;
                }
                Err(Stop::Damaged(damaged)) => panic!("{damaged}"),
            }
        }
        panic!("a call that never ends, last for {last:?}");
    }

    fn reader(&self, kind: Kind, root: Option<Root>) -> Reader<'_> {
        Reader::new(kind, root, self)
    }

    /// Levels of the pages read, and pages written, since the last call.
    fn work(&self) -> (Vec<u8>, usize) {
        let inner = &mut *self.0.borrow_mut();
        (std::mem::take(&mut inner.read), std::mem::take(&mut inner.written))
    }
}

type Old = Vec<(Bytes, Option<Bytes>)>;

/// A merge from end to end, then the check of all pages.
fn merge(
    disk: &Disk,
    kind: Kind,
    root: Option<Root>,
    drop_below: i64,
    changes: Vec<Change>,
    budget: usize,
) -> (Option<Root>, Old) {
    let mut old = Old::new();
    let mut merge = Merge::new(kind, root, Revision(drop_below), changes.into_iter());
    let mut sink = disk.clone();
    let root = loop {
        let mut take = |change: &Change, value: Option<Bytes>| {
            old.push((change.key.clone(), value));
            change.value.clone()
        };
        match merge.step(&mut sink, &mut take, budget).expect("an intact tree") {
            Step::Paused => {}
            Step::Wanted(pages) => disk.load(&pages),
            Step::Done(root) => break root,
        }
    };
    check_all(disk, kind, root);
    (root, old)
}

/// Checks every page below `root`, and that all other pages were freed; then forgets those.
fn check_all(disk: &Disk, kind: Kind, root: Option<Root>) {
    let inner = &mut *disk.0.borrow_mut();
    let mut reached = BTreeSet::new();
    if let Some(root) = root {
        let child = Child { at: root.page, total: root.total };
        check_below(inner, kind, root.height, &child, (&[], None), &mut reached);
    }
    let written: BTreeSet<u32> = inner.pages.keys().copied().collect();
    let kept: BTreeSet<u32> = written.difference(&inner.freed).copied().collect();
    assert_eq!(reached, kept, "what is reached and what was not freed");
    for unit in std::mem::take(&mut inner.freed) {
        inner.pages.remove(&unit);
        inner.cached.retain(|cached| *cached != unit);
    }
}

fn check_below(
    inner: &Inner,
    kind: Kind,
    level: u8,
    child: &Child,
    (lower, upper): (&[u8], Option<&[u8]>),
    reached: &mut BTreeSet<u32>,
) {
    let (at, bytes) = &inner.pages[&child.at.unit];
    assert_eq!(*at, child.at);
    assert!(reached.insert(at.unit), "a page has one parent");
    check(bytes).expect("a page that was written");
    let page = Page::open(bytes.clone(), kind, level).expect("a page of its level");
    let mut total = Aggregate::EMPTY;
    for place in 0..page.len() {
        let entry = page.entry(place).expect("checked");
        let key = entry.key();
        assert!(key >= lower && upper.is_none_or(|upper| key < upper), "a key in its stretch");
        if level > 0 {
            let next = (place + 1 < page.len()).then(|| page.entry(place + 1).expect("checked"));
            let upper = next.map_or(upper, |next| Some(next.key()));
            let below = page.child(place).expect("checked");
            check_below(inner, kind, level - 1, &below, (key, upper), reached);
        }
        let all = entry.key_and_value();
        total.add(&measure_and_hash(kind, level, all, key.len()).expect("checked"));
    }
    assert_eq!(total, child.total, "a branch says what is below it");
}

/// Entries and bytes of each leaf, in order.
fn leaves(disk: &Disk, kind: Kind, root: Option<Root>) -> Vec<(usize, usize)> {
    fn below(inner: &Inner, kind: Kind, level: u8, at: PageRef, out: &mut Vec<(usize, usize)>) {
        let page = Page::open(inner.pages[&at.unit].1.clone(), kind, level).expect("checked");
        if level == 0 {
            out.push((page.len(), at.logical as usize));
            return;
        }
        for place in 0..page.len() {
            below(inner, kind, level - 1, page.child(place).expect("checked").at, out);
        }
    }
    let mut out = Vec::new();
    if let Some(root) = root {
        below(&disk.0.borrow(), kind, root.height, root.page, &mut out);
    }
    out
}

fn put(key: &[u8], revision: i64, value: &[u8]) -> Bytes {
    let record = Record::put(PutFields {
        key,
        value,
        revision: Revision(revision),
        sub: Sub(0),
        create: Revision(revision),
        version: 1,
        lease: LeaseId::NONE,
    });
    record.log().clone()
}

fn tombstone(key: &[u8], revision: i64) -> Bytes {
    Record::tombstone(key, Revision(revision), Sub(0)).log().clone()
}

fn change(key: &[u8], value: Option<Bytes>) -> Change {
    Change { key: Bytes::copy_from_slice(key), value }
}
