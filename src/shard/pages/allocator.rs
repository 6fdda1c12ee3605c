//! Which units of the file are free. First fit from low addresses, so that the end of the file
//! falls free and can be cut.
//!
//! An extent lives in this order: taken by the checkpoint under way (`fresh`), in use, given up
//! by a later checkpoint (`given_up`), released, free. It is released when the superblock of
//! that later checkpoint is durable, since until then a crash brings back a root that names it.
//! A checkpoint may release very many; they become free in slices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::extent::{Extent, SUPERBLOCK_UNITS};

/// Runs up to this many units have a class for each length.
const EXACT_UNITS_MAX: u32 = 64;
/// A class for each power of two above.
const CLASSES: usize = EXACT_UNITS_MAX as usize + 26;

/// Two references name the same unit, or one names what lies outside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Two pages in one place.
    Shared {
        /// One of them.
        first: Extent,
        /// The other.
        second: Extent,
    },
    /// A page in front of the first unit for pages, or behind the file's end.
    Outside {
        /// The page.
        extent: Extent,
    },
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlap::Shared { first, second } => {
                write!(f, "two pages lie in one place: {first} and {second}")
            }
            Overlap::Outside { extent } => write!(f, "a page lies outside the file: {extent}"),
        }
    }
}

impl std::error::Error for Overlap {}

/// The free runs below the file's end, by place and by length. No two of them touch.
#[derive(Clone, Debug)]
struct Runs {
    by_unit: BTreeMap<u32, u32>,
    by_class: Vec<BTreeSet<u32>>,
}

/// The class of runs of this length.
fn class_of(units: u32) -> usize {
    if units <= EXACT_UNITS_MAX {
        return units as usize - 1;
    }
    (EXACT_UNITS_MAX + (units - 1).ilog2() - EXACT_UNITS_MAX.ilog2()) as usize
}

impl Runs {
    fn new() -> Runs {
        Runs { by_unit: BTreeMap::new(), by_class: vec![BTreeSet::new(); CLASSES] }
    }

    fn put(&mut self, run: Extent) {
        self.by_unit.insert(run.unit, run.units);
        self.by_class[class_of(run.units)].insert(run.unit);
    }

    fn take(&mut self, unit: u32) -> Option<Extent> {
        let units = self.by_unit.remove(&unit)?;
        self.by_class[class_of(units)].remove(&unit);
        Some(Extent { unit, units })
    }

    /// The lowest run of at least `units`. Runs of one class differ in length only above the
    /// exact ones; in all classes above the first that can hold it, every run does.
    fn first_fit(&self, units: u32) -> Option<u32> {
        let class = class_of(units);
        let fits = |unit: &&u32| self.by_unit.get(*unit).is_some_and(|found| *found >= units);
        let near = self.by_class[class].iter().find(fits);
        let above = self.by_class[class + 1..].iter().filter_map(BTreeSet::first);
        near.into_iter().chain(above).min().copied()
    }

    /// The last run that begins before `unit`.
    fn before(&self, unit: u32) -> Option<Extent> {
        let (start, units) = self.by_unit.range(..unit).next_back()?;
        Some(Extent { unit: *start, units: *units })
    }

    /// Adds a run and joins it with its neighbours.
    fn join(&mut self, run: Extent) {
        let mut joined = run;
        if let Some(before) = self.before(run.end()) {
            assert!(before.end() <= run.unit, "{run} was freed, of which {before} is free");
            if before.end() == run.unit {
                self.take(before.unit);
                joined = Extent { unit: before.unit, units: before.units + run.units };
            }
        }
        if let Some(after) = self.take(run.end()) {
            joined.units += after.units;
        }
        self.put(joined);
    }
}

/// The units of one page file.
#[derive(Clone, Debug)]
pub struct Allocator {
    runs: Runs,
    /// Units of the file: the end of the highest extent that is not free.
    end: u32,
    used: u64,
    /// Taken since the last commit.
    fresh: Vec<Extent>,
    /// Given up since the last commit.
    given_up: BTreeSet<Extent>,
    /// To become free.
    released: BTreeSet<Extent>,
}

impl Default for Allocator {
    fn default() -> Allocator {
        Allocator::new()
    }
}

impl Allocator {
    /// A file without pages.
    #[must_use]
    pub fn new() -> Allocator {
        Allocator {
            runs: Runs::new(),
            end: SUPERBLOCK_UNITS,
            used: 0,
            fresh: Vec::new(),
            given_up: BTreeSet::new(),
            released: BTreeSet::new(),
        }
    }

    /// The units of a file of `file_units`, in which these extents are in use and no others.
    ///
    /// # Errors
    /// Two of them overlap, or one lies outside the file.
    pub fn rebuild(
        extents: impl IntoIterator<Item = Extent>,
        file_units: u32,
    ) -> Result<Allocator, Overlap> {
        let mut extents: Vec<Extent> = extents.into_iter().collect();
        extents.sort_unstable();
        let mut allocator = Allocator::new();
        let mut last: Option<Extent> = None;
        for extent in extents {
            let end = extent.unit.checked_add(extent.units);
            let is_inside = end.is_some_and(|end| end <= file_units);
            if !is_inside || extent.units == 0 || extent.unit < SUPERBLOCK_UNITS {
                return Err(Overlap::Outside { extent });
            }
            if let Some(last) = last.filter(|last| last.end() > extent.unit) {
                return Err(Overlap::Shared { first: last, second: extent });
            }
            let gap = Extent { unit: allocator.end, units: extent.unit - allocator.end };
            if gap.units > 0 {
                allocator.runs.put(gap);
            }
            allocator.end = extent.end();
            allocator.used += u64::from(extent.units);
            last = Some(extent);
        }
        Ok(allocator)
    }

    /// Takes the lowest run of so many units for the checkpoint under way. `None`: the file
    /// would outgrow what a reference can name.
    pub fn take(&mut self, units: u32) -> Option<Extent> {
        assert!(units > 0, "an extent of no units was asked for");
        let extent = match self.runs.first_fit(units) {
            Some(unit) => {
                let run = self.runs.take(unit).expect("a run that fits is there");
                if run.units > units {
                    self.runs.put(Extent { unit: unit + units, units: run.units - units });
                }
                Extent { unit, units }
            }
            None => {
                let extent = Extent { unit: self.end, units };
                self.end = self.end.checked_add(units)?;
                extent
            }
        };
        self.used += u64::from(units);
        self.fresh.push(extent);
        Some(extent)
    }

    /// Gives an extent up: the roots of the checkpoint under way do not name it.
    pub fn give_up(&mut self, extent: Extent) {
        assert!(
            extent.unit >= SUPERBLOCK_UNITS && extent.end() <= self.end,
            "{extent} was given up, which lies outside the file"
        );
        assert!(self.given_up.insert(extent), "{extent} was given up twice");
    }

    /// The superblock of the checkpoint under way is durable: what it gave up is released.
    pub fn commit(&mut self) {
        assert!(self.released.is_empty(), "a checkpoint ended before the last one was cleared");
        self.fresh.clear();
        self.released = std::mem::take(&mut self.given_up);
    }

    /// The checkpoint under way was abandoned: what it took is released, what it gave up stays
    /// in use.
    pub fn roll_back(&mut self) {
        assert!(self.released.is_empty(), "a checkpoint ended before the last one was cleared");
        self.given_up.clear();
        self.released = self.fresh.drain(..).collect();
    }

    /// Makes up to so many of the released extents free and answers them; none: all are.
    pub fn clear(&mut self, max: usize) -> Vec<Extent> {
        // From the end, so that the file's tail falls free first.
        let cleared: Vec<Extent> =
            std::iter::from_fn(|| self.released.pop_last()).take(max).collect();
        for extent in &cleared {
            self.used -= u64::from(extent.units);
            self.runs.join(*extent);
        }
        if let Some(tail) = self.runs.before(self.end).filter(|run| run.end() == self.end) {
            self.runs.take(tail.unit);
            self.end = tail.unit;
        }
        cleared
    }

    /// Units in use, those given up and not yet free included; without the superblocks.
    #[must_use]
    pub fn used_units(&self) -> u64 {
        self.used
    }

    /// Units that the file needs: the end of its last extent.
    #[must_use]
    pub fn file_units(&self) -> u32 {
        self.end
    }

    /// What `file_units` will be when what is given up so far is free.
    #[must_use]
    pub fn file_units_committed(&self) -> u32 {
        let mut end = self.end;
        let mut given_up = self.given_up.iter().rev().peekable();
        loop {
            let free = self.runs.before(end).filter(|run| run.end() == end);
            end = match given_up.next_if(|last| last.end() == end).copied().or(free) {
                Some(run) => run.unit,
                None => return end,
            };
        }
    }

    /// Free runs below the file's end of at least so many units, from low addresses.
    pub fn free_runs(&self, units_min: u32) -> impl Iterator<Item = Extent> {
        let runs = self.runs.by_unit.iter();
        let extents = runs.map(|(unit, units)| Extent { unit: *unit, units: *units });
        extents.filter(move |run| run.units >= units_min)
    }
}
