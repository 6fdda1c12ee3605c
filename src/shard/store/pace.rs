//! How a checkpoint and those who write keep step.
//!
//! While a layer is merged the next one fills, and were it full before the merge has ended writers
//! would stand still until then. So both go by how far the next layer is *ahead*: the part of it
//! that is full, less half the part of the old one that is merged. No clock has a say.
//!
//! | ahead | the checkpoint | writers |
//! |---|---|---|
//! | nothing | rests between two slices | go on |
//! | up to a quarter | rests the less the further | go on |
//! | up to a half | does not rest, and takes longer slices | go on |
//! | a half | the same | wait for slices that make room, which there is to the brim in the end |

use super::Store;
use super::checkpoint::Checkpoint;
use crate::base::limits::{
    CHECKPOINT_AHEAD_PERMILLE, CHECKPOINT_HURRIED_SLICE_BYTES, CHECKPOINT_HURRY_PERMILLE,
    CHECKPOINT_SLICE_BYTES, SLICE_PAUSE_NS,
};
use crate::base::range::KeyRange;
use crate::shard::memtable::Memtable;
use crate::shard::tree::Kind;

/// How far a checkpoint has come: changes merged, of how many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    merged: u64,
    due: u64,
}

impl Progress {
    /// Of a layer of which nothing is merged yet.
    pub(super) fn of_layer(table: &Memtable) -> Progress {
        let due = table.keys_about(&KeyRange::all()) + table.version_count();
        Progress { merged: 0, due: due as u64 }
    }

    /// A change went into a tree. What `leased` and `meta` take is little.
    pub(super) fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Current | Kind::Undo => self.merged += 1,
            Kind::Leased | Kind::Meta => self.merged = self.due,
        }
    }

    /// The share of `whole` that is merged.
    fn of(self, whole: u64) -> u64 {
        let share = u128::from(whole) * u128::from(self.merged.min(self.due));
        u64::try_from(share / u128::from(self.due.max(1))).expect("a part of it")
    }
}

impl Store {
    /// Whether the layer that takes changes has its share of memory, and a checkpoint is due.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.active.bytes() >= self.layer_bytes()
    }

    /// Whether something more may be evaluated beside so many bytes in flight. A checkpoint that
    /// waits for space on the disk is not waited for: what frees space has to go on.
    #[must_use]
    pub fn has_room(&self, in_flight: u64) -> bool {
        let is_held = self.checkpoint.as_ref().is_some_and(Checkpoint::is_held);
        if self.frozen.is_none() || is_held {
            return true;
        }
        let layer = self.layer_bytes();
        let ahead = layer / 1000 * CHECKPOINT_AHEAD_PERMILLE;
        self.active.bytes() + in_flight < ahead + self.progress().of(layer - ahead)
    }

    /// What a checkpoint rests behind a slice of its work, of `most`. What is too short for a core
    /// to come to rest is nothing.
    #[must_use]
    pub fn rest_ns(&self, most: u64) -> u64 {
        let left = CHECKPOINT_HURRY_PERMILLE.saturating_sub(self.ahead_permille());
        let rest_ns = most / CHECKPOINT_HURRY_PERMILLE * left;
        if rest_ns < SLICE_PAUSE_NS { 0 } else { rest_ns }
    }

    /// Bytes of the next slice.
    pub(super) fn slice_bytes(&self) -> usize {
        match self.ahead_permille() < CHECKPOINT_HURRY_PERMILLE {
            true => CHECKPOINT_SLICE_BYTES,
            false => CHECKPOINT_HURRIED_SLICE_BYTES,
        }
    }

    /// How far the next layer, or what is behind it until a checkpoint is due anyway, is ahead of
    /// the merge.
    fn ahead_permille(&self) -> u64 {
        let (records, bytes) = self.settings.checkpoint_behind;
        let part = |of: u64, whole: u64| of.saturating_mul(1000) / whole.max(1);
        let filled = part(self.active.bytes(), self.layer_bytes().min(bytes));
        let filled = filled.max(part(self.active.version_count() as u64, records));
        filled.saturating_sub(self.progress().of(1000 - CHECKPOINT_AHEAD_PERMILLE))
    }

    fn layer_bytes(&self) -> u64 {
        self.settings.memtable_bytes / 3
    }

    fn progress(&self) -> Progress {
        self.checkpoint.as_ref().map_or_else(Progress::default, Checkpoint::progress)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::base::prng::Prng;
    use crate::base::record::{PutFields, Record};
    use crate::base::{LeaseId, Revision, Sub};
    use crate::shard::store::tests::Paged;

    const MOST: u64 = 1_000_000;

    /// Puts `count` keys of their own, from revision `first` on.
    fn put(paged: &mut Paged, first: i64, count: i64) {
        for revision in first..first + count {
            let record = Record::put(PutFields {
                key: format!("{:08}", revision * 7_919 % 1_000_003).as_bytes(),
                value: &[7; 400],
                revision: Revision(revision),
                sub: Sub(0),
                create: Revision(revision),
                version: 1,
                lease: LeaseId::NONE,
            });
            paged.store.apply(Arc::new(record));
        }
    }

    #[test]
    fn the_next_layer_fills_by_half_and_then_in_step_with_the_merge() {
        let mut paged = Paged::new(3, 8 << 20);
        put(&mut paged, 2, 2_000);
        let layer = paged.store.active.bytes();
        paged.store.settings.memtable_bytes = 3 * layer;
        assert!(paged.store.wants_checkpoint() && paged.store.has_room(layer), "nobody is behind");
        paged.begin(Revision(2_001));
        assert_eq!(paged.store.rest_ns(MOST), MOST);
        let (mut revision, mut rests, mut prng) = (2_002, Vec::new(), Prng::new(4));
        // Writers that take all the room there is.
        while paged.store.has_checkpoint() {
            while paged.store.has_room(0) && revision < 6_000 {
                put(&mut paged, revision, 1);
                revision += 1;
            }
            rests.push((paged.store.active.bytes() * 100 / layer, paged.store.rest_ns(MOST)));
            paged.work(&mut prng);
        }
        assert!(rests.iter().all(|(_, rest)| *rest == 0), "who is waited for does not rest");
        let fills: Vec<u64> = rests.iter().map(|(fill, _)| *fill).collect();
        assert!(fills.is_sorted() && fills[0] == 50 && fills.last() >= Some(&99), "{fills:?}");
        let steps: BTreeSet<u64> = fills.iter().copied().collect();
        assert!(steps.len() >= 6, "a quarter of the layer a slice, and less: {fills:?}");
    }

    #[test]
    fn who_is_not_waited_for_rests() {
        let mut paged = Paged::new(3, 8 << 20);
        put(&mut paged, 2, 2_000);
        paged.store.settings.memtable_bytes = 3 * paged.store.active.bytes();
        paged.begin(Revision(2_001));
        let mut prng = Prng::new(4);
        put(&mut paged, 2_002, 250);
        let begun = paged.store.rest_ns(MOST);
        assert!((400_000..600_000).contains(&begun), "an eighth ahead: {begun}");
        while paged.store.has_checkpoint() {
            assert!(paged.store.has_room(0) && paged.store.rest_ns(MOST) >= begun);
            paged.work(&mut prng);
        }
        // One that is due for its records is waited for as well.
        paged.store.settings.checkpoint_behind = (500, u64::MAX);
        paged.begin(Revision(2_251));
        put(&mut paged, 2_252, 130);
        assert_eq!(paged.store.rest_ns(MOST), 0);
    }
}
