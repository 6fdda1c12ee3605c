//! Recipes against a small model of the store: several calls at once, each its own machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BufMut;

use super::*;
use crate::base::record::{PutFields, put_varint};
use crate::base::{Sub as Order, Term};
use crate::frontend::header::Header;
use crate::frontend::machine::Action;
use crate::frontend::port::Settings;
use crate::wire::call::{DeleteRangeAnswer, PutAnswer, WatchBody, WatchMessage};
use crate::wire::{v3electionpb, v3lockpb};
use pb::watch_request::RequestUnion;

/// One change: the record, and whether it is a deletion.
type Change = (Arc<Record>, bool);

#[derive(Debug, Default)]
struct Model {
    revision: i64,
    live: BTreeMap<Bytes, Arc<Record>>,
    leases: BTreeSet<i64>,
    history: Vec<Change>,
}

impl Model {
    fn put(&mut self, put: &pb::PutRequest) -> Result<(), Reject> {
        if put.lease != 0 && !self.leases.contains(&put.lease) {
            return Err(Reject::LeaseNotFound);
        }
        let revision = Revision(self.revision + 1);
        let before = self.live.get(&put.key);
        let record = Arc::new(Record::put(PutFields {
            key: &put.key,
            value: &put.value,
            revision,
            sub: Order(0),
            create: before.map_or(revision, |record| record.create),
            version: before.map_or(1, |record| record.version + 1),
            lease: LeaseId(put.lease),
        }));
        self.live.insert(put.key.clone(), Arc::clone(&record));
        self.history.push((record, false));
        Ok(())
    }

    fn delete(&mut self, key: &Bytes) -> u64 {
        if self.live.remove(key).is_none() {
            return 0;
        }
        let record = Record::tombstone(key, Revision(self.revision + 1), Order(0));
        self.history.push((Arc::new(record), true));
        1
    }

    fn range(&self, range: &pb::RangeRequest) -> RangeAnswer {
        use pb::range_request::{SortOrder, SortTarget};
        let end = &range.range_end;
        let holds = |key: &Bytes| match end.is_empty() {
            true => *key == range.key,
            false => *key >= range.key && key < end,
        };
        let mut records: Vec<Arc<Record>> = self
            .live
            .iter()
            .filter(|(key, record)| {
                let max = range.max_create_revision;
                holds(key) && (max == 0 || record.create.0 <= max)
            })
            .map(|(_, record)| Arc::clone(record))
            .collect();
        let count = records.len() as u64;
        if range.sort_target() == SortTarget::Create {
            records.sort_by_key(|record| record.create);
        }
        if range.sort_order() == SortOrder::Descend {
            records.reverse();
        }
        if range.limit > 0 {
            records.truncate(usize::try_from(range.limit).expect("a limit"));
        }
        let revision = Revision(self.revision);
        RangeAnswer { revision, records, count, ..RangeAnswer::default() }
    }

    fn txn(&mut self, txn: &pb::TxnRequest) -> Result<TxnAnswer, Reject> {
        let succeeded = txn.compare.iter().all(|compare| {
            let create = self.live.get(&compare.key).map_or(0, |record| record.create.0);
            compare.target_union == Some(TargetUnion::CreateRevision(create))
        });
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let mut ops = Vec::new();
        let changes = self.history.len();
        for op in branch {
            ops.push(match op.request.as_ref().expect("an operation") {
                Op::RequestRange(range) => OpAnswer::Range(self.range(range)),
                Op::RequestPut(put) => {
                    self.put(put)?;
                    OpAnswer::Put(PutAnswer::default())
                }
                Op::RequestDeleteRange(delete) => {
                    let deleted = self.delete(&delete.key);
                    OpAnswer::DeleteRange(DeleteRangeAnswer { deleted, ..Default::default() })
                }
                Op::RequestTxn(_) => unreachable!("no recipe nests"),
            });
        }
        self.revision += i64::from(self.history.len() > changes);
        Ok(TxnAnswer { revision: Revision(self.revision), succeeded, ops })
    }

    fn execute(&mut self, request: &Request) -> Reply {
        Ok(match request {
            Request::Range(range) => Answer::Range(self.range(range)),
            Request::Txn(txn) => Answer::Txn(self.txn(txn)?),
            Request::DeleteRange(delete) => {
                let deleted = self.delete(&delete.key);
                self.revision += i64::from(deleted > 0);
                let revision = Revision(self.revision);
                Answer::DeleteRange(DeleteRangeAnswer { revision, deleted, previous: Vec::new() })
            }
            Request::LeaseGrant(grant) => {
                assert_eq!((grant.ttl, grant.id), (60, 0));
                let id = 1000 + self.leases.len() as i64;
                self.leases.insert(id);
                Answer::LeaseGrant { revision: Revision(self.revision), id: LeaseId(id), ttl_s: 60 }
            }
            Request::LeaseRevoke(lease) => {
                self.leases.remove(&lease.0);
                let attached = self.live.iter().filter(|(_, record)| record.lease == *lease);
                let keys: Vec<Bytes> = attached.map(|(key, _)| key.clone()).collect();
                let deleted: u64 = keys.iter().map(|key| self.delete(key)).sum();
                self.revision += i64::from(deleted > 0);
                Answer::LeaseRevoke(Revision(self.revision))
            }
            other => unreachable!("no recipe asks {other:?}"),
        })
    }
}

fn event_field((record, is_delete): &Change) -> Bytes {
    let kv = key_value(record);
    let event = mvccpb::Event { r#type: i32::from(*is_delete), kv: Some(kv), prev_kv: None };
    let body = event.encode_to_vec();
    let mut field = BytesMut::new();
    field.put_u8(11 << 3 | 2);
    put_varint(&mut field, body.len() as u64);
    field.put_slice(&body);
    field.freeze()
}

/// A call: its machine, its watchers with the next revision of each, and what came of it.
struct Call {
    machine: Box<dyn Machine>,
    asked: Vec<Request>,
    watchers: Vec<(pb::WatchCreateRequest, i64)>,
    /// Watchers whose creation was not confirmed yet.
    unconfirmed: Vec<i64>,
    /// Bytes that the watch sent and that were not said to have left.
    undrained: usize,
    answers: Vec<Bytes>,
    ended: Option<Status>,
}

struct Rig {
    settings: Settings,
    model: Model,
    calls: Vec<Call>,
}

impl Rig {
    fn new() -> Rig {
        let model = Model { revision: 1, ..Model::default() };
        let settings = Settings { cluster_id: 7, member_id: 8, ..Settings::default() };
        let mut rig = Rig { settings, model, calls: Vec::new() };
        rig.model.leases.extend([1, 2, 3]);
        rig
    }

    fn begin(&mut self, machine: Box<dyn Machine>, message: &impl prost::Message) -> usize {
        let (asked, watchers, unconfirmed, answers) = Default::default();
        let (undrained, ended) = (0, None);
        let call = Call { machine, asked, watchers, unconfirmed, undrained, answers, ended };
        self.calls.push(call);
        let call = self.calls.len() - 1;
        let message = Bytes::from(message.encode_to_vec());
        self.tell(call, |machine, out| machine.on_message(message, out));
        call
    }

    fn tell(&mut self, call: usize, tell: impl FnOnce(&mut dyn Machine, &mut Actions<'_>)) {
        let mut list = Vec::new();
        let header = Header::new(&self.settings, Term(9));
        let mut out = Actions::new(&self.settings, header, &mut list);
        let it = &mut self.calls[call];
        if it.ended.is_some() {
            return;
        }
        tell(&mut *it.machine, &mut out);
        for action in list {
            match action {
                Action::Submit(sub, Request::Watch(watch)) => {
                    assert_eq!(sub, WATCH);
                    let Some(RequestUnion::CreateRequest(create)) = watch.request_union else {
                        panic!("only creates");
                    };
                    let start = create.start_revision;
                    it.unconfirmed.push(create.watch_id);
                    it.watchers.push((create, start));
                }
                Action::Submit(sub, request) => {
                    assert_eq!((sub, it.asked.len()), (ASK, 0), "one question at a time");
                    it.asked.push(request);
                }
                Action::GiveUp(sub) => {
                    assert_eq!(sub, WATCH);
                    it.watchers.clear();
                    it.unconfirmed.clear();
                    it.undrained = 0;
                }
                Action::Respond(mut message, drains) => {
                    it.answers.push(message.take(usize::MAX).slice(5..));
                    it.undrained -= drains.map_or(0, |(_, bytes)| bytes);
                }
                Action::Drained(_, bytes) => it.undrained -= bytes,
                Action::End(status) => it.ended = Some(status),
            }
        }
    }

    /// Answers one question or delivers one batch of events; false if there is nothing to do.
    fn step(&mut self, call: usize) -> bool {
        let it = &mut self.calls[call];
        if let Some(request) = it.asked.pop() {
            let reply = self.model.execute(&request);
            self.tell(call, |machine, out| machine.on_reply(ASK, reply, out));
            return true;
        }
        if let Some(watch_id) = it.unconfirmed.pop() {
            let revision = Revision(self.model.revision);
            self.watched(call, WatchMessage { watch_id, revision, body: WatchBody::Created });
            return true;
        }
        for (create, next) in &mut it.watchers {
            let wanted: Vec<Bytes> = self
                .model
                .history
                .iter()
                .filter(|(record, is_delete)| {
                    let end = &create.range_end;
                    let key = record.key_bytes();
                    let in_range =
                        key == create.key || (!end.is_empty() && key >= create.key && key < *end);
                    in_range
                        && record.revision.0 >= *next
                        && !create.filters.contains(&i32::from(*is_delete))
                })
                .map(event_field)
                .collect();
            *next = self.model.revision + 1;
            if !wanted.is_empty() {
                let body = WatchBody::Events { events: wanted, fragment: false };
                let revision = Revision(self.model.revision);
                let watch_id = create.watch_id;
                self.watched(call, WatchMessage { watch_id, revision, body });
                return true;
            }
        }
        false
    }

    /// Delivers a message of a watch: its bytes must be accounted for.
    fn watched(&mut self, call: usize, message: WatchMessage) {
        self.calls[call].undrained += message.bytes();
        self.tell(call, |machine, out| machine.on_watch(WATCH, message, out));
        let it = &self.calls[call];
        assert!(it.undrained == 0 || it.ended.is_some(), "bytes of a watch are not drained");
    }

    /// Goes on until nobody has anything to do.
    fn settle(&mut self) {
        while (0..self.calls.len()).any(|call| self.step(call)) {}
    }

    /// The client of a call goes away: what is submitted now is carried out.
    fn cancel(&mut self, call: usize) {
        self.calls[call].asked.clear();
        self.calls[call].watchers.clear();
        self.tell(call, |machine, out| machine.on_cancel(out));
        for request in std::mem::take(&mut self.calls[call].asked) {
            let _ = self.model.execute(&request);
        }
        self.calls[call].ended = Some(Status::CANCELED);
        self.settle();
    }

    fn revoke(&mut self, lease: i64) {
        self.model.execute(&Request::LeaseRevoke(LeaseId(lease))).expect("revoked");
        self.settle();
    }

    fn lock(&mut self, lease: i64) -> usize {
        let name = Bytes::from_static(b"n");
        let call = self.begin(lock(), &v3lockpb::LockRequest { name, lease });
        self.settle();
        call
    }

    fn campaign(&mut self, lease: i64, value: &'static str) -> usize {
        let (name, value) = (Bytes::from_static(b"n"), Bytes::from(value));
        let call = self.begin(campaign(), &v3electionpb::CampaignRequest { name, lease, value });
        self.settle();
        call
    }

    /// Runs a call that is answered at once: the message, or the text of the refusal.
    fn ask<M: prost::Message + Default>(
        &mut self,
        machine: Box<dyn Machine>,
        message: &impl prost::Message,
    ) -> Result<M, String> {
        let call = self.begin(machine, message);
        self.settle();
        self.outcome(call).expect("an end")
    }

    /// How a unary call ended; `None` while it goes on.
    fn outcome<M: prost::Message + Default>(&self, call: usize) -> Option<Result<M, String>> {
        let it = &self.calls[call];
        let status = it.ended.as_ref()?;
        if status.code == Code::Ok {
            assert_eq!(it.answers.len(), 1);
            return Some(Ok(M::decode(it.answers[0].clone()).expect("a message")));
        }
        assert_eq!((status.code, it.answers.len()), (Code::Unknown, 0));
        Some(Err(status.message.to_string()))
    }

    fn locked(&self, call: usize) -> Option<Result<v3lockpb::LockResponse, String>> {
        self.outcome(call)
    }

    fn keys(&self) -> Vec<&[u8]> {
        self.model.live.keys().map(|key| &key[..]).collect()
    }
}

fn leader_key(key: &'static [u8], rev: i64, lease: i64) -> Option<v3electionpb::LeaderKey> {
    let (name, key) = (Bytes::from_static(b"n"), Bytes::from_static(key));
    Some(v3electionpb::LeaderKey { name, key, rev, lease })
}

#[test]
fn keys_are_named_as_by_etcd() {
    let cases = [(0x694d_a209, "n/694da209"), (i64::MAX, "n/7fffffffffffffff"), (-5, "n/-5")];
    for (lease, expect) in cases {
        assert_eq!(key_of(&prefix_of(b"n"), LeaseId(lease)), expect);
    }
    assert_eq!(end_of(&prefix_of(b"")), "0");
}

#[test]
fn a_free_lock_is_given_at_once_and_again_to_the_same_lease() {
    let mut rig = Rig::new();
    let call = rig.lock(1);
    let response = rig.locked(call).expect("an end").expect("locked");
    assert_eq!(response.key, "n/1");
    let header = response.header.expect("a header");
    assert_eq!((header.cluster_id, header.member_id, header.revision), (7, 8, 2));
    let again = rig.lock(1);
    assert_eq!(rig.locked(again).expect("an end").expect("locked").key, "n/1");
    assert_eq!(rig.model.revision, 2, "nothing was written again");
}

#[test]
fn locks_pass_in_the_order_of_creation() {
    let mut rig = Rig::new();
    let calls = [rig.lock(3), rig.lock(1), rig.lock(2)];
    let ends = |rig: &Rig| calls.map(|call| rig.locked(call).is_some());
    assert_eq!(ends(&rig), [true, false, false]);
    let key = Bytes::from_static(b"n/3");
    let unlocked: v3lockpb::UnlockResponse =
        rig.ask(unlock(), &v3lockpb::UnlockRequest { key }).expect("unlocked");
    assert_eq!(unlocked.header.expect("a header").revision, 5);
    assert_eq!(ends(&rig), [true, true, false]);
    rig.revoke(1);
    assert_eq!(ends(&rig), [true, true, true]);
    let last = rig.locked(calls[2]).expect("an end").expect("locked");
    assert_eq!((last.key, last.header.expect("a header").revision), ("n/2".into(), 6));
}

#[test]
fn a_waiter_that_leaves_takes_its_key_away_and_lets_the_next_one_pass() {
    let mut rig = Rig::new();
    let (_holder, waiter, next) = (rig.lock(1), rig.lock(2), rig.lock(3));
    rig.cancel(waiter);
    assert_eq!(rig.keys(), [&b"n/1"[..], b"n/3"]);
    rig.revoke(1);
    assert_eq!(rig.locked(next).expect("an end").expect("locked").key, "n/3");
    // What is held stays held when the connection breaks.
    rig.cancel(next);
    assert_eq!(rig.keys(), [&b"n/3"[..]]);
}

#[test]
fn a_waiter_whose_lease_ends_is_told_and_never_given_the_lock() {
    let mut rig = Rig::new();
    let (_holder, waiter) = (rig.lock(1), rig.lock(2));
    rig.revoke(2);
    let why = rig.locked(waiter).expect("an end").expect_err("expired");
    assert_eq!(why, "mutex: session is expired");

    // Both go at once, and the waiter's check comes after: still not given.
    let waiter = rig.lock(3);
    rig.model.execute(&Request::LeaseRevoke(LeaseId(1))).expect("revoked");
    rig.model.execute(&Request::LeaseRevoke(LeaseId(3))).expect("revoked");
    rig.settle();
    let why = rig.locked(waiter).expect("an end").expect_err("expired");
    assert_eq!(why, "mutex: session is expired");
}

#[test]
fn a_call_without_a_lease_gets_one_and_gives_it_back_if_it_leaves() {
    let mut rig = Rig::new();
    let call = rig.lock(0);
    assert_eq!(rig.locked(call).expect("an end").expect("locked").key, "n/3eb");
    let waiter = rig.lock(0);
    assert!(rig.locked(waiter).is_none());
    assert_eq!(rig.model.leases.len(), 5);
    rig.cancel(waiter);
    assert_eq!((rig.keys(), rig.model.leases.len()), (vec![&b"n/3eb"[..]], 4));
}

#[test]
fn errors_have_etcds_words_and_the_code_unknown() {
    let mut rig = Rig::new();
    let (name, value) = (Bytes::from_static(b"n"), Bytes::from_static(b"v"));
    let lock_call = v3lockpb::LockRequest { name: name.clone(), lease: 99 };
    let no_lease = "etcdserver: requested lease not found";
    let locked = rig.ask::<v3lockpb::LockResponse>(lock(), &lock_call);
    assert_eq!(locked.expect_err("no lease"), no_lease);
    let unlocked = rig
        .ask::<v3lockpb::UnlockResponse>(unlock(), &Default::default() as &v3lockpb::UnlockRequest);
    assert_eq!(unlocked.expect_err("no key"), "etcdserver: key is not provided");
    let campaigned = rig.ask::<v3electionpb::CampaignResponse>(
        campaign(),
        &v3electionpb::CampaignRequest { name: name.clone(), lease: 99, value: value.clone() },
    );
    assert_eq!(campaigned.expect_err("no lease"), no_lease);
    let led = rig.ask::<v3electionpb::LeaderResponse>(
        leader(),
        &v3electionpb::LeaderRequest { name: name.clone() },
    );
    assert_eq!(led.expect_err("nobody"), "election: no leader");
    for (leader, expect) in [
        (None, "\"leader\" field must be provided"),
        (leader_key(b"n/1", 5, 1), "election: not leader"),
        (leader_key(b"", 5, 1), "etcdserver: key is not provided"),
    ] {
        let request = v3electionpb::ProclaimRequest { leader, value: value.clone() };
        let proclaimed = rig.ask::<v3electionpb::ProclaimResponse>(proclaim(), &request);
        assert_eq!(proclaimed.expect_err(expect), expect);
    }
    let resigned = rig.ask::<v3electionpb::ResignResponse>(
        resign(),
        &v3electionpb::ResignRequest { leader: None },
    );
    assert_eq!(resigned.expect_err("nobody"), "\"leader\" field must be provided");
    let call = rig.begin(lock(), &lock_call);
    rig.calls[call].ended = None;
    rig.calls[call].asked.clear();
    rig.tell(call, |machine, out| machine.on_message(Bytes::from_static(b"\xff"), out));
    let status = rig.calls[call].ended.clone().expect("an end");
    assert_eq!(status.code, Code::Internal, "{status:?}");
}

#[test]
fn an_election_passes_on_by_resigning_and_proclaims_in_between() {
    let mut rig = Rig::new();
    let (first, second) = (rig.campaign(1, "a"), rig.campaign(2, "b"));
    let won: v3electionpb::CampaignResponse = rig.outcome(first).expect("an end").expect("elected");
    let leader_key = won.leader.expect("a leader");
    assert_eq!((&leader_key.key[..], leader_key.rev, leader_key.lease), (&b"n/1"[..], 2, 1));
    assert_eq!(leader_key.name, "n");

    let proclaim_call = v3electionpb::ProclaimRequest {
        leader: Some(leader_key.clone()),
        value: Bytes::from_static(b"a2"),
    };
    let proclaimed: v3electionpb::ProclaimResponse =
        rig.ask(proclaim(), &proclaim_call).expect("proclaimed");
    assert_eq!(proclaimed.header.expect("a header").revision, 4);
    let name = Bytes::from_static(b"n");
    let led: v3electionpb::LeaderResponse =
        rig.ask(leader(), &v3electionpb::LeaderRequest { name }).expect("a leader");
    let kv = led.kv.expect("a key");
    assert_eq!((&kv.key[..], &kv.value[..], kv.version), (&b"n/1"[..], &b"a2"[..], 2));

    assert!(rig.outcome::<v3electionpb::CampaignResponse>(second).is_none());
    let resigned: v3electionpb::ResignResponse = rig
        .ask(resign(), &v3electionpb::ResignRequest { leader: Some(leader_key.clone()) })
        .expect("resigned");
    assert_eq!(resigned.header.expect("a header").revision, 5);
    let won: v3electionpb::CampaignResponse =
        rig.outcome(second).expect("an end").expect("elected");
    assert_eq!(won.header.expect("a header").revision, 3, "as of the candidacy, as in etcd");
    let late = rig.ask::<v3electionpb::ProclaimResponse>(proclaim(), &proclaim_call);
    assert_eq!(late.expect_err("over"), "election: not leader");
    // To resign twice is no error.
    let again = v3electionpb::ResignRequest { leader: Some(leader_key) };
    rig.ask::<v3electionpb::ResignResponse>(resign(), &again).expect("resigned");
}

#[test]
fn a_candidate_that_comes_back_with_another_value_proclaims_it() {
    let mut rig = Rig::new();
    rig.campaign(1, "a");
    let again = rig.campaign(1, "b");
    let won: v3electionpb::CampaignResponse = rig.outcome(again).expect("an end").expect("elected");
    assert_eq!(won.leader.expect("a leader").rev, 2);
    assert_eq!(rig.model.live[&b"n/1"[..]].value(), b"b");
    let unchanged = rig.model.revision;
    rig.campaign(1, "b");
    assert_eq!(rig.model.revision, unchanged);
}

#[test]
fn a_candidate_whose_lease_ends_is_told_and_one_that_leaves_steps_back() {
    let mut rig = Rig::new();
    let (_leader, second, third) =
        (rig.campaign(1, "a"), rig.campaign(2, "b"), rig.campaign(0, "c"));
    rig.revoke(2);
    let lost = rig.outcome::<v3electionpb::CampaignResponse>(second).expect("an end");
    assert_eq!(lost.expect_err("expired"), "election: not leader");
    rig.cancel(third);
    assert_eq!(rig.keys(), [&b"n/1"[..]]);
}

#[test]
fn observers_see_every_leader_and_every_value_in_order() {
    let mut rig = Rig::new();
    let request = v3electionpb::LeaderRequest { name: Bytes::from_static(b"n") };
    let early = rig.begin(observe(), &request);
    rig.settle();
    assert!(rig.calls[early].answers.is_empty());
    rig.campaign(1, "a");
    let late = rig.begin(observe(), &request);
    rig.settle();
    let value = |text: &'static str, leader| v3electionpb::ProclaimRequest {
        leader,
        value: Bytes::from_static(text.as_bytes()),
    };
    // Two proclamations before anyone looks.
    for text in ["a2", "a3"] {
        let call = rig.begin(proclaim(), &value(text, leader_key(b"n/1", 2, 1)));
        while rig.step(call) {}
    }
    rig.campaign(2, "b");
    rig.revoke(1);
    let seen = |call: usize| -> Vec<(Bytes, Bytes)> {
        let answers = rig.calls[call].answers.iter();
        let decode = |bytes: &Bytes| v3electionpb::LeaderResponse::decode(bytes.clone());
        let kvs = answers.map(|bytes| decode(bytes).expect("a message").kv.expect("a key"));
        kvs.map(|kv| (kv.key, kv.value)).collect()
    };
    let expect = [("n/1", "a"), ("n/1", "a2"), ("n/1", "a3"), ("n/2", "b")];
    let expect = expect.map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
    assert_eq!(seen(early), expect);
    assert_eq!(seen(late), expect);
}

#[test]
fn a_watch_that_fails_ends_the_wait_and_takes_the_key_away() {
    let mut rig = Rig::new();
    let (_holder, waiter) = (rig.lock(1), rig.lock(2));
    rig.tell(waiter, |machine, out| machine.on_reply(WATCH, Err(Reject::Stopped), out));
    rig.settle();
    let why = rig.locked(waiter).expect("an end").expect_err("stopped");
    assert_eq!(why, "etcdserver: server stopped");
    assert_eq!(rig.keys(), [&b"n/1"[..]]);
}

#[test]
fn at_random_at_most_one_holds_the_lock() {
    for seed in 0..200 {
        let mut prng = crate::base::prng::Prng::new(seed);
        let mut rig = Rig::new();
        rig.model.leases.extend(1..=8);
        let mut told = BTreeSet::new();
        for lease in 1..=8 {
            let name = Bytes::from_static(b"n");
            rig.begin(lock(), &v3lockpb::LockRequest { name, lease });
        }
        for _ in 0..300 {
            let call = prng.below(8) as usize;
            match prng.below(12) {
                0 => drop(rig.model.execute(&Request::LeaseRevoke(LeaseId(call as i64 + 1)))),
                _ => drop(rig.step(call)),
            }
            for call in 0..8 {
                if matches!(rig.locked(call), Some(Ok(_))) && told.insert(call) {
                    let oldest = rig.model.live.values().min_by_key(|record| record.create);
                    let own = key_of(b"n/", LeaseId(call as i64 + 1));
                    let key = oldest.map(|record| record.key_bytes());
                    assert_eq!(key, Some(own), "seed {seed}: told the moment it was so");
                }
            }
        }
    }
}
