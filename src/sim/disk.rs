//! A disk in memory that takes its time, answers out of order and loses what was not synced.
//!
//! Every file has two forms: what a reader sees, and what a power cut leaves. A write that is
//! done is in both, if the file itself is; a file made or grown is in the first alone until it
//! is synced.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::base::prng::Prng;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::wal::{Action, DiskOp, Medium, SegmentId};

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It alone is gone: what it had written is still in the kernel's hands.
    Killed,
    /// The machine lost power: only what was synced is certain.
    PowerCut,
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
}

/// The segment files of one member, and the operations under way.
#[derive(Debug, Default)]
pub struct Disk {
    files: RefCell<BTreeMap<SegmentId, File>>,
    pending: BTreeMap<Token, DiskOp>,
}

impl Disk {
    /// Takes an operation on.
    pub fn begin(&mut self, op: DiskOp) {
        let twice = self.pending.insert(op.token, op);
        assert!(twice.is_none(), "an operation was begun twice");
    }

    /// Operations that are under way.
    #[must_use]
    pub fn pending(&self) -> Vec<Token> {
        self.pending.keys().copied().collect()
    }

    /// Ends an operation well.
    pub fn finish(&mut self, token: Token) {
        let op = self.pending.remove(&token).expect("an operation under way");
        self.carry_out(&op, |_| true);
    }

    /// Ends an operation with a fault: any part of it may have been done.
    pub fn fail(&mut self, token: Token, prng: &mut Prng) {
        let op = self.pending.remove(&token).expect("an operation under way");
        if matches!(op.action, Action::Write { .. }) || prng.percent(50) {
            self.carry_out(&op, |_| prng.percent(50));
        }
    }

    /// Whether the operation writes to the log, which no want of space excuses.
    #[must_use]
    pub fn is_write(&self, token: Token) -> bool {
        self.pending.get(&token).is_some_and(|op| matches!(op.action, Action::Write { .. }))
    }

    /// The process ends. What was under way happens, or not, or in part.
    pub fn crash(&mut self, end: End, prng: &mut Prng) {
        for (_, op) in std::mem::take(&mut self.pending) {
            match prng.below(4) {
                0 => {}
                1 => self.carry_out(&op, |_| true),
                2 => {
                    let percent = prng.below(100);
                    self.carry_out(&op, |_| prng.percent(percent));
                }
                _ => {
                    let upto = prng.below(16) as usize;
                    self.carry_out(&op, |sector| sector < upto);
                }
            }
        }
        if end == End::PowerCut {
            for file in self.files.borrow_mut().values_mut() {
                file.lose(prng);
            }
        }
        self.files.borrow_mut().retain(|_, file| file.seen.is_some());
    }

    /// Spoils one bit of what was written. True if there was anything to spoil.
    pub fn rot(&mut self, prng: &mut Prng) -> bool {
        let mut files = self.files.borrow_mut();
        let mut written: Vec<(&mut File, usize)> = Vec::new();
        for file in files.values_mut() {
            let bytes = file.seen.as_deref().unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
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
            if let Some(found) = form.as_mut().and_then(|bytes| bytes.get_mut(byte)) {
                *found ^= bit;
            }
        }
        true
    }

    /// Carries an operation out; of a write only the sectors that `lands` names.
    fn carry_out(&mut self, op: &DiskOp, mut lands: impl FnMut(usize) -> bool) {
        let mut files = self.files.borrow_mut();
        let file = files.entry(op.segment).or_default();
        match &op.action {
            Action::Create => {
                if lands(0) {
                    file.seen = Some(Vec::new());
                }
            }
            Action::Zero { offset, len } => {
                let Some(seen) = &mut file.seen else { return };
                assert_eq!(seen.len() as u64, *offset, "zeros go to a file's end");
                let sectors = *len as usize / SECTOR_BYTES;
                let grown = (0..sectors).take_while(|sector| lands(*sector)).count();
                seen.resize(*offset as usize + grown * SECTOR_BYTES, 0);
            }
            Action::Sync => {
                if lands(0) {
                    file.durable = file.seen.clone();
                }
            }
            Action::Write { offset, blocks } => {
                let bytes: Vec<u8> = blocks.iter().flatten().copied().collect();
                for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    let start = *offset as usize + at * SECTOR_BYTES;
                    if !lands(at) {
                        continue;
                    }
                    for form in [&mut file.seen, &mut file.durable].into_iter().flatten() {
                        if let Some(place) = form.get_mut(start..start + sector.len()) {
                            place.copy_from_slice(sector);
                        }
                    }
                }
            }
            Action::Rename { to } => {
                if lands(0) {
                    let file = std::mem::take(file);
                    files.insert(*to, file);
                }
            }
            Action::Delete => {
                if lands(0) {
                    *file = File::default();
                }
            }
        }
        files.retain(|_, file| file.seen.is_some() || file.durable.is_some());
    }
}

impl File {
    /// Goes back to what was synced, or to anything between that and what was seen.
    fn lose(&mut self, prng: &mut Prng) {
        if self.seen == self.durable {
            return;
        }
        match prng.below(3) {
            0 => {}
            1 => self.seen.clone_from(&self.durable),
            _ => {
                let synced = self.durable.as_ref().map_or(0, Vec::len);
                if let Some(seen) = &mut self.seen {
                    let more = seen.len().saturating_sub(synced);
                    seen.truncate(synced + prng.below(more as u64 + 1) as usize);
                }
            }
        }
        self.durable.clone_from(&self.seen);
    }
}

impl Medium for Disk {
    fn settle(&self) -> Result<(), DiskFault> {
        for file in self.files.borrow_mut().values_mut() {
            file.durable.clone_from(&file.seen);
        }
        Ok(())
    }

    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault> {
        let files = self.files.borrow();
        let seen = files.iter().rev().filter_map(|(id, file)| Some((*id, file.seen.as_ref()?)));
        Ok(seen.map(|(id, bytes)| (id, bytes.len() as u64)).collect())
    }

    fn read(&self, segment: SegmentId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let files = self.files.borrow();
        let bytes = files.get(&segment).and_then(|file| file.seen.as_deref());
        let bytes = bytes.ok_or(DiskFault::Os(2))?;
        let end = bytes.len().min(offset as usize + len);
        Ok(bytes.get(offset as usize..end).unwrap_or_default().to_vec())
    }
}
