//! Grants, revokes, expiry and keep-alives: the lease table's part in the road.

use super::Leader;
use crate::base::effect::Effect;
use crate::base::limits::{LEASE_EXPIRIES_PER_PASS, LEASE_TTL_MAX_S, LEASE_WAITING_MAX};
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision, ShardId, Tick};
use crate::lease::{Cause, Renewal};
use crate::node::coordinator::{Kind, prepared};
use crate::node::mail::{LeaseLeft, Mail, Origin};
use crate::node::{Here, Outbox};
use crate::orderer::{Place, Proposal, placed};
use crate::shard::eval::Ask;
use crate::wire::call::{Answer, Request};
use crate::wire::etcdserverpb as pb;

/// Who waits for a lease that is going to be gone.
#[derive(Debug)]
pub(super) enum Waiting {
    Renewal(Origin),
    /// A grant of the same ID.
    Grant(Origin, pb::LeaseGrantRequest),
}

impl Leader {
    pub(super) fn grant(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: pb::LeaseGrantRequest,
        out: &mut Outbox,
    ) {
        const COST_BYTES: u64 = 64;
        // Whether the ID is free is known when the end of its lease is committed.
        if self.going.contains(&LeaseId(request.id)) {
            return self.await_end(here, LeaseId(request.id), Waiting::Grant(origin, request), out);
        }
        let conditions = self.conditions(here);
        let full = conditions.quota_left.is_some_and(|left| left <= COST_BYTES);
        let mut id = LeaseId(request.id);
        let refusal = if conditions.corrupt {
            Some(Reject::Corrupt)
        } else if conditions.no_space || full {
            Some(Reject::NoSpace)
        } else if request.ttl > LEASE_TTL_MAX_S {
            Some(Reject::LeaseTtlTooLarge)
        } else if self.lease_stands(id) {
            Some(Reject::LeaseExists)
        } else {
            None
        };
        if let Some(reject) = refusal {
            if reject == Reject::NoSpace && !conditions.no_space {
                return self.refuse_for_space(here, origin, out);
            }
            let in_flight = self.lease_is_in_flight(id) || self.is_unsettled(here);
            return self.refuse(here, origin, reject, in_flight, out);
        }
        while id == LeaseId::NONE || self.lease_stands(id) || self.going.contains(&id) {
            id = LeaseId((self.prng.next_u64() >> 1) as i64);
        }
        let tick_ms = here.config.tick_ms;
        let ttl_min_s = crate::lease::min_ttl_s(here.config.election_ticks, tick_ms);
        let ttl_s = request.ttl.max(ttl_min_s);
        self.granting.insert(id);
        let behind = here.shared.newest_taken();
        let answer = prepared(origin, Ok(Answer::LeaseGrant { revision: behind, id, ttl_s }));
        let effect = placed(Effect::Grant { id, ttl_s }, |_| ShardId(0));
        let bytes = effect.effect.log_len();
        let effects = vec![effect];
        let place = Place::Behind(behind);
        self.orderer.offer(Proposal { place, effects, bytes, credit: 0, answer: Some(answer) });
    }

    pub(super) fn refuse(
        &mut self,
        here: &mut Here,
        origin: Origin,
        reject: Reject,
        in_flight: bool,
        out: &mut Outbox,
    ) {
        if in_flight {
            self.orderer.offer(crate::node::coordinator::mark(origin, Err(reject), Revision(0)));
        } else {
            here.answer(origin, Err(reject), out);
        }
    }

    pub(super) fn revoke(
        &mut self,
        here: &mut Here,
        origin: Option<Origin>,
        ids: Vec<LeaseId>,
        out: &mut Outbox,
    ) {
        let asks = ids.iter().map(|id| Ask::LeaseRecords(*id)).collect();
        let shards = here.topology.router().all();
        self.coordinator.begin(here, Kind::Revoke(origin, ids), shards, asks, out);
    }

    /// Ends leases that are due: many under one latch, each at its own revision.
    pub(super) fn expire(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        // As with any revoke, nothing ends while the store is known to be damaged.
        if self.expiry_under_way || self.is_corrupt() {
            return false;
        }
        let due = self.leases.due(here.now, LEASE_EXPIRIES_PER_PASS);
        if due.is_empty() {
            return false;
        }
        self.expiry_under_way = true;
        self.revoke(here, None, due, out);
        true
    }

    /// Whether a lease exists, grants and ends that are decided included.
    pub(in crate::node) fn lease_stands(&self, id: LeaseId) -> bool {
        let exists = self.leases.contains(id) || self.granting.contains(&id);
        exists && !self.going.contains(&id)
    }

    /// Whether a lease's grant or end is decided and not committed.
    pub(in crate::node) fn lease_is_in_flight(&self, id: LeaseId) -> bool {
        self.granting.contains(&id) || self.going.contains(&id)
    }

    /// Decides that a lease ends. False if it was to expire and its deadline has not passed,
    /// looked at under the latch.
    pub(in crate::node) fn mark_going(&mut self, id: LeaseId, cause: Cause, now: Tick) -> bool {
        let goes = self.leases.mark_going(id, cause, now);
        if goes {
            self.going.insert(id);
        }
        goes
    }

    /// The pass of an expiry is decided; the next may begin.
    pub(in crate::node) fn expiry_decided(&mut self) {
        self.expiry_under_way = false;
    }

    pub(super) fn renew(&mut self, here: &mut Here, origin: Origin, id: LeaseId, out: &mut Outbox) {
        match self.leases.renew(id, here.now) {
            Renewal::Renewed(ttl_s) => {
                here.metrics.renewals.one();
                if let Some(line) = self.leases.lifeline(id) {
                    here.send(origin.core, Mail::Lifeline(id, line), out);
                }
                self.answer_renewal(here, origin, id, ttl_s, out);
            }
            // No term is open without deadlines: `NotLeading` does not come from here.
            Renewal::Missing | Renewal::NotLeading => {
                self.answer_renewal(here, origin, id, 0, out);
            }
            Renewal::Going => self.await_end(here, id, Waiting::Renewal(origin), out),
        }
    }

    fn await_end(&mut self, here: &mut Here, id: LeaseId, waiting: Waiting, out: &mut Outbox) {
        if self.after_end_count >= LEASE_WAITING_MAX {
            let (Waiting::Renewal(origin) | Waiting::Grant(origin, _)) = waiting;
            return here.answer(origin, Err(Reject::TooManyRequests), out);
        }
        self.after_end_count += 1;
        self.after_end.entry(id).or_default().push(waiting);
    }

    /// The lease has ended: who waited for that goes on.
    pub(super) fn lease_ended(&mut self, here: &mut Here, id: LeaseId, out: &mut Outbox) {
        let waited = self.after_end.remove(&id).unwrap_or_default();
        self.after_end_count -= waited.len();
        for waiting in waited {
            match waiting {
                Waiting::Renewal(origin) => self.answer_renewal(here, origin, id, 0, out),
                Waiting::Grant(origin, request) if self.is_open() => {
                    self.grant(here, origin, request, out);
                }
                Waiting::Grant(origin, request) => {
                    self.queued.push_back((origin, Request::LeaseGrant(request)));
                }
            }
        }
    }

    pub(super) fn answer_renewal(
        &self,
        here: &mut Here,
        origin: Origin,
        id: LeaseId,
        ttl_s: i64,
        out: &mut Outbox,
    ) {
        let revision = here.shared.committed().0;
        here.answer(origin, Ok(Answer::LeaseKeepAlive { revision, id, ttl_s }), out);
    }

    pub(super) fn lease_left(
        &mut self,
        here: &mut Here,
        origin: Origin,
        id: LeaseId,
        keys: bool,
        out: &mut Outbox,
    ) {
        let revision = here.shared.committed().0;
        let granted_s = self.leases.granted_s(id).unwrap_or(0);
        let ttl_s = self.leases.remaining_s(id, here.now).unwrap_or(-1);
        if keys && granted_s > 0 {
            let lease = LeaseLeft { id, ttl_s, granted_s };
            here.send(here.core, Mail::LeaseKeys(origin, lease), out);
            return;
        }
        let keys = Vec::new();
        let answer = Answer::LeaseTimeToLive { revision, id, ttl_s, granted_s, keys };
        here.answer(origin, Ok(answer), out);
    }
}
