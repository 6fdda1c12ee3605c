//! What reads bytes that came from elsewhere, each as a function of one input: it must not panic,
//! must end, and what it accepts must be what it says.
//!
//! An input is a list of items, so that a change of one leaves the others what they are:
//!
//! ```text
//! item: flags u8, length u16 (little-endian), bytes; the last one may be cut short
//! ```
//!
//! The flags of an item ask the target to mend parts of its bytes: a checksum, a place, a
//! reference. So what lies behind a check is reached as well as the check.

pub mod entry;
pub mod frame;
pub mod image;
pub mod log;
pub mod page;
pub mod shard;
pub mod superblock;
mod tree;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Runs it. True if the bytes were taken for what they should be.
    pub run: fn(&[u8]) -> bool,
    /// Valid inputs, made by the encoders of the server.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "log", run: log::run, seeds: log::seeds },
    Target { name: "entry", run: entry::run, seeds: entry::seeds },
    Target { name: "superblock", run: superblock::run, seeds: superblock::seeds },
    Target { name: "image", run: image::run, seeds: image::seeds },
    Target { name: "page", run: page::run, seeds: page::seeds },
    Target { name: "shard", run: shard::run, seeds: shard::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
];

/// Items of an input that are looked at.
const ITEMS_MAX: usize = 200;
/// Bytes in front of an item's own.
const HEADER_BYTES: usize = 3;

/// A part of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is to be mended.
    pub flags: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Item {
    /// An item.
    pub fn new(flags: u8, bytes: impl Into<Vec<u8>>) -> Item {
        Item { flags, bytes: bytes.into() }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The little-endian number at a place, zero beyond the end.
    pub fn number(&self, at: usize, bytes: usize) -> u64 {
        let found = self.bytes.iter().skip(at).take(bytes);
        found.enumerate().fold(0, |sum, (place, byte)| sum | u64::from(*byte) << (8 * place))
    }
}

/// Takes an input apart.
pub fn items(mut data: &[u8]) -> Vec<Item> {
    let mut found = Vec::new();
    while let Some((&[flags, low, high], rest)) = data.split_first_chunk::<HEADER_BYTES>() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        found.push(Item::new(flags, bytes));
        data = rest;
        if found.len() == ITEMS_MAX {
            break;
        }
    }
    found
}

/// Puts an input together.
pub fn input(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for Item { flags, bytes } in items {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        out.push(*flags);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&bytes[..usize::from(len)]);
    }
    out
}

/// Writes a little-endian number over what stands there, as far as there is anything.
fn put_number(bytes: &mut [u8], at: usize, number: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + number.len()) {
        place.copy_from_slice(number);
    }
}
