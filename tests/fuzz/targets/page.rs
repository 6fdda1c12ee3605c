//! Pages of a tree: the check that a page file is opened with, then everything that reads or
//! merges what it accepted.
//!
//! ```text
//! item        a page, children before their branch; flags: mend 1 references, 2 the end,
//!             4 the slots; the last one is the root
//! ```

use bytes::Bytes;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, Revision, Sub};
use ringbolt::shard::pages::{PageRef, PageSink, Pages, SUPERBLOCK_UNITS};
use ringbolt::shard::store::meta;
use ringbolt::shard::tree::{
    Aggregate, Chain, Change, Delta, Form, Kind, Merge, Reader, Root, Step, leased_key, references,
    undo_key,
};

use super::tree::{KINDS, checked, grow, kind_of, mend, read_all, reference};
use super::{Item, input, items};
use ringbolt::base::record::Turn;

/// Pages in memory, of which those are there that were accepted.
#[derive(Default)]
struct Memory(Vec<Option<Bytes>>);

impl Pages for Memory {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        self.0.get((at.unit - SUPERBLOCK_UNITS) as usize)?.clone()
    }

    fn holds(&self, at: PageRef) -> bool {
        self.page(at).is_some()
    }
}

impl PageSink for Memory {
    fn write(&mut self, logical: Bytes) -> PageRef {
        let at = reference(self.0.len(), &logical).expect("a merge writes pages of some bytes");
        self.0.push(Some(logical));
        at
    }

    fn free(&mut self, _: PageRef) {}
}

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let mut memory = Memory::default();
    let mut refs = Vec::new();
    let mut keys = Vec::new();
    let mut last = None;
    for item in items(data) {
        let page = mend(&item, &refs);
        let Some(at) = reference(memory.0.len(), &page) else { continue };
        let page = checked(&page);
        if let Some(page) = &page {
            // Whoever walks a file asks for these.
            assert!(references(page).is_ok(), "references of a page that was accepted");
            keys.push(first_key(page));
        }
        last = page.as_ref().and_then(|page| Some((kind_of(page)?, page[0], at)));
        memory.0.push(page);
        refs.push(at);
    }
    let Some((kind, height, page)) = last else { return false };
    keys.truncate(6);
    keys.push(Bytes::from_static(b"key-3"));
    let root = Root { page, height, total: Aggregate::EMPTY };
    let is_read = read_all(kind, &Reader::new(kind, Some(root), &memory), &keys);
    for drop_below in [0, 5] {
        merge(kind, root, drop_below, &mut memory);
    }
    is_read
}

fn first_key(page: &Bytes) -> Bytes {
    let word = |at: usize| Item::new(0, &page[..]).number(at, 4) as usize;
    page.slice(8 + 8 * word(4)..word(8))
}

fn version(key: &[u8], revision: i64) -> Record {
    Record::put(PutFields {
        key,
        value: b"what comes next",
        revision: Revision(revision),
        sub: Sub(0),
        create: Revision(2),
        version: 2,
        lease: LeaseId::NONE,
    })
}

/// Merges some changes into a tree: what is damaged is told.
fn merge(kind: Kind, root: Root, drop_below: i64, memory: &mut Memory) {
    let change = |key: &[u8], value: Option<Bytes>| Change { key: key.to_vec().into(), value };
    let changes = match kind {
        Kind::Current => {
            let next = |key: &str| Some(Chain::default().behind(&version(key.as_bytes(), 90)));
            vec![
                change(b"key-1", next("key-1")),
                change(b"key-2", None),
                change(b"key-5", next("key-5")),
            ]
        }
        Kind::Undo => {
            let value = Form::Nothing.encode(Turn::Created, b"key");
            vec![change(&undo_key((Revision(i64::MAX), Sub(u32::MAX))), Some(value))]
        }
        Kind::Leased => vec![change(&leased_key(LeaseId(4), b"key"), Some(Bytes::new()))],
        Kind::Meta => vec![change(&meta::lease_key(LeaseId(4)), Some(meta::lease_value(9)))],
    };
    let mut merge = Merge::new(kind, Some(root), Revision(drop_below), changes.into_iter());
    let mut take = |change: &Change, _: Option<Bytes>| change.value.clone();
    loop {
        match merge.step(memory, &mut take, 1 << 20) {
            Ok(Step::Paused) => {}
            Ok(Step::Wanted(_) | Step::Done(_)) | Err(_) => return,
        }
    }
}

/// Trees of each kind, of one page and of several levels.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in KINDS {
        for (count, per_page) in [(1, 4), (4, 4), (9, 3), (20, 2)] {
            let entries: Vec<_> = (0..count).map(|number| entry(kind, number)).collect();
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (key, value.to_vec(), Aggregate::EMPTY))
                .collect();
            let mut pages = Vec::new();
            grow(kind, &entries, per_page, 0, &mut pages);
            seeds.push(input(&pages));
        }
    }
    seeds
}

fn entry(kind: Kind, number: i64) -> (Vec<u8>, Bytes) {
    let key = format!("key-{number:02}").into_bytes();
    let place = (Revision(number + 2), Sub(0));
    match kind {
        Kind::Current => {
            let whole = (number % 3 == 0).then_some(place);
            let chain = Chain { steps: number as u8 % 3, whole };
            let record = match number % 4 {
                3 => Record::tombstone(&key, Revision(number + 9), Sub(1)),
                _ => version(&key, number + 9),
            };
            (key, chain.behind(&record))
        }
        Kind::Undo => {
            let replaced = version(&key, number + 1);
            let delta = Delta {
                revision: Revision(number + 1),
                sub: Sub(0),
                lease: LeaseId(number),
                is_lease_other: number % 2 == 0,
                kv_len: 40,
                kv_crc: 9,
                frame: Bytes::from_static(b"no frame"),
            };
            let before = (number % 2 == 0).then_some(place);
            let (turn, form) = match number % 4 {
                0 => (Turn::Created, Form::Nothing),
                1 => (Turn::Deleted, Form::Whole { log: replaced.log(), before }),
                2 => (Turn::Updated, Form::Whole { log: replaced.log(), before }),
                _ => (Turn::Updated, Form::Delta(&delta)),
            };
            (undo_key(place).to_vec(), form.encode(turn, &key))
        }
        Kind::Leased => match number % 2 {
            0 => (leased_key(LeaseId(number / 2), b""), Bytes::new()),
            _ => (leased_key(LeaseId(number / 2), &key), Bytes::new()),
        },
        Kind::Meta => (meta::lease_key(LeaseId(number + 1)).to_vec(), meta::lease_value(60)),
    }
}
