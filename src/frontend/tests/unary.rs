//! Calls of one question and one answer.

use super::*;
use crate::base::limits::ADMITTED_MAX;
use crate::base::reject::Reject;
use crate::frontend::http_call::{HttpContinuation, HttpHandler, HttpStep};
use crate::wire::etcdserverpb as pb;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

fn put(key: &'static str, value: usize) -> pb::PutRequest {
    let (key, value) = (Bytes::from_static(key.as_bytes()), vec![b'x'; value].into());
    pb::PutRequest { key, value, ..Default::default() }
}

fn range(limit: i64) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::from_static(b"k"), limit, ..Default::default() }
}

#[test]
fn a_call_is_answered_with_header_message_and_status() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut client = rig.connect().await;
        let (answers, end) = client.call::<pb::PutResponse>(PUT, &put("k", 3)).await;
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 8, raft_term: 3 };
        assert_eq!(answers, [pb::PutResponse { header: Some(header), prev_kv: None }]);
        assert_eq!(end, ended(0, ""));
        let (answers, end) = client.call::<pb::RangeResponse>(RANGE, &range(3)).await;
        assert_eq!((answers[0].kvs.len(), answers[0].count), (3, 3));
        assert_eq!(answers[0].kvs[1].key, "k00001");
        assert_eq!(end, ended(0, ""));
        assert!(rig.port.gone.borrow().is_empty(), "what is answered is not given up");
        client.close().await;
        rig.assert_settled();
        let meters = &rig.ctx.meters.methods[crate::frontend::methods::find(PUT).unwrap()];
        let counts = [&meters.started, &meters.handled[0], &meters.received, &meters.sent];
        assert_eq!(counts.map(|counter| counter.value()), [1; 4]);
    });
}

#[test]
fn many_calls_at_once_are_each_answered_with_their_own() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(64 << 20).initial_window_size(1 << 20);
        let mut client = rig.connect_with(&builder).await;
        let mut responses = Vec::new();
        for limit in 0..200 {
            let (response, mut send) = client.start(RANGE);
            send.send_data(framed(&range(limit)), true).expect("sent");
            responses.push((limit, response));
        }
        for (limit, response) in responses {
            let (answers, end) = answer::<pb::RangeResponse>(response).await;
            assert_eq!((answers[0].count, end), (limit, ended(0, "")));
        }
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_message_may_be_cut_anywhere() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut client = rig.connect().await;
        let bytes = framed(&put("key", 20));
        for cut in 0..=bytes.len() {
            let (response, mut send) = client.start(PUT);
            send.send_data(bytes.slice(..cut), false).expect("sent");
            settle().await;
            // The call may be over already if only the end of the stream is missing.
            let _ = send.send_data(bytes.slice(cut..), true);
            let (_, end) = answer::<pb::PutResponse>(response).await;
            assert_eq!(end, ended(0, ""), "{cut}");
        }
        assert_eq!(rig.port.submitted.borrow().len(), bytes.len() + 1);
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn refusals_have_their_code_and_text() {
    run(async {
        let rig = Rig::new(|request| match request {
            Request::Range(_) => Some(Err(Reject::Compacted)),
            _ => Some(Err(Reject::NoSpace)),
        });
        let mut client = rig.connect().await;
        let empty_put = put("", 1);
        let cases: [(&str, &dyn Fn() -> Bytes, Ended); 7] = [
            (PUT, &|| framed(&empty_put), ended(3, "etcdserver: key is not provided")),
            (PUT, &|| framed(&put("k", 1)), ended(8, "etcdserver: mvcc: database space exceeded")),
            (
                RANGE,
                &|| framed(&range(0)),
                ended(11, "etcdserver: mvcc: required revision has been compacted"),
            ),
            (PUT, &|| framed(&put("k", 1_572_864)), ended(3, "etcdserver: request is too large")),
            (
                "/etcdserverpb.Maintenance/Snapshot",
                &Bytes::new,
                ended(
                    12,
                    "unknown method Snapshot for service etcdserverpb.Maintenance: \
                     this build of Ringbolt does not have it",
                ),
            ),
            ("/etcdserverpb.KV/Get", &Bytes::new, {
                ended(12, "unknown method Get for service etcdserverpb.KV")
            }),
            (PUT, &Bytes::new, ended(13, "the call ended without a request message")),
        ];
        for (path, body, expected) in cases {
            let (response, mut send) = client.start(path);
            // A refusal may come before the body is sent.
            let _ = send.send_data(body(), true);
            let (answers, end) = answer::<pb::PutResponse>(response).await;
            assert_eq!((answers.len(), end), (0, expected), "{path}");
        }
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn headers_are_judged_before_the_message() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut client = rig.connect().await;
        let no_decompressor =
            ended(12, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
        let cases = [
            ("grpc-encoding", &b"gzip"[..], no_decompressor),
            ("client-api-version", b"\xff", ended(3, "etcdserver: invalid client api version")),
            ("hasleader", b"true", ended(14, "etcdserver: no leader")),
        ];
        rig.port.shared.set_term(Term(3), false);
        for (name, value, expected) in cases {
            let request = grpc_request(RANGE).header(name, value).body(()).unwrap();
            let (response, _send) = client.open(request);
            let (_, end) = answer::<pb::RangeResponse>(response).await;
            assert_eq!(end, expected, "{name}");
        }
        let (_, end) = client.call::<pb::RangeResponse>(RANGE, &range(1)).await;
        assert_eq!(end, ended(0, ""), "who does not ask for a leader is served");
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_message_that_is_too_large_is_refused_by_its_prefix() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(PUT);
        send.send_data(Bytes::from_static(&[0, 0, 0x20, 0, 1]), false).expect("sent");
        let (_, end) = answer::<pb::PutResponse>(response).await;
        let text = "grpc: received message larger than max (2097153 vs. 2097152)";
        assert_eq!(end, ended(8, text));
        drop(send);
        let (_, end) = client.call::<pb::PutResponse>(PUT, &put("k", 1_000_000)).await;
        assert_eq!(end, ended(0, ""), "a large one within the limit is fine");
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn a_cancelled_call_is_given_up_and_its_answer_dropped() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(PUT);
        send.send_data(framed(&put("k", 3)), true).expect("sent");
        settle().await;
        let call = rig.calls()[0];
        assert_eq!(rig.port.shared.admitted(), 1);
        send.send_reset(h2::Reason::CANCEL);
        drop(response);
        settle().await;
        assert_eq!(*rig.port.gone.borrow(), [call]);
        assert_eq!(rig.port.shared.admitted(), 1, "the write is still under way");
        let answer = Answer::Put(PutAnswer { revision: Revision(8), previous: None });
        rig.deliver(Delivery::Reply(call, Ok(answer)));
        settle().await;
        assert_eq!(rig.port.shared.admitted(), 0);
        client.close().await;
        rig.assert_settled();
        let meters = &rig.ctx.meters.methods[crate::frontend::methods::find(PUT).unwrap()];
        assert_eq!(meters.handled[1].value(), 1, "counted as Canceled");
    });
}

#[test]
fn a_call_that_takes_too_long_is_told_so() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let (response, mut send) = client.start(PUT);
        send.send_data(framed(&put("k", 3)), true).expect("sent");
        let hurried = grpc_request(RANGE).header("grpc-timeout", "1S").body(()).unwrap();
        let (hurried, mut send) = client.open(hurried);
        send.send_data(framed(&range(1)), true).expect("sent");
        settle().await;
        rig.advance(2_000);
        let (_, end) = answer::<pb::RangeResponse>(hurried).await;
        assert_eq!(end, ended(4, "context deadline exceeded"));
        assert_eq!(rig.port.gone.borrow().len(), 1);
        rig.advance(4_900);
        settle().await;
        assert_eq!(rig.port.gone.borrow().len(), 1, "not yet");
        rig.advance(1_000);
        let (_, end) = answer::<pb::PutResponse>(response).await;
        assert_eq!(end, ended(14, "etcdserver: request timed out"));
        assert_eq!(rig.port.gone.borrow().len(), 2);
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn writes_beyond_the_admitted_ones_are_too_many() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut client = rig.connect().await;
        for _ in 0..ADMITTED_MAX {
            rig.port.shared.admit();
        }
        let (_, end) = client.call::<pb::PutResponse>(PUT, &put("k", 3)).await;
        assert_eq!(end, ended(2, "etcdserver: too many requests"));
        let (_, end) = client.call::<pb::RangeResponse>(RANGE, &range(1)).await;
        assert_eq!(end, ended(0, ""), "reads are not writes");
        rig.port.shared.release(1);
        let (_, end) = client.call::<pb::PutResponse>(PUT, &put("k", 3)).await;
        assert_eq!(end, ended(0, ""));
        rig.port.shared.release(ADMITTED_MAX - 1);
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn what_is_under_way_when_the_client_vanishes_is_given_up() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let mut streams = Vec::new();
        for _ in 0..10 {
            let (response, mut send) = client.start(PUT);
            send.send_data(framed(&put("k", 3)), true).expect("sent");
            streams.push((response, send));
        }
        settle().await;
        assert_eq!(rig.port.shared.admitted(), 10);
        client.driver.abort();
        client.server.await.expect("no panic");
        assert_eq!(rig.port.gone.borrow().len(), 10);
        rig.assert_settled();
        // The next connection in the slot never meets those calls again.
        let used = rig.calls();
        rig.next_slot.set(0);
        let mut client = rig.connect().await;
        let (_response, mut send) = client.start(PUT);
        send.send_data(framed(&put("k", 3)), true).expect("sent");
        settle().await;
        assert!(!used.contains(rig.calls().last().unwrap()));
    });
}

/// Answers `/echo` with the body and `/count` with what the node says.
struct Echo;
struct Count;

impl HttpHandler for Echo {
    fn begin(&self, request: HttpRequest<Bytes>) -> HttpStep {
        match request.uri().path() {
            "/count" => HttpStep::Ask(Request::Range(range(4)), Box::new(Count)),
            _ => HttpStep::Done(http::Response::new(request.into_body())),
        }
    }
}

impl HttpContinuation for Count {
    fn resume(self: Box<Self>, reply: Reply) -> HttpStep {
        let Ok(Answer::Range(answer)) = reply else { panic!("{reply:?}") };
        HttpStep::Done(http::Response::new(Bytes::from(answer.count.to_string())))
    }
}

#[test]
fn what_is_not_grpc_is_handed_over() {
    run(async {
        let body = vec![b'b'; 200_000];
        for (has_handler, path, status, expected) in [
            (false, "/health", 404, &b"404 page not found\n"[..]),
            (true, "/count", 200, b"4"),
            (true, "/echo", 200, &body),
        ] {
            let handler = has_handler.then(|| Rc::new(Echo) as Rc<dyn HttpHandler>);
            let rig = Rig::with_http(Settings::default(), plain_node, handler);
            let mut client = rig.connect().await;
            let request = HttpRequest::get(format!("http://localhost{path}")).body(()).unwrap();
            let (response, mut send) = client.open(request);
            send.send_data(body.clone().into(), true).expect("sent");
            let response = response.await.expect("a response");
            assert_eq!(response.status(), status, "{path}");
            let mut recv = response.into_body();
            let mut out = Vec::new();
            while let Some(data) = recv.data().await {
                let data = data.expect("data");
                let _ = recv.flow_control().release_capacity(data.len());
                out.extend_from_slice(&data);
            }
            assert_eq!(out, expected);
            client.close().await;
            rig.assert_settled();
        }
    });
}
