//! What a hash sums up of one shard.
//!
//! First the keys are passed, with the newest version below the layers and all in them, then what
//! `undo` holds. A version that moves meanwhile, from a layer to the trees or from `current` to
//! `undo`, may be seen twice and is never missed.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{Revision, Sub};
use crate::shard::memtable::Position;
use crate::shard::mvcc::hash::{HashOf, Hashed};
use crate::shard::mvcc::source::{Stop, Walk};
use crate::shard::tree::{Delta, Kind, Replaced};

/// Lists what counts of one shard, in slices.
#[derive(Debug)]
pub struct HashList {
    of: HashOf,
    stage: Stage,
    found: Vec<Hashed>,
}

#[derive(Debug)]
enum Stage {
    Keys { after: Option<Bytes> },
    Undo { after: Position },
    Done,
}

impl HashList {
    /// Begins a list.
    #[must_use]
    pub fn new(of: HashOf) -> HashList {
        HashList { of, stage: Stage::Keys { after: None }, found: Vec::new() }
    }

    /// What the hash is of.
    #[must_use]
    pub fn of(&self) -> HashOf {
        self.of
    }

    /// Looks at `count` more keys or changes. True when the list is complete.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; the next step goes on from there.
    pub fn step(&mut self, store: &Store, count: usize) -> Result<bool, Stop> {
        match &mut self.stage {
            Stage::Keys { after } => {
                let mut found = Found { of: self.of, list: &mut self.found };
                if pass_keys(store, &mut found, after, count)? == Walk::Ended {
                    let first = (self.of.compact.max(Revision(0)), Sub(u32::MAX));
                    self.stage = Stage::Undo { after: first };
                }
            }
            Stage::Undo { after } => {
                let mut found = Found { of: self.of, list: &mut self.found };
                let mut left = count;
                let walked = store.walk_undo(*after, &mut |place, undone| {
                    if left == 0 {
                        return ControlFlow::Break(());
                    }
                    left -= 1;
                    *after = place;
                    match &undone.replaced {
                        Replaced::Nothing => {}
                        Replaced::Whole { record, .. } => found.offer(record, Some(place.0)),
                        Replaced::Delta(delta) => found.offer_sum(delta, place.0),
                    }
                    ControlFlow::Continue(())
                })?;
                if walked == Walk::Ended {
                    self.stage = Stage::Done;
                }
            }
            Stage::Done => {}
        }
        Ok(matches!(self.stage, Stage::Done))
    }

    /// The complete list, in order.
    #[must_use]
    pub fn finish(mut self) -> Vec<Hashed> {
        self.found.sort_unstable();
        self.found.dedup();
        self.found
    }
}

/// Passes `count` keys behind `after`, which moves on.
fn pass_keys(
    store: &Store,
    found: &mut Found<'_>,
    after: &mut Option<Bytes>,
    count: usize,
) -> Result<Walk, Stop> {
    let everything = KeyRange::all();
    let mut above = store.above(&everything, after.as_deref()).peekable();
    let mut left = count;
    let mut reached: Option<Vec<u8>> = None;
    let mut wrong: Option<Stop> = None;
    // One key: what is below the layers, then what is in them.
    let mut pass = |key: &[u8], below: Option<&Record>, layers: [Option<_>; 2]| {
        if left == 0 {
            return ControlFlow::Break(());
        }
        left -= 1;
        let [young, old] = layers.map(|versions: Option<&crate::shard::memtable::Versions>| {
            versions.into_iter().flat_map(|all| all.above(Revision(-1)))
        });
        let mut last: Option<&Record> = below;
        for version in old.chain(young).map(Arc::as_ref) {
            if let Some(last) = last {
                found.offer(last, Some(version.revision));
            }
            last = Some(version);
        }
        if let Some(last) = last {
            found.offer(last, None);
        }
        let reached = reached.get_or_insert_default();
        reached.clear();
        reached.extend_from_slice(key);
        ControlFlow::Continue(())
    };
    let behind = after.clone();
    let walked = store.tree(Kind::Current).walk(&everything, behind.as_deref(), &mut |entry| {
        while let Some((key, layers)) = above.next_if(|(key, _)| *key < entry.key()) {
            pass(key, None, layers)?;
        }
        let layers = above.next_if(|(key, _)| *key == entry.key());
        match store.version(&entry.value_bytes()) {
            Ok((below, _)) => {
                pass(entry.key(), Some(&below), layers.map_or([None; 2], |(_, all)| all))
            }
            Err(stop) => {
                wrong = Some(stop);
                ControlFlow::Break(())
            }
        }
    });
    let walked = match walked {
        Ok(Walk::Ended) => match above.try_for_each(|(key, layers)| pass(key, None, layers)) {
            ControlFlow::Continue(()) => Ok(Walk::Ended),
            ControlFlow::Break(()) => Ok(Walk::Broken),
        },
        other => other,
    };
    if let Some(reached) = reached {
        *after = Some(reached.into());
    }
    wrong.map_or(walked, Err)
}

/// Takes what counts.
struct Found<'a> {
    of: HashOf,
    list: &'a mut Vec<Hashed>,
}

impl Found<'_> {
    /// A version, and the revision at which it was replaced, if it was.
    fn offer(&mut self, version: &Record, replaced: Option<Revision>) {
        if self.counts(version.revision, version.is_tombstone(), replaced) {
            self.list.push(Hashed::of(version));
        }
    }

    /// A live version of which the checksum is known.
    fn offer_sum(&mut self, delta: &Delta, replaced: Revision) {
        if self.counts(delta.revision, false, Some(replaced)) {
            self.list.push(Hashed::of_sum(delta.at(), delta.kv_crc, delta.kv_len));
        }
    }

    fn counts(&self, made: Revision, is_tombstone: bool, replaced: Option<Revision>) -> bool {
        let HashOf { revision, compact, any_live } = self.of;
        if made > compact {
            return made <= revision;
        }
        // What a read at the compact revision sees. What is replaced by `revision` is no more what
        // a read there sees, so etcd leaves it out; unless there is nothing that a read there sees.
        let is_base = replaced.is_none_or(|replaced| replaced > compact);
        let stays = replaced.is_none_or(|replaced| replaced > revision);
        !is_tombstone && is_base && (stays || !any_live)
    }
}
