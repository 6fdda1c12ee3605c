//! The old store as a start would make it: the log's end is applied and goes into pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::batch::Batch;
use crate::base::effect::Effect;
use crate::base::{RaftIndex, Revision, ShardId, Tick};
use crate::node::boot::{Boot, Covered};
use crate::orderer::{Base, Committed, GroupConfig, HardState, Orderer};
use crate::router::Router;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{DiskOp, FileId, PageFile, PageRef, Read};
use crate::shard::reshard::{Failed, Op, Side};
use crate::shard::store::{Ended, Halt, Settings, Store};
use crate::shard::tree::Stop;
use crate::shard::wal::ChainPoint;

/// One shard of the old store.
#[derive(Debug)]
struct Shard {
    id: ShardId,
    store: Store,
    covered: Covered,
    in_flight: usize,
    /// The page that its work waits for; `None` within: any read that ends.
    awaits: Option<Option<PageRef>>,
}

/// All of them, and what they have yet to apply.
#[derive(Debug)]
pub(super) struct Settle {
    shards: Vec<Shard>,
    batches: VecDeque<Arc<Batch>>,
    /// Where each entry of the log's end stands in it.
    points: BTreeMap<RaftIndex, ChainPoint>,
    /// Applied up to here, and the store's revision there.
    at: ChainPoint,
    revision: Revision,
    /// A checkpoint has begun in this life.
    has_begun: bool,
    is_settled: bool,
}

impl Settle {
    pub(super) fn new(
        boot: Boot,
        member: u64,
        router: Router,
        settings: Settings,
    ) -> Result<Settle, Failed> {
        let mut shards = Vec::new();
        for (id, start) in (0..).map(ShardId).zip(&boot.starts) {
            let leases = start.leases().collect();
            let store = Store::open(start.superblock, start.file_bytes, leases, settings);
            let store = store.map_err(|what| Failed::Root { file: FileId(id), what })?;
            let covered = start.covered();
            shards.push(Shard { id, store, covered, in_flight: 0, awaits: None });
        }
        let points = boot.recovered.points().map(|point| (point.index, point)).collect();
        let oldest = boot.oldest().state;
        let batches = log_end(boot, member, router)?;
        // A checkpoint ends with a batch; so does the log, with that one or a later one.
        let end = batches.back().map_or(oldest.applied.index, |batch| batch.index);
        let ahead = shards.iter().find(|shard| shard.store.checkpointed() > end);
        if let Some(shard) = ahead {
            return Err(Failed::Apart { file: FileId(shard.id) });
        }
        Ok(Settle {
            shards,
            batches,
            points,
            at: oldest.applied,
            revision: oldest.revision,
            has_begun: false,
            is_settled: false,
        })
    }

    /// A slice of the work. True if there is more of it now.
    pub(super) fn work(&mut self, out: &mut Vec<Op>) -> Result<bool, Failed> {
        let mut more = false;
        for shard in self.shards.iter_mut().filter(|_| self.has_begun) {
            more |= shard.work(out)?;
        }
        if more || self.shards.iter().any(Shard::is_busy) {
            return Ok(more);
        }
        self.apply();
        let behind = self.shards.iter().any(|shard| shard.store.checkpointed() < self.at.index);
        if !behind {
            self.is_settled = self.batches.is_empty();
            return Ok(!self.is_settled);
        }
        for shard in &mut self.shards {
            shard.store.freeze(self.revision);
            shard.store.begin_checkpoint(self.at);
        }
        self.has_begun = true;
        Ok(true)
    }

    /// Whether all of the log is in the pages.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// The last entry that is applied.
    pub(super) fn applied(&self) -> RaftIndex {
        self.at.index
    }

    /// The page files of a store that is settled.
    pub(super) fn into_files(self) -> Vec<PageFile> {
        assert!(self.is_settled, "page files were taken from a store at work");
        self.shards.into_iter().map(|shard| shard.store.into_file()).collect()
    }

    /// Applies what the log holds, as far as memory goes.
    fn apply(&mut self) {
        let newest = self
            .shards
            .iter()
            .map(|shard| shard.store.checkpointed())
            .max()
            .expect("a member has a shard");
        while let Some(batch) = self.batches.pop_front() {
            self.shards.iter_mut().for_each(|shard| shard.apply(&batch));
            let point = self.points.get(&batch.index);
            self.at = *point.expect("a batch ends with an entry of the log");
            self.revision = batch.last;
            // A checkpoint of a shard is never older than the one that it has.
            let is_full = self.shards.iter().any(|shard| shard.store.wants_checkpoint());
            if is_full && batch.index >= newest {
                return;
            }
        }
    }

    pub(super) fn on_read(
        &mut self,
        shard: ShardId,
        token: Token,
        result: Result<Bytes, DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        let shard = &mut self.shards[usize::from(shard.0)];
        let mut ops = Vec::new();
        let read = shard.store.on_read(token, result, &mut ops).map_err(fault)?;
        let (Read::Page(at) | Read::Checked(at) | Read::Void(at)) = read;
        shard.awaits.take_if(|awaited| awaited.is_none_or(|awaited| awaited == at));
        shard.in_flight -= 1;
        shard.send(ops, out);
        Ok(())
    }

    pub(super) fn on_done(
        &mut self,
        shard: ShardId,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        let shard = &mut self.shards[usize::from(shard.0)];
        let mut ops = Vec::new();
        let ended = shard.store.on_done(token, result, &mut ops).map_err(fault)?;
        if ended == Some(Ended::NoSpace) {
            return Err(Failed::NoSpace { side: Side::Old, file: FileId(shard.id) });
        }
        shard.in_flight -= 1;
        shard.send(ops, out);
        Ok(())
    }
}

impl Shard {
    fn is_busy(&self) -> bool {
        self.store.has_checkpoint() || self.in_flight > 0
    }

    fn apply(&mut self, batch: &Batch) {
        for placed in &batch.effects {
            let is_mine = placed.shard.is_none_or(|shard| shard == self.id);
            if !is_mine || self.covered.has(batch.index, &placed.effect) {
                continue;
            }
            match &placed.effect {
                Effect::Record(record) => self.store.apply(Arc::clone(record)),
                Effect::Grant { id, ttl_s } => self.store.grant(*id, *ttl_s),
                Effect::Revoke { id } => self.store.revoke(*id),
                Effect::Compact { at } => self.store.compact(*at),
                Effect::Alarm { member, kind, raised } => {
                    self.store.alarm(*member, *kind, *raised);
                }
            }
        }
    }

    fn work(&mut self, out: &mut Vec<Op>) -> Result<bool, Failed> {
        if self.awaits.is_some() {
            return Ok(false);
        }
        let mut ops = Vec::new();
        let worked = self.store.work(Tick(0), &mut ops);
        let more = match worked {
            Ok(more) => more,
            Err(Halt::Stop(Stop::Wanted(pages))) => {
                let is_taken = self.store.wish(&pages, &mut ops);
                self.awaits = Some(pages.first().copied().filter(|_| is_taken));
                false
            }
            Err(Halt::Stop(Stop::Damaged(what))) => {
                return Err(Failed::Tree { file: FileId(self.id), what });
            }
            Err(Halt::Fault(halt)) => return Err(fault(halt)),
        };
        self.send(ops, out);
        Ok(more)
    }

    fn send(&mut self, ops: Vec<DiskOp>, out: &mut Vec<Op>) {
        self.in_flight += ops.len();
        let shard = self.id;
        out.extend(ops.into_iter().map(|op| Op { side: Side::Old, shard, op }));
    }
}

fn fault(fault: crate::shard::pages::Fault) -> Failed {
    Failed::Fault { side: Side::Old, fault }
}

/// What the log's end comes to, in order. An operation that was not written to its end comes to
/// nothing, here as at a start.
///
/// # Errors
/// [`Failed`]: its entries are no effects of this format.
pub fn log_end(boot: Boot, member: u64, router: Router) -> Result<VecDeque<Arc<Batch>>, Failed> {
    let ChainPoint { index, term, .. } = boot.oldest().state.applied;
    let base = Base { index, term, revision: boot.oldest().state.revision };
    let group =
        GroupConfig { member, election_ticks: 10, heartbeat_ticks: 1, shards: router.all() };
    let found = boot.recovered.hard_state;
    let hard_state = HardState { term: found.term, vote: found.vote, commit: found.commit };
    let place = |key: &[u8]| router.shard_of(key);
    let mut orderer =
        Orderer::recover(group, hard_state, base, boot.entries, place).map_err(Failed::Log)?;
    let mut committed = VecDeque::new();
    orderer.replay(&mut committed);
    Ok(committed.into_iter().map(|Committed { batch, .. }| batch).collect())
}
