//! Interleavings that shaped the road of a write, each moved by hand.
//!
//! Two cores own a shard each; the first one also orders. Mail between them waits until a test
//! delivers it.

use bytes::Bytes;

use ringbolt::base::limits;
use ringbolt::base::reject::Reject;
use ringbolt::base::{CoreId, LeaseId, Revision};
use ringbolt::node::{Input, Mail};
use ringbolt::sim::machine::Plan;
use ringbolt::sim::model::{Model, shown};
use ringbolt::sim::rig::Rig;
use ringbolt::sim::workload::everything;
use ringbolt::wire::call::{Answer, CallId, OpAnswer, Reply, Request, WatchBody, WatchMessage};
use ringbolt::wire::etcdserverpb as pb;
use ringbolt::wire::etcdserverpb::request_op::Request as Op;

#[path = "road/checkpoints.rs"]
mod checkpoints;
#[path = "road/leases.rs"]
mod leases;
#[path = "road/reads.rs"]
mod reads;
#[path = "road/watches.rs"]
mod watches;

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

#[test]
fn a_revision_waits_for_the_one_before_it() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let first = rig.call(1, put(&b, "first"));
    rig.step(1);
    // Revision 2 is taken and its proposal is on its way; 3 is ready and may not go alone.
    let second = rig.call(0, put(&a, "second"));
    rig.step(0);
    rig.sync();
    rig.step(0);
    assert_eq!(rig.machine.shared.committed().0, Revision(1));
    assert!(rig.reply(second).is_none());
    rig.run();
    assert_eq!((revision(rig.reply(first)), revision(rig.reply(second))), (2, 3));
}

#[test]
fn a_write_whose_client_is_gone_keeps_its_place() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let gone = rig.call(1, put(&b, "gone"));
    rig.step(1);
    rig.machine.give(CoreId(1), Input::Gone(gone));
    assert_eq!(revision(Some(rig.ask(0, put(&a, "next")))), 3);
    assert_eq!(revision(Some(rig.ask(1, Request::Range(get(&b, 2))))), 3);
}

#[test]
fn an_answer_that_changes_nothing_shows_the_newest_of_what_it_read() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let read = rig.call(0, put(&a, "read"));
    rig.step(0);
    let unread = rig.call(1, put(&b, "unread"));
    rig.step(1);
    let missed = rig.call(0, if_version(&a, 9, Op::RequestPut(put_of(&a, "w", 0))));
    let absent = pb::DeleteRangeRequest { key: rig.key(0, 1), ..Default::default() };
    let absent = rig.call(0, Request::DeleteRange(absent));
    rig.step(0);
    assert_eq!(revision(rig.reply(absent)), 1, "it rests on nothing in flight");
    assert!(rig.reply(missed).is_none(), "what it read may be lost yet");
    rig.run();
    assert_eq!((revision(rig.reply(read)), revision(rig.reply(unread))), (2, 3));
    assert_eq!(revision(rig.reply(missed)), 2);
}

#[test]
fn an_absence_in_flight_is_told_once_it_is_certain() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert_eq!(revision(Some(rig.ask(1, put(&b, "v")))), 2);
    let delete = || pb::DeleteRangeRequest { key: b.clone(), ..Default::default() };
    let deleted = rig.call(1, Request::DeleteRange(delete()));
    let again = rig.call(1, Request::DeleteRange(delete()));
    let keep = pb::PutRequest { ignore_value: true, ..put_of(&b, "", 0) };
    let kept = rig.call(1, Request::Put(keep));
    rig.step(1);
    assert!(rig.reply(again).is_none() && rig.reply(kept).is_none());
    rig.run();
    assert_eq!((revision(rig.reply(deleted)), revision(rig.reply(again))), (3, 3));
    assert_eq!(refused(rig.reply(kept)), Reject::KeyNotFound);
}

#[test]
fn what_waits_at_a_latch_sees_what_the_latch_did() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let both = rig.call(0, puts(&[&a, &b], "both"));
    rig.step(0);
    rig.deliver(0, 1, |mail| matches!(mail, Mail::Latch(..)));
    rig.step(1);
    let next = rig.call(1, if_version(&b, 1, Op::RequestPut(put_of(&b, "next", 0))));
    rig.step(1);
    rig.run();
    assert_eq!((revision(rig.reply(both)), revision(rig.reply(next))), (2, 3));
    let Ok(Answer::Range(left)) = rig.ask(0, Request::Range(get(&b, 0))) else { panic!() };
    assert_eq!(left.records[0].version, 2);
}

#[test]
fn who_is_refused_for_space_finds_the_alarm_raised() {
    for case in 0..3 {
        let mut plan = Plan::new(2, 2, 1);
        plan.node.quota_bytes = Some(3_000);
        let mut rig = Rig::new(plan);
        let (a, b) = (rig.key(0, 0), rig.key(1, 0));
        let full = "v".repeat(2_600);
        assert!(rig.ask(1, put(&b, &full)).is_ok());
        // Deletions are never refused: this one leaves no room even for a grant.
        assert!(rig.ask(1, Request::DeleteRange(delete_all())).is_ok());
        let request = match case {
            0 => put(&b, &full),
            1 => puts(&[&a, &b], &full),
            _ => grant(7),
        };
        let call = rig.call(1, request);
        for _ in 0..8 {
            rig.step(1);
            rig.deliver(1, 0, |_| false);
            rig.step(0);
            rig.deliver(0, 1, |_| false);
        }
        assert!(rig.reply(call).is_none(), "case {case}: the alarm is not on disk");
        rig.run();
        assert_eq!(refused(rig.reply(call)), Reject::NoSpace, "case {case}");
        let list = rig.ask(0, Request::Alarm(pb::AlarmRequest::default()));
        let Ok(Answer::Alarm { alarms, .. }) = list else { panic!("{list:?}") };
        assert_eq!(alarms.len(), 1, "case {case}");
    }
}

#[test]
fn a_core_that_nothing_concerns_does_not_fill_the_ring() {
    let mut plan = Plan::new(3, 2, 1);
    plan.ring = 32;
    let mut rig = Rig::new(plan);
    let b = rig.key(1, 0);
    let calls: Vec<CallId> = (0..40).map(|_| rig.call(1, put(&b, "v"))).collect();
    rig.step(1);
    // A batch each, as many as the ring holds, while the second core sleeps: whenever the third
    // one is rung, nothing of it is visible.
    for _ in &calls {
        rig.deliver(1, 0, |mail| matches!(mail, Mail::Propose(_)));
        rig.step(0);
        rig.sync();
        rig.step(0);
        rig.deliver(0, 2, |_| false);
        if rig.machine.has_input(CoreId(2)) {
            rig.step(2);
        }
    }
    // From here on a core wakes if there is something for it, and only then.
    loop {
        rig.sync();
        for (from, to) in rig.post.waiting() {
            rig.deliver(from.0, to.0, |_| false);
        }
        let woken: Vec<u16> = (0..3).filter(|core| rig.machine.has_input(CoreId(*core))).collect();
        if woken.is_empty() {
            break;
        }
        woken.into_iter().for_each(|core| rig.step(core));
    }
    for (at, call) in calls.into_iter().enumerate() {
        assert!(rig.reply(call).is_some(), "put {at} waits for ever");
    }
}

#[test]
fn what_waits_at_a_latch_is_bounded() {
    let mut plan = Plan::new(2, 2, 1);
    plan.layout.segment_bytes = 8 << 20;
    let mut rig = Rig::new(plan);
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let both = rig.call(0, puts(&[&a, &b], "both"));
    rig.step(0);
    rig.deliver(0, 1, |mail| matches!(mail, Mail::Latch(..)));
    rig.step(1);
    let waiting: Vec<CallId> =
        (0..limits::SHARD_QUEUE_MAX).map(|_| rig.call(1, put(&b, "v"))).collect();
    let one_more = rig.call(1, put(&b, "v"));
    rig.step(1);
    assert_eq!(refused(rig.reply(one_more)), Reject::TooManyRequests);
    rig.run();
    assert_eq!((revision(rig.reply(both)), revision(rig.reply(waiting[0]))), (2, 3));
    assert_eq!(revision(Some(rig.ask(1, put(&b, "v")))), 3 + waiting.len() as i64);
}
