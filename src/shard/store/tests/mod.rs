//! A store whose page file lies in memory, for tests of everything that reads one.

mod adopt;
mod chains;
mod hostile;

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Halt, ScrubSettings, Settings, Store};
use crate::base::prng::Prng;
use crate::base::{RaftIndex, ShardId, Term, Tick};
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{Action, DiskOp, Identity, PageRef, Superblock, UNIT_BYTES};
use crate::shard::wal::ChainPoint;

/// A store, its file's bytes and the operations under way.
#[derive(Debug)]
pub(in crate::shard) struct Paged {
    pub(in crate::shard) store: Store,
    file: Vec<u8>,
    pending: Vec<DiskOp>,
    index: u64,
}

impl Paged {
    /// An empty one with a cache of so many bytes.
    pub(in crate::shard) fn new(seed: u64, cache_bytes: usize) -> Paged {
        let identity = Identity {
            data_dir: 5,
            cluster: 6,
            member: 7,
            shard: ShardId(0),
            shards: 1,
            hash_seed: seed,
        };
        let scrub = ScrubSettings { rest_ms: None, bytes_per_s: 1 };
        let settings = Settings {
            cache_bytes,
            memtable_bytes: 1 << 30,
            checkpoint_behind: (u64::MAX, u64::MAX),
            seed,
            scrub,
        };
        let store = Store::open(Superblock::fresh(identity), 16 << 10, BTreeSet::new(), settings);
        let store = store.expect("an empty superblock");
        Paged { store, file: vec![0; 16 << 10], pending: Vec::new(), index: 0 }
    }

    /// Reads until nothing is missing.
    pub(in crate::shard) fn read<T>(
        &mut self,
        mut read: impl FnMut(&Store) -> Result<T, Stop>,
    ) -> T {
        for _ in 0..10_000 {
            match read(&self.store) {
                Ok(found) => return found,
                Err(stop) => self.bring(stop),
            }
        }
        panic!("a read that never ends");
    }

    /// Brings what a read lacks.
    pub(in crate::shard) fn bring(&mut self, stop: Stop) {
        let Stop::Wanted(pages) = stop else { panic!("{stop:?}") };
        self.wish(&pages);
        while self.pending.iter().any(is_read) {
            let at = self.pending.iter().position(is_read).expect("a read under way");
            self.finish(at);
        }
    }

    fn wish(&mut self, pages: &[PageRef]) {
        self.store.wish(pages, &mut self.pending);
    }

    /// Freezes what was applied up to a revision, if no checkpoint is under way.
    pub(in crate::shard) fn begin(&mut self, revision: crate::base::Revision) {
        if !self.store.has_checkpoint() {
            self.index += 1;
            self.store.freeze(revision);
            self.store.begin_checkpoint(ChainPoint {
                index: RaftIndex(self.index),
                term: Term(1),
                checksum: 0,
                sequence: self.index,
            });
        }
    }

    /// A slice of the checkpoint, or an operation that ends. False when nothing is left to do.
    pub(in crate::shard) fn work(&mut self, prng: &mut Prng) -> bool {
        if !self.pending.is_empty() && prng.percent(50) {
            let at = prng.below(self.pending.len() as u64) as usize;
            self.finish(at);
            return true;
        }
        match self.store.work(Tick(0), &mut self.pending) {
            Ok(more) => more || !self.pending.is_empty(),
            Err(Halt::Stop(stop)) => {
                self.bring(stop);
                true
            }
            Err(Halt::Fault(fault)) => panic!("{fault}"),
        }
    }

    /// A whole checkpoint.
    pub(in crate::shard) fn checkpoint(&mut self, revision: crate::base::Revision) {
        let mut prng = Prng::new(1);
        self.begin(revision);
        while self.work(&mut prng) {}
        assert!(!self.store.has_checkpoint(), "a checkpoint that never ends");
    }

    fn finish(&mut self, at: usize) {
        let DiskOp { token, action } = self.pending.swap_remove(at);
        let unit = usize::try_from(UNIT_BYTES).expect("a small unit");
        let read = match action {
            Action::Read { extent } => {
                let start = extent.unit as usize * unit;
                let end = (start + extent.units as usize * unit).min(self.file.len());
                Some(Bytes::copy_from_slice(&self.file[start.min(end)..end]))
            }
            Action::Write { unit: first, blocks } => {
                let start = first as usize * unit;
                let len = self.file.len().max(start + blocks.padded_len());
                self.file.resize(len, 0);
                for (place, block) in blocks.iter().enumerate() {
                    let at = start + place * unit;
                    self.file[at..at + unit].copy_from_slice(block);
                }
                None
            }
            Action::Sync => None,
            Action::Cut { units } => {
                self.file.truncate(units as usize * unit);
                None
            }
            Action::Punch { extent } => {
                let start = extent.unit as usize * unit;
                self.file[start..start + extent.units as usize * unit].fill(0);
                None
            }
        };
        match read {
            Some(bytes) => {
                let read = self.store.on_read(token, Ok(bytes), &mut self.pending);
                read.map(drop).unwrap_or_else(|fault| panic!("{fault}"));
            }
            None => {
                let done = self.store.on_done(token, Ok(()), &mut self.pending);
                done.map(drop).unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
    }
}

fn is_read(op: &DiskOp) -> bool {
    matches!(op.action, Action::Read { .. })
}
