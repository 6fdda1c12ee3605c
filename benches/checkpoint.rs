//! What a checkpoint costs per change, compression and checksums included: the page file lies in
//! memory.
//!
//! `cargo bench --bench checkpoint [KEYS [CHANGES [VALUE_BYTES]]]`; values like those of a lease.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringbolt::base::prng::Prng;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, RaftIndex, Revision, ShardId, Sub, Term, Tick};
use ringbolt::shard::mvcc::source::Stop;
use ringbolt::shard::pages::{Action, DiskOp, Identity, Superblock, UNIT_BYTES};
use ringbolt::shard::store::{Halt, ScrubSettings, Settings, Store};
use ringbolt::shard::wal::ChainPoint;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Shard {
    store: Store,
    file: Vec<u8>,
    ops: Vec<DiskOp>,
    revision: i64,
    versions: Vec<i64>,
    prng: Prng,
    written: u64,
    slices: Vec<Duration>,
}

impl Shard {
    fn new(keys: usize) -> Shard {
        let identity = Identity {
            data_dir: 1,
            cluster: 2,
            member: 3,
            shard: ShardId(0),
            shards: 1,
            hash_seed: 4,
        };
        let scrub = ScrubSettings { rest_ms: None, bytes_per_s: 1 };
        let settings = Settings {
            cache_bytes: 1 << 30,
            memtable_bytes: 4 << 30,
            checkpoint_behind: (u64::MAX, u64::MAX),
            seed: 5,
            scrub,
        };
        let store = Store::open(Superblock::fresh(identity), 16 << 10, BTreeSet::new(), settings);
        Shard {
            store: store.expect("an empty file"),
            file: vec![0; 16 << 10],
            ops: Vec::new(),
            revision: 1,
            versions: vec![0; keys],
            prng: Prng::new(6),
            written: 0,
            slices: Vec::new(),
        }
    }

    fn put(&mut self, number: usize, bytes: usize) {
        self.revision += 1;
        self.versions[number] += 1;
        let mut value = Vec::with_capacity(bytes);
        while value.len() < bytes {
            let noise = self.prng.next_u64();
            let line = format!("{{\"name\":\"node-{number}\",\"holderIdentity\":\"{noise:016x}\",");
            value.extend_from_slice(line.as_bytes());
            value.extend_from_slice(b"\"leaseDurationSeconds\":40,\"kind\":\"Lease\"},");
        }
        value.truncate(bytes);
        let key = format!("/registry/leases/kube-node-lease/node-{number:09}");
        self.store.apply(Arc::new(Record::put(PutFields {
            key: key.as_bytes(),
            value: &value,
            revision: Revision(self.revision),
            sub: Sub(0),
            create: Revision(2),
            version: self.versions[number],
            lease: LeaseId::NONE,
        })));
    }

    fn checkpoint(&mut self) {
        self.store.freeze(Revision(self.revision));
        let index = RaftIndex(self.revision.unsigned_abs());
        let sequence = index.0;
        self.store.begin_checkpoint(ChainPoint { index, term: Term(1), checksum: 0, sequence });
        while self.store.has_checkpoint() {
            let begun = Instant::now();
            match self.store.work(Tick(0), &mut self.ops) {
                Ok(_) => {}
                Err(Halt::Stop(Stop::Wanted(pages))) => {
                    self.store.wish(&pages, &mut self.ops);
                }
                Err(other) => panic!("{other:?}"),
            }
            self.slices.push(begun.elapsed());
            while let Some(op) = self.ops.pop() {
                self.finish(op);
            }
        }
    }

    fn finish(&mut self, DiskOp { token, action }: DiskOp) {
        let unit = UNIT_BYTES as usize;
        match action {
            Action::Read { extent } => {
                let start = extent.unit as usize * unit;
                let bytes = &self.file[start..start + extent.units as usize * unit];
                let read =
                    self.store.on_read(token, Ok(Bytes::copy_from_slice(bytes)), &mut self.ops);
                read.expect("an intact page");
                return;
            }
            Action::Write { unit: first, blocks } => {
                self.written += blocks.padded_len() as u64;
                let start = first as usize * unit;
                let len = self.file.len().max(start + blocks.padded_len());
                self.file.resize(len, 0);
                for (at, block) in blocks.iter().enumerate() {
                    self.file[start + at * unit..start + (at + 1) * unit].copy_from_slice(block);
                }
            }
            Action::Cut { units } => self.file.truncate(units as usize * unit),
            Action::Sync | Action::Punch { .. } => {}
        }
        self.store.on_done(token, Ok(()), &mut self.ops).expect("nothing fails");
    }
}

fn main() {
    let given: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let at = |place: usize, other| given.get(place).copied().unwrap_or(other);
    let (keys, changes, bytes) = (at(0, 200_000), at(1, 400_000), at(2, 300));
    let mut shard = Shard::new(keys);
    (0..keys).for_each(|number| shard.put(number, bytes));
    shard.checkpoint();
    println!("{keys} keys of {bytes} B: {} MiB of file", shard.file.len() >> 20);
    for _ in 0..3 {
        let begun = Instant::now();
        for _ in 0..changes {
            let number = shard.prng.below(keys as u64) as usize;
            shard.put(number, bytes);
        }
        let applied = begun.elapsed();
        shard.written = 0;
        shard.slices.clear();
        let begun = Instant::now();
        shard.checkpoint();
        let took = begun.elapsed();
        shard.slices.sort();
        let slice = |share: usize| shard.slices[(shard.slices.len() - 1) * share / 100];
        println!(
            "{changes} changes: {:.2} us each to make, {:.2} us each to checkpoint, {} B each \
             written; {} slices, median {:?}, p99 {:?}, longest {:?}",
            applied.as_secs_f64() * 1e6 / changes as f64,
            took.as_secs_f64() * 1e6 / changes as f64,
            shard.written / changes as u64,
            shard.slices.len(),
            slice(50),
            slice(99),
            slice(100),
        );
    }
}
