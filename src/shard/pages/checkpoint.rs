//! A checkpoint on its way to disk.
//!
//! ```text
//!   idle -> pages -> draining -> sync -> superblock -> sync -> clearing -> trimming -> idle
//!             \_______/  no space: abandoning ------------------^
//! ```
//!
//! Pages go to places that no durable superblock names, so until the superblock's own sync is
//! done nothing has happened: a crash brings back the checkpoint before. What only that one
//! names is freed afterwards.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::block::Blocks;
use crate::base::limits::{
    PAGE_QUEUE_BYTES_MAX, PAGE_TRIMS_IN_FLIGHT_MAX, PAGE_WRITES_IN_FLIGHT_MAX,
};
use crate::shard::disk::{DiskFault, Token, Tokens};

use super::disk::{Action, DiskOp};
use super::extent::{Extent, PageRef};
use super::superblock::Superblock;

/// How far a checkpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    /// Takes pages.
    Pages,
    /// Has all its pages; some are being written.
    Draining,
    SyncingPages,
    WritingSuperblock,
    SyncingSuperblock,
    /// There was no space for a page: waits for the writes in flight to end.
    Abandoning,
    /// What it gave up becomes free, slice by slice.
    Clearing,
    /// Gives space back to the filesystem.
    Trimming,
}

/// What an operation in flight does.
#[derive(Debug)]
enum Work {
    Page(PageRef),
    Sync,
    Superblock,
    Trim(Extent),
}

/// What became of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Worked,
    /// This page can be read from the disk from now on.
    Written(PageRef, Bytes),
    Durable(Box<Superblock>),
    /// Nothing of the abandoned checkpoint is in flight any more.
    Abandoned,
}

/// What failed: as a noun, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) what: &'static str,
    pub(super) at: Option<Extent>,
    pub(super) cause: DiskFault,
}

#[derive(Debug)]
pub(super) struct Checkpoint {
    stage: Stage,
    queue: VecDeque<(PageRef, Blocks)>,
    queued_bytes: usize,
    /// Pages that are not on the disk yet, expanded, by their first unit.
    unwritten: BTreeMap<u32, (PageRef, Bytes)>,
    in_flight: BTreeMap<Token, Work>,
    next: Option<Box<Superblock>>,
    trims: VecDeque<Action>,
}

impl Checkpoint {
    pub(super) fn new() -> Checkpoint {
        Checkpoint {
            stage: Stage::Idle,
            queue: VecDeque::new(),
            queued_bytes: 0,
            unwritten: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next: None,
            trims: VecDeque::new(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn begin(&mut self) {
        assert_eq!(self.stage, Stage::Idle, "a checkpoint began within another one");
        self.stage = Stage::Pages;
    }

    /// Whether more pages may come before some of those that wait are written.
    pub(super) fn has_room(&self) -> bool {
        self.queued_bytes < PAGE_QUEUE_BYTES_MAX
    }

    pub(super) fn put(&mut self, at: PageRef, logical: Bytes, blocks: Blocks) {
        self.unwritten.insert(at.unit, (at, logical));
        if self.stage == Stage::Abandoning {
            return;
        }
        assert_eq!(self.stage, Stage::Pages, "a page was written outside a checkpoint");
        self.queued_bytes += blocks.padded_len();
        self.queue.push_back((at, blocks));
    }

    /// A page that no read of the disk would bring yet.
    pub(super) fn unwritten(&self, at: PageRef) -> Option<Bytes> {
        let (there, bytes) = self.unwritten.get(&at.unit)?;
        (*there == at).then(|| bytes.clone())
    }

    /// No more pages come: `next` is written when all of them are durable.
    pub(super) fn seal(&mut self, next: Superblock) {
        if self.stage != Stage::Abandoning {
            assert_eq!(self.stage, Stage::Pages, "a checkpoint was sealed that is not under way");
            self.next = Some(Box::new(next));
            self.stage = Stage::Draining;
        }
    }

    /// Everything that was given up is free: gives space back, then the checkpoint is over.
    pub(super) fn trim(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.trims.extend(actions);
        self.stage = if self.trims.is_empty() { Stage::Idle } else { Stage::Trimming };
    }

    /// Starts what may start.
    pub(super) fn tend(&mut self, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        match self.stage {
            Stage::Pages => self.start_writes(tokens, out),
            Stage::Draining => {
                self.start_writes(tokens, out);
                if self.in_flight.is_empty() {
                    self.stage = Stage::SyncingPages;
                    self.start(Work::Sync, Action::Sync, tokens, out);
                }
            }
            Stage::Trimming => {
                while self.in_flight.len() < PAGE_TRIMS_IN_FLIGHT_MAX {
                    let Some(action) = self.trims.pop_front() else { return };
                    let at = match &action {
                        Action::Cut { units } => Extent { unit: *units, units: 0 },
                        Action::Punch { extent } => *extent,
                        other => panic!("{other:?} gives no space back"),
                    };
                    self.start(Work::Trim(at), action, tokens, out);
                }
            }
            _ => {}
        }
    }

    fn start_writes(&mut self, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        while self.in_flight.len() < PAGE_WRITES_IN_FLIGHT_MAX {
            let Some((at, blocks)) = self.queue.pop_front() else { return };
            self.queued_bytes -= blocks.padded_len();
            let action = Action::Write { unit: at.unit, blocks };
            self.start(Work::Page(at), action, tokens, out);
        }
    }

    fn start(&mut self, work: Work, action: Action, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        let token = tokens.take();
        self.in_flight.insert(token, work);
        out.push(DiskOp { token, action });
    }

    /// Takes the answer to an operation. `None`: the token is not of this checkpoint.
    pub(super) fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        tokens: &mut Tokens,
        out: &mut Vec<DiskOp>,
    ) -> Option<Result<Ended, Failed>> {
        let work = self.in_flight.remove(&token)?;
        if let Err(cause) = result {
            let (what, at) = match work {
                Work::Page(_) if cause == DiskFault::NoSpace => return Some(Ok(self.abandon())),
                Work::Page(at) => ("write of a page", Some(at.extent())),
                Work::Sync => ("sync", None),
                Work::Superblock => ("write of a superblock", None),
                Work::Trim(at) => ("return of free space", Some(at)),
            };
            return Some(Err(Failed { what, at, cause }));
        }
        let ended = match work {
            Work::Page(_) if self.stage == Stage::Abandoning => self.abandon(),
            Work::Page(at) => {
                let (_, bytes) = self.unwritten.remove(&at.unit).expect("a page in flight");
                Ended::Written(at, bytes)
            }
            Work::Sync if self.stage == Stage::SyncingPages => {
                let next = self.next.as_ref().expect("a sealed checkpoint has a superblock");
                let action = Action::Write { unit: next.unit(), blocks: next.blocks() };
                self.stage = Stage::WritingSuperblock;
                self.start(Work::Superblock, action, tokens, out);
                Ended::Worked
            }
            Work::Superblock => {
                self.stage = Stage::SyncingSuperblock;
                self.start(Work::Sync, Action::Sync, tokens, out);
                Ended::Worked
            }
            Work::Sync => {
                self.stage = Stage::Clearing;
                let next = self.next.take();
                Ended::Durable(next.expect("a sealed checkpoint has a superblock"))
            }
            Work::Trim(_) => {
                if self.trims.is_empty() && self.in_flight.is_empty() {
                    self.stage = Stage::Idle;
                }
                Ended::Worked
            }
        };
        Some(Ok(ended))
    }

    fn abandon(&mut self) -> Ended {
        self.stage = Stage::Abandoning;
        self.queue.clear();
        self.queued_bytes = 0;
        self.next = None;
        if !self.in_flight.is_empty() {
            return Ended::Worked;
        }
        self.unwritten.clear();
        self.stage = Stage::Clearing;
        Ended::Abandoned
    }
}
