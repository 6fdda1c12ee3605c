//! A watcher, the stream it is on, and the bundle in which its next events gather.

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;
use slab::Slab;

use super::{Output, WatchMetrics};
use crate::base::limits::CATCH_UP_MESSAGE_BYTES;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{Revision, Tick};
use crate::wire::call::{CallId, WatchBody, WatchMessage};

/// Names a watcher for as long as it lives; its place may be taken by another afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// How a watcher stands to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the index: it has seen what the hub has matched.
    Live,
    /// It has yet to see `next`, which the hub has matched already.
    Behind,
    /// Its next revision was compacted away. It stays until the client cancels it.
    Compacted,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) serial: u64,
    /// Slot of its stream.
    pub(super) stream: usize,
    pub(super) id: i64,
    pub(super) range: KeyRange,
    pub(super) puts: bool,
    pub(super) deletes: bool,
    pub(super) with_previous: bool,
    pub(super) progress: bool,
    pub(super) fragment: bool,
    /// The start that was asked for; 0 for "from now on".
    pub(super) start: Revision,
    /// Nothing below this revision is to be sent (any more).
    pub(super) next: Revision,
    pub(super) standing: Standing,
    /// Whether no event went out since the last progress tick.
    pub(super) quiet: bool,
    /// Events of the batch that is being matched.
    pub(super) bundle: Bundle,
}

impl Watcher {
    /// Whether a change of a key in its range is for it.
    pub(super) fn wants(&self, record: &Record) -> bool {
        let kind = if record.is_tombstone() { self.deletes } else { self.puts };
        kind && record.revision >= self.next
    }
}

/// Events in order, cut at revision boundaries.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    events: Vec<Bytes>,
    bytes: usize,
    first: Revision,
    last: Revision,
    /// Where the events of `last` begin, and the bytes and the revision before them.
    boundary: usize,
    boundary_bytes: usize,
    boundary_revision: Revision,
}

/// Events that make one message, but for fragments.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) events: Vec<Bytes>,
    pub(super) bytes: usize,
    /// First and last revision contained.
    pub(super) first: Revision,
    pub(super) last: Revision,
}

impl Bundle {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event. When that makes the bundle too large, the revisions before the event's
    /// come back as a message.
    pub(super) fn push(&mut self, revision: Revision, event: Bytes, max: usize) -> Option<Cut> {
        if self.events.is_empty() {
            *self = Bundle { events: mem::take(&mut self.events), ..Bundle::default() };
            self.first = revision;
            self.last = revision;
        } else if revision != self.last {
            assert!(revision > self.last, "events come in the order of their revisions");
            self.boundary = self.events.len();
            self.boundary_bytes = self.bytes;
            self.boundary_revision = self.last;
            self.last = revision;
        }
        self.bytes += event.len();
        self.events.push(event);
        if self.bytes <= max || self.boundary == 0 {
            return None;
        }
        let rest = self.events.split_off(self.boundary);
        let cut = Cut {
            events: mem::replace(&mut self.events, rest),
            bytes: self.boundary_bytes,
            first: self.first,
            last: self.boundary_revision,
        };
        self.bytes -= self.boundary_bytes;
        self.boundary = 0;
        self.first = self.last;
        Some(cut)
    }

    /// Everything in it, as a message.
    pub(super) fn take(&mut self) -> Option<Cut> {
        if self.events.is_empty() {
            return None;
        }
        let taken = mem::take(self);
        let Bundle { events, bytes, first, last, .. } = taken;
        Some(Cut { events, bytes, first, last })
    }

    pub(super) fn clear(&mut self) {
        *self = Bundle::default();
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) call: CallId,
    pub(super) serial: u64,
    pub(super) watchers: BTreeMap<i64, usize>,
    pub(super) next_id: i64,
    /// Requests of it that wait for the hub.
    pub(super) waiting: usize,
    /// Bytes and events sent and not yet reported as drained.
    pub(super) queued_bytes: usize,
    pub(super) queued_events: usize,
    /// Bytes that open catch-up windows may bring.
    pub(super) reserved_bytes: usize,
    /// Its watchers that are not live.
    pub(super) unsynced: usize,
    /// Starts that lay ahead of the hub when they were asked for, with their number.
    pub(super) starts: BTreeMap<Revision, usize>,
    /// Watchers that wait for credit; some may be gone.
    pub(super) stalled: Vec<Handle>,
    /// Its next progress tick, once it has a watcher that asked for one.
    pub(super) tick: Option<Tick>,
}

impl Stream {
    fn new(call: CallId, serial: u64) -> Stream {
        Stream {
            call,
            serial,
            watchers: BTreeMap::new(),
            next_id: 0,
            waiting: 0,
            queued_bytes: 0,
            queued_events: 0,
            reserved_bytes: 0,
            unsynced: 0,
            starts: BTreeMap::new(),
            stalled: Vec::new(),
            tick: None,
        }
    }

    /// The ID for a new watcher: the one asked for, or the next free one.
    pub(super) fn choose_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.watchers.contains_key(&asked)).then_some(asked);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    /// Whether everything up to `revision` was sent to every watcher, and none starts later.
    pub(super) fn is_synced_at(&self, revision: Revision) -> bool {
        let furthest = self.starts.last_key_value();
        self.unsynced == 0 && furthest.is_none_or(|(start, _)| *start <= revision)
    }

    pub(super) fn park(&mut self, start: Revision) {
        *self.starts.entry(start).or_default() += 1;
    }

    pub(super) fn unpark(&mut self, start: Revision) {
        if let Some(count) = self.starts.get_mut(&start) {
            *count -= 1;
            if *count == 0 {
                self.starts.remove(&start);
            }
        }
    }
}

/// The streams of a hub, and the one way to them.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) all: Slab<Stream>,
    pub(super) by_call: BTreeMap<CallId, usize>,
    pub(super) stream_bytes: usize,
    fragment_bytes: usize,
    /// A message of several revisions is no larger, so that fragments are of one revision.
    pub(super) bundle_bytes: usize,
    opened: u64,
}

impl Streams {
    pub(super) fn new(stream_bytes: usize, fragment_bytes: usize) -> Streams {
        let unfragmented = fragment_bytes.saturating_sub(WatchMessage::OVERHEAD_BYTES + 1);
        Streams {
            all: Slab::new(),
            by_call: BTreeMap::new(),
            stream_bytes,
            fragment_bytes,
            bundle_bytes: CATCH_UP_MESSAGE_BYTES.min(unfragmented),
            opened: 0,
        }
    }

    /// The stream of `call`, from its first request on.
    pub(super) fn open(&mut self, call: CallId) -> usize {
        *self.by_call.entry(call).or_insert_with(|| {
            self.opened += 1;
            self.all.insert(Stream::new(call, self.opened))
        })
    }

    pub(super) fn has_credit(&self, stream: usize) -> bool {
        self.all[stream].queued_bytes < self.stream_bytes
    }

    pub(super) fn send(
        &mut self,
        stream: usize,
        message: WatchMessage,
        metrics: &WatchMetrics,
        out: &mut Output,
    ) {
        let stream = &mut self.all[stream];
        let events = message.events();
        stream.queued_bytes += message.bytes();
        stream.queued_events += events;
        metrics.events.add(events as u64);
        metrics.pending_events.add(events as i64);
        out.messages.push((stream.call, message));
    }

    /// Sends a cut to its watcher, if its stream has credit.
    pub(super) fn deliver(
        &mut self,
        watcher: &mut Watcher,
        cut: Cut,
        metrics: &WatchMetrics,
        out: &mut Output,
    ) -> Result<(), Revision> {
        if !self.has_credit(watcher.stream) {
            return Err(cut.first);
        }
        watcher.quiet = false;
        let Cut { mut events, bytes, last: revision, .. } = cut;
        let max = self.fragment_bytes;
        let mut send = |events, fragment| {
            let body = WatchBody::Events { events, fragment };
            let message = WatchMessage { watch_id: watcher.id, revision, body };
            self.send(watcher.stream, message, metrics, out);
        };
        if watcher.fragment && WatchMessage::OVERHEAD_BYTES + bytes >= max {
            while let Some(rest) = fragment(&mut events, max) {
                send(mem::replace(&mut events, rest), true);
            }
        }
        send(events, false);
        Ok(())
    }
}

/// Splits off what a message of less than `max` bytes has no room for; none if all of it fits
/// or is one event.
fn fragment(events: &mut Vec<Bytes>, max: usize) -> Option<Vec<Bytes>> {
    let mut bytes = WatchMessage::OVERHEAD_BYTES;
    let too_many = events.iter().position(|event| {
        bytes += event.len();
        bytes >= max
    });
    // One event goes out whole, whatever its size.
    let at = too_many?.max(1);
    (at < events.len()).then(|| events.split_off(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(len: usize) -> Bytes {
        Bytes::from(vec![1; len])
    }

    #[test]
    fn a_bundle_is_cut_between_revisions() {
        // (revision, bytes) pushed, and the message that comes out: (first, last, events, bytes).
        type Expect = Option<(i64, i64, usize, usize)>;
        let pushes: [(i64, usize, Expect); 8] = [
            (2, 40, None),
            (2, 70, None),
            (3, 10, Some((2, 2, 2, 110))),
            (4, 50, None),
            (5, 30, None),
            (5, 20, Some((3, 4, 2, 60))),
            (5, 60, None),
            (9, 1, Some((5, 5, 3, 110))),
        ];
        let mut bundle = Bundle::default();
        for (revision, len, expect) in pushes {
            let cut = bundle.push(Revision(revision), event(len), 100);
            let cut = cut.map(|cut| (cut.first.0, cut.last.0, cut.events.len(), cut.bytes));
            assert_eq!(cut, expect, "revision {revision}");
        }
        let rest = bundle.take().expect("the last event");
        assert_eq!((rest.first, rest.last, rest.bytes), (Revision(9), Revision(9), 1));
        assert!(bundle.take().is_none());
    }

    #[test]
    fn fragments_stay_below_the_limit_but_for_single_events() {
        let over = WatchMessage::OVERHEAD_BYTES;
        for (lens, max, expect) in [
            (vec![10, 10, 10], 100, vec![3]),
            (vec![10, 10, 10], over + 21, vec![2, 1]),
            (vec![10, 10, 10], over + 20, vec![1, 1, 1]),
            (vec![500, 10, 500, 10, 10], over + 30, vec![1, 1, 1, 2]),
        ] {
            let mut events: Vec<Bytes> = lens.iter().map(|len| event(*len)).collect();
            let mut pieces = Vec::new();
            while let Some(rest) = fragment(&mut events, max) {
                pieces.push(events.len());
                events = rest;
            }
            pieces.push(events.len());
            assert_eq!(pieces, expect, "{lens:?} in {max}");
        }
    }

    #[test]
    fn automatic_ids_skip_what_is_taken() {
        let mut stream = Stream::new(CallId { connection: 1, call: 1 }, 1);
        let mut chosen = Vec::new();
        for asked in [0, 1, 0, 1, 7, 0, -5] {
            let id = stream.choose_id(asked);
            if let Some(id) = id {
                stream.watchers.insert(id, 0);
            }
            chosen.push(id);
        }
        let expect = [Some(0), Some(1), Some(2), None, Some(7), Some(3), Some(-5)];
        assert_eq!(chosen, expect);
    }
}
