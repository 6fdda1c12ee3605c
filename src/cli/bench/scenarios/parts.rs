//! Parts of mixed loads: updates, reads, puts, compactions, watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prost::Message as _;

use super::mixed::Part;
use super::objects::{KeyOf, Objects};
use super::put::revision_of;
use super::watchers::Watchers;
use crate::base::Tick;
use crate::cli::bench::engine::{CallId, Io, Op, Pace, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::values::Values;
use crate::wire::client::Status;
use crate::wire::client::message::{Put, Range, RangeAnswer, lease_and_ttl, path};
use crate::wire::etcdserverpb::{CompactionRequest, LeaseGrantRequest};

/// Clients of a thread that prepare data.
const CREATORS: usize = 128;

/// Preparations.
pub(super) const DATA: usize = 0;
pub(super) const WATCHES: usize = 1;

/// Which object is updated next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other.
    Turns,
    /// At random.
    Random,
}

/// Objects that are created, then updated by compare and swap.
pub(super) struct Updates {
    pub(super) objects: Objects,
    pub(super) order: Order,
    pub(super) pace: Pace,
    pub(super) total: Option<u64>,
    pub(super) series: SeriesId,
    pub(super) disturbance: Option<Disturbance>,
}

/// Counts operations again, by whether something disturbed them.
#[derive(Clone)]
pub(super) struct Disturbance {
    pub(super) window: Arc<Window>,
    pub(super) inside: SeriesId,
    pub(super) outside: SeriesId,
}

/// The last disturbance, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Window {
    from: AtomicU64,
    until: AtomicU64,
}

impl Window {
    fn begin(&self, now: Tick) {
        self.from.store(now.0, Relaxed);
        self.until.store(u64::MAX, Relaxed);
    }

    fn end(&self, at: Tick) {
        self.until.store(at.0, Relaxed);
    }

    /// Whether an operation overlaps it.
    fn meets(&self, intended: Tick, finished: Tick) -> bool {
        intended.0 < self.until.load(Relaxed) && finished.0 >= self.from.load(Relaxed)
    }
}

impl Part for Updates {
    fn prepare(&mut self, number: usize, _io: &mut Io) -> Option<Source> {
        let total = Some(self.objects.len() as u64);
        let source = Source { pace: Pace::Closed(CREATORS), total, series: self.series };
        (number == DATA).then_some(source)
    }

    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        // A thread that has no objects has nothing to update.
        let (pace, total, series) = (self.pace.clone(), self.total, self.series);
        (self.objects.len() > 0).then_some(Source { pace, total, series })
    }

    fn start(&mut self, is_preparing: bool, op: Op, io: &mut Io) -> bool {
        match self.order {
            _ if is_preparing => self.objects.create(op, io),
            Order::Turns => self.objects.update(op, io),
            Order::Random => self.objects.update_any(op, io),
        }
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        self.objects.answered(op, answer)
    }

    fn ended(&mut self, _call: CallId, op: Op, status: &Status, io: &mut Io) {
        self.objects.ended(op);
        if let Some(disturbance) = self.disturbance.as_ref().filter(|_| status.is_ok()) {
            let is_inside = disturbance.window.meets(op.intended, io.now());
            let series = if is_inside { disturbance.inside } else { disturbance.outside };
            io.record(series, op.intended, 0);
        }
    }
}

/// Watches as a part.
pub(super) struct Watching(pub(super) Watchers);

impl Part for Watching {
    fn prepare(&mut self, number: usize, _io: &mut Io) -> Option<Source> {
        let source = Source { pace: Pace::Closed(1), total: Some(1), series: self.0.series() };
        (number == WATCHES).then_some(source)
    }

    fn start(&mut self, is_preparing: bool, op: Op, io: &mut Io) -> bool {
        if is_preparing {
            self.0.begin(op, io);
        }
        is_preparing
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        self.0.message(op, message, io)
    }

    fn ended(&mut self, call: CallId, op: Op, status: &Status, io: &mut Io) {
        self.0.ended(call, op, status, io);
    }

    fn link_ready(&mut self, link: usize, io: &mut Io) {
        self.0.link_ready(link, io);
    }
}

/// Stamped values put to a few keys in turn.
pub(super) struct Puts {
    pub(super) key_of: KeyOf,
    pub(super) keys: u64,
    pub(super) values: Values,
    pub(super) pace: Pace,
    pub(super) total: Option<u64>,
    pub(super) series: SeriesId,
    /// The connection they go to, if it matters.
    pub(super) link: Option<usize>,
    /// The lease that all keys have.
    pub(super) lease: Option<SharedLease>,
    count: u64,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

impl Puts {
    pub(super) fn new(
        (key_of, keys): (KeyOf, u64),
        values: Values,
        pace: Pace,
        series: SeriesId,
    ) -> Puts {
        Puts {
            key_of,
            keys,
            values,
            pace,
            total: None,
            series,
            link: None,
            lease: None,
            count: 0,
            key: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

impl Part for Puts {
    fn prepare(&mut self, number: usize, _io: &mut Io) -> Option<Source> {
        let lease = self.lease.as_ref().filter(|_| number == DATA)?;
        Some(lease.source(self.series))
    }

    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        Some(Source { pace: self.pace.clone(), total: self.total, series: self.series })
    }

    fn start(&mut self, is_preparing: bool, op: Op, io: &mut Io) -> bool {
        if let Some(lease) = self.lease.as_ref().filter(|_| is_preparing) {
            lease.ask(op, io);
            return true;
        }
        let share = io.share();
        let number = self.count * share.workers as u64 + share.worker as u64;
        self.count += 1;
        self.key.clear();
        (self.key_of)(number % self.keys, &mut self.key);
        let value = self.values.of(&self.key, op.intended);
        self.scratch.clear();
        let lease = self.lease.as_ref().map_or(0, SharedLease::id);
        Put { key: &self.key, value, lease }.write(&mut self.scratch);
        io.call_on(self.link, op, path::PUT, &self.scratch);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        match &mut self.lease {
            Some(lease) if lease.is_answer(op) => lease.answered(answer),
            _ => revision_of(answer).map(|_| ()),
        }
    }
}

/// A lease that many keys of a thread have, as Kubernetes' events do.
#[derive(Debug)]
pub(super) struct SharedLease {
    ttl_s: i64,
    id: i64,
}

const GRANT: u32 = 201;

impl SharedLease {
    pub(super) fn new(ttl_s: i64) -> SharedLease {
        SharedLease { ttl_s, id: 0 }
    }

    /// The lease, once it is granted.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// The preparation that grants it.
    pub(super) fn source(&self, series: SeriesId) -> Source {
        Source { pace: Pace::Closed(1), total: Some(1), series }
    }

    pub(super) fn ask(&self, op: Op, io: &mut Io) {
        let request = LeaseGrantRequest { id: 0, ttl: self.ttl_s };
        io.call(Op { kind: GRANT, ..op }, path::LEASE_GRANT, &request.encode_to_vec());
    }

    pub(super) fn is_answer(&self, op: Op) -> bool {
        op.kind == GRANT
    }

    pub(super) fn answered(&mut self, answer: &[u8]) -> Result<(), &'static str> {
        self.id = lease_and_ttl(answer).map_err(|_| "an answer that cannot be read")?.0;
        Ok(())
    }
}

/// Linearizable reads of single keys at random.
pub(super) struct Reads {
    pub(super) key_of: KeyOf,
    pub(super) keys: u64,
    pub(super) pace: Pace,
    pub(super) series: SeriesId,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

impl Reads {
    pub(super) fn new((key_of, keys): (KeyOf, u64), pace: Pace, series: SeriesId) -> Reads {
        Reads { key_of, keys, pace, series, key: Vec::new(), scratch: Vec::new() }
    }
}

impl Part for Reads {
    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        Some(Source { pace: self.pace.clone(), total: None, series: self.series })
    }

    fn start(&mut self, _is_preparing: bool, op: Op, io: &mut Io) -> bool {
        let number = io.prng().below(self.keys);
        self.key.clear();
        (self.key_of)(number, &mut self.key);
        self.scratch.clear();
        Range { key: &self.key, limit: 1, ..Range::default() }.write(&mut self.scratch);
        io.call(op, path::RANGE, &self.scratch);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        _op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        let read = RangeAnswer::read(answer).map_err(|_| "an answer that cannot be read")?;
        if read.keys == 1 { Ok(()) } else { Err("the key is not there") }
    }
}

/// A compaction every so often, each up to where the store stood at the one before.
pub(super) struct Compactions {
    every_ms: u64,
    /// Behind its end a compaction still counts as a disturbance for so long.
    settle_ms: u64,
    window: Arc<Window>,
    ask: SeriesId,
    series: SeriesId,
    before: i64,
}

const ASK: u32 = 1;
const COMPACT: u32 = 2;

impl Compactions {
    pub(super) fn new(
        (every_ms, settle_ms): (u64, u64),
        window: Arc<Window>,
        (ask, series): (SeriesId, SeriesId),
    ) -> Compactions {
        Compactions { every_ms, settle_ms, window, ask, series, before: 0 }
    }
}

impl Part for Compactions {
    fn source(&mut self, io: &mut Io) -> Option<Source> {
        if io.share().is_first() {
            io.after(io.now(), 0);
        }
        None
    }

    fn timer(&mut self, _token: u32, io: &mut Io) {
        let now = io.now();
        if !io.is_within(now) {
            return;
        }
        let mut request = Vec::new();
        Range { key: b"compact_rev_key", ..Range::default() }.write(&mut request);
        let op = Op { series: self.ask, intended: now, kind: ASK, key: 0 };
        io.call(op, path::RANGE, &request);
        io.after(now.plus_ms(self.every_ms), 0);
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        let revision = revision_of(answer)?;
        if op.kind == ASK {
            let before = std::mem::replace(&mut self.before, revision);
            if before > 0 && before < revision {
                self.window.begin(io.now());
                let request = CompactionRequest { revision: before, physical: true };
                let op = Op { series: self.series, intended: io.now(), kind: COMPACT, key: 0 };
                io.call(op, path::COMPACT, &request.encode_to_vec());
            }
        }
        Ok(())
    }

    fn ended(&mut self, _call: CallId, op: Op, _status: &Status, io: &mut Io) {
        if op.kind == COMPACT {
            self.window.end(io.now().plus_ms(self.settle_ms));
        }
    }
}
