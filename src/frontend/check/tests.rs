use super::*;
use bytes::Bytes;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn op(op: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(op) }
}

fn get(key: &'static str) -> pb::RequestOp {
    op(Op::RequestRange(pb::RangeRequest { key: bytes(key), ..Default::default() }))
}

fn set(key: &'static str) -> pb::RequestOp {
    op(Op::RequestPut(pb::PutRequest { key: bytes(key), ..Default::default() }))
}

fn del(key: &'static str, range_end: &'static str) -> pb::RequestOp {
    let request =
        pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false };
    op(Op::RequestDeleteRange(request))
}

fn branches(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { compare: Vec::new(), success, failure }
}

fn nest(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    op(Op::RequestTxn(branches(success, failure)))
}

#[test]
fn keys_and_flags_of_single_requests() {
    let range_of = |key, sort_order, sort_target| {
        range(&mut pb::RangeRequest {
            key: bytes(key),
            sort_order,
            sort_target,
            ..Default::default()
        })
    };
    assert_eq!(range_of("k", 2, 4), Ok(()));
    assert_eq!(range_of("", 9, 9), Err(Reject::EmptyKey), "the key comes first");
    assert_eq!(range_of("k", 3, 0), Err(Reject::InvalidSortOption));
    assert_eq!(range_of("k", 0, 5), Err(Reject::InvalidSortOption));
    assert_eq!(range_of("k", -1, 0), Err(Reject::InvalidSortOption));

    let put_of = |key, value, lease, ignore_value, ignore_lease| {
        let (key, value) = (bytes(key), bytes(value));
        put(&pb::PutRequest { key, value, lease, ignore_value, ignore_lease, prev_kv: false })
    };
    assert_eq!(put_of("k", "v", 5, false, false), Ok(()));
    assert_eq!(put_of("k", "", 0, true, true), Ok(()));
    assert_eq!(put_of("", "v", 5, true, true), Err(Reject::EmptyKey));
    assert_eq!(put_of("k", "v", 5, true, true), Err(Reject::ValueProvided));
    assert_eq!(put_of("k", "", -5, true, true), Err(Reject::LeaseProvided));

    let grant = |ttl| lease_grant(&pb::LeaseGrantRequest { ttl, id: 0 });
    assert_eq!(grant(-1), Ok(()), "raised to the least TTL later");
    assert_eq!(grant(9_000_000_000), Ok(()));
    assert_eq!(grant(9_000_000_001), Err(Reject::LeaseTtlTooLarge));
    assert_eq!(grant(i64::MAX), Err(Reject::LeaseTtlTooLarge));
}

#[test]
fn a_negative_limit_is_none_and_a_negative_revision_is_left_to_whoever_reads() {
    let mut request = pb::RangeRequest {
        key: bytes("k"),
        limit: i64::MIN,
        revision: -7,
        min_mod_revision: -1,
        ..Default::default()
    };
    assert_eq!(range(&mut request), Ok(()));
    assert_eq!((request.limit, request.revision, request.min_mod_revision), (0, -7, -1));
}

#[test]
fn operations_are_counted_by_the_longest_list_and_nested_ones_by_what_is_left() {
    let gets = |count| vec![get("k"); count];
    let compares = |count| vec![pb::Compare { key: bytes("k"), ..Default::default() }; count];
    let max_8 = |mut request: pb::TxnRequest| txn(&mut request, 8);
    assert_eq!(max_8(branches(gets(8), gets(8))), Ok(()));
    assert_eq!(max_8(branches(gets(9), gets(0))), Err(Reject::TooManyOps));
    assert_eq!(max_8(branches(gets(0), gets(9))), Err(Reject::TooManyOps));
    let mut with_compares = branches(gets(1), gets(1));
    with_compares.compare = compares(9);
    assert_eq!(max_8(with_compares), Err(Reject::TooManyOps));

    let two_levels = |outer: usize, inner| {
        let mut ops = gets(outer - 1);
        ops.push(nest(gets(inner), Vec::new()));
        max_8(branches(ops, Vec::new()))
    };
    assert_eq!(two_levels(3, 5), Ok(()));
    assert_eq!(two_levels(3, 6), Err(Reject::TooManyOps));
    assert_eq!(two_levels(8, 0), Ok(()));
    assert_eq!(two_levels(8, 1), Err(Reject::TooManyOps));
}

#[test]
fn nesting_has_a_depth() {
    let deep = |depth| {
        let mut request = branches(Vec::new(), Vec::new());
        for _ in 1..depth {
            request = branches(vec![op(Op::RequestTxn(request))], Vec::new());
        }
        txn(&mut request, 128)
    };
    assert_eq!(deep(TXN_DEPTH_MAX), Ok(()));
    assert_eq!(deep(TXN_DEPTH_MAX + 1), Err(Reject::TooManyOps));
}

#[test]
fn operations_are_checked_in_both_branches_before_what_they_write() {
    let empty = || pb::RequestOp { request: None };
    let cases = [
        (vec![], vec![empty()], Reject::KeyNotFound),
        (vec![set("a"), set("a"), empty()], vec![], Reject::KeyNotFound),
        (vec![set("a"), set("a")], vec![get("")], Reject::EmptyKey),
        (vec![set("a"), set("a")], vec![del("", "z")], Reject::EmptyKey),
        (vec![nest(vec![], vec![set("")])], vec![], Reject::EmptyKey),
    ];
    for (success, failure, expected) in cases {
        let mut request = branches(success, failure);
        assert_eq!(txn(&mut request, 128), Err(expected), "{request:?}");
    }
    let mut request = branches(Vec::new(), Vec::new());
    request.compare.push(pb::Compare::default());
    assert_eq!(txn(&mut request, 128), Err(Reject::EmptyKey));
}

#[test]
fn keys_conflict_as_in_etcd() {
    let cases = [
        (vec![set("a"), set("b")], false),
        (vec![set("a"), set("a")], true),
        (vec![set("a"), get("a"), del("b", "")], false),
        (vec![set("a"), del("a", "")], true),
        (vec![del("a", ""), set("a")], true),
        (vec![set("b"), del("a", "c")], true),
        (vec![set("c"), del("a", "c")], false),
        (vec![set("a"), del("a", "c")], true),
        (vec![del("a", "c"), del("b", ""), del("a", "c")], false),
        // Ranges that overlap cover what either covers.
        (vec![del("a", "c"), del("e", "g"), del("b", "f"), set("d")], true),
        (vec![del("a", "z"), del("b", "c"), set("x")], true),
        (vec![del("a", "c"), del("e", "g"), set("d")], false),
        // A range that can hold no key, and one to the end of all keys.
        (vec![del("c", "a"), set("b")], false),
        (vec![del("a", "\0"), set("b")], false),
        // Against nested ones, in any place.
        (vec![set("a"), nest(vec![set("a")], vec![])], true),
        (vec![nest(vec![], vec![set("a")]), set("a")], true),
        (vec![set("a"), nest(vec![del("a", "")], vec![])], true),
        (vec![del("a", "c"), nest(vec![], vec![set("b")])], true),
        (vec![del("a", "c"), nest(vec![nest(vec![set("b")], vec![])], vec![])], true),
        // The branches of one nested Txn exclude each other.
        (vec![nest(vec![set("a")], vec![set("a")])], false),
        (vec![nest(vec![set("a")], vec![del("a", "")])], false),
        (vec![nest(vec![set("a")], vec![set("a"), set("a")])], true),
        // Siblings: put and put never, put then delete yes, delete then put no.
        (vec![nest(vec![set("a")], vec![]), nest(vec![set("a")], vec![])], true),
        (vec![nest(vec![set("a")], vec![]), nest(vec![], vec![set("a")])], true),
        (vec![nest(vec![set("a")], vec![]), nest(vec![del("a", "")], vec![])], false),
        (vec![nest(vec![del("a", "")], vec![]), nest(vec![set("a")], vec![])], true),
        (vec![nest(vec![], vec![del("a", "c")]), nest(vec![set("b")], vec![])], true),
    ];
    for (ops, refused) in cases {
        let expected = if refused { Err(Reject::DuplicateKey) } else { Ok(()) };
        for mut request in [branches(ops.clone(), vec![]), branches(vec![], ops.clone())] {
            assert_eq!(txn(&mut request, 128), expected, "{request:?}");
        }
    }
    let mut both = branches(vec![set("a")], vec![set("a"), del("b", "")]);
    assert_eq!(txn(&mut both, 128), Ok(()), "the two branches are looked at apart");
}

#[test]
fn a_txn_reads_only_if_both_branches_do() {
    assert!(is_read_only(&branches(vec![], vec![])));
    assert!(is_read_only(&branches(vec![get("a")], vec![get("b")])));
    assert!(!is_read_only(&branches(vec![get("a")], vec![set("b")])));
    assert!(!is_read_only(&branches(vec![nest(vec![get("a")], vec![])], vec![])));
    assert!(!is_write(&Request::Txn(branches(vec![get("a")], vec![]))));
    assert!(is_write(&Request::Txn(branches(vec![del("a", "")], vec![]))));
    assert!(is_write(&Request::Put(pb::PutRequest::default())));
    assert!(!is_write(&Request::Alarm(pb::AlarmRequest::default())));
    assert!(is_write(&Request::Alarm(pb::AlarmRequest { action: 1, ..Default::default() })));
    assert!(!is_write(&Request::Range(pb::RangeRequest::default())));
}
