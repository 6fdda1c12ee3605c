//! `txn`: updates by compare and swap, or transactions of puts as etcd's tool sends them.

use super::objects::Objects;
use super::put::{Keys, revision_of};
use super::{Plan, Scenario};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Phase, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::Status;
use crate::wire::client::message::{self, Put, path};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "txn",
    summary: "updates by compare and swap, or transactions of puts",
    about: "For whoever writes through transactions, as Kubernetes does. Each is one compare, one \
            put and one read that is not needed, over keys that are all there; or, with --shape \
            plain, puts alone as etcd's own benchmark tool sends them.",
    flags: &[
        flag(
            "shape",
            "cas",
            "cas: if the key is where it was, put, else read it; plain: puts alone",
        ),
        flag("txn-ops", "1", "puts of a plain transaction"),
        flag("key-size", "8", "bytes of a key"),
        flag("val-size", "256", "bytes of a value"),
        flag("key-space-size", "10000", "different keys"),
        flag("sequential-keys", "true", "one key after the other; else at random (plain only)"),
        flag("prefix", "txn/", "text in front of every key"),
    ],
    defaults: &[],
    short: &[("duration", "3s"), ("warmup", "500ms"), ("key-space-size", "2000")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let is_cas = match args.text("shape") {
        "cas" => true,
        "plain" => false,
        other => return Err(format!("--shape is cas or plain, not {other:?}")),
    };
    let keys = Keys::read(args)?;
    let puts = args.count("txn-ops")?;
    let (common, sizes) = (common.clone(), Sizes::fixed(args.bytes("val-size")?));
    let mut phases = vec![common.measured("txn")];
    if is_cas {
        phases.insert(0, Phase::setup("create the keys"));
    }
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        let values = Values::new(Shape::Random, sizes, seed, common.run);
        let (common, keys) = (common.clone(), keys.clone());
        if is_cas {
            let space = keys.space;
            let key_of = Box::new(move |number, out: &mut Vec<u8>| keys.write(number, out));
            return Box::new(Swaps { common, objects: Objects::new(space, key_of, values, share) });
        }
        let (key, scratch, all_keys) = (Vec::new(), Vec::new(), Vec::new());
        Box::new(Plain { common, keys, values, puts, count: 0, key, all_keys, scratch })
    };
    Ok(Plan::new(phases, vec!["txn"], Box::new(load)))
}

struct Swaps {
    common: Common,
    objects: Objects,
}

const CREATE: usize = 0;

impl Load for Swaps {
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source> {
        let share = io.share();
        if phase == CREATE {
            return vec![create_all(&self.objects, &self.common, share)];
        }
        vec![self.common.source(share, SeriesId(0))]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        self.objects.create(op, io) || self.objects.update(op, io)
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        self.objects.answered(op, answer)
    }

    fn ended(&mut self, _call: CallId, op: Op, _status: &Status, _io: &mut Io) {
        self.objects.ended(op);
    }
}

/// Clients per connection that prepare the objects.
const CREATORS: usize = 32;

/// The source that creates all objects.
pub(super) fn create_all(objects: &Objects, common: &Common, share: Share) -> Source {
    let connections = share.of(common.connections as u64) as usize;
    let pace = crate::cli::bench::engine::Pace::Closed((connections * CREATORS).min(256));
    Source { pace, total: Some(objects.len() as u64), series: SeriesId(0) }
}

struct Plain {
    common: Common,
    keys: Keys,
    values: Values,
    puts: usize,
    count: u64,
    key: Vec<u8>,
    all_keys: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl Load for Plain {
    fn sources(&mut self, _phase: usize, io: &mut Io) -> Vec<Source> {
        vec![self.common.source(io.share(), SeriesId(0))]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        self.all_keys.clear();
        while self.all_keys.len() < self.puts {
            let number = self.keys.pick(self.count, io);
            self.count += 1;
            self.keys.write(number, &mut self.key);
            // A transaction does not put a key twice.
            if self.all_keys.contains(&self.key) && self.keys.space > self.puts as u64 {
                continue;
            }
            self.all_keys.push(self.key.clone());
        }
        let value = self.values.of(&self.key, op.intended);
        self.scratch.clear();
        let puts = self.all_keys.iter().map(|key| Put { key, value, lease: 0 });
        message::txn_of_puts(&mut self.scratch, puts);
        io.call(op, path::TXN, &self.scratch);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        _op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        revision_of(answer).map(|_| ())
    }
}
