//! One lane: its segment files in order, the one being written, those made ready ahead, and
//! its writes in flight.
//!
//! A lane's segment numbers are contiguous, so that a missing file is noticed: files are added
//! at the upper end and taken away at the lower, one operation on names at a time.
//!
//! ```text
//!   full, oldest first          current    ready      being prepared
//!   [released] [released] [..]  [..->  ]   [zeros]    [zeros..]
//!       |                                                 ^
//!       +-------------------- recycled -------------------+
//! ```

use std::collections::VecDeque;

use crate::base::RaftIndex;
use crate::base::block::Blocks;
use crate::base::limits::{SEGMENTS_AHEAD, WAL_SEGMENTS_SPARE, WAL_ZERO_SLICE_BYTES};

use super::disk::{Action, DiskOp, Fault, SegmentId};
use super::frame::HardState;
use super::scan::SegmentState;
use crate::shard::disk::{DiskFault, Token, Tokens};

/// Up to where the log needs no frame any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    /// Sequence of the frame that the chain's base stands for: all sealed up to it is covered.
    pub(super) base: u64,
    /// Sequence of the newest frame that is durable: it holds the newest hard state.
    pub(super) newest_durable: u64,
}

#[derive(Debug)]
struct Full {
    sequence: u64,
    len: u64,
    /// Sequence of its last frame.
    newest: u64,
}

#[derive(Debug)]
struct Current {
    sequence: u64,
    len: u64,
    /// Where the next frame goes.
    offset: u64,
    newest: u64,
}

/// What is done to the lane's files beside writing frames.
#[derive(Clone, Copy, Debug)]
enum Work {
    Create,
    Zero {
        done: u64,
    },
    Sync,
    Recycle {
        to: u64,
    },
    Delete,
    /// Takes a file away that there was no space for.
    Discard,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    token: Token,
    /// The segment's number.
    sequence: u64,
    work: Work,
}

/// The frames of a write: index, for entries, and sequence of each.
pub(super) type Frames = Vec<(Option<RaftIndex>, u64)>;

/// One write on its way to disk.
#[derive(Debug)]
pub(super) struct InFlight {
    token: Token,
    segment: u64,
    pub(super) frames: Frames,
    /// The hard state that its frames carry.
    pub(super) hard_state: HardState,
}

/// What became of an operation that ended well.
#[derive(Debug)]
pub(super) enum Done {
    Written { frames: Frames, hard_state: HardState },
    Worked,
}

#[derive(Debug)]
pub(super) struct Lane {
    id: u16,
    /// Found on disk but not in the configuration: it is emptied, never written.
    is_retired: bool,
    segment_bytes: u64,
    full: VecDeque<Full>,
    current: Option<Current>,
    ready: VecDeque<u64>,
    /// Files to be made anew under their old names.
    unprepared: VecDeque<u64>,
    next_segment: u64,
    job: Option<Job>,
    is_out_of_space: bool,
    pub(super) writes: Vec<InFlight>,
}

impl Lane {
    /// A lane that goes on behind what recovery found in its segments.
    pub(super) fn open(
        id: u16,
        is_retired: bool,
        segment_bytes: u64,
        found: &[SegmentState],
    ) -> Lane {
        let mut lane = Lane {
            id,
            is_retired,
            segment_bytes,
            full: VecDeque::new(),
            current: None,
            ready: VecDeque::new(),
            unprepared: VecDeque::new(),
            next_segment: found.last().map_or(1, |segment| segment.id.sequence + 1),
            job: None,
            is_out_of_space: false,
            writes: Vec::new(),
        };
        let last_used = found.iter().rposition(|segment| segment.newest > 0);
        for (at, segment) in found.iter().enumerate() {
            let SegmentState { len, end, newest, id: SegmentId { sequence, .. } } = *segment;
            if is_retired || last_used.is_some_and(|last| at < last) {
                lane.full.push_back(Full { sequence, len, newest });
            } else if last_used == Some(at) {
                lane.current = Some(Current { sequence, len, offset: end, newest });
            } else if len == segment_bytes && lane.unprepared.is_empty() {
                // A full length says that every block was written; recovery synced the file.
                lane.ready.push_back(sequence);
            } else {
                lane.unprepared.push_back(sequence);
            }
        }
        if lane.current.is_none() {
            lane.roll();
        }
        lane
    }

    /// Whether a frame of `len` bytes, or more of them, can be written now.
    pub(super) fn is_free(&self, depth: usize, len: u64) -> bool {
        let has_room = self.room() >= len || !self.ready.is_empty();
        !self.is_retired && self.writes.len() < depth && has_room
    }

    /// Whether this lane waits for space on the disk.
    pub(super) fn is_out_of_space(&self) -> bool {
        self.is_out_of_space
    }

    /// Tries again to make segments, if there was no space for them.
    pub(super) fn retry_space(&mut self) {
        self.is_out_of_space = false;
    }

    /// Bytes left in the current segment.
    pub(super) fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.len - current.offset)
    }

    /// Where the next frame of `len` bytes goes: segment and offset. Rolls over if it must.
    pub(super) fn place(&mut self, len: u64) -> (SegmentId, u64) {
        if self.room() < len {
            self.roll();
        }
        let current = self.current.as_ref().expect("a frame is placed in a free lane only");
        assert!(current.len - current.offset >= len, "a frame of {len} B fits no segment");
        (SegmentId { lane: self.id, sequence: current.sequence }, current.offset)
    }

    /// Writes the blocks at the place given last.
    pub(super) fn write(
        &mut self,
        token: Token,
        blocks: Blocks,
        (frames, hard_state): (Frames, HardState),
        out: &mut Vec<DiskOp>,
    ) {
        let current = self.current.as_mut().expect("a run is written where it was placed");
        let offset = current.offset;
        current.offset += blocks.padded_len() as u64;
        current.newest = frames.last().map_or(current.newest, |(_, sequence)| *sequence);
        self.writes.push(InFlight { token, segment: current.sequence, frames, hard_state });
        let segment = SegmentId { lane: self.id, sequence: current.sequence };
        out.push(DiskOp { token, segment, action: Action::Write { offset, blocks } });
    }

    /// Takes the answer to an operation of this lane. `None`: the token is not of this lane.
    pub(super) fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        tokens: &mut Tokens,
        out: &mut Vec<DiskOp>,
    ) -> Option<Result<Done, Fault>> {
        if let Some(at) = self.writes.iter().position(|write| write.token == token) {
            let write = self.writes.remove(at);
            let InFlight { segment, frames, hard_state, .. } = write;
            let fault = |cause| self.fault("write", segment, cause);
            return Some(result.map(|()| Done::Written { frames, hard_state }).map_err(fault));
        }
        let job = self.job.take_if(|job| job.token == token)?;
        Some(self.on_worked(job, result, tokens, out).map(|()| Done::Worked))
    }

    fn on_worked(
        &mut self,
        Job { sequence, work, .. }: Job,
        result: Result<(), DiskFault>,
        tokens: &mut Tokens,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), Fault> {
        let fault = |what, cause| Err(self.fault(what, sequence, cause));
        let next = match (work, result) {
            // No frame was ever in it, so the file can be thrown away and made anew.
            (Work::Create | Work::Zero { .. } | Work::Sync, Err(DiskFault::NoSpace)) => {
                self.is_out_of_space = true;
                self.unprepared.push_front(sequence);
                Some(Work::Discard)
            }
            (Work::Create, Err(cause)) => return fault("creation", cause),
            (Work::Zero { .. }, Err(cause)) => return fault("zero-fill", cause),
            (Work::Sync, Err(cause)) => return fault("sync", cause),
            (Work::Recycle { .. }, Err(cause)) => return fault("rename", cause),
            (Work::Delete | Work::Discard, Err(cause)) => return fault("deletion", cause),
            (Work::Create, Ok(())) => Some(Work::Zero { done: 0 }),
            (Work::Zero { done }, Ok(())) => {
                let done = done + self.slice(done);
                let is_whole = done == self.segment_bytes;
                Some(if is_whole { Work::Sync } else { Work::Zero { done } })
            }
            (Work::Sync, Ok(())) => {
                self.add_ready(sequence);
                None
            }
            (Work::Recycle { to }, Ok(())) => {
                self.add_ready(to);
                None
            }
            (Work::Delete | Work::Discard, Ok(())) => None,
        };
        if let Some(work) = next {
            self.start(sequence, work, tokens, out);
        }
        Ok(())
    }

    fn fault(&self, what: &'static str, sequence: u64, cause: DiskFault) -> Fault {
        Fault { what, segment: SegmentId { lane: self.id, sequence }, cause }
    }

    fn add_ready(&mut self, sequence: u64) {
        self.ready.push_back(sequence);
        if self.current.is_none() {
            self.roll();
        }
    }

    /// Starts what the lane's files need next, one thing at a time.
    pub(super) fn tend(&mut self, released: Released, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        if self.job.is_some() {
            return;
        }
        let spare = self.full.iter().take_while(|full| self.is_released(full, released)).count();
        let spare_max = if self.is_retired { 0 } else { WAL_SEGMENTS_SPARE };
        let wants_one = !self.is_retired && self.ready.len() < SEGMENTS_AHEAD;
        let is_blank = self.unprepared.is_empty() || self.is_out_of_space;
        let oldest = self.full.front().filter(|_| spare > 0);
        // A recycled file's blocks are written already; old frames in it are told by their number.
        let fits = oldest.is_some_and(|oldest| oldest.len == self.segment_bytes);
        if wants_one && is_blank && fits {
            let to = self.number();
            self.take_oldest(Work::Recycle { to }, tokens, out);
        } else if spare > spare_max || (oldest.is_some() && !fits) {
            self.take_oldest(Work::Delete, tokens, out);
        } else if wants_one && !self.is_out_of_space {
            let sequence = self.number();
            self.start(sequence, Work::Create, tokens, out);
        }
    }

    fn take_oldest(&mut self, work: Work, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        let oldest = self.full.pop_front().expect("a spare segment is a full one");
        self.start(oldest.sequence, work, tokens, out);
    }

    fn is_released(&self, full: &Full, released: Released) -> bool {
        full.newest <= released.base
            && full.newest < released.newest_durable
            && self.writes.iter().all(|write| write.segment != full.sequence)
    }

    /// The number of the next segment to make.
    fn number(&mut self) -> u64 {
        self.unprepared.pop_front().unwrap_or_else(|| {
            self.next_segment += 1;
            self.next_segment - 1
        })
    }

    fn start(&mut self, sequence: u64, work: Work, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        let lane = self.id;
        let action = match work {
            Work::Create => Action::Create,
            Work::Zero { done } => Action::Zero { offset: done, len: self.slice(done) },
            Work::Sync => Action::Sync,
            Work::Recycle { to } => Action::Rename { to: SegmentId { lane, sequence: to } },
            Work::Delete | Work::Discard => Action::Delete,
        };
        let token = tokens.take();
        self.job = Some(Job { token, sequence, work });
        out.push(DiskOp { token, segment: SegmentId { lane, sequence }, action });
    }

    fn slice(&self, done: u64) -> u64 {
        (self.segment_bytes - done).min(WAL_ZERO_SLICE_BYTES)
    }

    fn roll(&mut self) {
        let Some(sequence) = self.ready.pop_front() else {
            return;
        };
        if let Some(Current { sequence, len, newest, .. }) = self.current.take() {
            self.full.push_back(Full { sequence, len, newest });
        }
        self.current = Some(Current { sequence, len: self.segment_bytes, offset: 0, newest: 0 });
    }
}
