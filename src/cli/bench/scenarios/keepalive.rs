//! `keepalive`: leases kept alive over a few streams.

use super::{Plan, Scenario};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Phase, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::wire::client::Status;
use crate::wire::client::message::{self, path};
use crate::wire::etcdserverpb::LeaseGrantRequest;
use prost::Message as _;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "keepalive",
    summary: "leases kept alive over a few streams",
    about: "For whoever holds many leases: locks, elections, service registries. Leases are \
            granted first, then kept alive over a few streams, one by one or at a rate.",
    flags: &[
        flag("leases", "1000", "leases"),
        flag("lease-streams", "10", "streams that carry the keepalives of all leases"),
        flag("ttl", "600s", "time to live of each lease"),
    ],
    defaults: &[("connections", "10"), ("streams", "10")],
    short: &[("duration", "3s"), ("warmup", "500ms")],
    plan,
};

const STREAM: u32 = 1;
const GRANT: u32 = 2;

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let leases = args.count("leases")? as u64;
    let streams = args.count("lease-streams")? as u64;
    let ttl_s = i64::try_from(args.ms("ttl")?.div_ceil(1_000)).map_err(|_| "--ttl is too long")?;
    let common = common.clone();
    let phases = vec![Phase::setup("grant the leases"), common.measured("keepalive")];
    let load = move |share: Share| -> Box<dyn Load> {
        let own = share.of(leases) as usize;
        Box::new(Keepalives {
            common: common.clone(),
            ttl_s,
            ids: Vec::with_capacity(own),
            own,
            waiting: Vec::new(),
            streams: vec![None; share.of(streams).max(1) as usize],
            cursor: 0,
            is_granting: true,
            scratch: Vec::new(),
        })
    };
    Ok(Plan::new(phases, vec!["keepalive"], Box::new(load)))
}

struct Keepalives {
    common: Common,
    ttl_s: i64,
    own: usize,
    /// As the server gave them.
    ids: Vec<i64>,
    /// The keepalive under way of each lease, sorted as `ids`.
    waiting: Vec<Option<CallId>>,
    streams: Vec<Option<CallId>>,
    cursor: usize,
    is_granting: bool,
    scratch: Vec<u8>,
}

impl Load for Keepalives {
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source> {
        let share = io.share();
        self.is_granting = phase == 0;
        if self.is_granting {
            let (pace, total) = (Pace::Closed(64), Some(self.own as u64));
            return vec![Source { pace, total, series: SeriesId(0) }];
        }
        // Answers are found by the lease.
        self.ids.sort_unstable();
        self.waiting = vec![None; self.ids.len()];
        vec![self.common.source(share, SeriesId(0))]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        self.scratch.clear();
        if self.is_granting {
            let request = LeaseGrantRequest { id: 0, ttl: self.ttl_s };
            self.scratch = request.encode_to_vec();
            io.call(Op { kind: GRANT, ..op }, path::LEASE_GRANT, &self.scratch);
            return true;
        }
        for _ in 0..self.ids.len() {
            let at = self.cursor;
            self.cursor = if at + 1 < self.ids.len() { at + 1 } else { 0 };
            // A lease stays with its stream.
            let stream = self.streams[at % self.streams.len()];
            let (None, Some(stream)) = (self.waiting[at], stream) else { continue };
            message::keep_alive(&mut self.scratch, self.ids[at]);
            if io.send(stream, &self.scratch).is_err() {
                self.scratch.clear();
                continue;
            }
            self.waiting[at] = Some(io.parts(Op { key: at as u64, ..op }));
            return true;
        }
        false
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        let unreadable = "an answer that cannot be read";
        let (id, ttl_s) = message::lease_and_ttl(answer).map_err(|_| unreadable)?;
        if op.kind == GRANT {
            self.ids.push(id);
            return Ok(());
        }
        let Ok(at) = self.ids.binary_search(&id) else { return Err("a lease that is not ours") };
        if let Some(call) = self.waiting[at].take() {
            io.add_bytes(call, answer.len() as u64);
            let gone = Status::new(Status::UNKNOWN, "the lease is gone");
            io.finish(call, if ttl_s > 0 { Status::OK } else { gone });
        }
        Ok(())
    }

    fn ended(&mut self, call: CallId, op: Op, _status: &Status, _io: &mut Io) {
        if op.kind == STREAM {
            self.streams[op.key as usize] = None;
        } else if op.kind == 0 && self.waiting.get(op.key as usize) == Some(&Some(call)) {
            // It timed out.
            self.waiting[op.key as usize] = None;
        }
    }

    fn link_ready(&mut self, link: usize, io: &mut Io) {
        for at in 0..self.streams.len() {
            if at % io.links() != link || self.streams[at].is_some() {
                continue;
            }
            let op = Op { series: SeriesId(0), intended: io.now(), kind: STREAM, key: at as u64 };
            self.streams[at] = io.open_stream(link, op, path::LEASE_KEEP_ALIVE, &[], None);
        }
    }
}
