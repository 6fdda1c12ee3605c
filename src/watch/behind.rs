//! Watchers that are behind the hub. Each is a revision, `next`, and goes on from the ring if the
//! ring still has it, else from the shards, a window at a time.

use std::collections::{BTreeMap, VecDeque};

use super::hub::Hub;
use super::watcher::{Bundle, Cut, Handle, Standing};
use super::{AskId, CatchUpAsk, Compacted, Output, event};
use crate::base::batch::ShardSet;
use crate::base::change::{Change, Stretch};
use crate::base::effect::Effect;
use crate::base::limits::{
    CATCH_UP_MESSAGE_BYTES, CATCH_UP_WINDOW_BYTES, CATCH_UP_WINDOWS_MAX, RING_BATCHES, WATCH_TURN,
};
use crate::base::shared::{Position, Shared};
use crate::base::{Revision, ShardId};

/// Catch-up windows: those that shards are being asked for, and who waits to open one.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: BTreeMap<AskId, Window>,
    queue: VecDeque<Handle>,
    asked: u64,
}

#[derive(Debug)]
struct Window {
    watcher: Handle,
    /// Slot and serial of its stream, and what is reserved there.
    stream: (usize, u64),
    reserved_bytes: usize,
    after: Revision,
    /// Shards that have yet to answer.
    missing: ShardSet,
    /// What all answers so far cover.
    reached: Revision,
    changes: Vec<Change>,
    compacted: Option<Revision>,
}

impl Hub {
    /// Lets watchers that are behind go on, one after the other, a slice of work at most. True
    /// if some are left that may.
    pub(super) fn take_turns(&mut self, shared: &Shared, out: &mut Output) -> bool {
        let mut budget = self.settings.slice;
        while budget > 0 {
            let Some(handle) = self.ready.pop_front() else {
                return false;
            };
            let spent = self.take_turn(handle, shared, out);
            budget = budget.saturating_sub(1 + spent);
        }
        !self.ready.is_empty()
    }

    /// One watcher's turn. How many effects it was shown comes back.
    fn take_turn(&mut self, handle: Handle, shared: &Shared, out: &mut Output) -> usize {
        let Some(watcher) = self.watcher(handle) else {
            return 0;
        };
        let (stream, next) = (watcher.stream, watcher.next);
        assert!(watcher.standing == Standing::Behind, "a turn is for who is behind");
        if next > self.revision {
            self.go_live(handle.slot);
            return 0;
        }
        if !self.streams.has_credit(stream) {
            self.stall(handle);
            return 0;
        }
        match self.ring_position(shared, next) {
            Some(from) => self.replay(handle, from, shared, out),
            None => {
                self.want_window(handle, shared, out);
                0
            }
        }
    }

    /// Where in the ring revision `next` is, if it and all behind it are still there and came with
    /// what they replaced.
    fn ring_position(&self, shared: &Shared, next: Revision) -> Option<Position> {
        let last = self.position + Position::from(self.offset > 0);
        let mut low = (last + 1).saturating_sub(RING_BATCHES as u64).max(1);
        let mut high = last + 1;
        // Batches that are overwritten meanwhile are the oldest ones.
        while low < high {
            let middle = low + (high - low) / 2;
            match shared.batch(middle) {
                Some(batch) if batch.last >= next => high = middle,
                _ => low = middle + 1,
            }
        }
        let batch = shared.batch(low).filter(|_| low <= last)?;
        if !batch.knows_previous {
            return None;
        }
        (batch.before < next).then_some(low)
    }

    /// Shows a watcher the ring from `from` on, up to where the hub stands or its turn ends.
    fn replay(
        &mut self,
        handle: Handle,
        from: Position,
        shared: &Shared,
        out: &mut Output,
    ) -> usize {
        let watcher = &mut self.watchers[handle.slot];
        let mut bundle = Bundle::default();
        let compact = shared.compact_revision();
        let (mut shown, mut seen, mut unsent) = (0, watcher.next.before(), None);
        let last = self.position + Position::from(self.offset > 0);
        let turn = WATCH_TURN.min(self.settings.slice);
        'ring: for position in from..=last {
            let Some(batch) = shared.batch(position).filter(|batch| batch.before <= seen) else {
                break;
            };
            shown += 1;
            for placed in &batch.effects {
                let Effect::Record(record) = &placed.effect else {
                    continue;
                };
                if record.revision > self.revision {
                    break 'ring;
                }
                if record.revision > seen {
                    // What it has seen before does not count, so every turn moves on.
                    if shown > turn {
                        seen = record.revision.before();
                        break 'ring;
                    }
                    seen = record.revision;
                }
                shown += usize::from(record.revision >= watcher.next);
                if watcher.wants(record) && watcher.range.contains(record.key()) {
                    let event = event::shared(placed, record, watcher.with_previous, compact);
                    let cut = bundle.push(record.revision, event, self.streams.bundle_bytes);
                    let Some(cut) = cut else { continue };
                    if let Err(first) = self.streams.deliver(watcher, cut, &self.metrics, out) {
                        unsent = Some(first);
                        break 'ring;
                    }
                }
            }
            seen = seen.max(batch.last.min(self.revision));
        }
        if let (None, Some(cut)) = (unsent, bundle.take()) {
            unsent = self.streams.deliver(watcher, cut, &self.metrics, out).err();
        }
        self.end_turn(handle, seen, unsent);
        shown
    }

    /// The watcher has seen everything up to `seen`, or what lies before `unsent` for lack of
    /// credit.
    fn end_turn(&mut self, handle: Handle, seen: Revision, unsent: Option<Revision>) {
        let watcher = &mut self.watchers[handle.slot];
        watcher.next = unsent.unwrap_or(seen.next());
        if unsent.is_some() {
            self.stall(handle);
        } else if watcher.next > self.revision {
            self.go_live(handle.slot);
        } else {
            self.ready.push_back(handle);
        }
    }

    /// Asks the shards for a watcher's next window, now or when there is room for one.
    fn want_window(&mut self, handle: Handle, shared: &Shared, out: &mut Output) {
        let watcher = &self.watchers[handle.slot];
        let (next, slot) = (watcher.next, watcher.stream);
        let compact = shared.compact_revision();
        if next < compact {
            self.compact_away(handle.slot, compact, out);
            return;
        }
        if self.windows.open.len() >= CATCH_UP_WINDOWS_MAX {
            self.queue_for_window(handle);
            return;
        }
        let stream = &self.streams.all[slot];
        let taken = stream.queued_bytes + stream.reserved_bytes;
        let credit = self.settings.stream_bytes.saturating_sub(taken);
        if credit == 0 {
            self.stall(handle);
            return;
        }
        let reserved_bytes = credit.clamp(CATCH_UP_MESSAGE_BYTES, CATCH_UP_WINDOW_BYTES);
        self.windows.asked += 1;
        let id = AskId(self.windows.asked);
        let window = Window {
            watcher: handle,
            stream: (slot, stream.serial),
            reserved_bytes,
            after: next.before(),
            missing: ShardSet::all(self.settings.shards),
            reached: self.revision,
            changes: Vec::new(),
            compacted: None,
        };
        out.asks.push(CatchUpAsk {
            id,
            range: watcher.range.clone(),
            after: window.after,
            upto: window.reached,
            bytes_max: reserved_bytes.div_ceil(usize::from(self.settings.shards)),
        });
        self.streams.all[slot].reserved_bytes += reserved_bytes;
        self.windows.open.insert(id, window);
    }

    fn queue_for_window(&mut self, handle: Handle) {
        // Watchers that were cancelled meanwhile must not pile up.
        if self.windows.queue.len() > 2 * self.watchers.len() + 64 {
            let mut queue = std::mem::take(&mut self.windows.queue);
            queue.retain(|handle| self.watcher(*handle).is_some());
            self.windows.queue = queue;
        }
        self.windows.queue.push_back(handle);
    }

    /// A shard's answer to a catch-up ask.
    pub fn on_stretch(
        &mut self,
        ask: AskId,
        shard: ShardId,
        answer: Result<Stretch, Compacted>,
        out: &mut Output,
    ) {
        let window = self.windows.open.get_mut(&ask);
        let window = window.expect("a stretch answers an open ask");
        assert!(window.missing.contains(shard), "a shard answers an ask once");
        window.missing.remove(shard);
        match answer {
            Ok(stretch) => {
                assert!(stretch.reached > window.after, "a stretch reaches beyond its start");
                window.reached = window.reached.min(stretch.reached);
                window.changes.extend(stretch.changes);
            }
            Err(Compacted(at)) => window.compacted = window.compacted.max(Some(at)),
        }
        if window.missing.is_empty()
            && let Some(window) = self.windows.open.remove(&ask)
        {
            self.close_window(window, out);
        }
    }

    /// All shards have answered: the watcher gets what all of them cover.
    fn close_window(&mut self, mut window: Window, out: &mut Output) {
        let (slot, serial) = window.stream;
        if self.streams.all.get(slot).is_some_and(|stream| stream.serial == serial) {
            self.streams.all[slot].reserved_bytes -= window.reserved_bytes;
            self.wake_stalled(slot);
        }
        self.ready.extend(self.windows.queue.pop_front());
        if self.watcher(window.watcher).is_none() {
            return;
        }
        if let Some(compact) = window.compacted {
            self.compact_away(window.watcher.slot, compact, out);
            return;
        }
        // Each shard's run is in order; what lies beyond the shortest is asked for again.
        window.changes.retain(|change| change.record.revision <= window.reached);
        window.changes.sort_by_key(|change| change.record.at());
        let unsent = self.show(window.watcher, &window.changes, out);
        self.end_turn(window.watcher, window.reached, unsent);
    }

    /// Sends a watcher the changes that it wants. The first revision for which there was no
    /// credit comes back.
    fn show(&mut self, to: Handle, changes: &[Change], out: &mut Output) -> Option<Revision> {
        let watcher = &mut self.watchers[to.slot];
        let mut bundle = Bundle::default();
        for Change { record, previous } in changes {
            if !watcher.wants(record) || !watcher.range.contains(record.key()) {
                continue;
            }
            let previous = previous.as_deref().filter(|_| watcher.with_previous);
            let event = event::encode(record, previous);
            let cut = bundle.push(record.revision, event, self.streams.bundle_bytes);
            if let Some(cut) = cut {
                let sent = self.streams.deliver(watcher, cut, &self.metrics, out);
                if sent.is_err() {
                    return sent.err();
                }
            }
        }
        let rest: Option<Cut> = bundle.take();
        rest.and_then(|cut| self.streams.deliver(watcher, cut, &self.metrics, out).err())
    }
}
