//! `idle`: connections and watches with nothing to do.

use super::mixed::Mixed;
use super::parts::Watching;
use super::watchers::{Want, Watchers};
use super::{Plan, Scenario, figure};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{Load, Phase};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::result::{Figure, Run};
use crate::cli::bench::schedule::Share;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "idle",
    summary: "connections and watches with nothing to do",
    about: "For whoever pays for a server that mostly waits. Connections are opened and watches \
            created, then nothing is sent, and the figure is the processor time that the server \
            takes meanwhile.",
    flags: &[
        flag("watches", "100", "watches in all"),
        flag("watch-streams", "10", "streams that they share"),
    ],
    defaults: &[("connections", "100"), ("duration", "10s")],
    short: &[("duration", "5s"), ("warmup", "1s")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let (watches, streams) = (args.count("watches")?, args.count("watch-streams")?);
    if watches % streams != 0 {
        return Err(format!(
            "--watches must be a multiple of --watch-streams: {watches}, {streams}"
        ));
    }
    if common.total.is_some() {
        return Err("--total makes no sense where nothing is sent".to_owned());
    }
    let want = Want {
        prefix: b"/registry/idle/".to_vec(),
        prev_kv: true,
        progress: false,
        streams,
        per_stream: watches / streams,
    };
    let common = common.clone();
    let phases: Vec<Phase> = Mixed::phases(&common, "idle");
    let load = move |share: Share| -> Box<dyn Load> {
        let watchers = Watchers::new(want.clone(), SeriesId(0), common.run, share);
        Mixed::load(vec![Box::new(Watching(watchers))])
    };
    Ok(Plan::new(phases, vec!["event"], Box::new(load)).derived(&["event"]).figures(figures))
}

fn figures(run: &Run) -> Vec<Figure> {
    let cpu_us = run.server_cpu_us().map(|us| us as f64 / run.measured_seconds.max(1e-9) / 1e6);
    cpu_us.map(|share| figure("server CPU", share * 100.0, "% of one core")).into_iter().collect()
}
