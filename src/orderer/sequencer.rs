//! Brings proposals of several shards into the order of their revisions.
//!
//! Shards take revisions from one counter and send at once, so a proposal can overtake another
//! by microseconds and the gap always closes. Operations without a revision stand behind the
//! newest revision that was taken when they were evaluated; marks behind everything that had
//! arrived when they came.

use std::collections::{BTreeMap, VecDeque};

use super::Prepared;
use crate::base::Revision;
use crate::base::batch::Placed;

/// Where an operation stands in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It took this revision.
    At(Revision),
    /// It took none and stands behind this one.
    Behind(Revision),
    /// It changes nothing and stands behind everything that has arrived and this revision.
    Mark(Revision),
}

/// An evaluated operation on its way into the log.
#[derive(Debug)]
pub struct Proposal {
    /// Its place.
    pub place: Place,
    /// What it changes; empty for a mark.
    pub effects: Vec<Placed>,
    /// Log bytes of the effects.
    pub bytes: usize,
    /// Room in the queue that was taken for it, given back when it is visible.
    pub credit: usize,
    /// What its client is told once it is visible.
    pub answer: Option<Prepared>,
}

/// Proposals by place.
#[derive(Debug)]
pub(super) struct Sequencer {
    /// Revisions up to here are in `ready` or were taken from it.
    sequenced: Revision,
    /// Revisions up to here were taken from `ready`.
    taken: Revision,
    /// In order, nothing missing before any of them.
    ready: VecDeque<Proposal>,
    /// Numbered, with a gap before them.
    early: BTreeMap<Revision, Proposal>,
    /// Without a number, in order of arrival.
    unnumbered: VecDeque<(Revision, Proposal)>,
}

impl Sequencer {
    pub(super) fn new() -> Sequencer {
        Sequencer {
            sequenced: Revision::EMPTY,
            taken: Revision::EMPTY,
            ready: VecDeque::new(),
            early: BTreeMap::new(),
            unnumbered: VecDeque::new(),
        }
    }

    /// Begins anew behind `revision`.
    pub(super) fn open_at(&mut self, revision: Revision) {
        *self = Sequencer { sequenced: revision, taken: revision, ..Sequencer::new() };
    }

    pub(super) fn offer(&mut self, proposal: Proposal) {
        match proposal.place {
            Place::At(revision) => {
                assert!(revision > self.sequenced, "revision {revision} was proposed twice");
                if revision == self.sequenced.next() && self.unnumbered.is_empty() {
                    // The usual case: nothing waits for its turn.
                    self.sequenced = revision;
                    self.ready.push_back(proposal);
                    return self.settle();
                }
                let twice = self.early.insert(revision, proposal).is_some();
                assert!(!twice, "revision {revision} was proposed twice");
            }
            Place::Behind(revision) => self.unnumbered.push_back((revision, proposal)),
            Place::Mark(rests_on) => {
                let arrived = self.early.last_key_value().map_or(self.sequenced, |(last, _)| *last);
                self.unnumbered.push_back((arrived.max(rests_on), proposal));
            }
        }
        self.settle();
    }

    /// Moves into `ready` whatever has nothing missing before it.
    fn settle(&mut self) {
        loop {
            // An operation behind revision r goes before r + 1, which might be here already.
            if self.unnumbered.front().is_some_and(|(behind, _)| *behind <= self.sequenced) {
                self.ready.extend(self.unnumbered.pop_front().map(|(_, proposal)| proposal));
                continue;
            }
            let Some(proposal) = self.early.remove(&self.sequenced.next()) else { return };
            self.sequenced = self.sequenced.next();
            self.ready.push_back(proposal);
        }
    }

    pub(super) fn peek(&self) -> Option<&Proposal> {
        self.ready.front()
    }

    pub(super) fn pop(&mut self) -> Option<Proposal> {
        let proposal = self.ready.pop_front()?;
        if let Place::At(revision) = proposal.place {
            assert_eq!(revision, self.taken.next(), "the sequence skipped a revision");
            self.taken = revision;
        }
        Some(proposal)
    }

    /// The newest revision taken out.
    pub(super) fn taken_to(&self) -> Revision {
        self.taken
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.early.len() + self.unnumbered.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(place: Place) -> Proposal {
        Proposal { place, effects: Vec::new(), bytes: 0, credit: 0, answer: None }
    }

    fn drain(sequencer: &mut Sequencer) -> Vec<Place> {
        std::iter::from_fn(|| sequencer.pop()).map(|proposal| proposal.place).collect()
    }

    #[test]
    fn the_microsecond_gap_closes_in_revision_order() {
        let mut sequencer = Sequencer::new();
        sequencer.open_at(Revision(10));
        for revision in [12, 13] {
            sequencer.offer(proposal(Place::At(Revision(revision))));
            assert!(sequencer.peek().is_none());
        }
        sequencer.offer(proposal(Place::At(Revision(11))));
        let expected: Vec<Place> = [11, 12, 13].map(|r| Place::At(Revision(r))).into();
        assert_eq!(drain(&mut sequencer), expected);
        assert_eq!(sequencer.taken_to(), Revision(13));
    }

    #[test]
    fn a_compaction_stands_behind_what_it_names_though_that_is_late() {
        let mut sequencer = Sequencer::new();
        sequencer.open_at(Revision(10));
        sequencer.offer(proposal(Place::At(Revision(11))));
        sequencer.offer(proposal(Place::Behind(Revision(12))));
        sequencer.offer(proposal(Place::At(Revision(13))));
        sequencer.offer(proposal(Place::At(Revision(12))));
        let order = [
            Place::At(Revision(11)),
            Place::At(Revision(12)),
            Place::Behind(Revision(12)),
            Place::At(Revision(13)),
        ];
        assert_eq!(drain(&mut sequencer), order);
    }

    #[test]
    fn a_mark_stands_behind_everything_that_has_arrived() {
        let mut sequencer = Sequencer::new();
        sequencer.open_at(Revision(10));
        sequencer.offer(proposal(Place::At(Revision(12))));
        sequencer.offer(proposal(Place::Mark(Revision(0))));
        assert!(sequencer.peek().is_none());
        sequencer.offer(proposal(Place::At(Revision(11))));
        let order = [Place::At(Revision(11)), Place::At(Revision(12)), Place::Mark(Revision(0))];
        assert_eq!(drain(&mut sequencer), order);
        sequencer.offer(proposal(Place::Mark(Revision(0))));
        assert_eq!(drain(&mut sequencer), [Place::Mark(Revision(0))]);
    }
}
