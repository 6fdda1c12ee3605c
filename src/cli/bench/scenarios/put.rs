//! `put`: as etcd's own benchmark tool puts.

use super::{Plan, Scenario};
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::message::{self, Put, path};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "put",
    summary: "small writes, as etcd's own tool sends them",
    about: "For whoever wants the plain figure: how many small durable writes a server takes, and \
            how fast. Keys and values are those of etcd's own benchmark tool, so that rows can be \
            compared.",
    flags: &[
        flag("key-size", "8", "bytes of a key"),
        flag("val-size", "256", "bytes of a value"),
        flag("key-space-size", "100000", "different keys"),
        flag("sequential-keys", "true", "one key after the other; else at random"),
        flag("prefix", "", "text in front of every key"),
    ],
    defaults: &[],
    short: &[("duration", "3s"), ("warmup", "500ms")],
    plan,
};

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    let keys = Keys::read(args)?;
    let (common, sizes) = (common.clone(), Sizes::fixed(args.bytes("val-size")?));
    let phases = vec![common.measured("put")];
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        Box::new(Puts {
            putter: Putter::new(keys.clone(), Values::new(Shape::Random, sizes, seed, common.run)),
            common: common.clone(),
        })
    };
    Ok(Plan::new(phases, vec!["put"], Box::new(load)))
}

/// Keys as etcd's tool makes them: a number as a varint, filled up with zeros.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
    key_bytes: usize,
    pub(super) space: u64,
    is_sequential: bool,
}

impl Keys {
    pub(super) fn read(args: &Args) -> Result<Keys, String> {
        let key_bytes = args.count("key-size")?;
        let space = args.count("key-space-size")? as u64;
        let mut longest = Vec::new();
        varint(&mut longest, space);
        if key_bytes < longest.len() {
            let needed = longest.len();
            return Err(format!("--key-size must be at least {needed} for {space} different keys"));
        }
        Ok(Keys {
            prefix: args.text("prefix").as_bytes().to_vec(),
            key_bytes,
            space,
            is_sequential: args.is_on("sequential-keys")?,
        })
    }

    /// The key of this number.
    pub(super) fn write(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        varint(out, number);
        out.resize(self.prefix.len() + self.key_bytes, 0);
    }

    /// The number of a thread's next key, behind `count` others.
    pub(super) fn pick(&self, count: u64, io: &mut Io) -> u64 {
        if self.is_sequential {
            let share = io.share();
            (count * share.workers as u64 + share.worker as u64) % self.space
        } else {
            io.prng().below(self.space)
        }
    }
}

/// A signed varint, as Go writes one.
fn varint(out: &mut Vec<u8>, number: u64) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Puts keys, one call each.
pub(super) struct Putter {
    pub(super) keys: Keys,
    values: Values,
    count: u64,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

impl Putter {
    pub(super) fn new(keys: Keys, values: Values) -> Putter {
        Putter { keys, values, count: 0, key: Vec::new(), scratch: Vec::new() }
    }

    /// Begins anew with the first key.
    pub(super) fn restart(&mut self) {
        self.count = 0;
    }

    /// The next key of this thread.
    pub(super) fn next_key(&mut self, io: &mut Io) -> &[u8] {
        let number = self.keys.pick(self.count, io);
        self.count += 1;
        self.keys.write(number, &mut self.key);
        &self.key
    }

    /// Puts the next key.
    pub(super) fn put(&mut self, op: Op, io: &mut Io) {
        self.next_key(io);
        self.send(op, io);
    }

    /// Puts the next of this thread's share of all keys, each once.
    pub(super) fn populate(&mut self, op: Op, io: &mut Io) {
        let share = io.share();
        self.keys.write(self.count * share.workers as u64 + share.worker as u64, &mut self.key);
        self.count += 1;
        self.send(op, io);
    }

    fn send(&mut self, op: Op, io: &mut Io) {
        let value = self.values.of(&self.key, op.intended);
        self.scratch.clear();
        Put { key: &self.key, value, lease: 0 }.write(&mut self.scratch);
        io.call(op, path::PUT, &self.scratch);
    }
}

struct Puts {
    common: Common,
    putter: Putter,
}

impl Load for Puts {
    fn sources(&mut self, _phase: usize, io: &mut Io) -> Vec<Source> {
        vec![self.common.source(io.share(), SeriesId(0))]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        self.putter.put(op, io);
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

/// The revision in an answer, which every answer has.
pub(super) fn revision_of(answer: &[u8]) -> Result<i64, &'static str> {
    match message::revision(answer) {
        Ok(revision) if revision > 0 => Ok(revision),
        Ok(_) => Err("an answer without a revision"),
        Err(_) => Err("an answer that cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_signed_varints_of_one_length() {
        let keys =
            Keys { prefix: b"p/".to_vec(), key_bytes: 8, space: 100_000, is_sequential: true };
        let mut key = Vec::new();
        keys.write(300, &mut key);
        assert_eq!(key, b"p/\xd8\x04\0\0\0\0\0\0");
        keys.write(0, &mut key);
        assert_eq!(key, b"p/\0\0\0\0\0\0\0\0");
    }
}
