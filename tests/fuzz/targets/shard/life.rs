//! A shard's store over a page file in memory.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use ringbolt::base::block::BLOCK_BYTES;
use ringbolt::base::range::{KeyRange, RangeEnd};
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, RaftIndex, Revision, Sub, Term, Tick};
use ringbolt::node::{Boot, Whose};
use ringbolt::shard::disk::DiskFault;
use ringbolt::shard::mvcc::hash::HashOf;
use ringbolt::shard::mvcc::source::{AsOf, Source, Stop};
use ringbolt::shard::pages::{Action, DiskOp, Extent, FileId, PageMedium, Superblock};
use ringbolt::shard::store::{
    Ended, Halt, HashList, ScrubSettings, Settings, Store, StretchCursor,
};
use ringbolt::shard::wal::{ChainPoint, Layout, Medium, SegmentId};

use super::OURS;

/// Times that a call may lack a page before it counts as one that never ends.
const CALLS_MAX: usize = 2_000;
/// Keys and changes that a read looks at.
const VISITS_MAX: usize = 300;

/// No segment at all.
struct NoLog;

impl Medium for NoLog {
    fn settle(&self) -> Result<(), DiskFault> {
        Ok(())
    }

    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault> {
        Ok(Vec::new())
    }

    fn read(&self, _: SegmentId, _: u64, _: usize) -> Result<Vec<u8>, DiskFault> {
        Err(DiskFault::Short)
    }
}

/// The page file.
struct Bytewise(Vec<u8>);

impl Bytewise {
    fn part(&self, extent: Extent) -> &[u8] {
        let place = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(self.0.len());
        &self.0[place(extent.offset())..place(extent.offset() + extent.bytes())]
    }
}

impl PageMedium for Bytewise {
    fn settle(&self, _: FileId) -> Result<u64, DiskFault> {
        Ok(self.0.len() as u64)
    }

    fn read(&self, _: FileId, extent: Extent) -> Result<Vec<u8>, DiskFault> {
        Ok(self.part(extent).to_vec())
    }
}

/// The shard.
pub struct Shard {
    pub store: Store,
    file: Bytewise,
    ops: Vec<DiskOp>,
    revision: Revision,
    index: u64,
    clock_ms: u64,
    /// Something was damaged, and told.
    is_damaged: bool,
    /// The member would have stopped.
    is_stopped: bool,
}

impl Shard {
    /// A shard over a new file.
    pub fn empty() -> Shard {
        let file = vec![0; 4 * BLOCK_BYTES];
        Shard::over(Superblock::fresh(OURS), file, BTreeSet::new()).expect("an empty superblock")
    }

    /// A shard over a file, as a member starts it. `None`: it refuses to.
    pub fn start(file: Vec<u8>) -> Option<Shard> {
        let whose = Whose {
            data_dir: OURS.data_dir,
            cluster: OURS.cluster,
            member: OURS.member,
            shards: OURS.shards,
            hash_seed: OURS.hash_seed,
            is_used: false,
        };
        let medium = Bytewise(file);
        let boot = match Boot::recover(&NoLog, &medium, &whose, Layout::new(1, 1)) {
            Ok(boot) => boot,
            Err(refused) => {
                assert!(refused.to_string().len() > 20);
                return None;
            }
        };
        let start = &boot.starts[0];
        assert!(boot.leases().all(|(id, ttl_s)| id != LeaseId::NONE && ttl_s > 0));
        let leases = start.leases().collect();
        Shard::over(start.superblock, medium.0, leases)
    }

    fn over(superblock: Superblock, file: Vec<u8>, leases: BTreeSet<LeaseId>) -> Option<Shard> {
        let scrub = ScrubSettings { rest_ms: Some(1), bytes_per_s: 1 << 40 };
        let settings = Settings {
            cache_bytes: 1 << 20,
            memtable_bytes: 1 << 20,
            checkpoint_behind: (u64::MAX, u64::MAX),
            seed: 3,
            scrub,
        };
        let store = Store::open(superblock, file.len() as u64, leases, settings).ok()?;
        let state = superblock.state;
        Some(Shard {
            store,
            file: Bytewise(file),
            ops: Vec::new(),
            revision: state.revision,
            index: state.applied.index.0,
            clock_ms: 0,
            is_damaged: false,
            is_stopped: false,
        })
    }

    /// Whether nothing was found to be damaged.
    pub fn is_whole(&self) -> bool {
        !self.is_damaged && !self.is_stopped
    }

    /// The file's bytes.
    pub fn into_file(self) -> Vec<u8> {
        self.file.0
    }

    /// Takes a change.
    pub fn apply(&mut self, record: Record) {
        self.store.apply(Arc::new(record));
    }

    /// The newest version of a key, if all is well.
    pub fn newest(&mut self, key: &[u8]) -> Option<Arc<Record>> {
        self.call(|store| store.newest(key)).flatten()
    }

    /// Calls until nothing is missing. `None`: something is damaged.
    fn call<T>(&mut self, mut call: impl FnMut(&Store) -> Result<T, Stop>) -> Option<T> {
        for _ in 0..CALLS_MAX {
            if self.is_stopped {
                return None;
            }
            match call(&self.store) {
                Ok(found) => return Some(found),
                Err(stop) => self.stop(stop)?,
            }
        }
        panic!("a call that never ends");
    }

    /// Brings what is missing.
    fn stop(&mut self, stop: Stop) -> Option<()> {
        match stop {
            Stop::Wanted(pages) => {
                assert!(!pages.is_empty(), "nothing is wanted");
                self.store.wish(&pages, &mut self.ops);
                while let Some(at) = self.ops.iter().position(is_read) {
                    self.finish(at);
                }
                Some(())
            }
            Stop::Damaged(damaged) => {
                assert!(damaged.to_string().contains("is damaged: "));
                self.is_damaged = true;
                None
            }
        }
    }

    fn finish(&mut self, at: usize) {
        let DiskOp { token, action } = self.ops.swap_remove(at);
        if let Action::Read { extent } = &action {
            let bytes = Bytes::copy_from_slice(self.file.part(*extent));
            self.is_stopped |= self.store.on_read(token, Ok(bytes), &mut self.ops).is_err();
            return;
        }
        match action {
            Action::Write { unit, blocks } => {
                let start = unit as usize * BLOCK_BYTES;
                let file = &mut self.file.0;
                file.resize(file.len().max(start + blocks.padded_len()), 0);
                for (place, block) in blocks.iter().enumerate() {
                    file[start + place * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(block);
                }
            }
            Action::Cut { units } => self.file.0.truncate(units as usize * BLOCK_BYTES),
            Action::Read { .. } | Action::Sync | Action::Punch { .. } => {}
        }
        match self.store.on_done(token, Ok(()), &mut self.ops) {
            Ok(None | Some(Ended::Durable { .. })) => {}
            Ok(Some(Ended::NoSpace)) => panic!("there was space"),
            Err(fault) => {
                assert!(!fault.to_string().is_empty());
                self.is_stopped = true;
            }
        }
    }

    // --- reads ------------------------------------------------------------------------------

    /// Asks for everything that a node asks for.
    pub fn read_all(&mut self) {
        let all = KeyRange::all();
        let compact = self.store.compact_revision().max(Revision(0));
        let newest = self.revision;
        // A node refuses what lies outside.
        let middle = Revision(compact.0 / 2 + newest.0 / 2);
        let old =
            [compact, middle, newest].into_iter().filter(|at| (compact..=newest).contains(at));
        let old: Vec<Revision> = old.collect();
        let as_of = old.iter().map(|at| AsOf::At(*at)).chain([AsOf::Newest]);
        for as_of in as_of.collect::<Vec<_>>() {
            self.walk(&all, as_of);
        }
        let some = KeyRange { start: key("key-1"), end: RangeEnd::Before(key("key-4")) };
        for range in [&all, &some, &KeyRange::single(key("key-2"))] {
            self.call(|store| store.count_newest(range));
            for at in &old {
                self.call(|store| store.count(range, *at));
                let as_of = AsOf::At(*at);
                self.call(|store| Ok(store.counts_slower_than_walking(range, as_of)));
                self.catch_up(range, *at, newest);
            }
        }
        for number in 0..3 {
            let key = key(&format!("key-{number}"));
            self.newest(&key);
            for at in &old {
                self.call(|store| store.at(&key, *at));
            }
        }
        for lease in [0, 1, 2].map(LeaseId) {
            self.call(|store| store.keys_of(lease));
            self.call(|store| store.keys_of_at(lease, compact));
        }
        self.hash(compact);
        self.work();
    }

    fn walk(&mut self, range: &KeyRange, as_of: AsOf) {
        let mut after: Option<Vec<u8>> = None;
        let mut left = VISITS_MAX;
        self.call(|store| {
            let from = after.clone();
            store.walk(range, from.as_deref(), as_of, &mut |key, record| {
                if let Some(record) = record {
                    super::super::entry::use_record(record);
                }
                after = Some(key.to_vec());
                left = left.saturating_sub(1);
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
    }

    fn catch_up(&mut self, range: &KeyRange, after: Revision, upto: Revision) {
        let mut after = after;
        for _ in 0..5 {
            let mut cursor = StretchCursor::new(range.clone(), after, upto, 2_000);
            let stretch = loop {
                match self.call(|store| cursor.step(store)) {
                    None => return,
                    Some(None) => {}
                    Some(Some(stretch)) => break stretch,
                }
            };
            assert!(stretch.reached >= after && stretch.reached <= upto.max(after));
            if stretch.reached >= upto || stretch.reached == after {
                return;
            }
            after = stretch.reached;
        }
    }

    fn hash(&mut self, compact: Revision) {
        for any_live in [true, false] {
            let mut list = HashList::new(HashOf { revision: self.revision, compact, any_live });
            for _ in 0..VISITS_MAX {
                if self.call(|store| list.step(store, 20)).unwrap_or(true) {
                    break;
                }
            }
            if self.is_whole() {
                assert!(list.finish().len() < 10_000);
            }
        }
    }

    // --- work -------------------------------------------------------------------------------

    /// Carries on in the background until there is nothing to do.
    fn work(&mut self) {
        for _ in 0..CALLS_MAX {
            self.clock_ms += 1;
            let worked = self.store.work(Tick(0).plus_ms(self.clock_ms), &mut self.ops);
            let is_busy = match worked {
                Ok(more) => more,
                Err(Halt::Stop(stop)) => self.stop(stop).is_some(),
                Err(Halt::Fault(fault)) => {
                    assert!(!fault.to_string().is_empty());
                    self.is_stopped = true;
                    false
                }
            };
            let was_pending = !self.ops.is_empty();
            while !self.ops.is_empty() && !self.is_stopped {
                self.finish(0);
            }
            if self.is_stopped || self.is_damaged || !(is_busy || was_pending) {
                return;
            }
        }
        assert!(!self.store.has_checkpoint(), "a checkpoint that never ends");
    }

    /// A checkpoint of what was applied.
    pub fn checkpoint_at(&mut self, revision: Revision) {
        self.revision = revision;
        self.index += 1;
        let point = ChainPoint {
            index: RaftIndex(self.index),
            term: Term(2),
            checksum: 4,
            sequence: self.index,
        };
        self.store.freeze(revision);
        self.store.begin_checkpoint(point);
        self.work();
    }

    /// Writes to some keys, as far as they can be read, and makes a checkpoint of it.
    pub fn checkpoint(&mut self) {
        // Nothing is written to a store that stands at the last revision or below the first.
        if !(1..i64::MAX - 10).contains(&self.revision.0) || self.index > u64::MAX / 2 {
            return;
        }
        let mut revision = self.revision;
        for number in 0..5 {
            let key = key(&format!("key-{number}"));
            let Some(old) = self.call(|store| store.newest(&key)) else { return };
            revision = revision.next();
            let is_put = old.is_none() || number % 2 == 0;
            let (create, version) =
                old.map_or((revision, 1), |old| (old.create, old.version.saturating_add(1)));
            let record = match is_put {
                false => Record::tombstone(&key, revision, Sub(0)),
                true => Record::put(PutFields {
                    key: &key,
                    value: &[7; 200],
                    revision,
                    sub: Sub(0),
                    create,
                    version,
                    lease: LeaseId(number % 3),
                }),
            };
            self.apply(record);
        }
        self.store.grant(LeaseId(9), 30);
        self.checkpoint_at(revision);
    }
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn is_read(op: &DiskOp) -> bool {
    matches!(op.action, Action::Read { .. })
}
