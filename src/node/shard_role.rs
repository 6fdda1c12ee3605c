//! One shard on its core: evaluates, applies, reads; latched by the coordinator when several
//! shards have to act as one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::mail::{
    CatchUp, Mail, OperationId, Origin, ReadAsk, ReadId, ReadShare, ReadWhat, Release, Rests,
};
use super::view::{Newest, Overlay, page_at};
use super::{Here, Outbox, Topology, coordinator};
use crate::base::batch::{Batch, Placed};
use crate::base::effect::{AlarmKind, Effect};
use crate::base::limits::{OPERATIONS_MAX, READ_SLICE_BYTES, SHARD_QUEUE_MAX};
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::shared::Position;
use crate::base::{LeaseId, Revision, ShardId, Term};
use crate::orderer::{Place, Proposal};
use crate::shard::eval::{self, Ask, Conditions, Given, Stop, Write};
use crate::shard::memtable::Memtable;
use crate::shard::mvcc::cursor::Budget;
use crate::shard::mvcc::hash::HashList;
use crate::shard::mvcc::range::{Progress, ShardRange};
use crate::shard::mvcc::stretch::stretch;
use crate::wire::call::{Reply, Request};

/// What waits for its turn to be evaluated.
#[derive(Debug)]
enum Queued {
    Write(Origin, Request),
    Latch(OperationId, Vec<Ask>),
}

/// A read that goes on in slices.
#[derive(Debug)]
enum Job {
    Range(ReadId, Box<ShardRange>),
    Hash(ReadId, Box<HashList>),
}

/// A shard and what it is at.
#[derive(Debug)]
pub(super) struct ShardRole {
    id: ShardId,
    store: Memtable,
    overlay: Overlay,
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
    /// The latched operation or the head of the queue waits until this is applied.
    parked: Option<(Revision, Vec<Ask>)>,
    queue: VecDeque<Queued>,
    jobs: VecDeque<Job>,
    /// History below this may be forgotten; done up to there if `None`.
    cutting: Option<Revision>,
}

impl ShardRole {
    pub(super) fn new(id: ShardId, seed: u64) -> ShardRole {
        ShardRole {
            id,
            store: Memtable::new(seed),
            overlay: Overlay::default(),
            alarms: BTreeSet::new(),
            alarms_in_flight: 0,
            ended_early: BTreeSet::new(),
            compact: Revision(-1),
            position: 0,
            applied: Revision::EMPTY,
            open: false,
            latched: None,
            parked: None,
            queue: VecDeque::new(),
            jobs: VecDeque::new(),
            cutting: None,
        }
    }

    pub(super) fn id(&self) -> ShardId {
        self.id
    }

    /// Whether it waits for a revision to be applied.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
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
            match self.queue.pop_front() {
                None => return,
                Some(Queued::Latch(operation, asks)) => {
                    self.latched = Some(operation);
                    self.answer_latch(here, operation, asks, out);
                }
                Some(Queued::Write(origin, request)) => {
                    if let Err(revision) = self.evaluate_one(here, origin, &request, out) {
                        self.queue.push_front(Queued::Write(origin, request));
                        self.park(here, revision, Vec::new());
                    }
                }
            }
        }
    }

    fn park(&mut self, here: &Here, revision: Revision, asks: Vec<Ask>) {
        self.parked = Some((revision, asks));
        here.shared.want_committed(here.core, true);
    }

    /// Evaluates a write, or says which revision has to be applied before that can be done.
    fn evaluate_one(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: &Request,
        out: &mut Outbox,
    ) -> Result<(), Revision> {
        let write = match request {
            Request::Put(put) => Write::Put(put),
            Request::DeleteRange(delete) => Write::Delete(delete),
            Request::Txn(txn) => Write::Txn(txn),
            other => unreachable!("{other:?} is no write of one shard"),
        };
        let conditions = self.conditions(here);
        let view = Newest::new(&self.store, &self.overlay, self.applied);
        let plan = match eval::plan(&view, &conditions, write) {
            Ok(plan) => plan,
            Err(Stop::Missing) => {
                return Err(view.wants_applied().expect("a shard lacks nothing of its own else"));
            }
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
                let rests = self.rests(here, &view);
                Self::unchanged(here, origin, Err(reject), rests, out);
                return Ok(());
            }
        };
        if !plan.writes {
            let rests = self.rests(here, &view);
            let header = here.shared.committed().0.max(rests.revision);
            let outcome = eval::materialise(&view, &plan, header);
            Self::unchanged(here, origin, Ok(outcome.answer), rests, out);
            return Ok(());
        }
        let credit = eval::credit_bytes(write);
        if !here.shared.take_credit(credit) {
            let rests = self.rests(here, &view);
            Self::unchanged(here, origin, Err(Reject::TooManyRequests), rests, out);
            return Ok(());
        }
        // From here to the send nothing refuses and nothing waits.
        let revision = here.shared.take_revision();
        let outcome = eval::materialise(&view, &plan, revision);
        let mut effects = Vec::with_capacity(outcome.records.len());
        for record in outcome.records {
            self.overlay.insert(&record);
            effects.push(Placed::new(Some(self.id), Effect::Record(record)));
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
    fn rests(&self, here: &Here, view: &Newest<'_>) -> Rests {
        let unsettled = self.alarms_in_flight != 0 || self.compact > self.store.compact_revision();
        match unsettled {
            true => view.rests().and(Rests::on(here.shared.newest_taken())),
            false => view.rests(),
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
        let view = Newest::new(&self.store, &self.overlay, self.applied);
        let mut given: Vec<(Ask, Given)> = Vec::with_capacity(asks.len());
        for ask in &asks {
            match view.give(ask) {
                Some(answer) => given.push((ask.clone(), answer)),
                None => {
                    let revision = view.wants_applied().expect("nothing else is missing");
                    return self.park(here, revision, asks);
                }
            }
        }
        let mail = Mail::Latched(operation, self.id, given, view.rests());
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
            self.applied = batch.last;
            self.position += 1;
        }
        here.shared.set_shard_size(self.id, self.store.bytes(), self.store.live_keys());
        self.unpark(here, out);
        true
    }

    fn apply(&mut self, here: &Here, batch: &Batch) {
        for placed in &batch.effects {
            if placed.shard.is_some_and(|shard| shard != self.id) {
                continue;
            }
            match &placed.effect {
                Effect::Record(record) => {
                    let previous = self.store.apply(Arc::clone(record));
                    placed.previous.set(previous).expect("a record is applied once");
                    self.overlay.applied(record);
                    if self.open {
                        count(here, record);
                    }
                }
                Effect::Grant { id, .. } => self.store.grant(*id),
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
        let Some((_, asks)) = self.parked.take_if(|(wanted, _)| *wanted <= self.applied) else {
            return;
        };
        match self.latched {
            Some(operation) => self.answer_latch(here, operation, asks, out),
            None => self.run_queue(here, out),
        }
    }

    // --- reads ----------------------------------------------------------------------------

    /// Reads at a committed revision: applies up to it first, which never waits, since what is
    /// committed is in the ring.
    pub(super) fn read(&mut self, here: &mut Here, ask: ReadAsk, out: &mut Outbox) {
        if self.position < ask.position {
            self.follow_ring(here, out);
            here.advance_visible(out);
        }
        match ask.what {
            ReadWhat::Asks(asks) => {
                let given = asks.into_iter().map(|one| self.give_at(one, ask.at)).collect();
                let mail = Mail::Share(ask.id, self.id, ReadShare::Given(given));
                here.send(ask.id.core, mail, out);
            }
            ReadWhat::Range(range) => {
                let job = Box::new(ShardRange::new(range, &self.store));
                self.slice(here, Job::Range(ask.id, job), out);
            }
            ReadWhat::Hash(of) => {
                let job = Box::new(HashList::new(of));
                self.slice(here, Job::Hash(ask.id, job), out);
            }
        }
    }

    fn give_at(&self, ask: Ask, at: Revision) -> (Ask, Given) {
        let given = match &ask {
            Ask::Key(key) => Given::Key(self.store.at(key, at).cloned()),
            Ask::Range(range, limit) => Given::Page(page_at(&self.store, range, at, *limit)),
            Ask::RangeAt(range, older, limit) => {
                Given::Page(page_at(&self.store, range, *older, *limit))
            }
            Ask::LeaseKeys(id) => Given::Keys(self.lease_keys_at(*id, at)),
        };
        (ask, given)
    }

    /// The keys that were on a lease at a revision: some of those that are, or changed since.
    fn lease_keys_at(&self, id: LeaseId, at: Revision) -> Vec<Bytes> {
        let changed = self.store.history(at).map(|(record, _)| record.key_bytes());
        let mut keys: Vec<Bytes> = self.store.keys_of(id).into_iter().chain(changed).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| self.store.at(key, at).is_some_and(|record| record.lease == id));
        keys
    }

    /// One slice of a read; what is left goes behind the others.
    fn slice(&mut self, here: &mut Here, job: Job, out: &mut Outbox) {
        match job {
            Job::Range(id, mut range) => {
                let keys = here.config.read_slice_records;
                let budget = Budget { keys, bytes: READ_SLICE_BYTES };
                match range.step(&self.store, budget) {
                    Progress::Done(run) => {
                        let mail = Mail::Share(id, self.id, ReadShare::Run(run));
                        here.send(id.core, mail, out);
                    }
                    Progress::Paused => self.jobs.push_back(Job::Range(id, range)),
                    Progress::Wanted(pages) => unreachable!("memory has all pages: {pages:?}"),
                }
            }
            Job::Hash(id, mut pass) => {
                if pass.step(&self.store, here.config.read_slice_records) {
                    let mail = Mail::Share(id, self.id, ReadShare::Hash(pass.finish()));
                    here.send(id.core, mail, out);
                } else {
                    self.jobs.push_back(Job::Hash(id, pass));
                }
            }
        }
    }

    /// A watcher that is behind asks for a stretch of history.
    pub(super) fn catch_up(&mut self, here: &mut Here, ask: &CatchUp, out: &mut Outbox) {
        let compact = self.store.compact_revision();
        let stretch = if ask.after.next() < compact {
            Err(compact)
        } else {
            Ok(stretch(&self.store, &ask.range, ask.after, ask.upto, ask.bytes_max))
        };
        here.send(ask.core, Mail::Stretch(ask.number, self.id, stretch), out);
    }

    /// Nothing reads below `below` any more.
    pub(super) fn cut(&mut self, below: Revision) {
        self.cutting = self.cutting.max(Some(below));
    }

    /// Sliced work. True if there is more of it.
    pub(super) fn background(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        if let Some(job) = self.jobs.pop_front() {
            self.slice(here, job, out);
        }
        let before = self.store.version_count();
        if let Some(below) = self.cutting
            && self.store.compact_slice(below, here.config.cut_slice_changes)
        {
            self.cutting = None;
            here.shared.set_shard_size(self.id, self.store.bytes(), self.store.live_keys());
            here.send(Topology::ORDERER, Mail::HasCut(self.id, below), out);
        }
        here.metrics.forgotten.add(before - self.store.version_count());
        !self.jobs.is_empty() || self.cutting.is_some()
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
