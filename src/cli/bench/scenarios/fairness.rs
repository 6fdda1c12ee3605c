//! `fairness`: large reads and a watch on one connection.

use super::lists::{Lists, Way};
use super::mixed::{Mixed, Part};
use super::parts::{DATA, Puts, Watching};
use super::watchers::{Want, Watchers};
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::Status;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fairness",
    summary: "large reads and a watch on the same connection",
    about: "For whoever shares a connection between lists and watches, as an API server does for \
            each resource. Some readers read about ten megabytes again and again while a watch on \
            the same connection waits for small events, whose lag is the figure.",
    flags: &[
        flag("readers", "10", "reads under way at all times"),
        flag("objects", "1000", "objects that each of them reads"),
        flag("val-size", "10KiB", "bytes of each of them"),
        flag("events", "100", "events per second for the watch"),
    ],
    defaults: &[("connections", "2"), ("streams", "100")],
    short: &[("duration", "5s"), ("warmup", "1s")],
    plan,
};

const LISTED: &str = "/registry/fairness/listed/";
const WATCHED: &str = "/registry/fairness/watched/";
/// The connection of the readers and of the watch; puts have the other.
const SHARED: usize = 0;

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    if common.threads != 1 || common.connections != 2 {
        return Err(
            "fairness is about one connection: it takes 1 thread and 2 connections".to_owned()
        );
    }
    let (readers, objects) = (args.count("readers")?, args.count("objects")? as u64);
    let sizes = Sizes::fixed(args.bytes("val-size")?);
    let events = args.count("events")? as f64;
    let common = common.clone();
    let phases = Mixed::phases(&common, "read and watch");
    let load = move |share: Share| -> Box<dyn Load> {
        let listed = Values::new(Shape::Object("Pod"), sizes, common.seed, common.run);
        let small = Values::new(Shape::Object("Lease"), Sizes::fixed(500), common.seed, common.run);
        let keys = (names::plain(LISTED), objects);
        let read = BigReads {
            puts: Puts::new(keys, listed, Pace::Closed(32), SeriesId(0)),
            objects,
            lists: Lists::new(LISTED, objects, SeriesId(3)),
            readers,
        };
        let pace = common.open(events, share);
        let mut puts = Puts::new((names::plain(WATCHED), 10), small, pace, SeriesId(1));
        puts.link = Some(1);
        let want = Want {
            prefix: WATCHED.as_bytes().to_vec(),
            prev_kv: true,
            progress: false,
            streams: 1,
            per_stream: 1,
        };
        let watchers = Watchers::new(want, SeriesId(2), common.run, share).on_link(SHARED);
        Mixed::load(vec![Box::new(read), Box::new(puts), Box::new(Watching(watchers))])
    };
    let names = vec!["read", "put", "watch lag", "requests"];
    Ok(Plan::new(phases, names, Box::new(load)).derived(&["watch lag", "requests"]))
}

/// Reads of everything on the shared connection, in a loop.
struct BigReads {
    puts: Puts,
    objects: u64,
    lists: Lists,
    readers: usize,
}

impl Part for BigReads {
    fn prepare(&mut self, number: usize, _io: &mut Io) -> Option<Source> {
        let (pace, total) = (Pace::Closed(32), Some(self.objects));
        (number == DATA).then_some(Source { pace, total, series: SeriesId(0) })
    }

    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        Some(Source { pace: Pace::Closed(self.readers), total: None, series: SeriesId(0) })
    }

    fn start(&mut self, is_preparing: bool, op: Op, io: &mut Io) -> bool {
        if is_preparing {
            return self.puts.start(true, op, io);
        }
        self.lists.begin(Way::Unary, Some(SHARED), op, io);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        // Those of the puts name no list.
        self.lists.message(op, message, io)
    }

    fn ended(&mut self, _call: CallId, op: Op, status: &Status, io: &mut Io) {
        if op.kind != 0 {
            self.lists.ended(op, status, io);
        }
    }
}
