//! The task of one HTTP/1 connection: one request after the other, each within its bounds of
//! bytes and time. Requests that a client sends ahead wait in the bytes that were read.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::header;
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::http_call::{HttpHandler, HttpStep};
use super::super::port::{Delivery, FrontendContext, Inbox};
use super::super::wakes::Wakes;
use super::head;
use super::reply::{Origin, Reply as Answered};
use crate::base::Tick;
use crate::base::limits::{
    HTTP1_HEAD_TIMEOUT_MS, HTTP1_IDLE_TIMEOUT_MS, HTTP1_READ_BYTES, HTTP1_WRITE_TIMEOUT_MS,
};
use crate::base::reject::Reject;
use crate::wire::call::{CallId, Reply};

/// Serves one HTTP/1 connection until it ends. `connection` is a free slot of this core.
pub async fn serve<P>(
    pipe: P,
    ctx: Rc<FrontendContext>,
    connection: u32,
    handler: Rc<dyn HttpHandler>,
) where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let lane = Lane::open(ctx, connection);
    let mut conn = Conn { pipe, input: BytesMut::new(), lane };
    while conn.turn(&*handler).await {}
    let end = conn.lane.ctx.port.now().plus_ms(HTTP1_WRITE_TIMEOUT_MS);
    // Whoever hung up already is not told that we do.
    let _ = conn.lane.until(end, |cx| Pin::new(&mut conn.pipe).poll_shutdown(cx)).await;
}

/// The connection's way to the node.
struct Lane {
    ctx: Rc<FrontendContext>,
    connection: u32,
    next_call: u32,
    /// The call under way.
    call: Option<CallId>,
    inbox: Rc<Inbox>,
    wakes: Arc<Wakes>,
}

impl Lane {
    fn open(ctx: Rc<FrontendContext>, connection: u32) -> Lane {
        let wakes = Arc::new(Wakes::default());
        let inbox = Rc::new(Inbox::new(Arc::clone(&wakes)));
        let next_call = ctx.open(connection, Rc::clone(&inbox));
        ctx.meters.connections_opened.one();
        Lane { ctx, connection, next_call, call: None, inbox, wakes }
    }

    /// Polls something until it is ready or `end` has come. Mail and the member's stop wake the
    /// task too.
    async fn until<T>(
        &self,
        end: Tick,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let mut sleep = self.ctx.port.sleep_until(end);
        poll_fn(|cx| {
            self.wakes.begin(cx.waker());
            self.wakes.take_connection();
            let outcome = match poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
            };
            self.wakes.end();
            outcome
        })
        .await
    }

    /// Asks the node.
    async fn ask(&mut self, request: crate::wire::call::Request) -> Reply {
        let call = CallId { connection: self.connection, call: self.next_call };
        self.next_call = self.next_call.wrapping_add(1);
        self.call = Some(call);
        self.ctx.port.submit(call, request);
        let end = self.ctx.port.now().plus_ms(self.ctx.settings.request_timeout_ms);
        let inbox = Rc::clone(&self.inbox);
        let answered = self.until(end, |_| {
            while let Some(delivery) = inbox.pop() {
                if let Delivery::Reply(id, reply) = delivery
                    && id == call
                {
                    return Poll::Ready(reply);
                }
            }
            Poll::Pending
        });
        match answered.await {
            Some(reply) => {
                self.call = None;
                reply
            }
            None => {
                self.give_up();
                Err(Reject::Timeout)
            }
        }
    }

    fn give_up(&mut self) {
        if let Some(call) = self.call.take() {
            self.ctx.port.gone(call);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.give_up();
        self.ctx.meters.connections_closed.one();
        self.ctx.close(self.connection, self.next_call);
    }
}

/// What came instead of a request.
enum NoRequest {
    /// Nothing: the client is gone or silent, or the member stops.
    Over,
    /// Something that is answered with this and then hung up on.
    Refused(StatusCode),
}

struct Conn<P> {
    pipe: P,
    input: BytesMut,
    lane: Lane,
}

impl<P: AsyncRead + AsyncWrite + Unpin> Conn<P> {
    /// One request and its answer. False when the connection is over.
    async fn turn(&mut self, handler: &dyn HttpHandler) -> bool {
        let (request, keeps_alive, is_http10) = match self.request().await {
            Ok(read) => read,
            Err(NoRequest::Over) => return false,
            Err(NoRequest::Refused(status)) => {
                let reason = status.canonical_reason().unwrap_or_default();
                let text = format!("{} {reason}", status.as_u16());
                let response = Answered::error(status, &text).with_origin(&Origin::Unsaid);
                self.write(&response, "close").await;
                return false;
            }
        };
        let mut step = handler.begin(request);
        let response = loop {
            match step {
                HttpStep::Done(response) => break response,
                HttpStep::Ask(request, next) => {
                    let reply = self.lane.ask(request).await;
                    step = next.resume(reply);
                }
            }
        };
        let goes_on = keeps_alive && !self.lane.ctx.is_stopping();
        let connection = match (goes_on, is_http10) {
            (false, _) => "close",
            (true, true) => "keep-alive",
            (true, false) => "",
        };
        self.write(&response, connection).await && goes_on
    }

    /// Reads a request with its body.
    async fn request(&mut self) -> Result<(Request<Bytes>, bool, bool), NoRequest> {
        let now = self.lane.ctx.port.now();
        let mut end = now.plus_ms(HTTP1_HEAD_TIMEOUT_MS);
        if self.input.is_empty() {
            self.read_more(now.plus_ms(HTTP1_IDLE_TIMEOUT_MS), true).await?;
            end = self.lane.ctx.port.now().plus_ms(HTTP1_HEAD_TIMEOUT_MS);
        }
        let head = loop {
            match head::parse(&self.input).map_err(NoRequest::Refused)? {
                Some(head) => break head,
                None => self.read_more(end, false).await?,
            }
        };
        while self.input.len() < head.bytes + head.body_bytes {
            self.read_more(end, false).await?;
        }
        self.input.advance(head.bytes);
        let mut request = head.request;
        *request.body_mut() = self.input.split_to(head.body_bytes).freeze();
        Ok((request, head.keeps_alive, head.is_http10))
    }

    /// Reads some bytes. Between requests the member's stop ends the wait.
    async fn read_more(&mut self, end: Tick, is_idle: bool) -> Result<(), NoRequest> {
        let Conn { pipe, input, lane } = self;
        let read = lane.until(end, |cx| {
            if is_idle && lane.ctx.is_stopping() {
                return Poll::Ready(false);
            }
            let mut bytes = [0; HTTP1_READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            Pin::new(&mut *pipe).poll_read(cx, &mut buffer).map(|read| {
                input.extend_from_slice(buffer.filled());
                read.is_ok() && !buffer.filled().is_empty()
            })
        });
        match read.await {
            Some(true) => Ok(()),
            Some(false) => Err(NoRequest::Over),
            None if is_idle => Err(NoRequest::Over),
            None => Err(NoRequest::Refused(StatusCode::REQUEST_TIMEOUT)),
        }
    }

    /// Writes a response. False when the client is gone or does not read.
    async fn write(&mut self, response: &Response<Bytes>, connection: &str) -> bool {
        let head = head_text(response, connection);
        let mut output = Buf::chain(&head[..], &response.body()[..]);
        let Conn { pipe, lane, .. } = self;
        let end = lane.ctx.port.now().plus_ms(HTTP1_WRITE_TIMEOUT_MS);
        let written = lane.until(end, |cx| {
            while output.has_remaining() {
                match Pin::new(&mut *pipe).poll_write(cx, output.chunk()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(bytes)) => output.advance(bytes),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Pin::new(&mut *pipe).poll_flush(cx).map(|flushed| flushed.is_ok())
        });
        written.await == Some(true)
    }
}

/// The head of a response.
fn head_text(response: &Response<Bytes>, connection: &str) -> BytesMut {
    let status = response.status();
    let mut head = BytesMut::with_capacity(512);
    let reason = status.canonical_reason().unwrap_or_default();
    head.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    for (name, value) in response.headers() {
        field(name.as_str(), value.as_bytes());
    }
    if !response.headers().contains_key(header::CONTENT_LENGTH) {
        field("content-length", response.body().len().to_string().as_bytes());
    }
    if !connection.is_empty() {
        field("connection", connection.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}
