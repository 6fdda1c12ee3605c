//! What watchers are told, and when.

use prost::Message;

use ringbolt::wire::mvccpb;

use super::*;

fn watch_request(union: pb::watch_request::RequestUnion) -> Request {
    Request::Watch(pb::WatchRequest { request_union: Some(union) })
}

fn create(request: pb::WatchCreateRequest) -> Request {
    watch_request(pb::watch_request::RequestUnion::CreateRequest(request))
}

fn progress() -> Request {
    let request = pb::WatchProgressRequest {};
    watch_request(pb::watch_request::RequestUnion::ProgressRequest(request))
}

/// A key that the first core owns, acknowledged at revision 2 and not yet heard of by the second
/// core's hub.
fn acknowledged(rig: &mut Rig) -> Bytes {
    let a = rig.key(0, 0);
    let write = rig.call(0, put(&a, "v"));
    rig.step(0);
    rig.sync();
    rig.step(0);
    assert_eq!(revision(rig.reply(write)), 2);
    a
}

fn events(message: &WatchMessage) -> Vec<mvccpb::Event> {
    let WatchBody::Events { events, .. } = &message.body else { panic!("{message:?}") };
    let bytes: Vec<u8> = events.iter().flatten().copied().collect();
    pb::WatchResponse::decode(&bytes[..]).expect("events that decode").events
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
fn progress_is_never_behind_what_was_acknowledged() {
    let mut rig = rig();
    let request = pb::WatchCreateRequest { key: rig.key(1, 0), ..Default::default() };
    let stream = rig.call(1, create(request));
    rig.run();
    acknowledged(&mut rig);
    rig.told.clear();
    rig.watch(1, stream, progress());
    rig.run();
    let [(_, told)] = &rig.told[..] else { panic!("one answer, not {:?}", rig.told) };
    assert!(matches!(told.body, WatchBody::Progress), "{told:?}");
    assert_eq!((told.watch_id, told.revision), (-1, Revision(2)));
}

#[test]
fn progress_does_not_overtake_what_is_committed_and_not_visible() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let request = pb::WatchCreateRequest { key: b.clone(), ..Default::default() };
    let stream = rig.call(0, create(request));
    rig.run();
    rig.told.clear();
    let write = rig.call(1, put(&b, "v"));
    rig.step(1);
    rig.deliver(1, 0, |_| false);
    rig.step(0);
    rig.sync();
    rig.step(0);
    // Committed, and not applied by the second core, which owns the key.
    rig.watch(0, stream, progress());
    rig.step(0);
    assert!(rig.told.is_empty(), "{:?}", rig.told);
    rig.run();
    assert_eq!(revision(rig.reply(write)), 2);
    let [(_, event), (_, told)] = &rig.told[..] else { panic!("{:?}", rig.told) };
    assert_eq!(events(event).len(), 1);
    assert!(matches!(told.body, WatchBody::Progress), "{told:?}");
    assert_eq!((event.revision, told.revision), (Revision(2), Revision(2)));
}

#[test]
fn changes_of_one_key_in_one_txn_are_not_shown_to_each_other() {
    let mut rig = rig();
    let b = rig.key(1, 0);
    let watch = pb::WatchCreateRequest { key: b.clone(), prev_kv: true, ..Default::default() };
    let stream = rig.call(0, create(watch.clone()));
    assert_eq!(revision(Some(rig.ask(1, put(&b, "below")))), 2);
    rig.told.clear();
    let nested = |op| {
        let success = vec![pb::RequestOp { request: Some(op) }];
        Op::RequestTxn(pb::TxnRequest { success, ..Default::default() })
    };
    let delete = pb::DeleteRangeRequest { key: b.clone(), prev_kv: true, ..Default::default() };
    let siblings = vec![
        nested(Op::RequestPut(put_of(&b, "between", 0))),
        nested(Op::RequestDeleteRange(delete)),
    ];
    let Ok(Answer::Txn(answer)) = rig.ask(1, txn(siblings)) else { panic!("the txn is taken") };
    let OpAnswer::Txn(second) = &answer.ops[1] else { panic!("{answer:?}") };
    let OpAnswer::DeleteRange(deleted) = &second.ops[0] else { panic!("{answer:?}") };
    let own: Vec<&[u8]> = deleted.previous.iter().map(|record| record.value()).collect();
    assert_eq!((answer.revision, own), (Revision(3), vec![&b"between"[..]]));
    // As they happen, and read from history.
    let past = pb::WatchCreateRequest { start_revision: 3, ..watch };
    rig.watch(0, stream, create(past));
    rig.run();
    let told: Vec<_> = rig.told.iter().filter(|(_, message)| message.events() > 0).collect();
    assert_eq!(told.len(), 2, "{:?}", rig.told);
    for (_, message) in told {
        let seen: Vec<_> = events(message)
            .into_iter()
            .map(|event| {
                let kv = event.kv.expect("an event has a key");
                (event.r#type, kv.mod_revision, event.prev_kv.expect("the version below 3").value)
            })
            .collect();
        let below = || Bytes::from("below");
        assert_eq!(seen, [(0, 3, below()), (1, 3, below())]);
    }
}

#[test]
fn a_watch_of_the_past_shows_what_was_acknowledged() {
    let mut rig = rig();
    let key = acknowledged(&mut rig);
    let request = pb::WatchCreateRequest { key, start_revision: 2, ..Default::default() };
    let _ = rig.call(1, create(request));
    rig.run();
    let [(_, created), (_, event)] = &rig.told[..] else { panic!("{:?}", rig.told) };
    assert!(matches!(created.body, WatchBody::Created) && created.revision >= Revision(2));
    assert_eq!((event.revision, events(event).len()), (Revision(2), 1));
}
