//! What one small unary call costs the server: a put of 256 bytes from its h2 frames to a
//! request, and from the answer to h2 frames, over an in-memory pipe.
//!
//! The client writes its frames by hand, so that its share is a copy. Prints microseconds of one
//! core per call, by how many calls arrive together, and how many answers left with one write.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use ringbolt::base::shared::Shared;
use ringbolt::base::{Revision, Term, Tick};
use ringbolt::frontend::meters::Meters;
use ringbolt::frontend::port::{Delivery, FrontendContext, Port, Settings, Sleep};
use ringbolt::wire::call::{Answer, CallId, PutAnswer, Request};
use ringbolt::wire::etcdserverpb as pb;

const CALLS: usize = 400_000;

/// Takes puts and gives them back on request.
struct Node {
    calls: RefCell<Vec<CallId>>,
    shared: Shared,
    now: Cell<Tick>,
}

struct NodePort(Rc<Node>);

impl Port for NodePort {
    fn submit(&self, call: CallId, request: Request) {
        std::hint::black_box(request);
        self.0.calls.borrow_mut().push(call);
    }

    fn gone(&self, _call: CallId) {}

    fn drained(&self, _call: CallId, _bytes: usize) {}

    fn now(&self) -> Tick {
        self.0.now.get()
    }

    fn sleep_until(&self, _at: Tick) -> Sleep {
        Box::pin(std::future::pending())
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

/// Both directions in memory.
#[derive(Default)]
struct Wire {
    input: RefCell<BytesMut>,
    output_bytes: Cell<usize>,
    writes: Cell<usize>,
}

struct WirePipe(Rc<Wire>);

impl AsyncRead for WirePipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut input = self.0.input.borrow_mut();
        if input.is_empty() {
            return Poll::Pending;
        }
        let count = input.len().min(buf.remaining());
        buf.put_slice(&input.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WirePipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.output_bytes.set(self.0.output_bytes.get() + bytes.len());
        self.0.writes.set(self.0.writes.get() + 1);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.put_slice(&[len[1], len[2], len[3], kind, flags]);
    out.put_u32(stream);
    out.put_slice(payload);
}

/// A header block: what grpc-go sends, indexed in the table from the second request on.
fn headers(is_first: bool) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(&[0x83, 0x86]);
    let literals: [(&[u8], &[u8]); 5] = [
        (b":path", b"/etcdserverpb.KV/Put"),
        (b":authority", b"localhost:2379"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-go/1.71.1"),
        (b"te", b"trailers"),
    ];
    for (index, (name, value)) in literals.iter().enumerate() {
        if is_first {
            out.put_u8(0x40);
            out.put_u8(u8::try_from(name.len()).unwrap_or(0));
            out.put_slice(name);
            out.put_u8(u8::try_from(value.len()).unwrap_or(0));
            out.put_slice(value);
        } else {
            // The last one added stands first, at 62.
            out.put_u8(0x80 | (66 - u8::try_from(index).unwrap_or(0)));
        }
    }
    out
}

fn body() -> Bytes {
    let put = pb::PutRequest {
        key: Bytes::from_static(b"/registry/leases/kube-node-lease/node-0001"),
        value: vec![b'x'; 256].into(),
        ..Default::default()
    };
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(put.encoded_len()).unwrap_or(0));
    out.put_slice(&put.encode_to_vec());
    out.freeze()
}

fn window_update(out: &mut BytesMut, bytes: u32) {
    frame(out, 8, 0, 0, &bytes.to_be_bytes());
}

/// Time that this thread has had a core, whatever else the machine does.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn measure(together: usize) -> (f64, f64) {
    let node = Rc::new(Node {
        calls: RefCell::default(),
        shared: Shared::new(1, 1),
        now: Cell::new(Tick(1)),
    });
    node.shared.set_term(Term(2), true);
    let port = Rc::new(NodePort(Rc::clone(&node)));
    let meters = Arc::new(Meters::default());
    let ctx = Rc::new(FrontendContext::new(port, Settings::default(), meters));
    let wire = Rc::new(Wire::default());
    let serve = ringbolt::frontend::serve(WirePipe(Rc::clone(&wire)), Rc::clone(&ctx), 0);
    let mut serve = std::pin::pin!(serve);
    let mut cx = Context::from_waker(Waker::noop());

    let body = body();
    {
        let mut input = wire.input.borrow_mut();
        input.put_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(&mut input, 4, 0, 0, &[]);
        frame(&mut input, 4, 1, 0, &[]);
    }
    // The server widens its window before the first batch comes.
    assert!(serve.as_mut().poll(&mut cx).is_pending(), "the connection goes on");
    let mut stream = 1;
    let mut calls = 0;
    let mut is_first = true;
    let start_ns = cpu_ns();
    while calls < CALLS {
        {
            let mut input = wire.input.borrow_mut();
            for _ in 0..together {
                frame(&mut input, 1, 4, stream, &headers(is_first));
                frame(&mut input, 0, 1, stream, &body);
                is_first = false;
                stream += 2;
            }
            window_update(&mut input, u32::try_from(together * 64).unwrap_or(0));
        }
        assert!(serve.as_mut().poll(&mut cx).is_pending(), "the connection goes on");
        let submitted = std::mem::take(&mut *node.calls.borrow_mut());
        assert_eq!(submitted.len(), together);
        for call in submitted {
            let answer = Answer::Put(PutAnswer { revision: Revision(8), previous: None });
            ctx.deliver(Delivery::Reply(call, Ok(answer)));
        }
        ctx.ring();
        assert!(serve.as_mut().poll(&mut cx).is_pending(), "the connection goes on");
        calls += together;
    }
    let us = (cpu_ns() - start_ns) as f64 / 1e3 / calls as f64;
    assert!(wire.output_bytes.get() > calls * 20, "every call is answered");
    assert_eq!(node.shared.admitted(), 0);
    (us, calls as f64 / wire.writes.get() as f64)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn main() {
    for together in [1, 4, 16, 64, 256] {
        let (us, per_write) = measure(together);
        println!("{together:4} together: {us:6.2} us per call, {per_write:6.1} calls per write");
    }
}
