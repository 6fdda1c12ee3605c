//! Every message that crosses cores. Mail between two cores arrives in the order it was sent.

use std::sync::Arc;

use crate::base::change::Stretch;
use crate::base::effect::Effect;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::shared::Position;
use crate::base::{CoreId, LeaseId, RaftIndex, Revision, ShardId, Term};
use crate::lease::Lifeline;
use crate::orderer::Proposal;
use crate::shard::eval::{Ask, Given};
use crate::shard::mvcc::hash::{HashOf, Hashed};
use crate::shard::mvcc::range::{Run, ShardAsk};
use crate::shard::wal::ChainPoint;
use crate::wire::call::{CallId, Reply, Request};

/// A call and the core that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The core.
    pub core: CoreId,
    /// The call on it.
    pub call: CallId,
}

/// A read under way: the core that assembles it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId {
    /// The core.
    pub core: CoreId,
    /// Its number.
    pub number: u64,
}

/// An operation over several shards, numbered by the coordinator.
pub type OperationId = u64;

/// What a shard is asked to read at a fixed revision.
#[derive(Clone, Debug)]
pub struct ReadAsk {
    /// Who assembles the answer.
    pub id: ReadId,
    /// The shard.
    pub shard: ShardId,
    /// Position to have applied before reading.
    pub position: Position,
    /// Revision at which `Ask::Key` and `Ask::Range` read.
    pub at: Revision,
    /// What to read.
    pub what: ReadWhat,
}

/// The kinds of reads that shards carry out.
#[derive(Clone, Debug)]
pub enum ReadWhat {
    /// Keys, ranges and leases.
    Asks(Vec<Ask>),
    /// One shard's part of a Range.
    Range(ShardAsk),
    /// What a hash sums up.
    Hash(HashOf),
}

/// A shard's share of a read.
#[derive(Clone, Debug)]
pub enum ReadShare {
    /// To `Asks`, in their order.
    Given(Vec<(Ask, Given)>),
    /// To `Range`.
    Run(Run),
    /// To `Hash`: what counts, in order.
    Hash(Vec<Hashed>),
}

/// The release of a latch: what the operation did to the shard.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// Its records on this shard, for the overlay.
    pub records: Vec<Arc<Record>>,
    /// What else it changed: leases that are gone, a compaction, an alarm.
    pub effects: Vec<Effect>,
}

/// A lease as its table knows it, waiting for its keys.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLeft {
    /// Its name.
    pub id: LeaseId,
    /// Seconds left.
    pub ttl_s: i64,
    /// The TTL as granted.
    pub granted_s: i64,
}

/// A watcher's question to a shard.
#[derive(Clone, Debug)]
pub struct CatchUp {
    /// The hub that asks.
    pub core: CoreId,
    /// Its number for the question.
    pub number: u64,
    /// The shard.
    pub shard: ShardId,
    /// The keys.
    pub range: KeyRange,
    /// Changes after this revision.
    pub after: Revision,
    /// Up to and including this one.
    pub upto: Revision,
    /// Bytes after which the shard stops at the end of a revision.
    pub bytes_max: usize,
}

/// A message from one core to another, or to itself.
#[derive(Debug)]
pub enum Mail {
    /// To a shard: evaluate a write that concerns it alone.
    Evaluate(Origin, ShardId, Request),
    /// To the orderer's core: carry out what needs the coordinator or the lease table.
    Coordinate(Origin, Request),
    /// To the orderer: evaluated operations.
    Propose(Proposal),
    /// To the orderer's core: a write met the quota. It is refused behind the alarm that is due.
    NoSpace(Origin),
    /// To the core that took the calls.
    Answers(Vec<(CallId, Reply)>),
    /// To a shard: read.
    Read(ReadAsk),
    /// To the core that assembles the read.
    Share(ReadId, ShardId, ReadShare),
    /// To a shard: stop evaluating, read these, wait for the release. Asked again of a shard
    /// that is latched already, it reads more.
    Latch(OperationId, ShardId, Vec<Ask>),
    /// To the coordinator: the shard is latched and this is what it read; whether any of it
    /// rests on what is in flight, and on which revision at most.
    Latched(OperationId, ShardId, Vec<(Ask, Given)>, Rests),
    /// To a shard: take these and go on.
    Release(OperationId, ShardId, Release),
    /// To every core: a term is open; shards may evaluate.
    Open(Term),
    /// To a shard: changes for a watcher that catches up.
    CatchUp(CatchUp),
    /// To the hub: a stretch, or the compact revision that has passed its start.
    Stretch(u64, ShardId, Result<Stretch, Revision>),
    /// To every core: say when no read below this revision is held any more.
    Unhold(Revision),
    /// To the orderer's core: none is.
    Unheld(CoreId, Revision),
    /// To a shard: forget what only reads below this revision could see.
    Cut(ShardId, Revision),
    /// To the orderer's core: the shard has forgotten it.
    HasCut(ShardId, Revision),
    /// To a shard: what it froze at this position is the state as of this entry; merge it.
    Checkpoint(ShardId, Position, ChainPoint),
    /// To the orderer's core: the shard needs the log only behind this entry.
    Checkpointed(ShardId, RaftIndex),
    /// To the orderer's core: the shard's memory is full, a checkpoint is due.
    WantsCheckpoint(ShardId),
    /// Within the orderer's core: read a lease's keys for a TimeToLive.
    LeaseKeys(Origin, LeaseLeft),
    /// To a core that kept a lease alive: with this it can do so by itself.
    Lifeline(LeaseId, Arc<Lifeline>),
    /// To the orderer's core: a page found no space, so the alarm is due.
    DiskFull,
    /// To anyone: the shared words have moved.
    Ring,
}

/// What an evaluation rests on beside committed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rests {
    /// Whether anything read was in flight, numbered or not.
    pub in_flight: bool,
    /// The highest revision in flight among what was read.
    pub revision: Revision,
}

impl Rests {
    /// Rests on what is in flight, up to a revision.
    #[must_use]
    pub fn on(revision: Revision) -> Rests {
        Rests { in_flight: true, revision }
    }

    /// Rests on either.
    #[must_use]
    pub fn and(self, other: Rests) -> Rests {
        Rests {
            in_flight: self.in_flight || other.in_flight,
            revision: self.revision.max(other.revision),
        }
    }
}
