//! A stretch of history for watchers that catch up.
//!
//! What the layers hold lies there version by version. What the trees hold is found from its end:
//! `undo` names each change and what it replaced, and what a change made is what the next change of
//! its key replaced, or for the last one the key's version as of the end of the stretch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::base::change::{Change, Stretch};
use crate::base::limits::{PAGES_AHEAD, STRETCH_CHANGES_MAX};
use crate::base::range::KeyRange;
use crate::base::record::{Malformed, Record, Turn};
use crate::base::{Revision, Sub};
use crate::shard::memtable::{Position, Versions};
use crate::shard::mvcc::source::{Stop, Walk};
use crate::shard::pages::PageRef;
use crate::shard::tree::{Kind, Undone};

/// What is asked for: the changes of a range above a revision and not above another, in order,
/// each with the key's version below its revision. The shard has applied the latter.
///
/// A stretch ends early, at the end of a revision, when it holds `bytes_max` of records or so many
/// changes were looked at; `reached` says where. Below the compact revision nothing is readable
/// any more, so a change at the compact revision has no previous version.
#[derive(Debug)]
pub struct StretchCursor {
    range: KeyRange,
    after: Revision,
    upto: Revision,
    bytes_max: usize,
    changes_max: usize,
    /// What changes of the layers replaced below them, as far as it was looked up.
    previous: BTreeMap<Position, Option<Arc<Record>>>,
    /// What is gathered from the trees.
    gathered: Option<Gathered>,
}

/// Changes that the trees hold, as far as they were passed.
#[derive(Debug)]
struct Gathered {
    reached: Position,
    /// The last revision whole; set when all changes are here.
    end: Option<Revision>,
    seen: usize,
    bytes: usize,
    changes: Vec<(Position, Undone)>,
    /// Keys whose version as of the end is not known yet.
    open: BTreeSet<Bytes>,
    /// The version of each key as of the end, as far as it was looked up.
    ends: BTreeMap<Bytes, Option<Arc<Record>>>,
    /// How far the changes behind the end were looked at, and how many.
    beyond: (Position, usize),
}

impl StretchCursor {
    /// Begins a stretch.
    #[must_use]
    pub fn new(
        range: KeyRange,
        after: Revision,
        upto: Revision,
        bytes_max: usize,
    ) -> StretchCursor {
        StretchCursor {
            range,
            after,
            upto,
            bytes_max,
            changes_max: STRETCH_CHANGES_MAX,
            previous: BTreeMap::new(),
            gathered: None,
        }
    }

    /// As many changes may be looked at.
    #[cfg(test)]
    pub(in crate::shard) fn within(mut self, changes_max: usize) -> StretchCursor {
        self.changes_max = changes_max;
        self
    }

    /// The revision that it begins behind.
    #[must_use]
    pub fn after(&self) -> Revision {
        self.after
    }

    /// The stretch, once all that it needs is in memory.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; what was found until then is kept.
    pub fn step(&mut self, store: &Store) -> Result<Stretch, Stop> {
        if self.upto <= self.after || self.range.is_empty() {
            let reached = self.upto.max(self.after);
            return Ok(Stretch { reached, changes: Vec::new() });
        }
        if self.gathered.is_some() || self.after < store.tree_revision {
            return self.of_trees(store);
        }
        self.of_layers(store)
    }

    // --- what the layers hold -------------------------------------------------------------

    fn of_layers(&mut self, store: &Store) -> Result<Stretch, Stop> {
        let layers = [store.frozen.as_ref().map(|frozen| &*frozen.table), Some(&store.active)];
        let layers = layers.into_iter().flatten();
        if let Some(key) = self.range.as_single().cloned() {
            let versions = layers.filter_map(|layer| layer.versions_of(&key));
            let after = self.after;
            let changes =
                versions.flat_map(|found| found.above(after).map(move |record| (record, found)));
            return self.collect(store, changes);
        }
        let after = self.after;
        self.collect(store, layers.flat_map(|layer| layer.history(after)))
    }

    fn collect<'a>(
        &mut self,
        store: &Store,
        changes: impl Iterator<Item = (&'a Arc<Record>, &'a Versions)>,
    ) -> Result<Stretch, Stop> {
        let mut stretch = Stretch { reached: self.upto, changes: Vec::new() };
        let (mut bytes, mut last) = (0, None);
        let mut wanted = Vec::new();
        for (seen, (record, versions)) in changes.enumerate() {
            if record.revision > self.upto {
                break;
            }
            let is_full = bytes >= self.bytes_max || seen >= self.changes_max;
            match last {
                // The first change of a revision is where a stretch may end.
                Some(last) if is_full && last < record.revision => {
                    stretch.reached = last;
                    break;
                }
                _ => last = Some(record.revision),
            }
            if !self.range.contains(record.key()) {
                continue;
            }
            let previous = match self.previous_of(store, record, versions) {
                Ok(previous) => previous,
                Err(Stop::Wanted(pages)) => {
                    wanted.extend(pages);
                    if wanted.len() >= PAGES_AHEAD {
                        break;
                    }
                    None
                }
                Err(damaged) => return Err(damaged),
            };
            bytes += record.kv().len() + previous.as_ref().map_or(0, |one| one.kv().len());
            stretch.changes.push(Change { record: Arc::clone(record), previous });
        }
        if wanted.is_empty() { Ok(stretch) } else { Err(Stop::Wanted(wanted)) }
    }

    /// The key's version below a change's revision.
    fn previous_of(
        &mut self,
        store: &Store,
        record: &Arc<Record>,
        versions: &Versions,
    ) -> Result<Option<Arc<Record>>, Stop> {
        let before = record.revision.before();
        if before < store.floor {
            return Ok(None);
        }
        if let Some(last) = versions.last_at(before) {
            return Ok(Some(last).filter(|last| !last.is_tombstone()).cloned());
        }
        let is_first = versions.first().is_some_and(|first| first.at() == record.at());
        if is_first && record.turn() == Turn::Created {
            return Ok(None);
        }
        if let Some(found) = self.previous.get(&record.at()) {
            return Ok(found.clone());
        }
        let found = store.at(record.key(), before)?;
        self.previous.insert(record.at(), found.clone());
        Ok(found)
    }

    // --- what the trees hold --------------------------------------------------------------

    fn of_trees(&mut self, store: &Store) -> Result<Stretch, Stop> {
        let mut gathered = self.gathered.take().unwrap_or_else(|| Gathered {
            reached: (self.after, Sub(u32::MAX)),
            end: None,
            seen: 0,
            bytes: 0,
            changes: Vec::new(),
            open: BTreeSet::new(),
            ends: BTreeMap::new(),
            beyond: ((Revision(0), Sub(0)), 0),
        });
        let stretch = self.pass(store, &mut gathered).and_then(|end| {
            gathered.look_up(store, end)?;
            gathered.assemble(store, end)
        });
        self.gathered = Some(gathered);
        stretch
    }

    /// Gathers what is left of the changes. The last revision that is whole.
    fn pass(&self, store: &Store, gathered: &mut Gathered) -> Result<Revision, Stop> {
        if let Some(end) = gathered.end {
            return Ok(end);
        }
        let mut end = None;
        let after = gathered.reached;
        let walked = store.walk_undo(after, &mut |place, undone| {
            if place.0 > self.upto {
                return ControlFlow::Break(());
            }
            let is_full = gathered.bytes >= self.bytes_max || gathered.seen >= self.changes_max;
            let is_begun = gathered.reached.0 > self.after;
            if is_full && is_begun && gathered.reached.0 < place.0 {
                end = Some(gathered.reached.0);
                return ControlFlow::Break(());
            }
            gathered.reached = place;
            gathered.seen += 1;
            if self.range.contains(&undone.key) {
                let replaced = undone.replaced.as_ref().map_or(0, |one| one.log().len());
                gathered.bytes += 2 * replaced.max(undone.key.len());
                gathered.changes.push((place, undone.copied()));
            }
            ControlFlow::Continue(())
        })?;
        let end = match (end, walked) {
            (Some(end), _) => end,
            (None, Walk::Broken) => self.upto,
            (None, Walk::Ended) => self.upto.min(store.tree_revision),
        };
        gathered.end = Some(end);
        gathered.open = gathered.changes.iter().map(|(_, undone)| undone.key.clone()).collect();
        gathered.beyond = ((end, Sub(u32::MAX)), self.changes_max);
        Ok(end)
    }
}

impl Gathered {
    /// Looks up the version of each key as of the end: what its next change replaced, if that is
    /// near, else from the newest one back, which is not far for a key that changes rarely.
    fn look_up(&mut self, store: &Store, end: Revision) -> Result<(), Stop> {
        let Gathered { open, ends, beyond: (reached, left), .. } = self;
        if *left > 0 {
            let after = *reached;
            store.walk_undo(after, &mut |place, undone| {
                if *left == 0 || open.is_empty() {
                    return ControlFlow::Break(());
                }
                *left -= 1;
                *reached = place;
                if let Some(key) = open.take(&undone.key) {
                    let replaced = undone.replaced.filter(|one| !one.is_tombstone());
                    ends.insert(key, replaced.map(|one| Arc::new(one.copied())));
                }
                ControlFlow::Continue(())
            })?;
            *left = 0;
        }
        let mut wanted: Vec<PageRef> = Vec::new();
        let mut found = Vec::new();
        for key in open.iter() {
            match store.at(key, end) {
                Ok(record) => found.push((key.clone(), record)),
                Err(Stop::Wanted(pages)) => wanted.extend(pages),
                Err(damaged) => return Err(damaged),
            }
            if wanted.len() >= PAGES_AHEAD {
                break;
            }
        }
        for (key, record) in found {
            open.remove(&key);
            ends.insert(key, record);
        }
        if wanted.is_empty() { Ok(()) } else { Err(Stop::Wanted(wanted)) }
    }

    fn assemble(&self, store: &Store, end: Revision) -> Result<Stretch, Stop> {
        // From the end: what a change made is what is there behind it.
        let mut behind: BTreeMap<&Bytes, Option<Arc<Record>>> = BTreeMap::new();
        let mut made = Vec::with_capacity(self.changes.len());
        for (place, undone) in self.changes.iter().rev() {
            let there = match behind.remove(&undone.key) {
                Some(there) => there,
                None => self.ends.get(&undone.key).cloned().flatten(),
            };
            let record = match undone.turn {
                Turn::Deleted => Arc::new(Record::tombstone(&undone.key, place.0, place.1)),
                _ => there.filter(|there| there.at() == *place).ok_or_else(|| {
                    store.damaged(Kind::Undo, Malformed("a change that no version belongs to"))
                })?,
            };
            let replaced = undone.replaced.as_ref().filter(|one| !one.is_tombstone());
            behind.insert(&undone.key, replaced.map(|one| Arc::new(one.clone())));
            made.push(record);
        }
        // Two changes of a key in one revision have the same previous version.
        let mut before: BTreeMap<&Bytes, (Revision, Option<Arc<Record>>)> = BTreeMap::new();
        let mut changes = Vec::with_capacity(made.len());
        for ((place, undone), record) in self.changes.iter().zip(made.into_iter().rev()) {
            let previous = match before.get(&undone.key) {
                Some((revision, previous)) if *revision == place.0 => previous.clone(),
                _ => {
                    let live = undone.replaced.as_ref().filter(|one| !one.is_tombstone());
                    live.map(|one| Arc::new(one.clone()))
                }
            };
            before.insert(&undone.key, (place.0, previous.clone()));
            let previous = previous.filter(|_| place.0.before() >= store.floor);
            changes.push(Change { record, previous });
        }
        Ok(Stretch { reached: end, changes })
    }
}
