//! `cache-init`: everything below a prefix, read whole, in four ways.

use super::leases::sizes;
use super::lists::{LIST, Lists, REQUEST, Way};
use super::mixed::Part;
use super::parts::Puts;
use super::{Plan, Scenario, figure, names, series};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Phase, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::result::{Figure, Run};
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Values};
use crate::wire::client::Status;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cache-init",
    summary: "everything below a prefix read whole, as a starting API server does",
    about: "For whoever restarts API servers of a large cluster, whose caches are filled by \
            reading all. Objects are put once, then read whole by a stream, by pages of 10,000 and \
            of 500, and in one answer, by one reader and by several at once.",
    flags: &[
        flag("objects", "10000", "objects"),
        flag("val-min", "10KiB", "bytes of the smallest object"),
        flag("val-max", "10KiB", "bytes of the largest object"),
        flag("readers", "5", "readers at once"),
        flag("rounds", "3", "times that each reader reads all"),
        flag("ways", "stream,pages-10000,pages-500,unary", "which ways, separated by commas"),
        flag("populate", "true", "put the objects first; else they are there from an earlier run"),
    ],
    defaults: &[("connections", "5"), ("streams", "32"), ("timeout", "120s")],
    short: &[("objects", "2000"), ("rounds", "2"), ("readers", "3")],
    plan,
};

const PREFIX: &str = "/registry/cached/";

/// Each way with its names: alone, and several at once.
const WAYS: [(&str, Way, [&str; 2]); 4] = [
    ("stream", Way::Stream, ["stream, alone", "stream, together"]),
    ("pages-10000", Way::Pages(10_000), ["pages of 10000, alone", "pages of 10000, together"]),
    ("pages-500", Way::Pages(500), ["pages of 500, alone", "pages of 500, together"]),
    ("unary", Way::Unary, ["unary, alone", "unary, together"]),
];
const REQUESTS: &str = "requests";

#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    way: Way,
    readers: u64,
}

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let (objects, sizes) = (args.count("objects")? as u64, sizes(args)?);
    let (readers, rounds) = (args.count("readers")? as u64, args.count("rounds")? as u64);
    let populates = args.is_on("populate")?;
    let mut steps = Vec::new();
    for wanted in args.text("ways").split(',').map(str::trim) {
        let found = WAYS.iter().find(|(name, ..)| *name == wanted);
        let (_, way, [alone, together]) =
            found.ok_or_else(|| format!("--ways knows no {wanted:?}"))?;
        steps.push(Step { name: alone, way: *way, readers: 1 });
        if readers > 1 {
            steps.push(Step { name: together, way: *way, readers });
        }
    }
    let common = common.clone();
    let measured = |step: &Step| Phase { name: step.name, is_measured: true, is_timed: false };
    let mut phases: Vec<Phase> = steps.iter().map(measured).collect();
    if populates {
        phases.insert(0, Phase::setup("put the objects"));
    }
    let mut names: Vec<&'static str> = steps.iter().map(|step| step.name).collect();
    names.push(REQUESTS);
    let shown = steps.clone();
    let load = move |share: Share| -> Box<dyn Load> {
        let requests = SeriesId(steps.len());
        let values = Values::new(Shape::Object("Pod"), sizes, common.seed, common.run);
        let keys = (names::plain(PREFIX), objects);
        Box::new(CacheInit {
            steps: steps.clone(),
            rounds,
            populates,
            share,
            puts: Puts::new(keys, values, Pace::Closed(64), requests),
            objects,
            lists: Lists::new(PREFIX, objects, requests),
            step: None,
        })
    };
    let plan = Plan::new(phases, names, Box::new(load)).derived(&[REQUESTS]);
    Ok(plan.figures(move |run| figures(run, &shown)))
}

/// How fast each way was, over the time that its readers took.
fn figures(run: &Run, steps: &[Step]) -> Vec<Figure> {
    let speed = |step: &Step| {
        let series = series(run, step.name).filter(|series| series.latency.count() > 0)?;
        let seconds = series.latency.mean_ns() * series.latency.count() as f64 / 1e9;
        let bytes = series.bytes as f64 * step.readers as f64;
        Some(figure(step.name, bytes / seconds.max(1e-9) / 1e6, "MB/s"))
    };
    steps.iter().filter_map(speed).collect()
}

struct CacheInit {
    steps: Vec<Step>,
    rounds: u64,
    populates: bool,
    share: Share,
    puts: Puts,
    objects: u64,
    lists: Lists,
    /// None while the objects are put.
    step: Option<usize>,
}

impl Load for CacheInit {
    fn sources(&mut self, phase: usize, _io: &mut Io) -> Vec<Source> {
        self.step = phase.checked_sub(usize::from(self.populates));
        let Some(at) = self.step else {
            let total = Some(self.share.of(self.objects));
            let series = SeriesId(self.steps.len());
            return vec![Source { pace: Pace::Closed(64), total, series }];
        };
        let own = self.share.of(self.steps[at].readers);
        let (pace, total) = (Pace::Closed(own as usize), Some(own * self.rounds));
        vec![Source { pace, total, series: SeriesId(at) }]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        match self.step {
            None => self.puts.start(false, op, io),
            Some(at) => {
                self.lists.begin(self.steps[at].way, None, op, io);
                true
            }
        }
    }

    fn message(
        &mut self,
        call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        match op.kind {
            REQUEST => self.lists.message(op, message, io),
            _ => self.puts.message(call, op, message, io),
        }
    }

    fn ended(&mut self, _call: CallId, op: Op, status: &Status, io: &mut Io) {
        if op.kind == REQUEST || op.kind == LIST {
            self.lists.ended(op, status, io);
        }
    }
}
