//! One frame: the unit that is written, verified and chained. Format version 1.
//!
//! A frame starts at a multiple of 4 KiB in its segment and is zero-padded to whole blocks of
//! 4 KiB. Integers are little-endian.
//!
//! ```text
//! offset  size  field
//!      0     8  magic, "RINGBOLT"
//!      8     2  format version, 1
//!     10     2  lane
//!     12     4  block: the frame's offset in its segment / 4096
//!     16    16  data-dir id, random, made with the data directory
//!     32     8  segment sequence, as in the file's name
//!     -- up to here: the identity; what does not begin with it is not a frame of this place --
//!     40     8  frame sequence: order of sealing over all lanes
//!     48     8  raft index          (stamp: of the last entry sealed before it)
//!     56     8  term                (stamp: likewise)
//!     64     8  term of the entry before          (stamp: 0)
//!     72     8  durable_upto: highest index known to be durable here when this was sealed
//!     80     4  checksum of the frame of the entry before, by index      (stamp: 0)
//!     84     4  checksum of the frame at durable_upto
//!     88     8  hard state: term
//!     96     8  hard state: vote, 0 if none
//!    104     8  hard state: commit
//!    112     4  chunks in the table
//!    116     4  payload bytes: the sum of the chunks' lengths
//!    120     2  kind: 1 entry, 2 stamp
//!    122     2  zero
//!    124     4  checksum: CRC-32C of bytes 0..124 and of the table
//!    128   8 n  table: for each chunk its length (4) and its CRC-32C (4)
//!  128+8n       payload: the chunks, one behind the other; then zeros up to the block's end
//! ```
//!
//! The checksum covers the chunks' CRCs, hence the payload, without a pass over it: the caller
//! made those CRCs when it made the chunks. It is also the link of the chain: the next entry by
//! index names it, so it is known before the write ends. Bytes of an earlier use of the file
//! differ in the segment sequence, those of another data directory in its id. The id is the one
//! thing in a frame that a client cannot know, so no value can pass for a frame: never show it.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::base::block::{BLOCK_BYTES, Blocks};
use crate::base::limits::{COUNT_MAX, WAL_CHUNKS_MAX, WAL_PAYLOAD_BYTES_MAX};
use crate::base::{RaftIndex, Term};

use super::disk::SegmentId;

/// The format that this code writes, and the only one it reads.
pub const VERSION: u16 = 1;
/// Bytes of a frame in front of its table.
pub const HEADER_BYTES: usize = 128;
/// Bytes of the largest frame, padding included.
pub const FRAME_BYTES_MAX: u64 =
    padded(HEADER_BYTES + WAL_CHUNKS_MAX * TABLE_ENTRY_BYTES + WAL_PAYLOAD_BYTES_MAX);

const MAGIC: [u8; 8] = *b"RINGBOLT";
const TABLE_ENTRY_BYTES: usize = 8;
const CHECKSUM_AT: usize = 124;

/// What raft must not forget: rides in every frame, always whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Whom this member voted for in that term; 0: nobody yet.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: RaftIndex,
}

/// Payload: slices of the caller's, each with its CRC-32C.
pub type Chunks = Vec<(Bytes, u32)>;

/// One raft entry on its way to disk, or back from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the raft log.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Its payload, which the log does not look into.
    pub chunks: Chunks,
}

impl Entry {
    /// Bytes that its frame takes on disk.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        let payload: usize = self.chunks.iter().map(|(bytes, _)| bytes.len()).sum();
        padded(HEADER_BYTES + self.chunks.len() * TABLE_ENTRY_BYTES + payload)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A raft entry.
    Entry,
    /// `durable_upto` and the hard state alone.
    Stamp,
}

/// Where a frame stands. Part of what its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The data directory's id.
    pub data_dir: u128,
    /// Lane and segment.
    pub segment: SegmentId,
    /// Offset in the segment, a multiple of 4 KiB.
    pub offset: u64,
}

/// The fixed fields of a frame but for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entry or stamp.
    pub kind: Kind,
    /// Order of sealing over all lanes.
    pub sequence: u64,
    /// Index of the entry.
    pub index: RaftIndex,
    /// Term of the entry.
    pub term: Term,
    /// Term of the entry before.
    pub previous_term: Term,
    /// Checksum of the frame of the entry before.
    pub previous_checksum: u32,
    /// Highest index known to be durable.
    pub durable_upto: RaftIndex,
    /// Checksum of the frame at `durable_upto`.
    pub durable_checksum: u32,
    /// Hard state as of this frame.
    pub hard_state: HardState,
}

/// A frame whose bytes are final.
#[derive(Clone, Debug)]
pub struct SealedFrame {
    /// Its checksum: what the next entry names.
    pub checksum: u32,
    preamble: Vec<u8>,
    payload: usize,
    chunks: Chunks,
}

/// Fixes a frame's bytes for `place`. Reads the chunks' lengths and CRCs, never their bytes.
#[must_use]
pub fn seal(place: &Place, head: Head, chunks: Chunks) -> SealedFrame {
    let payload: usize = chunks.iter().map(|(bytes, _)| bytes.len()).sum();
    assert!(chunks.len() <= WAL_CHUNKS_MAX, "an entry of {} chunks was sealed", chunks.len());
    assert!(payload <= WAL_PAYLOAD_BYTES_MAX, "an entry of {payload} B was sealed");
    let mut out = Vec::with_capacity(HEADER_BYTES + chunks.len() * TABLE_ENTRY_BYTES);
    out.extend_from_slice(&identity(place));
    for word in [head.sequence, head.index.0, head.term.0, head.previous_term.0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&head.durable_upto.0.to_le_bytes());
    out.extend_from_slice(&head.previous_checksum.to_le_bytes());
    out.extend_from_slice(&head.durable_checksum.to_le_bytes());
    let hard_state = head.hard_state;
    for word in [hard_state.term.0, hard_state.vote, hard_state.commit.0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
    out.extend_from_slice(&(payload as u32).to_le_bytes());
    let kind: u32 = match head.kind {
        Kind::Entry => 1,
        Kind::Stamp => 2,
    };
    out.extend_from_slice(&kind.to_le_bytes());
    debug_assert_eq!(out.len(), CHECKSUM_AT);
    out.extend_from_slice(&[0; 4]);
    for (bytes, crc) in &chunks {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
    }
    let checksum = checksum_of(&out);
    out[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    SealedFrame { checksum, preamble: out, payload, chunks }
}

impl SealedFrame {
    /// Appends the frame and its padding to a run of blocks that is whole so far.
    pub fn write(&self, blocks: &mut Blocks) {
        debug_assert_eq!(blocks.written() % BLOCK_BYTES, 0, "a frame begins inside a block");
        blocks.reserve(self.preamble.len() + self.payload);
        blocks.extend(&self.preamble);
        for (bytes, _) in &self.chunks {
            blocks.extend(bytes);
        }
        let padding = blocks.padded_len() - blocks.written();
        blocks.extend(&[0; BLOCK_BYTES][..padding]);
    }
}

/// What the first bytes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// No frame of this place: never written, of an earlier use of the file, or payload.
    Nothing,
    /// Begins as a frame of this place does; the rest cannot be one. The index is unverified.
    Damaged {
        /// What stands where the index would.
        index: RaftIndex,
    },
    /// A frame of this place, if the checksum over this many bytes of header and table holds.
    Maybe {
        /// Bytes to pass to [`parse`].
        preamble_len: usize,
    },
}

/// Looks at the first bytes of a block.
#[must_use]
pub fn glance(block: &[u8], place: &Place) -> Glance {
    let identity = identity(place);
    let Some(header) = block.get(..HEADER_BYTES) else {
        return Glance::Nothing;
    };
    // The version is left out: a frame of another version is to be noticed, not skipped.
    if header[..8] != identity[..8] || header[10..12] != identity[10..12] {
        return Glance::Nothing;
    }
    if header[16..40] != identity[16..40] {
        return Glance::Nothing;
    }
    let index = RaftIndex((&header[48..]).get_u64_le());
    let chunks = (&header[112..]).get_u32_le() as usize;
    let payload = (&header[116..]).get_u32_le() as usize;
    let is_here = header[12..16] == identity[12..16];
    if !is_here || chunks > WAL_CHUNKS_MAX || payload > WAL_PAYLOAD_BYTES_MAX {
        return Glance::Damaged { index };
    }
    Glance::Maybe { preamble_len: HEADER_BYTES + chunks * TABLE_ENTRY_BYTES }
}

/// A frame's header and table, verified; its payload not yet.
#[derive(Clone, Debug)]
pub struct Preamble {
    /// The fields.
    pub head: Head,
    /// The frame's checksum.
    pub checksum: u32,
    /// Length and CRC-32C of each chunk.
    pub table: Vec<(u32, u32)>,
    /// Bytes of all chunks.
    pub payload_len: usize,
}

/// Why header and table are not those of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The checksum does not hold, or a field is impossible.
    Damaged,
    /// Intact, but of a format that this program does not know.
    Version(u16),
}

/// Verifies header and table, which [`glance`] has measured.
///
/// # Errors
/// [`Unfit`] when they are not what [`seal`] makes.
pub fn parse(preamble: &[u8]) -> Result<Preamble, Unfit> {
    let header = preamble.get(..HEADER_BYTES).ok_or(Unfit::Damaged)?;
    let checksum = (&header[CHECKSUM_AT..]).get_u32_le();
    if checksum_of(preamble) != checksum {
        return Err(Unfit::Damaged);
    }
    let version = (&header[8..]).get_u16_le();
    if version != VERSION {
        return Err(Unfit::Version(version));
    }
    let mut rest = &header[40..];
    let (sequence, index) = (rest.get_u64_le(), RaftIndex(rest.get_u64_le()));
    let (term, previous_term) = (Term(rest.get_u64_le()), Term(rest.get_u64_le()));
    let durable_upto = RaftIndex(rest.get_u64_le());
    let (previous_checksum, durable_checksum) = (rest.get_u32_le(), rest.get_u32_le());
    let hard_state = HardState {
        term: Term(rest.get_u64_le()),
        vote: rest.get_u64_le(),
        commit: RaftIndex(rest.get_u64_le()),
    };
    let counts = [sequence, index.0, term.0, hard_state.term.0];
    if counts.into_iter().any(|count| count > COUNT_MAX) {
        return Err(Unfit::Damaged);
    }
    let (chunks, payload_len) = (rest.get_u32_le() as usize, rest.get_u32_le() as usize);
    let kind = match rest.get_u32_le() {
        1 => Kind::Entry,
        2 => Kind::Stamp,
        _ => return Err(Unfit::Damaged),
    };
    let mut rest = &preamble[HEADER_BYTES..];
    if rest.len() != chunks * TABLE_ENTRY_BYTES {
        return Err(Unfit::Damaged);
    }
    let table: Vec<(u32, u32)> =
        (0..chunks).map(|_| (rest.get_u32_le(), rest.get_u32_le())).collect();
    let sum: u64 = table.iter().map(|(len, _)| u64::from(*len)).sum();
    if sum != payload_len as u64 {
        return Err(Unfit::Damaged);
    }
    let head = Head {
        kind,
        sequence,
        index,
        term,
        previous_term,
        previous_checksum,
        durable_upto,
        durable_checksum,
        hard_state,
    };
    Ok(Preamble { head, checksum, table, payload_len })
}

impl Preamble {
    /// Bytes of header and table.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.table.len() * TABLE_ENTRY_BYTES
    }

    /// Bytes that the frame takes on disk.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        padded(self.len() + self.payload_len)
    }
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}, vote {:x}, commit {}", self.term, self.vote, self.commit)
    }
}

fn identity(place: &Place) -> [u8; 40] {
    let mut out = [0; 40];
    let block = u32::try_from(place.offset / BLOCK_BYTES as u64)
        .expect("a segment has fewer than 2^32 blocks");
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[10..12].copy_from_slice(&place.segment.lane.to_le_bytes());
    out[12..16].copy_from_slice(&block.to_le_bytes());
    out[16..32].copy_from_slice(&place.data_dir.to_le_bytes());
    out[32..40].copy_from_slice(&place.segment.sequence.to_le_bytes());
    out
}

/// CRC-32C of header and table without the checksum's own four bytes.
fn checksum_of(preamble: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&preamble[..CHECKSUM_AT]);
    crc32c::crc32c_append(crc, &preamble[HEADER_BYTES..])
}

const fn padded(len: usize) -> u64 {
    (len.div_ceil(BLOCK_BYTES) * BLOCK_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let segment = SegmentId { lane: 3, sequence: 9 };
        Place { data_dir: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321, segment, offset: 8192 }
    }

    fn head() -> Head {
        Head {
            kind: Kind::Entry,
            sequence: 77,
            index: RaftIndex(41),
            term: Term(5),
            previous_term: Term(4),
            previous_checksum: 0xabcd,
            durable_upto: RaftIndex(39),
            durable_checksum: 0xef01,
            hard_state: HardState { term: Term(6), vote: 2, commit: RaftIndex(38) },
        }
    }

    fn chunks() -> Chunks {
        [&b"first"[..], b"", &[7; 5000]]
            .into_iter()
            .map(|bytes| (Bytes::from_static(bytes), crc32c::crc32c(bytes)))
            .collect()
    }

    fn flat(frame: &SealedFrame) -> Vec<u8> {
        let mut blocks = Blocks::new();
        frame.write(&mut blocks);
        blocks.iter().flatten().copied().collect()
    }

    #[test]
    fn a_sealed_frame_parses_back() {
        for chunks in [chunks(), Vec::new()] {
            let frame = seal(&place(), head(), chunks.clone());
            let bytes = flat(&frame);
            let entry = Entry { chunks: chunks.clone(), ..Entry::default() };
            assert_eq!(bytes.len() as u64, entry.frame_len());
            let Glance::Maybe { preamble_len } = glance(&bytes, &place()) else {
                panic!("its own frame is not recognised");
            };
            let preamble = parse(&bytes[..preamble_len]).unwrap();
            assert_eq!((preamble.head, preamble.checksum), (head(), frame.checksum));
            assert_eq!(preamble.frame_len(), bytes.len() as u64);
            let table: Vec<_> = chunks.iter().map(|(b, crc)| (b.len() as u32, *crc)).collect();
            assert_eq!(preamble.table, table);
        }
    }

    #[test]
    fn every_flipped_bit_of_header_and_table_is_noticed() {
        let bytes = flat(&seal(&place(), head(), chunks()));
        let len = HEADER_BYTES + 3 * TABLE_ENTRY_BYTES;
        for bit in 0..len * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let fits = match glance(&damaged, &place()) {
                Glance::Maybe { preamble_len } => {
                    damaged.get(..preamble_len).is_some_and(|bytes| parse(bytes).is_ok())
                }
                Glance::Nothing | Glance::Damaged { .. } => false,
            };
            assert!(!fits, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_at_home_in_one_place_only() {
        let sealed = seal(&place(), head(), chunks());
        let bytes = flat(&sealed);
        let mut elsewhere = [place(); 4];
        elsewhere[0].data_dir += 1;
        elsewhere[1].segment.lane += 1;
        elsewhere[2].segment.sequence += 1;
        elsewhere[3].offset += 4096;
        for (at, place) in elsewhere.iter().enumerate() {
            let expect = match at {
                3 => Glance::Damaged { index: RaftIndex(41) },
                _ => Glance::Nothing,
            };
            assert_eq!(glance(&bytes, place), expect, "{at}");
            let other = seal(place, head(), chunks());
            assert_ne!(other.checksum, sealed.checksum, "{at}");
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let mut bytes = flat(&seal(&place(), head(), Vec::new()));
        bytes[8] = 2;
        let checksum = checksum_of(&bytes[..HEADER_BYTES]);
        bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(glance(&bytes, &place()), Glance::Maybe { preamble_len: 128 }));
        assert_eq!(parse(&bytes[..128]).err(), Some(Unfit::Version(2)));
    }

    #[test]
    fn numbers_that_no_log_comes_to_are_damage() {
        let with = |change: &dyn Fn(&mut Head)| {
            let mut head = head();
            change(&mut head);
            parse(&flat(&seal(&place(), head, Vec::new()))[..HEADER_BYTES]).map(|found| found.head)
        };
        for (count, is_possible) in [(COUNT_MAX, true), (COUNT_MAX + 1, false), (u64::MAX, false)] {
            let all: [&dyn Fn(&mut Head); 4] = [
                &|head| head.sequence = count,
                &|head| head.index = RaftIndex(count),
                &|head| head.term = Term(count),
                &|head| head.hard_state.term = Term(count),
            ];
            for change in all {
                assert_eq!(with(change).is_ok(), is_possible, "{count}");
            }
        }
    }

    #[test]
    fn hostile_lengths_ask_for_nothing() {
        let mut bytes = flat(&seal(&place(), head(), Vec::new()));
        for at in [112, 116] {
            let kept = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert_eq!(glance(&bytes, &place()), Glance::Damaged { index: RaftIndex(41) });
            bytes = kept;
        }
        assert_eq!(glance(&bytes[..127], &place()), Glance::Nothing);
        assert_eq!(parse(&[]).err(), Some(Unfit::Damaged));
    }
}
