//! `read-tail`: linearizable reads while writes go on.

use super::leases::{NODES_FLAG, Renewals, sizes};
use super::mixed::Mixed;
use super::parts::Reads;
use super::{Plan, Scenario, names};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{Load, Pace};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "read-tail",
    summary: "linearizable reads while writes go on",
    about: "For whoever waits for single reads, and asks whether they queue behind writes to the \
            disk. A few readers ask for one key after the other, or at --read-rate, while leases \
            are renewed at their rate.",
    flags: &[
        NODES_FLAG,
        flag("renew-every", "10s", "time between two renewals of a node, unless --rate is given"),
        flag("readers", "8", "readers, each with one read under way"),
        flag(
            "read-rate",
            "0",
            "reads due per second instead; 0: each reader asks when it was answered",
        ),
        flag("val-min", "450", "bytes of the smallest lease"),
        flag("val-max", "650", "bytes of the largest lease"),
    ],
    defaults: &[("connections", "8"), ("streams", "250")],
    short: &[("duration", "5s"), ("warmup", "1s"), ("nodes", "5000")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let renewals =
        Renewals::new(args.count("nodes")?, sizes(args)?, common.rate, args.ms("renew-every")?);
    let readers = args.count("readers")? as u64;
    let read_rate: f64 = args.number("read-rate")?;
    if read_rate < 0.0 || !read_rate.is_finite() {
        return Err("--read-rate is a number from 0 on".to_owned());
    }
    let common = common.clone();
    let phases = Mixed::phases(&common, "read");
    let load = move |share: Share| -> Box<dyn Load> {
        let pace = if read_rate > 0.0 {
            common.open(read_rate, share)
        } else {
            Pace::Closed(share.of(readers) as usize)
        };
        let read = Reads::new((names::lease(), renewals.nodes), pace, SeriesId(0));
        let renew = renewals.part(&common, share, SeriesId(1));
        Mixed::load(vec![Box::new(read), Box::new(renew)])
    };
    Ok(Plan::new(phases, vec!["read", "renew"], Box::new(load)))
}
