//! The streams and calls of one connection, as data.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use smallvec::SmallVec;

use super::frame::Decoder;
use super::http_call::HttpContinuation;
use super::machine::{Machine, Sub};
use super::message::Message;
use super::methods::{Flow, METHODS};
use super::status::Status;
use super::wakes::{SlotWake, Wakes};
use crate::base::Tick;
use crate::base::limits::STREAM_QUEUE_MESSAGES_MAX;

/// One HTTP/2 stream.
pub(super) struct Stream {
    pub(super) kind: Kind,
    /// The client's half, while it is read.
    pub(super) recv: Option<RecvStream>,
    pub(super) decoder: Decoder,
    /// Bytes of it that the core's account holds.
    pub(super) request_bytes: usize,
    pub(super) send: Sending,
    /// How it ends, once its queue is empty.
    pub(super) ending: Option<Ending>,
    pub(super) listed: Listed,
    /// Not read because the machine or the queue is full.
    pub(super) is_paused: bool,
    /// Requests under way, by the machine's name and the connection's number.
    pub(super) subs: SmallVec<[(Sub, u32); 1]>,
    pub(super) started: Tick,
    /// The client's own deadline.
    pub(super) deadline: Tick,
    pub(super) requires_leader: bool,
}

/// What a stream is.
pub(super) enum Kind {
    /// A gRPC call, by number of its method.
    Grpc(usize, Role),
    /// A plain HTTP request.
    Http(Plain),
}

/// How a gRPC call is served.
pub(super) enum Role {
    Unary,
    Machine(Box<dyn Machine>),
    /// All that is left is to write.
    Ended,
}

/// A plain HTTP request.
pub(super) enum Plain {
    /// Its body is still coming.
    Reading(Box<http::request::Parts>, BytesMut),
    /// The node is asked.
    Waiting(Box<dyn HttpContinuation>),
    /// All that is left is to write.
    Ended,
}

/// The server's half.
pub(super) enum Sending {
    /// Nothing was sent.
    Fresh(SendResponse<Bytes>),
    /// Headers were sent.
    Open(SendStream<Bytes>),
    /// Closed.
    Closed,
}

/// How a stream ends.
#[derive(Debug)]
pub(super) enum Ending {
    Grpc(Status),
    Http(Box<http::Response<()>>),
}

/// Where a stream with something to write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    Small,
    Bulk,
    /// The client's window is used up; the slot's waker says when it is not.
    Window,
}

/// A message to write, and what its leaving drains.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) drains: Option<(Sub, usize)>,
}

impl Stream {
    pub(super) fn new(kind: Kind, recv: RecvStream, send: SendResponse<Bytes>) -> Stream {
        Stream {
            kind,
            recv: Some(recv),
            decoder: Decoder::default(),
            request_bytes: 0,
            send: Sending::Fresh(send),
            ending: None,
            listed: Listed::No,
            is_paused: false,
            subs: SmallVec::new(),
            started: Tick(0),
            deadline: Tick(u64::MAX),
            requires_leader: false,
        }
    }

    /// Whether the client may send several messages.
    pub(super) fn is_bidi(&self) -> bool {
        matches!(self.kind, Kind::Grpc(method, _) if METHODS[method].flow == Flow::BidiStream)
    }
}

/// A place for a stream, reused.
pub(super) struct Slot {
    pub(super) stream: Option<Stream>,
    pub(super) queue: VecDeque<Queued>,
    pub(super) wake: Arc<SlotWake>,
    pub(super) waker: Waker,
}

impl Slot {
    /// Whether the stream takes another message of the client.
    pub(super) fn may_read(&self) -> bool {
        let wants = match self.stream.as_ref().map(|stream| &stream.kind) {
            Some(Kind::Grpc(_, Role::Machine(machine))) => machine.wants_message(),
            Some(Kind::Grpc(_, Role::Unary) | Kind::Http(Plain::Reading(..))) => true,
            _ => false,
        };
        wants && self.queue.len() < STREAM_QUEUE_MESSAGES_MAX
    }
}

/// All streams of a connection.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
    open: usize,
}

impl Slots {
    pub(super) fn insert(&mut self, wakes: &Arc<Wakes>, stream: Stream) -> usize {
        self.open += 1;
        if let Some(index) = self.free.pop() {
            self.slots[index].stream = Some(stream);
            return index;
        }
        let index = self.slots.len();
        let wake = SlotWake::new(wakes, index);
        let waker = Waker::from(Arc::clone(&wake));
        self.slots.push(Slot { stream: Some(stream), queue: VecDeque::new(), wake, waker });
        index
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Stream> {
        let slot = self.slots.get_mut(index)?;
        let stream = slot.stream.take()?;
        slot.queue.clear();
        self.free.push(index);
        self.open -= 1;
        Some(stream)
    }

    pub(super) fn slot(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index)
    }

    pub(super) fn stream(&mut self, index: usize) -> Option<&mut Stream> {
        self.slots.get_mut(index).and_then(|slot| slot.stream.as_mut())
    }

    /// The open ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Stream)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((index, slot.stream.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }
}

/// One request at the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The stream that waits for it; none if nobody does any more.
    pub(super) slot: Option<usize>,
    pub(super) sub: Sub,
    /// It counts among the admitted writes.
    pub(super) is_admitted: bool,
    pub(super) deadline: Tick,
}

/// Numbers are given out in sequence, so a multiplication spreads them well enough.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// All requests of a connection at the node.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: HashMap<u32, Call, BuildHasherDefault<NumberHasher>>,
    next: u32,
}

impl Calls {
    pub(super) fn starting_at(next: u32) -> Calls {
        Calls { calls: HashMap::default(), next }
    }

    /// A number that no call under way has.
    pub(super) fn insert(&mut self, call: Call) -> u32 {
        while self.calls.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.calls.insert(number, call);
        number
    }

    pub(super) fn next_number(&self) -> u32 {
        self.next
    }

    pub(super) fn find(&self, number: u32) -> Option<Call> {
        self.calls.get(&number).copied()
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Call> {
        self.calls.remove(&number)
    }

    /// Nobody waits for it any more. It stays if it counts as admitted, until it is answered.
    pub(super) fn detach(&mut self, number: u32) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.slot = None;
            if !call.is_admitted {
                self.calls.remove(&number);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Call)> {
        self.calls.iter().map(|(number, call)| (*number, *call))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
