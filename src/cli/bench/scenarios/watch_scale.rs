//! `watch-scale`: many watchers of the same keys.

use super::leases::sizes;
use super::mixed::Mixed;
use super::parts::{Puts, Watching};
use super::watchers::{Want, Watchers};
use super::{Plan, Scenario, figure, names, series};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::Load;
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::result::{Figure, Run};
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Values};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "watch-scale",
    summary: "many watchers of the same keys, and what an event costs",
    about: "For whoever has hundreds of watchers, on one stream or on many, and asks whether they \
            slow the writers. Every put is seen by every watcher; with one watcher and --val-min \
            and --val-max of 256KiB it is the case of a few large values.",
    flags: &[
        flag("watchers", "100", "watchers in all"),
        flag("watch-streams", "1", "streams that they share"),
        flag("prevkv", "true", "events carry the value before"),
        flag("objects", "100", "different keys"),
        flag("val-min", "512", "bytes of the smallest value"),
        flag("val-max", "512", "bytes of the largest value"),
    ],
    defaults: &[("rate", "100"), ("connections", "4"), ("streams", "100")],
    short: &[("duration", "5s"), ("warmup", "1s")],
    plan,
};

const PREFIX: &str = "/registry/configmaps/";

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let (watchers, streams) = (args.count("watchers")?, args.count("watch-streams")?);
    if watchers % streams != 0 {
        return Err(format!(
            "--watchers must be a multiple of --watch-streams: {watchers}, {streams}"
        ));
    }
    let want = Want {
        prefix: PREFIX.as_bytes().to_vec(),
        prev_kv: args.is_on("prevkv")?,
        progress: false,
        streams,
        per_stream: watchers / streams,
    };
    let (objects, sizes) = (args.count("objects")? as u64, sizes(args)?);
    let common = common.clone();
    let phases = Mixed::phases(&common, "put");
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        let values = Values::new(Shape::Object("ConfigMap"), sizes, seed, common.run);
        let keys = (names::plain(PREFIX), objects);
        let mut puts = Puts::new(keys, values, common.pace(share), SeriesId(0));
        puts.total = common.total.map(|total| share.of(total));
        let watchers = Watchers::new(want.clone(), SeriesId(1), common.run, share);
        Mixed::load(vec![Box::new(puts), Box::new(Watching(watchers))])
    };
    let plan = Plan::new(phases, vec!["put", "watch lag"], Box::new(load)).derived(&["watch lag"]);
    Ok(plan.figures(move |run| figures(run, watchers)))
}

/// Events per second and what each costs the server.
fn figures(run: &Run, watchers: usize) -> Vec<Figure> {
    let (Some(put), Some(lag)) = (series(run, "put"), series(run, "watch lag")) else {
        return Vec::new();
    };
    let expected = put.done * watchers as u64;
    let mut figures = vec![
        figure("events", run.per_second(lag.in_window), "events/s"),
        figure("events missing", expected.saturating_sub(lag.done) as f64, "events"),
    ];
    let cost = run.server_cpu_us().filter(|_| lag.in_window > 0);
    if let Some(cpu_us) = cost {
        let each = cpu_us as f64 / lag.in_window as f64;
        figures.push(figure("server CPU per event and watcher", each, "us"));
    }
    figures
}
