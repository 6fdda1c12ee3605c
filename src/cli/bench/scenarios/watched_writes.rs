//! `watched-writes`: updates of objects that many watch.

use super::leases::{sizes, watching};
use super::mixed::{Mixed, Part};
use super::objects::Objects;
use super::parts::{Order, Updates};
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::Load;
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Values};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "watched-writes",
    summary: "updates of pods that many watch",
    about: "For whoever has controllers that watch what others write, and asks how far behind they \
            are. Pods are updated at random by compare and swap while watchers of the whole prefix \
            see each change with the value before it.",
    flags: &[
        flag("objects", "10000", "pods"),
        flag("watchers", "10", "watchers of all of them"),
        flag("val-min", "2068", "bytes of the smallest pod"),
        flag("val-max", "2068", "bytes of the largest pod"),
    ],
    defaults: &[("rate", "1000"), ("connections", "11"), ("streams", "100")],
    short: &[("duration", "5s"), ("warmup", "1s"), ("objects", "1000"), ("rate", "500")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let (objects, watchers) = (args.count("objects")? as u64, args.count("watchers")?);
    let sizes = sizes(args)?;
    let common = common.clone();
    let phases = Mixed::phases(&common, "update");
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        let values = Values::new(Shape::Object("Pod"), sizes, seed, common.run);
        let update: Box<dyn Part> = Box::new(Updates {
            objects: Objects::new(objects, names::pod(), values, share),
            order: Order::Random,
            pace: common.pace(share),
            total: common.total.map(|total| share.of(total)),
            series: SeriesId(0),
            disturbance: None,
        });
        Mixed::load(vec![update, watching(names::PODS, watchers, SeriesId(1), (&common, share))])
    };
    Ok(Plan::new(phases, vec!["update", "watch lag"], Box::new(load)).derived(&["watch lag"]))
}
