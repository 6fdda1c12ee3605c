//! What a shard's tree costs beside disk and compression: pages stay in memory as they are.
//!
//! `cargo bench --bench tree [KEYS]`; records of 256 bytes, a tenth of them updated by a merge.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::cell::RefCell;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use ringbolt::base::prng::Prng;
use ringbolt::base::range::{KeyRange, RangeEnd};
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, Revision, Sub};
use ringbolt::shard::pages::{HEADER_BYTES, PageRef, PageSink, Pages, SUPERBLOCK_UNITS};
use ringbolt::shard::tree::{Change, Kind, Merge, Reader, Root, Step};

const SLICE_BYTES: usize = 256 << 10;

#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<Bytes>>>);

fn place(at: PageRef) -> usize {
    (at.unit - SUPERBLOCK_UNITS) as usize
}

impl Pages for Memory {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        self.0.borrow().get(place(at)).cloned()
    }

    fn holds(&self, at: PageRef) -> bool {
        place(at) < self.0.borrow().len()
    }
}

impl PageSink for Memory {
    fn write(&mut self, logical: Bytes) -> PageRef {
        let pages = &mut *self.0.borrow_mut();
        let unit = SUPERBLOCK_UNITS + pages.len() as u32;
        let stored = (HEADER_BYTES + logical.len()) as u32;
        pages.push(logical.clone());
        let logical = logical.len() as u32;
        PageRef { unit, units: stored.div_ceil(4096), stored, logical, checksum: 0 }
    }

    fn free(&mut self, at: PageRef) {
        self.0.borrow_mut()[place(at)] = Bytes::new();
    }
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/deployment-{number:012}").into()
}

fn put(number: u64, revision: i64) -> Change {
    let key = key(number);
    let record = Record::put(PutFields {
        key: &key,
        value: &[7; 256],
        revision: Revision(revision),
        sub: Sub(0),
        create: Revision(2),
        version: revision,
        lease: LeaseId::NONE,
    });
    Change { key, value: Some(record.log().clone()) }
}

/// The new root, and the longest slice in microseconds.
fn merge(memory: &Memory, root: Option<Root>, changes: Vec<Change>) -> (Option<Root>, f64) {
    let mut merge = Merge::new(Kind::Current, root, Revision(0), changes.into_iter());
    let mut sink = memory.clone();
    let mut worst = 0.0_f64;
    loop {
        let start = Instant::now();
        let mut take = |change: &Change, old: Option<Bytes>| {
            black_box(old);
            change.value.clone()
        };
        let step = merge.step(&mut sink, &mut take, SLICE_BYTES);
        worst = worst.max(start.elapsed().as_nanos() as f64 / 1e3);
        match step {
            Ok(Step::Paused) => {}
            Ok(Step::Done(root)) => return (root, worst),
            other => panic!("{other:?}"),
        }
    }
}

fn main() {
    let argument = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let keys: u64 = argument.unwrap_or(1_000_000);
    let memory = Memory::default();
    let mut root = None;
    let timed = |name: &str, count: u64, work: &mut dyn FnMut() -> f64| {
        let start = Instant::now();
        let worst = work();
        let each = start.elapsed().as_nanos() as f64 / count as f64;
        println!("{name:<36} {each:>8.0} ns each {worst:>8.0} us longest slice");
    };

    let all: Vec<Change> = (0..keys).map(|number| put(number, 2)).collect();
    timed("load, sorted", keys, &mut || {
        let (loaded, worst) = merge(&memory, root, all.clone());
        root = loaded;
        worst
    });
    for round in 0..3 {
        let mut prng = Prng::new(round);
        let mut numbers: Vec<u64> = (0..keys / 10).map(|_| prng.below(keys)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let count = numbers.len() as u64;
        let changes: Vec<Change> =
            numbers.into_iter().map(|number| put(number, round as i64 + 3)).collect();
        timed("merge of updates here and there", count, &mut || {
            let (merged, worst) = merge(&memory, root, changes.clone());
            root = merged;
            worst
        });
    }
    read(&memory, root, keys);
}

fn read(memory: &Memory, root: Option<Root>, keys: u64) {
    let reader = Reader::new(Kind::Current, root, memory);
    let mut prng = Prng::new(9);
    let wanted: Vec<Bytes> = (0..200_000).map(|_| key(prng.below(keys))).collect();
    let start = Instant::now();
    for key in &wanted {
        black_box(reader.get(key).expect("in memory").expect("there"));
    }
    println!("get            {:>8.0} ns", start.elapsed().as_nanos() as f64 / 200_000.0);

    let start = Instant::now();
    for pair in wanted[..20_000].chunks_exact(2) {
        let (start, end) = (pair[0].clone(), pair[1].clone());
        let range = KeyRange { start, end: RangeEnd::Before(end) };
        black_box(reader.count(&range).expect("in memory"));
    }
    println!("count          {:>8.0} ns", start.elapsed().as_nanos() as f64 / 10_000.0);

    for (name, builds) in [("walk", false), ("walk, records", true)] {
        let mut bytes = 0;
        let start = Instant::now();
        let walked = reader.walk(&KeyRange::all(), None, &mut |entry| {
            if builds {
                black_box(Record::decode(entry.value_bytes()).expect("a record"));
            }
            bytes += entry.value().len();
            ControlFlow::Continue(())
        });
        walked.expect("in memory");
        let seconds = start.elapsed().as_secs_f64();
        println!("{name:<14} {:>8.0} MB/s", bytes as f64 / seconds / 1e6);
    }
}
