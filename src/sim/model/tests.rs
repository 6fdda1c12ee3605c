//! The model against facts of the contract, written down by hand.

use super::*;
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        prev_kv: true,
        ..pb::PutRequest::default()
    }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    let (key, range_end) = (Bytes::copy_from_slice(key.as_bytes()), end.to_owned().into());
    pb::DeleteRangeRequest { key, range_end, prev_kv: true }
}

fn range(key: &str, end: &str) -> pb::RangeRequest {
    let (key, range_end) = (Bytes::copy_from_slice(key.as_bytes()), end.to_owned().into());
    pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..pb::TxnRequest::default() }
}

/// Executes requests from the empty store and compares what each is answered.
fn check(steps: Vec<(Request, &str)>) {
    let mut model = Model::new();
    for (request, expected) in steps {
        assert_eq!(shown(&model.execute(&request)), expected, "{request:?}");
    }
}

#[test]
fn revisions_follow_changes() {
    check(vec![
        (Request::Range(range("k", "")), "range at 1: 0 keys, more false"),
        (Request::DeleteRange(delete("k", "")), "deleted 0 at 1"),
        (Request::Txn(txn(vec![])), "txn at 1, succeeded true"),
        (Request::Put(put("k", "1")), "put at 2"),
        (Request::Put(put("k", "1")), "put at 3 Record(\"k\" at 2.0 create 2 version 1 lease 0)=1"),
        (
            Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 1, id: 9 }),
            "LeaseGrant { revision: Revision(3), id: LeaseId(9), ttl_s: 2 }",
        ),
        (Request::LeaseRevoke(LeaseId(9)), "LeaseRevoke(Revision(3))"),
        (
            Request::DeleteRange(delete("k", "\0")),
            "deleted 1 at 4 Record(\"k\" at 3.0 create 2 version 2 lease 0)=1",
        ),
        (Request::Put(put("k", "2")), "put at 5"),
        (
            Request::Range(range("k", "")),
            "range at 5: 1 keys, more false \
             Record(\"k\" at 5.0 create 5 version 1 lease 0)=2",
        ),
    ]);
}

#[test]
fn ranges_within_a_write_txn_see_it_from_the_first_change_on() {
    let get = || op(Op::RequestRange(pb::RangeRequest { count_only: true, ..range("k", "") }));
    let all =
        txn(vec![get(), op(Op::RequestTxn(txn(vec![op(Op::RequestPut(put("k", "1")))]))), get()]);
    let ahead = txn(vec![
        op(Op::RequestPut(put("k", "2"))),
        op(Op::RequestRange(pb::RangeRequest { revision: 3, ..range("k", "") })),
    ]);
    check(vec![
        (
            Request::Txn(all),
            "txn at 2, succeeded true \
             (range at 1: 0 keys, more false) \
             (succeeded true (put at 2)) \
             (range at 2: 1 keys, more false)",
        ),
        (Request::Txn(ahead), "FutureRevision"),
    ]);
}

#[test]
fn sibling_txns_may_put_and_then_delete_a_key_but_not_the_other_way_round() {
    let puts = || op(Op::RequestTxn(txn(vec![op(Op::RequestPut(put("k", "2")))])));
    let deletes = || op(Op::RequestTxn(txn(vec![op(Op::RequestDeleteRange(delete("k", "")))])));
    let mut model = Model::new();
    let first = model.execute(&Request::Put(put("k", "1")));
    assert!(first.is_ok());
    let refused = model.execute(&Request::Txn(txn(vec![deletes(), puts()])));
    assert_eq!(refused.err(), Some(Reject::DuplicateKey));
    let answer = model.execute(&Request::Txn(txn(vec![puts(), deletes()])));
    assert_eq!(
        shown(&answer),
        "txn at 3, succeeded true \
         (succeeded true (put at 3 Record(\"k\" at 2.0 create 2 version 1 lease 0)=1)) \
         (succeeded true (deleted 1 at 3 \
         Record(\"k\" at 3.0 create 2 version 2 lease 0)=2))"
    );
    // Both events show the version below their revision.
    let events = model.events(&KeyRange::all(), Revision(3)).expect("not compacted");
    let shown: Vec<_> = events
        .iter()
        .map(|event| (event.record.at(), event.previous.as_ref().map(|kv| kv.revision.0)))
        .collect();
    assert_eq!(shown, [((Revision(3), Sub(0)), Some(2)), ((Revision(3), Sub(1)), Some(2))]);
}

#[test]
fn a_limit_applies_before_a_target_without_order_and_after_one_with() {
    let mut model = Model::new();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("d", "0")] {
        let reply = model.execute(&Request::Put(put(key, value)));
        assert!(reply.is_ok());
    }
    // (order, target, limit, filter) -> keys, more.
    type Case = (SortOrder, SortTarget, i64, i64, &'static str, bool);
    let cases: [Case; 8] = [
        (SortOrder::None, SortTarget::Key, 2, 0, "ab", true),
        (SortOrder::Ascend, SortTarget::Key, 4, 0, "abcd", false),
        (SortOrder::Descend, SortTarget::Key, 2, 0, "dc", true),
        // Three are taken in key order, sorted, and the last is cut off.
        (SortOrder::None, SortTarget::Value, 2, 0, "cb", true),
        (SortOrder::Ascend, SortTarget::Value, 2, 0, "dc", true),
        (SortOrder::Descend, SortTarget::Mod, 3, 0, "dcb", true),
        (SortOrder::Descend, SortTarget::Version, 0, 0, "abcd", false),
        (SortOrder::None, SortTarget::Key, 2, 4, "cd", false),
    ];
    for (order, target, limit, min_mod, keys, more) in cases {
        let request = pb::RangeRequest {
            limit,
            sort_order: order as i32,
            sort_target: target as i32,
            min_mod_revision: min_mod,
            ..range("a", "\0")
        };
        let reply = model.execute(&Request::Range(request));
        let Ok(Answer::Range(answer)) = reply else { panic!("{reply:?}") };
        let found: String =
            answer.records.iter().map(|kv| String::from_utf8_lossy(kv.key())).collect();
        assert_eq!((&found[..], answer.more), (keys, more), "{order:?} {target:?} {limit}");
        assert_eq!(answer.count, 4);
    }
}

#[test]
fn compaction_refuses_below_and_reads_at_its_revision() {
    let compact = |revision| Request::Compact(pb::CompactionRequest { revision, physical: false });
    let at = |revision| {
        Request::Range(pb::RangeRequest { revision, count_only: true, ..range("k", "") })
    };
    let in_txn = |revision| {
        let read = pb::RangeRequest { revision, ..range("k", "") };
        Request::Txn(txn(vec![op(Op::RequestRange(read))]))
    };
    check(vec![
        (Request::Put(put("k", "1")), "put at 2"),
        (
            Request::DeleteRange(pb::DeleteRangeRequest { prev_kv: false, ..delete("k", "") }),
            "deleted 1 at 3",
        ),
        (compact(4), "FutureRevision"),
        (compact(3), "Header(Revision(3))"),
        (compact(3), "Compacted"),
        (at(2), "Compacted"),
        (at(3), "range at 3: 0 keys, more false"),
        (at(4), "FutureRevision"),
        (at(-1), "range at 3: 0 keys, more false"),
        (in_txn(-1), "Compacted"),
    ]);
}
