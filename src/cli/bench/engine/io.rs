//! What a load may do: calls, streams, messages, timers, records.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use slab::Slab;

use super::link::Link;
use crate::base::Tick;
use crate::base::prng::Prng;
use crate::cli::bench::recorder::{self, Recorder, SeriesId};
use crate::cli::bench::schedule::Share;
use crate::wire::client::{Refusal, Status, StreamId};

/// An operation as its load sees it.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Where it is counted.
    pub series: SeriesId,
    /// When it was due.
    pub intended: Tick,
    /// What kind, by the load's own numbers up to 65,535.
    pub kind: u32,
    /// Whatever the load wants to find again.
    pub key: u64,
}

/// An operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub(super) usize);

/// What carries an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A call of one message each way.
    Unary { link: usize, stream: StreamId },
    /// A call that stays, such as a watch. It is not timed.
    Stream { link: usize, stream: StreamId },
    /// Other calls and messages; the load says when it is over.
    Parts,
    /// A call that no connection took yet.
    Waiting,
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) op: Op,
    pub(super) carrier: Carrier,
    pub(super) source: Option<usize>,
    /// The connection it began on, for the next one of a closed loop.
    pub(super) home: Option<usize>,
    pub(super) started: Tick,
    pub(super) bytes: u64,
    pub(super) error: Option<&'static str>,
}

#[derive(Debug)]
struct Waiting {
    call: usize,
    path: &'static str,
    message: Vec<u8>,
    link: Option<usize>,
}

/// The operations and connections of one thread.
#[derive(Debug)]
pub struct Io {
    pub(super) now: Tick,
    pub(super) share: Share,
    pub(super) links: Vec<Link>,
    pub(super) active: Slab<Active>,
    pub(super) recorder: Recorder,
    pub(super) timers: BinaryHeap<Reverse<(Tick, u64)>>,
    /// The source whose operation is being started.
    pub(super) source: Option<usize>,
    /// The connection that the next call of a closed loop goes to.
    pub(super) home: Option<usize>,
    /// Operations that their load declared over.
    pub(super) finished: Vec<(usize, Status)>,
    /// Links whose output grew.
    pub(super) dirty: Vec<usize>,
    /// What is due from then on is not started.
    pub(super) until: Tick,
    /// Operations under way, streams aside.
    pub(super) in_flight: usize,
    waiting: VecDeque<Waiting>,
    next_link: usize,
    notes: Vec<String>,
    prng: Prng,
    lane: u32,
}

impl Io {
    pub(super) fn new(share: Share, links: Vec<Link>, recorder: Recorder, seed: u64) -> Io {
        Io {
            now: Tick(0),
            share,
            links,
            active: Slab::new(),
            recorder,
            timers: BinaryHeap::new(),
            source: None,
            home: None,
            finished: Vec::new(),
            dirty: Vec::new(),
            until: Tick(u64::MAX),
            in_flight: 0,
            waiting: VecDeque::new(),
            next_link: 0,
            notes: Vec::new(),
            lane: 0,
            prng: Prng::new(seed ^ (share.worker as u64) << 32),
        }
    }

    /// When what is being handled arrived.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.now
    }

    /// Which thread this is.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// Connections of this thread.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Whether a connection takes calls.
    #[must_use]
    pub fn is_link_ready(&self, link: usize) -> bool {
        self.links.get(link).is_some_and(Link::is_ready)
    }

    /// Chance, from the seed.
    pub fn prng(&mut self) -> &mut Prng {
        &mut self.prng
    }

    /// What is begun from here on belongs to this one of several loads.
    pub fn set_lane(&mut self, lane: u32) {
        self.lane = lane;
    }

    /// Which load an operation belongs to, and the kind that it gave.
    #[must_use]
    pub fn lane_of(kind: u32) -> (u32, u32) {
        (kind >> 16, kind & 0xffff)
    }

    fn in_lane(&self, op: Op) -> Op {
        Op { kind: self.lane << 16 | op.kind & 0xffff, ..op }
    }

    /// Whether what is due then belongs to the phase.
    #[must_use]
    pub fn is_within(&self, due: Tick) -> bool {
        due < self.until
    }

    /// Something that a reader of the result must know.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    // --- operations ------------------------------------------------------------------------------

    /// A call of one message each way, on any connection that takes it.
    pub fn call(&mut self, op: Op, path: &'static str, message: &[u8]) -> CallId {
        self.call_on(None, op, path, message)
    }

    /// A call of one message each way, on the connection of this number if there is one.
    pub fn call_on(
        &mut self,
        link: Option<usize>,
        op: Op,
        path: &'static str,
        message: &[u8],
    ) -> CallId {
        let call = self.begin(op, Carrier::Waiting);
        if !self.try_call(call.0, link, path, message) {
            self.waiting.push_back(Waiting { call: call.0, path, message: message.to_vec(), link });
        }
        call
    }

    /// An operation of several parts, over when [`Io::finish`] says so.
    pub fn parts(&mut self, op: Op) -> CallId {
        let call = self.begin(op, Carrier::Parts);
        self.recorder.start(op.series, op.intended);
        call
    }

    /// An operation of [`Io::parts`] is over.
    pub fn finish(&mut self, call: CallId, status: Status) {
        self.finished.push((call.0, status));
    }

    /// Bytes that an operation carried beside its own messages.
    pub fn add_bytes(&mut self, call: CallId, bytes: u64) {
        if let Some(active) = self.active.get_mut(call.0) {
            active.bytes += bytes;
        }
    }

    fn begin(&mut self, op: Op, carrier: Carrier) -> CallId {
        let op = self.in_lane(op);
        let active = Active {
            op,
            carrier,
            source: self.source.take(),
            home: self.home,
            started: self.now,
            bytes: 0,
            error: None,
        };
        self.in_flight += 1;
        self.recorder.intend(op.series, op.intended, 1);
        CallId(self.active.insert(active))
    }

    fn try_call(
        &mut self,
        call: usize,
        link: Option<usize>,
        path: &'static str,
        message: &[u8],
    ) -> bool {
        let Some(link) = self.pick(link) else { return false };
        let connection = &mut self.links[link].connection;
        let Ok(stream) = connection.unary(path, call as u64, message) else { return false };
        self.dirty.push(link);
        let now = self.now;
        let active = &mut self.active[call];
        active.carrier = Carrier::Unary { link, stream };
        active.home = Some(link);
        active.started = now;
        let op = active.op;
        self.recorder.start(op.series, op.intended);
        true
    }

    /// A connection that takes a call now.
    fn pick(&mut self, wanted: Option<usize>) -> Option<usize> {
        let takes = |link: &Link| link.is_ready() && link.connection.can_open().is_ok();
        if let Some(wanted) = wanted {
            return self.links.get(wanted).is_some_and(takes).then_some(wanted);
        }
        if let Some(home) = self.home.filter(|home| takes(&self.links[*home])) {
            return Some(home);
        }
        let count = self.links.len();
        for step in 0..count {
            let link = (self.next_link + step) % count;
            if takes(&self.links[link]) {
                self.next_link = (link + 1) % count;
                return Some(link);
            }
        }
        None
    }

    /// Whether any connection takes a call now.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
            && self.links.iter().any(|link| link.is_ready() && link.connection.can_open().is_ok())
    }

    /// Calls that waited for a connection.
    pub(super) fn retry_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { return };
            self.home = None;
            if !self.try_call(waiting.call, waiting.link, waiting.path, &waiting.message) {
                self.waiting.push_back(waiting);
                return;
            }
        }
    }

    /// A call that waited is over before any connection took it.
    pub(super) fn forget_waiting(&mut self, call: usize) {
        self.waiting.retain(|waiting| waiting.call != call);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    // --- streams ---------------------------------------------------------------------------------

    /// Opens a call that stays, with its first message if there is one yet. None while the
    /// connection does not take it; [`super::Load::link_ready`] says when to try again.
    pub fn open_stream(
        &mut self,
        link: usize,
        op: Op,
        path: &'static str,
        metadata: &[(&str, &str)],
        first: Option<&[u8]>,
    ) -> Option<CallId> {
        if !self.is_link_ready(link) {
            return None;
        }
        let entry = self.active.vacant_key();
        let connection = &mut self.links[link].connection;
        let stream = connection.open(path, metadata, entry as u64).ok()?;
        if let Some(first) = first {
            // A stream that was just opened takes its first message.
            let _ = connection.send(stream, first, false);
        }
        self.dirty.push(link);
        let carrier = Carrier::Stream { link, stream };
        let (started, home, op) = (self.now, Some(link), self.in_lane(op));
        let active = Active { op, carrier, source: None, home, started, bytes: 0, error: None };
        Some(CallId(self.active.insert(active)))
    }

    /// Sends a message on a stream.
    ///
    /// # Errors
    /// When the stream is over or its connection full.
    pub fn send(&mut self, stream: CallId, message: &[u8]) -> Result<(), Refusal> {
        let carrier = self.active.get(stream.0).map(|active| active.carrier);
        let Some(Carrier::Stream { link, stream }) = carrier else { return Err(Refusal::Over) };
        self.links[link].connection.send(stream, message, false)?;
        self.dirty.push(link);
        Ok(())
    }

    // --- records and timers ----------------------------------------------------------------------

    /// Something that needed no call of ours came about, such as an event of a watch.
    pub fn record(&mut self, series: SeriesId, intended: Tick, bytes: u64) {
        self.recorder.intend(series, intended, 1);
        self.recorder.start(series, intended);
        let op = recorder::Op { intended, started: intended, finished: self.now, bytes };
        self.recorder.done(series, op);
    }

    /// Something went wrong beside the calls.
    pub fn fail(&mut self, series: SeriesId, intended: Tick, error: &str) {
        self.recorder.failed(series, intended, error);
    }

    /// Calls the load's timer with this token then.
    pub fn after(&mut self, at: Tick, token: u32) {
        self.timers.push(Reverse((at, u64::from(self.lane) << 32 | u64::from(token))));
    }
}
