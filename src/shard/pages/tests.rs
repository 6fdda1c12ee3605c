//! The page file on a disk in memory that loses, tears and spoils what it is given. `Rig` is a
//! file with its disk: a test says which operations end, in which order, and what a crash leaves.

mod allocation;
mod hostile;
mod images;
mod lives;
mod reads;
mod superblocks;
mod trees;
mod writes;

use bytes::{Buf, Bytes};

use super::*;
use crate::base::block::Blocks;
use crate::base::prng::Prng;
use crate::base::{RaftIndex, Revision, ShardId, Term, Tick};
use crate::shard::disk::DiskFault;
use crate::shard::wal::ChainPoint;

const SECTOR_BYTES: usize = 512;
const UNIT: usize = UNIT_BYTES as usize;

const IDENTITY: Identity = Identity {
    data_dir: 0x00c0_ffee_0000_0000_dead_0000_0000_beef,
    cluster: 0xc1,
    member: 0x3e,
    shard: ShardId(2),
    shards: 4,
    hash_seed: 99,
};

fn place() -> Place {
    Place { data_dir: IDENTITY.data_dir, shard: IDENTITY.shard }
}

fn flat(blocks: &Blocks) -> Vec<u8> {
    blocks.iter().flatten().copied().collect()
}

/// A page's content that follows from its seed: a third of them do not compress.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut prng = Prng::new(seed);
    let alphabet = if seed.is_multiple_of(3) { 256 } else { 3 };
    (0..len).map(|_| prng.below(alphabet) as u8).collect()
}

fn state(revision: i64, root: Option<PageRef>) -> State {
    let applied = ChainPoint {
        index: RaftIndex(revision as u64),
        term: Term(1),
        checksum: revision as u32,
        sequence: revision as u64 + 5,
    };
    let root = root.map(|page| Root { page, height: 1, aggregate: [7; AGGREGATE_BYTES] });
    let roots = Roots { current: root, ..Roots::default() };
    State { applied, revision: Revision(revision), compact_revision: Revision(1), roots }
}

// --- the disk -----------------------------------------------------------------------------------

/// What was done to the file and may be lost.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { bytes: usize },
    Punch { offset: usize, bytes: usize },
}

impl Change {
    fn of(action: &Action) -> Option<Change> {
        Some(match action {
            Action::Read { .. } | Action::Sync => return None,
            Action::Write { unit, blocks } => {
                Change::Write { offset: *unit as usize * UNIT, bytes: flat(blocks) }
            }
            Action::Cut { units } => Change::Cut { bytes: *units as usize * UNIT },
            Action::Punch { extent } => {
                Change::Punch { offset: extent.offset() as usize, bytes: extent.bytes() as usize }
            }
        })
    }

    /// Does it to a file; of a write only the sectors for which `lands` says so.
    fn apply(&self, file: &mut Vec<u8>, mut lands: impl FnMut(usize) -> bool) {
        match self {
            Change::Write { offset, bytes } => {
                for (sector, piece) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if lands(sector) {
                        let at = offset + sector * SECTOR_BYTES;
                        file.resize(file.len().max(at + piece.len()), 0);
                        file[at..at + piece.len()].copy_from_slice(piece);
                    }
                }
            }
            Change::Cut { bytes } if lands(0) => file.truncate(*bytes),
            Change::Punch { offset, bytes } if lands(0) => {
                let end = (offset + bytes).min(file.len());
                if let Some(hole) = file.get_mut(*offset..end) {
                    hole.fill(0);
                }
            }
            Change::Cut { .. } | Change::Punch { .. } => {}
        }
    }
}

#[derive(Clone, Debug, Default)]
struct MemoryDisk {
    /// What a crash leaves at least.
    durable: Vec<u8>,
    /// What a read brings.
    bytes: Vec<u8>,
    unsynced: Vec<Change>,
}

impl MemoryDisk {
    fn read(&self, extent: Extent) -> &[u8] {
        let (from, len) = (extent.offset() as usize, extent.bytes() as usize);
        let end = self.bytes.len().min(from + len);
        self.bytes.get(from..end).unwrap_or_default()
    }

    fn write(&mut self, action: &Action) {
        let change = Change::of(action).expect("an action that changes the file");
        change.apply(&mut self.bytes, |_| true);
        self.unsynced.push(change);
    }

    /// Makes the oldest changes durable.
    fn sync(&mut self, changes: usize) {
        for change in self.unsynced.drain(..changes) {
            change.apply(&mut self.durable, |_| true);
        }
    }

    /// What was not synced, and what was in flight, lands in part.
    fn crash(&mut self, in_flight: &[DiskOp], prng: &mut Prng) {
        let begun = in_flight.iter().filter_map(|op| Change::of(&op.action));
        for change in self.unsynced.drain(..).chain(begun) {
            match prng.below(4) {
                0 => {}
                1 => change.apply(&mut self.durable, |_| true),
                2 => {
                    let torn_at = prng.below(20) as usize;
                    change.apply(&mut self.durable, |sector| sector < torn_at);
                }
                _ => change.apply(&mut self.durable, |_| prng.percent(50)),
            }
        }
        self.bytes = self.durable.clone();
    }
}

// --- the rig ------------------------------------------------------------------------------------

struct Rig {
    file: PageFile,
    disk: MemoryDisk,
    /// In flight; for a sync, the changes that it makes durable.
    pending: Vec<(DiskOp, usize)>,
    done: Vec<Done>,
    reads: Vec<Read>,
    cache_bytes: usize,
    form: PageForm,
}

/// Of pages that hold anything. What is folded differs, so that a page that is not unfolded is
/// seen.
const PLAIN: PageForm = PageForm {
    check: |_| Ok(()),
    fold: |page| page.iter_mut().for_each(|byte| *byte ^= 1),
    unfold: |page| page.iter_mut().for_each(|byte| *byte ^= 1),
};

impl Rig {
    fn new(cache_bytes: usize) -> Rig {
        Rig::open(MemoryDisk::default(), cache_bytes).expect("an empty file is a fresh one")
    }

    fn open(disk: MemoryDisk, cache_bytes: usize) -> Result<Rig, Refusal> {
        Rig::open_with(disk, cache_bytes, PLAIN)
    }

    fn open_with(disk: MemoryDisk, cache_bytes: usize, form: PageForm) -> Result<Rig, Refusal> {
        let head = &disk.bytes[..disk.bytes.len().min(HEAD_BYTES)];
        let opened = open(head, disk.bytes.len() as u64, &IDENTITY)?;
        let file = PageFile::open(opened.superblock, disk.bytes.len() as u64, cache_bytes, form);
        let (done, reads) = (Vec::new(), Vec::new());
        Ok(Rig { file, disk, pending: Vec::new(), done, reads, cache_bytes, form })
    }

    fn tend(&mut self) {
        let mut out = Vec::new();
        self.file.tend(&mut out);
        self.note(out);
    }

    fn note(&mut self, ops: Vec<DiskOp>) {
        let ended = self.disk.unsynced.len();
        self.pending.extend(ops.into_iter().map(|op| (op, ended)));
    }

    /// Ends one operation well.
    fn finish(&mut self, at: usize) -> Result<(), Fault> {
        self.finish_with(at, Ok(()))
    }

    fn finish_with(&mut self, at: usize, result: Result<(), DiskFault>) -> Result<(), Fault> {
        let (DiskOp { token, action }, synced) = self.pending.remove(at);
        let mut out = Vec::new();
        match action {
            Action::Read { extent } => {
                let bytes = result.map(|()| self.disk.read(extent).to_vec());
                let read = self.file.on_read(token, bytes.as_deref().map_err(|fault| *fault))?;
                self.reads.push(read);
            }
            action => {
                match (&action, result) {
                    (_, Err(_)) => {}
                    (Action::Sync, Ok(())) => {
                        self.disk.sync(synced);
                        self.pending.iter_mut().for_each(|(_, n)| *n = n.saturating_sub(synced));
                    }
                    (action, Ok(())) => self.disk.write(action),
                }
                let done = self.file.on_done(token, result, &mut out)?;
                self.done.push(done);
            }
        }
        self.note(out);
        self.tend();
        Ok(())
    }

    /// Ends everything, in order, until nothing is under way.
    fn settle(&mut self) {
        self.tend();
        while !self.pending.is_empty() || self.file.is_clearing() {
            if self.pending.is_empty() {
                self.tend();
            } else {
                self.finish(0).unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
    }

    /// The page, read if it must be.
    fn load(&mut self, at: PageRef) -> Result<Bytes, Fault> {
        if let Some(page) = self.file.page(at) {
            return Ok(page);
        }
        assert!(self.file.wish(at), "few pages are wished for");
        self.tend();
        while let Some(read) =
            self.pending.iter().position(|(op, _)| matches!(op.action, Action::Read { .. }))
        {
            self.finish(read)?;
            if let Some(page) = self.file.page(at) {
                return Ok(page);
            }
        }
        panic!("the page was read and is not there");
    }

    /// Pages in one checkpoint, of which the last is the root.
    fn checkpoint(&mut self, pages: &[Vec<u8>], frees: &[PageRef]) -> Vec<PageRef> {
        self.file.begin();
        let written: Vec<PageRef> =
            pages.iter().map(|page| self.file.write(page.clone().into())).collect();
        frees.iter().for_each(|at| self.file.free(*at));
        let revision = self.file.newest().sequence as i64 + 2;
        self.file.seal(state(revision, written.last().copied()));
        self.settle();
        written
    }

    fn crash(self, prng: &mut Prng) -> Result<Rig, Refusal> {
        let mut disk = self.disk;
        let in_flight: Vec<DiskOp> = self.pending.into_iter().map(|(op, _)| op).collect();
        disk.crash(&in_flight, prng);
        Rig::open_with(disk, self.cache_bytes, self.form)
    }
}
