//! What a write costs its shard beside mail, log and network: evaluated against a memtable of
//! 100,000 keys, made into records, and applied. A put, and the compare-and-swap Txn with which
//! Kubernetes updates an object; 256-byte values, keys in random order, one version each but for
//! what the last thousand operations replaced. Nothing is in flight, so there is no overlay.
//!
//! `cargo bench --bench evaluate_apply`; the times are per operation.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;
use ringbolt::base::prng::Prng;
use ringbolt::base::range::KeyRange;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, Revision, ShardId, Sub};
use ringbolt::shard::eval::{Conditions, Missing, Page, View, Write, materialise, plan};
use ringbolt::shard::pages::{Identity, Superblock};
use ringbolt::shard::store::{ScrubSettings, Settings, Store};
use ringbolt::wire::etcdserverpb as pb;

const KEYS: u64 = 100_000;
/// Operations that are made up at a time.
const CHUNK: u64 = 1_000;
/// Coprime to `KEYS`, so that the keys of a chunk are all different.
const STRIDE: u64 = 7_919;
const VALUE: &[u8] = &[7; 256];

/// A shard's newest state, by single keys.
struct Newest<'a>(&'a Store);

impl View for Newest<'_> {
    fn newest(&self, key: &Bytes) -> Result<Option<Arc<Record>>, Missing> {
        Ok(self.0.newest(key).expect("everything is in memory"))
    }

    fn range(&self, range: &KeyRange, _limit: u64) -> Result<Page, Missing> {
        let key = range.as_single().expect("these operations name single keys");
        let records: Vec<_> = self.newest(key)?.into_iter().collect();
        Ok(Page { count: records.len() as u64, records })
    }

    fn range_at(&self, _: &KeyRange, _: Revision, _: u64) -> Result<Page, Missing> {
        unreachable!("these operations read the newest revision")
    }

    fn lease_exists(&self, id: LeaseId) -> Result<bool, Missing> {
        Ok(self.0.has_lease(id))
    }
}

/// A request with what it borrows.
enum Request {
    Put(pb::PutRequest),
    Txn(pb::TxnRequest),
}

struct Shard {
    store: Store,
    revision: Revision,
    keys: Vec<Bytes>,
    prng: Prng,
}

impl Shard {
    fn new() -> Shard {
        let key = |number: u64| {
            let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Bytes::from(format!("/registry/pods/default/deployment-{mixed:016x}"))
        };
        let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
        let mut shard = Shard { store: store(), revision: Revision(1), keys, prng: Prng::new(1) };
        for index in 0..shard.keys.len() {
            shard.revision = shard.revision.next();
            shard.store.apply(Arc::new(Record::put(PutFields {
                key: &shard.keys[index],
                value: VALUE,
                revision: shard.revision,
                sub: Sub(0),
                create: shard.revision,
                version: 1,
                lease: LeaseId::NONE,
            })));
        }
        shard
    }

    /// Different keys, in no order.
    fn chosen(&mut self, count: u64) -> Vec<Bytes> {
        let first = self.prng.below(KEYS);
        let index = |step| usize::try_from((first + step * STRIDE) % KEYS).expect("a small index");
        (0..count).map(|step| self.keys[index(step)].clone()).collect()
    }

    fn put(&self, key: Bytes) -> Request {
        assert!(newest(&self.store, &key).is_some(), "every key is there");
        Request::Put(put(key))
    }

    /// What an apiserver sends to update an object that it has read.
    fn swap(&self, key: Bytes) -> Request {
        let read = newest(&self.store, &key).expect("every key is there").revision;
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(read.0)),
            ..Default::default()
        };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let op = |request| vec![pb::RequestOp { request: Some(request) }];
        Request::Txn(pb::TxnRequest {
            compare: vec![compare],
            success: op(Op::RequestPut(put(key))),
            failure: op(Op::RequestRange(get)),
        })
    }

    fn write(&mut self, request: &Request) {
        let write = match request {
            Request::Put(put) => Write::Put(put),
            Request::Txn(txn) => Write::Txn(txn),
        };
        let conditions = Conditions {
            current: self.revision,
            compact: self.store.compact_revision(),
            no_space: false,
            corrupt: false,
            quota_left: Some(2 << 30),
        };
        let view = Newest(&self.store);
        let plan = plan(&view, &conditions, write).expect("nothing refuses it");
        self.revision = self.revision.next();
        let outcome = materialise(&view, &plan, self.revision);
        black_box(&outcome.answer);
        for change in outcome.changes {
            self.store.apply(change.record);
        }
    }

    /// Time of `count` writes, without that of making them up.
    fn time(&mut self, count: u64, make: fn(&Shard, Bytes) -> Request) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let keys = self.chosen(left.min(CHUNK));
            left -= keys.len() as u64;
            let requests: Vec<Request> = keys.into_iter().map(|key| make(self, key)).collect();
            #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
            let start = std::time::Instant::now();
            requests.iter().for_each(|request| self.write(request));
            spent += start.elapsed();
        }
        assert_eq!(self.store.live_keys(), KEYS);
        spent
    }
}

fn store() -> Store {
    let shard = ShardId(0);
    let identity = Identity { data_dir: 1, cluster: 1, member: 1, shard, shards: 1, hash_seed: 1 };
    let scrub = ScrubSettings { rest_ms: None, bytes_per_s: 1 };
    let settings = Settings {
        cache_bytes: 1 << 20,
        memtable_bytes: 8 << 30,
        checkpoint_behind: (u64::MAX, u64::MAX),
        seed: 1,
        scrub,
    };
    Store::open(Superblock::fresh(identity), 16 << 10, BTreeSet::new(), settings)
        .expect("an empty file")
}

fn newest(store: &Store, key: &[u8]) -> Option<Arc<Record>> {
    store.newest(key).expect("everything is in memory")
}

fn put(key: Bytes) -> pb::PutRequest {
    pb::PutRequest { key, value: Bytes::from_static(VALUE), ..Default::default() }
}

fn evaluate_apply(c: &mut Criterion) {
    let mut shard = Shard::new();
    let mut group = c.benchmark_group("evaluate_apply");
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |b| b.iter_custom(|count| shard.time(count, Shard::put)));
    group.bench_function("compare_and_swap", |b| {
        b.iter_custom(|count| shard.time(count, Shard::swap));
    });
    group.finish();
}

criterion_group!(benches, evaluate_apply);
criterion_main!(benches);
