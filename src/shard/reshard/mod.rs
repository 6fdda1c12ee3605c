//! shard::reshard — the trees of all shards, written anew for another number of them.
//! On no step of a write: the member is stopped. In: the old page files, all as of one entry of
//! the log, the owner of a key, completions. Out: operations of the old and of the new page files.
//! Owns: the new page files.
//! Invariants: (1) an entry goes to the shard that owns its key, its bytes as they are; (2) no
//!             superblock is written before the new trees' sums are those of the old ones; (3) the
//!             old files are read and not written; (4) memory does not depend on the store's size.
//! Limits: CHECKPOINT_SLICE_BYTES, PAGE_WRITES_IN_FLIGHT_MAX.
//! Must not: do I/O; know how keys find their shards; look at what an entry of `undo` replaced.
//! Tests: node/reshard/tests.rs, sim/world/reshards.rs.
//!
//! Tree by tree the old shards' entries are merged in key order, which for `undo` is the order of
//! changes, and dealt out. A new tree is a merge into an empty one, whose changes come as it needs
//! them:
//!
//! ```text
//! page file -> source \              / sink -> merge -> page file
//! page file -> source - least, owner -  sink -> merge -> page file
//!                                    \ sink -> merge -> page file
//! ```

mod failed;
mod sink;
mod source;

use bytes::Bytes;

use crate::base::limits::CHECKPOINT_SLICE_BYTES;
use crate::base::record::{Malformed, Record};
use crate::base::{RaftIndex, ShardId};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{DiskOp, FileId, Identity, PageFile, Roots, State};
use crate::shard::store::meta;
use crate::shard::tree::{Aggregate, Kind, lease_of, undo_place, undone_key};

pub use failed::Failed;

use sink::Sink;
use source::Source;

/// Which of two stores a page file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that is there.
    Old,
    /// The one that is written.
    New,
}

/// An operation of a page file of either store.
#[derive(Debug)]
pub struct Op {
    /// Of which store.
    pub side: Side,
    /// Of which of its shards.
    pub shard: ShardId,
    /// What to do.
    pub op: DiskOp,
}

/// Names the shard that owns a key.
pub type Owner = Box<dyn Fn(&[u8]) -> ShardId>;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Live keys.
    pub keys: u64,
    /// Changes that can be undone.
    pub changes: u64,
    /// Bytes of keys and values, before compression.
    pub bytes: u64,
}

/// The trees, in the order in which they are written.
const KINDS: [Kind; 4] = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];

/// What an entry costs beside its bytes, so that empty ones count.
const ENTRY_COST_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The tree of this number is written.
    Tree(usize),
    /// Superblocks are on their way.
    Sealed,
}

/// A rewriting under way.
pub struct Rewrite {
    owner: Owner,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    stage: Stage,
    /// The key dealt out last, of this tree.
    last: Option<Bytes>,
    state: State,
    written: Written,
    bytes_total: u64,
}

impl std::fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rewrite { stage, written, bytes_total, .. } = self;
        write!(f, "Rewrite({stage:?}, {written:?} of {bytes_total} B)")
    }
}

impl Rewrite {
    /// Begins to write what `files` hold into new files of these identities, each made with the
    /// space of its superblocks.
    ///
    /// # Errors
    /// [`Failed`]: the old files do not fit each other.
    pub fn new(
        files: Vec<PageFile>,
        new: impl Iterator<Item = Identity>,
        owner: Owner,
    ) -> Result<Rewrite, Failed> {
        let state = files.first().expect("a member has a shard").newest().state;
        let sources = files.into_iter().map(|file| Source::new(file, &state));
        let mut rewrite = Rewrite {
            owner,
            sources: sources.collect::<Result<_, _>>()?,
            sinks: new.map(Sink::new).collect(),
            stage: Stage::Tree(0),
            last: None,
            state,
            written: Written::default(),
            bytes_total: 0,
        };
        rewrite.bytes_total = KINDS.iter().map(|kind| rewrite.old_sum(*kind).bytes).sum();
        rewrite.begin_tree(KINDS[0]);
        Ok(rewrite)
    }

    /// A slice of the work. True if there is more of it now; else an operation has to end first.
    ///
    /// # Errors
    /// [`Failed`]: the new files come to nothing.
    pub fn work(&mut self, out: &mut Vec<Op>) -> Result<bool, Failed> {
        let Stage::Tree(at) = self.stage else { return Ok(false) };
        let kind = KINDS[at];
        let mut worked = self.deal(kind, out)?;
        for sink in &mut self.sinks {
            worked |= sink.step(out);
        }
        if self.sinks.iter().all(Sink::is_through) {
            self.end_tree(kind)?;
            match KINDS.get(at + 1) {
                Some(next) => {
                    self.stage = Stage::Tree(at + 1);
                    self.begin_tree(*next);
                }
                None => {
                    self.stage = Stage::Sealed;
                    self.sinks.iter_mut().for_each(|sink| sink.seal(self.state, out));
                }
            }
            return Ok(true);
        }
        Ok(worked)
    }

    /// Takes what a read of a page file brought.
    ///
    /// # Errors
    /// [`Failed`]: it failed, or the page is damaged.
    pub fn on_read(
        &mut self,
        shard: ShardId,
        token: Token,
        result: Result<Bytes, DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        self.sources[usize::from(shard.0)].on_read(token, result, out)
    }

    /// Takes the answer to any other operation.
    ///
    /// # Errors
    /// [`Failed`]: it failed.
    pub fn on_done(
        &mut self,
        shard: ShardId,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        self.sinks[usize::from(shard.0)].on_done(token, result, out)
    }

    /// Whether all of the new store is durable.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.sinks.iter().all(Sink::is_durable)
    }

    /// The last entry of the log that the store holds.
    #[must_use]
    pub fn applied(&self) -> RaftIndex {
        self.state.applied.index
    }

    /// What was dealt out so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    /// What [`Written::bytes`] comes to in the end.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    // --- within -----------------------------------------------------------------------------

    fn begin_tree(&mut self, kind: Kind) {
        self.last = None;
        self.sources.iter_mut().for_each(Source::begin_tree);
        self.sinks.iter_mut().for_each(|sink| sink.begin_tree(kind));
    }

    /// Deals out entries, least first, as far as all sources have one and all sinks have room.
    fn deal(&mut self, kind: Kind, out: &mut Vec<Op>) -> Result<bool, Failed> {
        let mut cost = 0;
        while cost < CHECKPOINT_SLICE_BYTES && self.sinks.iter().all(Sink::has_room) {
            for source in &mut self.sources {
                source.fill(kind, out)?;
            }
            // Of a source without an entry nobody knows whether it has the least one.
            if self.sources.iter().any(Source::is_waiting) {
                break;
            }
            let sources = self.sources.iter().enumerate();
            let next = sources.filter_map(|(at, source)| Some((source.next_key()?, at))).min();
            let Some((_, at)) = next else {
                self.sinks.iter_mut().for_each(Sink::end_feed);
                break;
            };
            cost += self.deal_one(kind, at)?;
        }
        Ok(cost > 0)
    }

    fn deal_one(&mut self, kind: Kind, from: usize) -> Result<usize, Failed> {
        let source = &mut self.sources[from];
        let file = source.file();
        let (key, value) = source.take().expect("a source that has an entry");
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Failed::Order { file, kind });
        }
        let owner = self.owner_of(kind, &key, &value);
        let (owner, bytes) = owner.map_err(|what| Failed::Entry { file, kind, what })?;
        self.last = Some(key.clone());
        self.written.bytes += bytes as u64;
        let cost = key.len() + value.len() + ENTRY_COST_BYTES;
        // A copy: what waits must not keep a page.
        self.sinks[usize::from(owner.0)].feed(key, Bytes::copy_from_slice(&value));
        Ok(cost)
    }

    /// The shard that an entry goes to, and what it counts as.
    fn owner_of(
        &self,
        kind: Kind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(ShardId, usize), Malformed> {
        Ok(match kind {
            Kind::Current => {
                let head = Record::head(value)?;
                ((self.owner)(key), if head.is_tombstone { 0 } else { head.kv_len })
            }
            Kind::Undo => {
                undo_place(key)?;
                ((self.owner)(undone_key(value)?), value.len())
            }
            Kind::Leased => {
                let (_, key) = lease_of(key)?;
                ((self.owner)(key.ok_or(Malformed("a lease without a key"))?), value.len())
            }
            // What is the member's own stands in the first shard.
            Kind::Meta => {
                meta::decode(key, value)?;
                (ShardId(0), value.len())
            }
        })
    }

    /// Compares what was written with what was there.
    fn end_tree(&mut self, kind: Kind) -> Result<(), Failed> {
        let sum = sum(self.sinks.iter().map(|sink| sink.sum(kind)));
        if sum != self.old_sum(kind) {
            return Err(Failed::Sums { kind });
        }
        match kind {
            Kind::Current => self.written.keys = sum.live,
            Kind::Undo => self.written.changes = sum.live,
            Kind::Leased | Kind::Meta => {}
        }
        Ok(())
    }

    fn old_sum(&self, kind: Kind) -> Aggregate {
        sum(self.sources.iter().map(|source| source.sum(kind)))
    }
}

fn sum(parts: impl Iterator<Item = Aggregate>) -> Aggregate {
    parts.fold(Aggregate::EMPTY, |mut sum, part| {
        sum.add(&part);
        sum
    })
}

/// Where the roots of a superblock keep one tree's.
fn root_of(roots: &mut Roots, kind: Kind) -> &mut Option<crate::shard::pages::Root> {
    match kind {
        Kind::Current => &mut roots.current,
        Kind::Undo => &mut roots.undo,
        Kind::Leased => &mut roots.leased,
        Kind::Meta => &mut roots.meta,
    }
}

/// Operations of one page file, as they leave here.
fn tagged(side: Side, file: FileId, ops: Vec<DiskOp>) -> impl Iterator<Item = Op> {
    ops.into_iter().map(move |op| Op { side, shard: file.0, op })
}
