//! A stretch of history for watchers that catch up.
//!
//! What the layers hold lies there version by version. What the trees hold is put together in
//! `unrolled`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Store;
use super::unrolled::Gathered;
use crate::base::Revision;
use crate::base::change::{Change, Stretch};
use crate::base::limits::{PAGES_AHEAD, STRETCH_CHANGES_MAX};
use crate::base::range::KeyRange;
use crate::base::record::{Record, Turn};
use crate::shard::memtable::{Position, Versions};
use crate::shard::mvcc::source::Stop;

/// What is asked for: the changes of a range above a revision and not above another, in order,
/// each with the key's version below its revision. The shard has applied the latter.
///
/// A stretch ends early, at the end of a revision, when it holds `bytes_max` of records or many
/// changes were looked at; `reached` says where. Below the compact revision nothing is readable
/// any more, so a change at the compact revision has no previous version.
#[derive(Debug)]
pub struct StretchCursor {
    ask: Ask,
    /// What changes of the layers replaced below them, as far as it was looked up.
    previous: BTreeMap<Position, Option<Arc<Record>>>,
    /// What is gathered from the trees.
    gathered: Option<Box<Gathered>>,
}

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) range: KeyRange,
    pub(super) after: Revision,
    pub(super) upto: Revision,
    pub(super) bytes_max: usize,
    /// Changes looked at in one slice.
    pub(super) changes_max: usize,
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
        let ask = Ask { range, after, upto, bytes_max, changes_max: STRETCH_CHANGES_MAX };
        StretchCursor { ask, previous: BTreeMap::new(), gathered: None }
    }

    /// As many changes may be looked at.
    #[cfg(test)]
    pub(in crate::shard) fn within(mut self, changes_max: usize) -> StretchCursor {
        self.ask.changes_max = changes_max;
        self
    }

    /// The revision that it begins behind.
    #[must_use]
    pub fn after(&self) -> Revision {
        self.ask.after
    }

    /// Goes on for a slice. The stretch, once all that it needs is there.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; what was found until then is kept.
    pub fn step(&mut self, store: &Store) -> Result<Option<Stretch>, Stop> {
        let Ask { range, after, upto, .. } = &self.ask;
        if upto <= after || range.is_empty() {
            let reached = *upto.max(after);
            return Ok(Some(Stretch { reached, changes: Vec::new() }));
        }
        if self.gathered.is_some() || *after < store.tree_revision {
            let gathered = self.gathered.get_or_insert_with(|| Box::new(Gathered::new(*after)));
            return gathered.step(store, &self.ask);
        }
        self.of_layers(store).map(Some)
    }

    // --- what the layers hold -------------------------------------------------------------

    fn of_layers(&mut self, store: &Store) -> Result<Stretch, Stop> {
        let layers = [store.frozen.as_ref().map(|frozen| &*frozen.table), Some(&store.active)];
        let layers = layers.into_iter().flatten();
        if let Some(key) = self.ask.range.as_single().cloned() {
            let versions = layers.filter_map(|layer| layer.versions_of(&key));
            let after = self.ask.after;
            let changes =
                versions.flat_map(|found| found.above(after).map(move |record| (record, found)));
            return self.collect(store, changes);
        }
        let after = self.ask.after;
        self.collect(store, layers.flat_map(|layer| layer.history(after)))
    }

    fn collect<'a>(
        &mut self,
        store: &Store,
        changes: impl Iterator<Item = (&'a Arc<Record>, &'a Versions)>,
    ) -> Result<Stretch, Stop> {
        let mut stretch = Stretch { reached: self.ask.upto, changes: Vec::new() };
        let (mut bytes, mut last) = (0, None);
        let mut wanted = Vec::new();
        for (seen, (record, versions)) in changes.enumerate() {
            if record.revision > self.ask.upto {
                break;
            }
            let is_full = bytes >= self.ask.bytes_max || seen >= self.ask.changes_max;
            match last {
                // The first change of a revision is where a stretch may end.
                Some(last) if is_full && last < record.revision => {
                    stretch.reached = last;
                    break;
                }
                _ => last = Some(record.revision),
            }
            if !self.ask.range.contains(record.key()) {
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
}
