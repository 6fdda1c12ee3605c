//! What was written goes to pages, and is what it was.

use prost::Message;

use ringbolt::base::prng::Prng;
use ringbolt::sim::disk::End;
use ringbolt::wire::mvccpb;

use super::*;

/// A member that makes a checkpoint behind every write and keeps few pages in memory.
fn paged() -> Rig {
    let mut plan = Plan::new(2, 2, 1);
    plan.node.checkpoint_behind = (1, u64::MAX);
    plan.node.page_cache_bytes = 4 << 10;
    Rig::new(plan)
}

fn watch(key: &Bytes, start_revision: i64) -> Request {
    let create = pb::WatchCreateRequest {
        key: key.clone(),
        start_revision,
        prev_kv: true,
        ..pb::WatchCreateRequest::default()
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    Request::Watch(pb::WatchRequest { request_union: Some(union) })
}

fn compact(revision: i64) -> Request {
    Request::Compact(pb::CompactionRequest { revision, physical: true })
}

fn delete(key: &Bytes) -> Request {
    let key = key.clone();
    Request::DeleteRange(pb::DeleteRangeRequest { key, ..pb::DeleteRangeRequest::default() })
}

/// What the watches were told: each event's revision, its value or that it is a deletion, and
/// the value before it.
fn told(rig: &Rig) -> Vec<(i64, Option<String>, Option<String>)> {
    let text = |kv: &mvccpb::KeyValue| String::from_utf8_lossy(&kv.value).into_owned();
    let mut found = Vec::new();
    for (_, message) in &rig.told {
        let WatchBody::Events { events, .. } = &message.body else { continue };
        let bytes: Vec<u8> = events.iter().flatten().copied().collect();
        for event in pb::WatchResponse::decode(&bytes[..]).expect("events that decode").events {
            let is_put = event.r#type() == mvccpb::event::EventType::Put;
            let kv = event.kv.as_ref().expect("a key");
            let value = is_put.then(|| text(kv));
            found.push((kv.mod_revision, value, event.prev_kv.as_ref().map(text)));
        }
    }
    found
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A key that is put, put again, deleted and put: revisions 2 to 5.
fn lived(rig: &mut Rig) -> Bytes {
    let key = rig.key(1, 0);
    for write in [put(&key, "one"), put(&key, "two"), delete(&key), put(&key, "three")] {
        assert!(rig.ask(0, write).is_ok());
    }
    key
}

#[test]
fn old_revisions_are_read_back_from_pages() {
    let mut rig = paged();
    let key = lived(&mut rig);
    let expected = [(1, None), (2, some("one")), (3, some("two")), (4, None), (5, some("three"))];
    for (revision, value) in expected {
        let Ok(Answer::Range(found)) = rig.ask(1, Request::Range(get(&key, revision))) else {
            panic!("a range at {revision}")
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let found = found.records.first().map(|record| text(record.value()));
        assert_eq!(found, value, "at {revision}");
    }
}

#[test]
fn a_watch_of_the_past_is_shown_what_lies_in_pages() {
    let mut rig = paged();
    let key = lived(&mut rig);
    let _ = rig.call(0, watch(&key, 2));
    rig.run();
    let expected = [
        (2, some("one"), None),
        (3, some("two"), some("one")),
        (4, None, some("two")),
        (5, some("three"), None),
    ];
    assert_eq!(told(&rig), expected);
}

#[test]
fn a_catch_up_goes_on_across_a_checkpoint() {
    let mut rig = paged();
    let key = lived(&mut rig);
    let _ = rig.call(0, watch(&key, 2));
    // The shard has begun to read and waits for a page when it is to checkpoint.
    rig.step(0);
    rig.deliver(0, 1, |_| false);
    rig.step(1);
    let write = rig.call(1, put(&key, "four"));
    rig.run();
    assert_eq!(revision(rig.reply(write)), 6);
    let revisions: Vec<i64> = told(&rig).iter().map(|event| event.0).collect();
    assert_eq!(revisions, [2, 3, 4, 5, 6]);
    assert_eq!(told(&rig).last(), Some(&(6, some("four"), some("three"))));
}

#[test]
fn a_watch_from_a_compacted_delete_is_shown_it_and_not_what_it_deleted() {
    let mut rig = paged();
    let key = lived(&mut rig);
    assert!(rig.ask(0, compact(4)).is_ok());
    let _ = rig.call(0, watch(&key, 4));
    rig.run();
    assert_eq!(told(&rig), [(4, None, None), (5, some("three"), None)]);
    assert_eq!(refused(Some(rig.ask(0, Request::Range(get(&key, 3))))), Reject::Compacted);
}

/// Answers a call while the page file of the second shard does nothing.
fn ask_beside_a_stuck_shard(rig: &mut Rig, request: Request) -> Reply {
    let call = rig.call(0, request);
    for _ in 0..1_000 {
        rig.step(0);
        for token in rig.disk.pending() {
            rig.disk.finish(token);
            rig.machine.give(CoreId(0), Input::Disk(token.0, Ok(())));
        }
        for (shard, token) in rig.pages.pending().into_iter().filter(|(shard, _)| shard.0 == 0) {
            let answer = rig.pages.finish(shard, token);
            rig.machine.give(CoreId(0), answer);
        }
        if let Some(reply) = rig.reply(call) {
            return reply;
        }
    }
    panic!("no answer");
}

#[test]
fn a_start_from_shards_apart_makes_no_checkpoint_that_is_older_than_one_of_them() {
    let mut plan = Plan::new(1, 2, 1);
    plan.layout.segment_bytes = 4 << 20;
    plan.node.checkpoint_behind = (100, u64::MAX);
    let mut rig = Rig::new(plan.clone());
    let keys = [rig.key(0, 0), rig.key(1, 0)];
    for number in 0..150 {
        let write = put(&keys[number % 2], &number.to_string());
        assert_eq!(revision(Some(ask_beside_a_stuck_shard(&mut rig, write))), number as i64 + 2);
    }
    // From here on they begin earlier, and the ring shows little of the log at a time.
    plan.node.checkpoint_behind = (20, u64::MAX);
    plan.ring = 32;
    let mut prng = Prng::new(1);
    for life in 0..3 {
        rig.pages.crash(End::Killed, &mut prng);
        rig.disk.crash(End::Killed, &mut prng);
        rig = Rig::open(plan.clone(), rig.disk, rig.pages, true);
        assert!(life > 0 || rig.machine.is_apart, "one shard has a checkpoint and one has none");
        for number in 0..150 {
            let request = Request::Range(get(&keys[number % 2], number as i64 + 2));
            let Ok(Answer::Range(found)) = rig.ask(0, request) else { panic!("{number}") };
            let found = found.records.first().map(|record| record.value().to_vec());
            assert_eq!(found, Some(number.to_string().into_bytes()), "life {life}");
        }
    }
}
