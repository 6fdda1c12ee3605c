//! node::reshard — a stopped member's store, written anew for another number of shards.
//! On no step of a write: no member runs. In: what a start begins with, what operations of page
//! files brought. Out: operations of page files, how far it has come.
//! Owns: the old shards' state as a start would make it, and what is written from it.
//! Invariants: (1) the old store only changes as a start would change it: by a checkpoint of what
//!             the log holds; (2) the new store is as of the entry that the old one is of then, so
//!             that the same log goes on behind it; (3) nothing is decided here: both stores stand
//!             side by side when it is done.
//! Limits: CHECKPOINT_SLICE_BYTES, RESHARD_CACHE_BYTES.
//! Must not: do I/O; write to the log; begin a term.
//! Tests: node/reshard/tests.rs, sim/world/reshards.rs, tests/reshard.rs.

mod settle;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Boot, Input, Whose};
use crate::base::{RaftIndex, ShardId};
use crate::router::Router;
use crate::shard::pages::Identity;
use crate::shard::reshard::Rewrite;
use crate::shard::store::{ScrubSettings, Settings};

pub use crate::shard::reshard::{Failed, Op, Side, Written};

use settle::Settle;
pub use settle::log_end;

/// What each old shard may take of memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes of its pages.
    pub cache_bytes: usize,
    /// Bytes of changes that the log holds and its pages do not.
    pub memtable_bytes: u64,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of keys and values written, before compression.
    pub bytes: u64,
    /// What they come to; `None` while the log's end is applied.
    pub bytes_total: Option<u64>,
}

/// A store on its way to another number of shards.
#[derive(Debug)]
pub struct Reshard {
    /// The log's end goes into the old store's pages.
    settle: Option<Settle>,
    /// They are written for the new shards.
    rewrite: Option<Rewrite>,
    whose: Whose,
    shards: u16,
    in_flight: usize,
}

impl Reshard {
    /// Begins with what a start of this member begins with. The new page files are made already.
    ///
    /// # Errors
    /// [`Failed`]: the log or a page file is none of this member's format.
    pub fn new(boot: Boot, whose: Whose, shards: u16, memory: Memory) -> Result<Reshard, Failed> {
        let Memory { cache_bytes, memtable_bytes } = memory;
        let settings = Settings {
            cache_bytes,
            memtable_bytes,
            checkpoint_behind: (u64::MAX, u64::MAX),
            seed: whose.hash_seed,
            scrub: ScrubSettings { rest_ms: None, bytes_per_s: 1 },
        };
        let router = Router::new(whose.hash_seed, whose.shards);
        let settle = Some(Settle::new(boot, whose.member, router, settings)?);
        Ok(Reshard { settle, rewrite: None, whose, shards, in_flight: 0 })
    }

    /// Takes all input and does a slice of what there is to do. True if there is more of it now;
    /// else it is done, or an operation has to end first.
    ///
    /// # Errors
    /// [`Failed`] ends it. The old store stands.
    pub fn step(
        &mut self,
        inputs: &mut VecDeque<(Side, Input)>,
        out: &mut Vec<Op>,
    ) -> Result<bool, Failed> {
        let before = out.len();
        while let Some((side, input)) = inputs.pop_front() {
            self.in_flight -= 1;
            self.input(side, input, out)?;
        }
        let more = self.work(out)?;
        self.in_flight += out.len() - before;
        assert!(more || self.in_flight > 0 || self.is_done(), "a reshard that waits for nothing");
        Ok(more)
    }

    /// Whether the new page files are durable and hold the store.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rewrite.as_ref().is_some_and(Rewrite::is_done)
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let rewrite = self.rewrite.as_ref();
        Progress { bytes: self.written().bytes, bytes_total: rewrite.map(Rewrite::bytes_total) }
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.rewrite.as_ref().map(Rewrite::written).unwrap_or_default()
    }

    /// The last entry of the log that the old store holds.
    #[must_use]
    pub fn applied(&self) -> RaftIndex {
        match (&self.settle, &self.rewrite) {
            (Some(settle), _) => settle.applied(),
            (None, Some(rewrite)) => rewrite.applied(),
            (None, None) => unreachable!("one follows the other"),
        }
    }

    fn work(&mut self, out: &mut Vec<Op>) -> Result<bool, Failed> {
        if let Some(settle) = &mut self.settle {
            if settle.work(out)? {
                return Ok(true);
            }
            if !settle.is_settled() {
                return Ok(false);
            }
        }
        if let Some(settle) = self.settle.take() {
            let router = Router::new(self.whose.hash_seed, self.shards);
            let owner = Box::new(move |key: &[u8]| router.shard_of(key));
            self.rewrite = Some(Rewrite::new(settle.into_files(), self.identities(), owner)?);
        }
        self.rewrite.as_mut().expect("what follows the first part").work(out)
    }

    fn identities(&self) -> impl Iterator<Item = Identity> + use<> {
        let (Whose { data_dir, cluster, member, hash_seed, .. }, shards) =
            (self.whose, self.shards);
        let shard = (0..shards).map(ShardId);
        shard.map(move |shard| Identity { data_dir, cluster, member, shard, shards, hash_seed })
    }

    fn input(&mut self, side: Side, input: Input, out: &mut Vec<Op>) -> Result<(), Failed> {
        match (side, input) {
            (Side::Old, Input::PageRead(shard, token, result)) => match &mut self.settle {
                Some(settle) => settle.on_read(shard, token, result, out),
                None => self.rewriting().on_read(shard, token, result, out),
            },
            (Side::Old, Input::PageDone(shard, token, result)) => {
                let settle = self.settle.as_mut();
                settle
                    .expect("the old files are not written later")
                    .on_done(shard, token, result, out)
            }
            (Side::New, Input::PageDone(shard, token, result)) => {
                self.rewriting().on_done(shard, token, result, out)
            }
            (side, other) => unreachable!("{other:?} of {side:?} was not asked for"),
        }
    }

    fn rewriting(&mut self) -> &mut Rewrite {
        self.rewrite.as_mut().expect("operations belong to a part that has begun")
    }
}
