//! Valid inputs changed at random, item by item.

use ringbolt::base::prng::Prng;

use super::targets::{Item, input, items};

/// Numbers at which things tend to go wrong.
const ODD: [u64; 12] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX.cast_unsigned(),
    u64::MAX,
];

/// Makes inputs out of others.
pub struct Mutator {
    prng: Prng,
    seeds: Vec<Vec<Item>>,
}

impl Mutator {
    /// From these; the same seed gives the same inputs.
    pub fn new(seed: u64, seeds: Vec<Vec<u8>>) -> Mutator {
        let seeds = seeds.iter().map(|seed| items(seed)).collect();
        Mutator { prng: Prng::new(seed), seeds }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let seed = self.below(self.seeds.len());
        let mut all = self.seeds[seed].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut all);
        }
        // What its checksums vouch for is looked at further on.
        let is_mended = self.prng.percent(70);
        for item in all.iter_mut().filter(|_| is_mended) {
            if self.prng.percent(80) {
                item.flags |= self.prng.next_u64() as u8 & 0x1f;
            }
        }
        input(&all)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.prng.below(bound as u64)).expect("below a size")
    }

    fn change(&mut self, all: &mut Vec<Item>) {
        if all.is_empty() {
            all.push(Item::new(0, []));
        }
        let at = self.below(all.len());
        match self.prng.below(20) {
            0 => drop(all.remove(at)),
            1 => all.insert(at, all[at].clone()),
            2 => {
                let other = self.below(all.len());
                all.swap(at, other);
            }
            3 => {
                let seed = self.below(self.seeds.len());
                let from = self.below(self.seeds[seed].len());
                all.insert(at, self.seeds[seed][from].clone());
            }
            4 => all.truncate(at),
            5 => all[at].flags ^= 1 << self.prng.below(8),
            _ => self.change_bytes(&mut all[at].bytes),
        }
    }

    fn change_bytes(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            bytes.push(self.prng.next_u64() as u8);
            return;
        }
        // Headers more often than what is behind them.
        let end = if self.prng.percent(60) { bytes.len().min(64) } else { bytes.len() };
        let at = self.below(end);
        match self.prng.below(8) {
            0 => bytes[at] ^= 1 << self.prng.below(8),
            1 => bytes[at] = self.prng.next_u64() as u8,
            2 | 3 => {
                let len = 1 << self.prng.below(4);
                let number = ODD[self.below(ODD.len())].to_le_bytes();
                let aligned = at - at % len;
                for (place, byte) in bytes.iter_mut().skip(aligned).zip(&number[..len]) {
                    *place = *byte;
                }
            }
            4 => {
                // A number that is near what it was.
                let step = self.below(9) as u8;
                bytes[at] = bytes[at].wrapping_add(step).wrapping_sub(4);
            }
            5 => bytes.truncate(at),
            6 => {
                let len = self.below(16);
                let new: Vec<u8> = (0..len).map(|_| self.prng.next_u64() as u8).collect();
                bytes.splice(at..at, new);
            }
            _ => {
                let end = (at + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}
