//! Reading versions: through the layers, then `current`, then back through `undo`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::base::limits::TRAILS_MAX;
use crate::base::range::KeyRange;
use crate::base::record::{Malformed, Record};
use crate::base::{Revision, Sub};
use crate::shard::memtable::{Memtable, Position, Versions};
use crate::shard::mvcc::source::{AsOf, CountState, Counted, Source, Stop, Visitor, Walk};
use crate::shard::tree::{Chain, Damaged, Delta, Kind, Replaced, Undone, undo_key};

/// How far reads of old revisions have come: from a version, towards a revision.
pub(super) type Trails = BTreeMap<(Position, Revision), Trail>;

/// How far a read of an old revision has come.
#[derive(Debug)]
pub(super) struct Trail {
    version: Record,
    /// The next whole copy.
    whole: Option<Position>,
}

/// Why a way back ends.
enum Gap {
    /// The key did not exist before.
    Beginning,
    Stop(Stop),
}

impl From<Stop> for Gap {
    fn from(stop: Stop) -> Gap {
        Gap::Stop(stop)
    }
}

/// A key's versions in the layers, the newest layer first.
type InLayers<'a> = [Option<&'a Versions>; 2];

impl Store {
    /// The newest version of `key`, if it is live.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; so for all reads.
    pub fn newest(&self, key: &[u8]) -> Result<Option<Arc<Record>>, Stop> {
        let last = match self.layers().find_map(|layer| layer.versions_of(key)?.last()) {
            Some(record) => Some(Arc::clone(record)),
            None => self.current(key)?.map(|(newest, _)| Arc::new(newest)),
        };
        Ok(last.filter(|record| !record.is_tombstone()))
    }

    /// The version of `key` as of `revision`, if it was live then.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn at(&self, key: &[u8], revision: Revision) -> Result<Option<Arc<Record>>, Stop> {
        self.check_readable(revision);
        let held = self.layers().find_map(|layer| layer.versions_of(key)?.last_at(revision));
        let last = match held {
            Some(record) => Some(Arc::clone(record)),
            None => match self.current(key)? {
                Some(newest) => self.back(newest, revision)?.map(Arc::new),
                None => None,
            },
        };
        Ok(last.filter(|record| !record.is_tombstone()))
    }

    /// Live keys of `range` at the newest revision.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn count_newest(&self, range: &KeyRange) -> Result<u64, Stop> {
        if let Some(key) = range.as_single() {
            return Ok(u64::from(self.newest(key)?.is_some()));
        }
        let below = self.tree(Kind::Current).count(range)?.live;
        let net: i64 = self.layers().map(|layer| layer.net(range)).sum();
        let count = below.checked_add_signed(net);
        count.ok_or_else(|| self.damaged(Kind::Current, Malformed("it holds too few live keys")))
    }

    /// Live keys of `range` as of `revision`. Costs what changed since.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn count(&self, range: &KeyRange, revision: Revision) -> Result<u64, Stop> {
        if let Some(key) = range.as_single() {
            return Ok(u64::from(self.at(key, revision)?.is_some()));
        }
        let mut state = CountState::new(revision);
        loop {
            match self.count_slice(range, AsOf::At(revision), state, usize::MAX)? {
                Counted::Total(count) => return Ok(count),
                Counted::Partly(further) => state = further,
            }
        }
    }

    /// The newest version of a key below the layers, a tombstone included, and its chain. A copy:
    /// who keeps a version must not keep its page.
    fn current(&self, key: &[u8]) -> Result<Option<(Record, Chain)>, Stop> {
        let Some(value) = self.tree(Kind::Current).get(key)? else { return Ok(None) };
        self.version(&Bytes::copy_from_slice(&value)).map(Some)
    }

    /// The newest version of a key below the layers, a tombstone included.
    pub(super) fn below(&self, key: &[u8]) -> Result<Option<Record>, Stop> {
        Ok(self.current(key)?.map(|(newest, _)| newest))
    }

    /// What a value of `current` says.
    pub(super) fn version(&self, value: &Bytes) -> Result<(Record, Chain), Stop> {
        let parts = Chain::split(value);
        let decoded = parts.and_then(|(log, chain)| Ok((Record::decode(log)?, chain)));
        decoded.map_err(|what| self.damaged(Kind::Current, what))
    }

    /// From the newest version of a key below the layers to the last one that is not above
    /// `revision`. The way may lead over more pages than the cache holds, so who stops on it goes
    /// on from there.
    pub(super) fn back(
        &self,
        (newest, chain): (Record, Chain),
        revision: Revision,
    ) -> Result<Option<Record>, Stop> {
        if newest.revision <= revision {
            return Ok(Some(newest));
        }
        let way = (newest.at(), revision);
        let reached = self.trails.borrow_mut().remove(&way);
        let mut trail = reached.unwrap_or(Trail { version: newest, whole: chain.whole });
        loop {
            match self.step_back(&mut trail, revision) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(trail.version)),
                Err(Gap::Beginning) => return Ok(None),
                Err(Gap::Stop(stop)) => {
                    let mut trails = self.trails.borrow_mut();
                    if trails.len() == TRAILS_MAX {
                        trails.pop_first();
                    }
                    trails.insert(way, trail);
                    return Err(stop);
                }
            }
        }
    }

    /// Goes back by one entry, if the version is above `revision`: to the next whole copy while
    /// that is, too, then from one version to the one that it replaced.
    fn step_back(&self, trail: &mut Trail, revision: Revision) -> Result<bool, Gap> {
        if let Some(place) = trail.whole.filter(|(named, _)| *named > revision) {
            let Replaced::Whole { record, before } = self.undone(place)?.replaced else {
                let what = Malformed("an entry that is named holds no whole version");
                return Err(self.damaged(Kind::Undo, what).into());
            };
            if before.is_some_and(|before| before >= place) {
                let what = Malformed("an entry that names a later one");
                return Err(self.damaged(Kind::Undo, what).into());
            }
            trail.whole = before;
            // The last of them alone is needed.
            if before.is_none_or(|(named, _)| named <= revision) {
                trail.version = record.copied();
            }
            return Ok(true);
        }
        if trail.version.revision <= revision {
            return Ok(false);
        }
        let version = match self.undone(trail.version.at())?.replaced {
            Replaced::Nothing => return Err(Gap::Beginning),
            Replaced::Whole { record, .. } => record.copied(),
            Replaced::Delta(delta) => self.expand(&delta, &trail.version)?,
        };
        if version.at() >= trail.version.at() {
            let what = Malformed("an entry that leads to a later version");
            return Err(self.damaged(Kind::Undo, what).into());
        }
        trail.version = version;
        Ok(true)
    }

    /// What undoes the change at a place that a version names.
    fn undone(&self, place: Position) -> Result<Undone, Stop> {
        let missing = Malformed("an entry is missing that a version names");
        let value = self.tree(Kind::Undo).get(&undo_key(place))?;
        let undone = value.ok_or(missing).and_then(|value| Undone::decode(&value));
        undone.map_err(|what| self.damaged(Kind::Undo, what))
    }

    /// The version that `next` replaced.
    pub(super) fn expand(&self, delta: &Delta, next: &Record) -> Result<Record, Stop> {
        let expanded = self.deltas.borrow_mut().expand(delta, next);
        expanded.map_err(|what| self.damaged(Kind::Undo, what))
    }

    pub(super) fn check_readable(&self, revision: Revision) {
        let cut = self.cut;
        assert!(revision >= cut, "a read at {revision}, below the cut at {cut}: it held nothing");
    }

    /// A tree holds what it cannot hold, or lacks what it must hold. One that has no page at all is
    /// the superblock's fault.
    pub(super) fn damaged(&self, kind: Kind, what: Malformed) -> Stop {
        let page = self.root(kind).map_or_else(|| self.file.newest().place(), |root| root.page);
        Stop::Damaged(Damaged { page, what: what.0 })
    }

    /// The keys of `range` above `after` that the layers hold, in order.
    pub(super) fn above<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], InLayers<'a>)> + use<'a> {
        let mut young = self.active.scan(range, after).peekable();
        let old = self.frozen.as_ref().map(|frozen| frozen.table.scan(range, after));
        let mut old = old.into_iter().flatten().peekable();
        std::iter::from_fn(move || {
            let order = match (young.peek(), old.peek()) {
                (Some((young, _)), Some((old, _))) => young.cmp(old),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let young = if order.is_le() { young.next() } else { None };
            let old = if order.is_ge() { old.next() } else { None };
            let (key, _) = young.or(old)?;
            Some((key, [young, old].map(|found| found.map(|(_, versions)| versions))))
        })
    }
}

/// What the layers say of a key; `None`: what is below them decides.
#[expect(clippy::option_option, reason = "not live is not the same as not known")]
fn in_layers<'a>(found: InLayers<'a>, as_of: AsOf) -> Option<Option<&'a Arc<Record>>> {
    let last = |versions: &'a Versions| match as_of {
        AsOf::Newest => versions.last(),
        AsOf::At(revision) => versions.last_at(revision),
    };
    let last = found.into_iter().flatten().find_map(last)?;
    Some(Some(last).filter(|record| !record.is_tombstone()))
}

impl Source for Store {
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        if let AsOf::At(revision) = as_of {
            self.check_readable(revision);
        }
        // A key by itself needs no page where a layer knows it.
        if let Some(key) = range.as_single() {
            if after.is_some_and(|after| after >= &key[..]) {
                return Ok(Walk::Ended);
            }
            let live = match as_of {
                AsOf::Newest => self.newest(key)?,
                AsOf::At(revision) => self.at(key, revision)?,
            };
            return Ok(match visit(key, live.as_ref()) {
                ControlFlow::Continue(()) => Walk::Ended,
                ControlFlow::Break(()) => Walk::Broken,
            });
        }
        let mut above = self.above(range, after).peekable();
        let mut stop = None;
        let walked = self.tree(Kind::Current).walk(range, after, &mut |entry| {
            while let Some((key, found)) = above.next_if(|(key, _)| *key < entry.key()) {
                if visit(key, in_layers(found, as_of).flatten()).is_break() {
                    return ControlFlow::Break(());
                }
            }
            let found = above.next_if(|(key, _)| *key == entry.key());
            if let Some(live) = found.and_then(|(_, found)| in_layers(found, as_of)) {
                return visit(entry.key(), live);
            }
            let below = self.version(&entry.value_bytes());
            let below = below.and_then(|newest| match as_of {
                AsOf::Newest => Ok(Some(newest.0)),
                AsOf::At(revision) => self.back(newest, revision),
            });
            match below {
                Ok(record) => {
                    let live = record.filter(|record| !record.is_tombstone()).map(Arc::new);
                    visit(entry.key(), live.as_ref())
                }
                Err(why) => {
                    stop = Some(why);
                    ControlFlow::Break(())
                }
            }
        })?;
        match stop {
            Some(why) => return Err(why),
            None if walked == Walk::Broken => return Ok(Walk::Broken),
            None => {}
        }
        for (key, found) in above {
            if visit(key, in_layers(found, as_of).flatten()).is_break() {
                return Ok(Walk::Broken);
            }
        }
        Ok(Walk::Ended)
    }

    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Result<Counted, Stop> {
        if as_of == AsOf::Newest {
            return self.count_newest(range).map(Counted::Total);
        }
        self.check_readable(from.reached.0);
        let mut state = from;
        let counted = self.count_back(range, &mut state, budget);
        match counted {
            // What was passed in this slice is passed for good.
            Err(Stop::Wanted(_)) if state != from => Ok(Counted::Partly(state)),
            other => other,
        }
    }

    fn counts_slower_than_walking(&self, range: &KeyRange, as_of: AsOf) -> bool {
        let AsOf::At(revision) = as_of else { return false };
        let mut changes: usize = self.layers().map(|layer| layer.changes_above(revision)).sum();
        let mut keys: usize = self.layers().map(|layer| layer.keys_about(range)).sum();
        if revision < self.tree_revision {
            changes += self.trees.undo.map_or(0, |root| whole(root.total.live));
        }
        // Most ask for a revision that is hardly old: no need to look into the tree.
        if changes / 8 <= keys {
            return false;
        }
        if let Some(root) = self.trees.current {
            let within = self.tree(Kind::Current).count(range);
            keys += whole(within.map_or(root.total.live, |within| within.live));
        }
        // A key costs more to visit than a change to pass over.
        changes / 8 > keys
    }
}

fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Store {
    /// Passes over at most `budget` changes and takes the whole count when none is left.
    fn count_back(
        &self,
        range: &KeyRange,
        state: &mut CountState,
        budget: usize,
    ) -> Result<Counted, Stop> {
        let mut left = budget;
        let is_below = state.reached < (self.tree_revision, Sub(u32::MAX));
        if is_below && !self.pass_undo(range, state, &mut left)? {
            return Ok(Counted::Partly(*state));
        }
        let layers: [Option<&Memtable>; 2] =
            [self.frozen.as_ref().map(|frozen| &*frozen.table), Some(&self.active)];
        for layer in layers.into_iter().flatten() {
            let (net, reached) = layer.net_created(range, state.reached, left);
            state.net += net;
            if let Some(reached) = reached {
                state.reached = reached;
                return Ok(Counted::Partly(*state));
            }
            state.reached = state.reached.max(layer.last_change());
        }
        // Taken in the same slice as the last changes, so the two agree.
        let now = self.count_newest(range)?;
        let total = now.checked_add_signed(-state.net).map(Counted::Total);
        total.ok_or_else(|| self.damaged(Kind::Current, Malformed("it holds too few live keys")))
    }
}
