//! Pages in memory, expanded, up to a bound in bytes.
//!
//! Two queues: a page enters the small one, a tenth of the cache. Asked for again before it
//! reaches the front, it moves on to the large one, where it stays for as long as it is asked
//! for between two of its turns. So a scan passes through the small queue alone. (S3-FIFO
//! without its memory of what went: Yang et al., SOSP 2023.)

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::extent::PageRef;

/// The share of the small queue: one part in so many.
const SMALL_SHARE: usize = 10;
/// Places in a queue whose page is gone, before they are swept out.
const GONE_MAX: usize = 64;

#[derive(Debug)]
struct Slot {
    at: PageRef,
    bytes: Bytes,
    /// Tells its place in a queue from those of earlier pages of that unit.
    entry: u64,
    is_large: bool,
    is_used: Cell<bool>,
}

#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    small_bytes: usize,
    by_unit: BTreeMap<u32, Slot>,
    /// Unit and entry, oldest first. Places of pages that are gone are passed over.
    small: VecDeque<(u32, u64)>,
    large: VecDeque<(u32, u64)>,
    entries: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache {
            bytes_max,
            bytes: 0,
            small_bytes: 0,
            by_unit: BTreeMap::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            entries: 0,
        }
    }

    pub(super) fn get(&self, at: PageRef) -> Option<Bytes> {
        let slot = self.by_unit.get(&at.unit).filter(|slot| slot.at == at)?;
        slot.is_used.set(true);
        Some(slot.bytes.clone())
    }

    /// Whether it holds the page. That is no use of it.
    pub(super) fn holds(&self, at: PageRef) -> bool {
        self.by_unit.get(&at.unit).is_some_and(|slot| slot.at == at)
    }

    /// Bytes that it may hold.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes of all pages in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a page in and others out. A page above the bound is kept alone.
    pub(super) fn put(&mut self, at: PageRef, bytes: Bytes) {
        self.remove(at.unit);
        while !self.by_unit.is_empty() && self.bytes + bytes.len() > self.bytes_max {
            self.evict();
        }
        self.entries += 1;
        let entry = self.entries;
        self.bytes += bytes.len();
        self.small_bytes += bytes.len();
        self.small.push_back((at.unit, entry));
        let is_used = Cell::new(false);
        self.by_unit.insert(at.unit, Slot { at, bytes, entry, is_large: false, is_used });
    }

    /// Forgets what stood at a unit.
    pub(super) fn remove(&mut self, unit: u32) {
        let Some(slot) = self.by_unit.remove(&unit) else { return };
        self.bytes -= slot.bytes.len();
        if !slot.is_large {
            self.small_bytes -= slot.bytes.len();
        }
        if self.small.len() + self.large.len() > 2 * self.by_unit.len() + GONE_MAX {
            let pages = &self.by_unit;
            let is_there = |(unit, entry): &(u32, u64)| {
                pages.get(unit).is_some_and(|slot| slot.entry == *entry)
            };
            self.small.retain(is_there);
            self.large.retain(is_there);
        }
    }

    /// Looks at the page whose turn it is: it goes, or moves to the end of the large queue.
    fn evict(&mut self) {
        let is_small = self.small_bytes > self.bytes_max / SMALL_SHARE || self.large.is_empty();
        let queue = if is_small { &mut self.small } else { &mut self.large };
        let Some((unit, entry)) = queue.pop_front() else { return };
        let slot = self.by_unit.get_mut(&unit).filter(|slot| slot.entry == entry);
        let Some(slot) = slot else { return };
        if !slot.is_used.replace(false) {
            self.remove(unit);
            return;
        }
        if !slot.is_large {
            slot.is_large = true;
            self.small_bytes -= slot.bytes.len();
        }
        self.large.push_back((unit, entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(unit: u32) -> PageRef {
        PageRef { unit, units: 1, stored: 100, logical: 100, checksum: unit }
    }

    fn put(cache: &mut Cache, unit: u32) {
        cache.put(reference(unit), Bytes::from(vec![0; 100]));
    }

    #[test]
    fn it_stays_within_its_bound() {
        let mut cache = Cache::new(1_000);
        for unit in 4..1_000 {
            put(&mut cache, unit);
            assert!(cache.bytes() <= 1_000);
            if unit % 3 == 0 {
                assert!(cache.get(reference(unit)).is_some());
            }
            if unit % 7 == 0 {
                cache.remove(unit - 1);
            }
        }
        assert!(cache.small.len() + cache.large.len() < 2 * 10 + GONE_MAX + 2);
        let held: usize = cache.by_unit.values().map(|slot| slot.bytes.len()).sum();
        assert_eq!(held, cache.bytes());
        let small = cache.by_unit.values().filter(|slot| !slot.is_large);
        assert_eq!(small.map(|slot| slot.bytes.len()).sum::<usize>(), cache.small_bytes);
    }

    #[test]
    fn a_scan_does_not_drive_out_what_is_asked_for() {
        let mut cache = Cache::new(2_000);
        for unit in 4..12 {
            put(&mut cache, unit);
            cache.get(reference(unit));
        }
        for unit in 100..10_000 {
            put(&mut cache, unit);
            cache.get(reference(4 + unit % 8));
        }
        assert!((4..12).all(|unit| cache.holds(reference(unit))));
    }

    #[test]
    fn a_page_larger_than_the_cache_is_kept_alone() {
        let mut cache = Cache::new(50);
        put(&mut cache, 4);
        put(&mut cache, 5);
        assert!(cache.get(reference(4)).is_none());
        assert!(cache.get(reference(5)).is_some());
    }

    #[test]
    fn another_page_at_the_unit_is_not_taken_for_it() {
        let mut cache = Cache::new(1_000);
        put(&mut cache, 4);
        let other = PageRef { checksum: 77, ..reference(4) };
        assert!(cache.get(other).is_none());
        cache.put(other, Bytes::from_static(b"x"));
        assert!(cache.get(reference(4)).is_none());
        assert_eq!(cache.bytes(), 1);
    }
}
