//! A lease's deadline as one word, so that any core can renew the lease without asking another.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Renewal;
use crate::base::Tick;

/// This member does not lead.
const NONE: u64 = 0;
/// The lease is going, or gone.
const GOING: u64 = u64::MAX;

/// What all cores share of a lease. The table alone starts and ends it; everyone moves it on.
#[derive(Debug)]
pub struct Lifeline {
    ttl_s: i64,
    deadline: AtomicU64,
}

impl Lifeline {
    pub(super) fn new(ttl_s: i64) -> Lifeline {
        Lifeline { ttl_s, deadline: AtomicU64::new(NONE) }
    }

    /// The TTL as granted, in seconds.
    #[must_use]
    pub fn ttl_s(&self) -> i64 {
        self.ttl_s
    }

    /// A keep-alive: a whole TTL from now on, unless more was promised. Once that is said, no
    /// expiry of an earlier deadline can begin.
    pub fn renew(&self, now: Tick) -> Renewal {
        let until = after(now, self.ttl_s).0;
        let mut known = self.deadline.load(Ordering::Acquire);
        loop {
            match known {
                NONE => return Renewal::NotLeading,
                GOING => return Renewal::Going,
                later if later >= until => return Renewal::Renewed(self.ttl_s),
                _ => {}
            }
            let swapped = self.deadline.compare_exchange_weak(
                known,
                until,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swapped {
                Ok(_) => return Renewal::Renewed(self.ttl_s),
                Err(newer) => known = newer,
            }
        }
    }

    /// The deadline; none while this member does not lead, and once the lease is going.
    pub(super) fn deadline(&self) -> Option<Tick> {
        let deadline = self.deadline.load(Ordering::Acquire);
        (deadline != NONE && deadline != GOING).then_some(Tick(deadline))
    }

    pub(super) fn set(&self, deadline: Option<Tick>) {
        let word = deadline.map_or(NONE, |at| at.0.clamp(NONE + 1, GOING - 1));
        self.deadline.store(word, Ordering::Release);
    }

    /// From here on nothing renews it.
    pub(super) fn end(&self) {
        self.deadline.store(GOING, Ordering::Release);
    }

    /// The same, unless a renewal was faster. True if it ended.
    pub(super) fn end_if_due(&self, now: Tick) -> bool {
        let due = |known| (known != NONE && known <= now.0).then_some(GOING);
        self.deadline.fetch_update(Ordering::AcqRel, Ordering::Acquire, due).is_ok()
    }
}

pub(super) fn after(now: Tick, ttl_s: i64) -> Tick {
    now.plus_ms(ttl_s.unsigned_abs().saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Tick {
        Tick(0).plus_ms(ms)
    }

    #[test]
    fn nothing_is_renewed_before_its_time_or_behind_its_end() {
        let line = Lifeline::new(5);
        assert_eq!(line.renew(at_ms(1)), Renewal::NotLeading);
        line.set(Some(at_ms(9_000)));
        assert_eq!(line.renew(at_ms(1_000)), Renewal::Renewed(5));
        assert_eq!(line.deadline(), Some(at_ms(9_000)), "more was promised");
        assert_eq!(line.renew(at_ms(5_000)), Renewal::Renewed(5));
        assert_eq!(line.deadline(), Some(at_ms(10_000)));
        line.end();
        assert_eq!(line.renew(at_ms(5_000)), Renewal::Going);
        assert_eq!(line.deadline(), None);
    }

    /// Either the renewal or the end wins, whichever cores they come from.
    #[test]
    fn a_renewal_and_an_expiry_never_both_succeed() {
        for _ in 0..2_000 {
            let line = Lifeline::new(5);
            line.set(Some(at_ms(1_000)));
            let (renewed, ended) = std::thread::scope(|scope| {
                let renewal = scope.spawn(|| line.renew(at_ms(1_000)));
                let ended = line.end_if_due(at_ms(1_000));
                (renewal.join().expect("a renewal"), ended)
            });
            assert_eq!(renewed == Renewal::Going, ended, "{renewed:?}");
        }
    }
}
