//! What the orderer's core does beside its shards: the group's member, the log, the coordinator,
//! the leases, automatic compaction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::coordinator::{Coordinator, Kind, Physical, prepared};
use super::mail::{LeaseLeft, Mail, Origin};
use super::{Here, NodeConfig, Outbox, Topology};
use crate::base::batch::Placed;
use crate::base::effect::{AlarmKind, Effect};
use crate::base::limits::{
    BATCHES_IN_FLIGHT_MAX, LEASE_EXPIRIES_PER_PASS, LEASE_TTL_MAX_S,
};
use crate::base::metrics::Counter;
use crate::base::prng::Prng;
use crate::base::record::Malformed;
use crate::base::reject::Reject;
use crate::base::shared::Position;
use crate::base::{CoreId, LeaseId, Revision, ShardId, Tick};
use crate::cluster::compactor::Compactor;
use crate::lease::{Cause, LeaseMetrics, LeaseTable, Renewal};
use crate::orderer::{
    Committed, GroupConfig, LogEntry, Orderer, Place, Prepared, Proposal, RecoveredEntry, placed,
};
use crate::shard::eval::{Ask, Conditions};
use crate::shard::wal::{
    self, Corrupt, DiskFault, Known, Layout, Medium, Recovered, Token, Wal,
};
use crate::wire::call::{Answer, Request, StatusAnswer};
use crate::wire::etcdserverpb as pb;

/// What the orderer's core starts from.
#[derive(Debug)]
pub struct Boot {
    /// What recovery found of the log.
    pub recovered: Recovered,
    /// Its entries.
    pub entries: Vec<RecoveredEntry>,
    /// How the log is laid out from now on.
    pub layout: Layout,
}

/// Why a member cannot start from what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The log's entries are intact and yet no effects of this format.
    Malformed(Malformed),
}

impl Boot {
    /// Reads the log of a medium.
    ///
    /// # Errors
    /// The log is not what this member left.
    pub fn recover(medium: &dyn Medium, known: &Known, layout: Layout) -> Result<Boot, Corrupt> {
        let recovered = wal::recover(medium, known)?;
        let mut entries = Vec::new();
        for entry in recovered.entries(medium) {
            let wal::Entry { index, term, chunks } = entry?;
            let chunks = chunks.into_iter().map(|(bytes, _)| bytes).collect();
            entries.push(RecoveredEntry { index, term, chunks });
        }
        Ok(Boot { recovered, entries, layout })
    }
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BootError::Malformed(Malformed(what)) = self;
        write!(f, "the log holds {what}: it was written by another version of ringbolt")
    }
}

/// A change of alarms.
#[derive(Clone, Copy, Debug)]
pub(super) enum AlarmChange {
    Raise(u64, AlarmKind),
    Clear(u64, AlarmKind),
}

/// Counters of the orderer's core.
#[derive(Debug, Default)]
pub struct LeaderMetrics {
    /// Batches committed.
    pub batches: Counter,
    /// Log writes begun.
    pub log_writes: Counter,
}

/// A committed batch whose answers wait until it is visible.
#[derive(Debug)]
struct Awaiting {
    position: Position,
    answers: Vec<Prepared>,
    credit: usize,
}

/// The orderer's core's own part.
#[derive(Debug)]
pub struct Leader {
    pub(super) orderer: Orderer,
    pub(super) coordinator: Coordinator,
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
    waiting_renewals: BTreeMap<LeaseId, Vec<Origin>>,
    expiry_under_way: bool,
    prng: Prng,
    // Alarms and compaction, what is in flight included.
    alarms: BTreeSet<(u64, AlarmKind)>,
    alarms_in_flight: u32,
    no_space_asked: bool,
    compact: Revision,
    compactor: Compactor,
    /// Cores that still hold reads below a compaction.
    unholding: BTreeMap<Revision, BTreeSet<CoreId>>,
    /// The newest of them that the cores were asked about.
    unhold_asked: Revision,
    /// Shards that still have to forget.
    cutting: BTreeMap<Revision, BTreeSet<ShardId>>,
    awaiting_cut: BTreeMap<Revision, Vec<(Origin, Revision)>>,
    queued: VecDeque<(Origin, Request)>,
    metrics: LeaderMetrics,
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
        let orderer = Orderer::recover(group, hard_state, boot.entries, |key| router.shard_of(key))
            .map_err(BootError::Malformed)?;
        let lease_metrics = Arc::new(LeaseMetrics::default());
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
            leases: LeaseTable::new(Arc::clone(&lease_metrics)),
            lease_metrics,
            going: BTreeSet::new(),
            granting: BTreeSet::new(),
            waiting_renewals: BTreeMap::new(),
            expiry_under_way: false,
            prng: Prng::new(config.seed),
            alarms: BTreeSet::new(),
            alarms_in_flight: 0,
            no_space_asked: false,
            compact: Revision(-1),
            compactor: Compactor::new(config.compaction),
            unholding: BTreeMap::new(),
            unhold_asked: Revision(-1),
            cutting: BTreeMap::new(),
            awaiting_cut: BTreeMap::new(),
            queued: VecDeque::new(),
            metrics: LeaderMetrics::default(),
        })
    }

    /// Whether a term is open: clients can be served.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.orderer.opened().is_some()
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &LeaderMetrics {
        &self.metrics
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
    pub(super) fn on_disk(&mut self, token: u64, result: Result<(), DiskFault>, out: &mut Outbox) {
        if let Err(fault) = self.wal.on_done(Token(token), result, &mut out.disk) {
            out.halt.get_or_insert_with(|| fault.to_string());
        }
    }

    /// Moves everything that can move. True if anything did.
    pub(super) fn advance(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let mut moved = self.persisted();
        moved |= self.publish(here, out);
        moved |= self.release(here, out);
        moved |= self.open_term(here, out);
        moved |= self.time(here, out);
        moved |= self.write(here, out);
        self.wake(out);
        moved
    }

    /// Tells raft what is durable.
    fn persisted(&mut self) -> bool {
        let durable = self.wal.durable();
        if !self.started || self.wal.fault().is_some() {
            return false;
        }
        let before = self.publishing.len();
        let mut committed = Vec::new();
        self.orderer.persisted(durable, &mut committed);
        self.publishing.extend(committed);
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
            self.observe(here, &batch.effects, out);
            let (index, term, shards) = (batch.index, batch.term, batch.shards);
            let is_own = batch.effects.is_empty() && term == self.orderer.term();
            self.published = here.shared.publish(batch);
            if is_own && self.own_entry.is_none() {
                self.own_entry = Some(self.published);
            }
            debug_assert!(index.0 > 0);
            self.metrics.batches.one();
            self.awaiting.push_back(Awaiting { position: self.published, answers, credit });
            for core in here.topology.all_cores().filter(|core| *core != here.core) {
                let concerned = here.topology.shards_on(core).iter().any(|s| shards.contains(s));
                let lags = self.published - here.shared.consumed(core);
                let half = here.shared.ring_batches() / 2;
                // A core that lags is rung at every sixteenth batch from half the ring on.
                let rung = lags >= half && lags % 16 == 0;
                if concerned || rung || here.shared.wants_committed(core) {
                    out.mail.push((core, Mail::Ring));
                }
            }
        }
        if moved {
            here.advance_visible(out);
        }
        moved
    }

    /// Takes from a committed batch what this core keeps for itself.
    fn observe(&mut self, here: &mut Here, effects: &[Placed], out: &mut Outbox) {
        for placed in effects {
            match &placed.effect {
                Effect::Record(_) => {}
                Effect::Grant { id, ttl_s } => {
                    self.granting.remove(id);
                    self.leases.grant(*id, *ttl_s, here.now);
                }
                Effect::Revoke { id } => {
                    self.going.remove(id);
                    self.leases.revoke(*id);
                    for origin in self.waiting_renewals.remove(id).unwrap_or_default() {
                        self.answer_renewal(here, origin, *id, 0, out);
                    }
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
        let mut committed = Vec::new();
        if !self.started {
            // A lone voter needs no timeout to know that there is no other leader. Its own
            // entry goes to disk first, as all do.
            self.started = true;
            self.orderer.campaign(&mut committed);
            here.shared.set_term(self.orderer.term(), false);
            self.next_tick = here.now.plus_ms(here.config.tick_ms);
        }
        if self.next_tick <= here.now {
            self.orderer.tick(&mut committed);
            self.next_tick = here.now.plus_ms(here.config.tick_ms);
        }
        let mut moved = !committed.is_empty();
        self.publishing.extend(committed);
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

    fn wake(&self, out: &mut Outbox) {
        out.wake(self.next_tick);
        let open = self.is_open() && !self.stopping;
        let expiry = self.leases.next_deadline().filter(|_| open && !self.expiry_under_way);
        let compaction = self.compactor.wake_at().filter(|_| open);
        for at in [expiry, compaction, self.wal.stamp_due()].into_iter().flatten() {
            out.wake(at);
        }
    }

    // --- calls ----------------------------------------------------------------------------

    pub(super) fn mail(&mut self, here: &mut Here, _from: CoreId, mail: Mail, out: &mut Outbox) {
        match mail {
            Mail::Propose(proposal) => self.orderer.offer(proposal),
            Mail::Coordinate(origin, request) => {
                if self.is_open() {
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
            Mail::RaiseNoSpace => self.raise_no_space(here, out),
            Mail::Unheld(core, below) => self.unheld(here, core, below, out),
            Mail::HasCut(shard, below) => self.has_cut(here, shard, below, out),
            other => unreachable!("{other:?} is not for the orderer's core"),
        }
    }

    fn coordinate(&mut self, here: &mut Here, origin: Origin, request: Request, out: &mut Outbox) {
        match request {
            Request::DeleteRange(_) | Request::Txn(_) => {
                let router = here.topology.router();
                let shards = super::coordinator::shards_named(&request, router);
                let kind = Kind::Write(origin, request);
                self.coordinator.begin(here, kind, shards, Vec::new(), out);
            }
            Request::Compact(request) => {
                let physical = if request.physical { Physical::Yes } else { Physical::No };
                self.compact(here, Some(origin), Revision(request.revision), physical, out);
            }
            Request::LeaseGrant(request) => self.grant(here, origin, &request, out),
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
            db_bytes: bytes,
            db_bytes_in_use: bytes,
            quota_bytes: i64::try_from(quota).unwrap_or(i64::MAX),
            leader: self.orderer.leader(),
            index: self.orderer.indexes().1,
            applied: here.shared.visible_index(),
            term: self.orderer.term(),
            alarms: self.alarms.iter().copied().collect(),
        }
    }

    /// What holds for a write at this moment.
    pub(super) fn conditions(&self, here: &Here) -> Conditions {
        let has = |wanted| self.alarms.iter().any(|(_, kind)| *kind == wanted);
        Conditions {
            current: here.shared.newest_taken(),
            compact: self.compact,
            no_space: has(AlarmKind::NoSpace),
            corrupt: has(AlarmKind::Corrupt),
            quota_left: here.quota_left(),
        }
    }

    // --- leases ---------------------------------------------------------------------------

    fn grant(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: &pb::LeaseGrantRequest,
        out: &mut Outbox,
    ) {
        const COST_BYTES: u64 = 64;
        let conditions = self.conditions(here);
        let full = conditions.quota_left.is_some_and(|left| left <= COST_BYTES);
        let stands =
            |leader: &Leader, id| leader.leases.contains(id) || leader.granting.contains(&id);
        let mut id = LeaseId(request.id);
        let exists = id != LeaseId::NONE && stands(self, id) && !self.going.contains(&id);
        let refusal = if conditions.corrupt {
            Some(Reject::Corrupt)
        } else if conditions.no_space || full {
            Some(Reject::NoSpace)
        } else if request.ttl > LEASE_TTL_MAX_S {
            Some(Reject::LeaseTtlTooLarge)
        } else if exists || self.going.contains(&id) {
            // One that is going exists until its end is committed.
            Some(Reject::LeaseExists)
        } else {
            None
        };
        if let Some(reject) = refusal {
            if full && !conditions.no_space {
                self.raise_no_space(here, out);
            }
            let in_flight = self.granting.contains(&id) || self.going.contains(&id);
            return self.refuse(here, origin, reject, in_flight, out);
        }
        while id == LeaseId::NONE || stands(self, id) {
            id = LeaseId((self.prng.next_u64() >> 1) as i64);
        }
        let tick_ms = here.config.tick_ms;
        let ttl_min_s = crate::lease::min_ttl_s(here.config.election_ticks, tick_ms);
        let ttl_s = request.ttl.max(ttl_min_s);
        self.granting.insert(id);
        let behind = here.shared.newest_taken();
        let answer = prepared(origin, Ok(Answer::LeaseGrant { revision: behind, id, ttl_s }));
        let effect = placed(Effect::Grant { id, ttl_s }, |_| ShardId(0));
        let bytes = effect.effect.log_len();
        let effects = vec![effect];
        let place = Place::Behind(behind);
        self.orderer.offer(Proposal { place, effects, bytes, credit: 0, answer: Some(answer) });
    }

    fn refuse(
        &mut self,
        here: &mut Here,
        origin: Origin,
        reject: Reject,
        in_flight: bool,
        out: &mut Outbox,
    ) {
        if in_flight {
            self.orderer.offer(super::coordinator::mark(origin, Err(reject)));
        } else {
            here.answer(origin, Err(reject), out);
        }
    }

    fn revoke(
        &mut self,
        here: &mut Here,
        origin: Option<Origin>,
        ids: Vec<LeaseId>,
        out: &mut Outbox,
    ) {
        let asks = ids.iter().map(|id| Ask::LeaseKeys(*id)).collect();
        let shards = here.topology.router().all();
        self.coordinator.begin(here, Kind::Revoke(origin, ids), shards, asks, out);
    }

    /// Ends leases that are due: many under one latch, each at its own revision.
    fn expire(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        if self.expiry_under_way {
            return false;
        }
        let due = self.leases.due(here.now, LEASE_EXPIRIES_PER_PASS);
        if due.is_empty() {
            return false;
        }
        self.expiry_under_way = true;
        self.revoke(here, None, due, out);
        true
    }

    /// Whether a lease's deadline has passed, looked at under the latch.
    pub(super) fn is_due(&self, id: LeaseId, now: Tick) -> bool {
        self.leases.is_due(id, now)
    }

    /// Whether a lease exists and its end is not decided.
    pub(super) fn lease_stands(&self, id: LeaseId) -> bool {
        self.leases.contains(id) && !self.going.contains(&id)
    }

    /// Whether a lease's end is decided and not visible.
    pub(super) fn lease_is_going(&self, id: LeaseId) -> bool {
        self.going.contains(&id)
    }

    pub(super) fn mark_going(&mut self, id: LeaseId, cause: Cause) {
        self.going.insert(id);
        self.leases.mark_going(id, cause);
    }

    /// The pass of an expiry is decided; the next may begin.
    pub(super) fn expiry_decided(&mut self) {
        self.expiry_under_way = false;
    }

    fn renew(&mut self, here: &mut Here, origin: Origin, id: LeaseId, out: &mut Outbox) {
        match self.leases.renew(id, here.now) {
            Renewal::Renewed(ttl_s) => {
                self.answer_renewal(here, origin, id, ttl_s, out);
            }
            // No term is open without deadlines: `NotLeading` does not come from here.
            Renewal::Missing | Renewal::NotLeading => {
                self.answer_renewal(here, origin, id, 0, out);
            }
            Renewal::Going => self.waiting_renewals.entry(id).or_default().push(origin),
        }
    }

    fn answer_renewal(
        &self,
        here: &mut Here,
        origin: Origin,
        id: LeaseId,
        ttl_s: i64,
        out: &mut Outbox,
    ) {
        let revision = here.shared.committed().0;
        here.answer(origin, Ok(Answer::LeaseKeepAlive { revision, id, ttl_s }), out);
    }

    fn lease_left(
        &mut self,
        here: &mut Here,
        origin: Origin,
        id: LeaseId,
        keys: bool,
        out: &mut Outbox,
    ) {
        let revision = here.shared.committed().0;
        let granted_s = self.leases.granted_s(id).unwrap_or(0);
        let ttl_s = self.leases.remaining_s(id, here.now).unwrap_or(-1);
        if keys && granted_s > 0 {
            let lease = LeaseLeft { id, ttl_s, granted_s };
            here.send(here.core, Mail::LeaseKeys(origin, lease), out);
            return;
        }
        let keys = Vec::new();
        let answer = Answer::LeaseTimeToLive { revision, id, ttl_s, granted_s, keys };
        here.answer(origin, Ok(answer), out);
    }

    // --- alarms ---------------------------------------------------------------------------

    fn set_alarm(&mut self, member: u64, kind: AlarmKind, raised: bool) {
        if raised {
            self.alarms.insert((member, kind));
        } else {
            self.alarms.remove(&(member, kind));
        }
    }

    fn alarm(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: pb::AlarmRequest,
        out: &mut Outbox,
    ) {
        use pb::alarm_request::AlarmAction;
        let kind = match request.alarm() {
            pb::AlarmType::None => None,
            pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
            pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
        };
        let member = request.member_id;
        let change = match (request.action(), kind) {
            (AlarmAction::Activate, Some(kind)) => AlarmChange::Raise(member, kind),
            (AlarmAction::Deactivate, Some(kind)) => AlarmChange::Clear(member, kind),
            (AlarmAction::Get, _) => {
                let wanted = |(_, held): &&(u64, AlarmKind)| kind.is_none_or(|kind| kind == *held);
                let alarms = self.alarms.iter().filter(wanted).copied().collect();
                let revision = here.shared.committed().0;
                return here.answer(origin, Ok(Answer::Alarm { revision, alarms }), out);
            }
            (_, None) => {
                let revision = here.shared.committed().0;
                let alarms = Vec::new();
                return here.answer(origin, Ok(Answer::Alarm { revision, alarms }), out);
            }
        };
        let shards = here.topology.router().all();
        self.coordinator.begin(here, Kind::Alarm(Some(origin), change), shards, Vec::new(), out);
    }

    fn raise_no_space(&mut self, here: &mut Here, out: &mut Outbox) {
        let alarm = (here.config.member, AlarmKind::NoSpace);
        if self.no_space_asked || self.alarms.contains(&alarm) {
            return;
        }
        self.no_space_asked = true;
        let kind = Kind::Alarm(None, AlarmChange::Raise(alarm.0, alarm.1));
        let shards = here.topology.router().all();
        self.coordinator.begin(here, kind, shards, Vec::new(), out);
    }

    /// A write was refused under a latch: the quota is used up for the first time.
    pub(super) fn note_refusal(&mut self, here: &mut Here, reject: Reject, out: &mut Outbox) {
        if reject == Reject::NoSpace {
            self.raise_no_space(here, out);
        }
    }

    /// Decides a change of alarms: the effects, and the alarms that the answer lists.
    pub(super) fn change_alarms(
        &mut self,
        change: AlarmChange,
    ) -> (Vec<Effect>, Vec<(u64, AlarmKind)>) {
        let (member, kind, raised) = match change {
            AlarmChange::Raise(member, kind) => (member, kind, true),
            AlarmChange::Clear(member, kind) => (member, kind, false),
        };
        if raised && kind == AlarmKind::NoSpace {
            self.no_space_asked = false;
        }
        let held = self.alarms.contains(&(member, kind));
        if held == raised {
            let alarms = if raised { vec![(member, kind)] } else { Vec::new() };
            return (Vec::new(), alarms);
        }
        self.set_alarm(member, kind, raised);
        self.alarms_in_flight += 1;
        (vec![Effect::Alarm { member, kind, raised }], vec![(member, kind)])
    }

    // --- compaction -----------------------------------------------------------------------

    fn compact(
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
    pub(super) fn compact_evaluated(&self) -> Revision {
        self.compact
    }

    pub(super) fn set_compact_evaluated(&mut self, at: Revision) {
        self.compact = at;
    }

    /// Answers `origin` once history below `at` is gone from memory.
    pub(super) fn await_cut(&mut self, origin: Origin, at: Revision, header: Revision) {
        self.awaiting_cut.entry(at).or_default().push((origin, header));
    }

    /// A compaction is visible: every core is asked when its older reads have ended.
    fn ask_unhold(&mut self, here: &mut Here, out: &mut Outbox) {
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

    fn unheld(&mut self, here: &mut Here, core: CoreId, below: Revision, out: &mut Outbox) {
        let Some(cores) = self.unholding.get_mut(&below) else { return };
        cores.remove(&core);
        if !cores.is_empty() {
            return;
        }
        self.unholding.remove(&below);
        let router = here.topology.router();
        self.cutting.insert(below, router.all().iter().collect());
        for shard in router.all().iter() {
            here.send(here.topology.home(shard), Mail::Cut(shard, below), out);
        }
    }

    fn has_cut(&mut self, here: &mut Here, shard: ShardId, below: Revision, out: &mut Outbox) {
        // A shard that was asked for two cuts forgets for both at once.
        let done: Vec<Revision> = self
            .cutting
            .range_mut(..=below)
            .filter_map(|(at, shards)| {
                shards.remove(&shard);
                shards.is_empty().then_some(*at)
            })
            .collect();
        for at in done {
            self.cutting.remove(&at);
            for (origin, header) in self.awaiting_cut.remove(&at).unwrap_or_default() {
                here.answer(origin, Ok(Answer::Header(header)), out);
            }
        }
    }
}
