//! Reads at one revision, while the shards go on.

use super::*;

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

/// A third core without a shard: its mail to the shards can wait while the others go on.
fn apart() -> Rig {
    Rig::new(Plan::new(3, 2, 1))
}

fn compact(revision: i64, physical: bool) -> Request {
    Request::Compact(pb::CompactionRequest { revision, physical })
}

fn values(reply: Option<Reply>) -> (i64, Vec<Bytes>) {
    let Some(Ok(Answer::Range(range))) = reply else { panic!("{reply:?}") };
    let values = range.records.iter().map(|record| Bytes::copy_from_slice(record.value()));
    (range.revision.0, values.collect())
}

#[test]
fn a_read_of_the_newest_revision_never_meets_a_compaction() {
    let mut rig = apart();
    let b = rig.key(1, 0);
    assert_eq!(revision(Some(rig.ask(1, put(&b, "old")))), 2);
    let read = rig.call(2, Request::Range(get(&b, 0)));
    rig.step(2);
    // It has picked revision 2. Before the shard hears of it, 3 is written and 2 compacted away.
    let held = [(2, 1)];
    for request in [put(&b, "new"), compact(3, false)] {
        let call = rig.call(0, request);
        rig.run_but(&held);
        assert_eq!(revision(rig.reply(call)), 3);
    }
    let older = Request::Range(get(&rig.key(0, 0), 2));
    let older = rig.call(2, older);
    rig.run_but(&held);
    assert_eq!(refused(rig.reply(older)), Reject::Compacted);
    assert!(rig.reply(read).is_none());
    rig.run();
    assert_eq!(values(rig.reply(read)), (2, vec![Bytes::from("old")]));
}

#[test]
fn a_cut_waits_for_the_reads_that_need_what_it_takes() {
    let mut rig = apart();
    let b = rig.key(1, 0);
    assert_eq!(revision(Some(rig.ask(1, put(&b, "old")))), 2);
    assert_eq!(revision(Some(rig.ask(1, put(&b, "new")))), 3);
    let read = rig.call(2, Request::Range(get(&b, 2)));
    rig.step(2);
    let cut = rig.call(0, compact(3, true));
    rig.run_but(&[(2, 1)]);
    assert!(rig.reply(cut).is_none(), "revision 2 is held");
    rig.run();
    assert_eq!(values(rig.reply(read)), (3, vec![Bytes::from("old")]));
    assert_eq!(revision(rig.reply(cut)), 3);
}

#[test]
fn a_txn_that_reads_the_past_is_wholly_before_a_compaction_or_behind_it() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    assert_eq!(revision(Some(rig.ask(1, put(&b, "v")))), 2);
    let read_and_put =
        || txn(vec![Op::RequestRange(get(&b, 2)), Op::RequestPut(put_of(&b, "w", 0))]);
    let before = rig.call(1, read_and_put());
    rig.step(1);
    let compacted = rig.call(0, compact(3, false));
    decide(&mut rig);
    rig.deliver(0, 1, |_| false);
    let behind = rig.call(1, read_and_put());
    rig.step(1);
    assert!(rig.reply(behind).is_none(), "the compaction may be lost yet");
    rig.run();
    assert_eq!((revision(rig.reply(before)), revision(rig.reply(compacted))), (3, 3));
    assert_eq!(refused(rig.reply(behind)), Reject::Compacted);
}

#[test]
fn a_hash_goes_by_one_compaction_on_all_shards() {
    let mut rig = apart();
    let mut model = Model::new();
    let keys = [rig.key(0, 0), rig.key(1, 0)];
    let writes = (0..6).map(|n| put(&keys[n % 2], "v"));
    for write in writes {
        let expected = shown(&model.execute(&write));
        assert_eq!(shown(&rig.ask(0, write)), expected);
    }
    let hash = Request::HashKv(Revision(0));
    let asked = rig.call(2, hash.clone());
    rig.step(2);
    let held = [(2, 1)];
    rig.run_but(&held);
    let cut = rig.call(0, compact(6, true));
    rig.run_but(&held);
    assert!(rig.reply(asked).is_none() && rig.reply(cut).is_none());
    rig.run();
    assert_eq!(shown(&rig.reply(asked).expect("a hash")), shown(&model.execute(&hash)));
    assert_eq!(revision(rig.reply(cut)), 7);
}

#[test]
fn nothing_is_visible_before_what_came_before_it() {
    let mut rig = rig();
    let (a, b) = (rig.key(0, 0), rig.key(1, 0));
    let early = rig.call(1, put(&b, "early"));
    rig.step(1);
    rig.deliver(1, 0, |_| false);
    rig.step(0);
    rig.sync();
    rig.step(0);
    let late = rig.call(0, put(&a, "late"));
    rig.step(0);
    rig.sync();
    rig.step(0);
    // Two batches are committed; the first core has applied its own and the second core nothing.
    assert_eq!(rig.machine.shared.committed().0, Revision(3));
    assert_eq!(rig.machine.shared.visible_revision(), Revision(1));
    assert!(rig.reply(late).is_none());
    rig.run();
    assert_eq!((revision(rig.reply(early)), revision(rig.reply(late))), (2, 3));
}
