//! What a restart makes of the segments: the log, the hard state, and a verdict.
//!
//! The lanes are read side by side and their frames taken in the order of sealing, which is the
//! order of the frame sequence. Taking an entry redoes what sealing it did: if it names the
//! checksum and the term of the entry before it, it is live, and whatever stood at its index or
//! beyond is dead. If it does not, it is itself dead, whichever lane it stands in. So a frame
//! that a crash left behind a hole stays dead however often the member restarts: its predecessor
//! never comes, since whatever takes its place is sealed later and has another checksum: new
//! frames are numbered from the newest one found on, dead ones included.
//!
//! Every frame also witnesses: it carries `durable_upto` and the checksum of the entry there,
//! both true when it was sealed. Where the log, as taken so far, does not hold that entry, there
//! is doubt. A live entry taken later ends it: its chain of checksums proves that the log up to
//! it is exactly what the member had then. Doubt that lasts is corruption.
//!
//! | frame of an entry | its predecessor | witnessed as durable | verdict              |
//! |-------------------|-----------------|----------------------|----------------------|
//! | intact            | live            | any                  | keep                 |
//! | intact            | missing         | no                   | discard: torn        |
//! | intact            | missing         | yes                  | refuse: corrupt      |
//! | damaged or absent | any             | no                   | discard: torn        |
//! | damaged or absent | any             | yes                  | refuse: corrupt      |
//!
//! Whether an intact successor names a damaged frame does not matter: with several writes in
//! flight a successor may be on disk before its predecessor is, so only the witness decides.
//! A damaged frame of which not even the first 40 bytes were written was never there: the log
//! is clean. A damaged last frame that no other frame witnesses counts as torn, though a disk
//! could have spoiled it later; a stamp after the last entry closes that window.
//! A superseded entry may be damaged without harm. A gap in a lane's files, a block that cannot
//! be read and a format of another version refuse as well.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::base::RaftIndex;
use crate::base::block::BLOCK_BYTES;
use crate::base::limits::WAL_LANES_MAX;

use super::chain::{Chain, ChainPoint};
use super::disk::{Location, Medium, SegmentId};
use super::frame::{self, Entry, FRAME_BYTES_MAX, Glance, HardState, Kind, Place, Unfit};
use super::scan::{Found, LaneScan, SegmentState, Stop};
use crate::shard::disk::{DiskFault, NO_START, REMEDY};

/// What the member knows about its log from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The data directory's id.
    pub data_dir: u128,
    /// The last entry that every shard's checkpoint covers, as `Wal::point` named it; for a
    /// store without a checkpoint `ChainPoint::start`. Witnessed as durable.
    pub base: ChainPoint,
    /// Whether the log was ever written to: an empty one is then a loss, not a beginning.
    pub is_used: bool,
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was discarded.
    Clean,
    /// What a crash left unfinished was discarded. None of it was ever acknowledged.
    Torn {
        /// The first frame discarded.
        at: Location,
    },
}

/// The log as it was found.
#[derive(Debug)]
pub struct Recovered {
    /// How it ends.
    pub verdict: Verdict,
    /// The newest hard state found, with a commit index that the log reaches.
    pub hard_state: HardState,
    pub(super) data_dir: u128,
    pub(super) chain: Chain<Location>,
    pub(super) witnessed: RaftIndex,
    /// The newest frame found; 0 if there is none.
    pub(super) newest: u64,
    pub(super) next_sequence: u64,
    /// Each lane's segments, oldest first.
    pub(super) lanes: BTreeMap<u16, Vec<SegmentState>>,
}

/// The log is not what this member left: it must not start from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// An entry is damaged or gone that was durable.
    Entry {
        /// The first index that is not there.
        index: RaftIndex,
        /// Its damaged frame, where one can still be told.
        at: Option<Location>,
        /// The highest index that was durable by the word of a frame.
        durable_upto: RaftIndex,
        /// That frame.
        witness: Location,
    },
    /// A segment between two others is gone.
    Gap {
        /// The missing file.
        segment: SegmentId,
    },
    /// Not one frame is left of a log that was in use.
    Empty,
    /// Bytes cannot be read.
    Unreadable {
        /// Which bytes; none: the directory, or a sync of it.
        at: Option<Location>,
        /// Why.
        cause: DiskFault,
    },
    /// A frame is of another format.
    Version {
        /// The frame.
        at: Location,
        /// Its format version.
        version: u16,
    },
    /// More lanes than a log can have.
    Lanes {
        /// A file of a lane that cannot be.
        segment: SegmentId,
    },
}

/// Reads the log.
///
/// # Errors
/// [`Corrupt`] when an entry is missing that was durable, or when that cannot be ruled out.
pub fn recover(medium: &dyn Medium, known: &Known) -> Result<Recovered, Corrupt> {
    let on_directory = |cause| Corrupt::Unreadable { at: None, cause };
    medium.settle().map_err(on_directory)?;
    let files = by_lane(medium.segments().map_err(on_directory)?)?;
    let mut scans: Vec<LaneScan<'_>> =
        files.values().map(|files| LaneScan::new(medium, known.data_dir, files)).collect();
    let mut heads = Vec::with_capacity(scans.len());
    for scan in &mut scans {
        heads.push(scan.next()?);
    }
    let mut merge = Merge::new(known.base);
    loop {
        let ahead = heads
            .iter()
            .enumerate()
            .filter_map(|(lane, head)| head.as_ref().map(|found| (found.head.sequence, lane)));
        let Some((_, lane)) = ahead.min() else {
            break;
        };
        let next = scans[lane].next()?;
        if let Some(found) = std::mem::replace(&mut heads[lane], next) {
            merge.take(&found);
        }
    }
    merge.finish(known, &scans)
}

/// Files by lane, each lane's by sequence and without a gap.
fn by_lane(
    mut files: Vec<(SegmentId, u64)>,
) -> Result<BTreeMap<u16, Vec<(SegmentId, u64)>>, Corrupt> {
    files.sort_unstable();
    let mut lanes: BTreeMap<u16, Vec<(SegmentId, u64)>> = BTreeMap::new();
    for (id, len) in files {
        if id.lane >= WAL_LANES_MAX {
            return Err(Corrupt::Lanes { segment: id });
        }
        let lane = lanes.entry(id.lane).or_default();
        if let Some((last, _)) = lane.last()
            && last.sequence + 1 != id.sequence
        {
            return Err(Corrupt::Gap { segment: SegmentId { sequence: last.sequence + 1, ..id } });
        }
        lane.push((id, len));
    }
    Ok(lanes)
}

/// The log as taken so far.
struct Merge {
    chain: Chain<Location>,
    hard_state: HardState,
    newest: u64,
    /// Sequence of the last live entry.
    accepted: u64,
    witnessed: RaftIndex,
    doubt: Option<(RaftIndex, Location)>,
    /// The first dead entry since the last live one.
    dead: Option<Location>,
}

impl Merge {
    fn new(base: ChainPoint) -> Merge {
        Merge {
            chain: Chain::new(base),
            hard_state: HardState::default(),
            newest: 0,
            accepted: base.sequence,
            witnessed: base.index,
            doubt: None,
            dead: None,
        }
    }

    fn take(&mut self, found: &Found) {
        let head = &found.head;
        self.newest = head.sequence;
        // True of a frame with a damaged payload too: a vote is not to be forgotten with it.
        self.hard_state = head.hard_state;
        if head.sequence <= self.chain.base().sequence {
            return;
        }
        if head.kind == Kind::Entry {
            self.take_entry(found);
        }
        self.take_witness(found);
    }

    fn take_entry(&mut self, found: &Found) {
        let head = &found.head;
        let before = head.index.0.checked_sub(1).and_then(|i| self.chain.point(RaftIndex(i)));
        let is_next = before.is_some_and(|before| {
            (before.term, before.checksum) == (head.previous_term, head.previous_checksum)
        });
        if !found.is_intact || !is_next {
            self.dead.get_or_insert(found.location);
            return;
        }
        let point = ChainPoint {
            index: head.index,
            term: head.term,
            checksum: found.checksum,
            sequence: head.sequence,
        };
        self.chain.put(point, found.location);
        self.accepted = head.sequence;
        self.witnessed = self.witnessed.min(RaftIndex(head.index.0 - 1));
        self.doubt = None;
        self.dead = None;
    }

    fn take_witness(&mut self, found: &Found) {
        let head = &found.head;
        if head.durable_upto < self.chain.base().index {
            return;
        }
        let there = self.chain.point(head.durable_upto);
        if there.is_some_and(|point| point.checksum == head.durable_checksum) {
            self.witnessed = self.witnessed.max(head.durable_upto);
        } else if self.doubt.is_none_or(|(upto, _)| upto < head.durable_upto) {
            self.doubt = Some((head.durable_upto, found.location));
        }
    }

    fn finish(mut self, known: &Known, scans: &[LaneScan<'_>]) -> Result<Recovered, Corrupt> {
        if known.is_used && self.newest == 0 {
            return Err(Corrupt::Empty);
        }
        if let Some((durable_upto, witness)) = self.doubt {
            return Err(self.missing(durable_upto, witness, scans));
        }
        let torn = scans.iter().filter_map(|scan| scan.damage).find_map(|damage| {
            let is_news = damage.next.is_none_or(|next| next > self.accepted);
            is_news.then_some(damage.location)
        });
        let verdict = match self.dead.or(torn) {
            Some(at) => Verdict::Torn { at },
            None => Verdict::Clean,
        };
        let (base, last) = (self.chain.base(), self.chain.last());
        // Another member may have told of a commit further on than this one's log was durable.
        let commit = &mut self.hard_state.commit;
        *commit = (*commit).min(last.index).max(base.index);
        let lanes = scans.iter().filter_map(|scan| {
            scan.segments.first().map(|first| (first.id.lane, scan.segments.clone()))
        });
        Ok(Recovered {
            verdict,
            hard_state: self.hard_state,
            data_dir: known.data_dir,
            chain: self.chain,
            witnessed: self.witnessed,
            newest: self.newest,
            next_sequence: self.newest.max(base.sequence).saturating_add(1),
            lanes: lanes.collect(),
        })
    }

    fn missing(
        &self,
        durable_upto: RaftIndex,
        witness: Location,
        scans: &[LaneScan<'_>],
    ) -> Corrupt {
        // If the log is long enough, its end is a branch that the missing entry had replaced.
        let end = self.chain.last().index.next();
        let replaced = |scan: &LaneScan<'_>| {
            scan.damaged.range(..=durable_upto).next().map(|(index, at)| (*index, *at))
        };
        let (index, at) = if end <= durable_upto {
            (end, scans.iter().find_map(|scan| scan.damaged.get(&end).copied()))
        } else {
            let first = scans.iter().filter_map(replaced).min_by_key(|(index, _)| *index);
            first.map_or((durable_upto, None), |(index, at)| (index, Some(at)))
        };
        Corrupt::Entry { index, at, durable_upto, witness }
    }
}

impl Recovered {
    /// What the log starts behind.
    #[must_use]
    pub fn base(&self) -> ChainPoint {
        self.chain.base()
    }

    /// The last entry; the base if there is none.
    #[must_use]
    pub fn last(&self) -> ChainPoint {
        self.chain.last()
    }

    /// Index and term of every entry in order, from the one behind the base.
    pub fn points(&self) -> impl Iterator<Item = ChainPoint> {
        self.chain.links().map(|(point, _)| *point)
    }

    /// Where each lane goes on: behind its last frame, dead ones included.
    pub fn ends(&self) -> impl Iterator<Item = Location> {
        self.lanes.values().filter_map(|segments| {
            let last = segments.iter().rfind(|segment| segment.newest > 0)?;
            Some(Location { segment: last.id, offset: last.end })
        })
    }

    /// The entries in order, read again one by one: the log may be larger than memory.
    pub fn entries<'a>(
        &'a self,
        medium: &'a dyn Medium,
    ) -> impl Iterator<Item = Result<Entry, Corrupt>> + 'a {
        self.chain.links().map(move |(point, at)| self.load(medium, point, *at))
    }

    fn load(
        &self,
        medium: &dyn Medium,
        point: &ChainPoint,
        at: Location,
    ) -> Result<Entry, Corrupt> {
        let unreadable = |cause| Corrupt::Unreadable { at: Some(at), cause };
        let changed = Corrupt::Entry {
            index: point.index,
            at: Some(at),
            durable_upto: point.index,
            witness: at,
        };
        let block = medium.read(at.segment, at.offset, BLOCK_BYTES).map_err(unreadable)?;
        let place = Place { data_dir: self.data_dir, segment: at.segment, offset: at.offset };
        let Glance::Maybe { preamble_len } = frame::glance(&block, &place) else {
            return Err(changed);
        };
        let mut bytes = self.grow(medium, at, block, preamble_len).map_err(unreadable)?;
        let preamble = match bytes.get(..preamble_len).map(frame::parse) {
            Some(Ok(preamble)) if preamble.checksum == point.checksum => preamble,
            Some(Err(Unfit::Version(version))) => return Err(Corrupt::Version { at, version }),
            _ => return Err(changed),
        };
        let len = preamble.len() + preamble.payload_len;
        bytes = self.grow(medium, at, bytes, len).map_err(unreadable)?;
        if bytes.len() < len {
            return Err(changed);
        }
        let mut payload = Bytes::from(bytes).slice(preamble.len()..len);
        let mut chunks = Vec::with_capacity(preamble.table.len());
        for &(len, crc) in &preamble.table {
            let chunk = payload.split_to(len as usize);
            if crc32c::crc32c(&chunk) != crc {
                return Err(changed);
            }
            chunks.push((chunk, crc));
        }
        Ok(Entry { index: point.index, term: point.term, chunks })
    }

    /// At least the first `len` bytes of the frame at `at`, of which `bytes` are the first.
    fn grow(
        &self,
        medium: &dyn Medium,
        at: Location,
        mut bytes: Vec<u8>,
        len: usize,
    ) -> Result<Vec<u8>, DiskFault> {
        debug_assert!(len as u64 <= FRAME_BYTES_MAX, "a verified length is bounded");
        let missing = len.saturating_sub(bytes.len()).next_multiple_of(BLOCK_BYTES);
        if missing > 0 {
            let offset = at.offset + bytes.len() as u64;
            bytes.extend(medium.read(at.segment, offset, missing)?);
        }
        Ok(bytes)
    }
}

impl From<Stop> for Corrupt {
    fn from(stop: Stop) -> Corrupt {
        match stop {
            Stop::Unreadable(at, cause) => Corrupt::Unreadable { at: Some(at), cause },
            Stop::Version(at, version) => Corrupt::Version { at, version },
        }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::Entry { index, at, durable_upto, witness } => {
                match at {
                    Some(at) => write!(f, "{at}: the frame of entry {index} is damaged")?,
                    None => write!(f, "no intact frame of entry {index} is left")?,
                }
                write!(
                    f,
                    ", though the log was durable up to entry {durable_upto} by the word of \
                     {witness}: {NO_START}; {REMEDY}"
                )
            }
            Corrupt::Gap { segment } => write!(
                f,
                "{segment} is missing between two others of its lane; put the file back if it \
                 was moved; else {NO_START}; {REMEDY}"
            ),
            Corrupt::Empty => write!(
                f,
                "wal holds not one intact frame of this data directory, though the log was in \
                 use; put its files back if they were moved; else {NO_START}; {REMEDY}"
            ),
            Corrupt::Unreadable { at: Some(at), cause } => {
                write!(
                    f,
                    "{at}: the log cannot be read: {cause}; see to the disk; {NO_START}; {REMEDY}"
                )
            }
            Corrupt::Unreadable { at: None, cause } => write!(
                f,
                "the directory wal cannot be synced and listed: {cause}; see to the disk and \
                 its permissions"
            ),
            Corrupt::Version { at, version } => write!(
                f,
                "{at}: a frame is of format {version} and this program reads format {} alone; \
                 start the version that wrote it",
                frame::VERSION
            ),
            Corrupt::Lanes { segment } => write!(
                f,
                "{segment} is of a lane that no log has: lanes are 0 to {}; move the file away \
                 if it was put there by hand",
                WAL_LANES_MAX - 1
            ),
        }
    }
}

impl std::error::Error for Corrupt {}
