//! Pages as bytes.

use super::*;
use crate::base::limits::PAGE_LOGICAL_BYTES_MAX;

fn sealed(codec: &mut Codec, logical: &[u8]) -> (PageRef, Vec<u8>) {
    let packed = codec.pack(logical);
    let extent = Extent { unit: 40, units: packed.units() };
    let (at, blocks) = packed.seal(extent, 9);
    (at, flat(&blocks))
}

#[test]
fn a_page_comes_back() {
    let mut codec = Codec::new(place(), PLAIN);
    let lens = [1, 100, 4_000, 4_048, 4_049, 20_000, logical_bytes_in(32), 1 << 20];
    for (seed, len) in (0..6).flat_map(|seed| lens.map(|len| (seed, len))) {
        let logical = content(seed, len);
        let (at, bytes) = sealed(&mut codec, &logical);
        assert_eq!(bytes.len(), at.units as usize * UNIT);
        assert_eq!(PageRef::decode(&at.encode()), Ok(at));
        assert_eq!(codec.open(at, &bytes).as_deref(), Ok(&logical[..]), "{len} B of {seed}");
    }
}

#[test]
fn what_does_not_compress_takes_no_unit_more() {
    let mut codec = Codec::new(place(), PLAIN);
    for units in [1, 2, 16, 32] {
        let logical = content(3, logical_bytes_in(units));
        assert_eq!(codec.pack(&logical).units() as usize, units);
        assert_eq!(codec.pack(&[&logical[..], b"!"].concat()).units() as usize, units + 1);
    }
    assert!(codec.pack(&content(1, logical_bytes_in(32))).units() <= 11, "a fifth of it is noise");
    assert!(codec.pack(&[5; PAGE_LOGICAL_BYTES_MAX]).units() == 1);
}

#[test]
fn every_flipped_bit_is_found() {
    let mut codec = Codec::new(place(), PLAIN);
    for seed in [1, 3] {
        let (at, mut bytes) = sealed(&mut codec, &content(seed, 5_000));
        for bit in 0..at.stored as usize * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(codec.open(at, &bytes).is_err(), "bit {bit} of seed {seed}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(codec.open(at, &bytes).is_ok());
    }
}

#[test]
fn the_damage_is_told() {
    let mut codec = Codec::new(place(), PLAIN);
    let logical = content(1, 9_000);
    let (at, bytes) = sealed(&mut codec, &logical);
    assert_eq!(codec.open(at, &bytes[..at.stored as usize - 1]), Err(Damage::Short));
    assert_eq!(codec.open(at, &vec![0; bytes.len()]), Err(Damage::NoPage));
    let mut changed = bytes.clone();
    changed[60] ^= 1;
    assert_eq!(codec.open(at, &changed), Err(Damage::Changed { sequence: 9 }));

    let elsewhere = PageRef { unit: 41, ..at };
    let misplaced = Damage::Misplaced { shard: IDENTITY.shard, unit: 40 };
    assert_eq!(codec.open(elsewhere, &bytes), Err(misplaced));
    let mut of_shard = Codec::new(Place { shard: ShardId(3), ..place() }, PLAIN);
    assert_eq!(of_shard.open(at, &bytes), Err(misplaced));
    let mut foreign = Codec::new(Place { data_dir: 1, ..place() }, PLAIN);
    assert_eq!(foreign.open(at, &bytes), Err(Damage::Foreign));

    let mut newer = bytes.clone();
    newer[8] = 3;
    let checksum = crc32c::crc32c(&newer[..at.stored as usize]);
    assert_eq!(codec.open(PageRef { checksum, ..at }, &newer), Err(Damage::Version(3)));
}

#[test]
fn a_body_expands_to_what_the_reference_says_or_not_at_all() {
    let mut codec = Codec::new(place(), PLAIN);
    // A valid frame of zstd whose page is larger than its header and reference admit.
    let (at, bytes) = sealed(&mut codec, &[1; 100_000]);
    for logical in [1_u32, 99_999, 100_001] {
        let mut lying = bytes.clone();
        lying[40..44].copy_from_slice(&logical.to_le_bytes());
        let checksum = crc32c::crc32c(&lying[..at.stored as usize]);
        let reference = PageRef { logical, checksum, ..at };
        assert_eq!(codec.open(reference, &lying), Err(Damage::Body), "{logical}");
    }
    assert_eq!(codec.open(at, &bytes).map(|page| page.len()), Ok(100_000));
}
