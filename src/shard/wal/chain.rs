//! The chain: entries by index, each naming the checksum of the one before.

use std::collections::VecDeque;

use crate::base::{RaftIndex, Term};

/// One entry's place in the chain. Enough to recognise that entry for ever, so it is what a
/// checkpoint keeps of the last entry that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPoint {
    /// Index of the entry.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Checksum of its frame.
    pub checksum: u32,
    /// Order of its sealing. No frame sealed before it matters any more once it is a base.
    pub sequence: u64,
}

impl ChainPoint {
    /// Where a log begins that holds nothing.
    #[must_use]
    pub fn start(data_dir: u128) -> ChainPoint {
        ChainPoint::made(data_dir, RaftIndex(0), Term(0), 0)
    }

    /// A point that no frame stands for: the log goes on behind a snapshot.
    #[must_use]
    pub(super) fn made(data_dir: u128, index: RaftIndex, term: Term, sequence: u64) -> ChainPoint {
        let mut checksum = crc32c::crc32c(&data_dir.to_le_bytes());
        for word in [index.0, term.0, sequence] {
            checksum = crc32c::crc32c_append(checksum, &word.to_le_bytes());
        }
        ChainPoint { index, term, checksum, sequence }
    }
}

/// The live entries behind a base, each with something of the owner's.
#[derive(Clone, Debug)]
pub(super) struct Chain<T> {
    base: ChainPoint,
    links: VecDeque<(ChainPoint, T)>,
}

impl<T> Chain<T> {
    pub(super) fn new(base: ChainPoint) -> Chain<T> {
        Chain { base, links: VecDeque::new() }
    }

    pub(super) fn base(&self) -> ChainPoint {
        self.base
    }

    pub(super) fn last(&self) -> ChainPoint {
        self.links.back().map_or(self.base, |(point, _)| *point)
    }

    /// The base or the link at `index`.
    pub(super) fn point(&self, index: RaftIndex) -> Option<ChainPoint> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.link(index).map(|(point, _)| *point)
    }

    pub(super) fn link(&self, index: RaftIndex) -> Option<&(ChainPoint, T)> {
        self.links.get(self.slot(index)?)
    }

    pub(super) fn link_mut(&mut self, index: RaftIndex) -> Option<&mut (ChainPoint, T)> {
        let slot = self.slot(index)?;
        self.links.get_mut(slot)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &(ChainPoint, T)> {
        self.links.iter()
    }

    /// Puts a link behind its predecessor and drops whatever stood there or beyond.
    pub(super) fn put(&mut self, point: ChainPoint, value: T) {
        let slot = self.slot(point.index).filter(|slot| *slot <= self.links.len());
        let slot = slot.expect("a link is put behind one that is there");
        self.links.truncate(slot);
        self.links.push_back((point, value));
    }

    /// Makes the link at `index` the base and forgets what lies before it.
    pub(super) fn rebase(&mut self, index: RaftIndex) {
        while self.base.index < index {
            let (point, _) = self.links.pop_front().expect("the new base is a link");
            self.base = point;
        }
    }

    fn slot(&self, index: RaftIndex) -> Option<usize> {
        let ahead = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        usize::try_from(ahead).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(index: u64, checksum: u32) -> ChainPoint {
        ChainPoint { index: RaftIndex(index), term: Term(1), checksum, sequence: 0 }
    }

    #[test]
    fn a_put_cuts_what_lies_beyond() {
        let mut chain = Chain::new(point(4, 40));
        for index in 5..=8 {
            chain.put(point(index, index as u32), ());
        }
        chain.put(point(6, 60), ());
        assert_eq!(chain.last(), point(6, 60));
        assert_eq!(chain.point(RaftIndex(7)), None);
        assert_eq!(chain.point(RaftIndex(5)), Some(point(5, 5)));
        assert_eq!(chain.point(RaftIndex(4)), Some(point(4, 40)));
        assert_eq!(chain.point(RaftIndex(3)), None);
        chain.rebase(RaftIndex(5));
        assert_eq!((chain.base(), chain.last()), (point(5, 5), point(6, 60)));
        assert_eq!(chain.point(RaftIndex(u64::MAX)), None);
    }
}
