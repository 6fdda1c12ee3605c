//! `leases`: kubelets that renew their node's lease.

use super::mixed::{Mixed, Part};
use super::objects::Objects;
use super::parts::{Order, Updates, Watching};
use super::watchers::{Want, Watchers};
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, Flag, flag};
use crate::cli::bench::engine::{Load, Pace};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leases",
    summary: "kubelets that renew the leases of their nodes",
    about: "For whoever runs a large Kubernetes cluster: renewals of node leases are most of its \
            writes. Each node updates its lease every ten seconds by compare and swap, and API \
            servers watch all of them.",
    flags: &[
        NODES_FLAG,
        flag("renew-every", "10s", "time between two renewals of a node, unless --rate is given"),
        flag("watchers", "1", "API servers that watch all leases, with previous values"),
        flag("val-min", "450", "bytes of the smallest lease"),
        flag("val-max", "650", "bytes of the largest lease"),
    ],
    defaults: &[("connections", "8"), ("streams", "250")],
    short: &[("duration", "5s"), ("warmup", "1s"), ("nodes", "2000")],
    plan,
};

pub(super) const NODES_FLAG: Flag = flag("nodes", "5000", "nodes");

/// The flags of lease renewals, which other scenarios have too.
#[derive(Clone, Debug)]
pub(super) struct Renewals {
    pub(super) nodes: u64,
    pub(super) sizes: Sizes,
    pub(super) rate: f64,
}

impl Renewals {
    /// At `rate`, or as often as nodes do if that is 0.
    pub(super) fn new(nodes: usize, sizes: Sizes, rate: f64, every_ms: u64) -> Renewals {
        let nodes = nodes as u64;
        let natural = nodes as f64 * 1_000.0 / every_ms.max(1) as f64;
        Renewals { nodes, sizes, rate: if rate > 0.0 { rate } else { natural } }
    }

    /// A thread's part of it.
    pub(super) fn part(&self, common: &Common, share: Share, series: SeriesId) -> Updates {
        let seed = common.seed + share.worker as u64;
        let values = Values::new(Shape::Object("Lease"), self.sizes, seed, common.run);
        Updates {
            objects: Objects::new(self.nodes, names::lease(), values, share),
            order: Order::Turns,
            pace: common.open(self.rate, share),
            total: common.total.map(|total| share.of(total)),
            series,
            disturbance: None,
        }
    }
}

pub(super) fn sizes(args: &Args) -> Result<Sizes, String> {
    let (min, max) = (args.bytes("val-min")?, args.bytes("val-max")?);
    if min > max {
        return Err(format!("--val-min is above --val-max: {min} and {max}"));
    }
    Ok(Sizes { min, max })
}

/// Watchers of a prefix as API servers are, one on each stream.
pub(super) fn watching(
    prefix: &str,
    watchers: usize,
    lag: SeriesId,
    (common, share): (&Common, Share),
) -> Box<dyn Part> {
    let want = Want {
        prefix: prefix.as_bytes().to_vec(),
        prev_kv: true,
        progress: true,
        streams: watchers,
        per_stream: 1,
    };
    Box::new(Watching(Watchers::new(want, lag, common.run, share)))
}

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let renewals =
        Renewals::new(args.count("nodes")?, sizes(args)?, common.rate, args.ms("renew-every")?);
    let watchers: usize = args.number("watchers")?;
    let common = common.clone();
    let phases = Mixed::phases(&common, "renew");
    let load = move |share: Share| -> Box<dyn Load> {
        let renew = renewals.part(&common, share, SeriesId(0));
        debug_assert!(matches!(renew.pace, Pace::Open(_)));
        let watch = watching(names::LEASES, watchers, SeriesId(1), (&common, share));
        Mixed::load(vec![Box::new(renew), watch])
    };
    Ok(Plan::new(phases, vec!["renew", "watch lag"], Box::new(load)).derived(&["watch lag"]))
}
