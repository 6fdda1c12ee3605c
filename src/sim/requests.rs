//! Random requests over few keys, so that they meet: every option, every limit, some nonsense.

use bytes::Bytes;

use super::model::Model;
use crate::base::LeaseId;
use crate::base::Revision;
use crate::base::prng::Prng;
use crate::wire::call::Request;
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::compare::TargetUnion;
use crate::wire::etcdserverpb::request_op::Request as Op;

/// Keys that are prefixes of each other, share prefixes, and hold the bytes at the ends.
const KEYS: [&[u8]; 14] = [
    b"a",
    b"a\0",
    b"aa",
    b"ab",
    b"b",
    b"b/1",
    b"b/2",
    b"b/22",
    b"b/3",
    b"b0",
    b"c",
    b"\0",
    b"\xff",
    b"\xff\xff",
];

/// Makes requests from a seed.
#[derive(Clone, Debug)]
pub struct Requests {
    prng: Prng,
    /// Many writes are about leases.
    pub(super) on_leases: bool,
}

impl Requests {
    /// Requests that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Requests {
        Requests { prng: Prng::new(seed), on_leases: false }
    }

    /// A request that changes the store, more often than not, as the model stands.
    pub fn write(&mut self, model: &Model) -> Request {
        if self.on_leases && self.prng.percent(30) {
            return match self.prng.below(5) {
                0..3 => Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 0, id: self.lease_id() }),
                _ => Request::LeaseRevoke(LeaseId(self.lease_id())),
            };
        }
        match self.prng.below(100) {
            0..40 => Request::Put(self.put(model)),
            40..58 => Request::DeleteRange(self.delete()),
            58..82 => Request::Txn(self.txn(model, 0)),
            82..88 => Request::Compact(pb::CompactionRequest {
                revision: self.revision(model),
                physical: self.prng.percent(50),
            }),
            88..94 => Request::LeaseGrant(pb::LeaseGrantRequest {
                ttl: self.prng.below(100) as i64 - 5,
                id: self.lease_id(),
            }),
            94..97 => Request::LeaseRevoke(LeaseId(self.lease_id())),
            _ => Request::Alarm(pb::AlarmRequest {
                // Raised more rarely than cleared: under an alarm little happens.
                action: if self.prng.percent(20) {
                    1
                } else {
                    2 * i32::from(self.prng.percent(80))
                },
                member_id: 1 + self.prng.below(2),
                alarm: self.prng.below(3) as i32,
            }),
        }
    }

    /// A request that reads.
    pub fn read(&mut self, model: &Model) -> Request {
        match self.prng.below(100) {
            0..85 => Request::Range(self.range(model)),
            85..90 => Request::LeaseTimeToLive {
                id: LeaseId(self.lease_id()),
                keys: self.prng.percent(80),
            },
            90..92 => Request::LeaseLeases,
            92..94 => Request::LeaseKeepAlive(LeaseId(self.lease_id())),
            _ => Request::HashKv(Revision(self.revision(model).max(0))),
        }
    }

    /// A Range with any of its options.
    pub fn range(&mut self, model: &Model) -> pb::RangeRequest {
        let (key, range_end) = self.keys();
        let mut bound = |percent| {
            let is_set = self.prng.percent(percent);
            if is_set { self.prng.below(model.revision().0 as u64 + 3) as i64 } else { 0 }
        };
        let [min_mod, max_mod, min_create, max_create] = [bound(8), bound(8), bound(8), bound(8)];
        pb::RangeRequest {
            key,
            range_end,
            limit: if self.prng.percent(50) { self.prng.below(8) as i64 - 1 } else { 0 },
            revision: self.revision(model),
            sort_order: if self.prng.percent(40) { self.prng.below(3) as i32 } else { 0 },
            sort_target: if self.prng.percent(40) { self.prng.below(5) as i32 } else { 0 },
            serializable: self.prng.percent(20),
            keys_only: self.prng.percent(15),
            count_only: self.prng.percent(15),
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
        }
    }

    /// Any key and range end: single, open, prefix, bounded, crossed.
    pub fn keys(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.prng.below(10) {
            0..4 => Bytes::new(),
            4..6 => Bytes::from_static(b"\0"),
            6 => return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            7 => return (Bytes::from_static(b"b/"), Bytes::from_static(b"b0")),
            _ => self.key(),
        };
        (key, end)
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(KEYS[self.prng.below(KEYS.len() as u64) as usize])
    }

    fn lease_id(&mut self) -> i64 {
        self.prng.below(4) as i64 + 1
    }

    /// A revision: the newest, or any, some of them compacted or not yet made.
    fn revision(&mut self, model: &Model) -> i64 {
        if self.prng.percent(40) {
            return 0;
        }
        let (low, high) = (model.compact_revision().0 - 1, model.revision().0 + 1);
        low + self.prng.below((high - low) as u64 + 1) as i64
    }

    fn put(&mut self, model: &Model) -> pb::PutRequest {
        let ignore_value = self.prng.percent(10);
        let ignore_lease = self.prng.percent(10);
        let value = value(self.prng.below(1000));
        let gives_value = !ignore_value || self.prng.percent(10);
        let granted = model.leases();
        let lease = match self.prng.below(10) {
            _ if ignore_lease && self.prng.percent(90) => 0,
            _ if self.on_leases && self.prng.percent(50) => self.lease_id(),
            0..6 => 0,
            6..9 if !granted.is_empty() => {
                granted[self.prng.below(granted.len() as u64) as usize].0.0
            }
            _ => self.lease_id(),
        };
        pb::PutRequest {
            key: if self.prng.percent(1) { Bytes::new() } else { self.key() },
            value: if gives_value { Bytes::from(value) } else { Bytes::new() },
            lease,
            prev_kv: self.prng.percent(50),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, mut range_end) = self.keys();
        if self.prng.percent(60) {
            range_end = Bytes::new();
        }
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.prng.percent(50) }
    }

    fn txn(&mut self, model: &Model, depth: u64) -> pb::TxnRequest {
        let compare = (0..self.prng.below(3)).collect::<Vec<_>>();
        let compare = compare.into_iter().map(|_| self.compare(model)).collect();
        let success = self.ops(model, depth);
        pb::TxnRequest { compare, success, failure: self.ops(model, depth) }
    }

    fn ops(&mut self, model: &Model, depth: u64) -> Vec<pb::RequestOp> {
        let mut ops = Vec::new();
        for _ in 0..self.prng.below(4) {
            let request = match self.prng.below(100) {
                0..30 => Some(Op::RequestRange(self.range(model))),
                30..60 => Some(Op::RequestPut(self.put(model))),
                60..80 => Some(Op::RequestDeleteRange(self.delete())),
                80..99 if depth < 3 => Some(Op::RequestTxn(self.txn(model, depth + 1))),
                99 => None,
                _ => continue,
            };
            ops.push(pb::RequestOp { request });
        }
        ops
    }

    fn compare(&mut self, model: &Model) -> pb::Compare {
        let (key, mut range_end) = self.keys();
        if self.prng.percent(70) {
            range_end = Bytes::new();
        }
        let number = match self.prng.below(3) {
            0 => 0,
            1 => self.prng.below(4) as i64,
            _ => self.revision(model),
        };
        let target = self.prng.below(5) as i32;
        let union = match target {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(Bytes::from(self.prng.below(1000).to_string())),
            _ => TargetUnion::Lease(number),
        };
        pb::Compare {
            result: self.prng.below(4) as i32,
            target,
            key,
            target_union: self.prng.percent(95).then_some(union),
            range_end,
        }
    }
}

/// Short ones, ones that are like each other, and ones that are like nothing.
fn value(number: u64) -> Vec<u8> {
    match number % 4 {
        0 => number.to_string().into_bytes(),
        1 => {
            let mut noise = Prng::new(number);
            (0..30).flat_map(|_| noise.next_u64().to_le_bytes()).collect()
        }
        _ => {
            let fields = "\"kind\":\"Lease\",\"namespace\":\"kube-node-lease\",\"seconds\":40";
            format!("{{{fields},\"renewed\":{number},{fields}}}").into_bytes()
        }
    }
}
