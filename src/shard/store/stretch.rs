//! A stretch of history for watchers that catch up.
//!
//! What the layers hold lies there version by version. What the trees hold is found from its end:
//! `undo` names each change and leads from what it made to what it replaced, and what a change made
//! is what the next change of its key replaced, or for the last one the key's version as of the end
//! of the stretch.

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
use crate::shard::tree::{Delta, Kind, Replaced, Undone};

/// Changes behind a stretch that are looked through for one key rather than to read the pages of
/// its own: a few milliseconds' worth of either.
const LOOK_THROUGH_PER_KEY: usize = 256;
/// What a delta takes of memory beside its bytes.
const DELTA_OVERHEAD_BYTES: usize = 128;
const LEADS_NOWHERE: Malformed = Malformed("a delta behind which no version stands");

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
    beyond: Beyond,
}

/// Changes behind the end, as far as they were looked at.
#[derive(Debug, Default)]
struct Beyond {
    reached: Position,
    /// So many more are to be looked at, and so many bytes kept.
    changes_left: usize,
    bytes_left: usize,
    /// The deltas of each key whose next whole version was not met yet, oldest first.
    deltas: BTreeMap<Bytes, Vec<Delta>>,
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
            beyond: Beyond::default(),
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
                gathered.bytes += 2 * undone.replaced_bytes().max(undone.key.len());
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
        gathered.beyond = Beyond {
            reached: (end, Sub(u32::MAX)),
            changes_left: store.changes_to_look_through(gathered.open.len(), self.changes_max),
            bytes_left: self.bytes_max,
            deltas: BTreeMap::new(),
        };
        Ok(end)
    }
}

impl Store {
    /// How many changes behind a stretch are to be looked through for the versions of so many keys,
    /// before each is looked up by itself. What lies in memory is looked up soon; what has to be
    /// read is better read in order.
    fn changes_to_look_through(&self, keys: usize, changes_max: usize) -> usize {
        let history = self.trees.undo.map_or(0, |root| root.total.bytes);
        match history < self.settings.cache_bytes as u64 / 2 {
            true => changes_max,
            false => changes_max.max(keys.saturating_mul(LOOK_THROUGH_PER_KEY)),
        }
    }
}

impl Gathered {
    /// Looks up the version of each key as of the end: from what its next changes replaced, if that
    /// is near, else from the newest one back.
    fn look_up(&mut self, store: &Store, end: Revision) -> Result<(), Stop> {
        self.look_beyond(store)?;
        let Gathered { open, ends, .. } = self;
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

    /// Looks through the changes behind the end, up to the next whole version of each key.
    fn look_beyond(&mut self, store: &Store) -> Result<(), Stop> {
        let Gathered { open, ends, beyond, .. } = self;
        if beyond.changes_left == 0 {
            return Ok(());
        }
        let mut wrong = None;
        let after = beyond.reached;
        store.walk_undo(after, &mut |place, undone| {
            if beyond.changes_left == 0 || beyond.bytes_left == 0 || open.is_empty() {
                return ControlFlow::Break(());
            }
            beyond.changes_left -= 1;
            beyond.reached = place;
            if !open.contains(&undone.key) {
                return ControlFlow::Continue(());
            }
            let whole = match undone.copied() {
                Undone { replaced: Replaced::Delta(delta), key, .. } => {
                    let bytes = key.len() + delta.frame.len() + DELTA_OVERHEAD_BYTES;
                    beyond.bytes_left = beyond.bytes_left.saturating_sub(bytes);
                    beyond.deltas.entry(key).or_default().push(delta);
                    return ControlFlow::Continue(());
                }
                Undone { replaced: Replaced::Whole { record, .. }, .. } => Some(record),
                Undone { replaced: Replaced::Nothing, .. } => None,
            };
            open.remove(&undone.key);
            let deltas = beyond.deltas.remove(&undone.key).unwrap_or_default();
            let mut version = whole.filter(|whole| !whole.is_tombstone());
            for delta in deltas.iter().rev() {
                let expanded = match &version {
                    Some(next) => store.expand(delta, next),
                    None => Err(store.damaged(Kind::Undo, LEADS_NOWHERE)),
                };
                match expanded {
                    Ok(expanded) => version = Some(expanded),
                    Err(stop) => {
                        wrong = Some(stop);
                        return ControlFlow::Break(());
                    }
                }
            }
            ends.insert(undone.key, version.map(Arc::new));
            ControlFlow::Continue(())
        })?;
        *beyond = Beyond::default();
        wrong.map_or(Ok(()), Err)
    }

    fn assemble(&self, store: &Store, end: Revision) -> Result<Stretch, Stop> {
        // From the end: what a change made is what is there behind it.
        let mut behind: BTreeMap<&Bytes, Option<Arc<Record>>> = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.changes.len());
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
            let previous = match &undone.replaced {
                Replaced::Nothing => None,
                Replaced::Whole { record, .. } => {
                    Some(record).filter(|one| !one.is_tombstone()).cloned()
                }
                Replaced::Delta(delta) => Some(store.expand(delta, &record)?),
            };
            let previous = previous.map(Arc::new);
            behind.insert(&undone.key, previous.clone());
            changes.push(Change { record, previous });
        }
        changes.reverse();
        // Two changes of a key in one revision have the same previous version.
        let mut before: BTreeMap<&Bytes, (Revision, Option<Arc<Record>>)> = BTreeMap::new();
        for ((place, undone), change) in self.changes.iter().zip(&mut changes) {
            if let Some((_, first)) = before.get(&undone.key).filter(|(at, _)| *at == place.0) {
                change.previous = first.clone();
            }
            before.insert(&undone.key, (place.0, change.previous.clone()));
        }
        for change in changes.iter_mut().filter(|one| one.record.revision.before() < store.floor) {
            change.previous = None;
        }
        Ok(Stretch { reached: end, changes })
    }
}
