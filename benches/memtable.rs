//! What a shard's memtable costs per operation, by number of keys.
//!
//! `cargo bench --bench memtable [KEYS]`; keys are those of node leases and pods, in random order.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ringbolt::base::prng::Prng;
use ringbolt::base::range::KeyRange;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, Revision, Sub};
use ringbolt::shard::memtable::{Memtable, Versions};

fn key(number: u64) -> Vec<u8> {
    // A bijection, so that neighbours in time are none in order.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match number % 2 {
        0 => format!("/registry/leases/kube-node-lease/node-{mixed:016x}").into_bytes(),
        _ => format!("/registry/pods/default/deployment-{mixed:016x}").into_bytes(),
    }
}

fn put(number: u64, revision: i64, before: Option<&Arc<Record>>) -> Arc<Record> {
    Arc::new(Record::put(PutFields {
        key: &key(number),
        value: &[7; 256],
        revision: Revision(revision),
        sub: Sub(0),
        create: before.map_or(Revision(revision), |before| before.create),
        version: before.map_or(1, |before| before.version + 1),
        lease: LeaseId::NONE,
    }))
}

/// Runs `operation` on each item; mean and worst of 1,000 at a time, in ns each.
fn measure<T>(name: &str, items: Vec<T>, mut operation: impl FnMut(T)) {
    let total = items.len() as f64;
    let (mut sum, mut worst) = (0.0, 0.0_f64);
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let slice: Vec<T> = items.by_ref().take(1000).collect();
        let count = slice.len() as f64;
        let start = Instant::now();
        slice.into_iter().for_each(&mut operation);
        let nanos = start.elapsed().as_nanos() as f64;
        sum += nanos;
        worst = worst.max(nanos / count);
    }
    println!("{name:<28} {:>8.0} ns mean {worst:>8.0} ns worst thousand", sum / total);
}

fn main() {
    let argument = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let keys: u64 = argument.unwrap_or(1_000_000);
    let mut prng = Prng::new(1);
    let mut table = Memtable::new(1);
    let mut revision = 1;
    println!("{keys} keys");
    for from in (0..keys).step_by(100_000) {
        let batch = from..keys.min(from + 100_000);
        let records: Vec<_> = batch
            .map(|number| {
                revision += 1;
                put(number, revision, None)
            })
            .collect();
        if from + 100_000 < keys {
            records.into_iter().for_each(|record| table.apply(record));
        } else {
            measure("apply, new key", records, |record| table.apply(record));
        }
    }
    let chosen: Vec<u64> = (0..200_000).map(|_| prng.below(keys)).collect();
    let lookups: Vec<Vec<u8>> = chosen.iter().map(|number| key(*number)).collect();
    measure("newest", lookups, |key| drop(black_box(newest(&table, &key).cloned())));
    let mut last = std::collections::BTreeMap::new();
    let mut updates = Vec::new();
    for number in chosen {
        revision += 1;
        let before = last.get(&number).or_else(|| newest(&table, &key(number))).cloned();
        let record = put(number, revision, before.as_ref());
        last.insert(number, Arc::clone(&record));
        updates.push(record);
    }
    drop(last);
    measure("apply, update", updates, |record| table.apply(record));
    let prefix = |at: u64| {
        let start = format!("/registry/leases/kube-node-lease/node-{at:x}").into_bytes();
        KeyRange::from_request(start.into(), b"/registry/pods/default/e".to_vec().into())
    };
    let ranges: Vec<KeyRange> = (0..20_000).map(|_| prefix(prng.below(16))).collect();
    measure("count, newest", ranges, |range| {
        black_box(table.net(&range));
    });
    let held = Revision(revision - 1000);
    let ranges: Vec<KeyRange> = (0..2000).map(|_| prefix(prng.below(16))).collect();
    measure("count, 1000 changes ago", ranges, |range| {
        black_box(table.net_created(&range, (held, Sub(u32::MAX)), usize::MAX));
    });
    let start = Instant::now();
    let walked =
        table.scan(&KeyRange::all(), None).filter_map(|(_, v)| v.newest().cloned()).count();
    println!("{:<28} {:>8.0} ns a key", "walk", start.elapsed().as_nanos() as f64 / walked as f64);
    measure_end(&mut table, keys, revision);
}

/// Deletes, and the end of the whole layer.
fn measure_end(table: &mut Memtable, keys: u64, mut revision: i64) {
    let mut number = 0;
    let deletes: Vec<_> = std::iter::from_fn(|| {
        (number, revision) = (number + 3, revision + 1);
        (number < keys.min(300_000))
            .then(|| Arc::new(Record::tombstone(&key(number), Revision(revision), Sub(0))))
    })
    .collect();
    measure("apply, delete", deletes, |record| table.apply(record));
    let changes = table.version_count();
    let mut slices = Vec::new();
    loop {
        let start = Instant::now();
        let is_gone = table.dismantle(500);
        slices.push(start.elapsed().as_nanos());
        if is_gone {
            break;
        }
    }
    let (total, worst) = (slices.iter().sum::<u128>(), slices.iter().max());
    println!(
        "{:<28} {:>8.0} ns a change, worst slice of 500: {} us",
        "let go",
        total as f64 / changes as f64,
        worst.map_or(0, |worst| worst / 1000)
    );
}

fn newest<'a>(table: &'a Memtable, key: &[u8]) -> Option<&'a Arc<Record>> {
    table.versions_of(key).and_then(Versions::newest)
}
