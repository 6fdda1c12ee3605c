//! `watch-latency`: from when a write was due to when watchers saw it.

use super::put::{Keys, Putter, revision_of};
use super::watchers::{WATCH, Want, Watchers};
use super::{Plan, Scenario};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Phase, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::Status;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "watch-latency",
    summary: "from when a write was due to when watchers saw it",
    about: "For whoever reacts to changes: controllers, caches, configuration. Writes at a rate, \
            and for each watcher the time from when a write was due to when it was seen; an event \
            that comes before the write's answer is timed like any other.",
    flags: &[
        flag("watch-streams", "10", "watch streams"),
        flag("watchers-per-stream", "10", "watchers on each"),
        flag("prevkv", "false", "events carry the value before"),
        flag("key-size", "32", "bytes of a key"),
        flag("val-size", "32", "bytes of a value, at least 16"),
        flag("key-space-size", "1", "different keys"),
        flag("sequential-keys", "true", "one key after the other; else at random"),
        flag("prefix", "watched/", "what is watched, and in front of every key"),
    ],
    defaults: &[("rate", "100"), ("connections", "2"), ("streams", "100")],
    short: &[("duration", "3s"), ("warmup", "500ms")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let keys = Keys::read(args)?;
    let want = Want {
        prefix: args.text("prefix").as_bytes().to_vec(),
        prev_kv: args.is_on("prevkv")?,
        progress: false,
        streams: args.count("watch-streams")?,
        per_stream: args.count("watchers-per-stream")?,
    };
    let sizes = Sizes::fixed(args.bytes("val-size")?);
    if sizes.min < 16 {
        return Err("--val-size must be at least 16: the value says when it was due".to_owned());
    }
    let common = common.clone();
    let phases = vec![Phase::setup("create the watchers"), common.measured("watch")];
    let load = move |share: Share| -> Box<dyn Load> {
        let run = common.run;
        Box::new(Watched {
            common: common.clone(),
            putter: Putter::new(
                keys.clone(),
                Values::new(Shape::Random, sizes, common.seed + share.worker as u64, run),
            ),
            watchers: Watchers::new(want.clone(), LAG, run, share),
            is_setup: true,
        })
    };
    Ok(Plan::new(phases, vec!["put", "watch lag"], Box::new(load)).derived(&["watch lag"]))
}

const PUT: SeriesId = SeriesId(0);
const LAG: SeriesId = SeriesId(1);

struct Watched {
    common: Common,
    putter: Putter,
    watchers: Watchers,
    is_setup: bool,
}

impl Load for Watched {
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source> {
        self.is_setup = phase == 0;
        if self.is_setup {
            return vec![Source { pace: Pace::Closed(1), total: Some(1), series: LAG }];
        }
        vec![self.common.source(io.share(), PUT)]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        if self.is_setup {
            self.watchers.begin(op, io);
            return true;
        }
        self.putter.put(op, io);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        match op.kind {
            WATCH => self.watchers.message(op, message, io),
            _ => revision_of(message).map(|_| ()),
        }
    }

    fn ended(&mut self, call: CallId, op: Op, status: &Status, io: &mut Io) {
        if op.kind == WATCH {
            self.watchers.ended(call, op, status, io);
        }
    }

    fn link_ready(&mut self, link: usize, io: &mut Io) {
        self.watchers.link_ready(link, io);
    }
}
