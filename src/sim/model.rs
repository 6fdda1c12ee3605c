//! The naive model: what an etcd store answers, in the most obvious form.
//!
//! A list of all changes ever made, the state they add up to, and for each request the words of
//! the contract in the order in which etcd applies them. It is slow and forgets nothing, so that
//! it can be read against the contract; whatever serves requests is judged by it.

mod checks;
mod range;
mod shown;

pub use self::shown::shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use self::checks::{check, is_read_only, puts_anything};
use self::range::{holds_for, order_and_cut};
use crate::base::change::Change;
use crate::base::effect::AlarmKind;
use crate::base::limits::{LEASE_TTL_MAX_S, TXN_OPS_MAX};
use crate::base::range::KeyRange;
use crate::base::record::{PutFields, Record};
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision, Sub};
use crate::wire::call::{
    Answer, DeleteRangeAnswer, OpAnswer, PutAnswer, RangeAnswer, Reply, Request, TxnAnswer,
};
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::compare::CompareTarget;
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::mvccpb::KeyValue;

const SORT_BY_VALUE: i32 = pb::range_request::SortTarget::Value as i32;

/// The smallest TTL that a lease is granted by default, from etcd's default election timeout.
pub const LEASE_TTL_MIN_S: i64 = 2;

/// One change of a key: the new version, or nothing for a deletion.
#[derive(Clone, Debug)]
struct Event {
    revision: i64,
    sub: u32,
    key: Bytes,
    kv: Option<KeyValue>,
}

/// The live keys, each with the place in history of the change that made its version.
type State = BTreeMap<Bytes, usize>;

/// A whole store.
#[derive(Clone, Debug)]
pub struct Model {
    history: Vec<Event>,
    state: State,
    revision: i64,
    compact: i64,
    /// Lease to TTL in seconds.
    leases: BTreeMap<i64, i64>,
    alarms: BTreeSet<(u64, AlarmKind)>,
    /// Changes that the request under way has made.
    changes: u32,
    /// Limit of a transaction's operations.
    pub txn_ops_max: usize,
    /// The smallest TTL granted, in seconds.
    pub lease_ttl_min_s: i64,
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

impl Model {
    /// The empty store.
    #[must_use]
    pub fn new() -> Model {
        Model {
            history: Vec::new(),
            state: State::new(),
            revision: 1,
            compact: -1,
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            changes: 0,
            txn_ops_max: TXN_OPS_MAX,
            lease_ttl_min_s: LEASE_TTL_MIN_S,
        }
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    /// The compact revision; -1 if there never was a compaction.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        Revision(self.compact)
    }

    /// The keys on a lease, ascending.
    #[must_use]
    pub fn keys_of(&self, id: LeaseId) -> Vec<Bytes> {
        let on_it =
            self.state.keys().filter(|key| self.live(key).is_some_and(|kv| kv.lease == id.0));
        on_it.cloned().collect()
    }

    /// The leases, ascending, each with its TTL as granted.
    #[must_use]
    pub fn leases(&self) -> Vec<(LeaseId, i64)> {
        self.leases.iter().map(|(id, ttl_s)| (LeaseId(*id), *ttl_s)).collect()
    }

    /// The alarms in force.
    #[must_use]
    pub fn alarms(&self) -> Vec<(u64, AlarmKind)> {
        self.alarms.iter().copied().collect()
    }

    /// The changes of the newest revision, by sub.
    #[must_use]
    pub fn newest_changes(&self) -> Vec<Record> {
        let first = self.history.partition_point(|event| event.revision < self.revision);
        self.history[first..].iter().map(event_record).collect()
    }

    /// The same store before its newest compactions: as of the compact revision `at`.
    #[must_use]
    pub fn compacted_only_at(&self, at: Revision) -> Model {
        Model { compact: at.0, ..self.clone() }
    }

    /// Executes one request. There is no clock here: time is left on a lease as on the day it
    /// was granted, and `LeaseLeases` lists by name.
    ///
    /// # Errors
    /// What the store has to refuse the request with.
    pub fn execute(&mut self, request: &Request) -> Reply {
        // What the request says by itself is found before it reaches the store.
        check(request, self.txn_ops_max)?;
        self.check_alarms(request)?;
        self.changes = 0;
        let reply = match request {
            Request::Range(range) => self.range(range, self.revision).map(Answer::Range),
            Request::Put(put) => self.put_alone(put).map(Answer::Put),
            Request::DeleteRange(delete) => Ok(Answer::DeleteRange(self.delete(delete))),
            Request::Txn(txn) => self.txn(txn).map(Answer::Txn),
            Request::Compact(compact) => self.compact(compact.revision),
            Request::LeaseGrant(grant) => self.grant(grant),
            Request::LeaseRevoke(id) => self.revoke(*id),
            Request::LeaseKeepAlive(id) => {
                let ttl_s = self.leases.get(&id.0).copied().unwrap_or(0);
                Ok(Answer::LeaseKeepAlive { revision: self.revision(), id: *id, ttl_s })
            }
            Request::LeaseTimeToLive { id, keys } => Ok(self.time_to_live(*id, *keys)),
            Request::LeaseLeases => {
                let ids = self.leases.keys().map(|id| LeaseId(*id)).collect();
                Ok(Answer::LeaseLeases { revision: self.revision(), ids })
            }
            Request::Alarm(alarm) => Ok(self.alarm(alarm)),
            Request::HashKv(revision) => self.hash_kv(revision.0),
            Request::Defragment => Ok(Answer::Header(self.revision())),
            other => panic!("the model does not judge {other:?}"),
        };
        if self.changes > 0 {
            self.revision += 1;
        }
        reply
    }

    fn check_alarms(&self, request: &Request) -> Result<(), Reject> {
        let raised = |kind| self.alarms.iter().any(|alarm| alarm.1 == kind);
        let changes = match request {
            Request::Put(_) | Request::DeleteRange(_) | Request::Compact(_) => true,
            Request::LeaseGrant(_) | Request::LeaseRevoke(_) => true,
            Request::Txn(txn) => !is_read_only(txn),
            _ => false,
        };
        let adds = match request {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => puts_anything(txn),
            _ => false,
        };
        match () {
            () if changes && raised(AlarmKind::Corrupt) => Err(Reject::Corrupt),
            () if adds && raised(AlarmKind::NoSpace) => Err(Reject::NoSpace),
            () => Ok(()),
        }
    }

    // --- reading --------------------------------------------------------------------------

    /// The newest version of a key, if it is live.
    fn live(&self, key: &Bytes) -> Option<&KeyValue> {
        self.state.get(key).and_then(|at| self.history[*at].kv.as_ref())
    }

    /// The live keys at a revision.
    fn state_at(&self, revision: i64) -> State {
        let upto = self.history.iter().enumerate().take_while(|(_, e)| e.revision <= revision);
        let mut state: State = upto.map(|(at, event)| (event.key.clone(), at)).collect();
        state.retain(|_, at| self.history[*at].kv.is_some());
        state
    }

    fn record(&self, at: usize) -> Arc<Record> {
        Arc::new(event_record(&self.history[at]))
    }

    /// Answers a range whose newest revision is `current`.
    fn range(&self, request: &pb::RangeRequest, current: i64) -> Result<RangeAnswer, Reject> {
        if request.revision > current {
            return Err(Reject::FutureRevision);
        }
        let at = if request.revision <= 0 { current } else { request.revision };
        if at < self.compact {
            return Err(Reject::Compacted);
        }
        let range = KeyRange::from_request(request.key.clone(), request.range_end.clone());
        let state = if at == current { self.state.clone() } else { self.state_at(at) };
        let state = state.into_iter().filter(|(key, _)| range.contains(key));
        let mut found: Vec<&Event> = state.map(|(_, at)| &self.history[at]).collect();
        let count = found.len() as u64;
        if request.count_only {
            found.clear();
        }
        let more = order_and_cut(&mut found, request);
        // Keys alone come from an index that knows no leases, unless values were needed for them.
        let from_index = request.keys_only && request.sort_target != SORT_BY_VALUE;
        let show = |event: &Event| match request.keys_only && !from_index {
            true => event_record(event).without_value(),
            false => event_record(event),
        };
        let records = found.into_iter().map(|event| Arc::new(show(event))).collect();
        let revision = Revision(current);
        Ok(RangeAnswer { revision, records, keys_only: from_index, more, count })
    }

    /// What a watcher of `range` that starts at `from` is sent, in order.
    ///
    /// # Errors
    /// A start below the compact revision.
    pub fn events(&self, range: &KeyRange, from: Revision) -> Result<Vec<Change>, Reject> {
        if from.0 < self.compact {
            return Err(Reject::Compacted);
        }
        let first = self.history.partition_point(|event| event.revision < from.0);
        let mut below = self.state_at(from.0 - 1);
        let mut changes = Vec::new();
        let mut at = first;
        for events in self.history[first..].chunk_by(|a, b| a.revision == b.revision) {
            // What was compacted away is not shown, and the changes of one revision not to
            // each other.
            let is_readable = events[0].revision > self.compact;
            for event in events.iter().filter(|event| range.contains(&event.key)) {
                let previous = below.get(&event.key).filter(|_| is_readable);
                let previous = previous.map(|at| self.record(*at));
                changes.push(Change { record: Arc::new(event_record(event)), previous });
            }
            for event in events {
                match &event.kv {
                    Some(_) => below.insert(event.key.clone(), at),
                    None => below.remove(&event.key),
                };
                at += 1;
            }
        }
        Ok(changes)
    }

    fn hash_kv(&self, asked: i64) -> Reply {
        if asked > 0 && asked < self.compact {
            return Err(Reject::Compacted);
        }
        if asked > self.revision {
            return Err(Reject::FutureRevision);
        }
        let at = if asked == 0 { self.revision } else { asked };
        let keep: BTreeSet<usize> = self.state_at(at).into_values().collect();
        // A finished compaction left the last change of each key, a deletion only at the compact
        // revision itself; the hash passes over that one.
        let left: BTreeSet<usize> = self.state_at(self.compact).into_values().collect();
        let mut crc = crc32c::crc32c(b"key");
        for (place, event) in self.history.iter().enumerate() {
            let is_old = event.revision <= self.compact;
            let is_kept = keep.is_empty() || keep.contains(&place);
            if event.revision > at || is_old && !(left.contains(&place) && is_kept) {
                continue;
            }
            let mut name = event.revision.to_be_bytes().to_vec();
            name.push(b'_');
            name.extend(u64::from(event.sub).to_be_bytes());
            let value = match &event.kv {
                Some(kv) => prost::Message::encode_to_vec(kv),
                None => {
                    name.push(b't');
                    let key = event.key.clone();
                    prost::Message::encode_to_vec(&KeyValue { key, ..KeyValue::default() })
                }
            };
            crc = crc32c::crc32c_append(crc, &name);
            crc = crc32c::crc32c_append(crc, &value);
        }
        let (revision, compact) = (self.revision(), self.compact_revision());
        Ok(Answer::HashKv { revision, hash: crc, compact, hashed: Revision(at) })
    }

    // --- writing --------------------------------------------------------------------------

    /// The newest revision that a request under way sees: its own, once it has changed anything.
    fn seen_revision(&self) -> i64 {
        self.revision + i64::from(self.changes > 0)
    }

    fn change(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let (revision, sub) = (self.revision + 1, self.changes);
        match &kv {
            Some(_) => self.state.insert(key.clone(), self.history.len()),
            None => self.state.remove(&key),
        };
        self.history.push(Event { revision, sub, key, kv });
        self.changes += 1;
    }

    fn put_alone(&mut self, request: &pb::PutRequest) -> Result<PutAnswer, Reject> {
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(Reject::LeaseNotFound);
        }
        let needs_key = request.ignore_value || request.ignore_lease;
        if needs_key && !self.state.contains_key(&request.key) {
            return Err(Reject::KeyNotFound);
        }
        Ok(self.put(request))
    }

    fn put(&mut self, request: &pb::PutRequest) -> PutAnswer {
        let before = self.live(&request.key).cloned();
        let place = self.state.get(&request.key).filter(|_| request.prev_kv);
        let previous = place.map(|at| self.record(*at));
        let revision = self.revision + 1;
        let before =
            before.unwrap_or_else(|| KeyValue { create_revision: revision, ..KeyValue::default() });
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.create_revision,
            mod_revision: revision,
            version: before.version + 1,
            value: if request.ignore_value { before.value } else { request.value.clone() },
            lease: if request.ignore_lease { before.lease } else { request.lease },
        };
        self.change(request.key.clone(), Some(kv));
        PutAnswer { revision: Revision(revision), previous }
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) -> DeleteRangeAnswer {
        let range = KeyRange::from_request(request.key.clone(), request.range_end.clone());
        let gone: State =
            self.state.clone().into_iter().filter(|(key, _)| range.contains(key)).collect();
        let shown = gone.values().filter(|_| request.prev_kv);
        let previous = shown.map(|at| self.record(*at)).collect();
        let deleted = gone.len() as u64;
        for key in gone.into_keys() {
            self.change(key, None);
        }
        DeleteRangeAnswer { revision: Revision(self.seen_revision()), deleted, previous }
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Result<TxnAnswer, Reject> {
        // All compares, nested ones too, see the state before the transaction.
        let taken = self.branches_taken(request);
        self.check_taken(&taken, &mut Vec::new())?;
        let mut answer = self.run(taken)?;
        answer.revision = Revision(self.seen_revision());
        Ok(answer)
    }

    fn branches_taken(&self, request: &pb::TxnRequest) -> Taken {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &request.success } else { &request.failure };
        let ops = branch.iter().map(|op| match &op.request {
            Some(Op::RequestTxn(nested)) => TakenOp::Txn(self.branches_taken(nested)),
            Some(other) => TakenOp::Other(other.clone()),
            None => panic!("an operation without a request was let through"),
        });
        Taken { succeeded, ops: ops.collect() }
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let range = KeyRange::from_request(compare.key.clone(), compare.range_end.clone());
        let keys = self.state.keys().filter(|key| range.contains(key));
        let found: Vec<&KeyValue> = keys.filter_map(|key| self.live(key)).collect();
        if !found.is_empty() {
            return found.into_iter().all(|kv| holds_for(compare, kv));
        }
        // There is no value to compare with; any other property of a missing key is 0.
        compare.target != CompareTarget::Value as i32 && holds_for(compare, &KeyValue::default())
    }

    /// What the branches taken ask is looked at as a whole before anything is written.
    fn check_taken(&self, taken: &Taken, deleted: &mut Vec<KeyRange>) -> Result<(), Reject> {
        for op in &taken.ops {
            match op {
                TakenOp::Txn(nested) => self.check_taken(nested, deleted)?,
                TakenOp::Other(Op::RequestRange(range)) if range.revision != 0 => {
                    // Here, and only here, a negative revision is not the newest.
                    if range.revision > self.revision {
                        return Err(Reject::FutureRevision);
                    }
                    if range.revision < self.compact {
                        return Err(Reject::Compacted);
                    }
                }
                TakenOp::Other(Op::RequestPut(put)) => {
                    let needs_key = put.ignore_value || put.ignore_lease;
                    // Etcd does not survive a put that keeps what the transaction has deleted.
                    let gone = deleted.iter().any(|range| range.contains(&put.key));
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(Reject::LeaseNotFound);
                    }
                    if needs_key && (gone || !self.state.contains_key(&put.key)) {
                        return Err(Reject::KeyNotFound);
                    }
                }
                TakenOp::Other(Op::RequestDeleteRange(delete)) => {
                    let range =
                        KeyRange::from_request(delete.key.clone(), delete.range_end.clone());
                    deleted.push(range);
                }
                TakenOp::Other(_) => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, taken: Taken) -> Result<TxnAnswer, Reject> {
        let mut ops = Vec::new();
        for op in taken.ops {
            ops.push(match op {
                TakenOp::Txn(nested) => OpAnswer::Txn(self.run(nested)?),
                TakenOp::Other(Op::RequestRange(range)) => {
                    OpAnswer::Range(self.range(&range, self.seen_revision())?)
                }
                TakenOp::Other(Op::RequestPut(put)) => OpAnswer::Put(self.put(&put)),
                TakenOp::Other(Op::RequestDeleteRange(delete)) => {
                    OpAnswer::DeleteRange(self.delete(&delete))
                }
                TakenOp::Other(Op::RequestTxn(_)) => panic!("a nested txn was not resolved"),
            });
        }
        Ok(TxnAnswer { revision: Revision(0), succeeded: taken.succeeded, ops })
    }

    fn compact(&mut self, at: i64) -> Reply {
        if at <= self.compact {
            return Err(Reject::Compacted);
        }
        if at > self.revision {
            return Err(Reject::FutureRevision);
        }
        self.compact = at;
        Ok(Answer::Header(self.revision()))
    }

    // --- leases and alarms ----------------------------------------------------------------

    fn grant(&mut self, request: &pb::LeaseGrantRequest) -> Reply {
        assert!(request.id != 0, "a lease's ID is chosen before the request is executed");
        if request.ttl > LEASE_TTL_MAX_S {
            return Err(Reject::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&request.id) {
            return Err(Reject::LeaseExists);
        }
        let ttl_s = request.ttl.max(self.lease_ttl_min_s);
        self.leases.insert(request.id, ttl_s);
        Ok(Answer::LeaseGrant { revision: self.revision(), id: LeaseId(request.id), ttl_s })
    }

    fn revoke(&mut self, id: LeaseId) -> Reply {
        if self.leases.remove(&id.0).is_none() {
            return Err(Reject::LeaseNotFound);
        }
        for key in self.keys_of(id) {
            self.change(key, None);
        }
        Ok(Answer::LeaseRevoke(Revision(self.seen_revision())))
    }

    fn time_to_live(&self, id: LeaseId, keys: bool) -> Answer {
        let ttl_s = self.leases.get(&id.0).copied();
        let keys = if keys && ttl_s.is_some() { self.keys_of(id) } else { Vec::new() };
        Answer::LeaseTimeToLive {
            revision: self.revision(),
            id,
            ttl_s: ttl_s.unwrap_or(-1),
            granted_s: ttl_s.unwrap_or(0),
            keys,
        }
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Answer {
        use pb::alarm_request::AlarmAction;
        let kind = match request.alarm() {
            pb::AlarmType::None => None,
            pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
            pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
        };
        let named = kind.map(|kind| (request.member_id, kind));
        let alarms = match (request.action(), named) {
            (AlarmAction::Get, _) => {
                let asked = |alarm: &&(u64, AlarmKind)| kind.is_none_or(|kind| alarm.1 == kind);
                self.alarms.iter().filter(asked).copied().collect()
            }
            (AlarmAction::Activate, Some(alarm)) => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            (AlarmAction::Deactivate, Some(alarm)) => {
                if self.alarms.remove(&alarm) {
                    vec![alarm]
                } else {
                    Vec::new()
                }
            }
            (_, None) => Vec::new(),
        };
        Answer::Alarm { revision: self.revision(), alarms }
    }
}

/// A transaction with its branches chosen.
struct Taken {
    succeeded: bool,
    ops: Vec<TakenOp>,
}

enum TakenOp {
    Txn(Taken),
    Other(Op),
}

fn event_record(event: &Event) -> Record {
    let (revision, sub) = (Revision(event.revision), Sub(event.sub));
    match &event.kv {
        None => Record::tombstone(&event.key, revision, sub),
        Some(kv) => Record::put(PutFields {
            key: &kv.key,
            value: &kv.value,
            revision,
            sub,
            create: Revision(kv.create_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        }),
    }
}

#[cfg(test)]
mod tests;
