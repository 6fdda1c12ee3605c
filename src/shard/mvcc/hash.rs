//! HashKV as etcd computes it.
//!
//! The sum is CRC-32C over the word `key` and then, in the order of (revision, sub), the bucket
//! key and the value of every record that counts. At revision R over compact revision C there
//! count: all changes above C and not above R, tombstones included; and of what a compaction at C
//! leaves, the versions that are still live at R. If nothing at all is live at R, everything that
//! the compaction leaves counts, but for tombstones at C.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::record::Record;
use crate::base::{Revision, Sub};

/// What a hash is of. Its reader holds the compact revision from start to end: history that a
/// later compaction forgets counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashOf {
    /// The revision to hash at.
    pub revision: Revision,
    /// The compact revision when it began; -1 if there never was a compaction.
    pub compact: Revision,
    /// Whether any key of the whole store, all shards, is live at `revision`.
    pub any_live: bool,
}

/// One version in a hash: its place in the order, and the sum and length of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hashed {
    /// Revision and sub: no two versions have the same.
    pub at: (Revision, Sub),
    /// CRC-32C of bucket key and value.
    pub crc: u32,
    /// Bytes of both.
    pub len: u32,
}

impl Hashed {
    /// Of a version.
    #[must_use]
    pub fn of(record: &Record) -> Hashed {
        let (key, key_len) = bucket_key(record.at(), record.is_tombstone());
        let value = record.hashed_value();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key[..key_len]), value);
        let len = u32::try_from(key_len + value.len()).expect("a record is far below 4 GiB");
        Hashed { at: record.at(), crc, len }
    }

    /// Of a live version of which the checksum and length of its `KeyValue` are known.
    #[must_use]
    pub fn of_sum(at: (Revision, Sub), kv_crc: u32, kv_len: u32) -> Hashed {
        let (key, key_len) = bucket_key(at, false);
        let crc = combine(crc32c::crc32c(&key[..key_len]), kv_crc, kv_len);
        Hashed { at, crc, len: kv_len.saturating_add(key_len as u32) }
    }
}

/// Sums the shards' lists up, in slices.
#[derive(Debug)]
pub struct HashSum {
    lists: Vec<std::vec::IntoIter<Hashed>>,
    /// The next version of each list that has one.
    next: BinaryHeap<Reverse<((Revision, Sub), usize)>>,
    crc: u32,
}

impl HashSum {
    /// Begins a sum over lists that are each in order.
    #[must_use]
    pub fn new(lists: Vec<Vec<Hashed>>) -> HashSum {
        let lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
        let heads = lists.iter().enumerate();
        let next = heads
            .filter_map(|(list, rest)| Some(Reverse((rest.as_slice().first()?.at, list))))
            .collect();
        HashSum { lists, next, crc: crc32c::crc32c(b"key") }
    }

    /// Adds `versions` more. The hash, when everything is in it.
    pub fn step(&mut self, versions: usize) -> Option<u32> {
        for _ in 0..versions {
            let Some(Reverse((_, list))) = self.next.pop() else { return Some(self.crc) };
            let rest = &mut self.lists[list];
            let Hashed { crc, len, .. } =
                rest.next().expect("a list that is named next has a version");
            if let Some(following) = rest.as_slice().first() {
                self.next.push(Reverse((following.at, list)));
            }
            self.crc = combine(self.crc, crc, len);
        }
        None
    }
}

/// The checksum of bytes whose first part has the checksum `first` and whose second, of `len`
/// bytes, has `second`: the first is moved up by as many zeros as the second has bits, which is a
/// multiplication by a power of x modulo the polynomial. (The crate `crc32c` can do the same, a
/// good ten times slower.)
fn combine(first: u32, second: u32, len: u32) -> u32 {
    let mut power = 1 << 31;
    // x to the power of 8, 16, 32.. as the length's bits ask for them.
    let mut square = ONE_BYTE;
    let mut left = len;
    while left > 0 {
        if left & 1 == 1 {
            power = multiply(square, power);
        }
        square = multiply(square, square);
        left >>= 1;
    }
    multiply(power, first) ^ second
}

/// The polynomial of CRC-32C, the highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// x to the eighth.
const ONE_BYTE: u32 = 1 << 23;

/// The product of two polynomials modulo that one, in the same order of bits.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        product ^= b & 0_u32.wrapping_sub(a >> bit & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(b & 1));
    }
    product
}

/// Etcd's name for a record: `main '_' sub`, big-endian, and a `t` behind a tombstone's.
#[must_use]
pub fn bucket_key((revision, sub): (Revision, Sub), is_tombstone: bool) -> ([u8; 18], usize) {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&revision.0.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&u64::from(sub.0).to_be_bytes());
    key[17] = b't';
    (key, if is_tombstone { 18 } else { 17 })
}

#[cfg(test)]
mod sums {
    use super::*;

    #[test]
    fn parts_combine_to_the_whole() {
        let bytes: Vec<u8> = (0..3_000_u32).map(|at| ((at * at) >> 3) as u8).collect();
        for cut in [0, 1, 2, 17, 255, 256, 1_000, 2_999, 3_000] {
            let (first, second) = bytes.split_at(cut);
            let len = u32::try_from(second.len()).expect("short");
            let sum = combine(crc32c::crc32c(first), crc32c::crc32c(second), len);
            assert_eq!(sum, crc32c::crc32c(&bytes), "cut at {cut}");
        }
    }
}
