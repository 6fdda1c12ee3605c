//! Pages of trees as items of an input: how they are laid out, mended and read.

use std::ops::ControlFlow;

use bytes::Bytes;
use ringbolt::base::range::{KeyRange, RangeEnd};
use ringbolt::base::record::{Malformed, Record};
use ringbolt::shard::pages::{HEADER_BYTES, PageRef, SUPERBLOCK_UNITS};
use ringbolt::shard::store::meta;
use ringbolt::shard::tree::{
    Aggregate, Chain, Entry, Form, Kind, Reader, Replaced, Undone, check, lease_of, undo_place,
};

use super::entry::use_record;
use super::{Item, put_number};

/// Mend the references of a branch: each becomes that of the page that its unit counts.
pub const REFERENCES: u8 = 1;
/// Mend the end of the last entry.
pub const END: u8 = 2;
/// Mend the lengths of the entries, so that each begins where the one before it ends.
pub const SLOTS: u8 = 4;

pub const KINDS: [Kind; 4] = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];
/// Entries that a walk of a target visits at most.
const VISITS_MAX: usize = 500;

/// The tree that a page names.
pub fn kind_of(page: &[u8]) -> Option<Kind> {
    KINDS.get(usize::from(*page.get(1)?).checked_sub(1)?).copied()
}

/// A page, which may have been mended; `refs` are those of the pages before it.
pub fn mend(item: &Item, refs: &[PageRef]) -> Bytes {
    let mut bytes = item.bytes.clone();
    let len = bytes.len();
    let number = |bytes: &[u8], at: usize| Item::new(0, bytes).number(at, 4) as usize;
    let entries = number(&bytes, 4).min(len.saturating_sub(8) / 8);
    if item.has(SLOTS) {
        let mut before = 8 + 8 * entries;
        for at in (0..entries).map(|entry| 8 + 8 * entry) {
            for at in [at, at + 4] {
                let end = number(&bytes, at).clamp(before, len.max(before));
                put_number(&mut bytes, at, &u32::try_from(end).unwrap_or(0).to_le_bytes());
                before = end;
            }
        }
    }
    if item.has(END) && entries > 0 {
        put_number(&mut bytes, 8 * entries + 4, &u32::try_from(len).unwrap_or(0).to_le_bytes());
    }
    let is_branch = bytes.first().is_some_and(|level| *level > 0);
    if item.has(REFERENCES) && is_branch && !refs.is_empty() {
        for entry in 0..entries {
            let end = number(&bytes, 8 + 8 * entry + 4);
            if let Some(at) = end.checked_sub(CHILD_BYTES).filter(|_| end <= len) {
                let child = refs[number(&bytes, at) % refs.len()];
                put_number(&mut bytes, at, &child.encode());
            }
        }
    }
    bytes.into()
}

/// Bytes of a child in a branch.
const CHILD_BYTES: usize = PageRef::ENCODED_BYTES + Aggregate::ENCODED_BYTES;

/// A reference to a page in memory.
pub fn reference(number: usize, page: &[u8]) -> Option<PageRef> {
    let stored = u32::try_from(HEADER_BYTES + page.len()).ok()?;
    let unit = SUPERBLOCK_UNITS + u32::try_from(number).ok()?;
    let units = stored.div_ceil(4096);
    let logical = stored - HEADER_BYTES as u32;
    let at = PageRef { unit, units, stored, logical, checksum: 0 };
    // One of no bytes is none.
    PageRef::decode(&at.encode()).ok()
}

/// Lays a page out: the form is `src/shard/tree/page.rs`'s, written down once more.
pub fn lay_out(kind: Kind, level: u8, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let tag = 1 + KINDS.iter().position(|one| *one == kind).expect("one of four") as u8;
    let mut out = vec![level, tag, 0, 0];
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    let mut end = (8 + 8 * entries.len()) as u32;
    for (key, value) in entries {
        for part in [key, value] {
            end += part.len() as u32;
            out.extend_from_slice(&end.to_le_bytes());
        }
    }
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// An entry of a tree and what it counts as.
pub type Counted = (Vec<u8>, Vec<u8>, Aggregate);

/// Lays a whole tree out in pages of so many entries, children first. References name pages by
/// their number, `first` of which stand before these. The number, height and sums of the root.
pub fn grow(
    kind: Kind,
    entries: &[Counted],
    per_page: usize,
    first: usize,
    pages: &mut Vec<Item>,
) -> Option<(usize, u8, Aggregate)> {
    let mut level = 0;
    let mut row = entries.to_vec();
    loop {
        let mut next: Vec<Counted> = Vec::new();
        for part in row.chunks(per_page) {
            let plain: Vec<_> = part.iter().map(|(k, v, _)| (k.clone(), v.clone())).collect();
            let mut total = Aggregate::EMPTY;
            part.iter().for_each(|(_, _, one)| total.add(one));
            let number = first + pages.len();
            pages.push(Item::new(REFERENCES, lay_out(kind, level, &plain)));
            let mut child = vec![0; PageRef::ENCODED_BYTES];
            put_number(&mut child, 0, &(number as u32).to_le_bytes());
            child.extend_from_slice(&sums(&total));
            let lower = if next.is_empty() { Vec::new() } else { plain[0].0.clone() };
            next.push((lower, child, total));
        }
        if next.len() <= 1 {
            let (_, _, total) = next.pop()?;
            return Some((first + pages.len() - 1, level, total));
        }
        (row, level) = (next, level + 1);
    }
}

/// Sums as a branch holds them.
pub fn sums(total: &Aggregate) -> Vec<u8> {
    let revisions = [total.newest.0.cast_unsigned(), total.oldest.0.cast_unsigned()];
    let words = [total.live, total.bytes, revisions[0], revisions[1], total.hash];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// All entries of a tree, with what each counts as.
pub fn counted(kind: Kind, reader: &Reader<'_>) -> Vec<Counted> {
    let mut found = Vec::new();
    let mut visit = |entry: Entry<'_>| {
        found.push((entry.key().to_vec(), entry.value().to_vec()));
        ControlFlow::Continue(())
    };
    reader.walk(&KeyRange::all(), None, &mut visit).expect("a tree in memory");
    let total = |key: &[u8]| {
        let one = KeyRange::single(Bytes::copy_from_slice(key));
        reader.digest(&one).unwrap_or_else(|stop| panic!("{kind:?}: {stop:?}"))
    };
    found.into_iter().map(|(key, value)| (key.clone(), value, total(&key))).collect()
}

/// Reads an entry as its tree's readers do. True if it is one.
pub fn use_entry(kind: Kind, key: &[u8], value: &Bytes) -> bool {
    let read = || -> Result<(), Malformed> {
        match kind {
            Kind::Current => {
                let (log, chain) = Chain::split(value)?;
                let record = Record::decode(log)?;
                use_record(&record);
                let again = Chain::split(&chain.behind(&record))?;
                assert_eq!(again.1, chain, "a chain reads back");
            }
            Kind::Undo => {
                undo_place(key)?;
                use_undone(&Undone::decode(value)?);
            }
            Kind::Leased => drop(lease_of(key)?),
            Kind::Meta => drop(meta::decode(key, value)?),
        }
        Ok(())
    };
    read().is_ok()
}

fn use_undone(undone: &Undone) {
    let copied = undone.copied();
    assert_eq!((copied.turn, &copied.key), (undone.turn, &undone.key));
    assert_eq!(copied.replaced_bytes(), undone.replaced_bytes());
    let form = match &undone.replaced {
        Replaced::Nothing => Form::Nothing,
        Replaced::Whole { record, before } => {
            use_record(record);
            Form::Whole { log: record.log(), before: *before }
        }
        Replaced::Delta(delta) => Form::Delta(delta),
    };
    let again = Undone::decode(&form.encode(undone.turn, &undone.key)).expect("own encoding");
    assert_eq!(again.replaced_bytes(), undone.replaced_bytes());
}

/// Reads all that can be read of a tree whose pages are checked. True if a walk came to its end
/// and all entries were such.
pub fn read_all(kind: Kind, reader: &Reader<'_>, keys: &[Bytes]) -> bool {
    let mut left = VISITS_MAX;
    let mut is_whole = true;
    let mut visit = |entry: Entry<'_>| {
        is_whole &= use_entry(kind, entry.key(), &entry.value_bytes());
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let walked = reader.walk(&KeyRange::all(), None, &mut visit);
    for key in keys {
        let got = reader.get(key);
        let single = KeyRange::single(key.clone());
        let counted = reader.count(&single);
        if let (Ok(got), Ok(counted)) = (got, counted)
            && kind != Kind::Current
        {
            assert_eq!(u64::from(got.is_some()), counted.live, "a key is there or it is not");
        }
        let behind = KeyRange { start: key.clone(), end: RangeEnd::Open };
        let before = KeyRange { start: Bytes::new(), end: RangeEnd::Before(key.clone()) };
        for range in [&single, &behind, &before] {
            let mut left = VISITS_MAX;
            let mut visit = |entry: Entry<'_>| {
                assert!(!entry.key().is_empty() || !entry.value().is_empty() || kind != Kind::Undo);
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            // What stops a walk is told; here it is enough that it is.
            let _ = reader.walk(range, Some(key), &mut visit);
            left = VISITS_MAX;
            let mut visit = |_: Entry<'_>| {
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let _ = reader.walk_back(range, None, &mut visit);
            let (counted, digest) = (reader.count(range), reader.digest(range));
            if let (Ok(counted), Ok(digest)) = (counted, digest) {
                assert_eq!(Aggregate { hash: 0, ..digest }, Aggregate { hash: 0, ..counted });
            }
        }
    }
    let mut next = Some(Vec::new());
    for _ in 0..50 {
        let Some(from) = next.take() else { break };
        match reader.leaf_at(&from) {
            Ok(Some(leaf)) => next = leaf.next,
            Ok(None) | Err(_) => break,
        }
    }
    walked.is_ok() && is_whole
}

/// A page that a reader would be given.
pub fn checked(page: &Bytes) -> Option<Bytes> {
    check(page).is_ok().then(|| page.clone())
}
