//! A page's bytes on disk: a header, then the body, compressed if that saves a unit. Format
//! version 2. Integers are little-endian.
//!
//! ```text
//! offset  size  field
//!      0     8  magic, "RINGPAGE"
//!      8     2  format version, 2
//!     10     2  shard
//!     12     4  unit: where the page lies / 4096
//!     16    16  data-dir id, random, made with the data directory
//!     32     8  sequence of the checkpoint that wrote it
//!     40     4  bytes of the page as it was handed in
//!     44     1  form of the body: 1 raw, 2 folded, and compressed by zstd
//!     45     3  zero
//!     48        body; then zeros up to the unit's end
//! ```
//!
//! The checksum over header and body stands in the reference, not here: a page that was written
//! elsewhere, or never, or is of an earlier use of its place, has another one. The header says
//! which of these it is.

use std::fmt;

use bytes::{Buf, Bytes};
use zstd_safe::{CCtx, CParameter, DCtx};

use crate::base::ShardId;
use crate::base::block::{BLOCK_BYTES, BlockPool, Blocks};
use crate::base::limits::PAGE_LOGICAL_BYTES_MAX;

use super::PageForm;
use super::extent::{Extent, PageRef};

/// The format that this code writes, and the only one it reads.
pub const VERSION: u16 = 2;
/// Bytes in front of a body. A page of n units holds this much less when it is not compressed.
pub const HEADER_BYTES: usize = 48;

const MAGIC: [u8; 8] = *b"RINGPAGE";
const RAW: u8 = 1;
const ZSTD: u8 = 2;
/// Measured on objects of Kubernetes: a tenth of their size at 1.5 GB/s; higher levels gain
/// little and take several times as long.
const LEVEL: i32 = 1;

/// Whose pages these are: part of every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The data directory's id.
    pub data_dir: u128,
    /// The shard.
    pub shard: ShardId,
}

/// What is wrong with bytes that were to be a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Fewer bytes than the reference says.
    Short,
    /// Does not begin as a page does.
    NoPage,
    /// Begins as a page of this place does, with other bytes than the one referred to: bits
    /// rotted, a write was torn, or it was lost and a page of another time stands here.
    Changed {
        /// The checkpoint that it says wrote it.
        sequence: u64,
    },
    /// An intact header of another place: a write went astray.
    Misplaced {
        /// The shard that it names.
        shard: ShardId,
        /// The unit that it names.
        unit: u32,
    },
    /// Of another data directory.
    Foreign,
    /// Of another format.
    Version(u16),
    /// The checksum holds, the body cannot be expanded to what the reference says.
    Body,
    /// It is what was written, and no page to the tree that reads it.
    Contents(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Short => write!(f, "the file ends within it"),
            Damage::NoPage => write!(f, "what stands there is no page"),
            Damage::Changed { sequence } => write!(
                f,
                "its checksum does not hold; what stands there begins as a page of checkpoint \
                 {sequence} does"
            ),
            Damage::Misplaced { shard, unit } => {
                write!(f, "a page of shard {shard} for unit {unit} stands in its place")
            }
            Damage::Foreign => write!(f, "a page of another data directory stands in its place"),
            Damage::Version(version) => {
                write!(f, "it is of format {version} and this program reads format {VERSION} alone")
            }
            Damage::Body => write!(f, "its checksum holds and its body cannot be expanded"),
            Damage::Contents(what) => write!(f, "its checksum holds and it is {what}"),
        }
    }
}

/// Makes pages into bytes and back. Holds the contexts of zstd, which are dear to make.
pub struct Codec {
    place: Place,
    form: PageForm,
    compressor: CCtx<'static>,
    expander: DCtx<'static>,
    folded: Vec<u8>,
    scratch: Vec<u8>,
    /// Memory of pages that were written, for those to come.
    blocks: BlockPool,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({:?})", self.place.shard)
    }
}

/// A page's body, of which size and form are known and the place is not yet.
#[derive(Debug)]
pub struct Packed<'a> {
    form: u8,
    body: &'a [u8],
    logical: u32,
    place: Place,
    blocks: &'a BlockPool,
}

/// Units for so many bytes of body.
fn units(body: usize) -> usize {
    (HEADER_BYTES + body).div_ceil(BLOCK_BYTES)
}

impl Codec {
    /// For the pages of one file.
    #[must_use]
    pub fn new(place: Place, form: PageForm) -> Codec {
        let mut compressor = CCtx::create();
        compressor
            .set_parameter(CParameter::CompressionLevel(LEVEL))
            .expect("zstd knows its own levels");
        let blocks = BlockPool::default();
        let (folded, scratch) = (Vec::new(), Vec::new());
        Codec { place, form, compressor, expander: DCtx::create(), folded, scratch, blocks }
    }

    /// Compresses a page if that saves a unit.
    pub fn pack<'a>(&'a mut self, logical: &'a [u8]) -> Packed<'a> {
        let len = logical.len();
        assert!((1..=PAGE_LOGICAL_BYTES_MAX).contains(&len), "a page of {len} B was written");
        let (place, blocks) = (self.place, &self.blocks);
        let raw = Packed { form: RAW, body: logical, logical: len as u32, place, blocks };
        if units(len) == 1 {
            return raw;
        }
        self.scratch.clear();
        self.scratch.reserve(zstd_safe::compress_bound(len));
        self.folded.clear();
        self.folded.extend_from_slice(logical);
        (self.form.fold)(&mut self.folded);
        let packed = self.compressor.compress2(&mut self.scratch, &self.folded);
        // An error would be zstd's own: raw is always right.
        if packed.is_err() || units(self.scratch.len()) >= units(len) {
            return raw;
        }
        Packed { form: ZSTD, body: &self.scratch, ..raw }
    }

    /// The page that `at` refers to, checked, from what stands in its extent.
    ///
    /// # Errors
    /// What stands there is not that page.
    pub fn open(&mut self, at: PageRef, bytes: &[u8]) -> Result<Bytes, Damage> {
        let stored = bytes.get(..at.stored as usize).ok_or(Damage::Short)?;
        if crc32c::crc32c(stored) != at.checksum {
            return Err(self.diagnose(at, stored));
        }
        let (header, body) = stored.split_at_checked(HEADER_BYTES).ok_or(Damage::Short)?;
        let found = Header::read(header).ok_or(Damage::NoPage)?;
        self.judge(at, &found)?;
        let logical = at.logical as usize;
        if found.logical != at.logical || logical > PAGE_LOGICAL_BYTES_MAX {
            return Err(Damage::Body);
        }
        let expanded = match found.form {
            RAW => Bytes::copy_from_slice(body),
            ZSTD => {
                let mut out = Vec::with_capacity(logical);
                self.expander.decompress(&mut out, body).map_err(|_| Damage::Body)?;
                (self.form.unfold)(&mut out);
                Bytes::from(out)
            }
            _ => return Err(Damage::Body),
        };
        if expanded.len() != logical {
            return Err(Damage::Body);
        }
        (self.form.check)(&expanded).map_err(|what| Damage::Contents(what.0))?;
        Ok(expanded)
    }

    /// Whether a header is of the place that `at` names.
    fn judge(&self, at: PageRef, found: &Header) -> Result<(), Damage> {
        if found.data_dir != self.place.data_dir {
            return Err(Damage::Foreign);
        }
        if (found.shard, found.unit) != (self.place.shard, at.unit) {
            return Err(Damage::Misplaced { shard: found.shard, unit: found.unit });
        }
        if found.version != VERSION {
            return Err(Damage::Version(found.version));
        }
        Ok(())
    }

    /// Says of bytes whose checksum does not hold what they seem to be.
    fn diagnose(&self, at: PageRef, stored: &[u8]) -> Damage {
        let Some(found) = Header::read(stored) else { return Damage::NoPage };
        match self.judge(at, &found) {
            Err(damage) => damage,
            Ok(()) => Damage::Changed { sequence: found.sequence },
        }
    }
}

impl Packed<'_> {
    /// Units that it takes.
    #[must_use]
    pub fn units(&self) -> u32 {
        units(self.body.len()) as u32
    }

    /// Fixes its bytes for a place.
    #[must_use]
    pub fn seal(&self, extent: Extent, sequence: u64) -> (PageRef, Blocks) {
        let stored = HEADER_BYTES + self.body.len();
        debug_assert_eq!(extent.units, self.units());
        let header = Header {
            version: VERSION,
            shard: self.place.shard,
            unit: extent.unit,
            data_dir: self.place.data_dir,
            sequence,
            logical: self.logical,
            form: self.form,
        };
        let header = header.bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), self.body);
        let mut blocks = self.blocks.take();
        blocks.reserve(stored);
        blocks.extend(&header);
        blocks.extend(self.body);
        let padding = blocks.padded_len() - blocks.written();
        blocks.extend(&[0; BLOCK_BYTES][..padding]);
        let Extent { unit, units } = extent;
        let at = PageRef { unit, units, stored: stored as u32, logical: self.logical, checksum };
        (at, blocks)
    }
}

struct Header {
    version: u16,
    shard: ShardId,
    unit: u32,
    data_dir: u128,
    sequence: u64,
    logical: u32,
    form: u8,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&self.version.to_le_bytes());
        out[10..12].copy_from_slice(&self.shard.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.unit.to_le_bytes());
        out[16..32].copy_from_slice(&self.data_dir.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.logical.to_le_bytes());
        out[44] = self.form;
        out
    }

    /// `None`: too short, or without the magic.
    fn read(bytes: &[u8]) -> Option<Header> {
        let mut rest = bytes.get(..HEADER_BYTES)?.strip_prefix(&MAGIC)?;
        Some(Header {
            version: rest.get_u16_le(),
            shard: ShardId(rest.get_u16_le()),
            unit: rest.get_u32_le(),
            data_dir: rest.get_u128_le(),
            sequence: rest.get_u64_le(),
            logical: rest.get_u32_le(),
            form: rest.get_u8(),
        })
    }
}
