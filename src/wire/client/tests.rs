//! The client against the h2 crate as its server, in memory, cut into pieces of every size; and
//! against bytes that no server should send.

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::connection::Body;
use super::status::Status;
use super::{Connection, Event, Refusal, StreamId, Windows};
use crate::base::prng::Prng;

/// A server that answers each call with its message as often as its path says, then `grpc-status`.
async fn serve(io: DuplexStream, window: u32) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
    let mut connection = builder.handshake::<_, Bytes>(io).await.expect("a client");
    while let Some(accepted) = connection.accept().await {
        let Ok((request, respond)) = accepted else { return };
        tokio::task::spawn_local(answer(request, respond));
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).map(|value| value.as_bytes().to_vec());
    assert_eq!(text("content-type").as_deref(), Some(&b"application/grpc"[..]));
    assert_eq!(text("te").as_deref(), Some(&b"trailers"[..]));
    assert_eq!(head.uri.authority().map(|name| name.as_str()), Some("127.0.0.1:2379"));
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let response = Response::builder().header("content-type", "application/grpc");
    let times = match head.uri.path() {
        "/refused" => {
            let response = response.header("grpc-status", "8").header("grpc-message", "too%20many");
            let _ = respond.send_response(response.body(()).expect("a head"), true);
            return;
        }
        "/http" => {
            let response = Response::builder().status(503).body(()).expect("a head");
            let _ = respond.send_response(response, true);
            return;
        }
        "/reset" => return respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/many" => 50,
        _ => 1,
    };
    let response = response.body(()).expect("a head");
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    for _ in 0..times {
        if stream.send_data(Bytes::from(bytes.clone()), false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    let _ = stream.send_trailers(trailers);
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message(u64, Vec<u8>),
    End(u64, Status),
}

/// Runs calls on a connection until so many have ended; reads come in pieces of random size.
async fn run(window: u32, seed: u64, ends: usize, open: impl Fn(&mut Connection)) -> Vec<Seen> {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let server = tokio::task::spawn_local(serve(theirs, window));
    let (mut reader, mut writer) = tokio::io::split(ours);
    let mut connection = Connection::new("127.0.0.1:2379", Windows::default());
    let mut prng = Prng::new(seed);
    let (mut seen, mut ended, mut is_opened) = (Vec::new(), 0, false);
    let mut buffer = vec![0; 32 << 10];
    while ended < ends {
        let out = std::mem::take(connection.output());
        writer.write_all(&out).await.expect("a server");
        let length = reader.read(&mut buffer).await.expect("a server");
        assert!(length > 0, "the server left; {seen:?}");
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let piece = 1 + prng.below(rest.len().min(3_000) as u64) as usize;
            let (mut input, tail) = rest.split_at(piece);
            rest = tail;
            while let Some(event) = connection.receive(&mut input).expect("a sound server") {
                seen.push(match event {
                    Event::Message(tag, body) => Seen::Message(tag, body.bytes().to_vec()),
                    Event::End(tag, status) => {
                        ended += 1;
                        Seen::End(tag, status)
                    }
                });
            }
        }
        if connection.is_ready() && !std::mem::replace(&mut is_opened, true) {
            open(&mut connection);
        }
    }
    assert_eq!(connection.open_streams(), 0);
    server.abort();
    seen
}

fn local<T>(calls: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, calls)
}

#[test]
fn calls_of_every_size_come_back_through_small_windows() {
    for (seed, window) in [(1, 65_535), (2, 1_000), (3, 1 << 20)] {
        let sizes = [0, 1, 5, 600, 16_379, 16_380, 70_000, 300_000];
        let seen = local(run(window, seed, sizes.len(), |connection| {
            for (tag, size) in sizes.iter().enumerate() {
                let message = vec![tag as u8; *size];
                connection.unary("/echo", tag as u64, &message).expect("room");
            }
        }));
        for (tag, size) in sizes.iter().enumerate() {
            let message = Seen::Message(tag as u64, vec![tag as u8; *size]);
            let end = Seen::End(tag as u64, Status::OK);
            let at = |wanted: &Seen| seen.iter().position(|seen| seen == wanted);
            assert!(at(&message).expect("an answer") < at(&end).expect("an end"), "{size}");
        }
        assert_eq!(seen.len(), 2 * sizes.len());
    }
}

#[test]
fn many_messages_and_every_way_to_end() {
    let seen = local(run(1 << 20, 9, 5, |connection| {
        connection.unary("/many", 1, b"again").expect("room");
        connection.unary("/refused", 2, b"").expect("room");
        connection.unary("/http", 3, b"").expect("room");
        connection.unary("/reset", 4, b"").expect("room");
        let stream = connection.open("/echo", &[("hasleader", "true")], 5).expect("room");
        connection.send(stream, b"a", false).expect("room");
        connection.send(stream, b"b", true).expect("room");
        assert_eq!(connection.send(stream, b"c", true), Err(Refusal::Over));
    }));
    let messages =
        |tag| seen.iter().filter(move |seen| matches!(seen, Seen::Message(t, _) if *t == tag));
    assert_eq!(messages(1).count(), 50);
    assert_eq!(messages(5).count(), 2);
    let end = |tag: u64| {
        let found = seen.iter().find_map(|seen| match seen {
            Seen::End(ended, status) if *ended == tag => Some(status.to_string()),
            _ => None,
        });
        found.expect("an end")
    };
    assert_eq!((end(1), end(5)), ("OK".to_owned(), "OK".to_owned()));
    assert_eq!(end(2), "RESOURCE_EXHAUSTED: too many");
    assert_eq!(end(3), "UNAVAILABLE: the answer is HTTP status 503 without a gRPC status");
    assert_eq!(end(4), "UNAVAILABLE: the server reset the stream with HTTP/2 code 7");
}

#[test]
fn thousands_of_calls_use_one_table() {
    let seen = local(run(1 << 20, 4, 3_000, |connection| {
        for tag in 0..3_000 {
            let path = if tag % 2 == 0 { "/one" } else { "/two" };
            connection.unary(path, tag, &tag.to_be_bytes()).expect("room");
        }
    }));
    let is_right = |seen: &Seen| match seen {
        Seen::Message(tag, bytes) => bytes[..] == tag.to_be_bytes(),
        Seen::End(_, status) => status.is_ok(),
    };
    assert!(seen.len() == 6_000 && seen.iter().all(is_right));
}

// --- by hand ----------------------------------------------------------------------------------

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn ready() -> (Connection, StreamId) {
    let mut connection = Connection::new("a:1", Windows::default());
    let settings = frame(4, 0, 0, &[]);
    assert!(matches!(connection.receive(&mut &settings[..]), Ok(None)));
    let stream = connection.unary("/a", 7, b"m").expect("room");
    connection.output().clear();
    (connection, stream)
}

/// All events that bytes bring, or why the connection broke.
fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut input = bytes;
    let mut events = Vec::new();
    loop {
        match connection.receive(&mut input) {
            Ok(None) => return Ok(events),
            Ok(Some(Event::Message(tag, Body::Slice(bytes)))) => {
                events.push(format!("{tag} slice {bytes:?}"));
            }
            Ok(Some(Event::Message(tag, Body::Gathered(bytes)))) => {
                events.push(format!("{tag} gathered {bytes:?}"));
            }
            Ok(Some(Event::End(tag, status))) => events.push(format!("{tag} {status}")),
            Err(broken) => return Err(broken.text.to_owned()),
        }
    }
}

#[test]
fn hostile_frames_break_the_connection_and_say_why() {
    let cases: [(Vec<u8>, &str); 14] = [
        (frame(0, 0, 2, b""), "a frame names a stream that was never opened"),
        (frame(0, 0, 9, b""), "a frame names a stream that was never opened"),
        (frame(1, 4, 3, b"\x88"), "a frame names a stream that was never opened"),
        (frame(0, 8, 1, b"\x09a"), "too much padding"),
        (frame(1, 4, 1, b"\xbe"), "a header block cannot be read"),
        (
            [frame(1, 0, 1, b"\x88"), frame(6, 0, 0, &[0; 8])].concat(),
            "a header block is cut by another frame",
        ),
        (frame(9, 4, 1, b"\x88"), "a header block is cut by another frame"),
        (
            [frame(1, 0, 1, b"\x88"), frame(9, 0, 1, b"")].concat(),
            "a header block is too large, or comes in empty pieces",
        ),
        (frame(4, 0, 0, &[0; 5]), "cut SETTINGS"),
        (frame(4, 0, 0, &[0, 4, 0xff, 0, 0, 0]), "a window grows beyond its bound"),
        (frame(8, 0, 0, &[0; 4]), "a window grows beyond its bound, or by nothing"),
        (
            frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            "a window grows beyond its bound, or by nothing",
        ),
        (frame(5, 4, 1, &[0; 4]), "a push, which we declined"),
        (vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1], "a frame is larger than we announced"),
    ];
    for (bytes, why) in cases {
        let (mut connection, _) = ready();
        assert_eq!(feed(&mut connection, &bytes), Err(why.to_owned()), "{bytes:?}");
        let out = connection.output();
        assert_eq!(out[out.len() - 14], 7, "the last frame is a GOAWAY");
    }
    let mut connection = Connection::new("a:1", Windows::default());
    let said = feed(&mut connection, b"HTTP/1.1 400 Bad Request\r\n").expect_err("no HTTP/2");
    assert!(said.starts_with("a frame is larger") || said.starts_with("its first frame"), "{said}");
}

#[test]
fn pings_are_answered_but_not_for_ever() {
    let (mut connection, _) = ready();
    assert_eq!(feed(&mut connection, &frame(6, 0, 0, b"12345678")), Ok(vec![]));
    assert_eq!(*connection.output(), frame(6, 1, 0, b"12345678"));
    let ping = frame(6, 0, 0, &[0; 8]);
    let end = (0..20_000).find_map(|_| feed(&mut connection, &ping).err());
    assert_eq!(end.as_deref(), Some("it wants answers and does not read them"));
}

#[test]
fn a_leaving_server_refuses_what_it_did_not_begin() {
    let (mut connection, _) = ready();
    connection.unary("/a", 8, b"").expect("room");
    let bytes = frame(7, 0, 0, &[[0, 0, 0, 1, 0, 0, 0, 0].as_slice(), b"bye"].concat());
    let events = feed(&mut connection, &bytes).expect("sound");
    let text = "the server closes the connection (HTTP/2 code 0) bye";
    assert_eq!(events, [format!("8 UNAVAILABLE: {text}")]);
    assert_eq!(connection.closing(), Some(text));
    assert_eq!(connection.unary("/a", 9, b""), Err(Refusal::Closing));
    let answer = [frame(1, 4, 1, b"\x88"), frame(1, 5, 1, b"\x00\x0bgrpc-status\x010")].concat();
    assert_eq!(feed(&mut connection, &answer), Ok(vec!["7 OK".to_owned()]));
}

#[test]
fn a_server_that_takes_few_streams_gets_few() {
    let mut connection = Connection::new("a:1", Windows::default());
    feed(&mut connection, &frame(4, 0, 0, &[0, 3, 0, 0, 0, 2])).expect("settings");
    let first = connection.unary("/a", 1, b"").expect("room");
    connection.unary("/a", 2, b"").expect("room");
    assert_eq!(connection.unary("/a", 3, b""), Err(Refusal::Busy));
    assert_eq!(connection.cancel(first), Some(1));
    assert_eq!(connection.cancel(first), None);
    connection.unary("/a", 3, b"").expect("room again");
    // What still comes for the cancelled one counts for the window and is dropped.
    assert_eq!(feed(&mut connection, &frame(0, 0, 1, &[0; 100])), Ok(vec![]));
}

#[test]
fn padded_and_odd_messages_are_read_or_refused() {
    let (mut connection, _) = ready();
    let padded = frame(0, 8, 1, &[&[2][..], &[0, 0, 0, 0, 1, b'x'], &[0, 0]].concat());
    assert_eq!(feed(&mut connection, &padded), Ok(vec!["7 gathered [120]".to_owned()]));
    let compressed = frame(0, 0, 1, &[1, 0, 0, 0, 0]);
    let text = "7 INTERNAL: a message came with flag 1; no compression was agreed";
    assert_eq!(feed(&mut connection, &compressed), Ok(vec![text.to_owned()]));
    let (mut connection, _) = ready();
    let bare = [frame(1, 4, 1, b"\x88"), frame(0, 1, 1, &[])].concat();
    let text = "7 INTERNAL: the server ended the stream without a status";
    assert_eq!(feed(&mut connection, &bare), Ok(vec![text.to_owned()]));
}

#[test]
fn garbage_never_panics() {
    let mut prng = Prng::new(5);
    for _ in 0..3_000 {
        let (mut connection, _) = ready();
        for _ in 0..20 {
            let payload: Vec<u8> =
                (0..prng.below(24)).map(|_| prng.next_u64() as u8 & 0x8f).collect();
            let (kind, flags) = (prng.below(11) as u8, prng.next_u64() as u8 & 0x2d);
            let bytes = frame(kind, flags, prng.below(4) as u32, &payload);
            if feed(&mut connection, &bytes).is_err() {
                break;
            }
        }
    }
}
