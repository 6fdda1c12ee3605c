//! What simulated clients ask: random requests, pages that go on at a held revision, watches.

use bytes::Bytes;

use super::model::{Model, shown};
use super::requests::Requests;
use crate::base::Revision;
use crate::base::prng::Prng;
use crate::base::reject::Reject;
use crate::frontend::check;
use crate::wire::call::{Answer, Reply, Request};
use crate::wire::etcdserverpb as pb;
use pb::request_op::Request as Op;

/// Draws requests.
#[derive(Debug)]
pub struct Workload {
    requests: Requests,
    prng: Prng,
    /// Writes among a hundred requests.
    writes: u64,
    /// Watchers among a hundred that ask for fragments.
    fragments: u64,
    topic: Option<Topic>,
}

/// What many requests of a seed are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Grants, revokes, and puts on leases that come and go.
    Leases,
    /// Compactions of what is hardly past, and reads of it.
    History,
}

impl Workload {
    /// All that follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Workload {
        let mut prng = Prng::new(seed);
        let writes = [15, 50, 85][prng.below(3) as usize];
        let requests = Requests::new(prng.next_u64());
        Workload { requests, prng, writes, fragments: 20, topic: None }
    }

    /// From here on most watchers ask for fragments, and many requests are about `topic`.
    pub fn vary(&mut self, topic: Option<Topic>) {
        self.fragments = 70;
        self.topic = topic;
        self.requests.on_leases = topic == Some(Topic::Leases);
    }

    /// The next request of a client, and the form that the frontend would pass on. What the
    /// frontend refuses by itself is held against the model and another one drawn.
    pub fn next(&mut self, model: &Model, newest: Revision) -> (Request, Request) {
        loop {
            let mut request = if self.prng.percent(self.writes) {
                self.requests.write(model)
            } else {
                match self.prng.below(40) {
                    0 => Request::Status,
                    1 => Request::Hash,
                    2 => Request::Defragment,
                    _ => self.requests.read(model),
                }
            };
            if self.prng.percent(10) {
                let at = newest.0 + self.prng.below(3) as i64 - 1;
                set_revision(&mut request, at);
            }
            if self.topic == Some(Topic::History) && self.prng.percent(40) {
                let revision = newest.0 - self.prng.below(4) as i64;
                if self.prng.percent(25) {
                    let physical = self.prng.percent(50);
                    request = Request::Compact(pb::CompactionRequest { revision, physical });
                } else {
                    set_revision(&mut request, revision);
                }
            }
            if let Request::LeaseGrant(grant) = &mut request {
                grant.id = if self.prng.percent(15) { 0 } else { grant.id };
                if self.prng.percent(70) {
                    grant.ttl = self.prng.below(6) as i64;
                }
            }
            let mut checked = request.clone();
            let Err(reject) = check_alone(&mut checked) else { return (request, checked) };
            let expected = model.clone().execute(&request);
            assert_eq!(shown(&Err(reject)), shown(&expected), "the frontend about {request:?}");
        }
    }

    /// A page that goes on where `reply` ended, at the same revision.
    #[must_use]
    pub fn next_page(request: &Request, reply: &Reply) -> Option<Request> {
        let (Request::Range(before), Ok(Answer::Range(page))) = (request, reply) else {
            return None;
        };
        let in_key_order = before.sort_order == 0 || before.sort_target == 0;
        let last = page.records.last().filter(|_| page.more && in_key_order)?;
        if before.sort_order == 2 {
            return None;
        }
        let mut key = last.key().to_vec();
        key.push(0);
        let revision = if before.revision > 0 { before.revision } else { page.revision.0 };
        Some(Request::Range(pb::RangeRequest { key: Bytes::from(key), revision, ..before.clone() }))
    }

    /// A watch of some keys, from now, from before, or from later.
    pub fn watch(&mut self, model: &Model, current: Revision) -> pb::WatchCreateRequest {
        let (key, range_end) = self.requests.keys();
        let start_revision = match self.prng.below(6) {
            0 | 1 => 0,
            2 => 1 + self.prng.below(current.0 as u64) as i64,
            3 => model.compact_revision().0 + self.prng.below(4) as i64 - 1,
            4 => (current.0 - self.prng.below(20) as i64).max(0),
            _ => current.0 + self.prng.below(8) as i64,
        };
        let filters = match self.prng.below(8) {
            0 => vec![0],
            1 => vec![1],
            _ => Vec::new(),
        };
        pb::WatchCreateRequest {
            key: if self.prng.percent(3) { Bytes::new() } else { key },
            range_end,
            start_revision,
            progress_notify: self.prng.percent(30),
            filters,
            prev_kv: self.prng.percent(50),
            watch_id: if self.prng.percent(10) { self.prng.below(6) as i64 } else { 0 },
            fragment: self.prng.percent(self.fragments),
        }
    }
}

/// What the frontend makes of a request before it passes it on.
fn check_alone(request: &mut Request) -> Result<(), Reject> {
    match request {
        Request::Range(range) => check::range(range),
        Request::Put(put) => check::put(put),
        Request::DeleteRange(delete) => check::delete_range(delete),
        Request::Txn(txn) => check::txn(txn, crate::base::limits::TXN_OPS_MAX),
        Request::LeaseGrant(grant) => check::lease_grant(grant),
        _ => Ok(()),
    }
}

/// Makes the ranges of a request read at a revision.
fn set_revision(request: &mut Request, at: i64) {
    match request {
        Request::Range(range) => range.revision = at,
        Request::Compact(compact) => compact.revision = at,
        Request::HashKv(revision) => *revision = Revision(at),
        Request::Txn(txn) => {
            for op in txn.success.iter_mut().chain(&mut txn.failure) {
                if let Some(Op::RequestRange(range)) = &mut op.request {
                    range.revision = at;
                }
            }
        }
        _ => {}
    }
}

/// A range of every key.
#[must_use]
pub fn everything() -> pb::RangeRequest {
    let zero = Bytes::from_static(&[0]);
    pb::RangeRequest { key: zero.clone(), range_end: zero, ..pb::RangeRequest::default() }
}
