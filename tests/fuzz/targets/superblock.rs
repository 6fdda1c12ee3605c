//! The front of a page file into a superblock and its roots.
//!
//! ```text
//! item 0      units of the file u32
//! item 1..5   a unit, zeros behind it; flags: mend 1 the magic and version, 2 the checksum,
//!             4 the identity
//! ```

use ringbolt::base::{RaftIndex, Revision, ShardId, Term};
use ringbolt::shard::pages::{
    AGGREGATE_BYTES, HEAD_BYTES, Identity, PageRef, Root, Roots, State, Superblock, UNIT_BYTES,
    Verdict, open,
};
use ringbolt::shard::tree;
use ringbolt::shard::wal::ChainPoint;

use super::{Item, input, items, put_number};

const MAGIC: u8 = 1;
const CHECKSUM: u8 = 2;
const IDENTITY: u8 = 4;

const UNIT: usize = UNIT_BYTES as usize;
const OURS: Identity =
    Identity { data_dir: 5, cluster: 6, member: 7, shard: ShardId(1), shards: 2, hash_seed: 8 };

fn mend(item: &Item) -> Vec<u8> {
    let mut unit = item.bytes.clone();
    unit.resize(UNIT, 0);
    if item.has(MAGIC) {
        put_number(&mut unit, 0, b"RINGSUPR\x01\0\0\0");
    }
    if item.has(IDENTITY) {
        let ours = Superblock { sequence: 1, ..Superblock::fresh(OURS) };
        let ours: Vec<u8> = ours.blocks().iter().flatten().copied().collect();
        put_number(&mut unit, 16, &ours[16..52]);
        put_number(&mut unit, 56, &ours[56..64]);
    }
    if item.has(CHECKSUM) {
        unit[12..16].fill(0);
        let sum = crc32c::crc32c(&unit);
        put_number(&mut unit, 12, &sum.to_le_bytes());
    }
    unit
}

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let items = items(data);
    let Some((file, units)) = items.split_first() else { return false };
    let mut head: Vec<u8> = units.iter().take(4).flat_map(mend).collect();
    head.truncate(HEAD_BYTES);
    let file_bytes = file.number(0, 4) * UNIT_BYTES;
    let opened = match open(&head, file_bytes, &OURS) {
        Ok(opened) => opened,
        Err(refusal) => {
            assert!(refusal.to_string().len() > 20);
            return false;
        }
    };
    let found = opened.superblock;
    assert_eq!(found.identity, OURS);
    if found.sequence == 0 {
        assert_eq!(found, Superblock::fresh(OURS));
        return false;
    }
    assert!(u64::from(found.file_units) * UNIT_BYTES <= file_bytes);
    let Roots { current, undo, leased, meta } = found.state.roots;
    for root in [current, undo, leased, meta].iter().flatten() {
        assert!(root.page.extent().end() <= found.file_units);
        if let Ok(root) = tree::Root::from_stored(root) {
            assert_eq!(tree::Root::from_stored(&root.stored()), Ok(root));
        }
    }
    // What was taken is what it writes.
    let mut again = vec![0; HEAD_BYTES];
    let slot = found.unit() as usize * UNIT;
    let blocks: Vec<u8> = found.blocks().iter().flatten().copied().collect();
    again[slot..slot + blocks.len()].copy_from_slice(&blocks);
    let again = open(&again, file_bytes, &OURS).expect("its own superblock");
    assert_eq!((again.superblock, again.verdict), (found, Verdict::Whole));
    true
}

/// A file of one checkpoint, of two, and with trees.
pub fn seeds() -> Vec<Vec<u8>> {
    let root = |unit, height| {
        let page = PageRef { unit, units: 2, stored: 5_000, logical: 9_000, checksum: unit };
        let mut aggregate = [0; AGGREGATE_BYTES];
        aggregate[0] = 9;
        Some(Root { page, height, aggregate })
    };
    let state = |index: u64| State {
        applied: ChainPoint { index: RaftIndex(index), term: Term(2), checksum: 9, sequence: 40 },
        revision: Revision(70),
        compact_revision: Revision(30),
        roots: Roots { current: root(4, 1), undo: root(6, 0), leased: None, meta: root(8, 2) },
    };
    let superblock = |sequence| {
        let (identity, state) = (OURS, state(sequence));
        Superblock { identity, sequence, file_units: 16, state }
    };
    let empty = Superblock { sequence: 1, ..Superblock::fresh(OURS) };
    let files = [vec![empty], vec![superblock(1)], vec![superblock(2), superblock(3)]];
    let seed = |superblocks: Vec<Superblock>| {
        let mut units = vec![Item::new(0, []); 4];
        for superblock in superblocks {
            for (place, block) in (superblock.unit() as usize..).zip(superblock.blocks().iter()) {
                let end = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                units[place].bytes = block[..end].to_vec();
            }
        }
        units.insert(0, Item::new(0, 16_u32.to_le_bytes()));
        input(&units)
    };
    files.into_iter().map(seed).collect()
}
