//! The page files in memory, on a disk that takes its time, answers out of order and loses what
//! was not synced.
//!
//! Every file has two forms: what a reader sees, and what a power cut leaves. A change that is
//! done is in the first alone until a sync that began behind it is done.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::disk::{End, SECTOR_BYTES};
use crate::base::ShardId;
use crate::base::prng::Prng;
use crate::node::Input;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{
    Action, DiskOp, Extent, FileId, HEAD_BYTES, PageMedium, SUPERBLOCK_UNITS, UNIT_BYTES,
};

/// What was done to a file.
#[derive(Clone, Debug)]
enum Change {
    /// Sectors of one write, each with its place.
    Write(Vec<(usize, Vec<u8>)>),
    /// The file ends behind so many bytes, if it was shorter.
    Grow(usize),
    /// The file ends behind so many bytes, if it was longer.
    Cut(usize),
    Punch(std::ops::Range<usize>),
}

impl Change {
    /// What an action changes; nothing, for a read or a sync.
    fn of(action: &Action) -> Option<Change> {
        let offset = |unit: u32| usize::try_from(u64::from(unit) * UNIT_BYTES).expect("small");
        Some(match action {
            Action::Read { .. } | Action::Sync => return None,
            Action::Write { unit, blocks } => {
                let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
                let starts = (offset(*unit)..).step_by(SECTOR_BYTES);
                let sectors = bytes.chunks(SECTOR_BYTES).map(<[u8]>::to_vec);
                Change::Write(starts.zip(sectors).collect())
            }
            Action::Cut { units } => Change::Cut(offset(*units)),
            Action::Punch { extent } => Change::Punch(offset(extent.unit)..offset(extent.end())),
        })
    }

    /// What of it happens where anything may: any of a write's sectors, or the length alone.
    fn part(self, prng: &mut Prng) -> Option<Change> {
        let Change::Write(mut sectors) = self else { return prng.percent(50).then_some(self) };
        let end = sectors.last().map_or(0, |(at, sector)| at + sector.len());
        match prng.below(5) {
            0 => return None,
            1 => {}
            2 => return Some(Change::Grow(end)),
            3 => {
                let percent = prng.below(100);
                sectors.retain(|_| prng.percent(percent));
            }
            _ => sectors.truncate(prng.below(20) as usize),
        }
        Some(Change::Write(sectors))
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write(sectors) => {
                for (at, sector) in sectors {
                    let end = at + sector.len();
                    file.resize(file.len().max(end), 0);
                    file[*at..end].copy_from_slice(sector);
                }
            }
            Change::Grow(end) => file.resize(file.len().max(*end), 0),
            Change::Cut(end) => file.truncate(*end),
            Change::Punch(hole) => {
                let end = hole.end.min(file.len());
                if let Some(hole) = file.get_mut(hole.start..end) {
                    hole.fill(0);
                }
            }
        }
    }
}

#[derive(Debug)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// What `seen` has beyond `durable`, in order.
    unsynced: Vec<Change>,
}

impl File {
    /// A file as it is made with its data directory.
    fn new() -> File {
        File { seen: vec![0; HEAD_BYTES], durable: vec![0; HEAD_BYTES], unsynced: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Makes the oldest changes durable.
    fn sync(&mut self, changes: usize) {
        for change in self.unsynced.drain(..changes) {
            change.apply(&mut self.durable);
        }
    }

    /// Power is lost: of what was not synced any part survives.
    fn lose(&mut self, prng: &mut Prng) {
        for change in std::mem::take(&mut self.unsynced) {
            if let Some(change) = change.part(prng) {
                change.apply(&mut self.durable);
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

/// An operation under way.
#[derive(Debug)]
struct Pending {
    action: Action,
    /// Of a sync: the changes that were done when it began.
    covers: usize,
}

/// The page files of one member, and the operations under way.
#[derive(Debug)]
pub struct PageDisk {
    files: RefCell<Vec<File>>,
    pending: BTreeMap<(ShardId, Token), Pending>,
}

impl PageDisk {
    /// The files of a new data directory.
    #[must_use]
    pub fn new(shards: u16) -> PageDisk {
        let files = (0..shards).map(|_| File::new()).collect();
        PageDisk { files: RefCell::new(files), pending: BTreeMap::new() }
    }

    /// Takes an operation on.
    pub fn begin(&mut self, shard: ShardId, op: DiskOp) {
        let DiskOp { token, action } = op;
        let covers = self.file(shard).unsynced.len();
        let twice = self.pending.insert((shard, token), Pending { action, covers });
        assert!(twice.is_none(), "an operation was begun twice");
    }

    /// Operations that are under way.
    #[must_use]
    pub fn pending(&self) -> Vec<(ShardId, Token)> {
        self.pending.keys().copied().collect()
    }

    /// Ends an operation well: the answer for the shard.
    pub fn finish(&mut self, shard: ShardId, token: Token) -> Input {
        let op = self.take(shard, token);
        if let Action::Read { extent } = op.action {
            let bytes = self.read(FileId(shard), extent);
            return Input::PageRead(shard, token, bytes.map(Bytes::from));
        }
        self.carry_out(shard, &op);
        Input::PageDone(shard, token, Ok(()))
    }

    /// Ends an operation with a fault, of which any part may have been done: the answer.
    pub fn fail(
        &mut self,
        shard: ShardId,
        token: Token,
        fault: DiskFault,
        prng: &mut Prng,
    ) -> Input {
        let op = self.take(shard, token);
        if matches!(op.action, Action::Read { .. }) {
            return Input::PageRead(shard, token, Err(fault));
        }
        self.carry_out_in_part(shard, &op, prng);
        Input::PageDone(shard, token, Err(fault))
    }

    /// Whether the operation writes a page, for which a disk may have no space; superblocks have
    /// theirs.
    #[must_use]
    pub fn is_page_write(&self, shard: ShardId, token: Token) -> bool {
        let op = self.pending.get(&(shard, token)).map(|op| &op.action);
        matches!(op, Some(Action::Write { unit, .. }) if *unit >= SUPERBLOCK_UNITS)
    }

    /// Whether the operation reads.
    #[must_use]
    pub fn is_read(&self, shard: ShardId, token: Token) -> bool {
        let op = self.pending.get(&(shard, token)).map(|op| &op.action);
        matches!(op, Some(Action::Read { .. }))
    }

    /// The process ends. What was under way happens, or not, or in part.
    pub fn crash(&mut self, end: End, prng: &mut Prng) {
        for (shard, token) in self.pending() {
            let op = self.take(shard, token);
            self.carry_out_in_part(shard, &op, prng);
        }
        if end == End::PowerCut {
            self.files.get_mut().iter_mut().for_each(|file| file.lose(prng));
        }
    }

    /// Whether any file holds more than the zeros that it was made with.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.files.borrow().iter().any(|file| file.seen.iter().any(|byte| *byte != 0))
    }

    /// Spoils one bit of what was written. True if there was anything to spoil.
    pub fn rot(&mut self, prng: &mut Prng) -> bool {
        let mut written: Vec<(&mut File, usize)> = Vec::new();
        for file in self.files.get_mut() {
            if let Some(last) = file.seen.iter().rposition(|byte| *byte != 0) {
                written.push((file, last + 1));
            }
        }
        if written.is_empty() {
            return false;
        }
        let at = prng.below(written.len() as u64) as usize;
        let (file, len) = &mut written[at];
        let byte = prng.below(*len as u64) as usize;
        let bit = 1 << prng.below(8);
        for form in [&mut file.seen, &mut file.durable] {
            if let Some(found) = form.get_mut(byte) {
                *found ^= bit;
            }
        }
        true
    }

    fn file(&mut self, shard: ShardId) -> &mut File {
        &mut self.files.get_mut()[usize::from(shard.0)]
    }

    fn take(&mut self, shard: ShardId, token: Token) -> Pending {
        self.pending.remove(&(shard, token)).expect("an operation under way")
    }

    fn carry_out(&mut self, shard: ShardId, op: &Pending) {
        if let Some(change) = Change::of(&op.action) {
            self.file(shard).change(change);
        } else if matches!(op.action, Action::Sync) {
            self.file(shard).sync(op.covers);
            // Those that began later or earlier cover what is left of theirs.
            let others = self.pending.range_mut((shard, Token(0))..=(shard, Token(u64::MAX)));
            others.for_each(|(_, other)| other.covers = other.covers.saturating_sub(op.covers));
        }
    }

    fn carry_out_in_part(&mut self, shard: ShardId, op: &Pending, prng: &mut Prng) {
        match Change::of(&op.action) {
            Some(change) => {
                if let Some(change) = change.part(prng) {
                    self.file(shard).change(change);
                }
            }
            None if prng.percent(50) => self.carry_out(shard, op),
            None => {}
        }
    }
}

impl PageMedium for PageDisk {
    fn settle(&self, file: FileId) -> Result<u64, DiskFault> {
        let mut files = self.files.borrow_mut();
        let file = files.get_mut(usize::from(file.0.0)).ok_or(DiskFault::Os(2))?;
        file.sync(file.unsynced.len());
        Ok(file.seen.len() as u64)
    }

    fn read(&self, file: FileId, extent: Extent) -> Result<Vec<u8>, DiskFault> {
        let files = self.files.borrow();
        let file = files.get(usize::from(file.0.0)).ok_or(DiskFault::Os(2))?;
        let start = usize::try_from(extent.offset()).expect("small");
        let len = usize::try_from(extent.bytes()).expect("small");
        let end = file.seen.len().min(start + len);
        Ok(file.seen.get(start..end).unwrap_or_default().to_vec())
    }
}

#[cfg(test)]
mod tests;
