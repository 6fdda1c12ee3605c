//! A page as it lies on disk, expanded.
//!
//! ```text
//! item 0      the reference; flags: mend 1 its stored bytes, 2 its checksum, 4 its logical bytes
//! item 1      the bytes; flags: mend 1 magic, version and place
//! ```

use ringbolt::base::ShardId;
use ringbolt::shard::pages::{Codec, Extent, HEADER_BYTES, PageForm, PageRef, Place};
use ringbolt::shard::tree;

use super::{Item, input, items, put_number};

const STORED: u8 = 1;
const CHECKSUM: u8 = 2;
const LOGICAL: u8 = 4;
const PLACE: u8 = 1;

const OURS: Place = Place { data_dir: 77, shard: ShardId(3) };
/// As trees have it; what is expanded may be anything.
const FORM: PageForm = PageForm { check: |_| Ok(()), ..tree::FORM };

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let items = items(data);
    let (Some(reference), Some(stored)) = (items.first(), items.get(1)) else { return false };
    let (mut at, mut bytes) = (reference.bytes.clone(), stored.bytes.clone());
    at.resize(PageRef::ENCODED_BYTES, 0);
    if stored.has(PLACE) {
        bytes.resize(bytes.len().max(HEADER_BYTES + 1), 0);
        put_number(&mut bytes, 0, b"RINGPAGE\x01\0\x03\0");
        put_number(&mut bytes, 12, &at[..4]);
        put_number(&mut bytes, 16, &OURS.data_dir.to_le_bytes());
    }
    if reference.has(STORED) {
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        put_number(&mut at, 4, &len.to_le_bytes());
    }
    if reference.has(LOGICAL) && bytes.len() >= HEADER_BYTES {
        at[8..12].copy_from_slice(&bytes[40..44]);
    }
    if reference.has(CHECKSUM) {
        put_number(&mut at, 12, &crc32c::crc32c(&bytes).to_le_bytes());
    }
    let Ok(at) = PageRef::decode(&at) else { return false };
    match Codec::new(OURS, FORM).open(at, &bytes) {
        Ok(page) => {
            assert_eq!(page.len(), at.logical as usize);
            true
        }
        Err(damage) => {
            assert!(!damage.to_string().is_empty());
            false
        }
    }
}

/// Pages that compress, and one that does not.
pub fn seeds() -> Vec<Vec<u8>> {
    let text = |len: usize| -> Vec<u8> { (0..len).map(|at| (at * at / 700) as u8).collect() };
    let seed = |page: Vec<u8>| {
        let mut codec = Codec::new(OURS, FORM);
        let packed = codec.pack(&page);
        let (at, blocks) = packed.seal(Extent { unit: 9, units: packed.units() }, 5);
        let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
        let stored = bytes[..at.stored as usize].to_vec();
        input(&[Item::new(0, at.encode()), Item::new(0, stored)])
    };
    [text(1), text(500), text(9_000), text(40_000)].into_iter().map(seed).collect()
}
