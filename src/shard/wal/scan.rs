//! Reads one lane from its oldest segment to its newest, frame by frame, in bounded memory.

use std::collections::BTreeMap;

use crate::base::RaftIndex;
use crate::base::block::BLOCK_BYTES;
use crate::base::limits::{SEGMENT_BYTES_MAX, WAL_DAMAGE_NAMED_MAX, WAL_SCAN_BYTES};

use super::disk::{Location, Medium, SegmentId};
use super::frame::{self, Glance, Head, Place, Preamble, Unfit};
use crate::shard::disk::DiskFault;

/// A frame whose header and table are intact.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) checksum: u32,
    pub(super) location: Location,
    /// Whether the payload is intact as well. The header's facts hold either way.
    pub(super) is_intact: bool,
}

/// What a segment turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentState {
    pub(super) id: SegmentId,
    /// Whole blocks of the file in bytes.
    pub(super) len: u64,
    /// Where the last frame found ends; 0 if there is none.
    pub(super) end: u64,
    /// Sequence of the last frame found; 0 if there is none.
    pub(super) newest: u64,
}

/// The last place in a lane where a frame begins that is not intact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) location: Location,
    /// Sequence of the first frame found behind it.
    pub(super) next: Option<u64>,
}

/// Why a scan cannot go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Unreadable(Location, DiskFault),
    Version(Location, u16),
}

pub(super) struct LaneScan<'a> {
    medium: &'a dyn Medium,
    data_dir: u128,
    /// One per file, in order; those before `at` are read.
    pub(super) segments: Vec<SegmentState>,
    at: usize,
    offset: u64,
    newest: u64,
    window: Window,
    pub(super) damage: Option<Damage>,
    /// Index, as far as a damaged header can be believed, and place of damaged frames.
    pub(super) damaged: BTreeMap<RaftIndex, Location>,
}

/// Bytes read ahead from one file.
#[derive(Default)]
struct Window {
    segment: Option<SegmentId>,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> LaneScan<'a> {
    /// A scan over files of one lane, sorted by sequence.
    pub(super) fn new(
        medium: &'a dyn Medium,
        data_dir: u128,
        files: &[(SegmentId, u64)],
    ) -> LaneScan<'a> {
        let segments = files
            .iter()
            .map(|&(id, len)| {
                let len = len.min(SEGMENT_BYTES_MAX);
                SegmentState { id, len: len - len % BLOCK_BYTES as u64, end: 0, newest: 0 }
            })
            .collect();
        LaneScan {
            medium,
            data_dir,
            segments,
            at: 0,
            offset: 0,
            newest: 0,
            window: Window::default(),
            damage: None,
            damaged: BTreeMap::new(),
        }
    }

    /// The next frame. After one that is not intact the scan goes on at the next block.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Stop> {
        while let Some(segment) = self.segments.get(self.at).copied() {
            if self.offset >= segment.len {
                self.at += 1;
                self.offset = 0;
                continue;
            }
            let location = Location { segment: segment.id, offset: self.offset };
            self.offset += BLOCK_BYTES as u64;
            let Some(preamble) = self.probe(location, segment.len)? else {
                continue;
            };
            // A lane is written in order, so a frame out of order is not where it was written.
            if preamble.head.sequence <= self.newest {
                self.note_damage(location, preamble.head.index);
                continue;
            }
            let end = location.offset + preamble.frame_len();
            let is_intact =
                end <= segment.len && self.payload_is_intact(location, segment.len, &preamble)?;
            if is_intact {
                self.offset = end;
            } else {
                self.name_damage(location, preamble.head.index);
            }
            self.note_found(preamble.head.sequence, end.min(segment.len));
            let Preamble { head, checksum, .. } = preamble;
            return Ok(Some(Found { head, checksum, location, is_intact }));
        }
        Ok(None)
    }

    fn note_found(&mut self, sequence: u64, end: u64) {
        self.newest = sequence;
        let segment = &mut self.segments[self.at];
        segment.newest = sequence;
        // The payload of a torn frame may hold the remains of frames that end before it does.
        segment.end = segment.end.max(end);
        if let Some(damage) = &mut self.damage {
            damage.next.get_or_insert(sequence);
        }
    }

    fn note_damage(&mut self, location: Location, index: RaftIndex) {
        self.damage = Some(Damage { location, next: None });
        self.name_damage(location, index);
    }

    fn name_damage(&mut self, location: Location, index: RaftIndex) {
        if self.damaged.len() < WAL_DAMAGE_NAMED_MAX {
            self.damaged.entry(index).or_insert(location);
        }
    }

    /// Header and table at `location`, if a frame of this place begins there.
    fn probe(&mut self, location: Location, file_len: u64) -> Result<Option<Preamble>, Stop> {
        let Location { segment, offset } = location;
        let place = Place { data_dir: self.data_dir, segment, offset };
        let bytes = self.window.bytes_at(self.medium, location, file_len)?;
        let preamble_len = match frame::glance(bytes, &place) {
            Glance::Nothing => return Ok(None),
            Glance::Damaged { index } => {
                self.note_damage(location, index);
                return Ok(None);
            }
            Glance::Maybe { preamble_len } => preamble_len,
        };
        let mut preamble = Vec::with_capacity(preamble_len);
        while preamble.len() < preamble_len {
            let at = Location { segment, offset: offset + preamble.len() as u64 };
            let bytes = self.window.bytes_at(self.medium, at, file_len)?;
            if bytes.is_empty() {
                break;
            }
            let take = bytes.len().min(preamble_len - preamble.len());
            preamble.extend_from_slice(&bytes[..take]);
        }
        match frame::parse(&preamble) {
            Ok(preamble) => Ok(Some(preamble)),
            Err(Unfit::Version(version)) => Err(Stop::Version(location, version)),
            Err(Unfit::Damaged) => {
                let index = preamble.get(48..56).and_then(|bytes| bytes.try_into().ok());
                let index = RaftIndex(index.map_or(0, u64::from_le_bytes));
                self.note_damage(location, index);
                Ok(None)
            }
        }
    }

    fn payload_is_intact(
        &mut self,
        location: Location,
        file_len: u64,
        preamble: &Preamble,
    ) -> Result<bool, Stop> {
        let Location { segment, offset } = location;
        let mut offset = offset + preamble.len() as u64;
        for &(len, crc) in &preamble.table {
            let (mut left, mut sum) = (len as usize, 0);
            while left > 0 {
                let at = Location { segment, offset };
                let bytes = self.window.bytes_at(self.medium, at, file_len)?;
                if bytes.is_empty() {
                    return Ok(false);
                }
                let take = bytes.len().min(left);
                sum = crc32c::crc32c_append(sum, &bytes[..take]);
                left -= take;
                offset += take as u64;
            }
            if sum != crc {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Window {
    /// The bytes at hand from `at` on, read if there are none; empty at the file's end.
    fn bytes_at(
        &mut self,
        medium: &dyn Medium,
        at: Location,
        file_len: u64,
    ) -> Result<&[u8], Stop> {
        let end = self.offset + self.bytes.len() as u64;
        let is_inside = (self.offset..end).contains(&at.offset);
        if self.segment != Some(at.segment) || !is_inside {
            let offset = at.offset - at.offset % BLOCK_BYTES as u64;
            let len = file_len.saturating_sub(offset).min(WAL_SCAN_BYTES as u64) as usize;
            self.bytes.clear();
            if len > 0 {
                self.bytes = medium
                    .read(at.segment, offset, len)
                    .map_err(|fault| Stop::Unreadable(Location { offset, ..at }, fault))?;
                self.bytes.truncate(len);
            }
            self.offset = offset;
            self.segment = Some(at.segment);
        }
        let skip = (at.offset - self.offset) as usize;
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}
