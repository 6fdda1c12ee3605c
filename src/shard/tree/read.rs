//! Reading a tree: a view that never waits.
//!
//! Every call starts at the root and ends at what it was asked for or at a page that is missing.
//! Then it says which pages it wants and is called again, a walk behind the last key that it
//! visited: in a leaf that may hold no further one, so that it needs the next leaf, too. A cache
//! has to hold two pages of each level and must not drop the first page of a wish for the others
//! of it: the smallest one that does so only makes a reader slow.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::Kind;
use super::aggregate::{Aggregate, Root, measure, measure_and_hash};
use super::page::{Entry, Page};
use crate::base::limits::PAGES_AHEAD;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::record::Malformed;
use crate::shard::pages::{PageRef, Pages};

/// A page that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The page.
    pub page: PageRef,
    /// What is wrong with it.
    pub what: &'static str,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Damaged { page, what } = self;
        write!(f, "the page of {} units at unit {} is damaged: {what}", page.units, page.unit)
    }
}

/// Why a call did not get to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// These pages have to be in memory first, the first of them above all. What was visited
    /// before stays true.
    Wanted(Vec<PageRef>),
    /// The tree cannot be read here.
    Damaged(Damaged),
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// There is no further entry in the range.
    Ended,
    /// The visitor broke off.
    Broken,
}

/// Sees each entry of a walk.
pub type Visitor<'a> = dyn FnMut(Entry<'_>) -> ControlFlow<()> + 'a;

/// A tree as of one root. Holds nothing: it is made for a call and thrown away.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    kind: Kind,
    root: Option<Root>,
    pages: &'a dyn Pages,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?} at {:?})", self.kind, self.root)
    }
}

/// A leaf on a way through all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The branches that it is the first leaf of, then itself.
    pub pages: Vec<PageRef>,
    /// What the next one begins at.
    pub next: Option<Vec<u8>>,
}

/// Which entries a walk or a sum is about.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    from: Bound<&'a [u8]>,
    to: Bound<&'a [u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl<'a> Reader<'a> {
    /// Reads the tree `kind` at `root`; none is the empty tree.
    #[must_use]
    pub fn new(kind: Kind, root: Option<Root>, pages: &'a dyn Pages) -> Reader<'a> {
        Reader { kind, root, pages }
    }

    /// The value beside `key`, if the tree holds it.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Stop> {
        let Some(root) = self.root else { return Ok(None) };
        let (mut at, mut level) = (root.page, root.height);
        loop {
            let page = open(self.pages, self.kind, at, level)?;
            let read = |what: Malformed| damaged(at, what);
            if level == 0 {
                let Ok(place) = page.find(key).map_err(read)? else { return Ok(None) };
                return Ok(Some(page.entry(place).map_err(read)?.value_bytes()));
            }
            let child = page.child_of(key).and_then(|child| page.child(child));
            at = child.map_err(read)?.at;
            level -= 1;
        }
    }

    /// Visits the entries of `range` above `after`, in order.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        let Bounds { mut from, to } = Bounds::of(range);
        if let Some(after) = after.filter(|after| *after >= &range.start[..]) {
            from = Bound::Excluded(after);
        }
        self.walk_within(range, Bounds { from, to }, Way::Up, visit)
    }

    /// Visits the entries of `range` below `before`, the last one first.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn walk_back(
        &self,
        range: &KeyRange,
        before: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        let Bounds { from, mut to } = Bounds::of(range);
        if let Some(before) = before.filter(|before| !range.ends_before(before)) {
            to = Bound::Excluded(before);
        }
        self.walk_within(range, Bounds { from, to }, Way::Down, visit)
    }

    /// Sums up `range` but for its hash, at the cost of one descent to each of its ends.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn count(&self, range: &KeyRange) -> Result<Aggregate, Stop> {
        self.sum(range, measure)
    }

    /// Sums up `range`, its hash included, which is dearer by the leaves at its ends.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn digest(&self, range: &KeyRange) -> Result<Aggregate, Stop> {
        self.sum(range, measure_and_hash)
    }

    /// The leaf that holds `from` if the tree does, with the branches that it is the first leaf
    /// of; and what the next leaf begins at, if there is one.
    ///
    /// # Errors
    /// [`Stop`] when a branch is missing or damaged.
    pub fn leaf_at(&self, from: &[u8]) -> Result<Option<Leaf>, Stop> {
        let Some(root) = self.root else { return Ok(None) };
        let mut leaf = Leaf { pages: Vec::new(), next: None };
        let (mut at, mut level) = (root.page, root.height);
        while level > 0 {
            let page = open(self.pages, self.kind, at, level)?;
            let read = |what: Malformed| damaged(at, what);
            let child = page.child_of(from).map_err(read)?;
            if child == 0 {
                leaf.pages.push(at);
            } else {
                // Only what is above all of these branches is entered here for the first time.
                leaf.pages.clear();
            }
            if child + 1 < page.len() {
                leaf.next = Some(page.entry(child + 1).map_err(read)?.key().to_vec());
            }
            at = page.child(child).map_err(read)?.at;
            level -= 1;
        }
        leaf.pages.push(at);
        Ok(Some(leaf))
    }

    fn walk_within(
        &self,
        range: &KeyRange,
        bounds: Bounds<'_>,
        way: Way,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        let Some(root) = self.root.filter(|_| !range.is_empty()) else { return Ok(Walk::Ended) };
        match self.walk_page(root.page, root.height, bounds, way, visit)? {
            ControlFlow::Continue(()) => Ok(Walk::Ended),
            ControlFlow::Break(()) => Ok(Walk::Broken),
        }
    }

    fn walk_page(
        &self,
        at: PageRef,
        level: u8,
        bounds: Bounds<'_>,
        way: Way,
        visit: &mut Visitor<'_>,
    ) -> Result<ControlFlow<()>, Stop> {
        let page = open(self.pages, self.kind, at, level)?;
        let read = |what: Malformed| damaged(at, what);
        let (low, high) = bounds.within(&page, level).map_err(read)?;
        let place = |step: usize| match way {
            Way::Up => low + step,
            Way::Down => high - 1 - step,
        };
        let steps = high.saturating_sub(low);
        for step in 0..steps {
            if level == 0 {
                if visit(page.entry(place(step)).map_err(read)?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            let child = page.child(place(step)).map_err(read)?.at;
            match self.walk_page(child, level - 1, bounds, way, visit) {
                Ok(ControlFlow::Continue(())) => {}
                // A walk that came through a whole leaf reads ahead. One that begins does not: it
                // may end here, or go on where it stopped with the next leaf in memory already.
                Err(Stop::Wanted(mut wanted)) if level == 1 && step > 0 => {
                    let ahead = (step + 1..steps).take(PAGES_AHEAD - 1);
                    for step in ahead {
                        let child = page.child(place(step)).map_err(read)?.at;
                        if !self.pages.holds(child) {
                            wanted.push(child);
                        }
                    }
                    return Err(Stop::Wanted(wanted));
                }
                other => return other,
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn sum(&self, range: &KeyRange, measure: Measure) -> Result<Aggregate, Stop> {
        let Some(root) = self.root.filter(|_| !range.is_empty()) else {
            return Ok(Aggregate::EMPTY);
        };
        match Bounds::of(range) {
            Bounds { from: Bound::Unbounded, to: Bound::Unbounded } => Ok(root.total),
            bounds => self.sum_page(root.page, root.height, bounds, measure),
        }
    }

    fn sum_page(
        &self,
        at: PageRef,
        level: u8,
        bounds: Bounds<'_>,
        measure: Measure,
    ) -> Result<Aggregate, Stop> {
        let page = open(self.pages, self.kind, at, level)?;
        let read = |what: Malformed| damaged(at, what);
        let (low, high) = bounds.within(&page, level).map_err(read)?;
        let mut sum = Aggregate::EMPTY;
        // Both ends are asked for at once.
        let mut wanted = Vec::new();
        for place in low..high {
            let entry = page.entry(place).map_err(read)?;
            if level == 0 {
                let (key, all) = (entry.key(), entry.key_and_value());
                sum.add(&measure(self.kind, 0, all, key.len()).map_err(read)?);
                continue;
            }
            let child = page.child(place).map_err(read)?;
            // What lies between the ends is whole.
            let from = if place == low { bounds.from } else { Bound::Unbounded };
            let to = if place == high - 1 { bounds.to } else { Bound::Unbounded };
            if (from, to) == (Bound::Unbounded, Bound::Unbounded) {
                sum.add(&child.total);
                continue;
            }
            match self.sum_page(child.at, level - 1, Bounds { from, to }, measure) {
                Ok(part) => sum.add(&part),
                Err(Stop::Wanted(pages)) => wanted.extend(pages),
                Err(stop) => return Err(stop),
            }
        }
        if wanted.is_empty() { Ok(sum) } else { Err(Stop::Wanted(wanted)) }
    }
}

type Measure = fn(Kind, u8, &[u8], usize) -> Result<Aggregate, Malformed>;

impl<'a> Bounds<'a> {
    fn of(range: &'a KeyRange) -> Bounds<'a> {
        let from = match &range.start[..] {
            [] if range.end != RangeEnd::Single => Bound::Unbounded,
            start => Bound::Included(start),
        };
        let to = match &range.end {
            RangeEnd::Single => Bound::Included(&range.start[..]),
            RangeEnd::Open => Bound::Unbounded,
            RangeEnd::Before(end) => Bound::Excluded(&end[..]),
        };
        Bounds { from, to }
    }

    /// The entries of a page that these bounds are about: of a branch, the children that may
    /// hold such. From the first to before the second; none if they cross.
    fn within(&self, page: &Page, level: u8) -> Result<(usize, usize), Malformed> {
        let is_leaf = level == 0;
        let low = match self.from {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) if !is_leaf => page.child_of(key)?,
            Bound::Included(key) => page.find(key)?.unwrap_or_else(|at| at),
            Bound::Excluded(key) => page.find(key)?.map_or_else(|at| at, |at| at + 1),
        };
        let high = match self.to {
            Bound::Unbounded => page.len(),
            Bound::Included(key) => page.find(key)?.map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => page.find(key)?.unwrap_or_else(|at| at),
        };
        // What is below the first separator would be in the first child.
        Ok((low, if is_leaf { high } else { high.max(1) }))
    }
}

pub(super) fn damaged(page: PageRef, what: Malformed) -> Stop {
    Stop::Damaged(Damaged { page, what: what.0 })
}

/// The page at `at`, if it is in memory and what it has to be.
pub(super) fn open(pages: &dyn Pages, kind: Kind, at: PageRef, level: u8) -> Result<Page, Stop> {
    let Some(bytes) = pages.page(at) else { return Err(Stop::Wanted(vec![at])) };
    if bytes.len() != at.logical as usize {
        return Err(damaged(at, Malformed("a page of another length than its branch says")));
    }
    Page::open(bytes, kind, level).map_err(|what| damaged(at, what))
}
