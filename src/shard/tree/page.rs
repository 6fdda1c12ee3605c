//! One page: a header, a slot for each entry, the entries.
//!
//! ```text
//! byte 0       1      2      4         8       8 + 8n
//!      | level | tree | zero | entries | slots | entries: key and value, one behind the other
//!      | u8    | u8   | 2 B  | u32 = n | 8n    |
//! slot: key_end u32, value_end u32, both counted from the page's first byte; within what is
//! compressed they are lengths, see `fold`
//! ```
//!
//! Leaves have level 0. The entries of a branch are its children: a key that is not above any key
//! below the child and above all keys before it, and a value of fixed length (see `aggregate`).
//! Opening a page costs nothing by its length: each access looks at its own slot. [`check`] looks
//! at all of them and is for whoever takes a page in from outside.

use std::cmp::Ordering;

use bytes::Bytes;

use super::Kind;
use super::aggregate::{Child, measure};
use crate::base::limits::TREE_HEIGHT_MAX;
use crate::base::record::Malformed;
use crate::shard::pages::PageRef;

pub(super) const HEADER_BYTES: usize = 8;
pub(super) const SLOT_BYTES: usize = 8;

/// What an entry takes beside its key and its value.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = SLOT_BYTES;
/// What a page takes beside its entries.
pub(super) const PAGE_OVERHEAD_BYTES: usize = HEADER_BYTES;

/// A page whose header and length fit each other.
#[derive(Clone, Debug)]
pub(super) struct Page {
    bytes: Bytes,
    entries: usize,
}

/// One entry of a leaf, within its page's memory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    page: &'a Bytes,
    start: usize,
    key_end: usize,
    value_end: usize,
}

impl<'a> Entry<'a> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        &self.page[self.start..self.key_end]
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        &self.page[self.key_end..self.value_end]
    }

    /// The value, sharing the page's memory: what keeps it keeps the page.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.page.slice(self.key_end..self.value_end)
    }

    pub(super) fn item(&self) -> Item {
        let key_len = self.key_end - self.start;
        Item { entry: self.page.slice(self.start..self.value_end), key_len }
    }

    pub(super) fn key_and_value(&self) -> &'a [u8] {
        &self.page[self.start..self.value_end]
    }
}

/// An entry by itself: its key, and behind it its value.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) entry: Bytes,
    pub(super) key_len: usize,
}

impl Item {
    pub(super) fn new(key: &[u8], value: &[u8]) -> Item {
        Item { entry: [key, value].concat().into(), key_len: key.len() }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.entry[..self.key_len]
    }

    /// What it takes of a page.
    pub(super) fn cost(&self) -> usize {
        self.entry.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl Page {
    /// Takes `bytes` for a page of `level` of the tree `kind`.
    pub(super) fn open(bytes: Bytes, kind: Kind, level: u8) -> Result<Page, Malformed> {
        let entries = match bytes.get(4..HEADER_BYTES) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => return Err(Malformed("a page shorter than its header")),
        };
        if bytes[0] != level {
            return Err(Malformed("a page of another level than its branch says"));
        }
        if bytes[1] != kind.tag() {
            return Err(Malformed("a page of another tree"));
        }
        if entries == 0 {
            return Err(Malformed("a page without entries"));
        }
        // No more slots than bytes, so nothing here overflows.
        if entries > bytes.len() / SLOT_BYTES || heap_of(entries) > bytes.len() {
            return Err(Malformed("a page shorter than its slots"));
        }
        let page = Page { bytes, entries };
        if page.entry(entries - 1)?.value_end != page.bytes.len() {
            return Err(Malformed("a page whose last entry ends elsewhere"));
        }
        Ok(page)
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The entry at `at`, which must be below `len`.
    pub(super) fn entry(&self, at: usize) -> Result<Entry<'_>, Malformed> {
        let start = match at {
            0 => heap_of(self.entries),
            _ => self.word(HEADER_BYTES + SLOT_BYTES * at - 4),
        };
        let slot = HEADER_BYTES + SLOT_BYTES * at;
        let (key_end, value_end) = (self.word(slot), self.word(slot + 4));
        let is_within = heap_of(self.entries) <= start
            && start <= key_end
            && key_end <= value_end
            && value_end <= self.bytes.len();
        if !is_within {
            return Err(Malformed("a slot that points out of its page"));
        }
        Ok(Entry { page: &self.bytes, start, key_end, value_end })
    }

    /// The child at `at` of a branch, which must be below `len`.
    pub(super) fn child(&self, at: usize) -> Result<Child, Malformed> {
        Child::decode(self.entry(at)?.value())
    }

    /// Where `key` is, or where it would be.
    pub(super) fn find(&self, key: &[u8]) -> Result<Result<usize, usize>, Malformed> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.key().cmp(key) {
                Ordering::Equal => return Ok(Ok(middle)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }

    /// The child of a branch in which `key` would be.
    pub(super) fn child_of(&self, key: &[u8]) -> Result<usize, Malformed> {
        Ok(match self.find(key)? {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        })
    }

    fn word(&self, at: usize) -> usize {
        let word = &self.bytes[at..at + 4];
        u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize
    }
}

fn heap_of(entries: usize) -> usize {
    HEADER_BYTES + SLOT_BYTES * entries
}

/// Takes `bytes` for a page of the tree and the level that they name.
fn open_named(bytes: &Bytes) -> Result<(Page, Kind, u8), Malformed> {
    let Some(&[level, tag]) = bytes.first_chunk() else {
        return Err(Malformed("a page shorter than its header"));
    };
    if level > TREE_HEIGHT_MAX {
        return Err(Malformed("a page above the height of any tree"));
    }
    let kind = Kind::of_tag(tag).ok_or(Malformed("a page of no tree"))?;
    Ok((Page::open(bytes.clone(), kind, level)?, kind, level))
}

/// Whether `bytes` are a page of a tree, each entry of it: slots, order, values. A page file is
/// opened with this, so that it serves nothing else. That a page is of the tree and the level
/// that its branch says is seen by whoever reads it.
///
/// # Errors
/// [`Malformed`] says what is wrong.
pub fn check(bytes: &Bytes) -> Result<(), Malformed> {
    let (page, kind, level) = open_named(bytes)?;
    let mut before: Option<&[u8]> = None;
    for at in 0..page.len() {
        let entry = page.entry(at)?;
        if before.is_some_and(|before| before >= entry.key()) {
            return Err(Malformed("a page whose keys are out of order"));
        }
        before = Some(entry.key());
        measure(kind, level, entry.key_and_value(), entry.key().len())?;
    }
    Ok(())
}

/// The pages that this one refers to, in order; a leaf refers to none. So a walk from the roots
/// finds what a file's pages take, and reads no leaf.
///
/// # Errors
/// [`Malformed`] says what is wrong.
pub fn references(bytes: &Bytes) -> Result<Vec<PageRef>, Malformed> {
    let (page, _, level) = open_named(bytes)?;
    let children = if level == 0 { 0 } else { page.len() };
    (0..children).map(|at| page.child(at).map(|child| child.at)).collect()
}

/// Lays `items` out as a page.
pub(super) fn build<'a>(
    kind: Kind,
    level: u8,
    items: impl ExactSizeIterator<Item = &'a Item> + Clone,
) -> Bytes {
    let count = items.len();
    let heap: usize = items.clone().map(|item| item.entry.len()).sum();
    let mut out = Vec::with_capacity(heap_of(count) + heap);
    out.extend_from_slice(&[level, kind.tag(), 0, 0]);
    out.extend_from_slice(&offset(count));
    let mut end = heap_of(count);
    for item in items.clone() {
        out.extend_from_slice(&offset(end + item.key_len));
        end += item.entry.len();
        out.extend_from_slice(&offset(end));
    }
    items.for_each(|item| out.extend_from_slice(&item.entry));
    out.into()
}

fn offset(at: usize) -> [u8; 4] {
    u32::try_from(at).expect("a page is far below 4 GiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn page(kind: Kind, level: u8, items: &[(&str, &str)]) -> Bytes {
        let of = |(key, value): &(&str, &str)| Item::new(key.as_bytes(), value.as_bytes());
        let items: Vec<Item> = items.iter().map(of).collect();
        build(kind, level, items.iter())
    }

    #[test]
    fn entries_are_found_where_they_are() {
        let bytes = page(Kind::Meta, 0, &[("", "empty"), ("b", ""), ("d", "value")]);
        check(&bytes).expect("own layout");
        let page = Page::open(bytes, Kind::Meta, 0).expect("own layout");
        assert_eq!(page.find(b""), Ok(Ok(0)));
        assert_eq!(page.find(b"a"), Ok(Err(1)));
        assert_eq!(page.find(b"d"), Ok(Ok(2)));
        assert_eq!(page.find(b"e"), Ok(Err(3)));
        assert_eq!((page.child_of(b""), page.child_of(b"c")), (Ok(0), Ok(1)));
        let entry = page.entry(2).expect("there");
        assert_eq!((entry.key(), entry.value()), (&b"d"[..], &b"value"[..]));
        assert_eq!(entry.value_bytes(), &b"value"[..]);
        assert!(page.entry(1).expect("there").value().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = page(Kind::Meta, 0, &[("a", "1"), ("b", "2")]);
        let opened = |bytes: &[u8]| {
            Page::open(Bytes::copy_from_slice(bytes), Kind::Meta, 0).expect_err("damaged").0
        };
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(opened(&good[..7]), "a page shorter than its header");
        assert_eq!(opened(&with(0, 1)), "a page of another level than its branch says");
        assert_eq!(opened(&with(1, 1)), "a page of another tree");
        assert_eq!(opened(&with(4, 0)), "a page without entries");
        assert_eq!(opened(&with(4, 9)), "a page shorter than its slots");
        assert_eq!(opened(&with(7, 255)), "a page shorter than its slots");
        assert_eq!(opened(&with(20, 0)), "a slot that points out of its page");
        assert_eq!(opened(&good[..good.len() - 1]), "a slot that points out of its page");
        assert_eq!(opened(&[&good[..], &[0]].concat()), "a page whose last entry ends elsewhere");
        let unsorted = page(Kind::Meta, 0, &[("b", ""), ("a", "")]);
        let wrong = check(&unsorted).expect_err("unsorted");
        assert_eq!(wrong.0, "a page whose keys are out of order");
        let checked = |bytes: Vec<u8>| check(&bytes.into()).expect_err("damaged").0;
        assert_eq!(checked(vec![0]), "a page shorter than its header");
        assert_eq!(checked(with(0, TREE_HEIGHT_MAX + 1)), "a page above the height of any tree");
        assert_eq!(checked(with(1, 9)), "a page of no tree");
        let childless = page(Kind::Meta, 1, &[("", "no child")]);
        assert!(check(&childless).is_err());
        let recordless = page(Kind::Current, 0, &[("a", "no record")]);
        assert!(check(&recordless).is_err());
    }

    /// Goes through all that a reader may ask of a page.
    fn use_all(bytes: &Bytes, kind: Kind) {
        let _ = check(bytes);
        let _ = references(bytes);
        let level = bytes.first().copied().unwrap_or(0);
        let Ok(page) = Page::open(bytes.clone(), kind, level) else { return };
        for at in 0..page.len() {
            if let Ok(entry) = page.entry(at) {
                let _ = measure(kind, level, entry.key_and_value(), entry.key().len());
                let _ = page.child(at);
            }
        }
        let _ = page.find(b"key-500");
        let _ = page.child_of(b"");
    }

    #[test]
    fn hostile_bytes_are_refused_and_never_panic() {
        let kinds = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];
        for seed in 0..4 {
            let mut prng = Prng::new(seed);
            for _ in 0..2_000 {
                let kind = kinds[prng.below(4) as usize];
                let len = prng.below(200) as usize;
                let mut bytes: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
                // Often enough a header that leads further.
                if len >= 8 && prng.percent(80) {
                    let level = prng.below(2) as u8;
                    bytes[..8].copy_from_slice(&[level, kind.tag(), 0, 0, 3, 0, 0, 0]);
                }
                use_all(&bytes.into(), kind);
            }
            let names: Vec<String> = (0..50).map(|number| format!("key-{number:03}")).collect();
            let entries: Vec<(&str, &str)> =
                names.iter().map(|name| (name.as_str(), "a value of some length")).collect();
            for level in [0, 1] {
                let good = page(Kind::Meta, level, &entries);
                for _ in 0..2_000 {
                    let mut bytes = good.to_vec();
                    for _ in 0..=prng.below(4) {
                        let at = prng.below(bytes.len() as u64) as usize;
                        bytes[at] = prng.next_u64() as u8;
                    }
                    bytes.truncate(prng.below(2 * bytes.len() as u64) as usize);
                    use_all(&bytes.into(), Kind::Meta);
                }
            }
        }
    }
}
