//! Trees in a page file: merges through its codec, its allocator and a cache of a few pages, on a
//! disk that crashes and runs out of space, against plain maps. What the newest roots reach and
//! what the file takes for used are the same after each checkpoint and each crash.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::base::range::KeyRange;
use crate::base::record::{PutFields, Record};
use crate::base::{LeaseId, Sub};
use crate::shard::tree::{self, Kind, Merge, Reader, Step, Stop};

/// Two pages of each level, and little more.
const CACHE_BYTES: usize = 400 << 10;
const KINDS: [Kind; 2] = [Kind::Current, Kind::Meta];
/// Keys begin with so many equal bytes, which separators have to hold, too.
const COMMON_BYTES: usize = 1_500;
const NUMBERS: u64 = 1_500;

type Plain = BTreeMap<Bytes, Bytes>;
type Trees = [Option<tree::Root>; 2];

struct World {
    rig: Rig,
    prng: Prng,
    /// What each checkpoint holds that a crash may bring back.
    sealed: BTreeMap<u64, [Plain; 2]>,
    revision: i64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    completed: usize,
    crashed: usize,
    abandoned: usize,
    height: u8,
    /// Of values.
    bytes: u64,
}

/// Why a checkpoint did not end.
enum Cut {
    Crash,
    NoSpace,
}

impl World {
    fn new(seed: u64) -> World {
        let rig = Rig::open_with(MemoryDisk::default(), CACHE_BYTES, tree::FORM);
        World {
            rig: rig.expect("an empty file is a fresh one"),
            prng: Prng::new(seed),
            sealed: BTreeMap::from([(0, [Plain::new(), Plain::new()])]),
            revision: 1,
            counts: Counts::default(),
        }
    }

    fn sequence(&self) -> u64 {
        self.rig.file.newest().sequence
    }

    fn trees(&self) -> Trees {
        let Roots { current, meta, .. } = self.rig.file.newest().state.roots;
        [current, meta].map(|root| {
            root.map(|root| tree::Root::from_stored(&root).expect("a root of these trees"))
        })
    }

    fn any_key(&mut self) -> Bytes {
        let mut key = vec![b'k'; COMMON_BYTES];
        key.extend(format!("{:06}", self.prng.below(NUMBERS)).into_bytes());
        key.into()
    }

    fn any_value(&mut self, kind: Kind, key: &Bytes) -> Option<Bytes> {
        self.revision += 1;
        let len = match self.prng.below(200) {
            0 => 80_000 + self.prng.below(20_000),
            1..10 => self.prng.below(20_000),
            _ => self.prng.below(500),
        };
        // A third of them do not compress.
        let value = content(self.revision as u64, len as usize);
        match (kind, self.prng.below(10)) {
            (_, 0..2) => None,
            (Kind::Current, _) => {
                let revision = Revision(self.revision);
                let (create, sub, lease) = (revision, Sub(0), LeaseId::NONE);
                let fields =
                    PutFields { key, value: &value, revision, sub, create, version: 1, lease };
                Some(Record::put(fields).log().clone())
            }
            _ => Some(value.into()),
        }
    }

    fn any_changes(&mut self, kind: Kind) -> BTreeMap<Bytes, Option<Bytes>> {
        let size = self.prng.below(3) as usize;
        let count = self.prng.below([3, 40, 400][size]);
        let keys: Vec<Bytes> = (0..count).map(|_| self.any_key()).collect();
        keys.into_iter().map(|key| (key.clone(), self.any_value(kind, &key))).collect()
    }

    /// A checkpoint from its first page to what follows it, with whatever comes between.
    fn checkpoint(&mut self) {
        match self.try_checkpoint() {
            Ok(()) => self.counts.completed += 1,
            Err(Cut::NoSpace) => {
                self.counts.abandoned += 1;
                self.rig.settle();
            }
            Err(Cut::Crash) => {
                self.counts.crashed += 1;
                self.crash();
            }
        }
        let sequence = self.sequence();
        self.sealed.retain(|sealed, _| *sealed == sequence);
        self.check_space();
        self.check_contents();
    }

    fn try_checkpoint(&mut self) -> Result<(), Cut> {
        let mut plain = self.sealed[&self.sequence()].clone();
        let mut trees = self.trees();
        self.rig.file.begin();
        for (at, kind) in KINDS.into_iter().enumerate() {
            let changes = self.any_changes(kind);
            trees[at] = self.merge(kind, trees[at], &changes, &plain[at])?;
            for (key, value) in changes {
                match value {
                    Some(value) => plain[at].insert(key, value),
                    None => plain[at].remove(&key),
                };
            }
            let live = trees[at].map_or(0, |root| root.total.live);
            assert_eq!(live, plain[at].len() as u64);
        }
        let [current, meta] = trees.map(|root| root.map(|root| root.stored()));
        let roots = Roots { current, meta, ..Roots::default() };
        let sequence = self.sequence() + 1;
        self.rig.file.seal(State { roots, ..state(sequence as i64, None) });
        self.sealed.insert(sequence, plain);
        self.rig.tend();
        while !self.rig.file.is_idle() {
            if self.rig.pending.is_empty() {
                self.rig.tend();
            } else {
                self.disturb()?;
            }
        }
        assert_eq!(self.sequence(), sequence);
        Ok(())
    }

    fn merge(
        &mut self,
        kind: Kind,
        root: Option<tree::Root>,
        changes: &BTreeMap<Bytes, Option<Bytes>>,
        plain: &Plain,
    ) -> Result<Option<tree::Root>, Cut> {
        let mut seen = 0;
        let mut take = |change: &tree::Change, old: Option<Bytes>| {
            assert_eq!(old.as_ref(), plain.get(&change.key), "what the merge replaced");
            seen += 1;
            change.value.clone()
        };
        let all = changes.iter().map(|(key, value)| (key.clone(), value.clone()));
        let all = all.map(|(key, value)| tree::Change { key, value });
        let mut merge = Merge::new(kind, root, Revision(0), all);
        let root = loop {
            while !self.rig.file.has_room() || self.prng.percent(30) {
                self.rig.tend();
                if self.rig.pending.is_empty() {
                    break;
                }
                self.disturb()?;
            }
            let budget = [1_000, 100_000, 400_000][self.prng.below(3) as usize];
            match merge.step(&mut self.rig.file, &mut take, budget).expect("an intact tree") {
                Step::Paused => {}
                Step::Wanted(pages) => self.load(&pages),
                Step::Done(root) => break root,
            }
        };
        assert_eq!(seen, changes.len());
        Ok(root)
    }

    /// An operation ends, a page finds no space, or everything does.
    fn disturb(&mut self) -> Result<(), Cut> {
        if self.prng.below(150) == 0 {
            return Err(Cut::Crash);
        }
        let at = self.prng.below(self.rig.pending.len() as u64) as usize;
        let is_page = matches!(
            self.rig.pending[at].0.action,
            Action::Write { unit, .. } if unit >= SUPERBLOCK_UNITS
        );
        let has_space = !is_page || self.prng.below(100) > 0;
        let result = if has_space { Ok(()) } else { Err(DiskFault::NoSpace) };
        self.rig.finish_with(at, result).unwrap_or_else(|fault| panic!("{fault}"));
        // The references that were given out are void as soon as one write found no space.
        if has_space { Ok(()) } else { Err(Cut::NoSpace) }
    }

    fn crash(&mut self) {
        let durable = self.sequence();
        let rig = std::mem::replace(&mut self.rig, Rig::new(0));
        self.rig = rig.crash(&mut self.prng).unwrap_or_else(|refusal| panic!("{refusal}"));
        let found = self.sequence();
        assert!(found == durable || found == durable + 1, "{found} opened behind {durable}");
        let extents = self.reached();
        self.rig.file.adopt(extents).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// Reads what is wanted, the first of it last, so that the cache does not drop it for others.
    fn load(&mut self, wanted: &[PageRef]) {
        for at in wanted.iter().rev() {
            assert!(self.rig.file.wish(*at), "few pages are wished for");
        }
        self.rig.tend();
        let is_read = |(op, _): &(DiskOp, usize)| matches!(op.action, Action::Read { .. });
        while let Some(read) = self.rig.pending.iter().position(is_read) {
            self.rig.finish(read).unwrap_or_else(|fault| panic!("{fault}"));
        }
        assert!(self.rig.file.cached_bytes() <= CACHE_BYTES, "the cache is within its bound");
    }

    /// The extents of all pages that the newest roots reach. No leaf is read.
    fn reached(&mut self) -> Vec<Extent> {
        let mut open: Vec<(PageRef, u8)> =
            self.trees().into_iter().flatten().map(|root| (root.page, root.height)).collect();
        let mut extents = Vec::new();
        while let Some((at, level)) = open.pop() {
            extents.push(at.extent());
            if level > 0 {
                let page = self.rig.load(at).unwrap_or_else(|fault| panic!("{fault}"));
                let below = tree::references(&page).expect("a page that was checked");
                open.extend(below.into_iter().map(|at| (at, level - 1)));
            }
        }
        extents
    }

    /// Whether exactly what is reached is used: no two pages overlap, and none is left over.
    fn check_space(&mut self) {
        let reached = self.reached();
        let rebuilt = Allocator::rebuild(reached, self.rig.file.newest().file_units);
        let rebuilt = rebuilt.unwrap_or_else(|overlap| panic!("{overlap}"));
        assert_eq!(self.rig.file.used_units(), Some(rebuilt.used_units()), "reached and used");
    }

    fn check_contents(&mut self) {
        let plain = self.sealed[&self.sequence()].clone();
        for ((kind, root), plain) in KINDS.into_iter().zip(self.trees()).zip(&plain) {
            if let Some(root) = root {
                self.counts.height = self.counts.height.max(root.height);
                self.counts.bytes = self.counts.bytes.max(root.total.bytes);
            }
            let mut expected = plain.iter();
            let mut last: Option<Bytes> = None;
            for call in 0.. {
                assert!(call < 2_000, "a walk that never ends, at {last:?} of {root:?}");
                let behind = last.clone();
                let mut visit = |entry: tree::Entry<'_>| {
                    let (key, value) = expected.next().expect("an entry that was put in");
                    assert!(key == entry.key() && value == entry.value(), "{kind:?}: {key:?}");
                    last = Some(key.clone());
                    ControlFlow::Continue(())
                };
                let reader = Reader::new(kind, root, &self.rig.file);
                match reader.walk(&KeyRange::all(), behind.as_deref(), &mut visit) {
                    Ok(_) => break,
                    Err(Stop::Wanted(pages)) => self.load(&pages),
                    Err(Stop::Damaged(damaged)) => panic!("{damaged}"),
                }
            }
            assert_eq!(expected.next(), None, "an entry that the walk did not find");
        }
    }
}

#[test]
fn trees_outlive_crashes_of_their_file() {
    let mut all = Counts::default();
    for seed in 0..8 {
        let mut world = World::new(seed);
        (0..24).for_each(|_| world.checkpoint());
        let Counts { completed, crashed, abandoned, height, bytes } = world.counts;
        all.completed += completed;
        all.crashed += crashed;
        all.abandoned += abandoned;
        all.height = all.height.max(height);
        all.bytes = all.bytes.max(bytes);
    }
    let is_enough = all.completed >= 60 && all.crashed >= 20 && all.abandoned >= 10;
    // A cache many times smaller than the trees.
    let is_large = all.height >= 2 && all.bytes > 4 * CACHE_BYTES as u64;
    assert!(is_enough && is_large, "{all:?}");
}

#[test]
fn a_page_that_no_tree_wrote_is_not_served() {
    let mut rig = Rig::open_with(MemoryDisk::default(), 0, tree::FORM).expect("a fresh file");
    let written = rig.checkpoint(&[b"intact, and no page of a tree".to_vec()], &[]);
    let mut rig = rig.crash(&mut Prng::new(1)).expect("a whole file");
    let fault = rig.load(written[0]).expect_err("a page that is none");
    let damage = Damage::Contents("a page above the height of any tree");
    assert_eq!(fault, Fault::Damaged { file: FileId(IDENTITY.shard), at: written[0], damage });
    assert!(fault.to_string().contains("its checksum holds and it is a page above"), "{fault}");
}
