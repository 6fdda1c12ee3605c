//! A merge: an old root and sorted changes into a new root, in slices.
//!
//! The old tree is gone through in key order. What no change touches is passed by reference to
//! the level that names it; what is touched is taken apart, freed, and put into the pages of its
//! level anew. A page passed by reference closes the levels below it, and where they would leave
//! a page too empty it is taken apart, too: a leaf that overflows is so spread over several.
//!
//! A merge holds the old branches above its place, one old leaf, and what waits to be written: a
//! few pages of each level.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use super::Kind;
use super::aggregate::{Child, Root, measure};
use super::level::Level;
use super::page::{ENTRY_OVERHEAD_BYTES, Item, Page, build};
use super::read::{Damaged, Stop, damaged, open};
use crate::base::Revision;
use crate::base::limits::{MERGE_AHEAD_CHANGES, PAGES_AHEAD, TREE_HEIGHT_MAX};
use crate::base::record::Malformed;
use crate::shard::pages::{PageRef, PageSink, Pages};

/// What it costs beside its bytes to make a delta of what was replaced.
pub const REPLACED_COST_BYTES: usize = 512;

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None` takes it out.
    pub value: Option<Bytes>,
}

/// Sees each change in order and what the old tree held beside its key, and says what is put there.
pub type Take<'a> = dyn FnMut(&Change, Option<Bytes>) -> Option<Bytes> + 'a;

/// How a step of a merge ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The budget is used up.
    Paused,
    /// These pages have to be in memory first, the first of them above all.
    Wanted(Vec<PageRef>),
    /// The new tree; none if it is empty.
    Done(Option<Root>),
}

/// A merge under way.
pub struct Merge<I> {
    kind: Kind,
    drop_below: Revision,
    changes: Changes<I>,
    /// The old branches above the place that is reached, the root's first.
    path: Vec<Branch>,
    leaf: Option<Leaf>,
    /// What is built, leaves first.
    levels: Vec<Level>,
}

/// An old branch that is gone through.
struct Branch {
    page: Page,
    at: PageRef,
    level: u8,
    next: usize,
    /// What all its keys are below.
    upper: Option<Vec<u8>>,
}

/// An old leaf that is gone through.
struct Leaf {
    page: Page,
    at: PageRef,
    next: usize,
    upper: Option<Vec<u8>>,
}

/// What a piece of work came to.
enum Unit {
    /// About so many bytes were looked at, moved or written.
    Cost(usize),
    Done(Option<Root>),
}

/// What becomes of an old page.
enum Fate {
    /// It goes, unread.
    Drop,
    /// It stays.
    Keep,
    /// Its entries are put in anew; perhaps only because the page before it would be too empty.
    Open { is_pull: bool },
    /// What is ahead of it at this level is to be written first.
    Close(usize),
}

impl<I> std::fmt::Debug for Merge<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Merge({:?}, dropping below {})", self.kind, self.drop_below)
    }
}

impl<I: Iterator<Item = Change>> Merge<I> {
    /// Begins to merge `changes`, whose keys ascend, into the tree at `root`.
    ///
    /// What a compaction at `drop_below` no longer needs goes on the way: tombstones of `current`
    /// and entries of `undo` below that revision. Changes of `undo` lie above all that it holds.
    #[must_use]
    pub fn new(kind: Kind, root: Option<Root>, drop_below: Revision, changes: I) -> Merge<I> {
        let path = root.into_iter().map(|root| above(kind, root)).collect();
        Merge {
            kind,
            drop_below,
            changes: Changes { rest: changes, ahead: VecDeque::new(), last: None },
            path,
            leaf: None,
            levels: vec![Level::new(kind, 0)],
        }
    }

    /// Goes on until about `budget` bytes were moved or written; at least a little.
    ///
    /// # Errors
    /// [`Damaged`] ends the merge: the old tree cannot be read.
    pub fn step(
        &mut self,
        file: &mut dyn PageSink,
        take: &mut Take<'_>,
        budget: usize,
    ) -> Result<Step, Damaged> {
        let mut left = budget;
        loop {
            match self.unit(file, take, left) {
                Ok(Unit::Cost(cost)) if cost >= left => return Ok(Step::Paused),
                Ok(Unit::Cost(cost)) => left -= cost,
                Ok(Unit::Done(root)) => return Ok(Step::Done(root)),
                Err(Stop::Wanted(pages)) => return Ok(Step::Wanted(pages)),
                Err(Stop::Damaged(damaged)) => return Err(damaged),
            }
        }
    }

    fn unit(
        &mut self,
        file: &mut dyn PageSink,
        take: &mut Take<'_>,
        left: usize,
    ) -> Result<Unit, Stop> {
        if let Some(level) = self.levels.iter().position(Level::is_due) {
            return Ok(self.write(level, file));
        }
        if let Some(leaf) = self.leaf.take() {
            return self.merge_leaf(leaf, take, left);
        }
        match self.path.last() {
            Some(branch) if branch.next == branch.page.len() => {
                self.path.pop();
                Ok(Unit::Cost(0))
            }
            Some(_) => self.next_child(file),
            None if self.changes.peek().is_some() => Ok(self.append(take, left)),
            None => Ok(self.finish()),
        }
    }

    // --- what is old ----------------------------------------------------------------------

    fn next_child(&mut self, file: &mut dyn PageSink) -> Result<Unit, Stop> {
        let branch = self.path.last().expect("a branch is gone through");
        let (child, level) = (branch.child(branch.next)?, branch.level - 1);
        let lower = branch.lower_of(branch.next)?;
        let upper = branch.upper_of(branch.next)?;
        match self.fate(&child, level, upper.as_deref()) {
            Fate::Drop => file.free(child.at),
            Fate::Keep => {
                self.levels[0].interrupt();
                self.put_child(usize::from(level) + 1, lower, &child);
            }
            Fate::Close(level) => {
                self.levels[level].close();
                return Ok(Unit::Cost(0));
            }
            Fate::Open { is_pull } => {
                let page = match open(&*file, self.kind, child.at, level) {
                    Err(Stop::Wanted(_)) => return Err(Stop::Wanted(self.wanted(&*file)?)),
                    other => other?,
                };
                file.free(child.at);
                if is_pull {
                    self.levels[usize::from(level)].pull();
                }
                self.path.last_mut().expect("a branch is gone through").next += 1;
                self.take_apart(child.at, level, page, lower, upper);
                return Ok(Unit::Cost(Child::ENCODED_BYTES));
            }
        }
        self.path.last_mut().expect("a branch is gone through").next += 1;
        Ok(Unit::Cost(Child::ENCODED_BYTES))
    }

    /// What becomes of a child of the branch that is gone through.
    fn fate(&mut self, child: &Child, level: u8, upper: Option<&[u8]>) -> Fate {
        if self.is_dropped(child) {
            return if level == 0 { Fate::Drop } else { Fate::Open { is_pull: false } };
        }
        if self.is_touched(child, level, upper) || child.total.oldest < self.drop_below {
            return Fate::Open { is_pull: false };
        }
        let below = self.levels.iter().take(usize::from(level) + 1);
        match below.enumerate().find(|(_, level)| !level.is_empty()) {
            None => Fate::Keep,
            Some((at, waiting)) => {
                let is_next = at == usize::from(level);
                let is_large = is_next && waiting.may_be_large(child);
                match waiting.wants_more() && !is_large {
                    true => Fate::Open { is_pull: is_next },
                    false => Fate::Close(at),
                }
            }
        }
    }

    /// Whether nothing below a child is needed any more.
    fn is_dropped(&self, child: &Child) -> bool {
        self.kind == Kind::Undo && child.total.newest < self.drop_below
    }

    fn is_touched(&mut self, child: &Child, level: u8, upper: Option<&[u8]>) -> bool {
        let Some(change) = self.changes.peek() else { return false };
        if upper.is_some_and(|upper| &change.key[..] >= upper) {
            return false;
        }
        // A full leaf at the right edge stays full.
        let appends = self.kind == Kind::Undo && level == 0 && upper.is_none();
        !(appends && self.levels[0].is_full(child, change.cost()))
    }

    /// The missing pages that the merge comes to next: of the branch that is gone through, the
    /// child that it is at and those that changes in sight touch.
    fn wanted(&mut self, pages: &dyn Pages) -> Result<Vec<PageRef>, Stop> {
        self.changes.look_ahead();
        let branch = self.path.last().expect("a branch is gone through");
        let mut wanted = vec![branch.child(branch.next)?.at];
        let mut changes = self.changes.ahead.iter().peekable();
        for place in branch.next..branch.page.len() {
            let child = branch.child(place)?;
            let upper = branch.upper_of(place)?;
            let mut is_touched = child.total.oldest < self.drop_below;
            while changes.next_if(|change| upper.as_ref().is_none_or(|u| change.key < u)).is_some()
            {
                is_touched = true;
            }
            let is_leaf = branch.level == 1;
            let is_read = is_touched && !(is_leaf && self.is_dropped(&child));
            if place > branch.next && is_read && !pages.holds(child.at) {
                wanted.push(child.at);
            }
            if wanted.len() == PAGES_AHEAD {
                break;
            }
        }
        Ok(wanted)
    }

    fn take_apart(
        &mut self,
        at: PageRef,
        level: u8,
        page: Page,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
    ) {
        if level > 0 {
            self.path.push(Branch { page, at, level, next: 0, upper });
        } else {
            self.levels[0].begin_at(lower);
            self.leaf = Some(Leaf { page, at, next: 0, upper });
        }
    }

    /// Merges an old leaf with the changes of its stretch.
    fn merge_leaf(
        &mut self,
        mut leaf: Leaf,
        take: &mut Take<'_>,
        left: usize,
    ) -> Result<Unit, Stop> {
        let mut cost = 0;
        while cost < left && !self.levels[0].is_due() {
            let wrong = |what| damaged(leaf.at, what);
            let entry = match leaf.next < leaf.page.len() {
                true => Some(leaf.page.entry(leaf.next).map_err(wrong)?),
                false => None,
            };
            let change = self.changes.peek();
            let change = change.filter(|one| leaf.upper.as_ref().is_none_or(|u| one.key < u));
            let order = match (&entry, change) {
                (None, None) => return Ok(Unit::Cost(cost)),
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(entry), Some(change)) => entry.key().cmp(&change.key),
            };
            match entry {
                Some(entry) if order == Ordering::Less => {
                    cost += self.put_old(entry.item()).map_err(wrong)?;
                }
                Some(entry) if order == Ordering::Equal => {
                    cost += self.put_next(take, Some(entry.value_bytes()));
                }
                _ => cost += self.put_next(take, None),
            }
            leaf.next += usize::from(order != Ordering::Greater);
        }
        self.leaf = Some(leaf);
        Ok(Unit::Cost(cost))
    }

    fn put_old(&mut self, item: Item) -> Result<usize, Malformed> {
        let cost = item.cost();
        let measured = measure(self.kind, 0, &item.entry, item.key_len)?;
        if self.levels[0].last_key().is_some_and(|last| last >= item.key()) {
            return Err(Malformed("keys are out of order"));
        }
        if measured.oldest >= self.drop_below {
            self.levels[0].push(item);
        }
        Ok(cost)
    }

    // --- what is new ----------------------------------------------------------------------

    /// Puts the changes behind the end of the old tree.
    fn append(&mut self, take: &mut Take<'_>, left: usize) -> Unit {
        let mut cost = 0;
        while cost < left && !self.levels[0].is_due() && self.changes.peek().is_some() {
            cost += self.put_next(take, None);
        }
        Unit::Cost(cost)
    }

    fn put_next(&mut self, take: &mut Take<'_>, old: Option<Bytes>) -> usize {
        let change = self.changes.next().expect("a change was looked at");
        let cost = change.cost() + old.as_ref().map_or(0, |_| REPLACED_COST_BYTES);
        let Some(value) = take(&change, old) else { return cost };
        let item = Item::new(&change.key, &value);
        let measured = measure(self.kind, 0, &item.entry, item.key_len);
        let measured = measured.unwrap_or_else(|what| panic!("a change holds {}", what.0));
        if measured.oldest >= self.drop_below {
            self.levels[0].push(item);
        }
        cost
    }

    fn put_child(&mut self, level: usize, separator: Vec<u8>, child: &Child) {
        let is_first = self.levels.iter().skip(1).all(|level| level.pushed() == 0);
        while self.levels.len() <= level {
            let next = u8::try_from(self.levels.len()).unwrap_or(u8::MAX);
            assert!(next <= TREE_HEIGHT_MAX + 1, "a tree higher than {TREE_HEIGHT_MAX}");
            self.levels.push(Level::new(self.kind, next));
        }
        // Whatever comes to stand before all else goes into the first child.
        let separator = if is_first { Vec::new() } else { separator };
        self.levels[level].push(Item::new(&separator, &child.encode()));
    }

    fn write(&mut self, level: usize, file: &mut dyn PageSink) -> Unit {
        let packs = self.path.is_empty() && self.changes.peek().is_none();
        let (separator, child) = self.levels[level].write(file, packs);
        self.put_child(level + 1, separator, &child);
        Unit::Cost(child.at.logical as usize)
    }

    /// Writes what is left, the lowest level first, up to where one child is all there is.
    fn finish(&mut self) -> Unit {
        let top = self.levels.iter().rposition(|level| level.pushed() > 0);
        let waiting = self.levels.iter().position(|level| !level.is_empty());
        let (Some(top), Some(waiting)) = (top, waiting) else { return Unit::Done(None) };
        let only = self.levels[top].only().filter(|_| top > 0 && waiting == top);
        match only.filter(|_| self.levels[top].pushed() == 1) {
            Some(item) => {
                let child = Child::decode(&item.entry[item.key_len..]).expect("own encoding");
                let height = u8::try_from(top - 1).expect("a tree's height is bounded");
                Unit::Done(Some(Root { page: child.at, height, total: child.total }))
            }
            None => {
                self.levels[waiting].close();
                Unit::Cost(0)
            }
        }
    }
}

impl Branch {
    fn child(&self, at: usize) -> Result<Child, Stop> {
        self.page.child(at).map_err(|what| damaged(self.at, what))
    }

    /// What no key of a child is below.
    fn lower_of(&self, at: usize) -> Result<Vec<u8>, Stop> {
        let entry = self.page.entry(at).map_err(|what| damaged(self.at, what))?;
        Ok(entry.key().to_vec())
    }

    /// What all keys of a child are below.
    fn upper_of(&self, at: usize) -> Result<Option<Vec<u8>>, Stop> {
        if at + 1 == self.page.len() {
            return Ok(self.upper.clone());
        }
        self.lower_of(at + 1).map(Some)
    }
}

/// A branch above a root, so that the root is a child like others.
fn above(kind: Kind, root: Root) -> Branch {
    let child = Child { at: root.page, total: root.total };
    let level = root.height + 1;
    let bytes = build(kind, level, [Item::new(&[], &child.encode())].iter());
    let page = Page::open(bytes, kind, level).expect("own layout");
    Branch { page, at: root.page, level, next: 0, upper: None }
}

impl Change {
    fn cost(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + ENTRY_OVERHEAD_BYTES
    }
}

/// The changes, with some of them in sight.
struct Changes<I> {
    rest: I,
    ahead: VecDeque<Change>,
    last: Option<Bytes>,
}

impl<I: Iterator<Item = Change>> Changes<I> {
    fn peek(&mut self) -> Option<&Change> {
        if self.ahead.is_empty() {
            self.fetch();
        }
        self.ahead.front()
    }

    fn next(&mut self) -> Option<Change> {
        self.peek()?;
        self.ahead.pop_front()
    }

    fn look_ahead(&mut self) {
        while self.ahead.len() < MERGE_AHEAD_CHANGES && self.fetch() {}
    }

    fn fetch(&mut self) -> bool {
        let Some(change) = self.rest.next() else { return false };
        let ascends = self.last.as_ref().is_none_or(|last| *last < change.key);
        assert!(ascends, "changes of a merge are out of order at {:?}", change.key);
        self.last = Some(change.key.clone());
        self.ahead.push_back(change);
        true
    }
}
