//! Keep-alives that a core answers by itself, for leases that it has heard of.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::limits::LIFELINES_PER_CORE_MAX;
use crate::base::{LeaseId, Tick};
use crate::lease::{Lifeline, Renewal};

/// The lifelines of leases that were kept alive on this core.
#[derive(Debug, Default)]
pub(super) struct Renewer {
    lines: BTreeMap<LeaseId, Arc<Lifeline>>,
}

impl Renewer {
    /// The TTL in seconds of a lease that lives on. `None`: the orderer's core has to be asked,
    /// who knows whether the lease is new, going or gone.
    pub(super) fn renew(&mut self, id: LeaseId, now: Tick) -> Option<i64> {
        let renewal = self.lines.get(&id)?.renew(now);
        if let Renewal::Renewed(ttl_s) = renewal {
            return Some(ttl_s);
        }
        self.lines.remove(&id);
        None
    }

    /// The orderer's core has renewed this lease for this one.
    pub(super) fn know(&mut self, id: LeaseId, line: Arc<Lifeline>) {
        if self.lines.len() >= LIFELINES_PER_CORE_MAX {
            self.lines.clear();
        }
        self.lines.insert(id, line);
    }
}
