//! What it costs the log to take a batch of 256-byte records: seal the frame, lay it into
//! aligned blocks, hand it out as one write, take the completion. No disk is involved, and the
//! records' CRCs are made beforehand, as they are on the road of a write.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringbolt::base::{RaftIndex, Term, Tick};
use ringbolt::shard::disk::DiskFault;
use ringbolt::shard::wal::{
    Action, ChainPoint, DiskOp, Entry, Known, Layout, Medium, SegmentId, Wal, recover,
};

const RECORD_BYTES: usize = 256;
/// Checkpoints come about this often, counted in entries.
const RELEASE_EVERY: u64 = 4096;

/// A disk without a file.
struct Nothing;

impl Medium for Nothing {
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

/// A log whose operations end at once.
struct Log {
    wal: Wal,
    out: Vec<DiskOp>,
    waiting: VecDeque<Entry>,
    next: u64,
}

impl Log {
    fn new() -> Log {
        let known = Known { data_dir: 1, base: ChainPoint::start(1), is_used: false };
        let recovered = recover(&Nothing, &known).expect("no file, no damage");
        let mut out = Vec::new();
        let wal = Wal::open(Layout::new(1, 1), &recovered, Tick(0), &mut out);
        let mut log = Log { wal, out, waiting: VecDeque::new(), next: 1 };
        log.finish();
        log
    }

    fn append(&mut self, chunks: Vec<(Bytes, u32)>) {
        let entry = Entry { index: RaftIndex(self.next), term: Term(1), chunks };
        self.next += 1;
        self.waiting.push_back(entry);
        self.wal.append(Tick(0), &mut self.waiting, None, &mut self.out);
        self.finish();
        if self.next.is_multiple_of(RELEASE_EVERY) {
            self.wal.release(self.wal.durable(), &mut self.out);
            self.finish();
        }
    }

    fn finish(&mut self) {
        while let Some(op) = self.out.pop() {
            if let Action::Write { blocks, .. } = &op.action {
                black_box(blocks.as_ptr());
            }
            self.wal.on_done(op.token, Ok(()), &mut self.out).expect("nothing fails here");
        }
    }
}

fn append(criterion: &mut Criterion) {
    let record = Bytes::from(vec![7; RECORD_BYTES]);
    let chunk = (record.clone(), crc32c::crc32c(&record));
    let mut group = criterion.benchmark_group("wal_append");
    for records in [1, 16, 256] {
        let mut log = Log::new();
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
            let batch = || vec![chunk.clone(); records];
            bencher.iter_batched(batch, |batch| log.append(batch), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
