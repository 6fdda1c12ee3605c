//! The part of a stretch that the trees hold.
//!
//! `undo` names each change and leads from what it made to what it replaced, and what a change made
//! is what the next change of its key replaced, or for the last one the key's version as of the
//! end of the stretch. So the changes are gathered, the keys' versions as of the end are found, and
//! from there the changes are gone through backwards. All of it in slices.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::stretch::Ask;
use crate::base::change::{Change, Stretch};
use crate::base::limits::{LOOK_THROUGH_BYTES_MAX, PAGES_AHEAD, STRETCH_SLICES_MAX};
use crate::base::record::{Malformed, Record, Turn};
use crate::base::{Revision, Sub};
use crate::shard::memtable::Position;
use crate::shard::mvcc::source::{Stop, Walk};
use crate::shard::pages::PageRef;
use crate::shard::tree::{Delta, Kind, Replaced, Undone};

/// Changes behind a stretch that are looked through for one key rather than to read the pages of
/// its own: a few milliseconds' worth of either.
const LOOK_THROUGH_PER_KEY: usize = 256;
/// What a delta takes of memory beside its bytes.
const DELTA_OVERHEAD_BYTES: usize = 128;
/// Changes that are as much work as to look a version up, or to make one from its delta.
const VERSION_COST: usize = 8;
const LEADS_NOWHERE: Malformed = Malformed("a delta behind which no version stands");

/// Changes that the trees hold, as far as they were passed.
#[derive(Debug)]
pub(super) struct Gathered {
    stage: Stage,
    reached: Position,
    /// The last revision whole; set when all changes are here.
    end: Revision,
    seen: usize,
    bytes: usize,
    changes: Vec<(Position, Undone)>,
    /// Keys whose version as of the end is not known yet.
    open: BTreeSet<Bytes>,
    /// The version of each key as of the end, as far as it was looked up; then, as of the change
    /// that is reached backwards.
    versions: BTreeMap<Bytes, Option<Arc<Record>>>,
    beyond: Beyond,
    /// From the end.
    unrolled: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Passing,
    LookingThrough,
    LookingUp,
    Unrolling,
    Done,
}

/// Changes behind the end, as far as they were looked at.
#[derive(Debug, Default)]
struct Beyond {
    reached: Position,
    /// So many more are to be looked at, and so many bytes kept.
    changes_left: usize,
    bytes_left: usize,
    /// All that the trees hold were looked at, up to this revision.
    complete: Option<Revision>,
    /// The deltas of each key whose next whole version was not met yet, oldest first.
    deltas: BTreeMap<Bytes, Vec<Delta>>,
}

impl Gathered {
    /// Of the changes behind a revision.
    pub(super) fn new(after: Revision) -> Gathered {
        Gathered {
            stage: Stage::Passing,
            reached: (after, Sub(u32::MAX)),
            end: after,
            seen: 0,
            bytes: 0,
            changes: Vec::new(),
            open: BTreeSet::new(),
            versions: BTreeMap::new(),
            beyond: Beyond::default(),
            unrolled: Vec::new(),
        }
    }

    /// A slice of work; the stretch when it is all there.
    pub(super) fn step(&mut self, store: &Store, ask: &Ask) -> Result<Option<Stretch>, Stop> {
        let mut left = ask.changes_max;
        while left > 0 {
            let (is_done, next) = match self.stage {
                Stage::Passing => (self.pass(store, ask, &mut left)?, Stage::LookingThrough),
                Stage::LookingThrough => (self.look_through(store, &mut left)?, Stage::LookingUp),
                Stage::LookingUp => (self.look_up(store, &mut left)?, Stage::Unrolling),
                Stage::Unrolling => (self.unroll(store, &mut left)?, Stage::Done),
                Stage::Done => return Ok(Some(self.finish(store))),
            };
            if is_done {
                self.stage = next;
            }
        }
        Ok(None)
    }

    /// Gathers changes. True when all are here.
    fn pass(&mut self, store: &Store, ask: &Ask, left: &mut usize) -> Result<bool, Stop> {
        let mut end = None;
        let mut is_paused = false;
        let after = self.reached;
        let walked = store.walk_undo(after, &mut |place, undone| {
            if place.0 > ask.upto {
                return ControlFlow::Break(());
            }
            let is_full =
                self.bytes >= ask.bytes_max || self.seen >= ask.changes_max * STRETCH_SLICES_MAX;
            let is_begun = self.reached.0 > ask.after;
            if is_full && is_begun && self.reached.0 < place.0 {
                end = Some(self.reached.0);
                return ControlFlow::Break(());
            }
            if *left == 0 {
                is_paused = true;
                return ControlFlow::Break(());
            }
            *left -= 1;
            self.reached = place;
            self.seen += 1;
            if ask.range.contains(&undone.key) {
                self.bytes += 2 * undone.replaced_bytes().max(undone.key.len());
                self.changes.push((place, undone.copied()));
            }
            ControlFlow::Continue(())
        })?;
        if is_paused {
            return Ok(false);
        }
        self.end = match (end, walked) {
            (Some(end), _) => end,
            (None, Walk::Broken) => ask.upto,
            (None, Walk::Ended) => ask.upto.min(store.tree_revision),
        };
        self.open = self.changes.iter().map(|(_, undone)| undone.key.clone()).collect();
        self.beyond = Beyond {
            reached: (self.end, Sub(u32::MAX)),
            changes_left: store.changes_to_look_through(self.open.len(), ask.changes_max),
            bytes_left: LOOK_THROUGH_BYTES_MAX,
            ..Beyond::default()
        };
        Ok(true)
    }

    /// Looks through the changes behind the end, up to the next whole version of each key. True
    /// when no more of them are to be looked at.
    fn look_through(&mut self, store: &Store, left: &mut usize) -> Result<bool, Stop> {
        let Gathered { open, versions, beyond, .. } = self;
        let mut wrong = None;
        let mut is_paused = false;
        let after = beyond.reached;
        let walked = store.walk_undo(after, &mut |place, undone| {
            if beyond.changes_left == 0 || beyond.bytes_left == 0 || open.is_empty() {
                return ControlFlow::Break(());
            }
            if *left == 0 {
                is_paused = true;
                return ControlFlow::Break(());
            }
            *left -= 1;
            beyond.changes_left -= 1;
            beyond.reached = place;
            if !open.contains(&undone.key) {
                return ControlFlow::Continue(());
            }
            let Undone { key, replaced, .. } = undone.copied();
            let whole = match replaced {
                Replaced::Delta(delta) => {
                    let bytes = key.len() + delta.frame.len() + DELTA_OVERHEAD_BYTES;
                    beyond.bytes_left = beyond.bytes_left.saturating_sub(bytes);
                    beyond.deltas.entry(key).or_default().push(delta);
                    return ControlFlow::Continue(());
                }
                Replaced::Whole { record, .. } => Some(record),
                Replaced::Nothing => None,
            };
            open.remove(&key);
            let deltas = beyond.deltas.remove(&key).unwrap_or_default();
            *left = left.saturating_sub(deltas.len() * VERSION_COST);
            match store.unroll(whole, &deltas) {
                Ok(version) => {
                    versions.insert(key, version);
                    ControlFlow::Continue(())
                }
                Err(stop) => {
                    wrong = Some(stop);
                    ControlFlow::Break(())
                }
            }
        })?;
        if walked == Walk::Ended {
            beyond.complete = Some(store.tree_revision);
        }
        wrong.map_or(Ok(!is_paused), Err)
    }

    /// Looks up what the changes behind the end did not tell: from the newest version below the
    /// layers, if they were all looked through, else key by key. True when nothing is left.
    fn look_up(&mut self, store: &Store, left: &mut usize) -> Result<bool, Stop> {
        let Gathered { open, versions, beyond, end, .. } = self;
        // A checkpoint may have ended since.
        let is_complete = beyond.complete == Some(store.tree_revision);
        let mut wanted: Vec<PageRef> = Vec::new();
        let mut found = Vec::new();
        for key in open.iter() {
            if *left == 0 {
                break;
            }
            let deltas = beyond.deltas.get(key).map_or(&[][..], |deltas| deltas);
            *left = left.saturating_sub((1 + deltas.len()) * VERSION_COST);
            let version = match is_complete {
                true => store.below(key).and_then(|newest| store.unroll(newest, deltas)),
                false => store.at(key, *end),
            };
            match version {
                Ok(version) => found.push((key.clone(), version)),
                Err(Stop::Wanted(pages)) => wanted.extend(pages),
                Err(damaged) => return Err(damaged),
            }
            if wanted.len() >= PAGES_AHEAD {
                break;
            }
        }
        for (key, version) in found {
            open.remove(&key);
            versions.insert(key, version);
        }
        if !wanted.is_empty() {
            return Err(Stop::Wanted(wanted));
        }
        if open.is_empty() {
            self.beyond = Beyond::default();
        }
        Ok(self.open.is_empty())
    }

    /// Goes through the changes from the end: what a change made is what is there behind it. True
    /// when the first one is reached.
    fn unroll(&mut self, store: &Store, left: &mut usize) -> Result<bool, Stop> {
        while let Some((place, undone)) = self.changes.iter().rev().nth(self.unrolled.len()) {
            if *left == 0 {
                return Ok(false);
            }
            *left = left.saturating_sub(VERSION_COST);
            let there = self.versions.remove(&undone.key).flatten();
            let record = match undone.turn {
                Turn::Deleted => Arc::new(Record::tombstone(&undone.key, place.0, place.1)),
                _ => there.filter(|there| there.at() == *place).ok_or_else(|| {
                    store.damaged(Kind::Undo, Malformed("a change that no version belongs to"))
                })?,
            };
            let previous = match &undone.replaced {
                Replaced::Nothing => None,
                Replaced::Whole { record, .. } => Some(record.clone()),
                Replaced::Delta(delta) => Some(store.expand(delta, &record)?),
            };
            let previous = previous.filter(|one| !one.is_tombstone()).map(Arc::new);
            self.versions.insert(undone.key.clone(), previous.clone());
            self.unrolled.push(Change { record, previous });
        }
        Ok(true)
    }

    fn finish(&mut self, store: &Store) -> Stretch {
        let mut changes = std::mem::take(&mut self.unrolled);
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
        Stretch { reached: self.end, changes }
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

    /// From a version that the last of some deltas starts from to the one that the first leads to.
    fn unroll(
        &self,
        newest: Option<Record>,
        deltas: &[Delta],
    ) -> Result<Option<Arc<Record>>, Stop> {
        let mut version = newest.filter(|newest| !newest.is_tombstone());
        for delta in deltas.iter().rev() {
            let next = version.ok_or_else(|| self.damaged(Kind::Undo, LEADS_NOWHERE))?;
            version = Some(self.expand(delta, &next)?);
        }
        Ok(version.map(Arc::new))
    }
}
