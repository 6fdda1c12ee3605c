//! HTTP/1 connections over an in-memory pipe.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::base::limits::{HTTP1_HEAD_TIMEOUT_MS, HTTP1_IDLE_TIMEOUT_MS};
use crate::frontend::http::metrics::{MetricsSource, Sample};
use crate::frontend::http::{Scope, Site, conn};
use crate::frontend::http_call::HttpHandler;
use crate::wire::call::StatusAnswer;

struct Still;

impl MetricsSource for Still {
    fn sample(&self) -> Sample {
        Sample::default()
    }
}

fn probed_node(request: &Request) -> Option<Reply> {
    match request {
        Request::Status => {
            Some(Ok(Answer::Status(StatusAnswer { leader: 1, ..Default::default() })))
        }
        Request::Range(_) => Some(Ok(Answer::Range(RangeAnswer::default()))),
        _ => None,
    }
}

fn connect(rig: &Rig) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(2 << 10);
    let scope = Scope::Client { cors: None, host_whitelist: None, is_secure: false };
    let site: Rc<dyn HttpHandler> = Rc::new(Site::new(scope, Rc::new(Still), Arc::default()));
    let slot = rig.next_slot.replace(rig.next_slot.get() + 1);
    let task = tokio::task::spawn_local(conn::serve(far, Rc::clone(&rig.ctx), slot, site));
    (near, task)
}

/// Sends everything and reads until the server hangs up.
async fn exchange(rig: &Rig, text: &str) -> String {
    let (near, task) = connect(rig);
    let (mut read, mut write) = tokio::io::split(near);
    let text = text.to_owned();
    let writer = tokio::task::spawn_local(async move {
        // The server may hang up in the middle of it.
        let _ = write.write_all(text.as_bytes()).await;
        let _ = write.shutdown().await;
    });
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.expect("text");
    task.await.expect("no panic");
    writer.abort();
    answer
}

fn statuses(answer: &str) -> Vec<&str> {
    // A body without a newline is followed by the next status on the same line.
    let parts = answer.split("HTTP/1.1 ").skip(1);
    parts.filter_map(|part| part.lines().next()).collect()
}

#[test]
fn requests_sent_ahead_are_answered_one_after_the_other() {
    run(async {
        let rig = Rig::new(probed_node);
        let text = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET \
                    HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n\
                    GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
                    GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = exchange(&rig, text).await;
        assert_eq!(statuses(&answer), ["200 OK", "405 Method Not Allowed", "200 OK", "200 OK"]);
        assert!(answer.contains("\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}HTTP/1.1 405"));
        assert!(!answer.contains("# HELP"), "a HEAD has no body");
        assert!(answer.ends_with("connection: close\r\n\r\nok\n"), "{answer}");
        assert_eq!(rig.port.submitted.borrow().len(), 2 + 3);
        rig.assert_settled();
    });
}

#[test]
fn a_large_answer_reaches_a_slow_reader_whole() {
    run(async {
        let rig = Rig::new(probed_node);
        let answer = exchange(&rig, "GET /metrics HTTP/1.0\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(length.expect("a length").parse(), Ok(body.len()));
        assert!(body.len() > 50_000 && head.contains("connection: close"));
        let kept = "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert!(exchange(&rig, kept).await.contains("connection: keep-alive"));
    });
}

#[test]
fn what_is_no_request_is_told_so_and_hung_up_on() {
    run(async {
        let rig = Rig::new(probed_node);
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(20_000));
        let cases = [
            ("nonsense\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
            (&*large, "431 Request Header Fields Too Large"),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "501 Not Implemented",
            ),
        ];
        for (text, expect) in cases {
            let answer = exchange(&rig, text).await;
            assert_eq!(statuses(&answer), [expect]);
            assert!(answer.contains("connection: close\r\n"));
        }
        assert_eq!(exchange(&rig, "").await, "");
        assert_eq!(exchange(&rig, "GET / HT").await, "", "cut off before its end");
        rig.assert_settled();
    });
}

#[test]
fn who_is_slow_is_not_waited_for() {
    run(async {
        let rig = Rig::new(probed_node);
        let (mut pipe, task) = connect(&rig);
        settle().await;
        rig.advance(HTTP1_IDLE_TIMEOUT_MS - 10);
        settle().await;
        assert!(!task.is_finished());
        pipe.write_all(b"GET /heal").await.expect("written");
        settle().await;
        rig.advance(HTTP1_HEAD_TIMEOUT_MS - 10);
        pipe.write_all(b"th HTTP/1.1\r\n").await.expect("written");
        settle().await;
        assert!(!task.is_finished());
        rig.advance(20);
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.expect("text");
        assert_eq!(statuses(&answer), ["408 Request Timeout"]);
        task.await.expect("no panic");

        let (mut pipe, task) = connect(&rig);
        settle().await;
        rig.advance(HTTP1_IDLE_TIMEOUT_MS + 10);
        task.await.expect("no panic");
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.expect("text");
        assert_eq!(answer, "");
        rig.assert_settled();
    });
}

#[test]
fn a_node_that_does_not_answer_makes_the_probe_fail() {
    run(async {
        let rig = Rig::new(|_| None);
        let (mut pipe, task) = connect(&rig);
        pipe.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .expect("written");
        settle().await;
        rig.advance(rig.ctx.settings.request_timeout_ms + 10);
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.expect("text");
        assert!(answer.ends_with("failed: etcdserver: request timed out\n\n"), "{answer}");
        task.await.expect("no panic");
        assert_eq!(*rig.port.gone.borrow(), rig.calls());
        rig.assert_settled();
    });
}

#[test]
fn the_members_stop_ends_idle_connections_and_lets_requests_finish() {
    run(async {
        let rig = Rig::new(|_| None);
        let (_idle_pipe, idle) = connect(&rig);
        let (mut pipe, busy) = connect(&rig);
        pipe.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        settle().await;
        rig.ctx.stop();
        idle.await.expect("no panic");
        assert!(!busy.is_finished());
        let call = rig.calls()[0];
        rig.deliver(Delivery::Reply(call, Ok(Answer::Range(RangeAnswer::default()))));
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.expect("text");
        assert!(answer.ends_with("connection: close\r\n\r\nok\n"), "{answer}");
        busy.await.expect("no panic");
        rig.assert_settled();
    });
}

#[test]
fn a_client_that_is_gone_leaves_nothing_behind() {
    run(async {
        let rig = Rig::new(|_| None);
        let (mut pipe, task) = connect(&rig);
        pipe.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        settle().await;
        task.abort();
        settle().await;
        assert_eq!(*rig.port.gone.borrow(), rig.calls());
        rig.assert_settled();
        drop(pipe);
    });
}
