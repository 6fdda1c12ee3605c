//! `range`: reads of one key or of many.

use super::put::{Keys, Putter};
use super::{Plan, Scenario, prefix_end};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Phase, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::message::{Range, RangeAnswer, path};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "range",
    summary: "reads of one key or of many",
    about: "For whoever reads single keys or lists, and asks what a linearizable read costs beside \
            a serializable one. The keys are put first, then read at random.",
    flags: &[
        flag("consistency", "l", "l: linearizable; s: serializable, from what this member has"),
        flag("whole", "false", "read all keys instead of one"),
        flag("limit", "0", "keys of a whole read at most; 0: no limit"),
        flag("count-only", "false", "ask for the count alone"),
        flag("keys-only", "false", "leave values out"),
        flag("key-size", "8", "bytes of a key"),
        flag("val-size", "256", "bytes of a value"),
        flag("key-space-size", "10000", "different keys"),
        flag("sequential-keys", "false", "read one key after the other; else at random"),
        flag("prefix", "range/", "text in front of every key"),
        flag("populate", "true", "put the keys first"),
    ],
    defaults: &[],
    short: &[("duration", "3s"), ("warmup", "500ms"), ("key-space-size", "2000")],
    plan,
};

#[derive(Clone, Debug)]
struct Want {
    is_serializable: bool,
    is_whole: bool,
    limit: i64,
    is_count_only: bool,
    is_keys_only: bool,
    prefix: Vec<u8>,
}

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let want = Want {
        is_serializable: match args.text("consistency") {
            "l" => false,
            "s" => true,
            other => return Err(format!("--consistency is l or s, not {other:?}")),
        },
        is_whole: args.is_on("whole")?,
        limit: args.number("limit")?,
        is_count_only: args.is_on("count-only")?,
        is_keys_only: args.is_on("keys-only")?,
        prefix: args.text("prefix").as_bytes().to_vec(),
    };
    let keys = Keys::read(args)?;
    let (common, sizes) = (common.clone(), Sizes::fixed(args.bytes("val-size")?));
    let mut phases = vec![common.measured("range")];
    let populates = args.is_on("populate")?;
    if populates {
        phases.insert(0, Phase::setup("put the keys"));
    }
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        Box::new(Ranges {
            putter: Putter::new(keys.clone(), Values::new(Shape::Random, sizes, seed, common.run)),
            common: common.clone(),
            want: want.clone(),
            to_put: if populates { share.of(keys.space) } else { 0 },
            populates,
            is_putting: false,
            scratch: Vec::new(),
        })
    };
    Ok(Plan::new(phases, vec!["range"], Box::new(load)))
}

struct Ranges {
    common: Common,
    putter: Putter,
    want: Want,
    to_put: u64,
    populates: bool,
    is_putting: bool,
    scratch: Vec<u8>,
}

impl Load for Ranges {
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source> {
        self.putter.restart();
        self.is_putting = self.populates && phase == 0;
        if self.is_putting {
            let (pace, total) = (Pace::Closed(64), Some(self.to_put));
            return vec![Source { pace, total, series: SeriesId(0) }];
        }
        vec![self.common.source(io.share(), SeriesId(0))]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        if self.is_putting {
            self.putter.populate(op, io);
            return true;
        }
        let key = self.putter.next_key(io);
        let end = if self.want.is_whole { prefix_end(&self.want.prefix) } else { Vec::new() };
        let range = Range {
            key: if self.want.is_whole { &self.want.prefix } else { key },
            range_end: &end,
            limit: self.want.limit,
            revision: 0,
            serializable: self.want.is_serializable,
            keys_only: self.want.is_keys_only,
            count_only: self.want.is_count_only,
        };
        self.scratch.clear();
        range.write(&mut self.scratch);
        io.call(op, path::RANGE, &self.scratch);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        _op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        if self.is_putting {
            return Ok(());
        }
        let read = RangeAnswer::read(answer).map_err(|_| "an answer that cannot be read")?;
        if read.count == 0 { Err("the key is not there") } else { Ok(()) }
    }
}
