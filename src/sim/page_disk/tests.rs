//! What becomes certain, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::block::Blocks;
use crate::base::{RaftIndex, Revision, Term};
use crate::shard::pages::{
    AGGREGATE_BYTES, Done, Identity, PageFile, PageForm, PageRef, PageSink, Pages, Root, Roots,
    State, open,
};
use crate::shard::wal::ChainPoint;

const SHARD: ShardId = ShardId(1);
const UNIT: usize = UNIT_BYTES as usize;

struct Rig {
    disk: PageDisk,
    tokens: u64,
}

impl Rig {
    fn new() -> Rig {
        Rig { disk: PageDisk::new(2), tokens: 0 }
    }

    fn begin(&mut self, action: Action) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.disk.begin(SHARD, DiskOp { token, action });
        token
    }

    fn do_all(&mut self, action: Action) {
        let token = self.begin(action);
        let answer = self.disk.finish(SHARD, token);
        assert!(matches!(answer, Input::PageDone(SHARD, at, Ok(())) if at == token));
    }

    fn write(&mut self, unit: u32, byte: u8) {
        self.do_all(write(unit, byte));
    }

    fn units(&self) -> usize {
        let bytes = self.disk.files.borrow()[1].seen.len();
        assert!(bytes.is_multiple_of(SECTOR_BYTES));
        bytes.div_ceil(UNIT)
    }

    /// The byte of each sector of a unit, which has one throughout.
    fn sectors(&self, unit: u32) -> Vec<u8> {
        let extent = Extent { unit, units: 1 };
        let bytes = self.disk.read(FileId(SHARD), extent).expect("a file");
        let sector = |sector: &[u8]| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
            sector[0]
        };
        bytes.chunks(SECTOR_BYTES).map(sector).collect()
    }
}

fn write(unit: u32, byte: u8) -> Action {
    let mut blocks = Blocks::new();
    blocks.extend(&[byte; UNIT]);
    Action::Write { unit, blocks }
}

#[test]
fn a_new_file_is_zeros_and_a_read_ends_with_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.disk.settle(FileId(SHARD)), Ok(HEAD_BYTES as u64));
    let token = rig.begin(Action::Read { extent: Extent { unit: 3, units: 4 } });
    assert!(rig.disk.is_read(SHARD, token) && !rig.disk.is_page_write(SHARD, token));
    let Input::PageRead(SHARD, at, Ok(bytes)) = rig.disk.finish(SHARD, token) else {
        panic!("a read was not answered as one");
    };
    assert_eq!((at, &bytes[..]), (token, &[0; UNIT][..]));
}

#[test]
fn synced_changes_outlive_a_power_cut_and_others_may_not() {
    let mut kept = BTreeSet::new();
    let mut is_torn = false;
    let mut lengths = BTreeSet::new();
    for seed in 0..200 {
        let (mut rig, mut prng) = (Rig::new(), Prng::new(seed));
        rig.write(4, 7);
        rig.write(5, 8);
        rig.do_all(Action::Sync);
        rig.do_all(Action::Punch { extent: Extent { unit: 5, units: 1 } });
        // Begun before the last write: it says nothing about that one.
        let sync = rig.begin(Action::Sync);
        rig.write(6, 9);
        rig.disk.finish(SHARD, sync);
        assert_eq!((rig.sectors(5), rig.sectors(6)), (vec![0; 8], vec![9; 8]));
        rig.disk.crash(End::PowerCut, &mut prng);
        assert_eq!((rig.sectors(4), rig.sectors(5)), (vec![7; 8], vec![0; 8]), "seed {seed}");
        lengths.insert(rig.units());
        let last = rig.sectors(6);
        is_torn |= last.contains(&9) && last.contains(&0);
        kept.insert(last.iter().filter(|byte| **byte == 9).count());
    }
    assert!(is_torn && kept.contains(&0) && kept.contains(&8), "{kept:?}");
    assert_eq!(lengths, BTreeSet::from([6, 7]));
}

#[test]
fn a_cut_that_was_not_synced_happens_or_not() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let (mut rig, mut prng) = (Rig::new(), Prng::new(seed));
        rig.write(6, 9);
        rig.do_all(Action::Sync);
        rig.do_all(Action::Cut { units: 5 });
        assert_eq!(rig.units(), 5);
        rig.disk.crash(End::PowerCut, &mut prng);
        lengths.insert(rig.units());
    }
    assert_eq!(lengths, BTreeSet::from([5, 7]));
}

#[test]
fn a_killed_process_loses_only_what_was_under_way() {
    let mut kept = BTreeSet::new();
    for seed in 0..100 {
        let (mut rig, mut prng) = (Rig::new(), Prng::new(seed));
        rig.write(4, 7);
        rig.begin(write(5, 8));
        rig.disk.crash(End::Killed, &mut prng);
        assert!(rig.disk.pending().is_empty());
        assert_eq!(rig.sectors(4), [7; 8]);
        let last = rig.sectors(5);
        kept.insert(last.iter().filter(|byte| **byte == 8).count());
        // The next process settles what it finds, and keeps it.
        rig.disk.settle(FileId(SHARD)).expect("a file");
        rig.disk.crash(End::PowerCut, &mut prng);
        assert_eq!((rig.sectors(4), rig.sectors(5)), (vec![7; 8], last));
    }
    assert!(kept.contains(&0) && kept.contains(&8) && kept.len() > 4, "{kept:?}");
}

#[test]
fn a_failed_write_says_so_and_only_pages_want_space() {
    let (mut rig, mut prng) = (Rig::new(), Prng::new(1));
    let superblock = rig.begin(write(2, 1));
    assert!(!rig.disk.is_page_write(SHARD, superblock));
    let page = rig.begin(write(4, 1));
    assert!(rig.disk.is_page_write(SHARD, page));
    let answer = rig.disk.fail(SHARD, page, DiskFault::NoSpace, &mut prng);
    assert!(matches!(answer, Input::PageDone(SHARD, _, Err(DiskFault::NoSpace))));
    assert_eq!(rig.disk.pending(), [(SHARD, superblock)]);
}

#[test]
fn rot_spoils_one_bit_of_what_was_written() {
    let (mut rig, mut prng) = (Rig::new(), Prng::new(1));
    assert!(!rig.disk.rot(&mut prng), "there is nothing to spoil");
    rig.write(4, 0xff);
    rig.do_all(Action::Sync);
    assert!(rig.disk.rot(&mut prng));
    let files = rig.disk.files.borrow();
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    assert_eq!(ones(&files[1].seen).abs_diff(8 * UNIT as u32), 1);
    assert_eq!(files[1].seen, files[1].durable);
}

// --- a page file on this disk --------------------------------------------------------------------

const IDENTITY: Identity =
    Identity { data_dir: 5, cluster: 1, member: 1, shard: SHARD, shards: 2, hash_seed: 7 };

fn content(seed: u64) -> Vec<u8> {
    let mut prng = Prng::new(seed);
    (0..1 + prng.below(20_000)).map(|_| prng.below(256) as u8).collect()
}

/// Page files in one place, one after the other, and what each checkpoint holds.
struct Store {
    disk: PageDisk,
    file: PageFile,
    pages: BTreeMap<u64, Vec<(PageRef, u64)>>,
    durable: u64,
    seeds: u64,
    no_space: usize,
}

impl Store {
    fn new(seed: u64) -> Store {
        let disk = PageDisk::new(2);
        let (file, pages) = (Store::open(&disk), BTreeMap::from([(0, Vec::new())]));
        Store { disk, file, pages, durable: 0, seeds: seed << 20, no_space: 0 }
    }

    fn open(disk: &PageDisk) -> PageFile {
        let length = disk.settle(FileId(SHARD)).expect("a file");
        let front = Extent { unit: 0, units: SUPERBLOCK_UNITS };
        let head = disk.read(FileId(SHARD), front).expect("a file");
        let found = open(&head, length, &IDENTITY).unwrap_or_else(|refusal| panic!("{refusal}"));
        let form = PageForm { check: |_| Ok(()), fold: |_| {}, unfold: |_| {} };
        PageFile::open(found.superblock, length, 1 << 20, form)
    }

    fn begin(&mut self) {
        let sequence = self.file.newest().sequence;
        self.file.begin();
        self.pages[&sequence].iter().for_each(|(at, _)| self.file.free(*at));
        let pages: Vec<(PageRef, u64)> = (0..4)
            .map(|_| {
                self.seeds += 1;
                (self.file.write(content(self.seeds).into()), self.seeds)
            })
            .collect();
        let index = RaftIndex(sequence + 1);
        let applied = ChainPoint { index, term: Term(1), checksum: 1, sequence: index.0 };
        let root = Root { page: pages[0].0, height: 0, aggregate: [0; AGGREGATE_BYTES] };
        let roots = Roots { current: Some(root), ..Roots::default() };
        let (revision, compact_revision) = (Revision(sequence as i64 + 2), Revision(1));
        self.file.seal(State { applied, revision, compact_revision, roots });
        self.pages.insert(sequence + 1, pages);
    }

    fn tend(&mut self) {
        let mut out = Vec::new();
        self.file.tend(&mut out);
        out.into_iter().for_each(|op| self.disk.begin(SHARD, op));
    }

    /// Ends any of the operations under way.
    fn finish(&mut self, prng: &mut Prng) {
        let pending = self.disk.pending();
        let Some((_, token)) = pending.get(prng.below(pending.len() as u64 + 1) as usize) else {
            return;
        };
        let is_full = self.disk.is_page_write(SHARD, *token) && prng.percent(2);
        let answer = if is_full {
            self.disk.fail(SHARD, *token, DiskFault::NoSpace, prng)
        } else {
            self.disk.finish(SHARD, *token)
        };
        let Input::PageDone(SHARD, token, result) = answer else { panic!("no read was begun") };
        let mut out = Vec::new();
        match self.file.on_done(token, result, &mut out).unwrap_or_else(|fault| panic!("{fault}")) {
            Done::Durable => self.durable = self.file.newest().sequence,
            Done::NoSpace => self.no_space += 1,
            Done::Worked => {}
        }
        out.into_iter().for_each(|op| self.disk.begin(SHARD, op));
    }

    fn crash(&mut self, prng: &mut Prng) {
        let end = if prng.percent(70) { End::PowerCut } else { End::Killed };
        self.disk.crash(end, prng);
        self.file = Store::open(&self.disk);
        let sequence = self.file.newest().sequence;
        assert!(sequence >= self.durable, "checkpoint {} was lost", self.durable);
        let pages = self.pages[&sequence].clone();
        for (at, seed) in &pages {
            assert!(self.file.wish(*at));
            self.tend();
            let (_, token) = self.disk.pending()[0];
            let Input::PageRead(SHARD, token, Ok(bytes)) = self.disk.finish(SHARD, token) else {
                panic!("a read was begun");
            };
            let read = self.file.on_read(token, Ok(&bytes));
            read.unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(self.file.page(*at).expect("just read"), content(*seed));
        }
        let extents = pages.iter().map(|(at, _)| at.extent());
        self.file.adopt(extents).unwrap_or_else(|fault| panic!("{fault}"));
        self.durable = sequence;
    }
}

#[test]
fn a_page_file_keeps_what_it_called_durable() {
    let (mut durable, mut no_space) = (0, 0);
    for seed in 0..60 {
        let (mut store, mut prng) = (Store::new(seed), Prng::new(seed));
        for _ in 0..400 {
            match prng.below(100) {
                0..10 if store.file.is_idle() => store.begin(),
                10 if store.file.is_idle() => store.file.punch(),
                11 | 12 => store.crash(&mut prng),
                _ => store.finish(&mut prng),
            }
            store.tend();
        }
        durable += store.durable;
        no_space += store.no_space;
    }
    assert!(durable > 200 && no_space > 20, "{durable} checkpoints, {no_space} given up");
}
