//! `steady`: what a large cluster writes when nothing happens.

use super::leases::{Renewals, watching};
use super::mixed::{Mixed, Part};
use super::objects::Objects;
use super::parts::{Order, Puts, Reads, SharedLease, Updates};
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::Load;
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "steady",
    summary: "the steady mix of a large Kubernetes cluster",
    about: "For whoever wants one figure for a whole control plane. Leases, pod and node status, \
            events and a few reads in the proportions of a cluster of 100,000 nodes, scaled by a \
            flag, while API servers watch.",
    flags: &[
        flag(
            "scale",
            "0.05",
            "size and rate as a share of 100,000 nodes; --rate overrides the rate",
        ),
        flag("api-servers", "1", "watchers of leases, of pods and of nodes each"),
    ],
    defaults: &[("connections", "12"), ("streams", "250")],
    short: &[("duration", "6s"), ("warmup", "1s"), ("scale", "0.01")],
    plan,
};

/// Of the whole cluster.
const NODES: f64 = 100_000.0;
const PODS: f64 = 200_000.0;
const OPERATIONS_PER_S: f64 = 10_250.0;
/// Shares of the operations.
const RENEW: f64 = 0.882;
const POD_STATUS: f64 = 0.059;
const NODE_STATUS: f64 = 0.039;
const EVENT: f64 = 0.015;
const READ: f64 = 0.005;

const SERIES: [&str; 6] = ["renew", "pod status", "node status", "event", "read", "watch lag"];

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let scale: f64 = args.number("scale")?;
    if !(0.0001..=100.0).contains(&scale) {
        return Err("--scale is from 0.0001 to 100".to_owned());
    }
    if common.total.is_some() {
        return Err("steady runs by time: --total makes no sense for a mix".to_owned());
    }
    let api_servers: usize = args.number("api-servers")?;
    let rate = if common.rate > 0.0 { common.rate } else { OPERATIONS_PER_S * scale };
    let (nodes, pods) = ((NODES * scale).max(1.0) as u64, (PODS * scale).max(1.0) as u64);
    let common = common.clone();
    let phases = Mixed::phases(&common, "steady");
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        let values =
            |kind, min, max| Values::new(Shape::Object(kind), Sizes { min, max }, seed, common.run);
        let lease_sizes = Sizes { min: 450, max: 650 };
        let renewals = Renewals { nodes, sizes: lease_sizes, rate: rate * RENEW };
        let update = |objects, order, rate, series| Updates {
            objects,
            order,
            pace: common.open(rate, share),
            total: None,
            series: SeriesId(series),
            disturbance: None,
        };
        let pod_set = Objects::new(pods, names::pod(), values("Pod", 3_000, 10_000), share);
        let node_set = Objects::new(nodes, names::node(), values("Node", 5_000, 10_000), share);
        let first_pod = common.run % 1_000_000 * 1_000_000;
        let event_of = move |number: u64, out: &mut Vec<u8>| {
            names::write_event(first_pod + number / 7, number % 7, out);
        };
        let pace = common.open(rate * EVENT, share);
        let event_values = values("Event", 600, 800);
        let mut events = Puts::new((Box::new(event_of), u64::MAX), event_values, pace, SeriesId(3));
        events.lease = Some(SharedLease::new(3_660));
        let reads = Reads::new((names::pod(), pods), common.open(rate * READ, share), SeriesId(4));
        let parts: Vec<Box<dyn Part>> = vec![
            Box::new(renewals.part(&common, share, SeriesId(0))),
            Box::new(update(pod_set, Order::Random, rate * POD_STATUS, 1)),
            Box::new(update(node_set, Order::Turns, rate * NODE_STATUS, 2)),
            Box::new(events),
            Box::new(reads),
            watching(names::LEASES, api_servers, SeriesId(5), (&common, share)),
            watching(names::PODS, api_servers, SeriesId(5), (&common, share)),
            watching(names::NODES, api_servers, SeriesId(5), (&common, share)),
        ];
        Mixed::load(parts)
    };
    Ok(Plan::new(phases, SERIES.to_vec(), Box::new(load)).derived(&["watch lag"]))
}
