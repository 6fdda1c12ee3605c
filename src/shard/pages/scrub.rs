//! Reading pages that nobody asks for, so that rot is found while another copy can still mend
//! it. The walk of references comes from outside, one at a time; this paces it.

use crate::base::Tick;

use super::extent::PageRef;
use super::file::PageFile;

const NS_PER_S: u64 = 1_000_000_000;

/// A pass over all pages of a file.
#[derive(Debug)]
pub struct Scrub {
    bytes_per_s: u64,
    due: Tick,
    pages: u64,
    bytes: u64,
}

impl Scrub {
    /// A pass that begins now and reads so many bytes per second at most.
    #[must_use]
    pub fn new(now: Tick, bytes_per_s: u64) -> Scrub {
        assert!(bytes_per_s > 0, "a scrub of no bytes per second was asked for");
        Scrub { bytes_per_s, due: now, pages: 0, bytes: 0 }
    }

    /// When the next page may be read.
    #[must_use]
    pub fn due(&self) -> Tick {
        self.due
    }

    /// Whether the next page of the walk can be offered: it is due, and the one before is read.
    #[must_use]
    pub fn is_ready(&self, now: Tick, file: &PageFile) -> bool {
        now >= self.due && !file.is_checking()
    }

    /// Has a page of the newest roots read and checked; `is_ready` has said so. What it finds
    /// comes out of `PageFile::on_read`.
    pub fn offer(&mut self, now: Tick, at: PageRef, file: &mut PageFile) {
        assert!(self.is_ready(now, file), "a page was offered to a scrub before its time");
        file.check(at);
        let bytes = at.extent().bytes();
        self.pages += 1;
        self.bytes += bytes;
        // From now on, not from when it was due: a pass that was held up does not make up for it.
        self.due = Tick(now.0.saturating_add(bytes * NS_PER_S / self.bytes_per_s));
    }

    /// Pages and bytes offered so far.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.pages, self.bytes)
    }
}
