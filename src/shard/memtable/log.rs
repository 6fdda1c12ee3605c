//! Changes in revision order.

use std::sync::Arc;

use super::keys::Slot;
use crate::base::record::Record;
use crate::base::{Revision, Sub};

/// Changes of one memory block: growing never copies what is there.
const BLOCK_CHANGES: usize = 4096;

#[derive(Debug)]
pub(super) struct Logged {
    pub(super) record: Arc<Record>,
    pub(super) slot: Slot,
}

/// A layer's changes, oldest first, in blocks.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    /// None is empty; all but the last are full.
    blocks: Vec<Vec<Logged>>,
    len: usize,
}

impl ChangeLog {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, logged: Logged) {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK_CHANGES) {
            self.blocks.push(Vec::with_capacity(BLOCK_CHANGES));
        }
        self.blocks.last_mut().expect("a block was made if there was none").push(logged);
        self.len += 1;
    }

    /// Lets go of up to `count` changes, the newest first. True when none is left.
    pub(super) fn dismantle(&mut self, count: usize) -> bool {
        let Some(last) = self.blocks.last_mut() else { return true };
        let left = last.len().saturating_sub(count);
        self.len -= last.len() - left;
        last.truncate(left);
        if last.is_empty() {
            self.blocks.pop();
        }
        self.blocks.is_empty()
    }

    fn get(&self, at: usize) -> Option<&Logged> {
        self.blocks.get(at / BLOCK_CHANGES)?.get(at % BLOCK_CHANGES)
    }

    /// The changes from position `from` on.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = &Logged> {
        let block = (from / BLOCK_CHANGES).min(self.blocks.len());
        let mut skip = from % BLOCK_CHANGES;
        self.blocks[block..].iter().flat_map(move |block| {
            let from = std::mem::take(&mut skip).min(block.len());
            block[from..].iter()
        })
    }

    /// Index of the first change above `revision`.
    pub(super) fn position_above(&self, revision: Revision) -> usize {
        self.position_behind((revision, Sub(u32::MAX)))
    }

    /// Index of the first change behind `position`.
    pub(super) fn position_behind(&self, position: (Revision, Sub)) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle) {
                Some(logged) if logged.record.at() <= position => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_hold_over_block_boundaries() {
        let mut log = ChangeLog::default();
        for next in 0..9_000 {
            let record = Arc::new(Record::tombstone(b"k", Revision(next), Sub(0)));
            log.push(Logged { record, slot: 0 });
        }
        for at in [0, 1, 3, 4095, 4096, 4097, 8000, 8192, 8999, 9000, 12_288, 20_000] {
            let expected = (at < 9_000).then_some(at as i64);
            let found = log.iter_from(at).next().map(|logged| logged.record.revision.0);
            assert_eq!(found, expected);
            if let Some(revision) = expected {
                assert_eq!(log.position_above(Revision(revision)), at + 1);
            }
        }
        assert_eq!((log.iter_from(0).count(), log.len()), (9_000, 9_000));
        let slices = std::iter::from_fn(|| (!log.dismantle(1_000)).then_some(()));
        assert_eq!(slices.count(), 10);
        assert_eq!((log.iter_from(0).count(), log.len()), (0, 0));
    }
}
