//! The server process as an independent client sees it: tonic over the messages of `proto/`,
//! none of the server's own HTTP/2 or gRPC code.

#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use member::{
    Client, Folder, Member, Ports, all_shown, bytes, cancel, create, delete, events_shown, get,
    list, progress, put, refusal, revision, run, shown,
};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use pb::response_op::Response as Answer;
use ringbolt::wire::etcdserverpb as pb;
use ringbolt::wire::{health, v3lockpb};
use tonic::Code;

/// One shard on one core, several on one, several on two.
const SHAPES: [&[&str]; 3] =
    [&["--cores=1", "--shards=1"], &["--cores=1", "--shards=5"], &["--cores=2", "--shards=2"]];

/// A fresh member of the given shape and a connection to it.
struct Bench {
    member: Member,
    folder: Folder,
}

impl Bench {
    #[track_caller]
    fn new(name: &str, flags: &[&str]) -> Bench {
        let folder = Folder::new(name);
        let member = Member::start(&folder.path, &Ports::free(), flags);
        Bench { member, folder }
    }

    async fn client(&self) -> Client {
        self.member.client().await
    }
}

fn for_each_shape<F: Future<Output = ()>>(name: &str, test: impl Fn(Client) -> F) {
    for flags in SHAPES {
        let bench = Bench::new(name, flags);
        run(async { test(bench.client().await).await });
    }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, operand: i64) -> pb::Compare {
    let target_union = match target {
        CompareTarget::Version => TargetUnion::Version(operand),
        CompareTarget::Create => TargetUnion::CreateRevision(operand),
        CompareTarget::Mod => TargetUnion::ModRevision(operand),
        CompareTarget::Value => TargetUnion::Value(bytes(&operand.to_string())),
        CompareTarget::Lease => TargetUnion::Lease(operand),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(target_union),
        ..Default::default()
    }
}

// --- KV ---------------------------------------------------------------------------------------

#[test]
fn writes_and_reads() {
    for_each_shape("kv", |client| async move {
        for (number, key) in ["a", "c", "b", "a", "d"].iter().enumerate() {
            let answer = client.put(put(key, &number.to_string())).await.expect("a put");
            assert_eq!(revision(answer.header.as_ref()), number as i64 + 2);
        }
        let old = client.put(pb::PutRequest { prev_kv: true, ..put("b", "5") }).await.expect("put");
        assert_eq!(old.prev_kv.as_ref().map(shown), Some("b=2/4.4.1".into()));
        let kept = pb::PutRequest { ignore_value: true, ..put("b", "") };
        client.put(kept).await.expect("a put");
        check_ranges(&client).await;
        let gone = pb::DeleteRangeRequest { prev_kv: true, ..delete("a", "c") };
        let gone = client.delete(gone).await.expect("a deletion");
        assert_eq!((gone.deleted, revision(gone.header.as_ref())), (2, 9));
        assert_eq!(all_shown(&gone.prev_kvs), "a=3/2.5.2 b=5/4.8.3");
        let none = client.delete(delete("a", "c")).await.expect("a deletion of nothing");
        assert_eq!((none.deleted, revision(none.header.as_ref())), (0, 9), "it writes nothing");
        client.put(put("a", "again")).await.expect("a put");
        let again = client.range(get("a")).await.expect("a range");
        assert_eq!(all_shown(&again.kvs), "a=again/10.10.1", "a new life begins at version 1");
    });
}

/// The options of a Range over what `writes_and_reads` wrote.
async fn check_ranges(client: &Client) {
    let all = || list("a", "z");
    let rows = [
        ("all", all(), "a=3/2.5.2 b=5/4.8.3 c=1/3.3.1 d=4/6.6.1", false, 4),
        ("one", get("c"), "c=1/3.3.1", false, 1),
        ("none", get("e"), "", false, 0),
        ("from", list("b", "\0"), "b=5/4.8.3 c=1/3.3.1 d=4/6.6.1", false, 3),
        ("everything", list("\0", "\0"), "a=3/2.5.2 b=5/4.8.3 c=1/3.3.1 d=4/6.6.1", false, 4),
        ("backwards", list("d", "a"), "", false, 0),
        ("limit", pb::RangeRequest { limit: 2, ..all() }, "a=3/2.5.2 b=5/4.8.3", true, 4),
        (
            "keys only",
            pb::RangeRequest { keys_only: true, ..list("a", "c") },
            "a=/2.5.2 b=/4.8.3",
            false,
            2,
        ),
        ("count only", pb::RangeRequest { count_only: true, ..all() }, "", false, 4),
        (
            "old",
            pb::RangeRequest { revision: 4, ..all() },
            "a=0/2.2.1 b=2/4.4.1 c=1/3.3.1",
            false,
            3,
        ),
        (
            "by mod, falling",
            pb::RangeRequest {
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Mod.into(),
                limit: 3,
                ..all()
            },
            "b=5/4.8.3 d=4/6.6.1 a=3/2.5.2",
            true,
            4,
        ),
        (
            "by value",
            pb::RangeRequest {
                sort_order: SortOrder::Ascend.into(),
                sort_target: SortTarget::Value.into(),
                ..all()
            },
            "c=1/3.3.1 a=3/2.5.2 d=4/6.6.1 b=5/4.8.3",
            false,
            4,
        ),
        (
            "filter",
            pb::RangeRequest { min_mod_revision: 5, max_create_revision: 4, ..all() },
            "a=3/2.5.2 b=5/4.8.3",
            false,
            4,
        ),
    ];
    for (name, request, expect, more, count) in rows {
        let answer = client.range(request).await.expect(name);
        assert_eq!(all_shown(&answer.kvs), expect, "{name}");
        assert_eq!((answer.more, answer.count), (more, count), "{name}");
        assert_eq!(revision(answer.header.as_ref()), 8, "{name}");
    }
}

#[test]
fn transactions() {
    for_each_shape("txn", |client| async move {
        use CompareResult::{Equal, Greater};
        let transfer = |version: i64| pb::TxnRequest {
            compare: vec![compare("a", CompareTarget::Version, Equal, version)],
            success: vec![
                op(Op::RequestPut(put("a", "1"))),
                op(Op::RequestPut(put("b", "2"))),
                op(Op::RequestRange(list("a", "z"))),
                op(Op::RequestDeleteRange(delete("c", ""))),
            ],
            failure: vec![op(Op::RequestRange(get("a")))],
        };
        client.put(put("c", "0")).await.expect("a put");
        let taken = client.txn(transfer(0)).await.expect("a txn");
        assert!(taken.succeeded && revision(taken.header.as_ref()) == 3);
        let Some(Answer::ResponseRange(within)) = &taken.responses[2].response else {
            panic!("the third answer is a range: {taken:?}");
        };
        assert_eq!(all_shown(&within.kvs), "a=1/3.3.1 b=2/3.3.1 c=0/2.2.1", "it sees its own puts");
        let refused = client.txn(transfer(0)).await.expect("a txn");
        assert!(!refused.succeeded && revision(refused.header.as_ref()) == 3, "{refused:?}");
        let all = client.range(list("a", "z")).await.expect("a range");
        assert_eq!(all_shown(&all.kvs), "a=1/3.3.1 b=2/3.3.1", "one revision for all of it");
        let nested = pb::TxnRequest {
            compare: vec![compare("b", CompareTarget::Mod, Greater, 2)],
            success: vec![op(Op::RequestTxn(pb::TxnRequest {
                compare: vec![compare("nobody", CompareTarget::Create, Equal, 0)],
                success: vec![op(Op::RequestPut(put("e", "in")))],
                failure: vec![],
            }))],
            failure: vec![],
        };
        let nested = client.txn(nested).await.expect("a nested txn");
        assert!(nested.succeeded && revision(nested.header.as_ref()) == 4);
        let whole =
            pb::Compare { range_end: bytes("z"), ..compare("a", CompareTarget::Version, Equal, 1) };
        let reads = pb::TxnRequest {
            compare: vec![whole],
            success: vec![op(Op::RequestRange(get("e"))), op(Op::RequestRange(get("b")))],
            failure: vec![],
        };
        let reads = client.txn(reads).await.expect("a txn of reads");
        assert!(reads.succeeded && revision(reads.header.as_ref()) == 4, "{reads:?}");
        assert_eq!(reads.responses.len(), 2);
    });
}

#[test]
fn concurrent_increments_lose_nothing() {
    for_each_shape("race", |client| async move {
        client.put(put("n", "0")).await.expect("a put");
        let mut workers = Vec::new();
        for _ in 0..8 {
            let client = client.clone();
            workers.push(tokio::spawn(async move {
                for _ in 0..20 {
                    increment(&client).await;
                }
            }));
        }
        for worker in workers {
            worker.await.expect("a worker");
        }
        let found = client.range(get("n")).await.expect("a range");
        assert_eq!(all_shown(&found.kvs), "n=160/2.162.161", "no update and no revision is lost");
    });
}

/// Adds one to the number at "n", again and again until nobody was in between.
async fn increment(client: &Client) {
    loop {
        let found = client.range(get("n")).await.expect("a range");
        let at = found.kvs[0].mod_revision;
        let text = String::from_utf8_lossy(&found.kvs[0].value).into_owned();
        let number: u64 = text.parse().expect("a number");
        let swap = pb::TxnRequest {
            compare: vec![compare("n", CompareTarget::Mod, CompareResult::Equal, at)],
            success: vec![op(Op::RequestPut(put("n", &(number + 1).to_string())))],
            failure: vec![],
        };
        if client.txn(swap).await.expect("a txn").succeeded {
            return;
        }
    }
}

#[test]
fn a_streamed_range_is_the_range() {
    for_each_shape("stream", |client| async move {
        for number in 0..600 {
            let value = "x".repeat(number * 7 % 4_000);
            client.put(put(&format!("k{number:04}"), &value)).await.expect("a put");
        }
        let whole = client.range(list("k", "l")).await.expect("a range");
        let path = "/etcdserverpb.KV/RangeStream";
        let mut chunks = client.download(path, list("k", "l")).await.expect("a stream");
        let (mut kvs, mut last, mut count) = (Vec::new(), None, 0);
        while let Some(chunk) = chunks.message().await.expect("a chunk") {
            let chunk: pb::RangeStreamResponse = chunk;
            let part = chunk.range_response.expect("a part");
            kvs.extend(part.kvs.iter().cloned());
            (last, count) = (Some(part), count + 1);
        }
        assert!(count > 1, "600 keys come in several chunks");
        assert_eq!(kvs, whole.kvs);
        let last = last.expect("a last chunk");
        assert_eq!((last.count, last.more), (600, false));
        assert_eq!(revision(last.header.as_ref()), revision(whole.header.as_ref()));
    });
}

#[test]
fn refusals_have_their_code_and_text() {
    let bench = Bench::new("errors", &["--shards=2", "--max-txn-ops=4"]);
    run(async {
        let client = bench.client().await;
        for number in 0..5 {
            client.put(put("k", &number.to_string())).await.expect("a put");
        }
        client.compact(4).await.expect("a compaction");
        let invalid = Code::InvalidArgument;
        let no_key = (invalid, "etcdserver: key is not provided");
        let compacted =
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        let future = (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
        let lost = (Code::NotFound, "etcdserver: requested lease not found");
        let twice = || vec![op(Op::RequestPut(put("d", "1"))), op(Op::RequestPut(put("d", "2")))];
        let many = (0..5).map(|n| op(Op::RequestRange(get(&n.to_string())))).collect();
        let txn = |success| pb::TxnRequest { success, ..Default::default() };
        let with = |edit: fn(&mut pb::PutRequest)| {
            let mut request = put("k", "v");
            edit(&mut request);
            request
        };
        let at = |revision| pb::RangeRequest { revision, ..get("k") };
        let odd = pb::RangeRequest { sort_order: 9, ..get("k") };
        let rows = [
            (refusal(client.range(get("")).await), no_key),
            (refusal(client.put(put("", "v")).await), no_key),
            (refusal(client.delete(delete("", "")).await), no_key),
            (refusal(client.range(at(3)).await), compacted),
            (refusal(client.range(at(99)).await), future),
            (refusal(client.range(odd).await), (invalid, "etcdserver: invalid sort option")),
            (refusal(client.compact(4).await), compacted),
            (refusal(client.compact(99).await), future),
            (refusal(client.put(with(|put| put.lease = 7)).await), lost),
            (
                refusal(client.put(with(|put| put.ignore_value = true)).await),
                (invalid, "etcdserver: value is provided"),
            ),
            (
                refusal(client.put(pb::PutRequest { ignore_value: true, ..put("new", "") }).await),
                (invalid, "etcdserver: key not found"),
            ),
            (
                refusal(client.txn(txn(twice())).await),
                (invalid, "etcdserver: duplicate key given in txn request"),
            ),
            (
                refusal(client.txn(txn(many)).await),
                (invalid, "etcdserver: too many operations in txn request"),
            ),
            (
                refusal(client.grant(1, 9_000_000_001).await),
                (Code::OutOfRange, "etcdserver: too large lease TTL"),
            ),
        ];
        for (number, (got, (code, text))) in rows.into_iter().enumerate() {
            assert_eq!(got, (code, text.to_owned()), "row {number}");
        }
        let after = client.range(get("k")).await.expect("a range");
        assert_eq!(revision(after.header.as_ref()), 6, "a refusal writes nothing");
    });
}

#[test]
fn what_is_not_there_says_so() {
    let bench = Bench::new("absent", &[]);
    run(async {
        let client = bench.client().await;
        let rows = [
            ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
            ("/no.Such/Thing", "unknown service no.Such"),
            (
                "/etcdserverpb.Auth/AuthEnable",
                "unknown method AuthEnable for service etcdserverpb.Auth: this build of Ringbolt \
                 does not have it",
            ),
        ];
        for (path, text) in rows {
            let answer = client.unary::<_, pb::StatusResponse>(path, pb::StatusRequest {}).await;
            assert_eq!(refusal(answer), (Code::Unimplemented, text.to_owned()));
        }
    });
}

// --- Watch ------------------------------------------------------------------------------------

fn watched(key: &str, end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

#[test]
fn a_watch_sees_every_change_once_and_in_order() {
    for_each_shape("watch", |client| async move {
        client.put(put("a", "0")).await.expect("a put");
        let from = |start_revision| pb::WatchCreateRequest {
            start_revision,
            prev_kv: true,
            ..watched("a", "c")
        };
        let mut live = client.watch(from(0)).await.expect("a watch");
        let created = live.next().await;
        assert!(created.created && revision(created.header.as_ref()) == 2, "{created:?}");
        client.put(put("b", "1")).await.expect("a put");
        client.put(put("c", "out of range")).await.expect("a put");
        let both = pb::TxnRequest {
            success: vec![
                op(Op::RequestPut(put("b", "2"))),
                op(Op::RequestDeleteRange(delete("a", ""))),
            ],
            ..Default::default()
        };
        client.txn(both).await.expect("a txn");
        let expect = ["+b=1/3.3.1", "+b=2/3.5.2<b=1/3.3.1 -a=/0.5.0<a=0/2.2.1"];
        for text in expect {
            let response = live.next().await;
            assert_eq!(events_shown(&response), text);
        }
        // From the past the same events come, whatever the cut into messages.
        let mut past = client.watch(from(2)).await.expect("a watch");
        assert!(past.next().await.created);
        let mut seen = Vec::new();
        while seen.len() < 4 {
            seen.extend(past.next().await.events.iter().map(member::event_shown));
        }
        assert_eq!(seen.join(" "), format!("+a=0/2.2.1 {}", expect.join(" ")));
        // Progress comes behind all events, with the newest revision.
        past.send(progress());
        let response = past.next().await;
        assert_eq!((response.watch_id, response.events.len()), (-1, 0));
        assert_eq!(revision(response.header.as_ref()), 5);
        past.send(cancel(0));
        let response = past.next().await;
        assert!(response.canceled && response.watch_id == 0, "{response:?}");
    });
}

#[test]
fn filters_ids_and_compaction_of_watches() {
    let bench = Bench::new("watch-rules", &["--shards=2"]);
    run(async {
        let client = bench.client().await;
        let no_deletes = pb::watch_create_request::FilterType::Nodelete.into();
        let filtered =
            pb::WatchCreateRequest { filters: vec![no_deletes], watch_id: 7, ..watched("k", "") };
        let mut watch = client.watch(filtered.clone()).await.expect("a watch");
        assert_eq!(watch.next().await.watch_id, 7);
        watch.send(create(filtered));
        let twice = watch.next().await;
        assert!(twice.created && twice.canceled, "{twice:?}");
        assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
        client.put(put("k", "1")).await.expect("a put");
        client.delete(delete("k", "")).await.expect("a deletion");
        client.put(put("k", "2")).await.expect("a put");
        assert_eq!(events_shown(&watch.next().await), "+k=1/2.2.1");
        assert_eq!(events_shown(&watch.next().await), "+k=2/4.4.1");
        client.compact(3).await.expect("a compaction");
        watch.send(create(pb::WatchCreateRequest { start_revision: 2, ..watched("k", "") }));
        let created = watch.next().await;
        assert!(created.created, "{created:?}");
        let gone = watch.next().await;
        assert!(gone.canceled && gone.compact_revision == 3, "{gone:?}");
        assert_eq!(gone.cancel_reason, "", "the compact revision is the reason, as with etcd");
    });
}

#[test]
fn many_watchers_on_one_stream() {
    const WATCHERS: i64 = 2_000;
    let bench = Bench::new("watchers", &["--shards=2"]);
    run(async {
        let client = bench.client().await;
        let mut watch = client.watch(watched("key-0", "")).await.expect("a watch");
        for number in 1..WATCHERS {
            watch.send(create(watched(&format!("key-{number}"), "")));
        }
        let mut keys = BTreeMap::new();
        for number in 0..WATCHERS {
            let created = watch.next().await;
            assert!(created.created, "{created:?}");
            keys.insert(created.watch_id, format!("key-{number}"));
        }
        assert_eq!(keys.len(), WATCHERS as usize, "each has its own id");
        watch.send(create(watched("key-", "key.")));
        let wide = watch.next().await.watch_id;
        let start = Instant::now();
        let chosen: BTreeSet<i64> = (0..WATCHERS).step_by(20).collect();
        for number in &chosen {
            client.put(put(&format!("key-{number}"), "v")).await.expect("a put");
        }
        let (mut narrow, mut all) = (BTreeSet::new(), Vec::new());
        while narrow.len() < chosen.len() || all.len() < chosen.len() {
            let response = watch.next().await;
            for event in &response.events {
                let kv = event.kv.as_ref().expect("a key");
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                if response.watch_id == wide {
                    all.push(kv.mod_revision);
                } else {
                    assert_eq!(keys.get(&response.watch_id), Some(&key), "its own key alone");
                    assert!(narrow.insert(response.watch_id), "{key} came twice");
                }
            }
        }
        assert!(all.is_sorted() && all.len() == chosen.len(), "every change once, in order");
        assert!(start.elapsed() < Duration::from_secs(30));
    });
}

#[test]
fn a_slow_watcher_misses_nothing() {
    const CHANGES: usize = 400;
    let bench = Bench::new("slow", &["--shards=2"]);
    run(async {
        let client = bench.client().await;
        let fragment = pb::WatchCreateRequest { fragment: true, ..watched("k", "l") };
        // A connection of its own, whose window fills while nobody reads.
        let idle = bench.client().await;
        let mut watch = idle.watch(fragment).await.expect("a watch");
        assert!(watch.next().await.created);
        let value = "x".repeat(100_000);
        for number in 0..CHANGES {
            client.put(put(&format!("k{}", number % 7), &value)).await.expect("a put");
        }
        let mut revisions = Vec::new();
        while revisions.len() < CHANGES {
            let response = watch.next().await;
            assert!(!response.canceled, "{}", response.cancel_reason);
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
            revisions.extend(kvs.map(|kv| kv.mod_revision));
        }
        let expect: Vec<i64> = (2..CHANGES as i64 + 2).collect();
        assert_eq!(revisions, expect, "40 MB behind and still every change once, in order");
    });
}

// --- Lease and recipes ------------------------------------------------------------------------

#[test]
fn leases() {
    for_each_shape("lease", |client| async move {
        let granted = client.grant(77, 100).await.expect("a grant");
        assert_eq!((granted.id, granted.ttl, revision(granted.header.as_ref())), (77, 100, 1));
        let again = (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned());
        assert_eq!(refusal(client.grant(77, 100).await), again);
        for key in ["a", "b", "c"] {
            client.put(pb::PutRequest { lease: 77, ..put(key, "v") }).await.expect("a put");
        }
        client.put(put("b", "free")).await.expect("a put without the lease");
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let ask = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
        let left: pb::LeaseTimeToLiveResponse = client.unary(path, ask(77)).await.expect("ttl");
        assert_eq!((left.granted_ttl, left.keys.len()), (100, 2), "{left:?}");
        assert!((90..=100).contains(&left.ttl));
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let first = pb::LeaseKeepAliveRequest { id: 77 };
        let mut alive = client.duplex(path, first).await.expect("a stream");
        let answer: pb::LeaseKeepAliveResponse = alive.next().await;
        assert_eq!((answer.id, answer.ttl), (77, 100));
        alive.send(pb::LeaseKeepAliveRequest { id: 78 });
        let unknown = alive.next().await;
        assert_eq!((unknown.id, unknown.ttl), (78, 0), "an unknown lease has no time left");
        let path = "/etcdserverpb.Lease/LeaseRevoke";
        let revoke = pb::LeaseRevokeRequest { id: 77 };
        let revoked: pb::LeaseRevokeResponse = client.unary(path, revoke).await.expect("a revoke");
        assert_eq!(revision(revoked.header.as_ref()), 6, "one revision for both keys");
        let left = client.range(list("a", "z")).await.expect("a range");
        assert_eq!(all_shown(&left.kvs), "b=free/3.5.2");
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let gone: pb::LeaseTimeToLiveResponse = client.unary(path, ask(77)).await.expect("ttl");
        assert_eq!((gone.ttl, gone.id), (-1, 77));
    });
}

#[test]
fn a_lease_expires_and_takes_its_keys_at_one_revision() {
    let bench = Bench::new("expiry", &["--shards=5", "--cores=1"]);
    run(async {
        let client = bench.client().await;
        let mut watch = client.watch(watched("k", "l")).await.expect("a watch");
        assert!(watch.next().await.created);
        let granted = client.grant(0, 1).await.expect("a grant");
        for number in 0..10 {
            let key = format!("k{number}");
            let leased = pb::PutRequest { lease: granted.id, ..put(&key, "v") };
            client.put(leased).await.expect("a put");
        }
        let start = Instant::now();
        let mut gone = Vec::new();
        while gone.len() < 10 {
            assert!(start.elapsed() < Duration::from_secs(20), "{} keys are gone", gone.len());
            let response = watch.next().await;
            let deletes = response.events.iter().filter(|event| event.r#type == 1);
            gone.extend(deletes.filter_map(|event| Some(event.kv.as_ref()?.mod_revision)));
        }
        assert!(gone.iter().all(|revision| *revision == gone[0]), "{gone:?}");
        let left = client.range(list("k", "l")).await.expect("a range");
        assert_eq!(left.count, 0);
    });
}

#[test]
fn a_lock_is_handed_over() {
    let bench = Bench::new("lock", &["--shards=2"]);
    run(async {
        let client = bench.client().await;
        let first = client.grant(1, 60).await.expect("a grant").id;
        let second = client.grant(2, 60).await.expect("a grant").id;
        let ask = |lease| v3lockpb::LockRequest { name: bytes("door"), lease };
        let path = "/v3lockpb.Lock/Lock";
        let held: v3lockpb::LockResponse = client.unary(path, ask(first)).await.expect("a lock");
        let waiting = client.clone();
        let next = tokio::spawn(async move {
            waiting.unary::<_, v3lockpb::LockResponse>(path, ask(second)).await
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!next.is_finished(), "two hold one lock");
        let release = v3lockpb::UnlockRequest { key: held.key.clone() };
        let path = "/v3lockpb.Lock/Unlock";
        client.unary::<_, v3lockpb::UnlockResponse>(path, release).await.expect("an unlock");
        let taken = next.await.expect("a task").expect("the lock");
        assert_ne!(taken.key, held.key);
    });
}

// --- Maintenance, health, limits --------------------------------------------------------------

#[test]
fn status_members_and_health() {
    let bench = Bench::new("status", &[]);
    run(async {
        let client = bench.client().await;
        let path = "/etcdserverpb.Maintenance/Status";
        client.put(put("k", &"v".repeat(10_000))).await.expect("a put");
        let status: pb::StatusResponse =
            client.unary(path, pb::StatusRequest {}).await.expect("a status");
        let header = status.header.expect("a header");
        assert!(status.version.starts_with("3.") && status.leader == header.member_id);
        assert!(status.db_size >= 10_000 && status.raft_applied_index >= 2, "{status:?}");
        assert_eq!((header.revision, status.errors.len()), (2, 0));
        let path = "/etcdserverpb.Cluster/MemberList";
        let request = pb::MemberListRequest { linearizable: true };
        let members: pb::MemberListResponse = client.unary(path, request).await.expect("members");
        assert_eq!(members.members.len(), 1);
        let member = &members.members[0];
        assert_eq!((member.id, member.name.as_str()), (header.member_id, "default"));
        assert_eq!(member.client_ur_ls, [format!("http://{}", bench.member.ports.client)]);
        let check = |service: &str| {
            let request = health::HealthCheckRequest { service: service.to_owned() };
            client.unary::<_, health::HealthCheckResponse>("/grpc.health.v1.Health/Check", request)
        };
        assert_eq!(check("").await.expect("a check").status, 1, "it serves");
        let unknown = (Code::NotFound, "unknown service".to_owned());
        assert_eq!(refusal(check("else").await), unknown);
    });
}

#[test]
fn hash_is_of_the_history_and_not_of_the_shards() {
    let mut hashes = Vec::new();
    for_each_hash_shape(&mut hashes);
    assert!(hashes.iter().all(|hash| *hash == hashes[0] && hash.0 != 0), "{hashes:?}");
}

fn for_each_hash_shape(hashes: &mut Vec<(u32, i64, i64)>) {
    for flags in SHAPES {
        let bench = Bench::new("hash", flags);
        let found = run(async {
            let client = bench.client().await;
            for number in 0..100 {
                let key = format!("k{}", number % 17);
                client.put(put(&key, &number.to_string())).await.expect("a put");
            }
            client.delete(delete("k1", "k2")).await.expect("a deletion");
            client.compact(50).await.expect("a compaction");
            let request = pb::HashKvRequest { revision: 0 };
            let path = "/etcdserverpb.Maintenance/HashKV";
            let hash: pb::HashKvResponse = client.unary(path, request).await.expect("a hash");
            (hash.hash, hash.compact_revision, hash.hash_revision)
        });
        hashes.push(found);
    }
}

#[test]
fn large_requests_and_larger_answers() {
    let bench = Bench::new("large", &["--shards=2"]);
    run(async {
        let client = bench.client().await;
        let value = "v".repeat(1_500_000);
        for number in 0..10 {
            client.put(put(&format!("k{number}"), &value)).await.expect("a large put");
        }
        let found = client.range(list("k", "l")).await.expect("a range of 15 MB");
        assert_eq!(found.kvs.len(), 10);
        assert!(found.kvs.iter().all(|kv| kv.value.len() == value.len()));
        let too_large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());
        let larger = "v".repeat(1_572_865);
        assert_eq!(refusal(client.put(put("k", &larger)).await), too_large);
        let unread = "v".repeat(2_097_152);
        let (code, text) = refusal(client.put(put("k", &unread)).await);
        assert_eq!(code, Code::ResourceExhausted, "{text}");
        let bytes = unread.len() + 3 + 5;
        let expect = format!("grpc: received message larger than max ({bytes} vs. 2097152)");
        assert_eq!(text, expect);
        let still = client.range(get("k1")).await.expect("the connection goes on");
        assert_eq!(revision(still.header.as_ref()), 11);
    });
}

#[test]
fn streams_above_the_limit_wait() {
    const STREAMS: usize = 10;
    let bench = Bench::new("streams", &["--max-concurrent-streams=10"]);
    run(async {
        let client = bench.client().await;
        // The first call learns the limit from the server's settings.
        client.put(put("k", "v")).await.expect("a put");
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let mut watch = client.watch(watched("k", "")).await.expect("a watch");
            assert!(watch.next().await.created);
            open.push(watch);
        }
        let other = client.clone();
        let next = tokio::spawn(async move { other.put(put("k", "w")).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!next.is_finished(), "a stream above the limit was opened");
        drop(open.pop());
        next.await.expect("a task").expect("a put once there is room");
        let second = bench.client().await;
        second.put(put("k", "x")).await.expect("another connection has its own streams");
    });
}

#[test]
fn a_full_store_refuses_writes_and_lets_go_again() {
    let bench = Bench::new("quota", &["--quota-backend-bytes=1000000", "--shards=2"]);
    run(async {
        let client = bench.client().await;
        let value = "v".repeat(50_000);
        let mut written = 0;
        let refused = loop {
            match client.put(put(&format!("k{written}"), &value)).await {
                Ok(_) => written += 1,
                Err(status) => break status,
            }
            assert!(written < 100, "5 MB went into a store of 1 MB");
        };
        let full = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert_eq!((refused.code(), refused.message()), full);
        let path = "/etcdserverpb.Maintenance/Alarm";
        // Who is refused finds the alarm raised.
        let raised: pb::AlarmResponse =
            client.unary(path, pb::AlarmRequest::default()).await.expect("alarms");
        assert_eq!((raised.alarms.len(), raised.alarms[0].alarm), (1, 1), "{raised:?}");
        let small = refusal(client.put(put("small", "v")).await);
        assert_eq!(small, (full.0, full.1.to_owned()), "the alarm stops even small writes");
        client.range(get("k0")).await.expect("reads go on");
        let gone = client.delete(delete("k", "l")).await.expect("deletions go on");
        client.compact(revision(gone.header.as_ref())).await.expect("compaction goes on");
        let off = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            member_id: raised.alarms[0].member_id,
            alarm: raised.alarms[0].alarm,
        };
        client.unary::<_, pb::AlarmResponse>(path, off).await.expect("an end of the alarm");
        let start = Instant::now();
        // The space comes back as compaction goes on in the background.
        while let Err(status) = client.put(put("k", &value)).await {
            assert!(start.elapsed() < Duration::from_secs(10), "still full: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn a_restart_forgets_nothing() {
    for flags in SHAPES {
        let Bench { mut member, folder } = Bench::new("restart", flags);
        let ports = member.ports.clone();
        let before = run(async {
            let client = member.client().await;
            client.grant(5, 1_000).await.expect("a grant");
            for number in 0..50 {
                let key = format!("k{}", number % 9);
                client.put(put(&key, &number.to_string())).await.expect("a put");
            }
            let leased = pb::PutRequest { lease: 5, ..put("leased", "v") };
            client.put(leased).await.expect("a put");
            client.delete(delete("k1", "k3")).await.expect("a deletion");
            client.compact(20).await.expect("a compaction");
            everything(&client).await
        });
        member.kill();
        let member = Member::start(&folder.path, &ports, flags);
        let after = run(async { everything(&member.client().await).await });
        assert_eq!(before, after);
    }
}

/// All that a restart must keep, as text.
async fn everything(client: &Client) -> String {
    let newest = client.range(list("\0", "\0")).await.expect("a range");
    let at = pb::RangeRequest { revision: 30, ..list("\0", "\0") };
    let old = client.range(at).await.expect("an old range");
    let at = pb::RangeRequest { revision: 19, ..get("k1") };
    let compacted = refusal(client.range(at).await);
    let path = "/etcdserverpb.Maintenance/HashKV";
    let request = pb::HashKvRequest { revision: 0 };
    let hash: pb::HashKvResponse = client.unary(path, request).await.expect("a hash");
    let path = "/etcdserverpb.Lease/LeaseTimeToLive";
    let request = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
    let lease: pb::LeaseTimeToLiveResponse = client.unary(path, request).await.expect("ttl");
    format!(
        "{} | {} | {} | {compacted:?} | {} {} | {} {:?}",
        revision(newest.header.as_ref()),
        all_shown(&newest.kvs),
        all_shown(&old.kvs),
        hash.hash,
        hash.compact_revision,
        lease.granted_ttl,
        lease.keys
    )
}
