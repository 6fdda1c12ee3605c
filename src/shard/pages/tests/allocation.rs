//! The allocator beside one that looks at every unit.

use super::*;

/// One state per unit.
#[derive(Clone, Debug, Default)]
struct Naive {
    taken: Vec<bool>,
}

impl Naive {
    fn first_fit(&self, units: usize) -> usize {
        let mut free = 0;
        for (at, is_taken) in self.taken.iter().enumerate().skip(SUPERBLOCK_UNITS as usize) {
            free = if *is_taken { 0 } else { free + 1 };
            if free == units {
                return at + 1 - units;
            }
        }
        self.end() as usize
    }

    fn set(&mut self, extent: Extent, taken: bool) {
        let end = extent.end() as usize;
        self.taken.resize(self.taken.len().max(end), false);
        let units = &mut self.taken[extent.unit as usize..end];
        assert!(units.iter().all(|unit| *unit != taken), "{extent} was {taken} already");
        units.fill(taken);
        while self.taken.last() == Some(&false) {
            self.taken.pop();
        }
    }

    fn end(&self) -> u32 {
        (self.taken.len() as u32).max(SUPERBLOCK_UNITS)
    }
}

fn units(prng: &mut Prng) -> u32 {
    1 + match prng.below(10) {
        0 => prng.below(300) as u32,
        1..=4 => 31,
        _ => prng.below(12) as u32,
    }
}

fn one_life(seed: u64) {
    let mut prng = Prng::new(seed);
    let (mut allocator, mut naive) = (Allocator::new(), Naive::default());
    let mut live: Vec<Extent> = Vec::new();
    for _ in 0..12 {
        let (before, mut given_up) = (live.clone(), Vec::new());
        for _ in 0..prng.below(40) {
            if prng.percent(55) || live.is_empty() {
                let units = units(&mut prng);
                let extent = allocator.take(units).expect("a small file");
                assert_eq!(extent.unit as usize, naive.first_fit(units as usize), "first fit");
                naive.set(extent, true);
                live.push(extent);
            } else {
                let extent = live.swap_remove(prng.below(live.len() as u64) as usize);
                allocator.give_up(extent);
                given_up.push(extent);
            }
        }
        let mut end = None;
        let freed = if prng.percent(80) {
            end = Some(allocator.file_units_committed());
            allocator.commit();
            given_up
        } else {
            let taken = live.iter().chain(&given_up).filter(|extent| !before.contains(extent));
            let taken = taken.copied().collect();
            allocator.roll_back();
            live = before;
            taken
        };
        freed.iter().for_each(|extent| naive.set(*extent, false));
        while !allocator.clear(3).is_empty() {}
        assert_eq!(allocator.file_units(), naive.end());
        assert_eq!(end.unwrap_or(naive.end()), naive.end(), "as the superblock says");
        let used: u64 = live.iter().map(|extent| u64::from(extent.units)).sum();
        assert_eq!(allocator.used_units(), used);
        if prng.percent(20) {
            let rebuilt = Allocator::rebuild(live.iter().copied(), naive.end());
            allocator = rebuilt.unwrap_or_else(|overlap| panic!("{overlap}"));
        }
        let free: u64 = allocator.free_runs(1).map(|run| u64::from(run.units)).sum();
        assert_eq!(free + used, u64::from(allocator.file_units() - SUPERBLOCK_UNITS));
    }
}

#[test]
fn it_agrees_with_one_that_looks_at_every_unit() {
    (0..1_500).for_each(one_life);
}

#[test]
fn what_was_given_up_is_not_taken_before_the_commit() {
    let mut allocator = Allocator::new();
    let first = allocator.take(8).expect("an empty file");
    let behind = allocator.take(1).expect("an empty file");
    allocator.commit();
    allocator.give_up(first);
    assert_eq!(allocator.take(8).map(|extent| extent.unit), Some(behind.end()));
    allocator.commit();
    assert_eq!(allocator.clear(10), [first]);
    assert_eq!(allocator.take(8), Some(first));
}

#[test]
fn overlapping_pages_are_refused() {
    let extent = |unit, units| Extent { unit, units };
    let shared = Allocator::rebuild([extent(10, 4), extent(4, 7)], 100);
    let (first, second) = (extent(4, 7), extent(10, 4));
    assert_eq!(shared.err(), Some(Overlap::Shared { first, second }));
    for outside in [extent(3, 2), extent(98, 3), extent(u32::MAX, 2), extent(9, 0)] {
        let refused = Allocator::rebuild([extent(4, 5), outside], 100).err();
        assert_eq!(refused, Some(Overlap::Outside { extent: outside }));
    }
}

#[test]
fn millions_of_units_are_no_matter() {
    let mut allocator = Allocator::new();
    let extents: Vec<Extent> = (0..200_000).filter_map(|at| allocator.take(4 + at % 9)).collect();
    allocator.commit();
    extents.iter().step_by(2).for_each(|extent| allocator.give_up(*extent));
    allocator.commit();
    while !allocator.clear(256).is_empty() {}
    assert!(allocator.file_units() > 1_500_000);
    let end = allocator.file_units();
    let again = (0..90_000).filter_map(|at| allocator.take(4 + at % 5)).count();
    assert_eq!((again, allocator.file_units()), (90_000, end), "the gaps hold them");
}
