//! node::shard_role — one shard on its core: evaluates, applies, reads, checkpoints; latched by the
//! coordinator when several shards have to act as one.
//! Steps 2 and 5 of a write, every read. In: requests, mail, what its page file's operations
//! brought. Out: proposals, answers, operations of the page file.
//! Owns: the shard's state, its writes in flight, what waits for its turn, a revision or a page.
//! Invariants: (1) evaluation order is revision order; (2) what waits for a page has taken no
//!             revision; (3) a range that is read for a write holds up what comes behind it.
//! Limits: SHARD_QUEUE_MAX.
//! Must not: do I/O; read a clock.
//! Tests: tests/sim.rs, tests/road.rs.

mod pages;
mod reads;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::mail::{Mail, OperationId, Origin, Release, Rests};
use super::view::{Lack, Memo, Newest, Overlay};
use super::{Covered, Here, Outbox, ShardStart, Topology, coordinator};
use crate::base::batch::{Batch, Placed};
use crate::base::effect::{AlarmKind, Effect};
use crate::base::limits::{OPERATIONS_MAX, SHARD_QUEUE_MAX};
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::shared::Position;
use crate::base::{LeaseId, Revision, ShardId, Term, Tick};
use crate::orderer::{Place, Proposal};
use crate::shard::eval::{self, Ask, Conditions, Given, Missing, Stop, Write};
use crate::shard::pages::PageRef;
use crate::shard::store::{Settings, Store};
use crate::wire::call::{Reply, Request};

use reads::Job;

/// What waits for its turn to be evaluated.
#[derive(Debug)]
enum Queued {
    Write(Origin, Request),
    Latch(OperationId, Vec<Ask>),
}

/// What is waited for, by whoever stands at the head of the queue.
#[derive(Debug)]
enum Until {
    /// This revision is applied.
    Applied(Revision),
    /// A page is read.
    Page(Awaited),
}

/// A page that was asked for; `None`: too many were, so it is to be asked for again when any read
/// has ended.
type Awaited = Option<PageRef>;

/// What waits for a page beside the head of the queue.
#[derive(Debug)]
enum Waiting {
    /// A write of single keys: others may pass it.
    Write(Origin, Request),
    Read(Job),
}

/// A shard and what it is at.
#[derive(Debug)]
pub(super) struct ShardRole {
    id: ShardId,
    store: Store,
    overlay: Overlay,
    memo: RefCell<Memo>,
    /// Alarms in force, those in flight included.
    alarms: BTreeSet<(u64, AlarmKind)>,
    /// Changes of alarms that were released and are not applied; below 0 while one is applied
    /// whose release is still on its way.
    alarms_in_flight: i32,
    /// Leases whose end is applied before its release has come.
    ended_early: BTreeSet<LeaseId>,
    /// Compact revision, one in flight included.
    compact: Revision,
    /// Consumed up to here.
    position: Position,
    /// Store revision at `position`.
    applied: Revision,
    open: bool,
    latched: Option<OperationId>,
    /// What the latched operation, with its asks, or the head of the queue waits for.
    parked: Option<(Until, Vec<Ask>)>,
    queue: VecDeque<Queued>,
    jobs: VecDeque<Job>,
    /// Writes in it are admitted and unanswered, of which there are `ADMITTED_MAX`; reads are calls
    /// and windows under way, each once.
    waiting: Vec<(Awaited, Waiting)>,
    /// What the checkpoints hold of the log which this life began with.
    covered: Covered,
    // Checkpoints.
    /// What their next slice waits for.
    work_awaits: Option<Awaited>,
    /// When their next slice may begin.
    work_at: Option<Tick>,
    /// When one that found no space is tried again.
    retry_at: Option<Tick>,
    /// It was said that one is due.
    has_asked: bool,
    /// History below this is forgotten with a checkpoint that begins behind it.
    cutting: Option<Revision>,
    /// What the checkpoint under way forgets.
    forgetting: Option<Revision>,
}

impl ShardRole {
    /// A shard as of its checkpoint.
    pub(super) fn new(id: ShardId, start: &ShardStart, settings: Settings) -> ShardRole {
        let leases = start.leases().collect();
        let store = Store::open(start.superblock, start.file_bytes, leases, settings)
            .expect("a superblock that was checked when it was read");
        let state = start.superblock.state;
        ShardRole {
            id,
            store,
            overlay: Overlay::default(),
            memo: RefCell::default(),
            alarms: start.alarms().collect(),
            alarms_in_flight: 0,
            ended_early: BTreeSet::new(),
            compact: state.compact_revision,
            position: 0,
            applied: state.revision,
            open: false,
            latched: None,
            parked: None,
            queue: VecDeque::new(),
            jobs: VecDeque::new(),
            waiting: Vec::new(),
            covered: start.covered(),
            work_awaits: None,
            work_at: None,
            retry_at: None,
            has_asked: false,
            cutting: None,
            forgetting: None,
        }
    }

    pub(super) fn id(&self) -> ShardId {
        self.id
    }

    /// Whether it waits for a revision to be applied.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self.parked, Some((Until::Applied(_), _)))
    }

    /// How far the ring is consumed.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    // --- evaluation -----------------------------------------------------------------------

    /// Takes a write that concerns this shard alone.
    pub(super) fn evaluate(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: Request,
        out: &mut Outbox,
    ) {
        if self.queue.len() >= SHARD_QUEUE_MAX {
            return here.answer(origin, Err(Reject::TooManyRequests), out);
        }
        self.queue.push_back(Queued::Write(origin, request));
        self.run_queue(here, out);
    }

    /// A term is open: what waited is evaluated.
    pub(super) fn open(&mut self, here: &mut Here, _term: Term, out: &mut Outbox) {
        assert!(self.overlay.records.is_empty(), "a term was opened over another's writes");
        self.open = true;
        self.run_queue(here, out);
    }

    fn run_queue(&mut self, here: &mut Here, out: &mut Outbox) {
        while self.open && self.latched.is_none() && self.parked.is_none() {
            // What is full waits for the checkpoint, and its clients with it.
            if !self.store.has_room(self.overlay.bytes()) {
                return;
            }
            match self.queue.pop_front() {
                None => return,
                Some(Queued::Latch(operation, asks)) => {
                    self.latched = Some(operation);
                    self.answer_latch(here, operation, asks, out);
                }
                Some(Queued::Write(origin, request)) => {
                    let Err((lack, holds_up)) = self.evaluate_one(here, origin, &request, out)
                    else {
                        self.memo.get_mut().clear();
                        continue;
                    };
                    match self.until(lack, out) {
                        Until::Page(awaited) if !holds_up => {
                            self.memo.get_mut().clear();
                            self.waiting.push((awaited, Waiting::Write(origin, request)));
                        }
                        until => {
                            self.queue.push_front(Queued::Write(origin, request));
                            self.park(here, until, Vec::new());
                        }
                    }
                }
            }
        }
    }

    fn park(&mut self, here: &Here, until: Until, asks: Vec<Ask>) {
        if matches!(until, Until::Applied(_)) {
            here.shared.want_committed(here.core, true);
        }
        self.parked = Some((until, asks));
    }

    fn until(&mut self, lack: Lack, out: &mut Outbox) -> Until {
        match lack {
            Lack::Applied(revision) => Until::Applied(revision),
            Lack::Pages(stop) => Until::Page(self.wish(stop, out)),
        }
    }

    /// Evaluates a write, or says what it lacks and whether what comes behind it has to wait, too.
    fn evaluate_one(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: &Request,
        out: &mut Outbox,
    ) -> Result<(), (Lack, bool)> {
        let write = match request {
            Request::Put(put) => Write::Put(put),
            Request::DeleteRange(delete) => Write::Delete(delete),
            Request::Txn(txn) => Write::Txn(txn),
            other => unreachable!("{other:?} is no write of one shard"),
        };
        let conditions = self.conditions(here);
        let view = Newest::new(&self.store, &self.overlay, self.applied, &self.memo);
        let plan = match eval::plan(&view, &conditions, write) {
            Ok(plan) => plan,
            Err(Stop::Missing) => return Err((view.lack(), view.holds_up())),
            // A grant may be on its way that this shard has not heard of.
            Err(Stop::Refused(Reject::LeaseNotFound)) => {
                let mail = Mail::Coordinate(origin, request.clone());
                here.send(Topology::ORDERER, mail, out);
                return Ok(());
            }
            Err(Stop::Refused(Reject::NoSpace)) if !conditions.no_space => {
                here.send(Topology::ORDERER, Mail::NoSpace(origin), out);
                return Ok(());
            }
            Err(Stop::Refused(reject)) => {
                let rests = self.rests(here, view.rests());
                Self::unchanged(here, origin, Err(reject), rests, out);
                return Ok(());
            }
        };
        if !plan.writes {
            let rests = self.rests(here, view.rests());
            let header = here.shared.committed().0.max(rests.revision);
            let outcome = eval::materialise(&view, &plan, header);
            Self::unchanged(here, origin, Ok(outcome.answer), rests, out);
            return Ok(());
        }
        let credit = eval::credit_bytes(write);
        if !here.shared.take_credit(credit) {
            let rests = self.rests(here, view.rests());
            Self::unchanged(here, origin, Err(Reject::TooManyRequests), rests, out);
            return Ok(());
        }
        // From here to the send nothing refuses and nothing waits.
        let revision = here.shared.take_revision();
        let outcome = eval::materialise(&view, &plan, revision);
        let mut effects = Vec::with_capacity(outcome.changes.len());
        for change in outcome.changes {
            self.overlay.insert(&change.record);
            effects.push(Placed::change(self.id, change));
        }
        let bytes = effects.iter().map(|placed: &Placed| placed.effect.log_len()).sum();
        let answer = Some(coordinator::prepared(origin, Ok(outcome.answer)));
        let proposal = Proposal { place: Place::At(revision), effects, bytes, credit, answer };
        here.send(Topology::ORDERER, Mail::Propose(proposal), out);
        Ok(())
    }

    /// What an evaluation rests on: what it read, and alarms and a compaction in flight. Those
    /// stand behind revisions that others may have taken, so the answer shows the newest one:
    /// what it read has not changed up to there.
    fn rests(&self, here: &Here, read: Rests) -> Rests {
        let unsettled = self.alarms_in_flight != 0 || self.compact > self.store.compact_revision();
        match unsettled {
            true => read.and(Rests::on(here.shared.newest_taken())),
            false => read,
        }
    }

    fn conditions(&self, here: &Here) -> Conditions {
        let has = |wanted| self.alarms.iter().any(|(_, kind)| *kind == wanted);
        Conditions {
            current: here.shared.newest_taken(),
            compact: self.compact,
            no_space: has(AlarmKind::NoSpace),
            corrupt: has(AlarmKind::Corrupt),
            quota_left: here.quota_left(),
        }
    }

    fn unchanged(here: &mut Here, origin: Origin, reply: Reply, rests: Rests, out: &mut Outbox) {
        if rests.in_flight {
            let mail = Mail::Propose(coordinator::mark(origin, reply, rests.revision));
            here.send(Topology::ORDERER, mail, out);
        } else {
            here.answer(origin, reply, out);
        }
    }

    // --- latches --------------------------------------------------------------------------

    /// The coordinator wants this shard to stand still and to read.
    pub(super) fn latch(
        &mut self,
        here: &mut Here,
        operation: OperationId,
        asks: Vec<Ask>,
        out: &mut Outbox,
    ) {
        if self.latched == Some(operation) {
            self.answer_latch(here, operation, asks, out);
            return;
        }
        // Operations are bounded where they begin, but for the leader's own few, and each waits
        // here once.
        debug_assert!(
            self.queue.len() < SHARD_QUEUE_MAX + 2 * OPERATIONS_MAX,
            "more latches wait than operations are under way"
        );
        self.queue.push_back(Queued::Latch(operation, asks));
        self.run_queue(here, out);
    }

    fn answer_latch(
        &mut self,
        here: &mut Here,
        operation: OperationId,
        asks: Vec<Ask>,
        out: &mut Outbox,
    ) {
        let view = Newest::new(&self.store, &self.overlay, self.applied, &self.memo);
        let given: Vec<Result<Given, Missing>> = asks.iter().map(|ask| view.give(ask)).collect();
        if given.iter().any(Result::is_err) {
            let lack = view.lack();
            let until = self.until(lack, out);
            return self.park(here, until, asks);
        }
        let rests = view.rests();
        let given = asks.into_iter().zip(given.into_iter().flatten()).collect();
        let mail = Mail::Latched(operation, self.id, given, rests);
        here.send(Topology::ORDERER, mail, out);
    }

    /// The operation is decided: its effects enter the overlay before anything else is
    /// evaluated.
    pub(super) fn release(
        &mut self,
        here: &mut Here,
        operation: OperationId,
        release: Release,
        out: &mut Outbox,
    ) {
        assert_eq!(self.latched, Some(operation), "released by an operation without the latch");
        // The log may be faster than the mail: what is applied is not in flight any more.
        for record in release.records.iter().filter(|record| record.revision > self.applied) {
            self.overlay.insert(record);
        }
        for effect in &release.effects {
            match effect {
                Effect::Revoke { id } => {
                    if !self.ended_early.remove(id) {
                        self.overlay.leases_gone.insert(*id);
                    }
                }
                Effect::Compact { at } => self.compact = self.compact.max(*at),
                Effect::Alarm { member, kind, raised } => {
                    self.alarms_in_flight += 1;
                    self.set_alarm(*member, *kind, *raised);
                }
                Effect::Record(_) | Effect::Grant { .. } => {
                    unreachable!("{effect:?} is not released as an effect")
                }
            }
        }
        self.latched = None;
        self.memo.get_mut().clear();
        self.run_queue(here, out);
    }

    fn set_alarm(&mut self, member: u64, kind: AlarmKind, raised: bool) {
        if raised {
            self.alarms.insert((member, kind));
        } else {
            self.alarms.remove(&(member, kind));
        }
    }

    // --- apply ----------------------------------------------------------------------------

    /// Applies what is committed. True if anything was consumed.
    pub(super) fn follow_ring(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let (_, committed) = here.shared.committed();
        if self.position == committed {
            return false;
        }
        while self.position < committed {
            let batch = here.shared.batch(self.position + 1);
            let batch = batch.expect("the ring keeps what a shard has not consumed");
            if batch.shards.contains(self.id) {
                self.apply(here, &batch);
                batch.applied_by_one();
            }
            if batch.freezes {
                self.store.freeze(batch.last);
                self.has_asked = false;
            }
            self.applied = self.applied.max(batch.last);
            self.position += 1;
        }
        self.tell_size(here);
        if self.store.wants_checkpoint() && !self.has_asked {
            self.has_asked = true;
            here.send(Topology::ORDERER, Mail::WantsCheckpoint(self.id), out);
        }
        self.unpark(here, out);
        true
    }

    fn tell_size(&self, here: &Here) {
        let (in_use, bytes) = (self.store.bytes_in_use(), self.store.bytes());
        here.shared.set_shard_size(self.id, in_use, bytes, self.store.live_keys());
    }

    fn apply(&mut self, here: &Here, batch: &Batch) {
        // What the checkpoints of the start hold was applied in an earlier life. The member's own
        // matters stand in the first shard's alone.
        for placed in &batch.effects {
            let is_mine = placed.shard.is_none_or(|shard| shard == self.id);
            if !is_mine || self.covered.has(batch.index, &placed.effect) {
                continue;
            }
            match &placed.effect {
                Effect::Record(record) => {
                    self.store.apply(Arc::clone(record));
                    self.overlay.applied(record);
                    if self.open {
                        count(here, record);
                    }
                }
                Effect::Grant { id, ttl_s } => self.store.grant(*id, *ttl_s),
                Effect::Revoke { id } => {
                    self.store.revoke(*id);
                    if !self.overlay.leases_gone.remove(id) && self.open {
                        self.ended_early.insert(*id);
                    }
                }
                Effect::Compact { at } => {
                    self.store.compact(*at);
                    self.compact = self.compact.max(*at);
                }
                Effect::Alarm { member, kind, raised } => {
                    self.store.alarm(*member, *kind, *raised);
                    // What this term decided is in force since its release.
                    self.alarms_in_flight -= i32::from(self.open);
                    if self.alarms_in_flight <= 0 {
                        self.set_alarm(*member, *kind, *raised);
                    }
                }
            }
        }
    }

    fn unpark(&mut self, here: &mut Here, out: &mut Outbox) {
        let applied = self.applied;
        let is_due = |(until, _): &mut (Until, Vec<Ask>)| match until {
            Until::Applied(wanted) => *wanted <= applied,
            Until::Page(_) => false,
        };
        if let Some((_, asks)) = self.parked.take_if(is_due) {
            self.go_on(here, asks, out);
        }
    }

    /// What was parked is tried again.
    fn go_on(&mut self, here: &mut Here, asks: Vec<Ask>, out: &mut Outbox) {
        match self.latched {
            Some(operation) => self.answer_latch(here, operation, asks, out),
            None => self.run_queue(here, out),
        }
    }
}

/// Counts a record that was applied.
fn count(here: &Here, record: &Record) {
    if record.is_tombstone() {
        here.metrics.deletes.one();
    } else {
        here.metrics.puts.one();
        here.metrics.put_bytes.add((record.key().len() + record.value().len()) as u64);
    }
}
