//! frontend::recipes — Lock and Election: what clients can build from KV, Watch and Lease, done
//! for them on the server.
//! Steps 1 and 7 of a write. In: messages, replies, watch messages. Out: requests, messages.
//! Owns: nothing that lives longer than its call; a lock is a key like any other.
//! Invariants: (1) who is told that it holds a lock held it as of one revision: its own key was
//!             there and no older one; (2) who gives up waiting takes its key away.
//! Limits: none of its own; a call waits for at most two keys at a time.
//! Must not: keep a lease alive; know how requests are carried out.
//! Tests: recipes/tests.rs (against a small model of the store).
//!
//! The keys are etcd's: `<name>/<lease in hex>`, and who created its key first holds the lock.
//! Where a call gives no lease, one of 60 seconds is granted, and nobody keeps it alive.
//! All errors have code Unknown, as in etcd, where these services are clients of their own
//! server.

mod election;
mod lock;
mod observe;
#[cfg(test)]
mod tests;
mod turn;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::check;
use super::kv::check_size;
use super::machine::{Actions, Machine, Sub};
use super::status::{Code, Status};
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision};
use crate::wire::call::{Answer, OpAnswer, RangeAnswer, Reply, Request, TxnAnswer};
use crate::wire::etcdserverpb as pb;
use crate::wire::mvccpb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;

/// TTL of a lease that is granted for a call which brought none.
const SESSION_TTL_S: i64 = 60;

/// Requests of which at most one is under way.
const ASK: Sub = Sub(0);
/// The watch stream.
const WATCH: Sub = Sub(1);

/// A machine for `v3lockpb.Lock/Lock`.
#[must_use]
pub fn lock() -> Box<dyn Machine> {
    Box::new(lock::Lock::default())
}

/// A machine for `v3lockpb.Lock/Unlock`.
#[must_use]
pub fn unlock() -> Box<dyn Machine> {
    Box::new(lock::Unlock)
}

/// A machine for `v3electionpb.Election/Campaign`.
#[must_use]
pub fn campaign() -> Box<dyn Machine> {
    Box::new(election::Campaign::default())
}

/// A machine for `v3electionpb.Election/Proclaim`.
#[must_use]
pub fn proclaim() -> Box<dyn Machine> {
    Box::new(election::Proclaim::default())
}

/// A machine for `v3electionpb.Election/Leader`.
#[must_use]
pub fn leader() -> Box<dyn Machine> {
    Box::new(election::Leader)
}

/// A machine for `v3electionpb.Election/Observe`.
#[must_use]
pub fn observe() -> Box<dyn Machine> {
    Box::new(observe::Observe::default())
}

/// A machine for `v3electionpb.Election/Resign`.
#[must_use]
pub fn resign() -> Box<dyn Machine> {
    Box::new(election::Resign)
}

/// A status with etcd's text and the code that it has behind these services.
fn unknown(reject: Reject) -> Status {
    Status { code: Code::Unknown, ..Status::from(reject) }
}

/// The key under which a lease stands in the queue: signed hexadecimal, as Go prints it.
fn key_of(prefix: &[u8], lease: LeaseId) -> Bytes {
    let sign = if lease.0 < 0 { "-" } else { "" };
    let mut key = BytesMut::from(prefix);
    key.extend_from_slice(format!("{sign}{:x}", lease.0.unsigned_abs()).as_bytes());
    key.freeze()
}

/// The prefix of a name's queue.
fn prefix_of(name: &[u8]) -> Bytes {
    let mut prefix = BytesMut::from(name);
    prefix.extend_from_slice(b"/");
    prefix.freeze()
}

/// The end of a queue's range: "0" is the byte behind "/".
fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = BytesMut::from(&prefix[..]);
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.freeze()
}

/// The oldest key of a queue.
fn oldest(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: pb::range_request::SortOrder::Ascend.into(),
        sort_target: pb::range_request::SortTarget::Create.into(),
        ..Default::default()
    }
}

fn single(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key: key.clone(), ..Default::default() }
}

/// That a key was created at `revision`; 0: that there is no such key.
fn created_at(key: &Bytes, revision: Revision) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision.0)),
        range_end: Bytes::new(),
    }
}

fn put(key: &Bytes, value: Bytes, lease: LeaseId) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.clone(), value, lease: lease.0, ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestPut(put)) }
}

fn range_op(range: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(Op::RequestRange(range)) }
}

fn delete_op(key: &Bytes) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

/// Submits a transaction, checked like one that a client sends.
fn submit_txn(mut txn: pb::TxnRequest, out: &mut Actions<'_>) {
    let checked = check::txn(&mut txn, out.settings.txn_ops_max.max(2))
        .and_then(|()| check_size(txn.encoded_len(), out.settings));
    match checked {
        Ok(()) => out.submit(ASK, Request::Txn(txn)),
        Err(reject) => out.end(unknown(reject)),
    }
}

/// The lease that a call brings. If it brings none, one is asked for.
fn lease_of(given: i64, out: &mut Actions<'_>) -> Option<LeaseId> {
    if given == 0 {
        let grant = pb::LeaseGrantRequest { ttl: SESSION_TTL_S, id: 0 };
        out.submit(ASK, Request::LeaseGrant(grant));
    }
    (given != 0).then_some(LeaseId(given))
}

/// Takes a key away if it is still the one that was created at `created`.
fn submit_removal(key: &Bytes, created: Revision, out: &mut Actions<'_>) {
    let txn = pb::TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![delete_op(key)],
        failure: Vec::new(),
    };
    submit_txn(txn, out);
}

/// The answer to a grant, or the status that ends the call.
fn granted(reply: Reply) -> Result<LeaseId, Status> {
    match reply.map_err(unknown)? {
        Answer::LeaseGrant { id, .. } => Ok(id),
        other => unreachable!("a grant is answered by a grant, not {other:?}"),
    }
}

/// The answer to a transaction, or the status that ends the call.
fn txn_of(reply: Reply) -> Result<TxnAnswer, Status> {
    match reply.map_err(unknown)? {
        Answer::Txn(answer) => Ok(answer),
        other => unreachable!("a transaction is answered by a transaction, not {other:?}"),
    }
}

/// The answer to a Range, or the status that ends the call.
fn range_of(reply: Reply) -> Result<RangeAnswer, Status> {
    match reply.map_err(unknown)? {
        Answer::Range(answer) => Ok(answer),
        other => unreachable!("a Range is answered by a Range, not {other:?}"),
    }
}

/// The first record that the `index`th operation of a transaction read.
fn read_by(answer: &TxnAnswer, index: usize) -> Option<&Record> {
    match answer.ops.get(index) {
        Some(OpAnswer::Range(range)) => range.records.first().map(|record| &**record),
        other => unreachable!("operation {index} was a Range, not {other:?}"),
    }
}

/// A record as the message that clients see.
fn key_value(record: &Record) -> mvccpb::KeyValue {
    match mvccpb::KeyValue::decode(record.kv_bytes()) {
        Ok(kv) => kv,
        Err(why) => unreachable!("a record's own encoding reads back: {why}"),
    }
}
