//! wal — the write-ahead log: lanes of segment files that hold one raft log.
//! Step 4 of a write: persists the entry. In: entries, stamps, completions. Out: `DiskOp`s, the
//! durable index. Owns: the segment files' contents and names, and the chain of checksums.
//! Invariants: (1) durable means every index up to it, in whichever lane; (2) a failed operation
//!             is final; (3) a frame is never sealed under the number of one that is on disk.
//! Limits: `WAL_*`, `SEGMENT*`. Must not: touch a disk; read a payload's bytes when writing.
//! Tests: `tests`, on a disk in memory that crashes, tears and rots.
//!
//! # Assumptions about the medium
//!
//! - A write that was reported done survives any crash, whole. A write in flight may survive in
//!   part: any of its 512-byte sectors, in any order, and none of the bytes beside it.
//! - Files are written in blocks of 4 KiB at multiples of 4 KiB, and a frame never shares a
//!   block, so a write in flight endangers no frame but its own.
//! - A failed write or sync leaves contents that nobody can know. It is never retried; the member
//!   stops, and recovery reads from the device, past the page cache.
//! - What a killed process left in flight has ended before the files can be opened again (the
//!   data directory's lock is held until then), and a sync of a file makes it durable.
//! - A file's name is durable once the directory was synced. A rename is atomic.
//! - Bits may rot and writes may be lost or misplaced: a frame tells its place, and the entry
//!   after it, or a stamp, tells that it was there. The exception is the last frame: rot in it
//!   looks like a torn write, until a stamp follows. An idle log stamps within `STAMP_IDLE_MS`,
//!   a clean stop at once; until then the open window is the last write of each lane.
//! - Nobody but this process changes the files. The data-dir id is not known to clients.

mod chain;
mod disk;
mod frame;
mod lane;
mod recovery;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::base::block::{BLOCK_BYTES, BlockPool, Blocks};
use crate::base::limits::{
    SEGMENT_BYTES, SEGMENT_BYTES_MAX, STAMP_IDLE_MS, WAL_DEPTH_MAX, WAL_LANES_MAX,
    WAL_RUN_BYTES_MAX,
};
use crate::base::{RaftIndex, Term, Tick};
use crate::shard::disk::{DiskFault, Token, Tokens};

pub use chain::ChainPoint;
pub use disk::{Action, DiskOp, Fault, Location, Medium, SegmentId};
pub use frame::{Chunks, Entry, FRAME_BYTES_MAX, HardState};
pub use recovery::{Corrupt, Known, Recovered, Verdict, recover};

use chain::Chain;
use frame::{Head, Kind, Place};
use lane::{Done, Lane, Released};

/// How a log is laid out from now on. What it finds on disk may be laid out otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Lanes to write to.
    pub lanes: u16,
    /// Writes in flight per lane.
    pub depth: usize,
    /// Bytes of a new segment, a multiple of 4 KiB. No frame may be larger.
    pub segment_bytes: u64,
}

impl Layout {
    /// `lanes` lanes of full-sized segments.
    #[must_use]
    pub fn new(lanes: u16, depth: usize) -> Layout {
        Layout { lanes, depth, segment_bytes: SEGMENT_BYTES }
    }
}

/// The log of one member.
#[derive(Debug)]
pub struct Wal {
    data_dir: u128,
    layout: Layout,
    lanes: Vec<Lane>,
    /// The live entries, and whether each is on disk.
    chain: Chain<bool>,
    durable: RaftIndex,
    /// The highest `durable_upto` that a frame of this log carries.
    stamped: RaftIndex,
    /// No frame may witness an entry above this while a snapshot takes the log's place.
    stamp_max: Option<RaftIndex>,
    hard_state: HardState,
    /// Sequence and hard state of the newest frame that is on disk.
    newest_durable: (u64, HardState),
    next_sequence: u64,
    tokens: Tokens,
    /// Memory of writes that have ended.
    pool: BlockPool,
    last_append: Tick,
    fault: Option<Fault>,
}

impl Wal {
    /// A log that goes on where `recovered` ends. The disk's operations begin here: a log
    /// without segments has no free lane until the first is filled with zeros.
    #[must_use]
    pub fn open(layout: Layout, recovered: &Recovered, now: Tick, out: &mut Vec<DiskOp>) -> Wal {
        let Layout { lanes, depth, segment_bytes } = layout;
        assert!((1..=WAL_LANES_MAX).contains(&lanes), "a log of {lanes} lanes was asked for");
        assert!((1..=WAL_DEPTH_MAX).contains(&depth), "a depth of {depth} was asked for");
        assert!(
            segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
                && (1..=SEGMENT_BYTES_MAX).contains(&segment_bytes),
            "segments of {segment_bytes} B were asked for"
        );
        let mut chain = Chain::new(recovered.chain.base());
        for (point, _) in recovered.chain.links() {
            chain.put(*point, true);
        }
        let lanes_found = recovered.lanes.keys().next_back().map_or(0, |last| last + 1);
        let open_lane = |id| {
            let found = recovered.lanes.get(&id).map_or(&[][..], Vec::as_slice);
            Lane::open(id, id >= lanes, segment_bytes, found)
        };
        let mut wal = Wal {
            data_dir: recovered.data_dir,
            layout,
            lanes: (0..lanes.max(lanes_found)).map(open_lane).collect(),
            durable: chain.last().index,
            stamped: recovered.witnessed,
            stamp_max: None,
            chain,
            hard_state: recovered.hard_state,
            newest_durable: (recovered.newest, recovered.hard_state),
            next_sequence: recovered.next_sequence,
            tokens: Tokens::default(),
            pool: BlockPool::default(),
            last_append: now,
            fault: None,
        };
        wal.tend(out);
        wal
    }

    // --- writing --------------------------------------------------------------------------

    /// Whether `append` or `stamp` may be called. Asked before every call.
    #[must_use]
    pub fn has_free_lane(&self) -> bool {
        self.free_lane().is_some()
    }

    /// Writes waiting entries, first to last, as many as go into one write: at least one. An
    /// index that is there already is replaced, and whatever lies beyond it is dropped. The hard
    /// state rides along, and is durable before any of these entries is.
    pub fn append(
        &mut self,
        now: Tick,
        waiting: &mut VecDeque<Entry>,
        hard_state: Option<HardState>,
        out: &mut Vec<DiskOp>,
    ) {
        let lane = self.free_lane().expect("append is called with a free lane only");
        self.adopt(hard_state);
        let Some(first) = waiting.front() else {
            panic!("append is called with an entry");
        };
        let (segment, start) = self.lanes[lane].place(first.frame_len());
        let run_max = self.lanes[lane].room().min(WAL_RUN_BYTES_MAX);
        let (mut blocks, mut frames) = (self.pool.take(), Vec::new());
        while let Some(entry) = waiting.front() {
            let len = blocks.padded_len() as u64;
            if len > 0 && len + entry.frame_len() > run_max {
                break;
            }
            let Some(entry) = waiting.pop_front() else { break };
            let place = Place { data_dir: self.data_dir, segment, offset: start + len };
            frames.push(self.seal_entry(&place, entry, &mut blocks));
        }
        self.write(lane, blocks, frames, out);
        self.last_append = now;
    }

    /// Writes what is durable and the hard state, without an entry: for a vote, an idle log
    /// (`stamp_due`) and a clean stop.
    pub fn stamp(&mut self, now: Tick, hard_state: Option<HardState>, out: &mut Vec<DiskOp>) {
        let lane = self.free_lane().expect("stamp is called with a free lane only");
        self.adopt(hard_state);
        let (segment, offset) = self.lanes[lane].place(BLOCK_BYTES as u64);
        let place = Place { data_dir: self.data_dir, segment, offset };
        let last = self.chain.last();
        let head = self.head(Kind::Stamp, last.index, last.term);
        let sealed = frame::seal(&place, head, Chunks::new());
        let mut blocks = self.pool.take();
        sealed.write(&mut blocks);
        self.write(lane, blocks, vec![(None, head.sequence)], out);
        self.last_append = now;
    }

    /// When to stamp, if nothing is appended before: some durable entry has no witness yet.
    #[must_use]
    pub fn stamp_due(&self) -> Option<Tick> {
        (self.stamped < self.witness().index).then(|| self.last_append.plus_ms(STAMP_IDLE_MS))
    }

    /// Takes the answer to an operation.
    ///
    /// # Errors
    /// An operation failed, this one or one before: nothing becomes durable any more.
    pub fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let tokens = &mut self.tokens;
        let mut lanes = self.lanes.iter_mut();
        let answer = lanes.find_map(|lane| lane.on_done(token, result, tokens, out));
        match answer {
            None => panic!("{token:?} was answered, which is not under way"),
            Some(Ok(Done::Worked)) => {}
            Some(Ok(Done::Written { frames, hard_state })) => {
                self.on_written(&frames, hard_state);
            }
            Some(Err(fault)) => {
                self.fault = Some(fault);
                return Err(fault);
            }
        }
        self.tend(out);
        Ok(())
    }

    // --- what stands ------------------------------------------------------------------------

    /// The highest index up to which every entry is on disk.
    #[must_use]
    pub fn durable(&self) -> RaftIndex {
        self.durable
    }

    /// The newest hard state that is on disk. A vote may leave once it stands here.
    #[must_use]
    pub fn durable_hard_state(&self) -> HardState {
        self.newest_durable.1
    }

    /// The last entry, durable or not; the base if there is none.
    #[must_use]
    pub fn last(&self) -> ChainPoint {
        self.chain.last()
    }

    /// The entry at `index`, for a checkpoint's superblock; none if it is not in the log.
    #[must_use]
    pub fn point(&self, index: RaftIndex) -> Option<ChainPoint> {
        self.chain.point(index)
    }

    /// What failed, if anything did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether no write is in flight: after a stamp, the moment to stop.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.writes.is_empty())
    }

    /// Whether a segment could not be made for want of space. Writes go on while the others
    /// last, so that there is time to raise an alarm.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.lanes.iter().any(Lane::is_out_of_space)
    }

    // --- making room ------------------------------------------------------------------------

    /// Every shard's superblock covers the log up to here, durably, and names `point(upto)`:
    /// segments that hold nothing beyond, and no hard state that counts, are used again.
    pub fn release(&mut self, upto: RaftIndex, out: &mut Vec<DiskOp>) {
        assert!(upto <= self.durable, "the log was released up to {upto}, beyond what is durable");
        self.chain.rebase(upto);
        self.tend(out);
    }

    /// Tries again to make segments that there was no space for.
    pub fn retry_space(&mut self, out: &mut Vec<DiskOp>) {
        self.lanes.iter_mut().for_each(Lane::retry_space);
        self.tend(out);
    }

    /// The point that a snapshot up to `index` gives the log. Every shard's superblock has to
    /// hold it, durably, before `reset` is called with it.
    pub fn snapshot_point(&mut self, index: RaftIndex, term: Term) -> ChainPoint {
        assert!(index > self.chain.base().index, "a snapshot at {index} lies before the log");
        // Frames sealed from here on may be read beside the new base, which knows nothing of
        // entries that a member of another branch has at the snapshot's index or above.
        self.stamp_max = Some(RaftIndex(index.0 - 1));
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        ChainPoint::made(self.data_dir, index, term, sequence)
    }

    /// Drops every entry: the log goes on behind `point`.
    pub fn reset(&mut self, point: ChainPoint, out: &mut Vec<DiskOp>) {
        self.chain = Chain::new(point);
        self.durable = point.index;
        self.stamped = point.index;
        self.stamp_max = None;
        self.tend(out);
    }

    // --- within -----------------------------------------------------------------------------

    fn free_lane(&self) -> Option<usize> {
        let len = FRAME_BYTES_MAX.min(self.layout.segment_bytes);
        let is_free = |lane: &Lane| lane.is_free(self.layout.depth, len);
        self.lanes.iter().position(is_free).filter(|_| self.fault.is_none())
    }

    fn adopt(&mut self, hard_state: Option<HardState>) {
        let Some(next) = hard_state else { return };
        let now = self.hard_state;
        assert!(next.term >= now.term, "the term went back from {now} to {next}");
        assert!(
            next.term > now.term || now.vote == 0 || next.vote == now.vote,
            "the vote changed within a term, from {now} to {next}"
        );
        self.hard_state = next;
    }

    fn seal_entry(
        &mut self,
        place: &Place,
        entry: Entry,
        blocks: &mut Blocks,
    ) -> (Option<RaftIndex>, u64) {
        let Entry { index, term, chunks } = entry;
        let before = index.0.checked_sub(1).and_then(|before| self.chain.point(RaftIndex(before)));
        let Some(before) = before else {
            let last = self.chain.last().index;
            panic!("entry {index} does not follow the log, which ends at {last}");
        };
        assert!(term >= before.term, "entry {index} of term {term} follows term {}", before.term);
        self.durable = self.durable.min(before.index);
        self.stamped = self.stamped.min(before.index);
        let head = Head {
            previous_term: before.term,
            previous_checksum: before.checksum,
            ..self.head(Kind::Entry, index, term)
        };
        let sealed = frame::seal(place, head, chunks);
        sealed.write(blocks);
        let (checksum, sequence) = (sealed.checksum, head.sequence);
        self.chain.put(ChainPoint { index, term, checksum, sequence }, false);
        (Some(index), sequence)
    }

    /// Fields of the next frame, as of now.
    fn head(&mut self, kind: Kind, index: RaftIndex, term: Term) -> Head {
        let witness = self.witness();
        self.stamped = self.stamped.max(witness.index);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Head {
            kind,
            sequence,
            index,
            term,
            previous_term: Term(0),
            previous_checksum: 0,
            durable_upto: witness.index,
            durable_checksum: witness.checksum,
            hard_state: self.hard_state,
        }
    }

    /// The last entry that a frame may call durable.
    fn witness(&self) -> ChainPoint {
        let upto = self.stamp_max.map_or(self.durable, |max| self.durable.min(max));
        self.chain.point(upto).expect("what is durable is in the log")
    }

    fn write(&mut self, lane: usize, blocks: Blocks, frames: lane::Frames, out: &mut Vec<DiskOp>) {
        let token = self.tokens.take();
        self.lanes[lane].write(token, blocks, (frames, self.hard_state), out);
        self.tend(out);
    }

    fn on_written(&mut self, frames: &lane::Frames, hard_state: HardState) {
        for &(index, sequence) in frames {
            if sequence > self.newest_durable.0 {
                self.newest_durable = (sequence, hard_state);
            }
            // An entry that was replaced meanwhile has another frame at its index, or none.
            let link = index.and_then(|index| self.chain.link_mut(index));
            if let Some((_, is_on_disk)) = link.filter(|(point, _)| point.sequence == sequence) {
                *is_on_disk = true;
            }
        }
        while self.chain.link(self.durable.next()).is_some_and(|(_, is_on_disk)| *is_on_disk) {
            self.durable = self.durable.next();
        }
    }

    fn tend(&mut self, out: &mut Vec<DiskOp>) {
        let base = self.chain.base().sequence;
        let released = Released { base, newest_durable: self.newest_durable.0 };
        for lane in &mut self.lanes {
            lane.tend(released, &mut self.tokens, out);
        }
    }
}
