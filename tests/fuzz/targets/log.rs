//! The scan of the log: bytes of segments into frames, frames into a verdict, and a log that goes
//! on behind it.
//!
//! ```text
//! item 0      flags: 1 a base is given, 2 the log was used; lanes u8; base: index, term and
//!             sequence u64, checksum u32
//! item 1..    bytes from the next block of a lane on; flags: mend 1 identity, 2 chain, 4 sums of
//!             the payload, 8 checksum, 16 witness; 32 in a new segment; the lane, times 64
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringbolt::base::limits::COUNT_MAX;
use ringbolt::base::prng::Prng;
use ringbolt::base::{RaftIndex, Term, Tick};
use ringbolt::shard::disk::DiskFault;
use ringbolt::shard::wal::{
    Action, ChainPoint, DiskOp, Entry, HardState, Known, Layout, Medium, Recovered, SegmentId, Wal,
    recover,
};

use super::{Item, input, items, put_number};

const BASE: u8 = 1;
const USED: u8 = 2;

const IDENTITY: u8 = 1;
const CHAIN: u8 = 2;
const PAYLOAD: u8 = 4;
const CHECKSUM: u8 = 8;
const WITNESS: u8 = 16;
const NEW_SEGMENT: u8 = 32;
const LANE_SHIFT: u8 = 6;

const DATA_DIR: u128 = 0x00c0_ffee_0000_0000_dead_0000_0000_beef;
const BLOCK: usize = 4096;
const HEADER: usize = 128;
const SEGMENT_BYTES: u64 = 16 * BLOCK as u64;

/// Segment files in memory.
#[derive(Clone, Debug, Default)]
struct Files(BTreeMap<SegmentId, Vec<u8>>);

impl Medium for Files {
    fn settle(&self) -> Result<(), DiskFault> {
        Ok(())
    }

    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault> {
        Ok(self.0.iter().map(|(id, bytes)| (*id, bytes.len() as u64)).collect())
    }

    fn read(&self, segment: SegmentId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let start = usize::try_from(offset).expect("an offset within a file");
        let file = &self.0[&segment];
        let end = file.len().min(start.saturating_add(len));
        Ok(file.get(start..end).unwrap_or_default().to_vec())
    }
}

impl Files {
    /// The highest sequence that stands where a frame's would.
    fn newest(&self) -> u64 {
        let blocks = self.0.values().flat_map(|file| file.chunks(BLOCK));
        let frames = blocks.filter(|block| block.starts_with(b"RINGBOLT"));
        let sequences = frames.map(|block| Item::new(0, &block[..HEADER]).number(40, 8));
        sequences.filter(|sequence| *sequence <= COUNT_MAX).max().unwrap_or(0)
    }

    fn apply(&mut self, DiskOp { segment, action, .. }: DiskOp) {
        let place = |offset: u64| usize::try_from(offset).expect("an offset within a file");
        match action {
            Action::Create => drop(self.0.insert(segment, Vec::new())),
            Action::Zero { offset, len } => {
                self.0.get_mut(&segment).expect("a file").resize(place(offset + len), 0);
            }
            Action::Sync => {}
            Action::Write { offset, blocks } => {
                let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
                let file = self.0.get_mut(&segment).expect("a file");
                file[place(offset)..][..bytes.len()].copy_from_slice(&bytes);
            }
            Action::Rename { to } => {
                let file = self.0.remove(&segment).expect("a file");
                assert!(self.0.insert(to, file).is_none(), "{to} is there already");
            }
            Action::Delete => drop(self.0.remove(&segment)),
        }
    }
}

/// A log that goes on, with its files.
struct Log {
    files: Files,
    wal: Wal,
    ops: Vec<DiskOp>,
}

impl Log {
    fn open(files: Files, recovered: &Recovered, lanes: u16) -> Log {
        let layout = Layout { lanes, depth: 1, segment_bytes: SEGMENT_BYTES };
        let mut ops = Vec::new();
        let wal = Wal::open(layout, recovered, Tick(0), &mut ops);
        let mut log = Log { files, wal, ops };
        log.settle();
        log
    }

    /// Ends all that is under way.
    fn settle(&mut self) {
        while let Some(op) = self.ops.pop() {
            let token = op.token;
            self.files.apply(op);
            self.wal.on_done(token, Ok(()), &mut self.ops).expect("nothing failed");
        }
    }

    fn append(&mut self, entry: Entry, hard_state: HardState) {
        let mut waiting = VecDeque::from([entry]);
        self.wal.append(Tick(0), &mut waiting, Some(hard_state), &mut self.ops);
        self.settle();
    }

    fn stamp(&mut self) {
        self.wal.stamp(Tick(0), None, &mut self.ops);
        self.settle();
    }
}

/// The fields of the last entry that was put down, as its bytes say them.
#[derive(Clone, Copy)]
struct Last {
    index: u64,
    term: u64,
    checksum: u32,
    sequence: u64,
}

fn mend(item: &Item, segment: SegmentId, offset: usize, last: &mut Last) -> Vec<u8> {
    let mut bytes = item.bytes.clone();
    if item.flags & (IDENTITY | CHAIN | PAYLOAD | CHECKSUM | WITNESS) != 0 {
        bytes.resize(bytes.len().max(HEADER), 0);
    }
    let number = |bytes: &[u8], at: usize| Item::new(0, bytes).number(at, 4) as usize;
    if item.has(IDENTITY) {
        put_number(&mut bytes, 0, b"RINGBOLT");
        put_number(&mut bytes, 10, &segment.lane.to_le_bytes());
        put_number(&mut bytes, 12, &u32::try_from(offset / BLOCK).unwrap_or(0).to_le_bytes());
        put_number(&mut bytes, 16, &DATA_DIR.to_le_bytes());
        put_number(&mut bytes, 32, &segment.sequence.to_le_bytes());
    }
    if item.has(CHAIN) {
        put_number(&mut bytes, 40, &last.sequence.wrapping_add(1).to_le_bytes());
        put_number(&mut bytes, 48, &last.index.wrapping_add(1).to_le_bytes());
        put_number(&mut bytes, 64, &last.term.to_le_bytes());
        put_number(&mut bytes, 80, &last.checksum.to_le_bytes());
    }
    if item.has(WITNESS) {
        put_number(&mut bytes, 72, &last.index.to_le_bytes());
        put_number(&mut bytes, 84, &last.checksum.to_le_bytes());
    }
    let chunks = number(&bytes, 112).min(bytes.len().saturating_sub(HEADER) / 8);
    if item.has(PAYLOAD) {
        let mut at = HEADER + 8 * chunks;
        for chunk in 0..chunks {
            let end = at.saturating_add(number(&bytes, HEADER + 8 * chunk));
            if let Some(payload) = bytes.get(at..end) {
                let sum = crc32c::crc32c(payload);
                put_number(&mut bytes, HEADER + 8 * chunk + 4, &sum.to_le_bytes());
            }
            at = end;
        }
        let payload = u32::try_from(at - HEADER - 8 * chunks).unwrap_or(0);
        put_number(&mut bytes, 116, &payload.to_le_bytes());
    }
    if item.has(CHECKSUM) {
        let sum = crc32c::crc32c(&bytes[..HEADER - 4]);
        let sum = crc32c::crc32c_append(sum, &bytes[HEADER..HEADER + 8 * chunks]);
        put_number(&mut bytes, HEADER - 4, &sum.to_le_bytes());
    }
    let field = |at| Item::new(0, &bytes[..]).number(at, 8);
    if bytes.get(120) == Some(&1) {
        let checksum = number(&bytes, HEADER - 4) as u32;
        (last.index, last.term, last.checksum) = (field(48), field(56), checksum);
    }
    last.sequence = last.sequence.max(field(40));
    bytes
}

fn build(items: &[Item], known: &Known) -> Files {
    let ChainPoint { index, term, checksum, sequence } = known.base;
    let mut last = Last { index: index.0, term: term.0, checksum, sequence };
    let mut files = Files::default();
    let mut sequences = [0; 4];
    for item in items {
        let lane = item.flags >> LANE_SHIFT;
        let newest: &mut u64 = &mut sequences[usize::from(lane)];
        if item.has(NEW_SEGMENT) || *newest == 0 {
            *newest += 1;
        }
        let segment = SegmentId { lane: lane.into(), sequence: *newest };
        let file = files.0.entry(segment).or_default();
        let bytes = mend(item, segment, file.len(), &mut last);
        file.extend_from_slice(&bytes);
        file.resize(file.len().next_multiple_of(BLOCK), 0);
    }
    files
}

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let items = items(data);
    let Some((head, frames)) = items.split_first() else { return false };
    let mut base = ChainPoint::start(DATA_DIR);
    if head.has(BASE) {
        let [index, term, sequence] = [1, 9, 17].map(|at| head.number(at, 8));
        let checksum = head.number(25, 4) as u32;
        if [index, term, sequence].into_iter().any(|count| count > COUNT_MAX) {
            // No superblock that is taken says so.
            return false;
        }
        base = ChainPoint { index: RaftIndex(index), term: Term(term), checksum, sequence };
    }
    let known = Known { data_dir: DATA_DIR, base, is_used: head.has(USED) };
    let files = build(frames, &known);
    let recovered = match recover(&files, &known) {
        Ok(recovered) => recovered,
        Err(corrupt) => {
            assert!(corrupt.to_string().len() > 20);
            return false;
        }
    };
    let points: Vec<ChainPoint> = recovered.points().collect();
    for (place, (point, entry)) in points.iter().zip(recovered.entries(&files)).enumerate() {
        let entry = entry.expect("a live entry is intact");
        assert_eq!(point.index.0, base.index.0 + 1 + place as u64);
        assert_eq!((entry.index, entry.term), (point.index, point.term));
        for (bytes, sum) in &entry.chunks {
            assert_eq!(crc32c::crc32c(bytes), *sum);
        }
    }
    assert!(recovered.hard_state.commit <= recovered.last().index);
    go_on(files, &known, &recovered, &points, 1 + (head.number(0, 1) % 4) as u16);
    !points.is_empty()
}

/// A log that was taken goes on, and a restart finds all of it.
fn go_on(files: Files, known: &Known, recovered: &Recovered, points: &[ChainPoint], lanes: u16) {
    let last = recovered.last();
    let found = recovered.hard_state;
    let newest = files.newest().max(known.base.sequence);
    let counts = [last.index.0, last.term.0, found.term.0, newest];
    if counts.into_iter().any(|count| count > COUNT_MAX - 10) {
        // It would go on with what it does not read.
        return;
    }
    let term = found.term.max(last.term);
    let vote = if term == found.term { found.vote } else { 0 };
    let hard_state = HardState { term, vote, commit: found.commit };
    let mut log = Log::open(files, recovered, lanes);
    let payload = Bytes::from_static(b"what comes next");
    let sum = crc32c::crc32c(&payload);
    let next = Entry { index: last.index.next(), term, chunks: vec![(payload, sum)] };
    log.append(next.clone(), hard_state);
    assert_eq!(log.wal.durable(), next.index);
    log.stamp();
    let again = recover(&log.files, known).expect("a log that was taken once is taken again");
    let found: Vec<ChainPoint> = again.points().collect();
    let (newest, before) = found.split_last().expect("what was written is there");
    assert_eq!(before, points, "what was there is there");
    assert_eq!((newest.index, newest.term), (next.index, next.term));
    let entries: Result<Vec<Entry>, _> = again.entries(&log.files).collect();
    assert_eq!(entries.expect("all of it").last(), Some(&next));
}

/// Logs of one to three lanes, with entries of several terms, stamps and large payloads.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..12).map(seed).collect()
}

fn seed(number: u64) -> Vec<u8> {
    let mut prng = Prng::new(number);
    let known = Known { data_dir: DATA_DIR, base: ChainPoint::start(DATA_DIR), is_used: false };
    let empty = recover(&Files::default(), &known).expect("an empty log");
    let mut log = Log::open(Files::default(), &empty, 1 + (number % 3) as u16);
    let mut term = 1;
    for round in 0..2 + number {
        let mut index = log.wal.last().index.0 + 1;
        if index > 3 && prng.percent(20) {
            (term, index) = (term + 1, index - 2);
        }
        let chunks = (0..prng.below(4)).map(|_| {
            let len = [3, 40, 40, 6_000][prng.below(4) as usize];
            let bytes = Bytes::from(vec![prng.next_u64() as u8; len]);
            let sum = crc32c::crc32c(&bytes);
            (bytes, sum)
        });
        let entry = Entry { index: RaftIndex(index), term: Term(term), chunks: chunks.collect() };
        let commit = RaftIndex(index - 1);
        log.append(entry, HardState { term: Term(term), vote: term % 2, commit });
        if round % 3 == 2 {
            log.stamp();
        }
    }
    let mut out = vec![Item::new(USED, [0; 29])];
    for (id, bytes) in &log.files.0 {
        let (mut at, mut flags) = (0, (id.lane as u8) << LANE_SHIFT | NEW_SEGMENT);
        while bytes.get(at..at + 8) == Some(b"RINGBOLT") {
            let number = |from| Item::new(0, &bytes[at..at + HEADER]).number(from, 4) as usize;
            let len = HEADER + 8 * number(112) + number(116);
            let frame = &bytes[at..at + len];
            let end = frame.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            out.push(Item::new(flags, &frame[..end]));
            at += len.next_multiple_of(BLOCK);
            flags &= !NEW_SEGMENT;
        }
    }
    input(&out)
}
