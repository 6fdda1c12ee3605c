//! shard::eval — what a write means, decided before the log sees it.
//! Step 2 of a write. In: a request and a view of the newest state, what is in flight included.
//! Out: a plan, then records and an answer.
//! Owns: nothing; two pure functions.
//! Invariants: (1) everything that can refuse a write is in `plan`, before a revision is taken;
//!             (2) `materialise` cannot fail; (3) compares, nested ones too, see the state
//!             before the transaction; (4) changes are numbered in the order of the operations,
//!             a range's in key order.
//! Limits: none of its own; the frontend bounds a transaction's operations and depth.
//! Must not: wait; take a revision; know which shard it serves.
//! Tests: tests/road.rs, and tests/sim.rs against the naive model.

mod compare;
mod gathered;
mod materialise;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision};
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

pub use gathered::{Ask, Gathered, Given, WithLeases};
pub use materialise::{Outcome, materialise};

/// The view cannot say without more reading; it has noted what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// Live versions of a range, ascending.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The first of them, up to the limit asked for.
    pub records: Vec<Arc<Record>>,
    /// All of them.
    pub count: u64,
}

/// The newest state, what is in flight included.
pub trait View {
    /// The live version of `key`.
    ///
    /// # Errors
    /// [`Missing`] when the view has to be given more first; so for all of these.
    fn newest(&self, key: &Bytes) -> Result<Option<Arc<Record>>, Missing>;

    /// The live versions of `range`, at most `limit` of them if it is not 0.
    ///
    /// # Errors
    /// [`Missing`].
    fn range(&self, range: &KeyRange, limit: u64) -> Result<Page, Missing>;

    /// As `range`, as of an older revision.
    ///
    /// # Errors
    /// [`Missing`].
    fn range_at(&self, range: &KeyRange, at: Revision, limit: u64) -> Result<Page, Missing>;

    /// Whether the lease exists.
    ///
    /// # Errors
    /// [`Missing`].
    fn lease_exists(&self, id: LeaseId) -> Result<bool, Missing>;
}

/// What holds for every write at the moment of its evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The newest revision there is.
    pub current: Revision,
    /// The oldest revision that may be read; -1 if there never was a compaction.
    pub compact: Revision,
    /// Whether the space alarm is on.
    pub no_space: bool,
    /// Whether the corruption alarm is on.
    pub corrupt: bool,
    /// Bytes left under the quota; `None`: no quota.
    pub quota_left: Option<u64>,
}

/// A request that may write.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// Set a key.
    Put(&'a PutRequest),
    /// Delete a range.
    Delete(&'a DeleteRangeRequest),
    /// Compare and act.
    Txn(&'a TxnRequest),
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The view lacks something and has noted what.
    Missing,
    /// The request is refused.
    Refused(Reject),
}

impl From<Missing> for Stop {
    fn from(Missing: Missing) -> Stop {
        Stop::Missing
    }
}

/// The operations that will run, chosen and checked.
#[derive(Debug)]
enum Taken<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    Delete(&'a DeleteRangeRequest),
    Txn { succeeded: bool, ops: Vec<Taken<'a>> },
}

/// A write that will not be refused.
#[derive(Debug)]
pub struct Plan<'a> {
    op: Taken<'a>,
    /// Whether it changes anything, and so takes a revision.
    pub writes: bool,
}

/// Decides what a request will do, without a revision. Touches everything that `materialise`
/// will read, so that a view that had it all for the plan has it all for the rest.
///
/// # Errors
/// [`Stop::Refused`] leaves no trace. [`Stop::Missing`]: give the view what it lacks, call again.
pub fn plan<'a>(
    view: &impl View,
    conditions: &Conditions,
    write: Write<'a>,
) -> Result<Plan<'a>, Stop> {
    if conditions.corrupt {
        return Err(Stop::Refused(Reject::Corrupt));
    }
    let cost = cost(write);
    if cost > 0 && (conditions.no_space || conditions.quota_left.is_some_and(|left| left <= cost)) {
        return Err(Stop::Refused(Reject::NoSpace));
    }
    let op = match write {
        Write::Put(put) => Taken::Put(put),
        Write::Delete(delete) => Taken::Delete(delete),
        Write::Txn(txn) => choose(view, txn)?,
    };
    let (missing, writes) = (false, false);
    let mut check = Check { view, conditions, writes, missing, deleted: Vec::new() };
    let checked = check.op(&op);
    // What is missing may be refused before what is refused here.
    if check.missing {
        return Err(Stop::Missing);
    }
    checked?;
    let writes = check.writes;
    Ok(Plan { op, writes })
}

/// Chooses the branches of a transaction and of those nested in it: all compares see the state
/// before any of its changes.
fn choose<'a>(view: &impl View, txn: &'a TxnRequest) -> Result<Taken<'a>, Stop> {
    let mut missing = false;
    let mut succeeded = true;
    for compare in &txn.compare {
        match compare::holds(view, compare) {
            Ok(holds) => succeeded &= holds,
            // The rest is looked at too, so that the view learns of all it lacks at once.
            Err(Missing) => missing = true,
        }
    }
    if missing {
        return Err(Stop::Missing);
    }
    let branch = if succeeded { &txn.success } else { &txn.failure };
    let mut ops = Vec::with_capacity(branch.len());
    for op in branch {
        ops.push(match &op.request {
            Some(Op::RequestRange(range)) => Taken::Range(range),
            Some(Op::RequestPut(put)) => Taken::Put(put),
            Some(Op::RequestDeleteRange(delete)) => Taken::Delete(delete),
            Some(Op::RequestTxn(nested)) => choose(view, nested)?,
            None => return Err(Stop::Refused(Reject::KeyNotFound)),
        });
    }
    Ok(Taken::Txn { succeeded, ops })
}

struct Check<'v, V> {
    view: &'v V,
    conditions: &'v Conditions,
    writes: bool,
    missing: bool,
    /// What the transaction has deleted so far.
    deleted: Vec<KeyRange>,
}

impl<V: View> Check<'_, V> {
    fn op(&mut self, op: &Taken<'_>) -> Result<(), Stop> {
        match op {
            Taken::Range(range) => self.range(range),
            Taken::Put(put) => self.put(put),
            Taken::Delete(delete) => {
                let range = delete_range(delete);
                if let Some(page) = self.noted(self.view.range(&range, 0)) {
                    self.writes |= page.count > 0;
                }
                self.deleted.push(range);
                Ok(())
            }
            Taken::Txn { ops, .. } => ops.iter().try_for_each(|op| self.op(op)),
        }
    }

    fn range(&mut self, request: &RangeRequest) -> Result<(), Stop> {
        let at = Revision(request.revision);
        if at > self.conditions.current {
            return Err(Stop::Refused(Reject::FutureRevision));
        }
        // Etcd compares a negative revision here too, where a plain Range takes it for none.
        if at.0 != 0 && at < self.conditions.compact {
            return Err(Stop::Refused(Reject::Compacted));
        }
        let range = request_range(request);
        let limit = pushed_limit(request);
        if at.0 > 0 {
            self.noted(self.view.range_at(&range, at, limit));
        } else {
            // Without the limit, if the transaction's own changes may come between.
            self.noted(self.view.range(&range, limit));
            if self.writes && limit != 0 {
                self.noted(self.view.range(&range, 0));
            }
        }
        Ok(())
    }

    fn put(&mut self, put: &PutRequest) -> Result<(), Stop> {
        self.writes = true;
        let lease = LeaseId(put.lease);
        let no_lease =
            lease != LeaseId::NONE && self.noted(self.view.lease_exists(lease)) == Some(false);
        let newest = self.noted(self.view.newest(&put.key));
        let keeps = put.ignore_value || put.ignore_lease;
        // What the transaction itself has deleted is not there to be kept.
        let deleted = || self.deleted.iter().any(|range| range.contains(&put.key));
        let no_key = keeps && (matches!(newest, Some(None)) || deleted());
        if no_lease {
            return Err(Stop::Refused(Reject::LeaseNotFound));
        }
        if no_key {
            return Err(Stop::Refused(Reject::KeyNotFound));
        }
        Ok(())
    }

    fn noted<T>(&mut self, found: Result<T, Missing>) -> Option<T> {
        self.missing |= found.is_err();
        found.ok()
    }
}

/// The range that a Range request names.
#[must_use]
pub fn request_range(request: &RangeRequest) -> KeyRange {
    KeyRange::from_request(request.key.clone(), request.range_end.clone())
}

fn delete_range(request: &DeleteRangeRequest) -> KeyRange {
    KeyRange::from_request(request.key.clone(), request.range_end.clone())
}

/// Records wanted in key order, one more than the limit included; 0 for all: if filters or an
/// order come between.
#[must_use]
pub fn pushed_limit(request: &RangeRequest) -> u64 {
    crate::shard::mvcc::range::wanted(request).map_or(0, |wanted| wanted as u64)
}

/// What the quota counts for a write: the larger branch of a transaction, nested ones included.
#[must_use]
pub fn cost(write: Write<'_>) -> u64 {
    const PUT_OVERHEAD_BYTES: u64 = 256;
    match write {
        Write::Put(put) => PUT_OVERHEAD_BYTES + (put.key.len() + put.value.len()) as u64,
        Write::Delete(_) => 0,
        Write::Txn(txn) => {
            let branch = |ops: &'_ [crate::wire::etcdserverpb::RequestOp]| -> u64 {
                ops.iter().map(|op| op.request.as_ref().map_or(0, op_cost)).sum()
            };
            branch(&txn.success).max(branch(&txn.failure))
        }
    }
}

/// Room that a write takes in the orderer's queue, in bytes, as far as it can be told before its
/// revision is taken.
#[must_use]
pub fn credit_bytes(write: Write<'_>) -> usize {
    const RECORD_BYTES: u64 = 512;
    usize::try_from(RECORD_BYTES + cost(write)).unwrap_or(usize::MAX)
}

fn op_cost(op: &Op) -> u64 {
    match op {
        Op::RequestPut(put) => cost(Write::Put(put)),
        Op::RequestTxn(txn) => cost(Write::Txn(txn)),
        Op::RequestRange(_) | Op::RequestDeleteRange(_) => 0,
    }
}
