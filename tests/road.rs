//! Interleavings that shaped the road of a write, each moved by hand.
//!
//! Two cores own a shard each; the first one also orders. Mail between them waits until a test
//! delivers it.

use bytes::Bytes;

use ringbolt::base::reject::Reject;
use ringbolt::base::{CoreId, LeaseId, Revision};
use ringbolt::node::Mail;
use ringbolt::sim::machine::Plan;
use ringbolt::sim::model::{Model, shown};
use ringbolt::sim::rig::Rig;
use ringbolt::sim::workload::everything;
use ringbolt::wire::call::{Answer, OpAnswer, Reply, Request, WatchBody};
use ringbolt::wire::etcdserverpb as pb;
use ringbolt::wire::etcdserverpb::request_op::Request as Op;

fn rig() -> Rig {
    Rig::new(Plan::new(2, 2, 1))
}

fn put_of(key: &Bytes, value: &str, lease: i64) -> pb::PutRequest {
    let value = Bytes::copy_from_slice(value.as_bytes());
    pb::PutRequest { key: key.clone(), value, lease, ..pb::PutRequest::default() }
}

fn put(key: &Bytes, value: &str) -> Request {
    Request::Put(put_of(key, value, 0))
}

fn get(key: &Bytes, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: key.clone(), revision, ..pb::RangeRequest::default() }
}

fn txn(ops: Vec<Op>) -> Request {
    let success = ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    Request::Txn(pb::TxnRequest { success, ..pb::TxnRequest::default() })
}

/// A Txn that does `op` if a key has so many versions.
fn if_version(key: &Bytes, version: i64, op: Op) -> Request {
    let compare = pb::Compare {
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::Version(version)),
        ..pb::Compare::default()
    };
    let success = vec![pb::RequestOp { request: Some(op) }];
    Request::Txn(pb::TxnRequest { compare: vec![compare], success, ..pb::TxnRequest::default() })
}

fn puts(keys: &[&Bytes], value: &str) -> Request {
    txn(keys.iter().map(|key| Op::RequestPut(put_of(key, value, 0))).collect())
}

fn delete_all() -> pb::DeleteRangeRequest {
    let zero = Bytes::from_static(&[0]);
    pb::DeleteRangeRequest { key: zero.clone(), range_end: zero, prev_kv: false }
}

fn grant(id: i64) -> Request {
    Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 600, id })
}

/// The revision of a write's answer.
fn revision(reply: Option<Reply>) -> i64 {
    let reply = reply.expect("an answer");
    ringbolt::sim::judge::header(&reply).unwrap_or_else(|| panic!("{reply:?}")).0
}

fn refused(reply: Option<Reply>) -> Reject {
    reply.expect("an answer").expect_err("a refusal")
}

/// Lets the coordinator decide what it has begun; the second core's release stays on its way.
fn decide(rig: &mut Rig) {
    let (first, second) = (CoreId(0), CoreId(1));
    rig.step(0);
    while !rig.post.on(first, second).any(|mail| matches!(mail, Mail::Release(..))) {
        rig.deliver(0, 1, |_| false);
        rig.step(1);
        rig.deliver(1, 0, |_| false);
        rig.step(0);
    }
}

#[test]
fn a_late_refusal_takes_no_revision() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let bad = rig.ask(1, Request::Put(put_of(&b, "x", 7)));
    assert_eq!(bad.expect_err("no such lease"), Reject::LeaseNotFound);
    assert_eq!(revision(Some(rig.ask(0, put(&a, "x")))), 2);
}

#[test]
fn two_txns_over_both_shards_do_not_wait_for_each_other_for_ever() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let first = rig.call(0, puts(&[&a, &b], "first"));
    let second = rig.call(1, puts(&[&b, &a], "second"));
    rig.step(1);
    rig.step(0);
    rig.run();
    let mut revisions = [revision(rig.reply(first)), revision(rig.reply(second))];
    revisions.sort_unstable();
    assert_eq!(revisions, [2, 3]);
}

#[test]
fn a_txn_is_seen_whole_though_one_shard_has_not_applied_it() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let write = rig.call(0, puts(&[&a, &b], "v"));
    decide(&mut rig);
    rig.sync();
    // Committed, and applied by the first core alone.
    rig.step(0);
    assert!(rig.reply(write).is_none(), "nothing is answered before it is visible");
    let read = rig.call(0, Request::Range(everything()));
    rig.run();
    let Some(Ok(Answer::Range(range))) = rig.reply(read) else { panic!("a range is answered") };
    assert_eq!((range.revision, range.count), (Revision(2), 2));
    assert_eq!(revision(rig.reply(write)), 2);
}

#[test]
fn a_release_may_be_slower_than_the_log() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let write = rig.call(0, puts(&[&a, &b], "v"));
    decide(&mut rig);
    rig.sync();
    rig.step(0);
    // The second core applies what is committed, and is released only then.
    rig.step(1);
    rig.run();
    assert_eq!(revision(rig.reply(write)), 2);
    let old = txn(vec![Op::RequestRange(get(&b, 2)), Op::RequestPut(put_of(&b, "w", 0))]);
    assert_eq!(revision(Some(rig.ask(1, old))), 3);
}

#[test]
fn a_read_of_a_revision_in_flight_waits_for_it() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let write = rig.call(1, put(&b, "v"));
    rig.step(1);
    // Revision 2 is taken and its proposal is on its way. The delete makes this no plain read.
    let absent = pb::DeleteRangeRequest { key: a.clone(), ..pb::DeleteRangeRequest::default() };
    let ops = vec![Op::RequestDeleteRange(absent), Op::RequestRange(get(&a, 2))];
    let read = rig.call(0, txn(ops));
    rig.step(0);
    rig.sync();
    rig.step(0);
    assert!(rig.reply(read).is_none(), "it would show a revision that may never be");
    rig.run();
    assert_eq!((revision(rig.reply(write)), revision(rig.reply(read))), (2, 2));
}

#[test]
fn an_old_version_in_flight_is_not_taken_for_absent() {
    let mut rig = rig();
    let a = rig.key(0, 0);
    let delete = pb::DeleteRangeRequest { key: a.clone(), ..pb::DeleteRangeRequest::default() };
    let writes = [put(&a, "old"), Request::DeleteRange(delete), put(&a, "new")];
    for write in writes {
        let _ = rig.call(0, write);
    }
    let read =
        rig.call(0, txn(vec![Op::RequestRange(get(&a, 2)), Op::RequestDeleteRange(delete_all())]));
    rig.step(0);
    rig.run();
    let Some(Ok(Answer::Txn(answer))) = rig.reply(read) else { panic!("a txn is answered") };
    let OpAnswer::Range(range) = &answer.ops[0] else { panic!("a range comes first") };
    assert_eq!(range.records.iter().map(|r| r.value()).collect::<Vec<_>>(), [b"old"]);
}

#[test]
fn a_compaction_stands_behind_what_it_names() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let write = rig.call(1, put(&b, "v"));
    rig.step(1);
    let request = pb::CompactionRequest { revision: 2, physical: false };
    let compact = rig.call(0, Request::Compact(request));
    rig.step(0);
    assert!(rig.reply(compact).is_none());
    rig.run();
    assert_eq!((revision(rig.reply(write)), revision(rig.reply(compact))), (2, 2));
    let old = rig.ask(1, Request::Range(get(&b, 1)));
    assert_eq!(refused(Some(old)), Reject::Compacted);
    assert_eq!(revision(Some(rig.ask(1, Request::Range(get(&b, 0))))), 2);
}

#[test]
fn no_key_outlives_its_lease() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok());
    // A put before the latch is deleted with the lease, one behind it is refused.
    let early = rig.call(1, Request::Put(put_of(&b, "early", 7)));
    rig.step(1);
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.step(0);
    rig.deliver(0, 1, |mail| matches!(mail, Mail::Latch(..)));
    rig.step(1);
    let late = rig.call(1, Request::Put(put_of(&b, "late", 7)));
    rig.step(1);
    assert!(rig.reply(late).is_none(), "a latched shard evaluates nothing");
    rig.run();
    assert_eq!((revision(rig.reply(early)), revision(rig.reply(revoke))), (2, 3));
    assert_eq!(refused(rig.reply(late)), Reject::LeaseNotFound);
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(everything())) else { panic!() };
    assert_eq!(left.count, 0);
}

#[test]
fn a_key_that_moved_to_another_lease_stays() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok() && rig.ask(0, grant(8)).is_ok());
    assert_eq!(revision(Some(rig.ask(1, Request::Put(put_of(&b, "v", 7))))), 2);
    let moved = rig.call(1, Request::Put(put_of(&b, "w", 8)));
    rig.step(1);
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.run();
    assert_eq!((revision(rig.reply(moved)), revision(rig.reply(revoke))), (3, 3));
    let Ok(Answer::Range(left)) = rig.ask(1, Request::Range(get(&b, 0))) else { panic!() };
    assert_eq!(left.count, 1);
}

#[test]
fn a_watch_is_created_no_earlier_than_what_was_committed() {
    let mut rig = rig();
    let a = rig.key(0, 0);
    let write = rig.call(0, put(&a, "v"));
    rig.step(0);
    rig.sync();
    rig.step(0);
    assert_eq!(revision(rig.reply(write)), 2);
    // The hub of the second core has matched nothing of it yet.
    let create = pb::WatchCreateRequest { key: a.clone(), ..pb::WatchCreateRequest::default() };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    let request = pb::WatchRequest { request_union: Some(create) };
    let _ = rig.call(1, Request::Watch(request));
    rig.run();
    let (_, created) = &rig.told[0];
    assert!(matches!(created.body, WatchBody::Created), "{created:?}");
    assert_eq!(created.revision, Revision(2));
    assert_eq!(rig.told.len(), 1, "what was acknowledged before is not an event");
}

#[test]
fn a_txn_that_names_no_key_is_answered() {
    let mut rig = rig();
    let empty = || Op::RequestTxn(pb::TxnRequest::default());
    for core in [0, 1] {
        assert_eq!(revision(Some(rig.ask(core, txn(vec![empty(), empty()])))), 1);
    }
}

#[test]
fn changes_are_numbered_in_key_order_over_shards() {
    let mut rig = Rig::new(Plan::new(2, 5, 1));
    let mut model = Model::new();
    let keys: Vec<Bytes> = (0..20).map(|n| Bytes::from(format!("k{n:02}"))).collect();
    let writes = [
        puts(&keys.iter().rev().collect::<Vec<_>>(), "v"),
        Request::DeleteRange(delete_all()),
        Request::HashKv(Revision(0)),
        Request::HashKv(Revision(2)),
    ];
    for write in writes {
        let expected = shown(&model.execute(&write));
        assert_eq!(shown(&rig.ask(1, write)), expected);
    }
}

#[test]
fn a_delete_over_several_entries_takes_effect_at_once() {
    let mut plan = Plan::new(1, 2, 1);
    plan.layout.segment_bytes = 8 << 20;
    plan.ring = 1024;
    let mut rig = Rig::new(plan);
    let keys: Vec<Bytes> = (0..17_000).map(|n| Bytes::from(format!("k{n:05}"))).collect();
    for some in keys.chunks(1_000) {
        assert!(rig.ask(0, puts(&some.iter().collect::<Vec<_>>(), "v")).is_ok());
    }
    let delete = rig.call(0, Request::DeleteRange(delete_all()));
    rig.step(0);
    let count = |reply: Option<Reply>| match reply {
        Some(Ok(Answer::Range(range))) => (range.revision.0, range.count),
        other => panic!("{other:?}"),
    };
    while rig.reply(delete).is_none() {
        let read = rig.call(0, Request::Range(everything()));
        rig.step(0);
        let seen = count(rig.reply(read));
        assert!([(18, 17_000), (19, 0)].contains(&seen), "{seen:?}");
        rig.sync();
        rig.step(0);
    }
    assert_eq!(count(Some(rig.ask(0, Request::Range(everything())))), (19, 0));
}

#[test]
fn a_lease_that_is_being_granted_is_there_for_what_comes_behind_it() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let granted = rig.call(0, grant(7));
    rig.step(0);
    // The grant stands behind revision 1 and no shard knows of it. The second core's put takes
    // revision 2, so that what rests on it stands behind the grant too.
    let first = rig.call(1, put(&b, "x"));
    rig.step(1);
    let on_it = rig.call(1, if_version(&b, 1, Op::RequestPut(put_of(&b, "y", 7))));
    let on_none = rig.call(1, if_version(&b, 1, Op::RequestPut(put_of(&b, "y", 8))));
    rig.step(1);
    rig.run();
    assert_eq!((revision(rig.reply(granted)), revision(rig.reply(first))), (1, 2));
    assert_eq!(revision(rig.reply(on_it)), 3);
    let Some(Ok(Answer::Txn(missed))) = rig.reply(on_none) else { panic!("no key is put") };
    assert!(!missed.succeeded, "what was put on the lease is in flight and counts");
    let gone = rig.ask(1, Request::Put(put_of(&b, "z", 8)));
    assert_eq!(refused(Some(gone)), Reject::LeaseNotFound);
}

#[test]
fn a_lease_that_is_being_granted_can_be_revoked() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let granted = rig.call(0, grant(7));
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    rig.step(0);
    let early = rig.call(1, Request::Put(put_of(&b, "x", 7)));
    rig.step(1);
    rig.run();
    assert_eq!((revision(rig.reply(granted)), revision(rig.reply(revoke))), (1, 1));
    assert_eq!(refused(rig.reply(early)), Reject::LeaseNotFound);
}

#[test]
fn a_refusal_by_a_lease_that_is_going_waits_for_its_end() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert!(rig.ask(0, grant(7)).is_ok());
    let revoke = rig.call(0, Request::LeaseRevoke(LeaseId(7)));
    decide(&mut rig);
    rig.deliver(0, 1, |_| false);
    rig.step(1);
    let late = rig.call(1, Request::Put(put_of(&b, "x", 7)));
    for _ in 0..3 {
        rig.step(1);
        rig.deliver(1, 0, |_| false);
        rig.step(0);
        rig.deliver(0, 1, |_| false);
    }
    assert!(rig.reply(late).is_none(), "the end of the lease may be lost yet");
    rig.run();
    assert_eq!(revision(rig.reply(revoke)), 1);
    assert_eq!(refused(rig.reply(late)), Reject::LeaseNotFound);
}

#[test]
fn an_answer_by_grace_of_a_cleared_alarm_shows_no_older_revision() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let alarm = |action| Request::Alarm(pb::AlarmRequest { action, member_id: 1, alarm: 1 });
    assert_eq!(revision(Some(rig.ask(1, put(&b, "v")))), 2);
    assert!(rig.ask(0, alarm(1)).is_ok());
    let delete = pb::DeleteRangeRequest { key: b.clone(), ..pb::DeleteRangeRequest::default() };
    let deleted = rig.call(1, Request::DeleteRange(delete));
    rig.step(1);
    let cleared = rig.call(0, alarm(2));
    decide(&mut rig);
    // Of what this reads nothing is in flight. Under the alarm it would be refused, and the
    // alarm is cleared behind revision 3.
    let missed = rig.call(0, if_version(&a, 1, Op::RequestPut(put_of(&a, "w", 0))));
    rig.step(0);
    assert!(rig.reply(missed).is_none());
    rig.run();
    assert_eq!((revision(rig.reply(deleted)), revision(rig.reply(cleared))), (3, 3));
    assert_eq!(revision(rig.reply(missed)), 3);
}
