//! Matching batches against the live watchers.

use super::hub::Hub;
use super::{Output, event};
use crate::base::Revision;
use crate::base::Tick;
use crate::base::batch::Batch;
use crate::base::effect::Effect;
use crate::base::shared::Shared;

impl Hub {
    /// Matches batches up to V, a slice of work at most. True if some are left.
    pub(super) fn match_visible(&mut self, now: Tick, shared: &Shared, out: &mut Output) -> bool {
        let mut budget = self.settings.slice;
        while self.position < shared.visible() {
            if self.index.is_empty() {
                self.skip_visible(shared);
                self.serve_waiting(now, shared, out);
                continue;
            }
            if budget == 0 {
                return true;
            }
            let batch = shared.batch(self.position + 1);
            let batch = batch.expect("the ring holds what this core has not consumed");
            if batch.before > self.revision {
                // The store jumped; what lies between is not in the ring.
                self.demote_all();
                continue;
            }
            self.match_batch(&batch, shared.compact_revision(), &mut budget, out);
            self.flush(out);
            self.serve_waiting(now, shared, out);
        }
        false
    }

    /// Goes to V without looking: nobody is live.
    fn skip_visible(&mut self, shared: &Shared) {
        let visible = shared.visible();
        let batch = shared.batch(visible);
        let batch = batch.expect("the ring holds what this core has not consumed");
        self.position = visible;
        self.offset = 0;
        self.revision = self.revision.max(batch.last);
    }

    /// Matches whole revisions of the batch behind `position` until the budget is used up.
    fn match_batch(
        &mut self,
        batch: &Batch,
        compact: Revision,
        budget: &mut usize,
        out: &mut Output,
    ) {
        let mut hits = std::mem::take(&mut self.hits);
        let mut matching = self.revision;
        for (at, placed) in batch.effects.iter().enumerate().skip(self.offset) {
            let Effect::Record(record) = &placed.effect else {
                continue;
            };
            if record.revision > matching {
                self.revision = matching;
                if *budget == 0 {
                    self.offset = at;
                    self.hits = hits;
                    return;
                }
                matching = record.revision;
            }
            hits.clear();
            self.index.stab(record.key(), &mut hits);
            *budget = budget.saturating_sub(1 + hits.len());
            for &slot in &hits {
                let watcher = &mut self.watchers[slot];
                if !watcher.wants(record) {
                    continue;
                }
                let event = event::shared(placed, record, watcher.with_previous, compact);
                if watcher.bundle.is_empty() {
                    self.touched.push(slot);
                }
                let cut = watcher.bundle.push(record.revision, event, self.streams.bundle_bytes);
                if let Some(cut) = cut {
                    let sent = self.streams.deliver(watcher, cut, &self.metrics, out);
                    if let Err(unsent) = sent {
                        self.fall_behind(slot, unsent);
                    }
                }
            }
        }
        self.hits = hits;
        self.offset = 0;
        self.position += 1;
        self.revision = self.revision.max(batch.last);
    }

    /// Sends what gathered in bundles. From here on the hub's revision may be told.
    fn flush(&mut self, out: &mut Output) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            let watcher = &mut self.watchers[slot];
            // Who fell behind meanwhile has nothing left here.
            if let Some(cut) = watcher.bundle.take() {
                let sent = self.streams.deliver(watcher, cut, &self.metrics, out);
                if let Err(unsent) = sent {
                    self.fall_behind(slot, unsent);
                }
            }
        }
        self.touched = touched;
    }

    /// Sends every live watcher its own way: the hub is about to jump.
    pub(super) fn demote_all(&mut self) {
        let next = self.revision.next();
        let live: Vec<usize> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.standing == super::watcher::Standing::Live)
            .map(|(slot, _)| slot)
            .collect();
        for slot in live {
            self.fall_behind(slot, next);
        }
    }
}
