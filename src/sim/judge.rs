//! Judges what clients were told against the committed log and the naive model.
//!
//! The log is what the member itself committed, effect by effect. Each write in it has to be
//! what the model makes of a request that a client sent; each answer has to be the model's at
//! some moment between the request and the answer, at the revision that its header shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::model::{Model, shown};
use crate::base::batch::Batch;
use crate::base::change::Change;
use crate::base::effect::Effect;
use crate::base::record::Record;
use crate::base::shared::Position;
use crate::base::{LeaseId, RaftIndex, Revision, Tick};
use crate::wire::call::{Answer, OpAnswer, Reply, Request, TxnAnswer};
use crate::wire::etcdserverpb as pb;

/// Names an operation over all lives.
pub type OpId = u64;

#[derive(Debug)]
enum State {
    /// No answer yet.
    Waiting,
    /// The answer, and how much was committed when it came.
    Answered(Box<Reply>, usize),
    /// The member died first: it may be in the log up to here.
    Lost(usize),
}

#[derive(Debug)]
struct Op {
    request: Request,
    /// Effects that were visible when it was sent.
    from: usize,
    sent_at: Tick,
    state: State,
    /// The moment at which its answer was last compared.
    tried: Option<usize>,
}

impl Op {
    /// Whether its effect may stand at `at`, ending before `end`.
    fn may_be_at(&self, at: usize, end: usize) -> bool {
        self.from <= at && end <= self.upto()
    }

    /// Where its window ends; one that waits has none yet.
    fn upto(&self) -> usize {
        match self.state {
            State::Waiting => 0,
            State::Answered(_, upto) | State::Lost(upto) => upto,
        }
    }
}

#[derive(Debug)]
struct Lease {
    ttl_s: i64,
    granted_at: usize,
    /// It may not expire before this.
    floor: Tick,
}

/// The judge of one member over all its lives.
#[derive(Debug, Default)]
pub struct Judge {
    log: Vec<(Effect, Tick)>,
    /// What the present life began with of it, has committed in all, and up to each position.
    begun: usize,
    seen: usize,
    upto: Vec<usize>,
    /// Where each entry of the log ends in it.
    by_index: BTreeMap<RaftIndex, usize>,
    /// Where batches end in it.
    batch_ends: BTreeSet<usize>,
    /// What is visible of it: a request that is sent now is answered behind that.
    visible: usize,
    /// What was judged of it, and the store at that point.
    done: usize,
    model: Model,
    ops: BTreeMap<OpId, Op>,
    next: OpId,
    /// Answered writes by their revision.
    writers: BTreeMap<Revision, OpId>,
    /// Alarm requests that were found right without an effect, each with its window.
    spent: Vec<(Request, usize, usize)>,
    /// Compactions by where they stand in the log.
    compactions: Vec<(usize, Revision)>,
    leases: BTreeMap<LeaseId, Lease>,
    /// When each life opened, by the log's length then.
    opened: Vec<(usize, Tick)>,
    /// Whether the member has a quota or a disk that fills, which the model has not.
    pub may_fill: bool,
    /// Every change, as watchers are to see it.
    pub history: Vec<Change>,
    newest: BTreeMap<Bytes, Change>,
    compact: Option<Revision>,
    /// Answers that were found right.
    pub judged: usize,
}

impl Judge {
    /// The store as far as it was judged; it lags a little.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The newest compaction that is committed; -1 if there is none.
    #[must_use]
    pub fn compact(&self) -> Revision {
        self.compact.unwrap_or(Revision(-1))
    }

    /// The leases, each with the moment before which it may not expire.
    pub fn deadlines(&self) -> impl Iterator<Item = (LeaseId, Tick)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.floor))
    }

    // --- what happens ---------------------------------------------------------------------

    /// A batch was committed.
    pub fn committed(&mut self, batch: &Batch, now: Tick) {
        for placed in &batch.effects {
            let effect = &placed.effect;
            if let Some((known, _)) = self.log.get(self.seen) {
                assert_eq!(
                    known.log().0,
                    effect.log().0,
                    "what was committed as effect {} is another one after a restart",
                    self.seen
                );
            } else {
                self.log.push((effect.clone(), now));
                match effect {
                    Effect::Record(record) => self.remember(record),
                    Effect::Compact { at } => self.compact = self.compact.max(Some(*at)),
                    _ => {}
                }
            }
            self.seen += 1;
        }
        self.upto.push(self.seen);
        self.by_index.insert(batch.index, self.seen);
        self.batch_ends.insert(self.seen);
    }

    fn remember(&mut self, record: &Arc<Record>) {
        let before = self.newest.get(record.key());
        // The changes of one revision are not shown to each other.
        let previous = match before {
            Some(change) if change.record.revision == record.revision => change.previous.clone(),
            Some(change) => Some(&change.record).filter(|r| !r.is_tombstone()).cloned(),
            None => None,
        };
        let change = Change { record: Arc::clone(record), previous };
        self.newest.insert(record.key_bytes(), change.clone());
        self.history.push(change);
    }

    /// The member has applied everything up to here.
    pub fn visible(&mut self, position: Position) {
        self.visible = self.visible.max(self.effects_upto(position));
    }

    /// A client sends a request while everything up to `visible` is visible.
    pub fn sent(&mut self, request: Request, visible: Position, now: Tick) -> OpId {
        self.next += 1;
        let from = self.effects_upto(visible);
        let op = Op { request, from, sent_at: now, state: State::Waiting, tried: None };
        self.ops.insert(self.next, op);
        self.next
    }

    fn effects_upto(&self, position: Position) -> usize {
        match position.checked_sub(1) {
            None => self.begun,
            Some(at) => self.upto[usize::try_from(at).expect("few batches")],
        }
    }

    /// A client is answered while everything up to `committed` is committed.
    pub fn answered(&mut self, id: OpId, reply: Reply, committed: Position) {
        let upto = self.effects_upto(committed);
        let op = self.ops.get_mut(&id).expect("an operation is answered once");
        assert!(matches!(op.state, State::Waiting), "operation {id} was answered twice");
        if let Some(revision) = written(&op.request, &reply) {
            let other = self.writers.insert(revision, id);
            assert!(other.is_none(), "revision {revision} was given to two writes");
        }
        op.state = State::Answered(Box::new(reply), upto);
        self.advance();
    }

    /// Operations without an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ops.values().filter(|op| matches!(op.state, State::Waiting)).count()
    }

    /// The member is gone.
    pub fn crashed(&mut self) {
        self.upto.clear();
        for op in self.ops.values_mut() {
            if matches!(op.state, State::Waiting) {
                op.state = State::Lost(usize::MAX);
            }
        }
    }

    /// The next life begins: its checkpoints hold everything up to this entry.
    pub fn began(&mut self, index: RaftIndex) {
        let covered = self.by_index.range(..=index).next_back();
        self.begun = covered.map_or(0, |(_, upto)| *upto);
        self.seen = self.begun;
    }

    /// The next life is open for clients: all that was committed has to be there again.
    pub fn opened(&mut self, now: Tick) {
        assert!(
            self.seen == self.log.len(),
            "{} effects were committed and {} are left after a restart",
            self.log.len(),
            self.seen
        );
        for op in self.ops.values_mut() {
            if let State::Lost(upto) = &mut op.state {
                *upto = (*upto).min(self.log.len());
            }
        }
        self.opened.push((self.log.len(), now));
        self.advance();
    }

    /// Everything has come to rest: nothing may be left without a place.
    pub fn rest(&mut self) {
        self.advance();
        assert_eq!(self.done, self.log.len(), "the log's end was not judged");
        for op in self.ops.values() {
            match &op.state {
                State::Lost(_) => {}
                State::Waiting => panic!("{:?} was never answered", op.request),
                State::Answered(reply, _) => unfit(op, reply),
            }
        }
        self.ops.clear();
    }

    // --- judgement ------------------------------------------------------------------------

    /// Judges as far as nothing unanswered can still come between.
    pub fn advance(&mut self) {
        loop {
            self.judge_answers();
            let is_open = |op: &Op| matches!(op.state, State::Waiting) && op.from <= self.done;
            if self.done >= self.visible || self.ops.values().any(is_open) {
                return;
            }
            self.take_group();
            for op in self.ops.values() {
                if let State::Answered(reply, upto) = &op.state
                    && *upto < self.done
                {
                    unfit(op, reply);
                }
            }
        }
    }

    fn judge_answers(&mut self) {
        let done = self.done;
        let mut fitting = Vec::new();
        for (id, op) in &mut self.ops {
            let State::Answered(reply, _) = &op.state else { continue };
            if op.from > done || op.tried == Some(done) {
                continue;
            }
            op.tried = Some(done);
            if written(&op.request, reply).is_none() {
                fitting.push(*id);
            }
        }
        for id in fitting {
            let op = self.ops.remove(&id).expect("found above");
            let State::Answered(reply, upto) = &op.state else { continue };
            if self.fits(&op, reply) {
                self.judged += 1;
                if matches!(op.request, Request::Alarm(_)) {
                    self.spent.push((op.request.clone(), op.from, *upto));
                }
            } else {
                self.ops.insert(id, op);
            }
        }
    }

    /// Whether an answer that changed nothing is right at this moment.
    fn fits(&mut self, op: &Op, reply: &Reply) -> bool {
        let current = self.model.revision();
        match (&op.request, reply) {
            (Request::LeaseKeepAlive(id), Ok(Answer::LeaseKeepAlive { ttl_s, .. })) => {
                let Some(lease) = self.leases.get_mut(id) else { return *ttl_s == 0 };
                let renewed = *ttl_s == lease.ttl_s;
                if renewed {
                    lease.floor = lease.floor.max(after_s(op.sent_at, lease.ttl_s));
                }
                renewed
            }
            (_, reply) if header(reply).is_some_and(|header| header != current) => false,
            (
                Request::LeaseTimeToLive { .. },
                Ok(Answer::LeaseTimeToLive { ttl_s, granted_s, keys, .. }),
            ) => {
                let Ok(Answer::LeaseTimeToLive { granted_s: granted, keys: held, .. }) =
                    self.model.execute(&op.request)
                else {
                    return false;
                };
                let left = if granted == 0 { -1..=-1 } else { 0..=granted + 1 };
                *granted_s == granted && *keys == held && left.contains(ttl_s)
            }
            (Request::LeaseLeases, Ok(Answer::LeaseLeases { ids, .. })) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                let held: Vec<LeaseId> = self.model.leases().iter().map(|(id, _)| *id).collect();
                ids == held
            }
            (Request::Status | Request::Hash, Ok(_)) => true,
            (Request::LeaseGrant(_), Ok(_)) => false,
            (Request::LeaseRevoke(_) | Request::Compact(_), Ok(_)) => false,
            (Request::Range(_) | Request::HashKv(_), _) => {
                let said = shown(reply);
                shown(&self.model.execute(&op.request)) == said || self.fits_older(op, &said)
            }
            _ => self.fits_unchanged(op, reply),
        }
    }

    /// A compaction becomes visible a little later than it is committed.
    fn fits_older(&self, op: &Op, said: &str) -> bool {
        let younger = self.compactions.iter().filter(|(at, _)| *at > op.from).count();
        let older = self.compactions.len() - younger;
        let in_force = (older..self.compactions.len()).map(|at| match at.checked_sub(1) {
            Some(before) => self.compactions[before].1,
            None => Revision(-1),
        });
        in_force.into_iter().any(|compact| {
            shown(&self.model.compacted_only_at(compact).execute(&op.request)) == said
        })
    }

    fn fits_unchanged(&self, op: &Op, reply: &Reply) -> bool {
        let mut after = self.model.clone();
        let mut request = op.request.clone();
        if let Request::LeaseGrant(grant) = &mut request
            && grant.id == 0
        {
            grant.id = i64::MAX;
        }
        let said = shown(&after.execute(&request));
        if said != shown(reply) {
            let is_read = matches!(&op.request, Request::Txn(txn)
                if crate::frontend::check::is_read_only(txn));
            return is_read && self.fits_older(op, &shown(reply));
        }
        let stands = |model: &Model| {
            (model.revision(), model.compact_revision(), model.leases(), model.alarms())
        };
        stands(&after) == stands(&self.model)
    }

    /// Takes the next operation of the log.
    fn take_group(&mut self) {
        match self.log[self.done].0.clone() {
            Effect::Record(first) => self.take_numbered(first.revision),
            Effect::Revoke { id } => self.take_revoke(id, self.done + 1, &[]),
            Effect::Grant { id, ttl_s } => self.take_grant(id, ttl_s),
            Effect::Compact { at } => {
                let is_it = |request: &Request| match request {
                    Request::Compact(compact) => compact.revision == at.0,
                    _ => false,
                };
                let request = pb::CompactionRequest { revision: at.0, physical: false };
                self.take_unnumbered(is_it, Request::Compact(request));
                self.compactions.push((self.done, at));
            }
            Effect::Alarm { member, kind, raised } => {
                use crate::base::effect::AlarmKind;
                let alarm = pb::AlarmRequest {
                    action: if raised { 1 } else { 2 },
                    member_id: member,
                    alarm: if kind == AlarmKind::NoSpace { 1 } else { 2 },
                };
                let same = alarm;
                let is_it = move |request: &Request| match request {
                    Request::Alarm(asked) => *asked == same,
                    _ => false,
                };
                self.take_unnumbered(is_it, Request::Alarm(alarm));
            }
        }
    }

    fn take_numbered(&mut self, revision: Revision) {
        let start = self.done;
        assert_eq!(revision, self.model.revision().next(), "the log skips or repeats a revision");
        let records: Vec<Arc<Record>> = self.log[start..]
            .iter()
            .map_while(|(effect, _)| match effect {
                Effect::Record(record) if record.revision == revision => Some(Arc::clone(record)),
                _ => None,
            })
            .collect();
        let end = start + records.len();
        if let Some(id) = self.writers.remove(&revision) {
            let op = self.ops.remove(&id).expect("a writer waits for judgement");
            assert!(op.may_be_at(start, end), "{:?} took effect at another time", op.request);
            let State::Answered(reply, _) = &op.state else { unreachable!("it has answered") };
            let said = shown(&self.model.execute(&op.request));
            assert_eq!(shown(reply), said, "the answer to {:?}", op.request);
            same_changes(&self.model, &records, &op.request);
            self.judged += 1;
            self.done = end;
            return;
        }
        // What ends a lease stands in one batch with the ends of its keys.
        if let Some((Effect::Revoke { id }, _)) = self.log.get(end)
            && !self.batch_ends.contains(&end)
        {
            let keys: Vec<&[u8]> = records.iter().map(|record| record.key()).collect();
            if self.model.keys_of(*id) == keys {
                let id = *id;
                return self.take_revoke(id, end + 1, &records);
            }
        }
        self.take_lost(&records, end);
    }

    /// A write whose client was never answered.
    fn take_lost(&mut self, records: &[Arc<Record>], end: usize) {
        for (id, op) in &self.ops {
            let State::Lost(_) = op.state else { continue };
            let may_write =
                matches!(op.request, Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_));
            if !may_write || !op.may_be_at(self.done, end) {
                continue;
            }
            let mut after = self.model.clone();
            let is_it = after.execute(&op.request).is_ok()
                && after.revision() == records[0].revision
                && same(&after, records);
            if is_it {
                let id = *id;
                self.ops.remove(&id);
                self.model = after;
                self.done = end;
                return;
            }
        }
        panic!("nobody asked for {records:?}");
    }

    fn take_revoke(&mut self, id: LeaseId, end: usize, records: &[Arc<Record>]) {
        let start = self.done;
        let request = Request::LeaseRevoke(id);
        let reply = self.model.execute(&request);
        assert!(reply.is_ok(), "lease {id} was ended and does not exist");
        if !records.is_empty() {
            same_changes(&self.model, records, &request);
        }
        let header = self.model.revision();
        let lease = self.leases.remove(&id).expect("the model has it");
        let said = |reply: &Reply| matches!(reply, Ok(Answer::LeaseRevoke(r)) if *r == header);
        let is_it = |request: &Request| matches!(request, Request::LeaseRevoke(it) if *it == id);
        let asked = self.claim(start, end, is_it, said);
        self.done = end;
        if asked {
            return;
        }
        let ended = self.log[start].1;
        let reopened = self.opened.iter().rfind(|(len, _)| *len <= start);
        let reopened = reopened.filter(|(len, _)| *len > lease.granted_at);
        let floor = reopened.map_or(Tick(0), |(_, at)| after_s(*at, lease.ttl_s));
        let floor = floor.max(lease.floor);
        assert!(ended >= floor, "lease {id} expired at {ended}, not due before {floor}");
    }

    fn take_grant(&mut self, id: LeaseId, ttl_s: i64) {
        let (start, end) = (self.done, self.done + 1);
        let header = self.model.revision();
        let min = self.model.lease_ttl_min_s;
        let is_it = |request: &Request| match request {
            Request::LeaseGrant(grant) => {
                (grant.id == id.0 || grant.id == 0) && grant.ttl.max(min) == ttl_s
            }
            _ => false,
        };
        let said = |reply: &Reply| {
            matches!(reply, Ok(Answer::LeaseGrant { revision, id: it, ttl_s: it_s })
                if *revision == header && *it == id && *it_s == ttl_s)
        };
        assert!(self.claim(start, end, is_it, said), "nobody asked for lease {id}");
        let request = pb::LeaseGrantRequest { ttl: ttl_s, id: id.0 };
        let reply = self.model.execute(&Request::LeaseGrant(request));
        assert!(reply.is_ok(), "lease {id} was granted: {reply:?}");
        let floor = after_s(self.log[start].1, ttl_s);
        self.leases.insert(id, Lease { ttl_s, granted_at: start, floor });
        self.done = end;
    }

    fn take_unnumbered(&mut self, is_it: impl Fn(&Request) -> bool, request: Request) {
        let (start, end) = (self.done, self.done + 1);
        let expected = self.model.execute(&request);
        assert!(expected.is_ok(), "{request:?} took effect: {expected:?}");
        let expected = shown(&expected);
        let is_quotas = |a: &pb::AlarmRequest| (a.action, a.member_id, a.alarm) == (1, 1, 1);
        let by_quota = self.may_fill && matches!(&request, Request::Alarm(a) if is_quotas(a));
        let asked = self.claim(start, end, &is_it, |reply| shown(reply) == expected);
        // One that had this effect may have been taken for one that had none.
        let window = |from: usize, upto: usize| from <= start && end <= upto;
        let mut spent = self.spent.iter();
        let asked = asked || spent.any(|(it, from, upto)| is_it(it) && window(*from, *upto));
        assert!(asked || by_quota, "nobody asked for {request:?}");
        self.done = end;
    }

    /// Finds who asked for what takes effect at `start`: an answered operation, or a lost one.
    fn claim(
        &mut self,
        start: usize,
        end: usize,
        is_it: impl Fn(&Request) -> bool,
        said: impl Fn(&Reply) -> bool,
    ) -> bool {
        let matching = |op: &Op| is_it(&op.request) && op.may_be_at(start, end);
        // Of several that fit, the one whose window ends first: the others may fit later still.
        let answered = self.ops.iter().filter(|(_, op)| {
            matching(op) && matches!(&op.state, State::Answered(reply, _) if said(reply))
        });
        let answered = answered.min_by_key(|(_, op)| op.upto());
        let lost = || {
            let is_lost = |op: &Op| matches!(op.state, State::Lost(_));
            let lost = self.ops.iter().filter(|(_, op)| is_lost(op) && matching(op));
            lost.min_by_key(|(_, op)| op.upto())
        };
        let is_answered = answered.is_some();
        let Some(id) = answered.or_else(lost).map(|(id, _)| *id) else { return false };
        self.judged += usize::from(is_answered);
        self.ops.remove(&id);
        true
    }
}

fn unfit(op: &Op, reply: &Reply) -> ! {
    panic!(
        "no moment between request and answer explains it: {:?} sent behind effect {}: {}",
        op.request,
        op.from,
        shown(reply)
    )
}

fn after_s(at: Tick, ttl_s: i64) -> Tick {
    at.plus_ms(ttl_s.unsigned_abs().saturating_mul(1_000))
}

fn same(model: &Model, records: &[Arc<Record>]) -> bool {
    let expected = model.newest_changes();
    expected.len() == records.len()
        && expected.iter().zip(records).all(|(expected, found)| expected.log() == found.log())
}

fn same_changes(model: &Model, records: &[Arc<Record>], request: &Request) {
    let expected = model.newest_changes();
    assert!(same(model, records), "{request:?} made {records:?}, not {expected:?}");
}

/// The revision that a write took, by its answer.
fn written(request: &Request, reply: &Reply) -> Option<Revision> {
    match (request, reply) {
        (Request::Put(_), Ok(Answer::Put(put))) => Some(put.revision),
        (Request::DeleteRange(_), Ok(Answer::DeleteRange(delete))) if delete.deleted > 0 => {
            Some(delete.revision)
        }
        (Request::Txn(_), Ok(Answer::Txn(txn))) if writes(txn) => Some(txn.revision),
        _ => None,
    }
}

fn writes(txn: &TxnAnswer) -> bool {
    txn.ops.iter().any(|op| match op {
        OpAnswer::Put(_) => true,
        OpAnswer::DeleteRange(delete) => delete.deleted > 0,
        OpAnswer::Txn(nested) => writes(nested),
        OpAnswer::Range(_) => false,
    })
}

/// The revision that an answer's header shows.
#[must_use]
pub fn header(reply: &Reply) -> Option<Revision> {
    match reply.as_ref().ok()? {
        Answer::Range(range) => Some(range.revision),
        Answer::Put(put) => Some(put.revision),
        Answer::DeleteRange(delete) => Some(delete.revision),
        Answer::Txn(txn) => Some(txn.revision),
        Answer::Header(revision) | Answer::LeaseRevoke(revision) => Some(*revision),
        Answer::LeaseGrant { revision, .. }
        | Answer::LeaseKeepAlive { revision, .. }
        | Answer::LeaseTimeToLive { revision, .. }
        | Answer::LeaseLeases { revision, .. }
        | Answer::Alarm { revision, .. }
        | Answer::HashKv { revision, .. }
        | Answer::Hash { revision, .. } => Some(*revision),
        Answer::Status(status) => Some(status.revision),
        Answer::MemberList(_) => None,
    }
}
