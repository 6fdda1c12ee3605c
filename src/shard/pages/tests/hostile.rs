//! Bytes at random, and valid ones changed at random: nothing panics, nothing wrong is accepted.

use super::*;
use crate::base::limits::{PAGE_LOGICAL_BYTES_MAX, PAGE_UNITS_MAX};

fn mutate(bytes: &mut [u8], prng: &mut Prng) {
    for _ in 0..1 + prng.below(4) {
        let at = prng.below(bytes.len() as u64) as usize;
        match prng.below(3) {
            0 => bytes[at] ^= 1 << prng.below(8),
            1 => bytes[at] = prng.next_u64() as u8,
            _ => {
                let end = (at + 1 + prng.below(16) as usize).min(bytes.len());
                bytes[at..end].fill([0, 0xff][prng.below(2) as usize]);
            }
        }
    }
}

#[test]
fn references() {
    let mut prng = Prng::new(1);
    for _ in 0..100_000 {
        let mut bytes = [0; PageRef::ENCODED_BYTES];
        bytes.iter_mut().for_each(|byte| *byte = prng.next_u64() as u8);
        // Sizes that are random alone are never possible ones.
        let words = [prng.below(5 << 20) as u32, prng.below(5 << 20) as u32];
        bytes[4..8].copy_from_slice(&words[0].to_le_bytes());
        bytes[8..12].copy_from_slice(&words[1].to_le_bytes());
        if let Ok(at) = PageRef::decode(&bytes) {
            assert_eq!(at.encode(), bytes);
            assert!(at.unit >= SUPERBLOCK_UNITS && at.unit.checked_add(at.units).is_some());
            assert!(at.units <= PAGE_UNITS_MAX && at.logical as usize <= PAGE_LOGICAL_BYTES_MAX);
        }
    }
}

/// Bodies behind valid checksums, as a bug or an attacker with the disk would leave them.
#[test]
fn pages() {
    let mut codec = Codec::new(place(), PLAIN);
    let mut prng = Prng::new(2);
    let mut accepted = 0;
    for round in 0..20_000 {
        let logical = content(prng.below(6), 1 + prng.below(30_000) as usize);
        let packed = codec.pack(&logical);
        let extent = Extent { unit: 40, units: packed.units() };
        let (mut at, blocks) = packed.seal(extent, round);
        let mut bytes = flat(&blocks);
        mutate(&mut bytes[..at.stored as usize], &mut prng);
        at.checksum = crc32c::crc32c(&bytes[..at.stored as usize]);
        if let Ok(page) = codec.open(at, &bytes) {
            assert_eq!(page.len(), at.logical as usize);
            accepted += 1;
        }
    }
    assert!(accepted > 100, "raw bodies are whatever they are");
}

#[test]
fn superblocks() {
    let mut prng = Prng::new(3);
    let mut rig = Rig::new(1 << 20);
    for round in 0..3 {
        rig.checkpoint(&[content(round, 9_000)], &[]);
    }
    let file = rig.disk.bytes;
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut head = file[..HEAD_BYTES].to_vec();
        mutate(&mut head, &mut prng);
        if prng.percent(70) {
            // Damage that its checksum vouches for.
            let unit = prng.below(4) as usize * UNIT;
            mutate(&mut head[unit..unit + 450], &mut prng);
            head[unit + 12..unit + 16].fill(0);
            let checksum = crc32c::crc32c(&head[unit..unit + UNIT]);
            head[unit + 12..unit + 16].copy_from_slice(&checksum.to_le_bytes());
        }
        head.truncate(HEAD_BYTES - [0, 0, 0, 1, 5_000][prng.below(5) as usize]);
        match open(&head, file.len() as u64, &IDENTITY) {
            Err(_) => refused += 1,
            Ok(found) => {
                assert!(u64::from(found.superblock.file_units) * UNIT_BYTES <= file.len() as u64);
                opened += 1;
            }
        }
    }
    assert!(opened > 1_000 && refused > 1_000, "{opened} opened, {refused} refused");
}
