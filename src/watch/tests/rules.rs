//! The contract of the watch API, rule by rule.

use super::*;
use crate::base::limits::{CATCH_UP_WINDOWS_MAX, RING_BATCHES};

const OTHER: CallId = CallId { connection: 1, call: 2 };

/// Watches `key` (with `range_end`) from `start`, with options by name.
fn watch(key: &str, end: &str, start: i64, options: &[&str]) -> RequestUnion {
    let has = |name: &str| options.contains(&name);
    let id = options.iter().find_map(|option| option.strip_prefix("id="));
    let mut filters = Vec::new();
    if has("noput") {
        filters.push(0);
    }
    if has("nodelete") {
        filters.push(1);
    }
    RequestUnion::CreateRequest(pb::WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(end.as_bytes()),
        start_revision: start,
        progress_notify: has("progress"),
        filters,
        prev_kv: has("prev"),
        watch_id: id.map_or(0, |id| id.parse().expect("a number")),
        fragment: has("fragment"),
    })
}

fn cancel(watch_id: i64) -> RequestUnion {
    RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })
}

fn progress() -> RequestUnion {
    RequestUnion::ProgressRequest(pb::WatchProgressRequest {})
}

fn rig() -> Rig {
    Rig::new(1, |_| {})
}

fn put<'a>(key: &'a str, value: &'a str) -> Vec<Op<'a>> {
    vec![(key, Some(value.as_bytes()))]
}

/// Writes revisions 2 to 5: a=1, b=1, a=2, a deleted; then compacts at `compact`.
fn with_history(compact: Option<i64>) -> Rig {
    let mut rig = rig();
    rig.store.write(&[put("a", "1"), put("b", "1")]);
    rig.store.write(&[put("a", "2"), vec![("a", None)]]);
    if let Some(at) = compact {
        rig.store.commit(&[], Some(Revision(at)));
        rig.store.apply();
    }
    rig.settle();
    rig
}

#[test]
fn a_create_is_answered_as_the_contract_says() {
    let cases: [(RequestUnion, &[&str]); 12] = [
        (watch("a", "", 0, &[]), &["0@5 created"]),
        (watch("a", "", 0, &["id=9"]), &["9@5 created"]),
        (watch("a", "", -1, &[]), &["-1@5 refused NegativeStart"]),
        (watch("b", "a", 0, &[]), &["-1@5 refused EmptyRange"]),
        (watch("b", "b", 0, &[]), &["-1@5 refused EmptyRange"]),
        (watch("b", "a", -1, &[]), &["-1@5 refused NegativeStart"]),
        (watch("a", "", 2, &[]), &["0@5 created", "0@5 put a=1 r2, put a=2 r4, del a= r5"]),
        (watch("", "\0", 4, &["prev"]), &["0@5 created", "0@5 put a=2<a=1 r4, del a=<a=2 r5"]),
        (watch("a", "c", 3, &["nodelete"]), &["0@5 created", "0@4 put b=1 r3, put a=2 r4"]),
        (watch("a", "c", 3, &["noput"]), &["0@5 created", "0@5 del a= r5"]),
        (watch("b", "\0", 4, &[]), &["0@5 created"]),
        (watch("", "", 2, &[]), &["0@5 created"]),
    ];
    for (request, expect) in cases {
        let mut rig = with_history(None);
        rig.send(CALL, request.clone());
        assert_eq!(rig.told(), expect, "{request:?}");
    }
}

#[test]
fn ids_are_given_from_zero_and_refused_when_taken() {
    let mut rig = with_history(None);
    for options in [&[][..], &["id=1"], &[], &["id=2"], &["id=1"]] {
        rig.send(CALL, watch("a", "", 0, options));
    }
    rig.send(OTHER, watch("a", "", 0, &[]));
    let expect = [
        "0@5 created",
        "1@5 created",
        "2@5 created",
        "-1@5 refused DuplicateId",
        "-1@5 refused DuplicateId",
        "0@5 created",
    ];
    assert_eq!(rig.told(), expect);
    rig.send(CALL, cancel(1));
    rig.send(CALL, cancel(77));
    rig.send(CALL, watch("a", "", 0, &["id=1"]));
    assert_eq!(rig.told(), ["1@5 canceled", "1@5 created"]);
    assert_eq!(rig.metrics.watchers.value(), 4);
    rig.hub.on_gone(CALL);
    rig.hub.on_gone(OTHER);
    assert_eq!(rig.metrics.watchers.value(), 0);
    assert_eq!(rig.metrics.streams.value(), 0);
    assert_eq!(rig.hub.interest(), super::super::Interest::None);
}

#[test]
fn live_events_come_per_batch_and_name_their_last_revision() {
    let mut rig = with_history(None);
    rig.send(CALL, watch("a", "b", 0, &["prev"]));
    rig.send(CALL, watch("b", "", 0, &[]));
    rig.send(CALL, watch("a", "\0", 0, &["noput"]));
    rig.told();
    rig.store.write(&[put("a", "3"), put("c", "1"), put("a", "4"), put("c", "2")]);
    assert_eq!(rig.told(), ["0@8 put a=3 r6, put a=4<a=3 r8"]);
    let both: Vec<Op<'_>> = vec![("a", Some(b"5")), ("a", None)];
    rig.store.write(&[both, vec![("b", None)]]);
    let expect = ["0@10 put a=5<a=4 r10, del a=<a=4 r10", "2@11 del a= r10, del b= r11"];
    let told = rig.told();
    assert_eq!(told[..2], expect);
    assert_eq!(told[2..], ["1@11 del b= r11"]);
}

#[test]
fn a_create_waits_for_what_was_committed_when_it_was_read() {
    let mut rig = with_history(None);
    rig.send(OTHER, watch("z", "", 0, &[]));
    rig.told();
    rig.store.commit(&[put("a", "3"), put("a", "4")], None);
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.send(CALL, progress());
    rig.send(CALL, cancel(0));
    assert_eq!(rig.told(), Vec::<String>::new());
    rig.store.apply();
    rig.store.write(&[put("a", "5")]);
    let expect = ["0@7 created", "-1@7 progress", "0@7 canceled"];
    assert_eq!(rig.told(), expect);
}

#[test]
fn events_begin_right_behind_the_created_header() {
    let mut rig = with_history(None);
    rig.send(OTHER, watch("z", "", 0, &[]));
    rig.told();
    rig.store.commit(&[put("a", "3")], None);
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.store.commit(&[put("a", "4")], None);
    rig.store.apply();
    assert_eq!(rig.told(), ["0@6 created", "0@7 put a=4 r7"]);
}

#[test]
fn a_future_start_sees_nothing_below_it() {
    let mut rig = with_history(None);
    rig.send(CALL, watch("a", "", 8, &["progress"]));
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["0@5 created"]);
    rig.store.write(&[put("a", "3"), put("a", "4")]);
    rig.now = Tick(0).plus_ms(1_100);
    rig.send(CALL, progress());
    assert_eq!(rig.told(), Vec::<String>::new());
    rig.store.write(&[put("a", "5")]);
    assert_eq!(rig.told(), ["0@8 put a=5 r8"]);
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["-1@8 progress"]);
}

#[test]
fn a_start_next_to_come_gets_progress_only_once_it_came() {
    let mut rig = with_history(None);
    rig.send(CALL, watch("a", "", 6, &[]));
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["0@5 created"]);
    rig.store.write(&[put("b", "3")]);
    rig.settle();
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["-1@6 progress"]);
}

#[test]
fn a_compacted_start_ends_the_watcher_but_keeps_its_id() {
    let mut rig = with_history(Some(4));
    rig.send(CALL, watch("a", "", 3, &["id=7", "progress"]));
    rig.send(CALL, watch("a", "", 4, &[]));
    let expect = ["7@5 created", "7@0 compacted 4", "0@5 created", "0@5 put a=2 r4, del a= r5"];
    assert_eq!(rig.told(), expect);
    rig.send(CALL, progress());
    rig.send(CALL, watch("a", "", 0, &["id=7"]));
    rig.now = Tick(0).plus_ms(3_000);
    assert_eq!(rig.told(), ["-1@5 refused DuplicateId"]);
    rig.send(CALL, cancel(7));
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["7@5 canceled", "-1@5 progress"]);
}

#[test]
fn manual_progress_needs_a_watcher_and_all_of_them_synced() {
    let mut rig = with_history(None);
    rig.send(CALL, progress());
    assert_eq!(rig.told(), Vec::<String>::new());
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.send(CALL, watch("a", "", 2, &[]));
    // The second watcher has not had its turn yet.
    rig.send(CALL, progress());
    let told = rig.told();
    assert_eq!(told.len(), 3, "{told:?}");
    rig.send(CALL, progress());
    assert_eq!(rig.told(), ["-1@5 progress"]);
}

#[test]
fn automatic_progress_goes_to_the_quiet_ones_who_asked() {
    let mut rig = with_history(None);
    rig.send(CALL, watch("a", "", 0, &["progress"]));
    rig.send(CALL, watch("b", "", 0, &["progress"]));
    rig.send(CALL, watch("c", "", 0, &[]));
    rig.told();
    let tick = rig.hub.wake_at().expect("a tick is set");
    assert!((1_000..=1_100).contains(&(tick.0 / 1_000_000)), "{tick}");
    rig.store.write(&[put("a", "3")]);
    rig.told();
    rig.now = Tick(tick.0 - 1);
    assert_eq!(rig.told(), Vec::<String>::new());
    rig.now = tick;
    assert_eq!(rig.told(), ["1@6 progress"]);
    rig.now = rig.hub.wake_at().expect("the next tick");
    assert_eq!(rig.told(), ["0@6 progress", "1@6 progress"]);
    rig.send(CALL, cancel(0));
    rig.send(CALL, cancel(1));
    rig.now = rig.hub.wake_at().expect("the last tick");
    rig.told();
    assert_eq!(rig.hub.wake_at(), None);
}

#[test]
fn a_large_revision_goes_whole_unless_fragments_were_asked_for() {
    let mut rig = Rig::new(1, |settings| settings.fragment_bytes = 2_000);
    rig.send(CALL, watch("k", "l", 0, &[]));
    rig.send(CALL, watch("k", "l", 0, &["fragment"]));
    rig.told();
    let value = [b'v'; 800];
    let txn = ["k1", "k2", "k3", "k4", "k5"].map(|key| (key, Some(&value[..]))).to_vec();
    rig.store.write(&[txn]);
    let messages = rig.settle();
    let shape = |message: &WatchMessage| match &message.body {
        WatchBody::Events { events, fragment } => {
            (message.watch_id, message.revision.0, events.len(), *fragment)
        }
        body => panic!("{body:?}"),
    };
    let shapes: Vec<_> = messages.iter().map(|(_, message)| shape(message)).collect();
    assert_eq!(shapes, [(0, 2, 5, false), (1, 2, 2, true), (1, 2, 2, true), (1, 2, 1, false)]);
    assert!(messages[1..].iter().all(|(_, message)| message.bytes() < 2_000));
}

#[test]
fn a_slow_stream_lags_alone_and_goes_on_from_the_ring() {
    let mut rig = Rig::new(1, |settings| settings.stream_bytes = 300);
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.send(CALL, watch("z", "", 0, &[]));
    rig.send(OTHER, watch("a", "", 0, &[]));
    rig.settle();
    let mut undrained = Vec::new();
    for _ in 0..20 {
        rig.store.write(&[put("a", "1")]);
        while rig.advance() == More::Yes {}
        for (call, message) in rig.messages() {
            if call == OTHER {
                rig.hub.on_drained(call, message.bytes());
            }
            undrained.push((call, message));
        }
    }
    let count = |call, messages: &[(CallId, WatchMessage)]| {
        messages.iter().filter(|(to, _)| *to == call).map(|(_, m)| m.events()).sum::<usize>()
    };
    assert_eq!(count(OTHER, &undrained), 20);
    assert_eq!(count(CALL, &undrained), 4);
    assert_eq!(rig.metrics.slow.value(), 1);
    assert_eq!(rig.metrics.pending_events.value(), 4);
    assert!(rig.asks().is_empty());
    for (call, message) in &undrained {
        if *call == CALL {
            rig.hub.on_drained(*call, message.bytes());
        }
    }
    let rest = rig.settle();
    let bundled = rest.iter().map(|(_, message)| (message.revision.0, message.events()));
    assert_eq!(bundled.collect::<Vec<_>>(), [(21, 16)]);
    assert_eq!(rig.metrics.slow.value(), 0);
    assert_eq!(rig.metrics.pending_events.value(), 0);
    assert_eq!(rig.metrics.events.value(), 40);
}

#[test]
fn who_falls_out_of_the_ring_asks_the_shards_or_is_compacted() {
    for compact in [false, true] {
        let mut rig = Rig::new(2, |settings| settings.stream_bytes = 200);
        rig.send(CALL, watch("a", "z", 0, &[]));
        rig.settle();
        let (mut sent, mut count) = (0, 0);
        for _ in 0..RING_BATCHES + 10 {
            rig.store.write(&[put("b", "1")]);
            while rig.advance() == More::Yes {}
            for (_, message) in rig.messages() {
                sent += message.bytes();
                count += message.events();
            }
        }
        if compact {
            rig.store.commit(&[], Some(Revision(100)));
            rig.store.apply();
        }
        rig.hub.on_drained(CALL, sent);
        while rig.advance() == More::Yes {}
        if compact {
            assert_eq!(rig.told(), ["0@0 compacted 100"]);
            continue;
        }
        let asks = rig.asks();
        assert_eq!(asks.len(), 1);
        let next = 2 + i64::try_from(count).expect("few");
        assert_eq!(asks[0].after, Revision(next - 1));
        assert_eq!(asks[0].upto, rig.hub.revision());
        for shard in 0..2 {
            let answer = rig.store.answer(&asks[0], ShardId(shard), 50);
            rig.answer(asks[0].id, shard, answer);
        }
        let rest = rig.settle();
        let seen: Vec<i64> = rest
            .iter()
            .flat_map(|(_, message)| events(message))
            .map(|event| event.kv.expect("a kv").mod_revision)
            .collect();
        assert_eq!(seen, (next..=rig.store.revision().0).collect::<Vec<_>>());
    }
}

#[test]
fn windows_are_few_and_a_compaction_on_the_way_ends_the_watcher() {
    let mut rig = Rig::new(1, |_| {});
    for _ in 0..RING_BATCHES + 10 {
        rig.store.write(&[put("a", "1")]);
        rig.advance();
    }
    for connection in 0..6 {
        rig.send(CallId { connection, call: 1 }, watch("a", "", 2, &[]));
    }
    rig.advance();
    let asks = rig.asks();
    assert_eq!(asks.len(), CATCH_UP_WINDOWS_MAX);
    rig.messages();
    rig.hub.on_gone(CallId { connection: 1, call: 1 });
    rig.answer(asks[0].id, 0, Err(Compacted(Revision(50))));
    let told: Vec<String> = rig.messages().iter().map(|(_, message)| words(message)).collect();
    assert_eq!(told, ["0@0 compacted 50"]);
    let rest = rig.store.answer(&asks[1], ShardId(0), 5);
    rig.answer(asks[1].id, 0, rest);
    assert!(rig.messages().is_empty(), "its stream has gone");
    rig.advance();
    assert_eq!(rig.asks().len(), 2, "two windows are free again");
}

#[test]
fn a_large_batch_is_matched_in_slices_of_whole_revisions() {
    let mut rig = rig();
    for _ in 0..100 {
        rig.send(CALL, watch("a", "", 0, &[]));
    }
    rig.settle();
    let txn = || vec![("a", Some(&b"1"[..])), ("a", Some(&b"2"[..]))];
    let txns: Vec<Vec<Op<'_>>> = (0..100).map(|_| txn()).collect();
    rig.store.write(&txns);
    assert_eq!(rig.advance(), More::Yes);
    let middle = rig.hub.revision();
    assert!(middle > Revision(1) && middle < rig.store.revision());
    assert_eq!(rig.hub.position(), 0);
    let messages = rig.settle();
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (_, message) in &messages {
        let revisions = events(message).into_iter().filter_map(|event| event.kv);
        seen.entry(message.watch_id).or_default().extend(revisions.map(|kv| kv.mod_revision));
    }
    let twice: Vec<i64> = (2..=101).flat_map(|revision| [revision, revision]).collect();
    assert_eq!(seen.len(), 100);
    assert!(seen.values().all(|revisions| *revisions == twice));
    assert!(messages.len() > 100, "it took more than one slice");
}

#[test]
fn a_restored_store_sends_everyone_its_own_way() {
    let mut rig = with_history(None);
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.told();
    // Revisions 6 to 9 came by snapshot: they are history but never were in the ring.
    let mut other = Store::new(1);
    other.write(&[put("a", "1"), put("b", "1"), put("a", "2"), vec![("a", None)]]);
    other.write(&[put("a", "3"), put("b", "2"), put("a", "4"), put("b", "3")]);
    rig.store.history = other.history;
    let position = rig.hub.position();
    rig.hub.on_restored(position, Revision(9));
    assert_eq!(rig.advance(), More::No);
    let asks = rig.asks();
    assert_eq!((asks[0].after, asks[0].upto), (Revision(5), Revision(9)));
    let changes = rig.store.history[4..].iter().filter(|change| change.record.key() == b"a");
    let stretch = Stretch { reached: Revision(9), changes: changes.cloned().collect() };
    rig.answer(asks[0].id, 0, Ok(stretch));
    assert_eq!(rig.told(), ["0@8 put a=3 r6, put a=4 r8"]);
    assert_eq!(rig.metrics.slow.value(), 0);
}

#[test]
fn a_gap_before_a_batch_is_asked_for() {
    let mut rig = rig();
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.told();
    rig.store.revision = Revision(9);
    rig.store.write(&[put("a", "1")]);
    rig.advance();
    assert!(rig.messages().is_empty(), "what lies before must come first");
    let asks = rig.asks();
    assert_eq!((asks[0].after, asks[0].upto), (Revision(1), Revision(10)));
}

#[test]
fn too_many_waiting_requests_are_refused_not_kept() {
    use crate::base::limits::WATCH_REQUESTS_WAITING_MAX;
    let mut rig = rig();
    rig.send(CALL, watch("a", "", 0, &["id=5"]));
    rig.messages();
    rig.store.commit(&[put("a", "1")], None);
    for _ in 0..WATCH_REQUESTS_WAITING_MAX {
        rig.send(CALL, progress());
    }
    rig.send(CALL, watch("a", "", 0, &[]));
    rig.send(CALL, cancel(5));
    rig.send(CALL, progress());
    let told: Vec<String> = rig.messages().iter().map(|(_, message)| words(message)).collect();
    assert_eq!(told, ["-1@1 refused TooMany", "5@1 canceled"]);
    rig.store.apply();
    assert_eq!(rig.told(), Vec::<String>::new());
}
