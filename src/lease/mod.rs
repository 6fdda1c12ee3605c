//! lease — which leases there are, and when the leader lets them end.
//! Beside the road of a write. In: grants and revokes as applied, keep-alives. Out: who is due.
//! Owns: TTLs, and on the leader deadlines, which all cores may move on, and who is going.
//! Invariants: (1) a lease has a deadline only while this member leads; (2) a deadline moves
//!             forward only; (3) a lease that is going is neither renewed nor due.
//! Limits: LEASE_TTL_MAX_S, LEASE_EXPIRIES_PER_PASS, LEASE_EXPIRIES_PER_S.
//! Must not: read a clock; know keys; decide that a lease is gone (the log does).
//! Tests: at the bottom of each file (rules, and a model on random steps).

mod lifeline;
mod table;

use crate::base::limits::LEASE_TTL_MAX_S;
use crate::base::metrics::{Counter, Histogram};
use crate::base::reject::Reject;

pub use lifeline::Lifeline;
pub use table::LeaseTable;

/// What a keep-alive comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives on for this TTL in seconds.
    Renewed(i64),
    /// There is no such lease.
    Missing,
    /// The lease is about to end: wait for the outcome and ask again.
    Going,
    /// This member does not lead and has no deadlines: ask the leader.
    NotLeading,
}

/// Why a lease is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A client asked for it.
    Revoked,
    /// Its deadline has come.
    Expired,
}

/// What the lease table counts.
#[derive(Debug)]
pub struct LeaseMetrics {
    /// Leases granted.
    pub granted: Counter,
    /// Leases ended, expired ones included.
    pub revoked: Counter,
    /// Leases that this member ended as their leader because their time had come.
    pub expired: Counter,
    /// TTLs granted, from one second on.
    pub ttl: Histogram<24>,
}

impl Default for LeaseMetrics {
    fn default() -> LeaseMetrics {
        LeaseMetrics {
            granted: Counter::default(),
            revoked: Counter::default(),
            expired: Counter::default(),
            ttl: Histogram::new(1_000_000_000),
        }
    }
}

/// The least TTL in seconds: one and a half elections, so that no lease ends while the group is
/// between two leaders.
#[must_use]
pub fn min_ttl_s(election_ticks: usize, heartbeat_ms: u64) -> i64 {
    let ticks = 3 * election_ticks as u64 / 2;
    let ms = ticks.saturating_mul(heartbeat_ms);
    i64::try_from(ms.div_ceil(1_000)).unwrap_or(LEASE_TTL_MAX_S)
}

/// The TTL that a grant of `asked_s` seconds is given.
///
/// # Errors
/// [`Reject::LeaseTtlTooLarge`] above the largest TTL.
pub fn ttl_in_force_s(asked_s: i64, min_s: i64) -> Result<i64, Reject> {
    if asked_s > LEASE_TTL_MAX_S {
        return Err(Reject::LeaseTtlTooLarge);
    }
    Ok(asked_s.max(min_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_ttl_is_one_and_a_half_elections_rounded_up() {
        for (ticks, heartbeat_ms, expect) in
            [(10, 100, 2), (10, 500, 8), (3, 100, 1), (100, 100, 15), (11, 1_000, 16)]
        {
            assert_eq!(min_ttl_s(ticks, heartbeat_ms), expect, "{ticks} of {heartbeat_ms} ms");
        }
    }

    #[test]
    fn a_ttl_is_raised_to_the_least_and_refused_above_the_largest() {
        let cases = [
            (-5, Ok(2)),
            (0, Ok(2)),
            (2, Ok(2)),
            (60, Ok(60)),
            (LEASE_TTL_MAX_S, Ok(LEASE_TTL_MAX_S)),
            (LEASE_TTL_MAX_S + 1, Err(Reject::LeaseTtlTooLarge)),
        ];
        for (asked_s, expect) in cases {
            assert_eq!(ttl_in_force_s(asked_s, 2), expect, "{asked_s}");
        }
    }
}
