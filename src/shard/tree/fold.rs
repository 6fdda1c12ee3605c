//! A page as it is compressed: what grows from entry to entry is stored as how much it grew, so
//! that a page of entries that are alike says so again and again.
//!
//! The ends in the slots become lengths, the keys of a leaf of `undo` distances. Both ways take any
//! bytes and turn them back into what they were: what is no page of a tree stays as it is.

use super::Kind;
use super::page::{HEADER_BYTES, SLOT_BYTES};

/// Bytes of a key of `undo`.
const PLACE_BYTES: usize = 12;

/// Before a page is compressed.
pub(super) fn fold(page: &mut [u8]) {
    let Some(slots) = slots_of(page) else { return };
    fold_places(page, &slots, u64::wrapping_sub, true);
    let mut before = slots.end as u32;
    for at in slots.step_by(4) {
        let end = word(page, at);
        page[at..at + 4].copy_from_slice(&end.wrapping_sub(before).to_le_bytes());
        before = end;
    }
}

/// After it was expanded.
pub(super) fn unfold(page: &mut [u8]) {
    let Some(slots) = slots_of(page) else { return };
    let mut end = slots.end as u32;
    for at in slots.clone().step_by(4) {
        end = end.wrapping_add(word(page, at));
        page[at..at + 4].copy_from_slice(&end.to_le_bytes());
    }
    fold_places(page, &slots, u64::wrapping_add, false);
}

/// Where the slots are; `None` if there is no room for as many as the page says.
fn slots_of(page: &[u8]) -> Option<std::ops::Range<usize>> {
    let &[_, _, _, _, a, b, c, d] = page.first_chunk::<HEADER_BYTES>()?;
    let count = u32::from_le_bytes([a, b, c, d]) as usize;
    let end = count.checked_mul(SLOT_BYTES)?.checked_add(HEADER_BYTES)?;
    (end <= page.len()).then_some(HEADER_BYTES..end)
}

/// Takes from, or adds to, the revision of each place that of the one before it, if every key is a
/// place. The slots hold ends.
fn fold_places(
    page: &mut [u8],
    slots: &std::ops::Range<usize>,
    turn: fn(u64, u64) -> u64,
    is_from_last: bool,
) {
    let count = slots.len() / SLOT_BYTES;
    let start_of = |page: &[u8], entry: usize| match entry {
        0 => slots.end,
        _ => word(page, slots.start + entry * SLOT_BYTES - 4) as usize,
    };
    if page.first_chunk() != Some(&[0, Kind::Undo.tag()]) {
        return;
    }
    let are_places = (0..count).all(|entry| {
        let start = start_of(page, entry);
        let key_end = word(page, slots.start + entry * SLOT_BYTES) as usize;
        let value_end = word(page, slots.start + entry * SLOT_BYTES + 4) as usize;
        start >= slots.end
            && start.checked_add(PLACE_BYTES) == Some(key_end)
            && key_end <= value_end
            && value_end <= page.len()
    });
    if !are_places {
        return;
    }
    let mut step = |entry: usize| {
        let [before, at] = [entry - 1, entry].map(|entry| start_of(page, entry));
        let turned = turn(revision(page, at), revision(page, before));
        page[at..at + 8].copy_from_slice(&turned.to_be_bytes());
    };
    match is_from_last {
        true => (1..count).rev().for_each(&mut step),
        false => (1..count).for_each(&mut step),
    }
}

fn word(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn revision(page: &[u8], at: usize) -> u64 {
    page[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;
    use crate::base::{Revision, Sub};
    use crate::shard::tree::page::{Item, build};
    use crate::shard::tree::undo_key;

    fn turn_and_back(bytes: &[u8]) -> Vec<u8> {
        let mut folded = bytes.to_vec();
        fold(&mut folded);
        let mut back = folded.clone();
        unfold(&mut back);
        assert_eq!(back, bytes);
        folded
    }

    #[test]
    fn what_grows_evenly_becomes_the_same_again_and_again() {
        let places = (0..500).map(|at| undo_key((Revision(1_000_000 + 3 * at), Sub(0))));
        let items: Vec<Item> = places.map(|key| Item::new(&key, &[7; 40])).collect();
        let page = build(Kind::Undo, 0, items.iter());
        let folded = turn_and_back(&page);
        let (slots, entries) = folded[HEADER_BYTES..].split_at(500 * SLOT_BYTES);
        assert!(slots.chunks(SLOT_BYTES).all(|slot| slot == [12, 0, 0, 0, 40, 0, 0, 0]));
        let distances = entries.chunks(52).skip(1).map(|entry| entry[..8].to_vec());
        assert!(distances.into_iter().all(|key| key == [0, 0, 0, 0, 0, 0, 0, 3]));
        // The keys of other pages stay.
        let page = build(Kind::Current, 0, items.iter());
        let heap = HEADER_BYTES + 500 * SLOT_BYTES;
        assert_eq!(turn_and_back(&page)[heap..], page[heap..]);
    }

    #[test]
    fn any_bytes_come_back() {
        let mut prng = Prng::new(8);
        for _ in 0..20_000 {
            let len = prng.below(120) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
            if len >= HEADER_BYTES {
                bytes[..2].copy_from_slice(&[0, Kind::Undo.tag()]);
                bytes[4..8].copy_from_slice(&(prng.below(5) as u32).to_le_bytes());
            }
            turn_and_back(&bytes);
        }
        let items: Vec<Item> =
            (0..9).map(|at| Item::new(&undo_key((Revision(at * at), Sub(1))), b"value")).collect();
        let page = build(Kind::Undo, 0, items.iter());
        for _ in 0..20_000 {
            let mut bytes = page.to_vec();
            for _ in 0..=prng.below(2) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = [prng.next_u64() as u8, 0, 12, 17][prng.below(4) as usize];
            }
            turn_and_back(&bytes);
        }
    }
}
