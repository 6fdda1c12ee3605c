//! What comes in: new streams, their headers, their messages.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::connection::Connection;
use super::http_call::plain;
use super::machine::Sub;
use super::methods::{self, Flow, METHODS, Serve};
use super::status::{Code, Status};
use super::streams::{Kind, Plain, Role, Sending, Stream};
use crate::base::Tick;
use crate::base::reject::Reject;

/// What the headers of a gRPC call say.
#[derive(Debug, Default, PartialEq, Eq)]
struct CallHeaders<'a> {
    requires_leader: bool,
    timeout_ns: Option<u64>,
    /// The API version that the client names.
    version: Option<&'a str>,
}

/// Whether a request is gRPC's: by content type alone, as etcd tells them apart.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.windows(16).any(|window| window == b"application/grpc")
}

fn read_headers(headers: &HeaderMap) -> Result<CallHeaders<'_>, Status> {
    let mut out = CallHeaders::default();
    for (name, value) in headers {
        match name.as_str() {
            "content-type" => check_content_type(value.as_bytes())?,
            "grpc-encoding" if value != "identity" => {
                let text = String::from_utf8_lossy(value.as_bytes());
                let text =
                    format!("grpc: Decompressor is not installed for grpc-encoding {text:?}");
                return Err(Status::new(Code::Unimplemented, text));
            }
            "grpc-timeout" => out.timeout_ns = Some(parse_timeout(value.as_bytes())?),
            "hasleader" => out.requires_leader = value == "true",
            "client-api-version" => {
                let text = std::str::from_utf8(value.as_bytes());
                let text = text.map_err(|_| Status::INVALID_CLIENT_API_VERSION)?;
                out.version = out.version.or(Some(text));
            }
            _ => {}
        }
    }
    Ok(out)
}

/// `application/grpc`, alone or with `+proto` or `;parameters`.
fn check_content_type(value: &[u8]) -> Result<(), Status> {
    let rest = value.strip_prefix(b"application/grpc");
    match rest.map(|rest| rest.split_first()) {
        Some(None) => Ok(()),
        Some(Some((b';', _))) => Ok(()),
        Some(Some((b'+', codec))) if codec == b"proto" || codec.starts_with(b"proto;") => Ok(()),
        _ => {
            let text = String::from_utf8_lossy(value);
            let text = format!("invalid gRPC request content-type {text:?}");
            Err(Status::new(Code::Internal, text))
        }
    }
}

/// `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<u64, Status> {
    let malformed = || {
        let text = String::from_utf8_lossy(value);
        Status::new(Code::Internal, format!("malformed grpc-timeout: {text:?}"))
    };
    let (unit, digits) = value.split_last().ok_or_else(malformed)?;
    let unit_ns: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return Err(malformed()),
    };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(number.saturating_mul(unit_ns))
}

impl Connection {
    /// Takes a new stream and whatever of it is already there.
    pub(super) fn accept(&mut self, request: Request<RecvStream>, send: SendResponse<Bytes>) {
        if !is_grpc(request.headers()) {
            return self.accept_plain(request, send);
        }
        let method = methods::find(request.uri().path());
        if let Some(method) = method {
            self.ctx.meters.methods[method].started.one();
        }
        match self.judge(&request, method) {
            Ok((method, role, headers)) => {
                let CallHeaders { requires_leader, timeout_ns, .. } = headers;
                let recv = request.into_body();
                let mut stream = Stream::new(Kind::Grpc(method, role), recv, send);
                stream.started = self.now;
                stream.requires_leader = requires_leader;
                self.leader_waiters += usize::from(requires_leader);
                if let Some(ns) = timeout_ns {
                    stream.deadline = Tick(self.now.0.saturating_add(ns));
                    self.deadlines += 1;
                }
                let slot = self.slots.insert(&self.wakes, stream);
                self.read(slot);
                self.watch_reset(slot);
            }
            Err(status) => {
                if let Some(method) = method {
                    self.ctx.meters.methods[method].ended(status.code, 0);
                }
                refuse(send, &status);
            }
        }
    }

    /// What can be said before the first message, in the order of etcd's interceptors.
    fn judge<'a>(
        &self,
        request: &'a Request<RecvStream>,
        method: Option<usize>,
    ) -> Result<(usize, Role, CallHeaders<'a>), Status> {
        if request.method() != http::Method::POST {
            let text = format!("http2Server.operateHeaders: {} is not POST", request.method());
            return Err(Status::new(Code::Internal, text));
        }
        let headers = read_headers(request.headers())?;
        let path = request.uri().path();
        let Some(method) = method else {
            return Err(methods::unimplemented(path));
        };
        let is_stream = METHODS[method].flow != Flow::Unary;
        self.ctx.meters.clients.count(headers.version, is_stream);
        let role = match METHODS[method].serve {
            Serve::Unary(_) => Role::Unary,
            Serve::Machine(start) => Role::Machine(start()),
            Serve::Absent => return Err(methods::unimplemented(path)),
        };
        if self.ctx.is_stopping() {
            return Err(Reject::Stopped.into());
        }
        if headers.requires_leader && !self.ctx.port.shared().has_leader() {
            return Err(Reject::NoLeader.into());
        }
        Ok((method, role, headers))
    }

    fn accept_plain(&mut self, request: Request<RecvStream>, send: SendResponse<Bytes>) {
        let (parts, recv) = request.into_parts();
        let kind = Kind::Http(Plain::Reading(Box::new(parts), BytesMut::new()));
        let mut stream = Stream::new(kind, recv, send);
        stream.started = self.now;
        let slot = self.slots.insert(&self.wakes, stream);
        self.read(slot);
        self.watch_reset(slot);
    }

    /// Reads a stream as far as it has come and its machine wants.
    pub(super) fn read(&mut self, index: usize) {
        let bytes_max = self.ctx.settings.message_bytes_max();
        loop {
            let Some(slot) = self.slots.slot(index) else {
                return;
            };
            let may_read = slot.may_read();
            let Some(stream) = slot.stream.as_mut().filter(|stream| stream.recv.is_some()) else {
                return;
            };
            stream.is_paused = !may_read;
            if !may_read {
                return;
            }
            if matches!(stream.kind, Kind::Grpc(..)) {
                match stream.decoder.next(bytes_max) {
                    Ok(Some(message)) => {
                        self.message(index, message);
                        continue;
                    }
                    Ok(None) => {}
                    Err(status) => return self.end(index, status),
                }
            }
            let Some(recv) = stream.recv.as_mut() else {
                return;
            };
            match recv.poll_data(&mut Context::from_waker(&slot.waker)) {
                Poll::Pending => return,
                Poll::Ready(None) => return self.client_ended(index),
                Poll::Ready(Some(Err(_))) => return self.cancel(index),
                Poll::Ready(Some(Ok(data))) => {
                    // An error here says that the stream is gone; the next poll says it too.
                    let _ = recv.flow_control().release_capacity(data.len());
                    if let Err(status) = self.take_data(index, data) {
                        return self.end(index, status);
                    }
                }
            }
        }
    }

    fn take_data(&mut self, index: usize, data: Bytes) -> Result<(), Status> {
        let bytes_max = self.ctx.settings.message_bytes_max();
        let Some(stream) = self.slots.stream(index) else {
            return Ok(());
        };
        let held = match &mut stream.kind {
            Kind::Http(Plain::Reading(_, body)) => {
                body.extend_from_slice(&data);
                body.len()
            }
            _ => {
                self.ctx.meters.received_bytes.add(data.len() as u64);
                let held = stream.decoder.held() + data.len();
                stream.decoder.push(data);
                held
            }
        };
        let is_plain = matches!(stream.kind, Kind::Http(_));
        if is_plain && held > bytes_max {
            return Err(Status::message_too_large(held, bytes_max));
        }
        if !self.ctx.hold_request_bytes(&mut stream.request_bytes, held) {
            let text = "too many bytes of requests are on their way to this member";
            return Err(Status::fixed(Code::ResourceExhausted, text));
        }
        Ok(())
    }

    /// A whole message of the client.
    fn message(&mut self, index: usize, message: Bytes) {
        let Some(stream) = self.slots.stream(index) else {
            return;
        };
        let Kind::Grpc(method, role) = &mut stream.kind else {
            return;
        };
        let method = *method;
        self.ctx.meters.methods[method].received.one();
        if METHODS[method].flow != Flow::BidiStream {
            // What else the client may send is not looked at.
            stream.recv = None;
            self.ctx.hold_request_bytes(&mut stream.request_bytes, 0);
        }
        if let Role::Unary = role {
            let Serve::Unary(decode) = METHODS[method].serve else {
                unreachable!("a unary role comes from a unary method");
            };
            match decode(message, &self.ctx.settings) {
                Ok(request) => self.submit(Some(index), Sub(0), request),
                Err(status) => self.end(index, status),
            }
        } else {
            self.run(index, |machine, out| machine.on_message(message, out));
        }
    }

    /// The client sends no more on this stream.
    fn client_ended(&mut self, index: usize) {
        let Some(stream) = self.slots.stream(index) else {
            return;
        };
        stream.recv = None;
        self.ctx.hold_request_bytes(&mut stream.request_bytes, 0);
        if !stream.decoder.is_between_messages() {
            return self.end(index, Status::fixed(Code::Internal, "unexpected EOF"));
        }
        match &mut stream.kind {
            Kind::Http(state) => {
                let Plain::Reading(parts, body) = std::mem::replace(state, Plain::Ended) else {
                    return;
                };
                let request = Request::from_parts(*parts, body.freeze());
                match &self.ctx.http {
                    Some(handler) => {
                        let step = handler.begin(request);
                        self.plain_step(index, step);
                    }
                    None => {
                        let response = plain(StatusCode::NOT_FOUND, "404 page not found\n");
                        self.plain_response(index, response);
                    }
                }
            }
            Kind::Grpc(method, _) if METHODS[*method].flow != Flow::BidiStream => {
                let text = "the call ended without a request message";
                self.end(index, Status::fixed(Code::Internal, text));
            }
            Kind::Grpc(..) => self.run(index, |machine, out| machine.on_end(out)),
        }
    }

    /// Asks to be told when the client resets the stream.
    pub(super) fn watch_reset(&mut self, index: usize) {
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        let Some(stream) = slot.stream.as_mut() else {
            return;
        };
        let mut cx = Context::from_waker(&slot.waker);
        let reset = match &mut stream.send {
            Sending::Fresh(send) => send.poll_reset(&mut cx),
            Sending::Open(send) => send.poll_reset(&mut cx),
            Sending::Closed => Poll::Pending,
        };
        if reset.is_ready() {
            self.cancel(index);
        }
    }
}

/// Answers a call that is not even begun.
pub(super) fn refuse(mut send: SendResponse<Bytes>, status: &Status) {
    // An error says that the stream is gone: then nobody waits for the answer.
    let _ = send.send_response(trailers_only(status), true);
}

/// A response that consists of its status.
pub(super) fn trailers_only(status: &Status) -> Response<()> {
    let mut response = grpc_response();
    let headers = response.headers_mut();
    headers.insert("grpc-status", status.code_value());
    headers.insert("grpc-message", status.header_value());
    if status.code == Code::Unimplemented {
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    }
    response
}

/// The headers before messages.
pub(super) fn grpc_response() -> Response<()> {
    let mut response = Response::new(());
    let value = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &[u8])| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_bytes(value).expect("a header value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn content_types_are_told_apart() {
        // (value, gRPC at all, fine)
        let cases: [(&[u8], bool, bool); 7] = [
            (b"application/grpc", true, true),
            (b"application/grpc+proto", true, true),
            (b"application/grpc;charset=utf-8", true, true),
            (b"application/grpc+json", true, false),
            (b"application/grpc-web", true, false),
            (b"application/json", false, false),
            (b"", false, false),
        ];
        for (value, grpc, fine) in cases {
            assert_eq!(check_content_type(value).is_ok(), fine);
            let map = HeaderMap::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_bytes(value).expect("a header value"),
            )]);
            assert_eq!(is_grpc(&map), grpc);
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn metadata_is_read_and_refused() {
        let fine = headers(&[
            ("content-type", b"application/grpc"),
            ("hasleader", b"true"),
            ("grpc-timeout", b"15S"),
            ("grpc-encoding", b"identity"),
            ("client-api-version", b"3.7"),
            ("token", b"abc"),
        ]);
        let timeout_ns = Some(15_000_000_000);
        let expected = CallHeaders { requires_leader: true, timeout_ns, version: Some("3.7") };
        assert_eq!(read_headers(&fine), Ok(expected));
        let bad: [(&'static str, &'static [u8], Code); 3] = [
            ("grpc-encoding", b"gzip", Code::Unimplemented),
            ("grpc-timeout", b"soon", Code::Internal),
            ("client-api-version", b"\xff\xfe", Code::InvalidArgument),
        ];
        for (name, value, code) in bad {
            let status = read_headers(&headers(&[(name, value)])).expect_err("refused");
            assert_eq!(status.code, code, "{name}");
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (b"1n", Some(1)),
            (b"7u", Some(7_000)),
            (b"500m", Some(500_000_000)),
            (b"99999999H", Some(u64::MAX)),
            (b"100000000S", None),
            (b"S", None),
            (b"-1S", None),
            (b"", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_timeout(value).ok(), expected, "{value:?}");
        }
    }
}
