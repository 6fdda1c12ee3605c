//! The second pass: the revision is known, records and answer are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Missing, Page, Plan, Taken, View, delete_range, pushed_limit, request_range};
use crate::base::change::Change;
use crate::base::range::KeyRange;
use crate::base::record::{PutFields, Record};
use crate::base::{LeaseId, Revision, Sub};
use crate::shard::mvcc::range;
use crate::wire::call::{Answer, DeleteRangeAnswer, OpAnswer, PutAnswer, RangeAnswer, TxnAnswer};
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

/// What a write became.
#[derive(Debug)]
pub struct Outcome {
    /// The changes, by sub, each with what it replaced; empty if it writes nothing.
    pub changes: Vec<Change>,
    /// What the client is told.
    pub answer: Answer,
}

/// Carries out a plan. `revision` is its own if it writes; else the header that its answer
/// shows: the revision that the view stands at.
///
/// # Panics
/// If the view lacks what it had for the plan.
#[must_use]
pub fn materialise(view: &impl View, plan: &Plan<'_>, revision: Revision) -> Outcome {
    let base = if plan.writes { revision.before() } else { revision };
    let reads_own = matches!(&plan.op, Taken::Txn { ops, .. } if !is_single(ops));
    let newest = BTreeMap::new();
    let mut run = Run { view, base, revision, reads_own, newest, changes: Vec::new() };
    let answer = match run.op(&plan.op) {
        OpAnswer::Range(range) => Answer::Range(range),
        OpAnswer::Put(put) => Answer::Put(put),
        OpAnswer::DeleteRange(delete) => Answer::DeleteRange(delete),
        OpAnswer::Txn(txn) => Answer::Txn(txn),
    };
    assert_eq!(plan.writes, !run.changes.is_empty(), "a plan was wrong about writing");
    Outcome { changes: run.changes, answer }
}

/// Whether a branch is one plain operation: nothing reads what it wrote.
fn is_single(ops: &[Taken<'_>]) -> bool {
    matches!(ops, [] | [Taken::Range(_) | Taken::Put(_) | Taken::Delete(_)])
}

struct Run<'v, V> {
    view: &'v V,
    base: Revision,
    revision: Revision,
    /// An operation may read what one before it wrote.
    reads_own: bool,
    /// The transaction's own newest versions, tombstones included, and where each key's first
    /// change stands.
    newest: BTreeMap<Bytes, (Arc<Record>, usize)>,
    changes: Vec<Change>,
}

impl<V: View> Run<'_, V> {
    fn op(&mut self, op: &Taken<'_>) -> OpAnswer {
        match op {
            Taken::Range(request) => OpAnswer::Range(self.range(request)),
            Taken::Put(request) => OpAnswer::Put(self.put(request)),
            Taken::Delete(request) => OpAnswer::DeleteRange(self.delete(request)),
            Taken::Txn { succeeded, ops } => {
                let ops = ops.iter().map(|op| self.op(op)).collect();
                OpAnswer::Txn(TxnAnswer { revision: self.header(), succeeded: *succeeded, ops })
            }
        }
    }

    /// The revision that answers show: the transaction's own once it has changed something.
    fn header(&self) -> Revision {
        if self.changes.is_empty() { self.base } else { self.revision }
    }

    fn range(&self, request: &RangeRequest) -> RangeAnswer {
        let key_range = request_range(request);
        let limit = pushed_limit(request);
        let page = if request.revision > 0 {
            found(self.view.range_at(&key_range, Revision(request.revision), limit))
        } else if self.newest.is_empty() {
            found(self.view.range(&key_range, limit))
        } else {
            self.own_page(&key_range)
        };
        let more = limit != 0 && page.count > page.records.len() as u64;
        let run = range::Run { records: page.records, count: page.count, more };
        range::assemble(request, self.header(), vec![run])
    }

    fn put(&mut self, request: &PutRequest) -> PutAnswer {
        let previous = self.live(&request.key);
        let (create, version) = match &previous {
            Some(record) => (record.create, record.version + 1),
            None => (self.revision, 1),
        };
        let value = match &previous {
            Some(record) if request.ignore_value => record.value(),
            _ => &request.value[..],
        };
        let lease = match &previous {
            Some(record) if request.ignore_lease => record.lease,
            _ => LeaseId(request.lease),
        };
        let record = Record::put(PutFields {
            key: &request.key,
            value,
            revision: self.revision,
            sub: self.next_sub(),
            create,
            version,
            lease,
        });
        self.push(record, previous.clone());
        PutAnswer { revision: self.revision, previous: previous.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeAnswer {
        let live = self.own_page(&delete_range(request)).records;
        for record in &live {
            let tombstone = Record::tombstone(record.key(), self.revision, self.next_sub());
            self.push(tombstone, Some(Arc::clone(record)));
        }
        let deleted = live.len() as u64;
        let previous = if request.prev_kv { live } else { Vec::new() };
        DeleteRangeAnswer { revision: self.header(), deleted, previous }
    }

    fn next_sub(&self) -> Sub {
        Sub(u32::try_from(self.changes.len()).expect("fewer changes than keys fit in memory"))
    }

    /// Adds a change of a key whose live version was `before`.
    fn push(&mut self, record: Record, before: Option<Arc<Record>>) {
        let (record, mut previous) = (Arc::new(record), before);
        if self.reads_own {
            // Below the transaction's revision the key stood as its first change found it.
            let first = self.newest.get(record.key()).map(|(_, first)| *first);
            if let Some(first) = first {
                previous = self.changes[first].previous.clone();
            }
            let first = first.unwrap_or(self.changes.len());
            self.newest.insert(record.key_bytes(), (Arc::clone(&record), first));
        }
        self.changes.push(Change { record, previous });
    }

    fn live(&self, key: &Bytes) -> Option<Arc<Record>> {
        match self.newest.get(key) {
            Some((own, _)) => Some(Arc::clone(own)).filter(|own| !own.is_tombstone()),
            None => found(self.view.newest(key)),
        }
    }

    /// The live versions of a range, the transaction's own changes included.
    fn own_page(&self, range: &KeyRange) -> Page {
        let page = found(self.view.range(range, 0));
        let mut own = self.newest.range(range.start.clone()..);
        let mut own = std::iter::from_fn(|| own.next().filter(|(key, _)| !range.ends_before(key)));
        let Some(mut next_own) = own.next() else { return page };
        let mut records = Vec::with_capacity(page.records.len());
        let mut rest = page.records.into_iter().peekable();
        loop {
            while let Some(record) = rest.next_if(|record| record.key() < &next_own.0[..]) {
                records.push(record);
            }
            rest.next_if(|record| record.key() == &next_own.0[..]);
            let (newest, _) = next_own.1;
            if !newest.is_tombstone() {
                records.push(Arc::clone(newest));
            }
            match own.next() {
                Some(next) => next_own = next,
                None => break,
            }
        }
        records.extend(rest);
        Page { count: records.len() as u64, records }
    }
}

fn found<T>(found: Result<T, Missing>) -> T {
    found.unwrap_or_else(|Missing| panic!("a plan did not touch what its write reads"))
}
