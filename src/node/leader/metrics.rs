//! What the orderer's core counts, and what it reports of every batch that became visible.

use crate::base::Tick;
use crate::base::batch::Placed;
use crate::base::effect::Effect;
use crate::base::metrics::{Counter, Gauge, Histogram};
use crate::orderer::Prepared;
use crate::wire::call::Answer;

/// Counters of the orderer's core.
#[derive(Debug)]
pub struct LeaderMetrics {
    /// Batches committed.
    pub batches: Counter,
    /// Log writes begun.
    pub log_writes: Counter,
    /// Time that the shards took to forget what a compaction left unneeded.
    pub compactions: Histogram<14>,
    /// Checkpoints that all shards have ended.
    pub checkpoints: Counter,
    /// The tick at which the last of them ended, 0 before the first.
    pub last_compaction: Gauge,
}

impl Default for LeaderMetrics {
    fn default() -> LeaderMetrics {
        LeaderMetrics {
            batches: Counter::default(),
            log_writes: Counter::default(),
            compactions: Histogram::new(100_000_000),
            checkpoints: Counter::default(),
            last_compaction: Gauge::default(),
        }
    }
}

/// A batch that became visible in a step: its operations by kind, and since when it is
/// committed. A step has no clock; whoever drives it knows how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// The tick of the step that published it.
    pub committed: Tick,
    /// How many of each of [`Applied::NAMES`].
    pub counts: [u32; 7],
}

impl Applied {
    /// The kinds of operations, by their names in etcd's metrics.
    pub const NAMES: [&'static str; 7] =
        ["Put", "DeleteRange", "Txn", "Compaction", "LeaseGrant", "LeaseRevoke", "Alarm"];

    /// Counts a batch. A write of keys is counted by its answer, as its effects do not tell;
    /// everything else by its effect, since not all of it is asked for by a client.
    pub(super) fn of(committed: Tick, effects: &[Placed], answers: &[Prepared]) -> Applied {
        let mut counts = [0; 7];
        for prepared in answers {
            match &prepared.reply {
                Ok(Answer::Put(_)) => counts[0] += 1,
                Ok(Answer::DeleteRange(_)) => counts[1] += 1,
                Ok(Answer::Txn(_)) => counts[2] += 1,
                _ => {}
            }
        }
        for placed in effects {
            match &placed.effect {
                Effect::Record(_) => {}
                Effect::Compact { .. } => counts[3] += 1,
                Effect::Grant { .. } => counts[4] += 1,
                Effect::Revoke { .. } => counts[5] += 1,
                Effect::Alarm { .. } => counts[6] += 1,
            }
        }
        Applied { committed, counts }
    }
}
