//! Passes over all pages, so that rot is found while another copy can still mend it.

use std::collections::VecDeque;

use super::Store;
use crate::base::Tick;
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{PageRef, Scrub};
use crate::shard::tree::{Kind, Leaf};

/// How often, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct ScrubSettings {
    /// From the end of a pass, or the start, to the next pass; `None`: there is none.
    pub rest_ms: Option<u64>,
    /// Bytes read per second within a pass.
    pub bytes_per_s: u64,
}

#[derive(Debug)]
pub(super) enum Scrubbing {
    /// Until then; none: the first step says.
    Resting(Option<Tick>),
    Passing(Pass),
}

/// A pass under way: leaf by leaf, each found by its key on the newest root.
#[derive(Debug)]
pub(super) struct Pass {
    pace: Scrub,
    kind: Kind,
    from: Vec<u8>,
    /// The pages of the leaf there, and where to go on when they are read.
    pages: VecDeque<PageRef>,
    next: Option<Vec<u8>>,
}

const KINDS: [Kind; 4] = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];

impl Store {
    /// Has the next page read if it is due. What it finds comes out of [`Store::on_read`].
    ///
    /// # Errors
    /// [`Stop`] when a branch is missing or damaged.
    pub fn scrub(&mut self, now: Tick) -> Result<(), Stop> {
        let Some(rest_ms) = self.settings.scrub.rest_ms else { return Ok(()) };
        let pass = match &mut self.scrubbing {
            Scrubbing::Resting(until) => {
                if now < *until.get_or_insert(now.plus_ms(rest_ms)) {
                    return Ok(());
                }
                let pace = Scrub::new(now, self.settings.scrub.bytes_per_s);
                self.scrubbing = Scrubbing::Passing(Pass {
                    pace,
                    kind: KINDS[0],
                    from: Vec::new(),
                    pages: VecDeque::new(),
                    next: Some(Vec::new()),
                });
                return Ok(());
            }
            Scrubbing::Passing(pass) => pass,
        };
        if !pass.pace.is_ready(now, &self.file) {
            return Ok(());
        }
        if let Some(at) = pass.pages.pop_front() {
            pass.pace.offer(now, at, &mut self.file);
            return Ok(());
        }
        if let Some(next) = pass.next.take() {
            let (kind, from) = (pass.kind, next);
            let leaf = self.tree(kind).leaf_at(&from);
            let Scrubbing::Passing(pass) = &mut self.scrubbing else { return Ok(()) };
            pass.from = from;
            match leaf {
                Ok(Some(Leaf { pages, next })) => (pass.pages, pass.next) = (pages.into(), next),
                Ok(None) => {}
                Err(stop) => {
                    pass.next = Some(pass.from.clone());
                    return Err(stop);
                }
            }
            return Ok(());
        }
        let behind = KINDS.iter().skip_while(|kind| **kind != pass.kind).nth(1);
        match behind {
            Some(kind) => (pass.kind, pass.next) = (*kind, Some(Vec::new())),
            None => self.scrubbing = Scrubbing::Resting(Some(now.plus_ms(rest_ms))),
        }
        Ok(())
    }

    /// When the next page is due.
    #[must_use]
    pub fn scrub_due(&self, now: Tick) -> Option<Tick> {
        let rest_ms = self.settings.scrub.rest_ms?;
        match &self.scrubbing {
            Scrubbing::Resting(until) => Some(until.unwrap_or(now.plus_ms(rest_ms))),
            // A read that is under way wakes by itself.
            Scrubbing::Passing(pass) if self.file.is_checking() => {
                Some(pass.pace.due()).filter(|due| *due > now)
            }
            Scrubbing::Passing(pass) => Some(pass.pace.due()),
        }
    }

    /// The roots are new: the pages that were to be read next may be others.
    pub(super) fn scrub_anew(&mut self) {
        if let Scrubbing::Passing(pass) = &mut self.scrubbing {
            pass.pages.clear();
            pass.next = Some(pass.from.clone());
        }
    }
}
