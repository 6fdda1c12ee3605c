//! The superblock: what a shard's file holds, as of one checkpoint. Format version 1. Integers
//! are little-endian.
//!
//! Two slots at the front of the file, two units each, are written by turns: checkpoint n goes
//! into slot n % 2. A slot holds the superblock twice, in both its units. A crash tears the slot
//! that was being written and never the other one.
//!
//! ```text
//! offset  size  field
//!      0     8  magic, "RINGSUPR"
//!      8     4  format version, 1
//!     12     4  checksum: CRC-32C of the unit, these four bytes taken as zero
//!     16    16  data-dir id, random, made with the data directory
//!     32     8  cluster id
//!     40     8  member id
//!     48     2  shard
//!     50     2  shards of the member
//!     52     4  units of the file: what lies beyond is not named
//!     56     8  seed of the key hash
//!     64     8  sequence of the checkpoint, from 1
//!     72     8  applied: raft index of the last entry that it covers
//!     80     8  applied: its term
//!     88     8  applied: order of its frame's sealing
//!     96     4  applied: checksum of its frame
//!    100     4  zero
//!    104     8  revision
//!    112     8  compact revision
//!    120  81x4  roots of current, undo, leased, meta: reference (16; zeros: no page), height
//!               (1), and 64 bytes that are the tree's
//!    444        zeros up to the unit's end
//! ```

use std::fmt;

use bytes::Buf;

use crate::base::block::{BLOCK_BYTES, Blocks};
use crate::base::limits::COUNT_MAX;
use crate::base::{RaftIndex, Revision, ShardId, Term};
use crate::shard::disk::{NO_START, REMEDY};
use crate::shard::wal::ChainPoint;

use super::disk::FileId;
use super::extent::{PageRef, SUPERBLOCK_UNITS, UNIT_BYTES};

/// The format that this code writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// Bytes at the front of the file to read before `open`: both slots.
pub const HEAD_BYTES: usize = SUPERBLOCK_UNITS as usize * BLOCK_BYTES;
/// Bytes that a tree keeps beside its root.
pub const AGGREGATE_BYTES: usize = 64;
/// Trees of a shard.
pub const TREES: usize = 4;

const MAGIC: [u8; 8] = *b"RINGSUPR";
const CHECKSUM_AT: usize = 12;
const SLOT_UNITS: usize = 2;

/// What never changes in a file, and must be this member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The data directory's id.
    pub data_dir: u128,
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: u64,
    /// The shard.
    pub shard: ShardId,
    /// How many shards the member has.
    pub shards: u16,
    /// Seed of the hash that places keys on shards.
    pub hash_seed: u64,
}

/// A tree that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its topmost page.
    pub page: PageRef,
    /// Levels below that page.
    pub height: u8,
    /// Counts and sums over the whole tree, in the tree's own encoding.
    pub aggregate: [u8; AGGREGATE_BYTES],
}

/// The trees of a shard, each at its root. `None`: the tree is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The newest version of each key.
    pub current: Option<Root>,
    /// What was replaced, by revision.
    pub undo: Option<Root>,
    /// Leases and their keys.
    pub leased: Option<Root>,
    /// The member's own matters, in shard 0 alone.
    pub meta: Option<Root>,
}

/// What a checkpoint says beside its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The last entry that it covers.
    pub applied: ChainPoint,
    /// The store's revision as of that entry.
    pub revision: Revision,
    /// Its compact revision as of that entry.
    pub compact_revision: Revision,
    /// The trees.
    pub roots: Roots,
}

/// One superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Whose file it is.
    pub identity: Identity,
    /// Which checkpoint it ends; 0: none yet.
    pub sequence: u64,
    /// Units of the file.
    pub file_units: u32,
    /// What the shard holds.
    pub state: State,
}

impl Superblock {
    /// Of a file without a checkpoint.
    #[must_use]
    pub fn fresh(identity: Identity) -> Superblock {
        let state = State {
            applied: ChainPoint::start(identity.data_dir),
            revision: Revision::EMPTY,
            compact_revision: Revision(-1),
            roots: Roots::default(),
        };
        Superblock { identity, sequence: 0, file_units: SUPERBLOCK_UNITS, state }
    }

    /// The unit where its slot begins.
    #[must_use]
    pub fn unit(&self) -> u32 {
        slot_of(self.sequence) as u32 * SLOT_UNITS as u32
    }

    /// Its slot, named as a page is.
    #[must_use]
    pub fn place(&self) -> PageRef {
        let [units, bytes] = [SLOT_UNITS, SLOT_UNITS * BLOCK_BYTES].map(|number| number as u32);
        PageRef { unit: self.unit(), units, stored: bytes, logical: bytes, checksum: 0 }
    }

    /// Its slot: the unit twice.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        let unit = self.encode();
        let mut blocks = Blocks::new();
        for _ in 0..SLOT_UNITS {
            blocks.extend(&unit);
        }
        blocks
    }

    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        let Superblock { identity, sequence, file_units, state } = self;
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&identity.data_dir.to_le_bytes());
        out.extend_from_slice(&identity.cluster.to_le_bytes());
        out.extend_from_slice(&identity.member.to_le_bytes());
        out.extend_from_slice(&identity.shard.0.to_le_bytes());
        out.extend_from_slice(&identity.shards.to_le_bytes());
        out.extend_from_slice(&file_units.to_le_bytes());
        out.extend_from_slice(&identity.hash_seed.to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        let ChainPoint { index, term, checksum, sequence } = state.applied;
        for word in [index.0, term.0, sequence, u64::from(checksum)] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&state.revision.0.to_le_bytes());
        out.extend_from_slice(&state.compact_revision.0.to_le_bytes());
        let Roots { current, undo, leased, meta } = &state.roots;
        for root in [current, undo, leased, meta] {
            match root {
                None => out.resize(out.len() + ROOT_BYTES, 0),
                Some(root) => {
                    out.extend_from_slice(&root.page.encode());
                    out.push(root.height);
                    out.extend_from_slice(&root.aggregate);
                }
            }
        }
        let mut unit = [0; BLOCK_BYTES];
        unit[..out.len()].copy_from_slice(&out);
        let checksum = crc32c::crc32c(&unit);
        unit[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        unit
    }
}

const ROOT_BYTES: usize = PageRef::ENCODED_BYTES + 1 + AGGREGATE_BYTES;
const _: () = assert!(120 + TREES * ROOT_BYTES == 444);

/// The slot of a checkpoint.
fn slot_of(sequence: u64) -> usize {
    (sequence % 2) as usize
}

/// What one unit at the front of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unit {
    /// All zeros, or beyond the file's end.
    Blank,
    Damaged,
    /// Intact, of another format.
    Version(u32),
    Intact(Box<Superblock>),
}

/// Reads one unit. Never panics, whatever stands there.
fn decode(unit: &[u8]) -> Unit {
    if unit.iter().all(|byte| *byte == 0) {
        return Unit::Blank;
    }
    let Ok(mut unit) = <[u8; BLOCK_BYTES]>::try_from(unit) else {
        return Unit::Damaged;
    };
    let checksum = (&unit[CHECKSUM_AT..]).get_u32_le();
    unit[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
    if unit[..8] != MAGIC || crc32c::crc32c(&unit) != checksum {
        return Unit::Damaged;
    }
    let version = (&unit[8..]).get_u32_le();
    if version != VERSION {
        return Unit::Version(version);
    }
    fields(&unit[16..]).map_or(Unit::Damaged, |found| Unit::Intact(Box::new(found)))
}

/// `None`: the checksum holds and a field is impossible.
fn fields(mut rest: &[u8]) -> Option<Superblock> {
    let data_dir = rest.get_u128_le();
    let (cluster, member) = (rest.get_u64_le(), rest.get_u64_le());
    let (shard, shards) = (ShardId(rest.get_u16_le()), rest.get_u16_le());
    let file_units = rest.get_u32_le();
    let hash_seed = rest.get_u64_le();
    let sequence = rest.get_u64_le();
    let applied = ChainPoint {
        index: RaftIndex(rest.get_u64_le()),
        term: Term(rest.get_u64_le()),
        sequence: rest.get_u64_le(),
        checksum: u32::try_from(rest.get_u64_le()).ok()?,
    };
    let (revision, compact_revision) = (Revision(rest.get_i64_le()), Revision(rest.get_i64_le()));
    let mut trees = [None; TREES];
    for tree in &mut trees {
        *tree = root(&rest[..ROOT_BYTES], file_units)?;
        rest.advance(ROOT_BYTES);
    }
    let [current, undo, leased, meta] = trees;
    let identity = Identity { data_dir, cluster, member, shard, shards, hash_seed };
    let roots = Roots { current, undo, leased, meta };
    let state = State { applied, revision, compact_revision, roots };
    let counts = [sequence, applied.index.0, applied.term.0, applied.sequence];
    let is_possible = sequence > 0
        && file_units >= SUPERBLOCK_UNITS
        && counts.into_iter().all(|count| count <= COUNT_MAX)
        && (Revision::EMPTY.0..=COUNT_MAX.cast_signed()).contains(&revision.0)
        && (-1..=revision.0).contains(&compact_revision.0);
    is_possible.then_some(Superblock { identity, sequence, file_units, state })
}

#[expect(clippy::option_option, reason = "no tree is not the same as an impossible one")]
fn root(bytes: &[u8], file_units: u32) -> Option<Option<Root>> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(None);
    }
    let page = PageRef::decode(bytes).ok()?;
    let (height, aggregate) = bytes[PageRef::ENCODED_BYTES..].split_first()?;
    let aggregate = aggregate.try_into().ok()?;
    let is_inside = page.extent().end() <= file_units;
    is_inside.then_some(Some(Root { page, height: *height, aggregate }))
}

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No checkpoint has ended in it: the whole log has to be there.
    Fresh,
    /// Every unit of both slots is as it was written.
    Whole,
    /// A slot is damaged in part, or whole and the other one was taken: a crash does that to
    /// the slot that was being written. The log must begin where this superblock ends.
    Torn {
        /// The damaged slot.
        slot: usize,
    },
}

/// The superblock to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How the file was found.
    pub verdict: Verdict,
    /// The newest that is whole.
    pub superblock: Superblock,
}

/// A member must not start from this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No superblock is left.
    Damaged {
        /// The file.
        file: FileId,
    },
    /// The file is another's.
    Foreign {
        /// The file.
        file: FileId,
        /// Whose it says it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// A superblock is of another format.
    Version {
        /// The file.
        file: FileId,
        /// Its format version.
        version: u32,
    },
    /// The file ends before what its superblock names.
    Cut {
        /// The file.
        file: FileId,
        /// Its bytes.
        bytes: u64,
        /// The bytes that it should have at least.
        expected: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Damaged { file } => write!(
                f,
                "{file}: none of the superblocks in its first {HEAD_BYTES} B is intact; put the \
                 file back if it was replaced; else {NO_START}; {REMEDY}"
            ),
            Refusal::Foreign { file, found, expected } => write!(
                f,
                "{file} is of {found}, not of {expected}; put the right file in its place; \
                 nothing was changed"
            ),
            Refusal::Version { file, version } => write!(
                f,
                "{file} is of format {version} and this program reads format {VERSION} alone; \
                 start the version that wrote it"
            ),
            Refusal::Cut { file, bytes, expected } => write!(
                f,
                "{file} ends at {bytes} B, though its pages reach up to {expected} B; put the \
                 whole file back if it was copied; else {NO_START}; {REMEDY}"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// Chooses the superblock to start from. `head` is the front of the file, up to `HEAD_BYTES` of
/// it, read past any cache and behind a sync; `file_bytes` the file's length.
///
/// # Errors
/// [`Refusal`] when the file is another's, cut off, or damaged beyond what a crash does.
pub fn open(head: &[u8], file_bytes: u64, expected: &Identity) -> Result<Opened, Refusal> {
    let file = FileId(expected.shard);
    let units: Vec<Unit> = (0..SUPERBLOCK_UNITS as usize)
        .map(|unit| {
            let rest = head.get(unit * BLOCK_BYTES..).unwrap_or_default();
            match decode(rest.get(..BLOCK_BYTES).unwrap_or(rest)) {
                // The next checkpoint would overwrite it.
                Unit::Intact(found) if slot_of(found.sequence) != unit / SLOT_UNITS => {
                    Unit::Damaged
                }
                unit => unit,
            }
        })
        .collect();
    let mut newest: Option<&Superblock> = None;
    for unit in &units {
        match unit {
            Unit::Version(version) => return Err(Refusal::Version { file, version: *version }),
            Unit::Intact(found) => {
                check_identity(file, &found.identity, expected)?;
                newest = newest.filter(|newest| newest.sequence >= found.sequence).or(Some(found));
            }
            Unit::Blank | Unit::Damaged => {}
        }
    }
    let slots: Vec<&[Unit]> = units.chunks(SLOT_UNITS).collect();
    let torn = slots.iter().position(|slot| slot[0] != slot[1] || slot.contains(&Unit::Damaged));
    let superblock = match newest {
        Some(newest) => *newest,
        // The first checkpoint goes into slot 1 and the second into slot 0. So a slot 0 that
        // was never written says that no checkpoint but the first can have been torn.
        None if slots[slot_of(2)].iter().all(|unit| *unit == Unit::Blank) => {
            Superblock::fresh(*expected)
        }
        None => return Err(Refusal::Damaged { file }),
    };
    let needed = u64::from(superblock.file_units) * UNIT_BYTES;
    if superblock.sequence > 0 && file_bytes < needed {
        return Err(Refusal::Cut { file, bytes: file_bytes, expected: needed });
    }
    let verdict = match torn {
        Some(slot) => Verdict::Torn { slot },
        None if superblock.sequence == 0 => Verdict::Fresh,
        None => Verdict::Whole,
    };
    Ok(Opened { verdict, superblock })
}

fn check_identity(file: FileId, found: &Identity, expected: &Identity) -> Result<(), Refusal> {
    // The data-dir id is never shown: it is the one thing that no client may know.
    let names = |of: &Identity| {
        let is_ours = of.data_dir == expected.data_dir;
        let Identity { cluster, member, shard, shards, hash_seed, .. } = of;
        [
            if is_ours { "this data directory" } else { "another data directory" }.to_owned(),
            format!("cluster {cluster:x}"),
            format!("member {member:x}"),
            format!("a store of {shards} shards"),
            format!("shard {shard}"),
            format!("hash seed {hash_seed:x}"),
        ]
    };
    let mut pairs = names(found).into_iter().zip(names(expected));
    match pairs.find(|(found, expected)| found != expected) {
        Some((found, expected)) => Err(Refusal::Foreign { file, found, expected }),
        None => Ok(()),
    }
}
