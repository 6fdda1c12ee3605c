//! Watches that time what they see.

use super::prefix_end;
use crate::cli::bench::engine::{CallId, Io, Op};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::stamp;
use crate::wire::client::Status;
use crate::wire::client::message::{WatchAnswer, path};
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::{WatchCreateRequest, WatchRequest};
use prost::Message as _;

/// The kind of operation that a watch stream is, beside the load's own.
pub(super) const WATCH: u32 = 1_000;

/// What all watches of a set ask for.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) prefix: Vec<u8>,
    pub(super) prev_kv: bool,
    pub(super) progress: bool,
    /// Over all threads.
    pub(super) streams: usize,
    /// On each stream.
    pub(super) per_stream: usize,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    call: Option<CallId>,
    created: usize,
    /// Where to go on after a lost connection.
    next_revision: i64,
}

/// One thread's part of a set.
pub(super) struct Watchers {
    want: Want,
    lag: SeriesId,
    run: u64,
    streams: Vec<Stream>,
    /// The only connection for them, if not any.
    link: Option<usize>,
    /// Waits for all watches to be there.
    ready: Option<CallId>,
}

impl Watchers {
    /// A thread's share, on its connections in turn.
    pub(super) fn new(want: Want, lag: SeriesId, run: u64, share: Share) -> Watchers {
        let own = share.of(want.streams as u64) as usize;
        let streams = vec![Stream::default(); own];
        Watchers { want, lag, run, streams, link: None, ready: None }
    }

    /// All on one connection of the thread.
    pub(super) fn on_link(mut self, link: usize) -> Watchers {
        self.link = Some(link);
        self
    }

    /// Where the lag is counted.
    pub(super) fn series(&self) -> SeriesId {
        self.lag
    }

    /// An operation that is over when all watches are there.
    pub(super) fn begin(&mut self, op: Op, io: &mut Io) {
        let call = io.parts(op);
        self.ready = Some(call);
        self.settle(io);
    }

    fn settle(&mut self, io: &mut Io) {
        let is_there = |stream: &Stream| stream.created >= self.want.per_stream;
        if self.streams.iter().all(is_there)
            && let Some(call) = self.ready.take()
        {
            io.finish(call, Status::OK);
        }
    }

    /// Opens what belongs on a connection.
    pub(super) fn link_ready(&mut self, link: usize, io: &mut Io) {
        for at in 0..self.streams.len() {
            let wanted = self.link.unwrap_or(at % io.links());
            if self.streams[at].call.is_none() && wanted == link {
                self.open(at, link, io);
            }
        }
    }

    fn open(&mut self, at: usize, link: usize, io: &mut Io) {
        let create = WatchCreateRequest {
            key: self.want.prefix.clone().into(),
            range_end: prefix_end(&self.want.prefix).into(),
            start_revision: self.streams[at].next_revision,
            progress_notify: self.want.progress,
            prev_kv: self.want.prev_kv,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
            .encode_to_vec();
        let op = Op { series: self.lag, intended: io.now(), kind: WATCH, key: at as u64 };
        let metadata = [("hasleader", "true")];
        let call = io.open_stream(link, op, path::WATCH, &metadata, Some(&request));
        let Some(call) = call else { return };
        for _ in 1..self.want.per_stream {
            // The stream was just opened; what is refused now is missed by the set-up.
            let _ = io.send(call, &request);
        }
        self.streams[at].call = Some(call);
        self.streams[at].created = 0;
    }

    /// A message of a watch stream.
    pub(super) fn message(
        &mut self,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        let (lag, run) = (self.lag, self.run);
        let answer = WatchAnswer::read(message, |kv| {
            if let Some(intended) = stamp(kv.value, run) {
                io.record(lag, intended, (kv.key.len() + kv.value.len()) as u64);
            }
        });
        let answer = answer.map_err(|_| "a watch answer that cannot be read")?;
        let stream = &mut self.streams[op.key as usize];
        if answer.canceled {
            let why = format!("a watch was cancelled: {}", answer.cancel_reason);
            io.fail(lag, io.now(), &why);
            io.note(why);
        }
        if answer.events > 0 || answer.created {
            stream.next_revision = answer.revision + 1;
        }
        if answer.created {
            stream.created += 1;
            self.settle(io);
        }
        Ok(())
    }

    /// A watch stream is over. The next connection opens it again from where it was.
    pub(super) fn ended(&mut self, call: CallId, op: Op, status: &Status, io: &mut Io) {
        if op.kind != WATCH {
            // The preparation, over or timed out.
            self.ready = self.ready.filter(|ready| *ready != call);
            return;
        }
        let at = op.key as usize;
        self.streams[at].call = None;
        let now = io.now();
        io.fail(self.lag, now, &format!("a watch stream ended: {status}"));
        // Not on a connection that is gone: that one says when it is there again.
        let link = self.link.unwrap_or(at % io.links());
        if io.is_link_ready(link) && status.code == Status::UNAVAILABLE {
            self.open(at, link, io);
        }
    }
}
