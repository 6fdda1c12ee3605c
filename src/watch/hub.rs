//! The hub: who is on it, and the inputs it takes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::behind::Windows;
use super::index::Index;
use super::request::Waiting;
use super::watcher::{Handle, Standing, Stream, Streams, Watcher};
use super::{Interest, More, Output, Settings, WatchMetrics};
use crate::base::prng::Prng;
use crate::base::shared::{Position, Shared};
use crate::base::{Revision, Tick};
use crate::wire::call::{CallId, WatchBody, WatchMessage};

/// The watch streams of one core.
///
/// Give it requests ([`Hub::on_request`]), ends of streams ([`Hub::on_gone`]), bytes that left
/// ([`Hub::on_drained`]) and shards' answers ([`Hub::on_stretch`]); after any of them, when V has
/// moved, and when [`Hub::wake_at`] has come, call [`Hub::advance`] until it says
/// [`More::No`]. Time must not go backwards.
#[derive(Debug)]
pub struct Hub {
    pub(super) settings: Settings,
    pub(super) metrics: Arc<WatchMetrics>,
    pub(super) prng: Prng,
    /// The last batch that was matched whole.
    pub(super) position: Position,
    /// How many effects of the batch behind it were matched too: whole revisions.
    pub(super) offset: usize,
    /// Everything up to here was matched and nothing above.
    pub(super) revision: Revision,
    pub(super) streams: Streams,
    pub(super) watchers: Slab<Watcher>,
    pub(super) watchers_made: u64,
    pub(super) index: Index,
    /// Requests that wait until the hub is where K was, in the order of their positions.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) ticks: BTreeSet<(Tick, CallId)>,
    /// Watchers that are behind and may go on.
    pub(super) ready: VecDeque<Handle>,
    pub(super) windows: Windows,
    /// Watchers with events in their bundles.
    pub(super) touched: Vec<usize>,
    /// Watchers that the record at hand concerns.
    pub(super) hits: Vec<usize>,
}

impl Hub {
    /// A hub without streams that has matched all of the ring up to `position`, where the store
    /// stands at `revision`.
    #[must_use]
    pub fn new(
        settings: Settings,
        mut prng: Prng,
        (position, revision): (Position, Revision),
        metrics: Arc<WatchMetrics>,
    ) -> Hub {
        assert!(settings.slice > 0 && settings.shards > 0, "a hub without work or shards");
        Hub {
            index: Index::new(Prng::new(prng.next_u64())),
            streams: Streams::new(settings.stream_bytes, settings.fragment_bytes),
            settings,
            metrics,
            prng,
            position,
            offset: 0,
            revision,
            watchers: Slab::new(),
            watchers_made: 0,
            waiting: VecDeque::new(),
            ticks: BTreeSet::new(),
            ready: VecDeque::new(),
            windows: Windows::default(),
            touched: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// The ring up to here is no longer needed by this hub.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The revision up to which everything was matched.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Which batches have to wake the hub.
    #[must_use]
    pub fn interest(&self) -> Interest {
        match self.watchers.is_empty() && self.waiting.is_empty() {
            true => Interest::None,
            false => Interest::All,
        }
    }

    /// When [`Hub::advance`] has to be called though nothing came in.
    #[must_use]
    pub fn wake_at(&self) -> Option<Tick> {
        self.ticks.first().map(|(tick, _)| *tick)
    }

    /// The stream has ended; nothing more may be sent to it.
    pub fn on_gone(&mut self, call: CallId) {
        let Some(slot) = self.streams.by_call.remove(&call) else {
            return;
        };
        while let Some((_, watcher)) = self.streams.all[slot].watchers.pop_first() {
            self.remove(watcher);
        }
        let stream = self.streams.all.remove(slot);
        if let Some(tick) = stream.tick {
            self.ticks.remove(&(tick, call));
        }
        self.metrics.pending_events.add(-(stream.queued_events as i64));
        self.metrics.streams.add(-1);
    }

    /// Messages of the stream with `bytes` in all, as [`WatchMessage::bytes`] counts, have left.
    pub fn on_drained(&mut self, call: CallId, bytes: usize) {
        let Some(&slot) = self.streams.by_call.get(&call) else {
            return;
        };
        let stream = &mut self.streams.all[slot];
        assert!(bytes <= stream.queued_bytes, "a stream drains what was sent to it");
        stream.queued_bytes -= bytes;
        if stream.queued_bytes == 0 {
            // What left in part still counts as pending: bytes are told, events are not.
            self.metrics.pending_events.add(-(stream.queued_events as i64));
            stream.queued_events = 0;
        }
        self.wake_stalled(slot);
    }

    /// The whole store was replaced by one that stands at `revision` when the ring was at
    /// `position`. Every watcher goes on from its own next revision.
    pub fn on_restored(&mut self, position: Position, revision: Revision) {
        assert!(
            position >= self.position && revision >= self.revision,
            "a hub does not go back to an older state"
        );
        self.demote_all();
        self.position = position;
        self.offset = 0;
        self.revision = revision;
    }

    /// Matches what became visible, answers requests whose turn has come, sends progress, lets
    /// watchers that are behind go on. Work per call is bounded.
    pub fn advance(&mut self, now: Tick, shared: &Shared, out: &mut Output) -> More {
        let unmatched = self.match_visible(now, shared, out);
        self.send_progress(now, out);
        let behind = self.take_turns(shared, out);
        if unmatched || behind { More::Yes } else { More::No }
    }

    /// Progress of the streams whose tick has come.
    fn send_progress(&mut self, now: Tick, out: &mut Output) {
        while let Some(&(tick, call)) = self.ticks.first() {
            if tick > now {
                return;
            }
            self.ticks.pop_first();
            let slot = self.streams.by_call[&call];
            let watchers: Vec<usize> = self.streams.all[slot].watchers.values().copied().collect();
            let mut asked = false;
            for watcher in watchers {
                let watcher = &mut self.watchers[watcher];
                if !watcher.progress {
                    continue;
                }
                asked = true;
                let quiet = std::mem::replace(&mut watcher.quiet, true);
                let is_synced =
                    watcher.standing == Standing::Live && watcher.start <= self.revision;
                if quiet && is_synced && self.streams.has_credit(slot) {
                    let watch_id = watcher.id;
                    let message = self.message(watch_id, WatchBody::Progress);
                    self.streams.send(slot, message, &self.metrics, out);
                }
            }
            self.streams.all[slot].tick = None;
            if asked {
                self.start_ticking(slot, now);
            }
        }
    }

    /// Sets a stream's next progress tick, if none is set.
    pub(super) fn start_ticking(&mut self, stream: usize, now: Tick) {
        let stream = &mut self.streams.all[stream];
        if stream.tick.is_none() {
            let interval = self.settings.progress_interval_ms;
            let tick = now.plus_ms(interval + self.prng.below(interval / 10 + 1));
            stream.tick = Some(tick);
            self.ticks.insert((tick, stream.call));
        }
    }

    /// A message whose header is where the hub stands.
    pub(super) fn message(&self, watch_id: i64, body: WatchBody) -> WatchMessage {
        WatchMessage { watch_id, revision: self.revision, body }
    }

    /// The watcher that `handle` names, if it is still there.
    pub(super) fn watcher(&self, handle: Handle) -> Option<&Watcher> {
        self.watchers.get(handle.slot).filter(|watcher| watcher.serial == handle.serial)
    }

    /// Takes a watcher out of everything but its stream's list.
    pub(super) fn remove(&mut self, slot: usize) {
        let watcher = self.watchers.remove(slot);
        let stream = &mut self.streams.all[watcher.stream];
        match watcher.standing {
            Standing::Live => self.index.remove(&watcher.range, slot),
            Standing::Behind => {
                stream.unsynced -= 1;
                self.metrics.slow.add(-1);
            }
            Standing::Compacted => stream.unsynced -= 1,
        }
        stream.unpark(watcher.start);
        self.metrics.watchers.add(-1);
    }

    /// A live watcher lacks credit, or the ring does not have what follows: from here on it goes
    /// its own pace, `next` first.
    pub(super) fn fall_behind(&mut self, slot: usize, next: Revision) {
        let watcher = &mut self.watchers[slot];
        assert!(watcher.standing == Standing::Live, "only a live watcher falls behind");
        watcher.standing = Standing::Behind;
        watcher.next = watcher.next.max(next);
        watcher.bundle.clear();
        self.index.remove(&watcher.range, slot);
        self.streams.all[watcher.stream].unsynced += 1;
        self.metrics.slow.add(1);
        let handle = Handle { slot, serial: watcher.serial };
        if self.streams.has_credit(watcher.stream) {
            self.ready.push_back(handle);
        } else {
            self.stall(handle);
        }
    }

    /// A watcher that was behind has seen all that the hub has matched.
    pub(super) fn go_live(&mut self, slot: usize) {
        let watcher = &mut self.watchers[slot];
        assert!(
            watcher.standing == Standing::Behind && watcher.next > self.revision,
            "a watcher joins the hub where the hub stands"
        );
        watcher.standing = Standing::Live;
        self.index.insert(&watcher.range, slot);
        self.streams.all[watcher.stream].unsynced -= 1;
        self.metrics.slow.add(-1);
    }

    /// The watcher waits until its stream has credit again.
    pub(super) fn stall(&mut self, handle: Handle) {
        let Some(watcher) = self.watcher(handle) else {
            return;
        };
        let stream = watcher.stream;
        let mut stalled = std::mem::take(&mut self.streams.all[stream].stalled);
        // Watchers that were cancelled meanwhile must not pile up.
        if stalled.len() > 2 * self.streams.all[stream].watchers.len() + 64 {
            stalled.retain(|handle| self.watcher(*handle).is_some());
        }
        stalled.push(handle);
        self.streams.all[stream].stalled = stalled;
    }

    /// Lets a stream's stalled watchers go on once half of its credit is there.
    pub(super) fn wake_stalled(&mut self, stream: usize) {
        let Stream { queued_bytes, stalled, .. } = &mut self.streams.all[stream];
        if *queued_bytes <= self.settings.stream_bytes / 2 {
            self.ready.extend(stalled.drain(..));
        }
    }
}
