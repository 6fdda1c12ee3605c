//! Changes in revision order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::keys::Slot;
use crate::base::record::Record;
use crate::base::{Revision, Sub};

/// Changes of one memory block: growing never copies what is there.
const BLOCK_CHANGES: usize = 4096;

/// What a change did to the number of live keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Created,
    Updated,
    Deleted,
}

#[derive(Debug)]
pub(super) struct Logged {
    pub(super) record: Arc<Record>,
    pub(super) slot: Slot,
    pub(super) turn: Turn,
}

/// The changes since the last cut, oldest first: a queue in blocks.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    /// None is empty; all between the first and the last are full.
    blocks: VecDeque<VecDeque<Logged>>,
    len: usize,
}

impl ChangeLog {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, logged: Logged) {
        if self.blocks.back().is_none_or(|block| block.len() == BLOCK_CHANGES) {
            self.blocks.push_back(VecDeque::with_capacity(BLOCK_CHANGES));
        }
        self.blocks.back_mut().expect("a block was made if there was none").push_back(logged);
        self.len += 1;
    }

    pub(super) fn front(&self) -> Option<&Logged> {
        self.blocks.front()?.front()
    }

    pub(super) fn pop_front(&mut self) -> Option<Logged> {
        let block = self.blocks.front_mut()?;
        let logged = block.pop_front();
        if block.is_empty() {
            self.blocks.pop_front();
        }
        self.len -= usize::from(logged.is_some());
        logged
    }

    pub(super) fn get(&self, at: usize) -> Option<&Logged> {
        let first = self.blocks.front()?.len();
        if at < first {
            return self.blocks[0].get(at);
        }
        let rest = at - first;
        self.blocks.get(1 + rest / BLOCK_CHANGES)?.get(rest % BLOCK_CHANGES)
    }

    /// The changes from position `from` on.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = &Logged> {
        let first = self.blocks.front().map_or(0, VecDeque::len);
        let (block, offset) = match from.checked_sub(first) {
            None => (0, from),
            Some(rest) => (1 + rest / BLOCK_CHANGES, rest % BLOCK_CHANGES),
        };
        let block = block.min(self.blocks.len());
        let mut skip = offset;
        self.blocks.range(block..).flat_map(move |block| {
            let from = std::mem::take(&mut skip).min(block.len());
            block.range(from..)
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
    fn positions_hold_over_block_boundaries_and_pops() {
        let mut log = ChangeLog::default();
        let (mut next, mut oldest) = (0, 0);
        let push = |log: &mut ChangeLog, next: &mut i64, count: i64| {
            for _ in 0..count {
                let record = Arc::new(Record::tombstone(b"k", Revision(*next), Sub(0)));
                log.push(Logged { record, slot: 0, turn: Turn::Deleted });
                *next += 1;
            }
        };
        for (pushes, pops) in [(5000, 100), (9000, 6000), (10, 7909), (1, 2), (5, 3), (9000, 1)] {
            push(&mut log, &mut next, pushes);
            for _ in 0..pops {
                let popped = log.pop_front().map(|logged| logged.record.revision.0);
                assert_eq!(popped, (oldest < next).then_some(oldest));
                oldest = (oldest + 1).min(next);
            }
            assert_eq!(log.len() as i64, next - oldest);
            for at in [0, 1, 3, 4095, 4096, 4097, 8000, 8192] {
                let expected = oldest + at as i64;
                let expected = (expected < next).then_some(expected);
                assert_eq!(log.get(at).map(|logged| logged.record.revision.0), expected);
                let found = log.iter_from(at).next().map(|logged| logged.record.revision.0);
                assert_eq!(found, expected);
                if let Some(revision) = expected {
                    assert_eq!(log.position_above(Revision(revision)), at + 1);
                }
            }
            assert_eq!(log.iter_from(0).count(), log.len());
        }
    }
}
