//! Calls of many messages: watches, keepalives, streamed and large ranges.

use super::*;
use crate::base::limits::{
    BULK_SLICE_BYTES, CONNECTION_UNSENT_BYTES_MAX, STREAM_QUEUE_MESSAGES_MAX,
};
use crate::base::reject::Reject;
use crate::wire::call::{WatchBody, WatchMessage};
use crate::wire::etcdserverpb as pb;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const RANGE: &str = "/etcdserverpb.KV/Range";

fn create(watch_id: i64) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest { watch_id, ..Default::default() };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    pb::WatchRequest { request_union: Some(union) }
}

fn watch_message(watch_id: i64, body: WatchBody) -> WatchMessage {
    WatchMessage { watch_id, revision: Revision(9), body }
}

/// Events whose encoded fields take `bytes` bytes.
fn events(bytes: usize) -> WatchBody {
    let kv = crate::wire::mvccpb::KeyValue {
        value: vec![b'v'; bytes - 15].into(),
        ..Default::default()
    };
    let event = crate::wire::mvccpb::Event { kv: Some(kv), ..Default::default() };
    let response = pb::WatchResponse { events: vec![event], ..Default::default() };
    use prost::Message as _;
    WatchBody::Events { events: vec![response.encode_to_vec().into()], fragment: false }
}

#[test]
fn a_watch_stream_is_one_call_and_outlives_the_clients_half() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(WATCH);
        send.send_data(framed(&create(5)), false).expect("sent");
        send.send_data(framed(&create(6)), true).expect("sent");
        settle().await;
        let calls = rig.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0], calls[1], "all messages of a stream come under one call");
        rig.deliver(Delivery::Watch(calls[0], watch_message(5, WatchBody::Created)));
        let mut messages = Messages::new(response.await.expect("a response").into_body());
        let created: pb::WatchResponse = messages.next().await.expect("a message");
        assert!(created.created && created.watch_id == 5);
        let body = events(300);
        let message = watch_message(5, body);
        let bytes = message.bytes();
        rig.deliver(Delivery::Watch(calls[0], message));
        let response: pb::WatchResponse = messages.next().await.expect("a message");
        assert_eq!(response.events.len(), 1);
        let created = WatchMessage::OVERHEAD_BYTES;
        assert_eq!(*rig.port.drained.borrow(), [(calls[0], created), (calls[0], bytes)]);
        rig.advance(60_000);
        settle().await;
        assert!(rig.port.gone.borrow().is_empty(), "a watch has no time limit");
        send.send_reset(h2::Reason::CANCEL);
        settle().await;
        assert_eq!(*rig.port.gone.borrow(), [calls[0]]);
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn events_are_drained_only_as_the_client_reads_them() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(WATCH);
        send.send_data(framed(&create(0)), false).expect("sent");
        settle().await;
        let call = rig.calls()[0];
        for _ in 0..20 {
            rig.deliver(Delivery::Watch(call, watch_message(0, events(10_000))));
        }
        settle().await;
        // The client's window is 65,535 bytes and it reads nothing.
        let drained = || rig.port.drained.borrow().iter().map(|(_, bytes)| bytes).sum::<usize>();
        let each = watch_message(0, events(10_000)).bytes();
        assert_eq!(drained(), 6 * each);
        let mut messages = Messages::new(response.await.expect("a response").into_body());
        for _ in 0..20 {
            let response: pb::WatchResponse = messages.next().await.expect("a message");
            assert_eq!(response.events.len(), 1);
        }
        settle().await;
        assert_eq!(drained(), 20 * each);
        drop((send, messages));
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_read() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(WATCH);
        send.send_data(framed(&create(0)), false).expect("sent");
        settle().await;
        let call = rig.calls()[0];
        // More answers than the window holds, then as many as may be queued.
        for _ in 0..STREAM_QUEUE_MESSAGES_MAX + 20_000 {
            rig.ctx.deliver(Delivery::Watch(call, watch_message(0, WatchBody::Progress)));
        }
        rig.ctx.ring();
        settle().await;
        let asked = rig.calls().len();
        send.send_data(framed(&create(1)), false).expect("sent");
        settle().await;
        assert_eq!(rig.calls().len(), asked, "the stream is not read any more");
        let mut messages = Messages::new(response.await.expect("a response").into_body());
        for _ in 0..STREAM_QUEUE_MESSAGES_MAX + 20_000 {
            let _: pb::WatchResponse = messages.next().await.expect("a message");
        }
        settle().await;
        assert_eq!(rig.calls().len(), asked + 1, "and is read again once it drains");
        drop((send, messages));
        client.close().await;
    });
}

#[test]
fn a_refusal_ends_a_watch_stream() {
    run(async {
        let rig = Rig::new(|_| Some(Err(Reject::Corrupt)));
        let mut client = rig.connect().await;
        let (_, end) = client.call::<pb::WatchResponse>(WATCH, &create(0)).await;
        assert_eq!(end, ended(15, "etcdserver: corrupt cluster"));
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_watch_that_requires_a_leader_ends_when_there_is_none_for_long() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let request = grpc_request(WATCH).header("hasleader", "true").body(()).unwrap();
        let (response, mut send) = client.open(request);
        send.send_data(framed(&create(0)), false).expect("sent");
        settle().await;
        let call = rig.calls()[0];
        for (has_leader, ms) in [(false, 2_900), (true, 500), (false, 2_900)] {
            rig.port.shared.set_term(Term(3), has_leader);
            rig.advance(500);
            settle().await;
            rig.advance(ms - 500);
            settle().await;
            assert!(rig.port.gone.borrow().is_empty());
        }
        rig.advance(1_000);
        let (_, end) = answer::<pb::WatchResponse>(response).await;
        assert_eq!(end, ended(14, "etcdserver: no leader"));
        assert_eq!(*rig.port.gone.borrow(), [call]);
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn keepalives_are_answered_in_order_and_the_stream_ends_with_the_client() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start("/etcdserverpb.Lease/LeaseKeepAlive");
        for id in 1..=3 {
            send.send_data(framed(&pb::LeaseKeepAliveRequest { id }), id == 3).expect("sent");
        }
        settle().await;
        let submitted: Vec<(CallId, i64)> = rig
            .port
            .submitted
            .borrow()
            .iter()
            .map(|(call, request)| match request {
                Request::LeaseKeepAlive(id) => (*call, id.0),
                other => panic!("{other:?}"),
            })
            .collect();
        for (call, id) in submitted.iter().rev() {
            let revision = Revision(8);
            let answer = Answer::LeaseKeepAlive { revision, id: LeaseId(*id), ttl_s: 60 };
            rig.deliver(Delivery::Reply(*call, Ok(answer)));
        }
        let (answers, end) = answer::<pb::LeaseKeepAliveResponse>(response).await;
        let ids: Vec<i64> = answers.iter().map(|answer| answer.id).collect();
        assert_eq!((&ids[..], end), (&[1, 2, 3][..], ended(0, "")));
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_range_stream_is_whole_and_asks_for_a_chunk_when_the_last_one_has_left() {
    run(async {
        let rig = Rig::new(|request| {
            let Request::Range(range) = request else { return None };
            let from: usize = match std::str::from_utf8(&range.key[1..]) {
                Ok("") => 0,
                Ok(text) => text[..5].parse::<usize>().unwrap() + 1,
                Err(_) => return None,
            };
            let until = (from + range.limit as usize).min(500);
            let records = (from..until).map(|i| record(&format!("k{i:05}"), 1_000)).collect();
            let (more, count) = (until < 500, (500 - from) as u64);
            let revision = Revision(8);
            Some(Ok(Answer::Range(RangeAnswer {
                revision,
                records,
                more,
                count,
                keys_only: false,
            })))
        });
        let mut client = rig.connect().await;
        let (response, mut send) = client.start("/etcdserverpb.KV/RangeStream");
        let request = pb::RangeRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        send.send_data(framed(&request), true).expect("sent");
        settle().await;
        // 10 + 20 keys fit the client's window, 40 more wait for it.
        assert_eq!(rig.calls().len(), 3);
        let (answers, end) = answer::<pb::RangeStreamResponse>(response).await;
        assert_eq!(end, ended(0, ""));
        let ranges: Vec<_> =
            answers.into_iter().map(|answer| answer.range_response.unwrap()).collect();
        let keys: Vec<_> = ranges.iter().flat_map(|range| &range.kvs).map(|kv| &kv.key).collect();
        assert_eq!(keys.len(), 500);
        assert!(keys.is_sorted());
        let last = ranges.last().unwrap();
        assert_eq!((last.count, last.header.as_ref().unwrap().revision), (500, 8));
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_small_answer_goes_past_a_bulk_one_that_waits() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(64 << 20);
        let mut client = rig.connect_with(&builder).await;
        let bulk =
            pb::RangeRequest { key: Bytes::from_static(b"k"), limit: 20_000, ..Default::default() };
        // Its stream has a window of 65,535 bytes, and nobody reads it.
        let (bulk_response, mut send) = client.start(RANGE);
        send.send_data(framed(&bulk), true).expect("sent");
        settle().await;
        assert!(rig.ctx.unsent_bytes().get() <= BULK_SLICE_BYTES);
        let small = pb::RangeRequest { limit: 1, ..bulk };
        for _ in 0..100 {
            let (answers, end) = client.call::<pb::RangeResponse>(RANGE, &small).await;
            assert_eq!((answers[0].kvs.len(), end), (1, ended(0, "")));
        }
        let (answers, end) = answer::<pb::RangeResponse>(bulk_response).await;
        assert_eq!((answers[0].kvs.len(), end), (20_000, ended(0, "")));
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn several_bulk_answers_share_a_connection() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(1 << 30).initial_window_size(1 << 30);
        let mut client = rig.connect_with(&builder).await;
        let request =
            pb::RangeRequest { key: Bytes::from_static(b"k"), limit: 2_000, ..Default::default() };
        let mut bodies = Vec::new();
        for _ in 0..4 {
            let (response, mut send) = client.start(RANGE);
            send.send_data(framed(&request), true).expect("sent");
            bodies.push(response);
        }
        for _ in 0..20 {
            // The pipe holds 32 KiB: with windows without end, only our own bound holds.
            tokio::task::yield_now().await;
            assert!(rig.ctx.unsent_bytes().get() <= CONNECTION_UNSENT_BYTES_MAX);
        }
        for response in bodies {
            let (answers, end) = answer::<pb::RangeResponse>(response).await;
            assert_eq!((answers[0].kvs.len(), end), (2_000, ended(0, "")));
        }
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_stopping_member_finishes_calls_and_ends_watches() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (watch, mut watch_send) = client.start(WATCH);
        watch_send.send_data(framed(&create(0)), false).expect("sent");
        let (put, mut send) = client.start("/etcdserverpb.KV/Put");
        let request = pb::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        send.send_data(framed(&request), true).expect("sent");
        settle().await;
        let put_call = rig.calls()[1];
        rig.ctx.stop();
        let (_, end) = answer::<pb::WatchResponse>(watch).await;
        assert_eq!(end, ended(14, "etcdserver: server stopped"));
        let answer_of_put = Answer::Put(PutAnswer { revision: Revision(8), previous: None });
        rig.deliver(Delivery::Reply(put_call, Ok(answer_of_put)));
        let (answers, end) = answer::<pb::PutResponse>(put).await;
        assert_eq!((answers.len(), end), (1, ended(0, "")));
        drop(watch_send);
        client.server.await.expect("the connection ends by itself");
        rig.assert_settled();
    });
}

#[test]
fn health_serves_from_the_first_moment() {
    use crate::wire::health as hp;
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        for (service, answers_expected, expected) in
            [("", 1, ended(0, "")), ("nothing", 0, ended(5, "unknown service"))]
        {
            let request = hp::HealthCheckRequest { service: service.to_owned() };
            let (answers, end) = client
                .call::<hp::HealthCheckResponse>("/grpc.health.v1.Health/Check", &request)
                .await;
            assert_eq!((answers.len(), end), (answers_expected, expected));
            assert!(answers.iter().all(|answer| answer.status == 1));
        }
        client.close().await;
        rig.assert_settled();
    });
}
