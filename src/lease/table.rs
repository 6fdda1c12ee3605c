//! The lease table: TTLs on every member, deadlines on the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lifeline::after;
use super::{Cause, LeaseMetrics, Lifeline, Renewal};
use crate::base::limits::{LEASE_EXPIRIES_PER_S, LEASES_MOVED_PER_PASS};
use crate::base::{LeaseId, Tick};

/// What remains, in seconds, of a lease without a deadline: as much as a signed count of
/// nanoseconds can say.
const REMAINING_FOREVER_S: i64 = i64::MAX / 1_000_000_000;

#[derive(Debug)]
struct Lease {
    /// Has the deadline, on the leader, until the lease is going.
    line: Arc<Lifeline>,
    /// Where it stands among the deadlines: there a renewal is found out about.
    queued: Option<Tick>,
    /// Why, and the deadline that it had.
    going: Option<(Cause, Option<Tick>)>,
}

impl Lease {
    fn deadline(&self) -> Option<Tick> {
        self.going.map_or_else(|| self.line.deadline(), |(_, deadline)| deadline)
    }
}

/// The leases of the store as far as they are applied. `grant` and `revoke` follow the log, on
/// every member; the rest is for the leader.
#[derive(Debug)]
pub struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
    /// Deadlines of the leases that are not going, as they were last looked at: one entry each.
    /// A renewal does not move it, which is done when its time has come.
    deadlines: BTreeSet<(Tick, LeaseId)>,
    leading: bool,
    metrics: Arc<LeaseMetrics>,
}

impl LeaseTable {
    /// No leases, on a member that does not lead.
    #[must_use]
    pub fn new(metrics: Arc<LeaseMetrics>) -> LeaseTable {
        LeaseTable { leases: BTreeMap::new(), deadlines: BTreeSet::new(), leading: false, metrics }
    }

    // --- what the log says ----------------------------------------------------------------

    /// A grant is applied.
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64, now: Tick) {
        assert!(id != LeaseId::NONE && ttl_s > 0, "a grant names a lease and a time to live");
        let queued = self.leading.then(|| after(now, ttl_s));
        let line = Arc::new(Lifeline::new(ttl_s));
        line.set(queued);
        let before = self.leases.insert(id, Lease { line, queued, going: None });
        assert!(before.is_none(), "a lease is granted once");
        self.deadlines.extend(queued.map(|deadline| (deadline, id)));
        self.metrics.granted.one();
        self.metrics.ttl.observe_ns(ttl_s.unsigned_abs().saturating_mul(1_000_000_000));
    }

    /// A revoke is applied.
    pub fn revoke(&mut self, id: LeaseId) {
        let lease = self.leases.remove(&id);
        let lease = lease.expect("a revoke is of a lease that exists");
        // Other cores may still have it.
        lease.line.end();
        self.unqueue(id, lease.queued);
        self.metrics.revoked.one();
        if matches!(lease.going, Some((Cause::Expired, _))) {
            self.metrics.expired.one();
        }
    }

    // --- terms ----------------------------------------------------------------------------

    /// This member leads, and its term is open: every lease has its whole TTL and `extend_ms`
    /// from now on. Where too many would end within a second, some get longer.
    pub fn lead(&mut self, now: Tick, extend_ms: u64) {
        self.leading = true;
        let from = now.plus_ms(extend_ms);
        let mut order: Vec<(Tick, LeaseId)> =
            self.leases.iter().map(|(id, lease)| (after(from, lease.line.ttl_s()), *id)).collect();
        order.sort_unstable();
        for at in LEASE_EXPIRIES_PER_S..order.len() {
            let (earlier, _) = order[at - LEASE_EXPIRIES_PER_S];
            let (deadline, _) = &mut order[at];
            *deadline = (*deadline).max(earlier.plus_ms(1_000));
        }
        for (deadline, id) in &order {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.line.set(Some(*deadline));
                lease.queued = Some(*deadline);
                lease.going = None;
            }
        }
        self.deadlines = order.into_iter().collect();
    }

    /// This member leads no more: nothing is due here, and what was going may stay.
    pub fn follow(&mut self) {
        self.leading = false;
        self.deadlines.clear();
        for lease in self.leases.values_mut() {
            lease.line.set(None);
            lease.queued = None;
            lease.going = None;
        }
    }

    // --- the leader's part ----------------------------------------------------------------

    /// A keep-alive.
    pub fn renew(&mut self, id: LeaseId, now: Tick) -> Renewal {
        if !self.leading {
            return Renewal::NotLeading;
        }
        self.leases.get(&id).map_or(Renewal::Missing, |lease| lease.line.renew(now))
    }

    /// With this every core renews the lease by itself, until it is going or the term ends.
    #[must_use]
    pub fn lifeline(&self, id: LeaseId) -> Option<Arc<Lifeline>> {
        self.leases.get(&id).map(|lease| Arc::clone(&lease.line))
    }

    /// Leases whose deadline has come, soonest first, `max` at most. Each stays due until it is
    /// marked as going or renewed. Those that were renewed take their new place; at
    /// `LEASES_MOVED_PER_PASS` the rest of them waits for the next call, which is due at once.
    #[must_use]
    pub fn due(&mut self, now: Tick, max: usize) -> Vec<LeaseId> {
        let (mut due, mut moved) = (Vec::new(), Vec::new());
        for (queued, id) in self.deadlines.iter().take_while(|(queued, _)| *queued <= now) {
            if due.len() >= max || moved.len() >= LEASES_MOVED_PER_PASS {
                break;
            }
            let deadline = self.leases.get(id).and_then(Lease::deadline).unwrap_or(*queued);
            match deadline <= now {
                true => due.push((deadline, *id)),
                false => moved.push((*queued, deadline, *id)),
            }
        }
        for (queued, deadline, id) in moved {
            self.unqueue(id, Some(queued));
            self.deadlines.insert((deadline, id));
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.queued = Some(deadline);
            }
        }
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// When to look for leases that are due: not later than the next one is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The end of the lease is decided and on its way: no renewal until the outcome is known.
    /// False if it was to expire and is not due, as when another core has just renewed it, or a
    /// lease of its name is only on its way: then it stays.
    #[must_use]
    pub fn mark_going(&mut self, id: LeaseId, cause: Cause, now: Tick) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return cause == Cause::Revoked };
        assert!(lease.going.is_none(), "a lease ends once");
        let deadline = lease.line.deadline();
        match cause {
            Cause::Expired if !lease.line.end_if_due(now) => return false,
            Cause::Expired => {}
            Cause::Revoked => lease.line.end(),
        }
        lease.going = Some((cause, deadline));
        let queued = lease.queued.take();
        self.unqueue(id, queued);
        true
    }

    /// The lease does not end after all.
    pub fn mark_staying(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            let Some((_, deadline)) = lease.going.take() else { return };
            lease.line.set(deadline);
            lease.queued = deadline;
            self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        }
    }

    // --- questions ------------------------------------------------------------------------

    /// Whether the lease exists.
    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The TTL as granted, in seconds.
    #[must_use]
    pub fn granted_s(&self, id: LeaseId) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.line.ttl_s())
    }

    /// Whole seconds left. A lease that is due and still exists has 0 left: -1 would say that
    /// there is none. One without a deadline lasts for ever as far as this member knows.
    #[must_use]
    pub fn remaining_s(&self, id: LeaseId, now: Tick) -> Option<i64> {
        let lease = self.leases.get(&id)?;
        let Some(deadline) = lease.deadline() else {
            return Some(REMAINING_FOREVER_S);
        };
        Some(i64::try_from(deadline.since(now) / 1_000_000_000).unwrap_or(REMAINING_FOREVER_S))
    }

    /// Name and TTL in seconds of every lease, by name.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.line.ttl_s()))
    }

    /// All leases, soonest to expire first.
    #[must_use]
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        let never = Tick(u64::MAX);
        let key = |(id, lease): (&LeaseId, &Lease)| (lease.deadline().unwrap_or(never), *id);
        let mut order: Vec<(Tick, LeaseId)> = self.leases.iter().map(key).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    fn unqueue(&mut self, id: LeaseId, queued: Option<Tick>) {
        if let Some(deadline) = queued {
            let was = self.deadlines.remove(&(deadline, id));
            assert!(was, "a lease stands among the deadlines where it says");
        }
    }
}

#[cfg(test)]
mod tests;
