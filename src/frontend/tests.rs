//! Whole connections: the h2 crate's client on one end of an in-memory pipe, `serve` on the
//! other, and a node that answers as a test tells it.

mod abuse;
mod http1;
mod streaming;
mod unary;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request as HttpRequest};

use super::meters::Meters;
use super::port::{Delivery, FrontendContext, Port, Settings, Sleep};
use super::serve;
use crate::base::record::{PutFields, Record};
use crate::base::shared::Shared;
use crate::base::{LeaseId, Revision, Sub, Term, Tick};
use crate::wire::call::{Answer, CallId, PutAnswer, RangeAnswer, Reply, Request};

/// What a fake node does with a request: an answer, or none for now.
type Policy = Box<dyn Fn(&Request) -> Option<Reply>>;

/// A node that writes down what it is asked.
struct FakePort {
    ctx: RefCell<Weak<FrontendContext>>,
    policy: RefCell<Policy>,
    answers: RefCell<VecDeque<Delivery>>,
    step: tokio::sync::Notify,
    submitted: RefCell<Vec<(CallId, Request)>>,
    gone: RefCell<Vec<CallId>>,
    drained: RefCell<Vec<(CallId, usize)>>,
    now: Cell<Tick>,
    sleepers: RefCell<Vec<(Tick, Waker)>>,
    shared: Shared,
}

impl Port for Rc<FakePort> {
    fn submit(&self, call: CallId, request: Request) {
        if let Some(reply) = (self.policy.borrow())(&request) {
            self.answers.borrow_mut().push_back(Delivery::Reply(call, reply));
            self.step.notify_one();
        }
        self.submitted.borrow_mut().push((call, request));
    }

    fn gone(&self, call: CallId) {
        self.gone.borrow_mut().push(call);
    }

    fn drained(&self, call: CallId, bytes: usize) {
        self.drained.borrow_mut().push((call, bytes));
    }

    fn now(&self) -> Tick {
        self.now.get()
    }

    fn sleep_until(&self, at: Tick) -> Sleep {
        let port = Rc::clone(self);
        Box::pin(poll_fn(move |cx| {
            if port.now.get() >= at {
                return Poll::Ready(());
            }
            port.sleepers.borrow_mut().push((at, cx.waker().clone()));
            Poll::Pending
        }))
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// A frontend with its node.
struct Rig {
    port: Rc<FakePort>,
    ctx: Rc<FrontendContext>,
    next_slot: Cell<u32>,
}

impl Rig {
    fn new(policy: impl Fn(&Request) -> Option<Reply> + 'static) -> Rig {
        Rig::with(Settings { cluster_id: 1, member_id: 2, ..Settings::default() }, policy)
    }

    fn with(settings: Settings, policy: impl Fn(&Request) -> Option<Reply> + 'static) -> Rig {
        Rig::with_http(settings, policy, None)
    }

    fn with_http(
        settings: Settings,
        policy: impl Fn(&Request) -> Option<Reply> + 'static,
        http: Option<Rc<dyn super::http_call::HttpHandler>>,
    ) -> Rig {
        let shared = Shared::new(1, 1);
        shared.set_term(Term(3), true);
        let port = Rc::new(FakePort {
            ctx: RefCell::new(Weak::new()),
            policy: RefCell::new(Box::new(policy)),
            answers: RefCell::default(),
            step: tokio::sync::Notify::new(),
            submitted: RefCell::default(),
            gone: RefCell::default(),
            drained: RefCell::default(),
            now: Cell::new(Tick(1)),
            sleepers: RefCell::default(),
            shared,
        });
        let meters = Arc::new(Meters::default());
        let mut ctx = FrontendContext::new(Rc::new(Rc::clone(&port)), settings, meters);
        ctx.http = http;
        let ctx = Rc::new(ctx);
        *port.ctx.borrow_mut() = Rc::downgrade(&ctx);
        let node = Rc::clone(&port);
        tokio::task::spawn_local(async move {
            loop {
                node.step.notified().await;
                let Some(ctx) = node.ctx.borrow().upgrade() else {
                    return;
                };
                let answers = std::mem::take(&mut *node.answers.borrow_mut());
                answers.into_iter().for_each(|delivery| ctx.deliver(delivery));
                ctx.ring();
            }
        });
        Rig { port, ctx, next_slot: Cell::new(0) }
    }

    /// A pipe to the frontend; the task that serves it.
    fn connect_raw(&self) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(32 << 10);
        let slot = self.next_slot.replace(self.next_slot.get() + 1);
        let task = tokio::task::spawn_local(serve(far, Rc::clone(&self.ctx), slot));
        (near, task)
    }

    /// A client of the frontend.
    async fn connect(&self) -> Client {
        self.connect_with(&client::Builder::new()).await
    }

    async fn connect_with(&self, builder: &client::Builder) -> Client {
        let (pipe, server) = self.connect_raw();
        let (send, connection) = builder.handshake(pipe).await.expect("a handshake");
        let driver = tokio::task::spawn_local(async move {
            // How it ended is what the tests look at on their streams.
            let _ = connection.await;
        });
        Client { send, driver, server }
    }

    /// The node says something now.
    fn deliver(&self, delivery: Delivery) {
        self.ctx.deliver(delivery);
        self.ctx.ring();
    }

    fn advance(&self, ms: u64) {
        self.port.now.set(self.port.now.get().plus_ms(ms));
        let now = self.port.now.get();
        let sleepers = std::mem::take(&mut *self.port.sleepers.borrow_mut());
        let (due, later): (Vec<_>, Vec<_>) = sleepers.into_iter().partition(|(at, _)| *at <= now);
        self.port.sleepers.borrow_mut().extend(later);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn calls(&self) -> Vec<CallId> {
        self.port.submitted.borrow().iter().map(|(call, _)| *call).collect()
    }

    /// What is left when nobody is there any more: nothing.
    fn assert_settled(&self) {
        assert_eq!(self.port.shared.admitted(), 0, "every admitted write is released");
        assert_eq!(self.ctx.connections(), 0);
        assert_eq!(self.ctx.unsent_bytes().get(), 0);
        let mut nothing = 0;
        assert!(self.ctx.hold_request_bytes(&mut nothing, 0));
    }
}

/// One client.
struct Client {
    send: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
    server: tokio::task::JoinHandle<()>,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: u32,
    text: String,
}

fn ended(code: u32, text: &str) -> Ended {
    Ended { code, text: text.to_owned() }
}

fn status_of(headers: &HeaderMap) -> Option<Ended> {
    let code = headers.get("grpc-status")?.to_str().unwrap().parse().unwrap();
    let text = headers.get("grpc-message").map_or("", |value| value.to_str().unwrap());
    Some(ended(code, text))
}

fn framed(message: &impl prost::Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(body.len()).unwrap());
    out.put_slice(&body);
    out.freeze()
}

fn grpc_request(path: &str) -> http::request::Builder {
    HttpRequest::builder()
        .method("POST")
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

impl Client {
    fn open(&mut self, request: HttpRequest<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.send.send_request(request, false).expect("a stream")
    }

    fn start(&mut self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.open(grpc_request(path).body(()).unwrap())
    }

    /// A unary call: its messages and how it ended.
    async fn call<M: prost::Message + Default>(
        &mut self,
        path: &str,
        message: &impl prost::Message,
    ) -> (Vec<M>, Ended) {
        let (response, mut send) = self.start(path);
        send.send_data(framed(message), true).expect("sent");
        answer(response).await
    }

    /// Hangs up and waits until the server is done. Streams may still be held.
    async fn close(self) {
        drop(self.send);
        settle().await;
        self.driver.abort();
        self.server.await.expect("the server ends without a panic");
    }
}

/// Everything a call is answered with.
async fn answer<M: prost::Message + Default>(response: ResponseFuture) -> (Vec<M>, Ended) {
    let response = response.await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    if let Some(ended) = status_of(response.headers()) {
        return (Vec::new(), ended);
    }
    let mut body = Messages::new(response.into_body());
    let mut messages = Vec::new();
    while let Some(message) = body.next().await {
        messages.push(message);
    }
    (messages, body.end().await)
}

/// Messages of a response.
struct Messages {
    recv: RecvStream,
    decoder: super::frame::Decoder,
}

impl Messages {
    fn new(recv: RecvStream) -> Messages {
        Messages { recv, decoder: Default::default() }
    }

    async fn next<M: prost::Message + Default>(&mut self) -> Option<M> {
        loop {
            let next = self.decoder.next(usize::MAX).expect("well-formed");
            if let Some(message) = next {
                return Some(M::decode(message).expect("a message"));
            }
            let data = self.recv.data().await?.expect("data");
            let _ = self.recv.flow_control().release_capacity(data.len());
            self.decoder.push(data);
        }
    }

    async fn end(mut self) -> Ended {
        let trailers = self.recv.trailers().await.expect("trailers").expect("trailers");
        status_of(&trailers).expect("a status")
    }
}

/// Runs a test on one thread, as a core does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Lets everyone else run until there is nothing more to do.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn record(key: &str, value: usize) -> Arc<Record> {
    Arc::new(Record::put(PutFields {
        key: key.as_bytes(),
        value: &vec![b'v'; value],
        revision: Revision(7),
        sub: Sub(0),
        create: Revision(7),
        version: 1,
        lease: LeaseId(0),
    }))
}

/// Puts succeed at revision 8; a Range finds as many records as its limit says, of 1,000 bytes.
fn plain_node(request: &Request) -> Option<Reply> {
    match request {
        Request::Put(_) => {
            Some(Ok(Answer::Put(PutAnswer { revision: Revision(8), previous: None })))
        }
        Request::Range(range) => {
            let keys = range.limit.unsigned_abs();
            let records = (0..keys).map(|index| record(&format!("k{index:05}"), 1_000)).collect();
            let revision = Revision(8);
            Some(Ok(Answer::Range(RangeAnswer {
                revision,
                records,
                count: keys,
                ..RangeAnswer::default()
            })))
        }
        _ => None,
    }
}

fn silent_node(_: &Request) -> Option<Reply> {
    None
}
