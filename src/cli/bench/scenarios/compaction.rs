//! `compaction`: writes while the history is compacted.

use std::sync::Arc;

use super::leases::{NODES_FLAG, Renewals, sizes, watching};
use super::mixed::Mixed;
use super::parts::{Compactions, Disturbance, Window};
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::Load;
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "compaction",
    summary: "lease renewals while the history is compacted",
    about: "For whoever sees latency rise every five minutes, when an API server compacts. Leases \
            are renewed at their rate while the history is compacted every so often, and renewals \
            that a compaction overlapped are shown apart from the others.",
    flags: &[
        NODES_FLAG,
        flag("renew-every", "10s", "time between two renewals of a node, unless --rate is given"),
        flag(
            "compact-every",
            "5s",
            "time between two compactions, each up to where the one before began",
        ),
        flag("settle", "500ms", "time behind a compaction's answer that still counts to it"),
        flag("watchers", "1", "API servers that watch all leases"),
        flag("val-min", "450", "bytes of the smallest lease"),
        flag("val-max", "650", "bytes of the largest lease"),
    ],
    defaults: &[("connections", "8"), ("streams", "250"), ("duration", "30s")],
    short: &[
        ("duration", "6s"),
        ("warmup", "1s"),
        ("nodes", "5000"),
        ("renew-every", "5s"),
        ("compact-every", "2s"),
    ],
    plan,
};

const DERIVED: [&str; 3] = ["renew, compacting", "renew, otherwise", "watch lag"];

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let renewals =
        Renewals::new(args.count("nodes")?, sizes(args)?, common.rate, args.ms("renew-every")?);
    let watchers: usize = args.number("watchers")?;
    let times = (args.ms("compact-every")?, args.ms("settle")?);
    if times.0 == 0 {
        return Err("--compact-every must be above 0".to_owned());
    }
    let window = Arc::new(Window::default());
    let common = common.clone();
    let phases = Mixed::phases(&common, "renew");
    let [inside, outside, lag] = DERIVED;
    let names = vec!["renew", inside, outside, lag, "compact", "ask revision"];
    let load = move |share: Share| -> Box<dyn Load> {
        let mut renew = renewals.part(&common, share, SeriesId(0));
        renew.disturbance =
            Some(Disturbance { window: window.clone(), inside: SeriesId(1), outside: SeriesId(2) });
        let compact = Compactions::new(times, window.clone(), (SeriesId(5), SeriesId(4)));
        let watch = watching(names::LEASES, watchers, SeriesId(3), (&common, share));
        Mixed::load(vec![Box::new(renew), Box::new(compact), watch])
    };
    Ok(Plan::new(phases, names, Box::new(load)).derived(&DERIVED))
}
