//! When checkpoints begin, and what of the log they make free.
//!
//! A checkpoint is one place in the ring, at which every shard freezes what it has applied. The
//! next one begins when all shards have ended the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Leader;
use crate::base::batch::Batch;
use crate::base::effect::Effect;
use crate::base::{RaftIndex, Revision, ShardId, Term};
use crate::node::mail::Mail;
use crate::node::{Here, Outbox};

/// Checkpoints of this member's shards.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// The last entry that was published, and the store's revision behind it.
    last: ((RaftIndex, Term), Revision),
    /// Records and bytes of log since the newest checkpoint began.
    records: u64,
    bytes: u64,
    wanted: bool,
    under_way: BTreeSet<ShardId>,
}

impl Checkpoints {
    pub(super) fn new(at: (RaftIndex, Term), revision: Revision) -> Checkpoints {
        let under_way = BTreeSet::new();
        Checkpoints { last: (at, revision), records: 0, bytes: 0, wanted: false, under_way }
    }

    /// A batch is published.
    pub(super) fn passed(&mut self, batch: &Batch) {
        self.last = ((batch.index, batch.term), batch.last);
        let is_record =
            |placed: &&crate::base::batch::Placed| matches!(placed.effect, Effect::Record(_));
        self.records += batch.effects.iter().filter(is_record).count() as u64;
        let bytes = batch.effects.iter().map(|placed| placed.effect.log_len() as u64);
        self.bytes += bytes.sum::<u64>();
    }

    /// Whether a sixteenth of the records is there behind which one is due anyway.
    pub(super) fn is_worthwhile(&self, records_max: u64) -> bool {
        self.records >= records_max / 16
    }

    /// One is due, however little was written.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }
}

impl Leader {
    /// Begins a checkpoint if one is due. True if it did.
    pub(super) fn begin_checkpoint(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let (records_max, bytes_max) = here.config.checkpoint_behind;
        let Checkpoints { last: (at, revision), records, bytes, wanted, under_way } =
            &mut self.checkpoints;
        let is_due = *wanted || *records >= records_max || *bytes >= bytes_max;
        if !is_due || !under_way.is_empty() || !here.shared.has_room() {
            return false;
        }
        let point = self.wal.point(at.0).expect("the log holds what no checkpoint covers");
        let position = here.shared.publish(Arc::new(Batch::checkpoint(*at, *revision)));
        (*records, *bytes, *wanted) = (0, 0, false);
        under_way.extend(here.topology.router().all().iter());
        for shard in here.topology.router().all().iter() {
            let mail = Mail::Checkpoint(shard, position, point);
            here.send(here.topology.home(shard), mail, out);
        }
        true
    }

    /// A shard has ended its checkpoint. When all have, the log up to there is free.
    pub(super) fn checkpointed(&mut self, shard: ShardId, index: RaftIndex, out: &mut Outbox) {
        let under_way = &mut self.checkpoints.under_way;
        assert!(under_way.remove(&shard), "shard {shard} ended a checkpoint that it had not begun");
        if under_way.is_empty() {
            self.wal.release(index, &mut out.disk);
            self.metrics.checkpoints.one();
        }
    }
}
