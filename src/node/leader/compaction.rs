//! Compaction: decided under a latch, physical once no core holds an older read.

use std::collections::BTreeSet;

use super::Leader;
use crate::base::{CoreId, Revision, ShardId, Tick};
use crate::node::coordinator::{Kind, Physical};
use crate::node::mail::{Mail, Origin};
use crate::node::{Here, Outbox};
use crate::wire::call::Answer;

/// Shards that forget what a compaction left unneeded.
#[derive(Debug)]
pub(super) struct Cut {
    begun: Tick,
    shards: BTreeSet<ShardId>,
}

impl Leader {
    pub(super) fn compact(
        &mut self,
        here: &mut Here,
        origin: Option<Origin>,
        at: Revision,
        physical: Physical,
        out: &mut Outbox,
    ) {
        let shards = here.topology.router().all();
        let kind = Kind::Compact(origin, at, physical);
        self.coordinator.begin(here, kind, shards, Vec::new(), out);
    }

    /// The compact revision, one in flight included.
    pub(in crate::node) fn compact_evaluated(&self) -> Revision {
        self.compact
    }

    pub(in crate::node) fn set_compact_evaluated(&mut self, at: Revision) {
        self.compact = at;
    }

    /// Answers `origin` once history below `at` is gone from memory.
    pub(in crate::node) fn await_cut(&mut self, origin: Origin, at: Revision, header: Revision) {
        self.awaiting_cut.entry(at).or_default().push((origin, header));
    }

    /// A compaction is visible: every core is asked when its older reads have ended.
    pub(super) fn ask_unhold(&mut self, here: &mut Here, out: &mut Outbox) {
        let visible = here.shared.compact_revision();
        let asked = self.unhold_asked;
        let due: Vec<Revision> = self.unholding.keys().copied().collect();
        for below in due.into_iter().filter(|below| asked < *below && *below <= visible) {
            self.unhold_asked = below;
            for core in here.topology.all_cores() {
                here.send(core, Mail::Unhold(below), out);
            }
        }
    }

    pub(super) fn unheld(
        &mut self,
        here: &mut Here,
        core: CoreId,
        below: Revision,
        out: &mut Outbox,
    ) {
        let Some(cores) = self.unholding.get_mut(&below) else { return };
        cores.remove(&core);
        if !cores.is_empty() {
            return;
        }
        self.unholding.remove(&below);
        // Who waits for the space itself does not wait for the next checkpoint, and if enough was
        // written to pay for one nobody does.
        let is_awaited = self.awaiting_cut.range(..=below).next().is_some();
        if is_awaited || self.checkpoints.is_worthwhile(here.config.checkpoint_behind.0) {
            self.checkpoints.want();
        }
        let router = here.topology.router();
        let cut = Cut { begun: here.now, shards: router.all().iter().collect() };
        self.cutting.insert(below, cut);
        for shard in router.all().iter() {
            here.send(here.topology.home(shard), Mail::Cut(shard, below), out);
        }
    }

    pub(super) fn has_cut(
        &mut self,
        here: &mut Here,
        shard: ShardId,
        below: Revision,
        out: &mut Outbox,
    ) {
        // A shard that was asked for two cuts forgets for both at once.
        let done: Vec<Revision> = self
            .cutting
            .range_mut(..=below)
            .filter_map(|(at, cut)| {
                cut.shards.remove(&shard);
                cut.shards.is_empty().then_some(*at)
            })
            .collect();
        for at in done {
            if let Some(cut) = self.cutting.remove(&at) {
                self.metrics.compactions.observe_ns(here.now.since(cut.begun));
                self.metrics.last_compaction.set(i64::try_from(here.now.0).unwrap_or(i64::MAX));
            }
            for (origin, header) in self.awaiting_cut.remove(&at).unwrap_or_default() {
                here.answer(origin, Ok(Answer::Header(header)), out);
            }
        }
    }
}
