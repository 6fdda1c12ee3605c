//! What can be said about a request from the request alone, in the order in which etcd says it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::{LEASE_TTL_MAX_S, TXN_DEPTH_MAX};
use crate::base::reject::Reject;
use crate::wire::call::Request;
use crate::wire::etcdserverpb as pb;
use pb::request_op::Request as Op;

/// A Range. Numbers that mean nothing are set to what etcd takes them for.
///
/// # Errors
/// `EmptyKey`, `InvalidSortOption`.
pub fn range(request: &mut pb::RangeRequest) -> Result<(), Reject> {
    if request.key.is_empty() {
        return Err(Reject::EmptyKey);
    }
    let order = pb::range_request::SortOrder::try_from(request.sort_order);
    let target = pb::range_request::SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(Reject::InvalidSortOption);
    }
    request.limit = request.limit.max(0);
    Ok(())
}

/// A Put.
///
/// # Errors
/// `EmptyKey`, `ValueProvided`, `LeaseProvided`.
pub fn put(request: &pb::PutRequest) -> Result<(), Reject> {
    if request.key.is_empty() {
        return Err(Reject::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Reject::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Reject::LeaseProvided);
    }
    Ok(())
}

/// A DeleteRange.
///
/// # Errors
/// `EmptyKey`.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Reject> {
    if request.key.is_empty() { Err(Reject::EmptyKey) } else { Ok(()) }
}

/// A LeaseGrant.
///
/// # Errors
/// `LeaseTtlTooLarge`.
pub fn lease_grant(request: &pb::LeaseGrantRequest) -> Result<(), Reject> {
    if request.ttl > LEASE_TTL_MAX_S { Err(Reject::LeaseTtlTooLarge) } else { Ok(()) }
}

/// A Txn: its operations one by one, then what they write taken together.
///
/// # Errors
/// What its operations are refused with; `TooManyOps`, `DuplicateKey`, and `KeyNotFound` for an
/// operation that was left empty.
pub fn txn(request: &mut pb::TxnRequest, ops_max: usize) -> Result<(), Reject> {
    txn_ops(request, ops_max, 1)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// A nested Txn may have as many operations as are left of its parent's allowance.
fn txn_ops(request: &mut pb::TxnRequest, ops_max: usize, depth: usize) -> Result<(), Reject> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    if count > ops_max || depth > TXN_DEPTH_MAX {
        return Err(Reject::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Reject::EmptyKey);
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => txn_ops(request, ops_max - count, depth + 1)?,
            None => return Err(Reject::KeyNotFound),
        }
    }
    Ok(())
}

/// What the operations of one branch write, nested ones included.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deleted_keys: BTreeSet<&'a [u8]>,
    /// Disjoint ranges, start -> end.
    deleted_ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Writes<'a> {
    /// Puts conflict with each other and with deletes, deletes never with deletes. A nested
    /// Txn is held against the deletes of its own level and of the nested ones before it; so of
    /// two siblings the first may put what the second deletes, but not the other way round.
    fn of(ops: &'a [pb::RequestOp]) -> Result<Writes<'a>, Reject> {
        let mut writes = Writes::default();
        for op in ops {
            if let Some(Op::RequestDeleteRange(request)) = &op.request {
                writes.delete(&request.key, &request.range_end);
            }
        }
        for op in ops {
            if let Some(Op::RequestTxn(request)) = &op.request {
                writes.nest(Writes::of(&request.success)?, Writes::of(&request.failure)?)?;
            }
        }
        for op in ops {
            if let Some(Op::RequestPut(request)) = &op.request {
                writes.put(&request.key)?;
            }
        }
        Ok(writes)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Reject> {
        if self.deletes(key) || !self.puts.insert(key) {
            return Err(Reject::DuplicateKey);
        }
        Ok(())
    }

    /// Only one branch of a nested Txn is taken, so the two may put the same keys.
    fn nest(&mut self, success: Writes<'a>, failure: Writes<'a>) -> Result<(), Reject> {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in &failure.puts {
            if self.deletes(key) || (!self.puts.insert(key) && !success.puts.contains(key)) {
                return Err(Reject::DuplicateKey);
            }
        }
        for branch in [success, failure] {
            self.deleted_keys.extend(branch.deleted_keys);
            for (start, end) in branch.deleted_ranges {
                self.delete(start, end);
            }
        }
        Ok(())
    }

    /// An end of one zero byte, "everything from the key on", counts as the plain end that it
    /// is not, so such a delete conflicts with no put. etcd has it so.
    fn delete(&mut self, start: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            self.deleted_keys.insert(start);
            return;
        }
        if end <= start {
            return;
        }
        let (mut start, mut end) = (start, end);
        // Everything that touches the new range melts into it.
        while let Some((known, known_end)) =
            self.deleted_ranges.range(..=end).next_back().map(|(start, end)| (*start, *end))
            && known_end >= start
        {
            self.deleted_ranges.remove(known);
            start = start.min(known);
            end = end.max(known_end);
        }
        self.deleted_ranges.insert(start, end);
    }

    fn deletes(&self, key: &[u8]) -> bool {
        let before = self.deleted_ranges.range(..=key).next_back();
        self.deleted_keys.contains(key) || before.is_some_and(|(_, end)| key < *end)
    }
}

/// Whether a Txn can write nothing whichever branch is taken: ranges only, no nested Txn.
#[must_use]
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a request changes the replicated state, so that it counts as admitted.
#[must_use]
pub fn is_write(request: &Request) -> bool {
    match request {
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_) => true,
        Request::Txn(txn) => !is_read_only(txn),
        Request::Alarm(alarm) => alarm.action() != pb::alarm_request::AlarmAction::Get,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
