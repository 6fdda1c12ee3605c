//! A shard over a page file whose checksums all hold: the start, every read, a checkpoint.
//!
//! ```text
//! item 0      revision i64, compact revision i64, index u64
//! item 1..5   the roots of current, undo, leased, meta: page u8 (255: none), height u8, sums
//!             (40 B); flags: mend 1 the height
//! item 5..    a page, as in `page`; it is sealed with the checksum that it needs
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ringbolt::base::effect::AlarmKind;
use ringbolt::base::prng::Prng;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, RaftIndex, Revision, ShardId, Sub, Term};
use ringbolt::shard::pages::{
    AGGREGATE_BYTES, Codec, Extent, HEAD_BYTES, Identity, PageRef, Pages, Place, Root, Roots,
    State, Superblock, UNIT_BYTES, open,
};
use ringbolt::shard::tree::{self, Kind, Reader};
use ringbolt::shard::wal::ChainPoint;

use super::tree::{KINDS, counted, grow, mend, sums};
use super::{Item, input, items, put_number};

mod life;

use life::Shard;

const HEIGHT: u8 = 1;
const ROOT_BYTES: usize = 42;
const UNIT: usize = UNIT_BYTES as usize;

const OURS: Identity =
    Identity { data_dir: 5, cluster: 6, member: 7, shard: ShardId(0), shards: 1, hash_seed: 8 };

/// The page file that an input describes.
fn build(items: &[Item]) -> Option<Vec<u8>> {
    let (state, rest) = items.split_first()?;
    let (roots, pages) = rest.split_at_checked(4)?;
    let mut file = vec![0; HEAD_BYTES];
    let mut codec = Codec::new(Place { data_dir: OURS.data_dir, shard: OURS.shard }, tree::FORM);
    let (mut refs, mut heights) = (Vec::new(), Vec::new());
    for item in pages.iter().take(100) {
        let page = mend(item, &refs);
        if page.is_empty() {
            continue;
        }
        let packed = codec.pack(&page);
        let unit = u32::try_from(file.len() / UNIT).expect("a small file");
        let (at, blocks) = packed.seal(Extent { unit, units: packed.units() }, 1);
        file.extend(blocks.iter().flatten());
        refs.push(at);
        heights.push(page[0]);
    }
    let root = |item: &Item| {
        let number = usize::try_from(item.number(0, 1)).ok()?;
        let (page, own) = (*refs.get(number)?, heights[number]);
        let height = if item.has(HEIGHT) { own } else { item.number(1, 1) as u8 };
        let mut aggregate = [0; AGGREGATE_BYTES];
        let found = item.bytes.get(2..).unwrap_or_default();
        let len = found.len().min(tree::Aggregate::ENCODED_BYTES);
        aggregate[..len].copy_from_slice(&found[..len]);
        Some(Root { page, height, aggregate })
    };
    let [revision, compact, index] = [0, 8, 16].map(|at| state.number(at, 8));
    let applied =
        ChainPoint { index: RaftIndex(index), term: Term(2), checksum: 9, sequence: index };
    let superblock = Superblock {
        identity: OURS,
        sequence: 1,
        file_units: u32::try_from(file.len() / UNIT).expect("a small file"),
        state: State {
            applied,
            revision: Revision(revision.cast_signed()),
            compact_revision: Revision(compact.cast_signed()),
            roots: Roots {
                current: root(&roots[0]),
                undo: root(&roots[1]),
                leased: root(&roots[2]),
                meta: root(&roots[3]),
            },
        },
    };
    let slot = superblock.unit() as usize * UNIT;
    let blocks: Vec<u8> = superblock.blocks().iter().flatten().copied().collect();
    file[slot..slot + blocks.len()].copy_from_slice(&blocks);
    Some(file)
}

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let Some(file) = build(&items(data)) else { return false };
    let Some(mut shard) = Shard::start(file) else { return false };
    shard.read_all();
    shard.checkpoint();
    shard.read_all();
    shard.is_whole()
}

/// Shards that lived: with leases, deletes, deltas, a compaction; their trees in pages of a few
/// entries.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..6).map(seed).collect()
}

fn seed(number: u64) -> Vec<u8> {
    let mut shard = Shard::empty();
    let mut prng = Prng::new(number);
    let mut revision = 1;
    for round in 0..1 + number {
        let mut seen = BTreeSet::new();
        for _ in 0..10 {
            revision += 1;
            let key = format!("key-{}", prng.below(6));
            let record = next(&mut shard, key.as_bytes(), revision, &mut prng, &mut seen);
            shard.apply(record);
        }
        shard.store.grant(LeaseId(1 + round as i64), 60);
        if round == 1 {
            shard.store.alarm(OURS.member, AlarmKind::NoSpace, true);
        }
        if round == 3 {
            let at = Revision(revision - 15);
            shard.store.compact(at);
            shard.store.cut(at);
        }
        shard.checkpoint_at(Revision(revision));
    }
    assert!(shard.is_whole(), "a shard without damage");
    pages_of(&shard.into_file(), 2 + number as usize)
}

/// The next version of a key.
fn next(
    shard: &mut Shard,
    key: &[u8],
    revision: i64,
    prng: &mut Prng,
    seen: &mut BTreeSet<Vec<u8>>,
) -> Record {
    let old = shard.newest(key);
    seen.insert(key.to_vec());
    if old.is_some() && prng.percent(20) {
        return Record::tombstone(key, Revision(revision), Sub(0));
    }
    // Alike, so that there are deltas.
    let mut value = vec![7; 300];
    value[prng.below(300) as usize] = prng.next_u64() as u8;
    let (create, version) =
        old.map_or((Revision(revision), 1), |old: Arc<Record>| (old.create, old.version + 1));
    let lease = LeaseId(prng.below(2) as i64);
    let (revision, sub) = (Revision(revision), Sub(0));
    Record::put(PutFields { key, value: &value, revision, sub, create, version, lease })
}

/// All pages of a file in memory.
struct File<'a>(&'a [u8]);

impl Pages for File<'_> {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        let bytes = self.0.get(at.unit as usize * UNIT..)?;
        let place = Place { data_dir: OURS.data_dir, shard: OURS.shard };
        Some(Codec::new(place, tree::FORM).open(at, bytes).expect("a page of an intact file"))
    }

    fn holds(&self, _: PageRef) -> bool {
        true
    }
}

/// An input that describes a file, its trees in pages of so many entries.
fn pages_of(file: &[u8], per_page: usize) -> Vec<u8> {
    let opened = open(&file[..HEAD_BYTES], file.len() as u64, &OURS).expect("an intact file");
    let State { revision, compact_revision, applied, roots } = opened.superblock.state;
    let words = [revision.0.cast_unsigned(), compact_revision.0.cast_unsigned(), applied.index.0];
    let state: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut out = vec![Item::new(0, state)];
    let mut pages = Vec::new();
    for (kind, root) in KINDS.into_iter().zip([roots.current, roots.undo, roots.leased, roots.meta])
    {
        out.push(root_of(kind, root, file, per_page, &mut pages));
    }
    out.extend(pages);
    input(&out)
}

fn root_of(
    kind: Kind,
    root: Option<Root>,
    file: &[u8],
    per_page: usize,
    pages: &mut Vec<Item>,
) -> Item {
    let mut bytes = vec![0; ROOT_BYTES];
    bytes[0] = u8::MAX;
    if let Some(root) = root {
        let root = tree::Root::from_stored(&root).expect("an intact root");
        let memory = File(file);
        let entries = counted(kind, &Reader::new(kind, Some(root), &memory));
        let mut own = Vec::new();
        let grown = grow(kind, &entries, per_page, pages.len(), &mut own);
        let (number, height, total) = grown.expect("a tree has entries");
        assert_eq!(total, root.total, "sums of {kind:?}");
        (bytes[0], bytes[1]) = (number as u8, height);
        put_number(&mut bytes, 2, &sums(&total));
        pages.extend(own);
    }
    Item::new(0, bytes)
}
