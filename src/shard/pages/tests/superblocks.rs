//! Which superblock a file opens with.

use super::*;

fn superblock(sequence: u64) -> Superblock {
    let root = PageRef { unit: 5, units: 3, stored: 9_000, logical: 30_000, checksum: 8 };
    let state = state(sequence as i64 + 1, Some(root));
    Superblock { identity: IDENTITY, sequence, file_units: 9, state }
}

/// A file of nine units with the superblocks of these checkpoints.
fn file(sequences: &[u64]) -> Vec<u8> {
    let mut file = vec![0; 9 * UNIT];
    for sequence in sequences {
        let superblock = superblock(*sequence);
        let at = superblock.unit() as usize * UNIT;
        file[at..at + 2 * UNIT].copy_from_slice(&flat(&superblock.blocks()));
    }
    file
}

fn opened(file: &[u8]) -> Result<(u64, Verdict), Refusal> {
    let head = &file[..file.len().min(HEAD_BYTES)];
    let opened = open(head, file.len() as u64, &IDENTITY)?;
    if opened.superblock.sequence > 0 {
        assert_eq!(opened.superblock, superblock(opened.superblock.sequence));
    }
    Ok((opened.superblock.sequence, opened.verdict))
}

#[test]
fn the_newest_is_taken() {
    assert_eq!(opened(&[]), Ok((0, Verdict::Fresh)));
    assert_eq!(opened(&vec![0; 9 * UNIT]), Ok((0, Verdict::Fresh)));
    assert_eq!(opened(&file(&[1])), Ok((1, Verdict::Whole)));
    assert_eq!(opened(&file(&[1, 2])), Ok((2, Verdict::Whole)));
    assert_eq!(opened(&file(&[2, 3])), Ok((3, Verdict::Whole)));
}

#[test]
fn a_torn_slot_leaves_the_other_one() {
    for torn_at in (0..2 * UNIT).step_by(SECTOR_BYTES) {
        // Checkpoint 4 goes into the slot of checkpoint 2.
        let mut torn = file(&[2, 3]);
        torn[..torn_at].copy_from_slice(&flat(&superblock(4).blocks())[..torn_at]);
        // All fields stand in the first sector of a unit: a copy is whole with it.
        let expected = match torn_at {
            0 => (3, Verdict::Whole),
            1..=UNIT => (4, Verdict::Torn { slot: 0 }),
            _ => (4, Verdict::Whole),
        };
        assert_eq!(opened(&torn), Ok(expected), "torn at {torn_at}");
        // The same in a slot that held something else behind its first sector.
        let mut torn = file(&[3]);
        torn[..2 * UNIT].fill(0xee);
        torn[..torn_at].copy_from_slice(&flat(&superblock(4).blocks())[..torn_at]);
        let sequence = if torn_at < UNIT { 3 } else { 4 };
        assert_eq!(opened(&torn), Ok((sequence, Verdict::Torn { slot: 0 })));
    }
}

#[test]
fn a_flipped_bit_costs_one_copy() {
    let whole = file(&[2, 3]);
    for bit in (0..UNIT * 8).step_by(7) {
        let mut damaged = whole.clone();
        damaged[2 * UNIT + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&damaged), Ok((3, Verdict::Torn { slot: 1 })), "bit {bit}");
        damaged[3 * UNIT + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&damaged), Ok((2, Verdict::Torn { slot: 1 })), "bit {bit} twice");
    }
}

#[test]
fn a_torn_first_checkpoint_leaves_a_fresh_file() {
    let mut torn = file(&[1]);
    torn[2 * UNIT] ^= 1;
    torn[3 * UNIT] ^= 1;
    assert_eq!(opened(&torn), Ok((0, Verdict::Torn { slot: 1 })));
}

#[test]
fn with_both_slots_damaged_it_is_refused() {
    let mut damaged = file(&[2, 3]);
    for unit in 0..4 {
        damaged[unit * UNIT + 70] ^= 1;
    }
    let refusal = opened(&damaged).expect_err("nothing is left");
    assert_eq!(refusal, Refusal::Damaged { file: FileId(IDENTITY.shard) });
    let text = refusal.to_string();
    assert!(text.starts_with("shards/2.pages: none of the superblocks"), "{text}");
    // The second checkpoint is gone, and with it what says that the first was not the newest.
    let mut halved = file(&[2]);
    halved[70] ^= 1;
    halved[UNIT + 70] ^= 1;
    assert!(matches!(opened(&halved), Err(Refusal::Damaged { .. })));
}

#[test]
fn a_superblock_in_the_wrong_slot_does_not_count() {
    let mut misplaced = file(&[2, 3]);
    misplaced.copy_within(2 * UNIT..4 * UNIT, 0);
    assert_eq!(opened(&misplaced), Ok((3, Verdict::Torn { slot: 0 })));
    misplaced[2 * UNIT..4 * UNIT].fill(0);
    assert!(matches!(opened(&misplaced), Err(Refusal::Damaged { .. })));
}

#[test]
fn the_file_of_another_is_refused() {
    let file = file(&[1, 2]);
    let cases = [
        (Identity { data_dir: 3, ..IDENTITY }, "another data directory, not of this"),
        (Identity { cluster: 0xdd, ..IDENTITY }, "of cluster c1, not of cluster dd"),
        (Identity { member: 0xee, ..IDENTITY }, "of member 3e, not of member ee"),
        (Identity { shard: ShardId(1), ..IDENTITY }, "of shard 2, not of shard 1"),
        (Identity { shards: 8, ..IDENTITY }, "of 4 shards, not of a store of 8"),
        (Identity { hash_seed: 0xff, ..IDENTITY }, "of hash seed 63, not of hash seed ff"),
    ];
    for (expected, text) in cases {
        let refusal = open(&file, file.len() as u64, &expected).expect_err("not ours").to_string();
        assert!(refusal.contains(text), "{refusal}");
    }
}

#[test]
fn a_file_that_ends_early_is_refused() {
    let mut file = file(&[1, 2]);
    file.truncate(8 * UNIT + 4095);
    let refusal = opened(&file).expect_err("it was cut");
    let (bytes, expected) = (file.len() as u64, 9 * UNIT_BYTES);
    assert_eq!(refusal, Refusal::Cut { file: FileId(IDENTITY.shard), bytes, expected });
}

#[test]
fn another_format_is_refused_by_its_number() {
    let mut file = file(&[1, 2]);
    file[8] = 7;
    file[12..16].fill(0);
    let checksum = crc32c::crc32c(&file[..UNIT]);
    file[12..16].copy_from_slice(&checksum.to_le_bytes());
    let version = 7;
    assert_eq!(opened(&file), Err(Refusal::Version { file: FileId(IDENTITY.shard), version }));
}

#[test]
fn a_state_that_no_store_comes_to_is_damage() {
    type Change = fn(&mut Superblock);
    let impossible: [Change; 8] = [
        |one| one.sequence = u64::MAX,
        |one| one.state.applied.index = RaftIndex(u64::MAX),
        |one| one.state.applied.term = Term(1 << 63),
        |one| one.state.applied.sequence = u64::MAX,
        |one| one.state.revision = Revision(i64::MAX),
        |one| one.state.revision = Revision(0),
        |one| one.state.compact_revision = Revision(-2),
        |one| one.state.compact_revision = one.state.revision.next(),
    ];
    for change in impossible {
        let mut superblock = superblock(3);
        change(&mut superblock);
        let mut file = file(&[2]);
        let at = superblock.unit() as usize * UNIT;
        file[at..at + 2 * UNIT].copy_from_slice(&flat(&superblock.blocks()));
        assert_eq!(opened(&file), Ok((2, Verdict::Torn { slot: 1 })), "{:?}", superblock.state);
    }
}
