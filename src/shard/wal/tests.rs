//! The log on a disk in memory that loses, tears and spoils what it is given. `Rig` is a log
//! with its disk: a test says which operations end, in which order, and what a crash leaves.

mod garbage;
mod life;
mod soak;
mod verdicts;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::frame::Glance;
use super::*;
use crate::base::prng::Prng;

const DATA_DIR: u128 = 0x00c0_ffee_0000_0000_dead_0000_0000_beef;
const SECTOR_BYTES: usize = 512;

/// Segment files in memory.
#[derive(Clone, Debug, Default)]
struct MemoryDisk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    /// A block that cannot be read.
    unreadable: Option<Location>,
    is_settled: Cell<bool>,
}

impl Medium for MemoryDisk {
    fn settle(&self) -> Result<(), DiskFault> {
        self.is_settled.set(true);
        Ok(())
    }

    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault> {
        // Backwards: no order is promised.
        Ok(self.files.iter().rev().map(|(id, bytes)| (*id, bytes.len() as u64)).collect())
    }

    fn read(&self, segment: SegmentId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        assert!(self.is_settled.get(), "read before what is on its way was made durable");
        assert_eq!((offset % 4096, len % 4096), (0, 0), "an unaligned read");
        let range = offset..offset + len as u64;
        if let Some(at) = self.unreadable
            && at.segment == segment
            && range.contains(&at.offset)
        {
            return Err(DiskFault::Os(5));
        }
        let file = &self.files[&segment];
        let end = file.len().min(range.end as usize);
        Ok(file.get(offset as usize..end).unwrap_or_default().to_vec())
    }
}

impl MemoryDisk {
    /// Carries an operation out. Of a write only the sectors for which `lands` says so.
    fn apply(&mut self, op: &DiskOp, mut lands: impl FnMut(usize) -> bool) {
        let DiskOp { segment, action, .. } = op;
        match action {
            Action::Create => {
                self.files.insert(*segment, Vec::new());
            }
            Action::Zero { offset, len } => {
                let file = self.files.get_mut(segment).expect("zeros go to a file that exists");
                assert_eq!(file.len() as u64, *offset, "zeros go to the end");
                file.resize((offset + len) as usize, 0);
            }
            Action::Sync => assert!(self.files.contains_key(segment), "sync of no file"),
            Action::Write { offset, blocks } => {
                let file = self.files.get_mut(segment).expect("a write goes to a file");
                let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
                let start = *offset as usize;
                assert_eq!(start % 4096, 0, "an unaligned write");
                assert!(start + bytes.len() <= file.len(), "a write grows a segment");
                for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if lands(at) {
                        let start = start + at * SECTOR_BYTES;
                        file[start..start + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            Action::Rename { to } => {
                let file = self.files.remove(segment).expect("a file to rename exists");
                assert!(self.files.insert(*to, file).is_none(), "the new name is free");
            }
            Action::Delete => {
                self.files.remove(segment);
            }
        }
    }

    fn bytes_mut(&mut self, at: Location, len: usize) -> &mut [u8] {
        let file = self.files.get_mut(&at.segment).expect("a file of a frame");
        &mut file[at.offset as usize..at.offset as usize + len]
    }
}

/// What a write was seen to hold.
#[derive(Clone, Debug)]
struct Note {
    at: Location,
    /// Bytes without the padding.
    len: usize,
    preamble: frame::Preamble,
}

/// A log on a disk, with what is under way.
struct Rig {
    layout: Layout,
    base: ChainPoint,
    disk: MemoryDisk,
    wal: Wal,
    pending: Vec<DiskOp>,
    now: Tick,
    /// Every frame ever handed to the disk.
    notes: Vec<Note>,
    /// The newest operation that was looked at for frames.
    noted_upto: Token,
}

fn layout(lanes: u16, depth: usize) -> Layout {
    Layout { lanes, depth, segment_bytes: 16 * 4096 }
}

fn known(base: ChainPoint, is_used: bool) -> Known {
    Known { data_dir: DATA_DIR, base, is_used }
}

impl Rig {
    /// An empty log whose segments are ready.
    fn new(layout: Layout) -> Rig {
        let mut rig = Rig::bare(layout);
        rig.finish_all();
        rig
    }

    /// An empty log without segments.
    fn bare(layout: Layout) -> Rig {
        let disk = MemoryDisk::default();
        let base = ChainPoint::start(DATA_DIR);
        let recovered = recover(&disk, &known(base, false)).expect("an empty log is no damage");
        let mut pending = Vec::new();
        let wal = Wal::open(layout, &recovered, Tick(0), &mut pending);
        Rig {
            layout,
            base,
            disk,
            wal,
            pending,
            now: Tick(0),
            notes: Vec::new(),
            noted_upto: Token(0),
        }
    }

    fn append(&mut self, entry: Entry) {
        self.append_with(entry, None);
    }

    fn append_with(&mut self, entry: Entry, hard_state: Option<HardState>) {
        let mut waiting = VecDeque::from([entry]);
        self.wal.append(self.now, &mut waiting, hard_state, &mut self.pending);
        assert!(waiting.is_empty(), "an entry was left");
        self.note();
    }

    fn stamp(&mut self, hard_state: Option<HardState>) {
        self.wal.stamp(self.now, hard_state, &mut self.pending);
        self.note();
    }

    /// Reads the frames of writes that are new.
    fn note(&mut self) {
        for DiskOp { token, segment, action } in &self.pending {
            let Action::Write { offset, blocks } = action else { continue };
            if *token <= self.noted_upto {
                continue;
            }
            self.noted_upto = *token;
            let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
            let mut at = 0;
            while at < bytes.len() {
                let location = Location { segment: *segment, offset: offset + at as u64 };
                let place =
                    Place { data_dir: DATA_DIR, segment: *segment, offset: location.offset };
                let Glance::Maybe { preamble_len } = frame::glance(&bytes[at..], &place) else {
                    panic!("a write holds frames only");
                };
                let preamble = frame::parse(&bytes[at..at + preamble_len]).expect("own frame");
                let len = preamble.len() + preamble.payload_len;
                at += preamble.frame_len() as usize;
                self.notes.push(Note { at: location, len, preamble });
            }
        }
    }

    /// Ends the pending operation at `position` well.
    fn finish(&mut self, position: usize) {
        let op = self.pending.remove(position);
        self.disk.apply(&op, |_| true);
        self.wal.on_done(op.token, Ok(()), &mut self.pending).expect("nothing failed");
        self.note();
    }

    fn finish_all(&mut self) {
        while !self.pending.is_empty() {
            self.finish(0);
        }
    }

    /// Positions of the pending writes, in the order of their sealing.
    fn writes(&self) -> Vec<usize> {
        (0..self.pending.len()).filter(|at| is_write(&self.pending[*at])).collect()
    }

    /// The process dies. Of each pending write, by its order, the sectors that `lands` names
    /// reach the disk; of other operations those for which `lands(_, 0)` says so.
    fn crash(&mut self, mut lands: impl FnMut(usize, usize) -> bool) {
        let (writes, others): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(is_write);
        for (order, op) in writes.iter().enumerate() {
            self.disk.apply(op, |sector| lands(order, sector));
        }
        for op in &others {
            if lands(usize::MAX, 0) {
                self.disk.apply(op, |_| true);
            }
        }
        self.disk.is_settled.set(false);
    }

    fn recover(&self) -> Result<Recovered, Corrupt> {
        recover(&self.disk, &known(self.base, true))
    }

    /// Restarts on what the disk holds.
    fn restart(&mut self) -> Result<(Verdict, Vec<Entry>), Corrupt> {
        let recovered = self.recover()?;
        let entries: Result<Vec<Entry>, Corrupt> = recovered.entries(&self.disk).collect();
        self.pending.clear();
        self.noted_upto = Token(0);
        self.wal = Wal::open(self.layout, &recovered, self.now, &mut self.pending);
        self.finish_all();
        Ok((recovered.verdict, entries?))
    }

    /// The note of the entry sealed last at `index`.
    fn noted(&self, index: u64) -> &Note {
        let is_it = |note: &&Note| {
            note.preamble.head.kind == Kind::Entry && note.preamble.head.index.0 == index
        };
        self.notes.iter().rfind(is_it).expect("an entry at that index")
    }
}

fn is_write(op: &DiskOp) -> bool {
    matches!(op.action, Action::Write { .. })
}

/// An entry whose payload nobody else's equals, in up to three chunks.
fn entry(index: u64, term: u64, salt: u64, len: usize) -> Entry {
    let mut prng = Prng::new(index ^ (term << 20) ^ (salt << 40));
    let bytes: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
    let chunks = bytes.chunks(len.div_ceil(3).max(1)).map(|chunk| {
        let chunk = Bytes::copy_from_slice(chunk);
        let crc = crc32c::crc32c(&chunk);
        (chunk, crc)
    });
    Entry { index: RaftIndex(index), term: Term(term), chunks: chunks.collect() }
}

fn small(index: u64, term: u64) -> Entry {
    entry(index, term, 0, 300)
}

fn indexes(entries: &[Entry]) -> Vec<(u64, u64)> {
    entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote, commit: RaftIndex(commit) }
}
