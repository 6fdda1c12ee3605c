//! One raft entry's worth of effects, shared by every core once it is committed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::change::Change;
use super::effect::Effect;
use super::record::Record;
use super::{RaftIndex, Revision, ShardId, Term};

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// The first `count` shards.
    #[must_use]
    pub fn all(count: u16) -> ShardSet {
        debug_assert!(count <= 64);
        ShardSet(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    /// Removes a shard.
    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    /// Whether the shard is in it.
    #[must_use]
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    /// How many shards are in it.
    #[must_use]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether no shard is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards, ascending.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..64).map(ShardId).filter(move |shard| self.contains(*shard))
    }

    /// The shards of either set.
    #[must_use]
    pub fn union(self, other: ShardSet) -> ShardSet {
        ShardSet(self.0 | other.0)
    }
}

/// An effect with the shard it concerns, by this member's count of shards.
#[derive(Debug)]
pub struct Placed {
    /// The shard that owns the key; `None`: every shard.
    pub shard: Option<ShardId>,
    /// The change.
    pub effect: Effect,
    /// For a record, the key's version below the record's revision, if the key was live there: what
    /// its evaluation found. Not known of what the log held at the start, which nobody watches.
    pub previous: Option<Arc<Record>>,
    /// The encoded event, without and with the previous version; made by the first hub that
    /// needs it and shared by all watchers.
    pub event: [OnceLock<bytes::Bytes>; 2],
}

impl Placed {
    /// An effect on one shard, or on all.
    #[must_use]
    pub fn new(shard: Option<ShardId>, effect: Effect) -> Placed {
        Placed { shard, effect, previous: None, event: Default::default() }
    }

    /// A change on the shard of its key.
    #[must_use]
    pub fn change(shard: ShardId, change: Change) -> Placed {
        let Change { record, previous } = change;
        let effect = Effect::Record(record);
        Placed { shard: Some(shard), effect, previous, event: Default::default() }
    }
}

/// Effects in log order. Immutable but for what `Placed` fills in once.
#[derive(Debug)]
pub struct Batch {
    /// Index of the raft entry that completed it.
    pub index: RaftIndex,
    /// Term of that entry.
    pub term: Term,
    /// The store's revision before its first effect.
    pub before: Revision,
    /// The store's revision behind its last effect.
    pub last: Revision,
    /// Shards it concerns.
    pub shards: ShardSet,
    /// The compact revision it sets, if it holds a compaction.
    pub compact: Option<Revision>,
    /// The changes, sorted by revision and sub.
    pub effects: Vec<Placed>,
    /// Bytes of its effects and of what they replaced, about.
    pub bytes: u64,
    /// Whether its records come with what they replaced.
    pub knows_previous: bool,
    /// Whether each shard freezes what it has applied up to here: a checkpoint covers that.
    pub freezes: bool,
    unapplied: AtomicU32,
}

impl Batch {
    /// A batch that `shards` have yet to apply. `all` are this member's shards.
    #[must_use]
    pub fn new(
        (index, term): (RaftIndex, Term),
        (before, last): (Revision, Revision),
        effects: Vec<Placed>,
        all: ShardSet,
    ) -> Batch {
        let mut shards = ShardSet::default();
        let mut compact = None;
        for placed in &effects {
            match placed.shard {
                Some(shard) => shards.insert(shard),
                None => shards = all,
            }
            if let Effect::Compact { at } = placed.effect {
                compact = Some(at);
            }
        }
        let unapplied = AtomicU32::new(shards.len());
        Batch {
            index,
            term,
            before,
            last,
            shards,
            compact,
            bytes: effects.iter().map(bytes_of).sum(),
            effects,
            knows_previous: true,
            freezes: false,
            unapplied,
        }
    }

    /// No entry of the log, but the place behind one at which a checkpoint begins.
    #[must_use]
    pub fn checkpoint(at: (RaftIndex, Term), revision: Revision) -> Batch {
        let nobody = ShardSet::default();
        Batch { freezes: true, ..Batch::new(at, (revision, revision), Vec::new(), nobody) }
    }

    /// As the log held it at the start: nobody has evaluated it here.
    #[must_use]
    pub fn replayed(self) -> Batch {
        Batch { knows_previous: false, ..self }
    }

    /// One shard has applied its part. True for the last one.
    pub fn applied_by_one(&self) -> bool {
        let left = self.unapplied.fetch_sub(1, Ordering::SeqCst);
        assert!(left > 0, "a shard applied batch {} twice", self.index);
        left == 1
    }

    /// Whether every shard it concerns has applied it.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.unapplied.load(Ordering::SeqCst) == 0
    }
}

fn bytes_of(placed: &Placed) -> u64 {
    let previous = placed.previous.as_ref().map_or(0, |previous| previous.log().len());
    (placed.effect.log_len() + previous) as u64
}
