//! What is wrong with a request by itself.

use bytes::Bytes;

use crate::base::limits::TXN_DEPTH_MAX;
use crate::base::range::KeyRange;
use crate::base::reject::Reject;
use crate::wire::call::Request;
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::request_op::Request as Op;

pub(super) fn check(request: &Request, txn_ops_max: usize) -> Result<(), Reject> {
    match request {
        Request::Range(range) => check_range(range),
        Request::Put(put) => check_put(put),
        Request::DeleteRange(delete) => check_key(&delete.key),
        Request::Txn(txn) => {
            check_txn(txn, txn_ops_max, 1)?;
            check_duplicates(&txn.success)?;
            check_duplicates(&txn.failure)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_key(key: &Bytes) -> Result<(), Reject> {
    if key.is_empty() { Err(Reject::EmptyKey) } else { Ok(()) }
}

fn check_range(range: &pb::RangeRequest) -> Result<(), Reject> {
    check_key(&range.key)?;
    let order = SortOrder::try_from(range.sort_order);
    let target = SortTarget::try_from(range.sort_target);
    if order.is_err() || target.is_err() { Err(Reject::InvalidSortOption) } else { Ok(()) }
}

fn check_put(put: &pb::PutRequest) -> Result<(), Reject> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Reject::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Reject::LeaseProvided);
    }
    Ok(())
}

fn check_txn(txn: &pb::TxnRequest, ops_max: usize, depth: usize) -> Result<(), Reject> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > ops_max || depth > TXN_DEPTH_MAX {
        return Err(Reject::TooManyOps);
    }
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(range)?,
            Some(Op::RequestPut(put)) => check_put(put)?,
            Some(Op::RequestDeleteRange(delete)) => check_key(&delete.key)?,
            Some(Op::RequestTxn(nested)) => check_txn(nested, ops_max - ops, depth + 1)?,
            None => return Err(Reject::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes {
    puts: Vec<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    fn puts(&self, key: &Bytes) -> bool {
        self.puts.contains(key)
    }

    fn deletes(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }
}

/// No key is put twice, and none is put that a delete known so far covers: this level's deletes
/// are known first, those of nested transactions one transaction after the other, so that a put
/// in an earlier one does not meet a delete in a later one.
fn check_duplicates(ops: &[pb::RequestOp]) -> Result<Writes, Reject> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            // An open end counts as the plain key that it is not, so it covers nothing.
            if delete.range_end[..] == [0] {
                continue;
            }
            let range = KeyRange::from_request(delete.key.clone(), delete.range_end.clone());
            all.deletes.push(range);
        }
    }
    for op in ops {
        let Some(Op::RequestTxn(nested)) = &op.request else { continue };
        let success = check_duplicates(&nested.success)?;
        let failure = check_duplicates(&nested.failure)?;
        // Only one of the two branches runs: they may put the same key.
        for key in success.puts.iter().chain(&failure.puts) {
            if all.puts(key) || all.deletes(key) {
                return Err(Reject::DuplicateKey);
            }
        }
        for nested in [success, failure] {
            all.puts.extend(nested.puts);
            all.deletes.extend(nested.deletes);
        }
    }
    for op in ops {
        let Some(Op::RequestPut(put)) = &op.request else { continue };
        if all.puts(&put.key) || all.deletes(&put.key) {
            return Err(Reject::DuplicateKey);
        }
        all.puts.push(put.key.clone());
    }
    Ok(all)
}

/// Whether every operation of both branches is a range.
pub(super) fn is_read_only(txn: &pb::TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether any branch at any depth has a put.
pub(super) fn puts_anything(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(nested)) => puts_anything(nested),
        _ => false,
    })
}
