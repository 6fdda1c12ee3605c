//! One level of a tree that is being built: entries that wait to become pages.

use std::collections::VecDeque;

use super::Kind;
use super::aggregate::{Aggregate, Child, measure_and_hash};
use super::page::{Item, PAGE_OVERHEAD_BYTES, build};
use crate::base::limits::MERGE_PULLS_MAX;
use crate::shard::pages::PageSink;

/// Pages of at least this fill, in percent, are left as they are.
const FILL_MIN_PERCENT: usize = 86;
/// What is packed in a row is filled up to this, so that the next change finds room.
const FILL_TARGET_PERCENT: usize = 94;
/// Pages' worth of entries that waits at most: what an overflow is spread over, and a page.
const WAITING_PAGES: usize = MERGE_PULLS_MAX + 2;

/// The entries of one level, in order, from behind the last page that was written.
#[derive(Debug)]
pub(super) struct Level {
    kind: Kind,
    level: u8,
    waiting: VecDeque<Item>,
    /// What the waiting entries take of pages.
    bytes: usize,
    /// Untouched pages that were taken apart to fill this one.
    pulls: usize,
    /// Whether all that waits becomes pages now.
    is_closing: bool,
    /// Entries that were ever put in.
    pushed: u64,
    edge: Edge,
}

/// What the separator of the next leaf follows from.
#[derive(Debug)]
enum Edge {
    /// The leaf begins a stretch that is not next to what was written before.
    Open,
    /// A key not above any to come, above all before.
    Lower(Vec<u8>),
    /// The last key of the leaf before.
    After(Vec<u8>),
}

impl Level {
    pub(super) fn new(kind: Kind, level: u8) -> Level {
        Level {
            kind,
            level,
            waiting: VecDeque::new(),
            bytes: 0,
            pulls: 0,
            is_closing: false,
            pushed: 0,
            edge: Edge::Open,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Entries that were ever put in.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.waiting.back().map(Item::key)
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.cost();
        self.pushed += 1;
        self.waiting.push_back(item);
    }

    /// The entry that waits, if it is the only one.
    pub(super) fn only(&self) -> Option<&Item> {
        self.waiting.front().filter(|_| self.waiting.len() == 1)
    }

    /// The next leaf comes from one whose keys are all at or above `lower`.
    pub(super) fn begin_at(&mut self, lower: Vec<u8>) {
        if self.waiting.is_empty() {
            self.edge = Edge::Lower(lower);
        }
    }

    /// Something else comes behind what was written so far.
    pub(super) fn interrupt(&mut self) {
        assert!(self.waiting.is_empty(), "a page was passed before the entries ahead of it");
        self.edge = Edge::Open;
    }

    /// All that waits becomes pages before anything else is put in.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether a page is to be written before more is put in.
    pub(super) fn is_due(&self) -> bool {
        self.is_closing || self.bytes >= WAITING_PAGES * self.capacity()
    }

    /// Whether what waits would make pages so empty that the next page had better be taken
    /// apart as well. Only trees that are changed in the middle are repacked.
    pub(super) fn wants_more(&self) -> bool {
        let is_small = |item: &&Item| !self.is_large(item);
        let costs = self.waiting.iter().rev().take_while(is_small).map(Item::cost);
        let bytes: usize = costs.sum();
        let room = bytes.div_ceil(self.capacity()) * self.capacity();
        self.kind != Kind::Undo
            && self.pulls < MERGE_PULLS_MAX
            && bytes * 100 < room * FILL_MIN_PERCENT
    }

    /// Notes that an untouched page is taken apart.
    pub(super) fn pull(&mut self) {
        self.pulls += 1;
    }

    /// Whether a leaf of these figures may hold one entry that needs it for itself.
    pub(super) fn may_be_large(&self, child: &Child) -> bool {
        self.level == 0 && child.total.live <= 1 && child.at.logical as usize > self.capacity() / 2
    }

    /// Whether a page takes no further entry of this cost.
    pub(super) fn is_full(&self, child: &Child, cost: usize) -> bool {
        child.at.logical as usize + cost > self.kind.page_bytes(self.level)
    }

    /// Writes the first page of what waits: a separator and the child. `packs`: nothing follows,
    /// so that the last page may be as short as it comes out.
    pub(super) fn write(&mut self, sink: &mut dyn PageSink, packs: bool) -> (Vec<u8>, Child) {
        let count = self.next_page(packs || self.kind == Kind::Undo);
        let page = build(self.kind, self.level, self.waiting.range(..count));
        let mut total = Aggregate::EMPTY;
        for item in self.waiting.range(..count) {
            let one = measure_and_hash(self.kind, self.level, &item.entry, item.key_len);
            total.add(&one.expect("entries are checked when they are put in"));
        }
        let separator = self.separator();
        let last = self.waiting.drain(..count).inspect(|item| self.bytes -= item.cost()).last();
        let last = last.expect("a page has entries");
        self.edge = Edge::After(last.key().to_vec());
        if self.waiting.is_empty() {
            self.is_closing = false;
            self.pulls = 0;
        }
        (separator, Child { at: sink.write(page), total })
    }

    /// The separator in front of what waits.
    fn separator(&self) -> Vec<u8> {
        let first = self.waiting.front().expect("a page has entries").key();
        match &self.edge {
            // The keys of a branch are lower bounds by themselves.
            _ if self.level > 0 => first.to_vec(),
            Edge::Open => first.to_vec(),
            Edge::Lower(lower) => lower.clone(),
            Edge::After(last) => {
                let common = last.iter().zip(first).take_while(|(a, b)| a == b).count();
                first[..(common + 1).min(first.len())].to_vec()
            }
        }
    }

    /// How many of the entries that wait make the next page.
    fn next_page(&self, packs: bool) -> usize {
        if self.waiting.front().is_some_and(|item| self.is_large(item)) {
            return 1;
        }
        let is_small = |item: &&Item| !self.is_large(item);
        let segment: usize = self.waiting.iter().take_while(is_small).map(Item::cost).sum();
        let capacity = self.capacity();
        // In a row pages are filled, at its end what is left is shared out evenly.
        let goal = match segment {
            _ if segment <= capacity => segment,
            _ if packs || !self.is_closing => self.target(),
            _ => segment.div_ceil(segment.div_ceil(capacity)),
        };
        // A branch with one child alone would lead nowhere.
        let least = if self.level > 0 { 2 } else { 1 };
        let mut bytes = 0;
        let mut count = 0;
        for item in self.waiting.iter().take_while(is_small) {
            let is_full = bytes >= goal || bytes + item.cost() > capacity;
            if is_full && count >= least {
                break;
            }
            bytes += item.cost();
            count += 1;
        }
        count
    }

    fn is_large(&self, item: &Item) -> bool {
        self.level == 0 && item.cost() > self.capacity() / 2
    }

    /// What a page holds of entries.
    fn capacity(&self) -> usize {
        self.kind.page_bytes(self.level) - PAGE_OVERHEAD_BYTES
    }

    /// How far a page is filled that is followed by others.
    fn target(&self) -> usize {
        match self.kind {
            // No entry ever comes between others.
            Kind::Undo => self.capacity(),
            _ => self.capacity() / 100 * FILL_TARGET_PERCENT,
        }
    }
}
