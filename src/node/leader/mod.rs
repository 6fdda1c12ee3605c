//! node::leader — what the orderer's core does beside its shards.
//! Steps 3 to 5 of a write. In: proposals, disk completions, time. Out: log writes, published
//! batches, answers.
//! Owns: the group's member, the log, the coordinator, the lease table, alarms, compaction.
//! Invariants: (1) a batch is published only once it is durable; (2) an answer leaves only once
//!             its batch is visible; (3) nothing is evaluated before the term's first entry is.
//! Limits: BATCHES_IN_FLIGHT_MAX, LEASE_EXPIRIES_PER_PASS.
//! Must not: touch a record's bytes; retry what the disk refused.
//! Tests: tests/sim.rs.

mod alarms;
mod checkpoints;
mod compaction;
mod leases;
mod metrics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::batch::Batch;
use crate::base::effect::{AlarmKind, Effect};
use crate::base::limits::{BATCHES_IN_FLIGHT_MAX, OPERATIONS_MAX};
use crate::base::prng::Prng;
use crate::base::record::Malformed;
use crate::base::reject::Reject;
use crate::base::shared::Position;
use crate::base::{CoreId, LeaseId, RaftIndex, Revision, Tick};
use crate::cluster::compactor::Compactor;
use crate::lease::{LeaseMetrics, LeaseTable};
use crate::node::coordinator::{Coordinator, Kind, Physical};
use crate::node::mail::{Mail, Origin, Rests};
use crate::node::{Boot, Here, NodeConfig, Outbox, Topology};
use crate::orderer::{Base, Committed, GroupConfig, LogEntry, Orderer, Prepared};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::eval::Conditions;
use crate::shard::wal::{self, ChainPoint, Wal};
use crate::wire::call::{Answer, Request, StatusAnswer};

use checkpoints::Checkpoints;
use compaction::Cut;
pub use metrics::{Applied, LeaderMetrics};

/// Why a member cannot start from what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The log's entries are intact and yet no effects of this format.
    Malformed(Malformed),
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BootError::Malformed(Malformed(what)) = self;
        write!(f, "the log holds {what}: it was written by another version of ringbolt")
    }
}

/// A change of alarms.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) enum AlarmChange {
    Raise(u64, AlarmKind),
    Clear(u64, AlarmKind),
}

/// A committed batch whose answers wait until it is visible.
#[derive(Debug)]
struct Awaiting {
    position: Position,
    answers: Vec<Prepared>,
    credit: usize,
    /// `None`: it was in the log when the member started.
    applied: Option<Applied>,
}

/// The orderer's core's own part.
#[derive(Debug)]
pub struct Leader {
    pub(in crate::node) orderer: Orderer,
    pub(in crate::node) coordinator: Coordinator,
    wal: Wal,
    /// Entries that wait for a lane.
    waiting: VecDeque<wal::Entry>,
    hard_state: wal::HardState,
    publishing: VecDeque<Committed>,
    awaiting: VecDeque<Awaiting>,
    published: Position,
    /// Position of the open term's first entry, once published.
    own_entry: Option<Position>,
    started: bool,
    stopping: bool,
    next_tick: Tick,
    // Leases.
    leases: LeaseTable,
    lease_metrics: Arc<LeaseMetrics>,
    going: BTreeSet<LeaseId>,
    granting: BTreeSet<LeaseId>,
    /// Who waits for a lease that is going to be gone, and how many there are.
    after_end: BTreeMap<LeaseId, Vec<leases::Waiting>>,
    after_end_count: usize,
    expiry_under_way: bool,
    prng: Prng,
    // Alarms and compaction, what is in flight included.
    alarms: BTreeSet<(u64, AlarmKind)>,
    alarms_in_flight: u32,
    /// Calls that are refused for want of space once the alarm is raised, as many as are
    /// admitted at most.
    no_space: Vec<Origin>,
    compact: Revision,
    compactor: Compactor,
    /// Cores that still hold reads below a compaction.
    unholding: BTreeMap<Revision, BTreeSet<CoreId>>,
    /// The newest of them that the cores were asked about.
    unhold_asked: Revision,
    /// Shards that still have to forget.
    cutting: BTreeMap<Revision, Cut>,
    awaiting_cut: BTreeMap<Revision, Vec<(Origin, Revision)>>,
    queued: VecDeque<(Origin, Request)>,
    checkpoints: Checkpoints,
    /// What the leases and alarms of the start cover.
    meta_index: RaftIndex,
    metrics: Arc<LeaderMetrics>,
}

impl Leader {
    /// The part over a recovered log. Disk operations begin in `out`.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn boot(
        boot: Boot,
        config: &NodeConfig,
        topology: &Topology,
        now: Tick,
        out: &mut Outbox,
    ) -> Result<Leader, BootError> {
        let router = topology.router();
        let group = GroupConfig {
            member: config.member,
            election_ticks: config.election_ticks,
            heartbeat_ticks: 1,
            shards: router.all(),
        };
        let found = boot.recovered.hard_state;
        let hard_state =
            crate::orderer::HardState { term: found.term, vote: found.vote, commit: found.commit };
        let lease_metrics = Arc::new(LeaseMetrics::default());
        let oldest = boot.oldest().state;
        let ChainPoint { index, term, .. } = oldest.applied;
        let base = Base { index, term, revision: oldest.revision };
        let meta_index = boot.starts[0].meta_index;
        let mut leases = LeaseTable::new(Arc::clone(&lease_metrics));
        boot.leases().for_each(|(id, ttl_s)| leases.grant(id, ttl_s, now));
        let alarms = boot.starts[0].alarms().collect();
        let compact = oldest.compact_revision;
        let orderer =
            Orderer::recover(group, hard_state, base, boot.entries, |key| router.shard_of(key))
                .map_err(BootError::Malformed)?;
        let wal = Wal::open(boot.layout, &boot.recovered, now, &mut out.disk);
        Ok(Leader {
            orderer,
            coordinator: Coordinator::default(),
            wal,
            waiting: VecDeque::new(),
            hard_state: found,
            publishing: VecDeque::new(),
            awaiting: VecDeque::new(),
            published: 0,
            own_entry: None,
            started: false,
            stopping: false,
            next_tick: now,
            leases,
            lease_metrics,
            going: BTreeSet::new(),
            granting: BTreeSet::new(),
            after_end: BTreeMap::new(),
            after_end_count: 0,
            expiry_under_way: false,
            prng: Prng::new(config.seed),
            alarms,
            alarms_in_flight: 0,
            no_space: Vec::new(),
            compact,
            compactor: Compactor::new(config.compaction),
            unholding: BTreeMap::new(),
            unhold_asked: Revision(-1),
            cutting: BTreeMap::new(),
            awaiting_cut: BTreeMap::new(),
            queued: VecDeque::new(),
            checkpoints: Checkpoints::new((index, term), oldest.revision),
            meta_index,
            metrics: Arc::default(),
        })
    }

    /// Whether a term is open: clients can be served.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.orderer.opened().is_some()
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<LeaderMetrics> {
        Arc::clone(&self.metrics)
    }

    /// The lease table's counters.
    #[must_use]
    pub fn lease_metrics(&self) -> Arc<LeaseMetrics> {
        Arc::clone(&self.lease_metrics)
    }

    /// Operations that wait for the log: proposals pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.orderer.waiting() + self.orderer.uncommitted() + self.coordinator.len()
    }

    /// Takes no more time-driven work on and stamps the log as soon as it is idle.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether everything is durable, witnessed and answered.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopping
            && self.wal.is_idle()
            && self.wal.stamp_due().is_none()
            && self.waiting.is_empty()
            && self.awaiting.is_empty()
    }

    // --- the log --------------------------------------------------------------------------

    /// A disk operation has ended. A failure is final.
    pub(in crate::node) fn on_disk(
        &mut self,
        token: u64,
        result: Result<(), DiskFault>,
        out: &mut Outbox,
    ) {
        if let Err(fault) = self.wal.on_done(Token(token), result, &mut out.disk) {
            out.halt.get_or_insert_with(|| fault.to_string());
        }
    }

    /// Moves everything that can move. True if anything did.
    pub(in crate::node) fn advance(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let mut moved = self.persisted();
        moved |= self.publish(here, out);
        moved |= self.release(here, out);
        moved |= self.open_term(here, out);
        moved |= self.time(here, out);
        moved |= self.write(here, out);
        self.wake(here.now, out);
        moved
    }

    /// Tells raft what is durable.
    fn persisted(&mut self) -> bool {
        let durable = self.wal.durable();
        if !self.started || self.wal.fault().is_some() {
            return false;
        }
        let before = self.publishing.len();
        self.orderer.persisted(durable, &mut self.publishing);
        self.publishing.len() != before
    }

    /// Publishes committed batches, in order, while the ring has room.
    fn publish(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let mut moved = false;
        while here.shared.has_room() {
            let Some(Committed { batch, answers, credit }) = self.publishing.pop_front() else {
                break;
            };
            moved = true;
            self.observe(here, &batch, out);
            self.checkpoints.passed(&batch);
            let (index, term, shards) = (batch.index, batch.term, batch.shards);
            let is_open = self.is_open();
            let applied = is_open.then(|| Applied::of(here.now, &batch.effects, &answers));
            let is_own = batch.effects.is_empty() && term == self.orderer.term();
            self.published = here.shared.publish(batch);
            if is_own && self.own_entry.is_none() {
                self.own_entry = Some(self.published);
            }
            debug_assert!(index.0 > 0);
            self.metrics.batches.one();
            let position = self.published;
            self.awaiting.push_back(Awaiting { position, answers, credit, applied });
            for core in here.topology.all_cores().filter(|core| *core != here.core) {
                let concerned = here.topology.shards_on(core).iter().any(|s| shards.contains(s));
                if concerned || here.shared.wants_committed(core) {
                    out.mail.push((core, Mail::Ring));
                }
            }
        }
        moved |= self.begin_checkpoint(here, out);
        // Said before looking again: who makes room from here on rings this core.
        here.shared.want_room(!self.publishing.is_empty());
        if moved {
            here.advance_visible(out);
        }
        moved || !self.publishing.is_empty() && here.shared.has_room()
    }

    /// Takes from a committed batch what this core keeps for itself.
    fn observe(&mut self, here: &mut Here, batch: &Batch, out: &mut Outbox) {
        let is_known = batch.index <= self.meta_index;
        for placed in &batch.effects {
            match &placed.effect {
                Effect::Record(_) => {}
                Effect::Grant { .. } | Effect::Revoke { .. } | Effect::Alarm { .. } if is_known => {
                }
                Effect::Grant { id, ttl_s } => {
                    self.granting.remove(id);
                    self.leases.grant(*id, *ttl_s, here.now);
                }
                Effect::Revoke { id } => {
                    self.going.remove(id);
                    self.leases.revoke(*id);
                    self.lease_ended(here, *id, out);
                }
                Effect::Compact { at } => {
                    self.compact = self.compact.max(*at);
                    self.unholding.insert(*at, here.topology.all_cores().collect());
                }
                Effect::Alarm { member, kind, raised } => {
                    match self.alarms_in_flight.checked_sub(1) {
                        Some(left) => self.alarms_in_flight = left,
                        None => self.set_alarm(*member, *kind, *raised),
                    }
                }
            }
        }
    }

    /// Releases the answers of what is visible.
    fn release(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let visible = here.shared.visible();
        let mut moved = false;
        let mut elsewhere: BTreeMap<CoreId, Vec<_>> = BTreeMap::new();
        while self.awaiting.front().is_some_and(|front| front.position <= visible) {
            let Some(done) = self.awaiting.pop_front() else { break };
            moved = true;
            here.shared.return_credit(done.credit);
            out.applied.extend(done.applied);
            for Prepared { core, call, reply } in done.answers {
                if core == here.core {
                    out.replies.push((call, reply));
                } else {
                    elsewhere.entry(core).or_default().push((call, reply));
                }
            }
        }
        for (core, replies) in elsewhere {
            out.mail.push((core, Mail::Answers(replies)));
        }
        if moved {
            self.ask_unhold(here, out);
        }
        moved
    }

    /// The term's first entry is applied: from here on operations may be evaluated.
    fn open_term(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let Some(own) = self.own_entry else { return false };
        if self.is_open() || here.shared.visible() < own || !self.publishing.is_empty() {
            return false;
        }
        let revision = here.shared.visible_revision();
        here.shared.open_counter_at(revision);
        self.orderer.open(revision);
        let term = self.orderer.term();
        here.shared.set_term(term, true);
        let election_ms = here.config.tick_ms * here.config.election_ticks as u64;
        self.leases.lead(here.now, election_ms);
        for core in here.topology.all_cores() {
            here.send(core, Mail::Open(term), out);
        }
        for (origin, request) in std::mem::take(&mut self.queued) {
            self.coordinate(here, origin, request, out);
        }
        true
    }

    /// Gives waiting entries to free lanes, and a stamp to an idle log.
    fn write(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let mut moved = false;
        let mut settled = Vec::new();
        while self.wal.has_free_lane() && self.in_flight() < BATCHES_IN_FLIGHT_MAX {
            if let Some(entry) = self.orderer.next_entry(&mut settled) {
                self.take_entry(entry);
            }
            if self.waiting.is_empty() {
                break;
            }
            let hard_state = Some(self.hard_state);
            self.wal.append(here.now, &mut self.waiting, hard_state, &mut out.disk);
            self.metrics.log_writes.one();
            moved = true;
        }
        moved |= !settled.is_empty();
        self.settle(here, settled, out);
        let due = self.wal.stamp_due().is_some_and(|due| due <= here.now || self.stopping);
        if due && self.wal.has_free_lane() && self.wal.is_idle() && self.waiting.is_empty() {
            self.wal.stamp(here.now, Some(self.hard_state), &mut out.disk);
            moved = true;
        }
        moved
    }

    fn in_flight(&self) -> usize {
        let logged = self.wal.last().index.0 - self.wal.durable().0;
        usize::try_from(logged).unwrap_or(usize::MAX)
    }

    fn take_entry(&mut self, entry: LogEntry) {
        let LogEntry { index, term, hard_state, chunks } = entry;
        self.hard_state = wal::HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        };
        self.waiting.push_back(wal::Entry { index, term, chunks });
    }

    /// Answers that rest on nothing in the log any more leave with the newest batch.
    fn settle(&mut self, here: &mut Here, settled: Vec<Prepared>, out: &mut Outbox) {
        if settled.is_empty() {
            return;
        }
        if let Some(last) = self.publishing.back_mut() {
            last.answers.extend(settled);
        } else if let Some(last) = self.awaiting.back_mut() {
            last.answers.extend(settled);
        } else {
            for Prepared { core, call, reply } in settled {
                here.answer(Origin { core, call }, reply, out);
            }
        }
    }

    // --- time -----------------------------------------------------------------------------

    fn time(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let before = self.publishing.len();
        if !self.started {
            // A lone voter needs no timeout to know that there is no other leader. Its own
            // entry goes to disk first, as all do.
            self.started = true;
            self.orderer.campaign(&mut self.publishing);
            here.shared.set_term(self.orderer.term(), false);
            self.next_tick = here.now.plus_ms(here.config.tick_ms);
        }
        if self.next_tick <= here.now {
            self.orderer.tick(&mut self.publishing);
            if self.wal.is_out_of_space() {
                self.wal.retry_space(&mut out.disk);
            }
            self.next_tick = here.now.plus_ms(here.config.tick_ms);
        }
        let mut moved = self.publishing.len() != before;
        if self.is_open() && !self.stopping {
            moved |= self.expire(here, out);
            let revision = here.shared.visible_revision();
            if let Some(at) = self.compactor.tick(here.now, revision) {
                self.compact(here, None, at, Physical::No, out);
                moved = true;
            }
        }
        moved
    }

    fn wake(&self, now: Tick, out: &mut Outbox) {
        out.wake(self.next_tick);
        let open = self.is_open() && !self.stopping;
        let expires = open && !self.expiry_under_way && !self.is_corrupt();
        let expiry = self.leases.next_deadline().filter(|_| expires);
        let compaction = self.compactor.wake_at().filter(|_| open);
        // While a write is under way, or no lane is free, the disk is what wakes this core.
        let stamp = self.wal.stamp_due().filter(|due| *due > now);
        for at in [expiry, compaction, stamp].into_iter().flatten() {
            out.wake(at);
        }
    }

    // --- calls ----------------------------------------------------------------------------

    pub(in crate::node) fn mail(
        &mut self,
        here: &mut Here,
        _from: CoreId,
        mail: Mail,
        out: &mut Outbox,
    ) {
        match mail {
            Mail::Propose(proposal) => self.orderer.offer(proposal),
            Mail::Coordinate(origin, request) => {
                let is_full = match self.is_open() {
                    true => self.coordinator.len() >= OPERATIONS_MAX && is_operation(&request),
                    false => self.queued.len() >= OPERATIONS_MAX,
                };
                if is_full {
                    here.answer(origin, Err(Reject::TooManyRequests), out);
                } else if self.is_open() {
                    self.coordinate(here, origin, request, out);
                } else {
                    self.queued.push_back((origin, request));
                }
            }
            Mail::Latched(id, _, given, rests) => {
                if let Some(operation) = self.coordinator.latched(id, given, rests) {
                    self.decide(here, id, operation, out);
                }
            }
            Mail::NoSpace(origin) => self.refuse_for_space(here, origin, out),
            Mail::Unheld(core, below) => self.unheld(here, core, below, out),
            Mail::HasCut(shard, below) => self.has_cut(here, shard, below, out),
            Mail::DiskFull => self.raise_for_space(here, out),
            Mail::WantsCheckpoint(_) => self.checkpoints.want(),
            Mail::Checkpointed(shard, index) => self.checkpointed(shard, index, out),
            other => unreachable!("{other:?} is not for the orderer's core"),
        }
    }

    fn coordinate(&mut self, here: &mut Here, origin: Origin, request: Request, out: &mut Outbox) {
        match request {
            Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) => {
                let router = here.topology.router();
                let shards = crate::node::coordinator::shards_named(&request, router);
                let kind = Kind::Write(origin, request);
                self.coordinator.begin(here, kind, shards, Vec::new(), out);
            }
            Request::Compact(request) => {
                let physical = if request.physical { Physical::Yes } else { Physical::No };
                self.compact(here, Some(origin), Revision(request.revision), physical, out);
            }
            Request::LeaseGrant(request) => self.grant(here, origin, request, out),
            Request::LeaseRevoke(id) => self.revoke(here, Some(origin), vec![id], out),
            Request::LeaseKeepAlive(id) => self.renew(here, origin, id, out),
            Request::LeaseTimeToLive { id, keys } => self.lease_left(here, origin, id, keys, out),
            Request::LeaseLeases => {
                let revision = here.shared.committed().0;
                let ids = self.leases.by_expiry();
                here.answer(origin, Ok(Answer::LeaseLeases { revision, ids }), out);
            }
            Request::Alarm(request) => self.alarm(here, origin, request, out),
            Request::Status => {
                let status = self.status(here);
                here.answer(origin, Ok(Answer::Status(status)), out);
            }
            other => unreachable!("{other:?} needs no coordinator"),
        }
    }

    fn status(&self, here: &Here) -> StatusAnswer {
        let bytes = here.shared.store_bytes();
        let quota = here.config.quota_bytes.unwrap_or(0);
        StatusAnswer {
            revision: here.shared.visible_revision(),
            db_bytes: here.shared.file_bytes(),
            db_bytes_in_use: bytes,
            quota_bytes: i64::try_from(quota).unwrap_or(i64::MAX),
            leader: self.orderer.leader(),
            index: self.orderer.indexes().1,
            applied: here.shared.visible_index(),
            term: self.orderer.term(),
            alarms: self.alarms.iter().copied().collect(),
        }
    }

    /// Whether a change of alarms or a compaction is decided and not applied everywhere: an answer
    /// that changes nothing rests on it.
    pub(in crate::node) fn is_unsettled(&self, here: &Here) -> bool {
        self.alarms_in_flight > 0 || self.compact > here.shared.compact_revision()
    }

    /// What an answer that changes nothing rests on, beside what it read: on all that was taken,
    /// if anything is unsettled.
    pub(in crate::node) fn rests(&self, here: &Here, read: Rests) -> Rests {
        match self.is_unsettled(here) {
            true => read.and(Rests::on(here.shared.newest_taken())),
            false => read,
        }
    }

    /// Whether the corruption alarm is on.
    pub(in crate::node) fn is_corrupt(&self) -> bool {
        self.alarms.iter().any(|(_, kind)| *kind == AlarmKind::Corrupt)
    }

    /// What holds for a write at this moment.
    pub(in crate::node) fn conditions(&self, here: &Here) -> Conditions {
        let has = |wanted| self.alarms.iter().any(|(_, kind)| *kind == wanted);
        Conditions {
            current: here.shared.newest_taken(),
            compact: self.compact,
            no_space: has(AlarmKind::NoSpace),
            corrupt: has(AlarmKind::Corrupt),
            quota_left: here.quota_left(),
        }
    }
}

/// Whether a call begins an operation of the coordinator.
fn is_operation(request: &Request) -> bool {
    matches!(
        request,
        Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compact(_)
            | Request::LeaseRevoke(_)
            | Request::Alarm(_)
    )
}
