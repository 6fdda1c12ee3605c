//! Clients that do too much, too little, or nothing at all.

use super::*;
use crate::frontend::sniff::PREFACE;
use crate::wire::etcdserverpb as pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SETTINGS_FRAME: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING_FRAME: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// Says `bytes` after the preface and returns everything the server says until it hangs up.
async fn say(rig: &Rig, bytes: Vec<u8>) -> Vec<u8> {
    let (mut pipe, task) = rig.connect_raw();
    pipe.write_all(PREFACE).await.expect("written");
    pipe.write_all(&SETTINGS_FRAME).await.expect("written");
    // The server may hang up in the middle of it.
    let _ = pipe.write_all(&bytes).await;
    let mut said = Vec::new();
    let _ = pipe.read_to_end(&mut said).await;
    task.await.expect("no panic");
    said
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn too_many_pings_are_told_so_in_a_goaway() {
    run(async {
        let rig = Rig::new(silent_node);
        let said = say(&rig, PING_FRAME.repeat(4)).await;
        assert!(contains(&said, b"\0\0\0\x0btoo_many_pings"), "ENHANCE_YOUR_CALM and why");
        assert_eq!(rig.ctx.meters.floods.value(), 1);
        rig.assert_settled();
    });
}

#[test]
fn pings_between_calls_are_fine() {
    run(async {
        let rig = Rig::new(plain_node);
        let (pipe, _server) = rig.connect_raw();
        let (mut send, mut connection) = client::handshake(pipe).await.expect("a handshake");
        let mut pings = connection.ping_pong().expect("once");
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        for _ in 0..50 {
            pings.ping(h2::Ping::opaque()).await.expect("a pong");
            let request = grpc_request("/etcdserverpb.KV/Put").body(()).unwrap();
            let (response, mut stream) = send.send_request(request, false).expect("a stream");
            let put = pb::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
            stream.send_data(framed(&put), true).expect("sent");
            let (_, end) = answer::<pb::PutResponse>(response).await;
            assert_eq!(end, ended(0, ""));
        }
        assert_eq!(rig.ctx.meters.floods.value(), 0);
    });
}

#[test]
fn too_many_settings_end_the_connection() {
    run(async {
        let rig = Rig::new(silent_node);
        let said = say(&rig, SETTINGS_FRAME.repeat(200)).await;
        assert!(contains(&said, b"too_many_settings"));
        rig.assert_settled();
    });
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    run(async {
        let rig = Rig::new(silent_node);
        for first in [&b""[..], &PREFACE[..10], PREFACE] {
            let (mut pipe, task) = rig.connect_raw();
            pipe.write_all(first).await.expect("written");
            settle().await;
            rig.advance(4_900);
            settle().await;
            assert!(!task.is_finished(), "{first:?}");
            rig.advance(200);
            task.await.expect("no panic");
        }
        rig.assert_settled();
    });
}

#[test]
fn a_silent_client_is_pinged_and_one_that_stays_silent_is_dropped() {
    run(async {
        let rig = Rig::new(silent_node);
        let client = rig.connect().await;
        settle().await;
        for _ in 0..3 {
            rig.advance(2 * 60 * 60 * 1_000);
            settle().await;
            rig.advance(21_000);
            settle().await;
            assert!(!client.server.is_finished(), "a client answers pings by itself");
        }
        let (mut pipe, task) = rig.connect_raw();
        pipe.write_all(PREFACE).await.expect("written");
        pipe.write_all(&SETTINGS_FRAME).await.expect("written");
        settle().await;
        rig.advance(2 * 60 * 60 * 1_000);
        settle().await;
        assert!(!task.is_finished());
        rig.advance(21_000);
        task.await.expect("no panic");
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn rapid_resets_end_the_connection_and_leave_nothing_behind() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut client = rig.connect().await;
        let put = pb::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        for _ in 0..5_000 {
            if poll_fn(|cx| client.send.poll_ready(cx)).await.is_err() {
                break;
            }
            let request = grpc_request("/etcdserverpb.KV/Put").body(()).unwrap();
            let Ok((_, mut stream)) = client.send.send_request(request, false) else {
                break;
            };
            let _ = stream.send_data(framed(&put), true);
            stream.send_reset(h2::Reason::CANCEL);
            tokio::task::yield_now().await;
        }
        let under_way = rig.port.submitted.borrow().len() - rig.port.gone.borrow().len();
        assert!(under_way <= 1, "what is reset is given up: {under_way}");
        client.close().await;
        rig.assert_settled();
    });
}

#[test]
fn garbage_is_hung_up_on() {
    run(async {
        let rig = Rig::new(silent_node);
        let mut prng = crate::base::prng::Prng::new(99);
        for round in 0..200 {
            let (mut pipe, task) = rig.connect_raw();
            let len = prng.below(400) as usize;
            let bytes: Vec<u8> = (0..len).map(|_| prng.below(256) as u8).collect();
            if round % 4 != 0 {
                let _ = pipe.write_all(PREFACE).await;
            }
            if round % 2 == 0 {
                let _ = pipe.write_all(&SETTINGS_FRAME).await;
            }
            let _ = pipe.write_all(&bytes).await;
            let _ = pipe.shutdown().await;
            let mut said = Vec::new();
            let _ = pipe.read_to_end(&mut said).await;
            task.await.expect("no panic");
        }
        rig.assert_settled();
    });
}

#[test]
fn a_client_that_reads_nothing_holds_little() {
    run(async {
        let rig = Rig::new(plain_node);
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(1 << 30).initial_window_size(1 << 30);
        let mut client = rig.connect_with(&builder).await;
        // Nobody drives the client any more: the pipe fills and stays full.
        let range =
            pb::RangeRequest { key: Bytes::from_static(b"k"), limit: 50, ..Default::default() };
        let mut streams = Vec::new();
        for _ in 0..100 {
            let (response, mut send) = client.start("/etcdserverpb.KV/Range");
            send.send_data(framed(&range), true).expect("sent");
            streams.push((response, send));
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        client.driver.abort();
        settle().await;
        assert!(rig.ctx.unsent_bytes().get() <= crate::base::limits::CONNECTION_UNSENT_BYTES_MAX);
        drop(streams);
        client.server.await.expect("no panic");
        rig.assert_settled();
    });
}
