//! What goes out. Small messages go first, bulk in slices, one stream after the other; nothing
//! is handed to h2 that the client has no window for, and only so much that is not yet written.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;
use smallvec::SmallVec;

use super::connection::Connection;
use super::intake::{grpc_response, trailers_only};
use super::machine::Sub;
use super::status::Status;
use super::streams::{Ending, Kind, Listed, Queued, Sending, Slot, Stream};
use crate::base::limits::{
    BULK_SLICE_BYTES, CONNECTION_UNSENT_BYTES_MAX, CORE_UNSENT_BYTES_MAX, JOINED_BYTES_MAX,
};

/// Bytes of events that left, by the machine's name for the watch.
type Drains = SmallVec<[(Sub, usize); 1]>;

/// What became of one attempt to write.
enum Step {
    /// So many messages have left whole, with what that drains.
    Messages(u64, Drains),
    /// A part of a message has left.
    Slice,
    /// Nothing is left; the stream is closed.
    Closed,
    /// Nothing is left for now.
    Empty,
    /// The client's window is used up.
    Window,
    /// Too much is unwritten; all streams wait.
    Unsent,
    /// The client has reset the stream.
    Reset,
}

impl Connection {
    /// Hands over what may be handed over. True if anything was.
    pub(super) fn write(&mut self) -> bool {
        let mut has_written = false;
        while let Some(index) = self.small.pop_front() {
            match self.write_stream(index) {
                Some(wrote) => has_written |= wrote,
                None => return has_written,
            }
        }
        // One slice of each that is listed now; what is listed meanwhile has its next turn.
        for _ in 0..self.bulk.len() {
            let Some(index) = self.bulk.pop_front() else {
                break;
            };
            match self.write_stream(index) {
                Some(wrote) => has_written |= wrote,
                None => return has_written,
            }
        }
        has_written
    }

    /// Whether something waits that could be handed over.
    pub(super) fn has_output(&self) -> bool {
        !self.small.is_empty() || !self.bulk.is_empty()
    }

    /// Writes small messages of a stream, or one slice. None if all streams have to wait.
    fn write_stream(&mut self, index: usize) -> Option<bool> {
        let mut has_written = false;
        if let Some(stream) = self.slots.stream(index) {
            stream.listed = Listed::No;
        }
        loop {
            match self.step(index) {
                Step::Messages(count, drains) => {
                    has_written = true;
                    self.messages_left(index, count, drains);
                    if self.is_bulk_next(index) {
                        self.list(index);
                        return Some(true);
                    }
                }
                Step::Slice => {
                    self.list(index);
                    return Some(true);
                }
                Step::Closed => {
                    let status = self.take_status(index);
                    self.remove(index, &status);
                    return Some(true);
                }
                Step::Empty => return Some(has_written),
                Step::Window => {
                    if let Some(stream) = self.slots.stream(index) {
                        stream.listed = Listed::Window;
                    }
                    return Some(has_written);
                }
                Step::Unsent => {
                    self.list_first(index);
                    return None;
                }
                Step::Reset => {
                    self.cancel(index);
                    return Some(has_written);
                }
            }
        }
    }

    fn is_bulk_next(&mut self, index: usize) -> bool {
        let next = self.slots.slot(index).and_then(|slot| slot.queue.front());
        next.is_some_and(|queued| !queued.message.is_small())
    }

    fn list_first(&mut self, index: usize) {
        let is_bulk = self.is_bulk_next(index);
        if let Some(stream) = self.slots.stream(index) {
            if is_bulk {
                stream.listed = Listed::Bulk;
                self.bulk.push_front(index);
            } else {
                stream.listed = Listed::Small;
                self.small.push_front(index);
            }
        }
    }

    fn messages_left(&mut self, index: usize, count: u64, drains: Drains) {
        for (sub, bytes) in drains {
            self.drain_watch(index, sub, bytes);
        }
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        if let Some(Stream { kind: Kind::Grpc(method, _), .. }) = &slot.stream {
            self.ctx.meters.methods[*method].sent.add(count);
        }
        if slot.queue.is_empty() {
            self.run(index, |machine, out| machine.on_drained(out));
        } else {
            self.resume_reading(index);
        }
    }

    fn take_status(&mut self, index: usize) -> Status {
        match self.slots.stream(index).and_then(|stream| stream.ending.take()) {
            Some(Ending::Grpc(status)) => status,
            _ => Status::OK,
        }
    }

    /// Bytes that may be handed over now: a connection that has nothing under way may always
    /// have a slice.
    fn allowance(&self) -> usize {
        if self.unsent == 0 {
            return BULK_SLICE_BYTES;
        }
        let own = CONNECTION_UNSENT_BYTES_MAX.saturating_sub(self.unsent);
        let core = CORE_UNSENT_BYTES_MAX.saturating_sub(self.ctx.unsent_bytes().get());
        own.min(core).min(BULK_SLICE_BYTES)
    }

    /// Tries to write the next thing on a stream.
    fn step(&mut self, index: usize) -> Step {
        let allowance = self.allowance();
        let Some(slot) = self.slots.slot(index) else {
            return Step::Empty;
        };
        let Slot { stream: Some(stream), queue, waker, .. } = slot else {
            return Step::Empty;
        };
        if queue.is_empty() {
            return close(stream);
        }
        if allowance == 0 {
            return Step::Unsent;
        }
        let Some(send) = open(stream) else {
            return Step::Reset;
        };
        let wanted = wanted(queue).min(allowance);
        let granted = match grant(send, wanted, &mut Context::from_waker(waker)) {
            Poll::Ready(Some(granted)) => granted.min(wanted),
            Poll::Ready(None) => return Step::Reset,
            Poll::Pending => return Step::Window,
        };
        let mut drains = Drains::new();
        let (bytes, count) = take(queue, granted, &mut drains);
        if send.send_data(bytes, false).is_err() {
            return Step::Reset;
        }
        let step = if count > 0 { Step::Messages(count, drains) } else { Step::Slice };
        self.ctx.meters.sent_bytes.add(granted as u64);
        self.set_unsent(self.unsent + granted);
        step
    }
}

/// What the next DATA frame should hold: one message, or the small ones that wait together.
fn wanted(queue: &VecDeque<Queued>) -> usize {
    let mut bytes = 0;
    for Queued { message, .. } in queue {
        let more = bytes + message.remaining();
        if bytes > 0 && (!message.is_small() || more > JOINED_BYTES_MAX) {
            break;
        }
        bytes = more;
    }
    bytes
}

/// The first `granted` bytes of what waits, and how many messages end within them.
fn take(queue: &mut VecDeque<Queued>, granted: usize, drains: &mut Drains) -> (Bytes, u64) {
    let mut joined = BytesMut::new();
    let mut count = 0;
    loop {
        let Some(queued) = queue.front_mut() else {
            return (joined.freeze(), count);
        };
        let bytes = queued.message.take(granted - joined.len());
        if queued.message.remaining() == 0 {
            count += 1;
            if let Some((sub, bytes)) = queued.drains.filter(|(_, bytes)| *bytes > 0) {
                match drains.iter_mut().find(|(known, _)| *known == sub) {
                    Some((_, sum)) => *sum += bytes,
                    None => drains.push((sub, bytes)),
                }
            }
            queue.pop_front();
        }
        if bytes.len() == granted {
            return (bytes, count);
        }
        joined.reserve(granted);
        joined.extend_from_slice(&bytes);
        if joined.len() == granted {
            return (joined.freeze(), count);
        }
    }
}

/// The stream with its headers sent.
fn open(stream: &mut Stream) -> Option<&mut SendStream<Bytes>> {
    if let Sending::Fresh(send) = &mut stream.send {
        let response = match &mut stream.ending {
            Some(Ending::Http(response)) => std::mem::take(&mut **response),
            _ => grpc_response(),
        };
        stream.send = Sending::Open(send.send_response(response, false).ok()?);
    }
    match &mut stream.send {
        Sending::Open(send) => Some(send),
        Sending::Fresh(_) | Sending::Closed => None,
    }
}

/// Sends what ends the stream, if it is to end.
fn close(stream: &mut Stream) -> Step {
    let Some(ending) = &mut stream.ending else {
        return Step::Empty;
    };
    // An error says that the client has gone: the same end for us.
    match (&mut stream.send, ending) {
        (Sending::Fresh(send), Ending::Grpc(status)) => {
            let _ = send.send_response(trailers_only(status), true);
        }
        (Sending::Fresh(send), Ending::Http(response)) => {
            let _ = send.send_response(std::mem::take(&mut **response), true);
        }
        (Sending::Open(send), Ending::Grpc(status)) => {
            let mut trailers = HeaderMap::with_capacity(2);
            trailers.insert("grpc-status", status.code_value());
            if !status.message.is_empty() {
                trailers.insert("grpc-message", status.header_value());
            }
            let _ = send.send_trailers(trailers);
        }
        (Sending::Open(send), Ending::Http(_)) => {
            let _ = send.send_data(Bytes::new(), true);
        }
        (Sending::Closed, _) => {}
    }
    stream.send = Sending::Closed;
    Step::Closed
}

/// How much of `wanted` the client has window for. Ready(None) if the stream is gone.
fn grant(send: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    send.reserve_capacity(wanted);
    loop {
        let granted = send.capacity();
        if granted > 0 {
            return Poll::Ready(Some(granted));
        }
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}
