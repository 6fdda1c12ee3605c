//! Operations over several shards: latch all, read, decide once, release.
//!
//! ```text
//! coordinator          shard A           shard B
//!     |--- Latch(asks) --->|                 |     sent to all at once; mail is FIFO, so every
//!     |--- Latch(asks) ----|---------------->|     shard sees latches in one order: no deadlock
//!     |<-- Latched --------|                 |
//!     |<-- Latched --------|-----------------|     a latched shard evaluates nothing; it goes
//!     |    decide, take a revision, propose  |     on applying and reading
//!     |--- Release(records) ->|              |
//!     |--- Release(records) --|------------->|     the effects enter the overlays before any
//! ```                                              later write is evaluated

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::leader::Leader;
use super::mail::{Mail, OperationId, Origin, Release, Rests};
use super::{Here, Outbox};
use crate::base::ShardId;
use crate::base::batch::{Placed, ShardSet};
use crate::base::change::Change;
use crate::base::effect::Effect;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision, Sub};
use crate::lease::Cause;
use crate::orderer::{Place, Prepared, Proposal};
use crate::router::Router;
use crate::shard::eval::{self, Ask, Gathered, Given, Stop, Write};
use crate::wire::call::{Answer, Reply, Request};
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::etcdserverpb::{RequestOp, TxnRequest};

/// What an operation is for.
#[derive(Debug)]
pub(super) enum Kind {
    /// A write over several shards, or one that a shard cannot refuse by itself.
    Write(Origin, Request),
    /// Ends leases and deletes their keys: one asked for, or those that are due.
    Revoke(Option<Origin>, Vec<LeaseId>),
    /// Forgets history.
    Compact(Option<Origin>, Revision, Physical),
    /// Raises or clears an alarm.
    Alarm(Option<Origin>, super::leader::AlarmChange),
}

/// When a compaction is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Physical {
    /// Once the old revisions are refused.
    No,
    /// Once they are gone.
    Yes,
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Operation {
    kind: Kind,
    shards: ShardSet,
    gathered: Gathered,
    /// Shards that have yet to answer.
    awaited: u32,
    rests: Rests,
}

/// Operations by number.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    operations: BTreeMap<OperationId, Operation>,
    next: OperationId,
}

impl Coordinator {
    /// Begins an operation over `shards`: latches them and asks for what is known to be needed.
    pub(super) fn begin(
        &mut self,
        here: &mut Here,
        kind: Kind,
        shards: ShardSet,
        asks: Vec<Ask>,
        out: &mut Outbox,
    ) {
        self.next += 1;
        let mut operation = Operation {
            kind,
            shards,
            gathered: Gathered::new(),
            awaited: 0,
            rests: Rests::default(),
        };
        ask(here, self.next, &mut operation, shards, asks, out);
        self.operations.insert(self.next, operation);
    }

    /// A shard is latched and has answered. Gives the operation back once all have.
    pub(super) fn latched(
        &mut self,
        id: OperationId,
        given: Vec<(Ask, Given)>,
        rests: Rests,
    ) -> Option<Operation> {
        let operation = self.operations.get_mut(&id).expect("a latch without an operation");
        for (ask, given) in given {
            operation.gathered.give(ask, given);
        }
        operation.rests = operation.rests.and(rests);
        operation.awaited -= 1;
        if operation.awaited > 0 {
            return None;
        }
        self.operations.remove(&id)
    }

    /// Operations under way.
    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }
}

/// Sends each ask to the shards that it concerns, and a latch to all of `to`.
fn ask(
    here: &mut Here,
    id: OperationId,
    operation: &mut Operation,
    to: ShardSet,
    asks: Vec<Ask>,
    out: &mut Outbox,
) {
    let router = here.topology.router();
    let mut by_shard: BTreeMap<ShardId, Vec<Ask>> = to.iter().map(|s| (s, Vec::new())).collect();
    for ask in asks {
        for shard in shards_of_ask(&ask, router).iter() {
            by_shard.entry(shard).or_default().push(ask.clone());
        }
    }
    operation.awaited = u32::try_from(by_shard.len()).expect("at most SHARDS_MAX");
    for (shard, asks) in by_shard {
        let home = here.topology.home(shard);
        here.send(home, Mail::Latch(id, shard, asks), out);
    }
}

/// The shards that one ask concerns.
pub(super) fn shards_of_ask(ask: &Ask, router: Router) -> ShardSet {
    match ask {
        Ask::Key(key) => router.shards_of(&KeyRange::single(key.clone())),
        Ask::Range(range, _) | Ask::RangeAt(range, _, _) => router.shards_of(range),
        Ask::LeaseKeys(_) | Ask::LeaseRecords(_) => router.all(),
    }
}

/// The shards that a write may touch, in whichever branch.
pub(super) fn shards_named(request: &Request, router: Router) -> ShardSet {
    match request {
        Request::Put(put) => router.shards_of(&KeyRange::single(put.key.clone())),
        Request::DeleteRange(delete) => {
            let range = KeyRange::from_request(delete.key.clone(), delete.range_end.clone());
            router.shards_of(&range)
        }
        Request::Txn(txn) => txn_shards(txn, router),
        _ => ShardSet::default(),
    }
}

fn txn_shards(txn: &TxnRequest, router: Router) -> ShardSet {
    let mut shards = ShardSet::default();
    for compare in &txn.compare {
        let range = KeyRange::from_request(compare.key.clone(), compare.range_end.clone());
        shards = shards.union(router.shards_of(&range));
    }
    for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
        let range = match request {
            Some(Op::RequestPut(put)) => KeyRange::single(put.key.clone()),
            Some(Op::RequestRange(range)) => eval::request_range(range),
            Some(Op::RequestDeleteRange(delete)) => {
                KeyRange::from_request(delete.key.clone(), delete.range_end.clone())
            }
            Some(Op::RequestTxn(nested)) => {
                shards = shards.union(txn_shards(nested, router));
                continue;
            }
            None => continue,
        };
        shards = shards.union(router.shards_of(&range));
    }
    shards
}

impl Leader {
    /// All shards of an operation are latched: decides it, or asks for more.
    pub(super) fn decide(
        &mut self,
        here: &mut Here,
        id: OperationId,
        mut operation: Operation,
        out: &mut Outbox,
    ) {
        let decided = match &operation.kind {
            Kind::Write(origin, request) => {
                self.decide_write(here, *origin, request, &operation, out)
            }
            Kind::Revoke(origin, ids) => self.decide_revoke(here, *origin, ids, &operation),
            Kind::Compact(origin, at, physical) => {
                Ok(self.decide_compact(here, *origin, *at, *physical, operation.rests))
            }
            Kind::Alarm(origin, change) => {
                Ok(self.decide_alarm(here, *origin, *change, operation.rests))
            }
        };
        let Ok(decided) = decided else {
            let asks = operation.gathered.take_missing();
            ask(here, id, &mut operation, ShardSet::default(), asks, out);
            self.coordinator.operations.insert(id, operation);
            return;
        };
        self.conclude(here, id, operation.shards, decided, out);
    }

    /// Proposes what was decided and lets the shards go on.
    fn conclude(
        &mut self,
        here: &mut Here,
        id: OperationId,
        shards: ShardSet,
        decided: Decided,
        out: &mut Outbox,
    ) {
        let router = here.topology.router();
        let mut releases: BTreeMap<ShardId, Release> = BTreeMap::new();
        for proposal in &decided.proposals {
            for placed in &proposal.effects {
                match (&placed.effect, placed.shard) {
                    (Effect::Record(record), Some(shard)) => {
                        let release = releases.entry(shard).or_default();
                        release.records.push(Arc::clone(record));
                    }
                    (effect, _) => {
                        for shard in router.all().iter() {
                            releases.entry(shard).or_default().effects.push(effect.clone());
                        }
                    }
                }
            }
        }
        for proposal in decided.proposals {
            self.orderer.offer(proposal);
        }
        for shard in shards.iter() {
            let release = releases.remove(&shard).unwrap_or_default();
            let home = here.topology.home(shard);
            here.send(home, Mail::Release(id, shard, release), out);
        }
        assert!(releases.is_empty(), "an operation changed a shard that it had not latched");
        if let Some((origin, reply)) = decided.answer {
            here.answer(origin, reply, out);
        }
    }

    fn decide_write(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: &Request,
        operation: &Operation,
        out: &mut Outbox,
    ) -> Result<Decided, eval::Missing> {
        let write = match request {
            Request::Put(put) => Write::Put(put),
            Request::DeleteRange(delete) => Write::Delete(delete),
            Request::Txn(txn) => Write::Txn(txn),
            other => unreachable!("{other:?} is no write"),
        };
        let conditions = self.conditions(here);
        let rests = Cell::new(self.rests(here, operation.rests));
        // Every grant and every end is decided on this core, so the table knows what no shard
        // can: which of them are on their way at this moment.
        let view = operation.gathered.with_leases(|id| {
            if self.lease_is_in_flight(id) {
                rests.set(rests.get().and(Rests::on(here.shared.newest_taken())));
            }
            self.lease_stands(id)
        });
        let plan = eval::plan(&view, &conditions, write);
        let rests = rests.get();
        let plan = match plan {
            Ok(plan) => plan,
            Err(Stop::Missing) => return Err(eval::Missing),
            Err(Stop::Refused(Reject::NoSpace)) if !conditions.no_space => {
                self.refuse_for_space(here, origin, out);
                return Ok(Decided::default());
            }
            Err(Stop::Refused(reject)) => {
                return Ok(Decided::unchanged(origin, Err(reject), rests));
            }
        };
        if !plan.writes {
            let header = here.shared.committed().0.max(rests.revision);
            let outcome = eval::materialise(&view, &plan, header);
            return Ok(Decided::unchanged(origin, Ok(outcome.answer), rests));
        }
        let revision = here.shared.take_revision();
        let outcome = eval::materialise(&view, &plan, revision);
        let answer = Some(prepared(origin, Ok(outcome.answer)));
        let router = here.topology.router();
        let placed = |change: Change| Placed::change(router.shard_of(change.record.key()), change);
        let effects = outcome.changes.into_iter().map(placed).collect();
        Ok(Decided::changed(Place::At(revision), effects, answer))
    }

    /// Each lease is looked at once more under the latch: from here on nothing saves it.
    fn decide_revoke(
        &mut self,
        here: &Here,
        origin: Option<Origin>,
        ids: &[LeaseId],
        operation: &Operation,
    ) -> Result<Decided, eval::Missing> {
        let mut decided = Decided::default();
        if origin.is_none() {
            self.expiry_decided();
        }
        if self.is_corrupt() {
            let rests = self.rests(here, operation.rests);
            let refuse = |origin| Decided::unchanged(origin, Err(Reject::Corrupt), rests);
            return Ok(origin.map(refuse).unwrap_or_default());
        }
        for id in ids {
            let records = operation.gathered.lease_records(*id)?;
            if !self.lease_stands(*id) {
                if let Some(origin) = origin {
                    let reply = Err(Reject::LeaseNotFound);
                    let in_flight = self.lease_is_in_flight(*id);
                    let rests = self.rests(here, Rests { in_flight, ..Rests::default() });
                    return Ok(Decided::unchanged(origin, reply, rests));
                }
                continue;
            }
            let cause = if origin.is_some() { Cause::Revoked } else { Cause::Expired };
            // What was renewed since it was found due stays.
            if !self.mark_going(*id, cause, here.now) {
                continue;
            }
            let router = here.topology.router();
            let mut effects: Vec<Placed> = Vec::with_capacity(records.len() + 1);
            let mut place = Place::Behind(here.shared.newest_taken());
            let mut header = here.shared.newest_taken();
            if !records.is_empty() {
                let revision = here.shared.take_revision();
                place = Place::At(revision);
                header = revision;
                for (sub, previous) in (0..).zip(records) {
                    let shard = router.shard_of(previous.key());
                    let record = Record::tombstone(previous.key(), revision, Sub(sub));
                    let previous = Some(Arc::clone(previous));
                    let record = Arc::new(record);
                    effects.push(Placed::change(shard, Change { record, previous }));
                }
            }
            effects.push(Placed::new(None, Effect::Revoke { id: *id }));
            let answer = origin.map(|origin| prepared(origin, Ok(Answer::LeaseRevoke(header))));
            let one = Decided::changed(place, effects, answer);
            decided.proposals.extend(one.proposals);
        }
        Ok(decided)
    }

    fn decide_compact(
        &mut self,
        here: &Here,
        origin: Option<Origin>,
        at: Revision,
        physical: Physical,
        rests: Rests,
    ) -> Decided {
        let newest = here.shared.newest_taken();
        let refusal = if self.is_corrupt() {
            Some(Reject::Corrupt)
        } else if at <= self.compact_evaluated() {
            Some(Reject::Compacted)
        } else if at > newest {
            Some(Reject::FutureRevision)
        } else {
            None
        };
        if let Some(reject) = refusal {
            let rests = self.rests(here, rests);
            return origin
                .map(|origin| Decided::unchanged(origin, Err(reject), rests))
                .unwrap_or_default();
        }
        self.set_compact_evaluated(at);
        let answer = match (origin, physical) {
            (Some(origin), Physical::No) => Some(prepared(origin, Ok(Answer::Header(newest)))),
            (Some(origin), Physical::Yes) => {
                self.await_cut(origin, at, newest);
                None
            }
            (None, _) => None,
        };
        let effects = vec![Placed::new(None, Effect::Compact { at })];
        Decided::changed(Place::Behind(newest), effects, answer)
    }

    fn decide_alarm(
        &mut self,
        here: &Here,
        origin: Option<Origin>,
        change: super::leader::AlarmChange,
        rests: Rests,
    ) -> Decided {
        let newest = here.shared.newest_taken();
        let rests = self.rests(here, rests);
        let (effects, alarms) = self.change_alarms(change);
        if effects.is_empty() {
            // What leaves at once shows nothing that is still on its way.
            let revision = here.shared.committed().0.max(rests.revision);
            let answer = Answer::Alarm { revision, alarms };
            return origin
                .map(|origin| Decided::unchanged(origin, Ok(answer), rests))
                .unwrap_or_default();
        }
        let answer = Answer::Alarm { revision: newest, alarms };
        let answer = origin.map(|origin| prepared(origin, Ok(answer)));
        let effects = effects.into_iter().map(|effect| Placed::new(None, effect)).collect();
        let mut decided = Decided::changed(Place::Behind(newest), effects, answer);
        for (origin, reject) in self.take_refused(here) {
            decided.proposals.push(mark(origin, Err(reject), newest));
        }
        decided
    }
}

/// What an operation comes to.
#[derive(Debug, Default)]
struct Decided {
    proposals: Vec<Proposal>,
    answer: Option<(Origin, Reply)>,
}

impl Decided {
    /// Nothing changes. The answer leaves at once unless it rests on what is in flight.
    fn unchanged(origin: Origin, reply: Reply, rests: Rests) -> Decided {
        if rests.in_flight {
            return Decided { proposals: vec![mark(origin, reply, rests.revision)], answer: None };
        }
        Decided { proposals: Vec::new(), answer: Some((origin, reply)) }
    }

    fn changed(place: Place, effects: Vec<Placed>, answer: Option<Prepared>) -> Decided {
        let bytes = effects.iter().map(|placed| placed.effect.log_len()).sum();
        let proposals = vec![Proposal { place, effects, bytes, credit: 0, answer }];
        Decided { proposals, answer: None }
    }
}

/// An answer that waits for its proposal to be visible.
pub(super) fn prepared(origin: Origin, reply: Reply) -> Prepared {
    Prepared { core: origin.core, call: origin.call, reply }
}

/// An answer that changes nothing and waits for everything before it, and for a revision that it
/// shows.
pub(super) fn mark(origin: Origin, reply: Reply, rests_on: Revision) -> Proposal {
    let answer = Some(prepared(origin, reply));
    let place = Place::Mark(rests_on);
    Proposal { place, effects: Vec::new(), bytes: 0, credit: 0, answer }
}
