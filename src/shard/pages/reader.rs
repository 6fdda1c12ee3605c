//! Reads on their way: wishes, equal ones once, and pages that are read to be checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::limits::{PAGE_READS_IN_FLIGHT_MAX, PAGE_WISHES_MAX};
use crate::shard::disk::{Token, Tokens};

use super::disk::{Action, DiskOp};
use super::extent::PageRef;

/// Why a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody waits for it.
    Wish,
    /// To see whether it is intact; it does not enter the cache.
    Check,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: PageRef,
    pub(super) purpose: Purpose,
    /// Its extent became free meanwhile: what was read may be anything.
    pub(super) is_void: bool,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    waiting: VecDeque<Reading>,
    in_flight: BTreeMap<Token, Reading>,
    /// Wishes that wait or are in flight.
    wished: BTreeSet<PageRef>,
    is_checking: bool,
}

impl Reader {
    /// Asks for a page. False: too many are asked for; again when a read has ended.
    pub(super) fn wish(&mut self, at: PageRef) -> bool {
        if self.wished.contains(&at) {
            return true;
        }
        if self.wished.len() >= PAGE_WISHES_MAX {
            return false;
        }
        self.wished.insert(at);
        self.waiting.push_back(Reading { at, purpose: Purpose::Wish, is_void: false });
        true
    }

    pub(super) fn check(&mut self, at: PageRef) {
        assert!(!self.is_checking, "pages are checked one at a time");
        self.is_checking = true;
        self.waiting.push_back(Reading { at, purpose: Purpose::Check, is_void: false });
    }

    pub(super) fn is_checking(&self) -> bool {
        self.is_checking
    }

    pub(super) fn tend(&mut self, tokens: &mut Tokens, out: &mut Vec<DiskOp>) {
        while self.in_flight.len() < PAGE_READS_IN_FLIGHT_MAX {
            let Some(reading) = self.waiting.pop_front() else { return };
            let token = tokens.take();
            self.in_flight.insert(token, reading);
            out.push(DiskOp { token, action: Action::Read { extent: reading.at.extent() } });
        }
    }

    /// Takes the read that ended.
    pub(super) fn take(&mut self, token: Token) -> Option<Reading> {
        let reading = self.in_flight.remove(&token)?;
        self.ended(&mut { reading });
        Some(reading)
    }

    /// The extents that begin at these units are free: reads of them come to nothing.
    pub(super) fn forget(&mut self, units: &BTreeSet<u32>) {
        for mut reading in std::mem::take(&mut self.waiting) {
            if units.contains(&reading.at.unit) {
                self.ended(&mut reading);
            } else {
                self.waiting.push_back(reading);
            }
        }
        let mut in_flight = std::mem::take(&mut self.in_flight);
        for reading in in_flight.values_mut().filter(|reading| units.contains(&reading.at.unit)) {
            self.ended(reading);
        }
        self.in_flight = in_flight;
    }

    /// Nobody waits for it any more. What it still brings is void.
    fn ended(&mut self, reading: &mut Reading) {
        if std::mem::replace(&mut reading.is_void, true) {
            return;
        }
        match reading.purpose {
            Purpose::Wish => drop(self.wished.remove(&reading.at)),
            Purpose::Check => self.is_checking = false,
        }
    }
}
