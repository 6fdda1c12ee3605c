//! Checkpoints: the layer that is frozen goes into the trees, slice by slice.
//!
//! `current` first, in key order. What each change replaced comes along, and is kept until `undo`
//! takes it in revision order; then `leased` and `meta`. When the superblock with the new roots is
//! durable the layer is let go.

use std::sync::Arc;

use bytes::Bytes;

use super::adopt::Halt;
use super::gathered::Gathered;
use super::pace::Progress;
use super::{Frozen, MetaChanges, Store, Trees};
use crate::base::{RaftIndex, Revision, Tick};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::memtable::Memtable;
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{DiskOp, Done, Fault, Roots, State};
use crate::shard::tree::{self, Change, Kind, Merge};
use crate::shard::wal::ChainPoint;

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its roots are the newest.
    Durable {
        /// The log is needed only behind this entry, as far as this shard is concerned.
        index: RaftIndex,
        /// Versions that a compaction left unneeded and that are gone with it.
        forgotten: u64,
    },
    /// There was no space for a page. It begins anew with [`Store::retry_checkpoint`].
    NoSpace,
}

type Changes = Box<dyn Iterator<Item = Change>>;

#[derive(Debug)]
pub(super) struct Checkpoint {
    point: ChainPoint,
    stage: Stage,
    /// As far as it has come.
    trees: Trees,
    gathered: Gathered,
    cut: Revision,
    /// What `undo` and the layer held together.
    versions: u64,
    progress: Progress,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the file, or for another try.
    Due {
        is_held: bool,
    },
    Merging(Kind, Box<Merge<Changes>>),
    /// Between `current` and `undo`: makes deltas.
    Encoding,
    /// Its pages and its superblock are on their way.
    Sealed,
}

impl Checkpoint {
    /// Whether it waits for space on the disk.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Due { is_held: true })
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }
}

impl Store {
    /// Everything that was applied so far goes into the next checkpoint, and nothing that follows.
    pub fn freeze(&mut self, revision: Revision) {
        assert!(self.frozen.is_none(), "a layer was frozen behind another one");
        let active = std::mem::replace(&mut self.active, Memtable::new(self.settings.seed));
        self.frozen = Some(Frozen {
            table: Arc::new(active),
            meta: std::mem::take(&mut self.meta),
            revision,
            compact: self.floor,
        });
    }

    /// Merges what is frozen: it is the state as of this entry.
    pub fn begin_checkpoint(&mut self, point: ChainPoint) {
        assert!(self.frozen.is_some(), "a checkpoint began of nothing");
        assert!(self.checkpoint.is_none(), "a checkpoint began within another one");
        self.checkpoint = Some(Checkpoint {
            point,
            stage: Stage::Due { is_held: false },
            trees: self.trees,
            gathered: Gathered::none(),
            cut: self.cut,
            versions: 0,
            progress: Progress::default(),
        });
    }

    /// There may be space again for a checkpoint that found none.
    pub fn retry_checkpoint(&mut self) {
        if let Some(Checkpoint { stage: Stage::Due { is_held }, .. }) = &mut self.checkpoint {
            *is_held = false;
        }
    }

    /// Whether a checkpoint is under way, or due.
    #[must_use]
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// A slice of work that nobody waits for. True if there is more of it now.
    ///
    /// # Errors
    /// A page that is missing, or a fault that the member does not survive.
    pub fn work(&mut self, now: Tick, out: &mut Vec<DiskOp>) -> Result<bool, Halt> {
        self.scrub(now)?;
        self.file.tend(out);
        let mut more = self.adopt_step()?;
        more |= self.let_go();
        if self.file.is_clearing() {
            self.file.tend(out);
            more |= self.file.is_clearing();
        }
        if std::mem::take(&mut self.may_punch) {
            self.punch();
            self.file.tend(out);
        }
        let budget = self.slice_bytes();
        let Some(mut checkpoint) = self.checkpoint.take() else { return Ok(more) };
        let stepped = self.checkpoint_step(&mut checkpoint, budget);
        self.checkpoint = Some(checkpoint);
        self.file.tend(out);
        Ok(more | stepped?)
    }

    /// Gives free space within the file back, if more of it is free than the next checkpoint takes.
    fn punch(&mut self) {
        if !self.file.is_idle() {
            self.may_punch = true;
            return;
        }
        let used = self.file.used_units().unwrap_or(u64::MAX);
        if used < u64::from(self.file.file_units()) / 3 {
            self.file.punch();
        }
    }

    fn checkpoint_step(
        &mut self,
        checkpoint: &mut Checkpoint,
        budget: usize,
    ) -> Result<bool, Halt> {
        match &mut checkpoint.stage {
            Stage::Due { is_held } => {
                if *is_held || !self.file.is_idle() {
                    return Ok(false);
                }
                self.file.begin();
                checkpoint.trees = self.trees;
                checkpoint.cut = self.cut;
                let frozen = self.frozen.as_ref().expect("a checkpoint merges a layer");
                checkpoint.gathered = Gathered::new(&frozen.table, self.cut);
                checkpoint.progress = Progress::of_layer(&frozen.table);
                checkpoint.versions = undo_len(&self.trees) + frozen.table.version_count() as u64;
                self.merge_next(checkpoint, Kind::Current);
                Ok(true)
            }
            Stage::Merging(kind, merge) => {
                if !self.file.has_room() {
                    return Ok(false);
                }
                let Checkpoint { gathered, progress, .. } = checkpoint;
                let kind = *kind;
                let deltas = self.deltas.get_mut();
                let mut take = |change: &Change, old: Option<Bytes>| {
                    progress.count(kind);
                    match kind {
                        Kind::Current => gathered.take(change, old, deltas),
                        _ => change.value.clone(),
                    }
                };
                let step = merge.step(&mut self.file, &mut take, budget);
                if let Some(what) = checkpoint.gathered.take_wrong() {
                    return Err(self.damaged(Kind::Current, what).into());
                }
                match step.map_err(Stop::Damaged)? {
                    tree::Step::Paused => {}
                    tree::Step::Wanted(pages) => return Err(Stop::Wanted(pages).into()),
                    tree::Step::Done(root) => {
                        *checkpoint.trees.at(kind) = root;
                        match next_of(kind) {
                            Some(Kind::Undo) => checkpoint.stage = Stage::Encoding,
                            Some(next) => self.merge_next(checkpoint, next),
                            None => self.seal(checkpoint),
                        }
                    }
                }
                Ok(true)
            }
            Stage::Encoding => {
                let deltas = self.deltas.get_mut();
                if !checkpoint.gathered.encode(budget, deltas) {
                    self.merge_next(checkpoint, Kind::Undo);
                }
                Ok(true)
            }
            Stage::Sealed => Ok(false),
        }
    }

    fn merge_next(&mut self, checkpoint: &mut Checkpoint, kind: Kind) {
        let frozen = self.frozen.as_ref().expect("a checkpoint merges a layer");
        let gathered = &mut checkpoint.gathered;
        let changes: Changes = match kind {
            Kind::Current => Box::new(gathered.newest(&frozen.table)),
            Kind::Undo => Box::new(gathered.take_undo()),
            Kind::Leased => Box::new(changes_of(gathered.take_leased())),
            Kind::Meta => Box::new(changes_of(frozen.meta.clone())),
        };
        let merge = Merge::new(kind, self.root(kind), checkpoint.cut, changes);
        checkpoint.stage = Stage::Merging(kind, Box::new(merge));
    }

    fn seal(&mut self, checkpoint: &mut Checkpoint) {
        let frozen = self.frozen.as_ref().expect("a checkpoint merges a layer");
        let Trees { current, undo, leased, meta } = checkpoint.trees;
        let stored = |root: Option<tree::Root>| root.map(|root| root.stored());
        self.file.seal(State {
            applied: checkpoint.point,
            revision: frozen.revision,
            compact_revision: frozen.compact,
            roots: Roots {
                current: stored(current),
                undo: stored(undo),
                leased: stored(leased),
                meta: stored(meta),
            },
        });
        checkpoint.stage = Stage::Sealed;
    }

    /// Takes the answer to an operation of the page file that is no read.
    ///
    /// # Errors
    /// It failed: the member has to stop.
    pub fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<Option<Ended>, Fault> {
        let done = self.file.on_done(token, result, out)?;
        let ended = match done {
            Done::Worked => None,
            Done::Durable => {
                let checkpoint = self.checkpoint.take().expect("a checkpoint that ends is there");
                let frozen = self.frozen.take().expect("a checkpoint merges a layer");
                self.trees = checkpoint.trees;
                self.may_punch = true;
                self.scrub_anew();
                self.tree_revision = frozen.revision;
                self.going.extend(Arc::try_unwrap(frozen.table));
                let forgotten = checkpoint.versions.saturating_sub(undo_len(&self.trees));
                Some(Ended::Durable { index: checkpoint.point.index, forgotten })
            }
            Done::NoSpace => {
                let checkpoint = self.checkpoint.as_mut();
                checkpoint.expect("a checkpoint that ends is there").stage =
                    Stage::Due { is_held: true };
                Some(Ended::NoSpace)
            }
        };
        self.file.tend(out);
        Ok(ended)
    }
}

fn undo_len(trees: &Trees) -> u64 {
    trees.undo.map_or(0, |root| root.total.live)
}

/// The tree that is merged behind this one.
fn next_of(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Current => Some(Kind::Undo),
        Kind::Undo => Some(Kind::Leased),
        Kind::Leased => Some(Kind::Meta),
        Kind::Meta => None,
    }
}

impl Trees {
    fn at(&mut self, kind: Kind) -> &mut Option<tree::Root> {
        match kind {
            Kind::Current => &mut self.current,
            Kind::Undo => &mut self.undo,
            Kind::Leased => &mut self.leased,
            Kind::Meta => &mut self.meta,
        }
    }
}

fn changes_of(map: MetaChanges) -> impl Iterator<Item = Change> {
    map.into_iter().map(|(key, value)| Change { key, value })
}
