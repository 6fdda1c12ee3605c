//! One HTTP/2 connection as the client sees it: bytes in, events out, calls in, bytes out.
//!
//! The caller hands over what it read with [`Connection::receive`], again and again until nothing
//! comes out, and writes what [`Connection::output`] holds.

use std::collections::VecDeque;
use std::fmt;

use super::frame::{self, HEAD_BYTES, Head, PAYLOAD_BYTES, WINDOW_BYTES, WINDOW_BYTES_MAX};
use super::frame::{code, flag, kind, setting};
pub use super::gather::Body;
use super::gather::prefix;
use super::hpack::{AnswerHead, HeadWriter};
use super::status::Status;
use super::streams::{Stream, Streams};
use crate::base::limits::{
    CLIENT_HEADER_BYTES_MAX, CLIENT_MESSAGE_BYTES_MAX, CLIENT_REPLIES_MAX, CLIENT_UNSENT_BYTES_MAX,
    CLIENT_WINDOW_BYTES,
};

/// Streams that we open before the server has said how many it takes.
const STREAMS_UNTIL_SETTINGS: u32 = 100;
/// Blocks up to this size are compared with the last ones before they are read.
const MEMO_BYTES_MAX: usize = 256;
const USER_AGENT: &str = concat!("ringbolt/", env!("CARGO_PKG_VERSION"));

/// A call on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u32);

/// What a connection tells its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// A message of the call with this tag.
    Message(u64, Body<'i>),
    /// The call with this tag is over.
    End(u64, Status),
}

/// Why a call was not opened or a message not taken. Later may be better, or another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many streams are open as the server allows, or too much is unsent.
    Busy,
    /// The server said that it takes no more, or the stream numbers are used up.
    Closing,
    /// The call is over already.
    Over,
}

/// The connection is of no use any more, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    code: u32,
    /// What the server did.
    pub text: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server broke HTTP/2 (code {}): {}", self.code, self.text)
    }
}

const fn protocol(text: &'static str) -> Broken {
    Broken { code: code::PROTOCOL_ERROR, text }
}

/// How much the server may send ahead of us.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Per call.
    pub stream_bytes: u32,
    /// Per connection.
    pub connection_bytes: u32,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows { stream_bytes: CLIENT_WINDOW_BYTES, connection_bytes: CLIENT_WINDOW_BYTES }
    }
}

/// A frame whose payload is being read.
#[derive(Debug)]
struct Incoming {
    head: Head,
    left: usize,
}

/// A header block that is being put together.
#[derive(Debug)]
struct Block {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    out: Vec<u8>,
    replies: u32,
    heads: HeadWriter,
    streams: Streams,
    next_stream: u32,
    // What the server allows.
    is_ready: bool,
    streams_max: u32,
    frame_bytes_max: usize,
    stream_window: i64,
    send_window: i64,
    unsent_bytes: usize,
    blocked: VecDeque<u32>,
    // What we allow.
    windows: Windows,
    received: u32,
    // Where we are in what it sends.
    head: [u8; HEAD_BYTES],
    head_len: usize,
    incoming: Option<Incoming>,
    payload: Vec<u8>,
    block: Option<Block>,
    memo: [(Vec<u8>, AnswerHead); 2],
    memo_next: usize,
    goaway: Option<String>,
    refused: Vec<u32>,
}

impl Connection {
    /// A connection to the server of this name; its first bytes are in the output already.
    #[must_use]
    pub fn new(authority: &str, windows: Windows) -> Connection {
        let mut out = Vec::with_capacity(64 << 10);
        out.extend_from_slice(frame::PREFACE);
        frame::settings(
            &mut out,
            &[
                (setting::HEADER_TABLE_SIZE, 0),
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW_SIZE, windows.stream_bytes),
                (setting::MAX_HEADER_LIST_SIZE, CLIENT_HEADER_BYTES_MAX as u32),
            ],
        );
        let more = i64::from(windows.connection_bytes) - WINDOW_BYTES;
        if let Some(more) = u32::try_from(more).ok().filter(|more| *more > 0) {
            frame::window_update(&mut out, 0, more);
        }
        Connection {
            out,
            replies: 0,
            heads: HeadWriter::new(authority, USER_AGENT),
            streams: Streams::default(),
            next_stream: 1,
            is_ready: false,
            streams_max: STREAMS_UNTIL_SETTINGS,
            frame_bytes_max: PAYLOAD_BYTES,
            stream_window: WINDOW_BYTES,
            send_window: WINDOW_BYTES,
            unsent_bytes: 0,
            blocked: VecDeque::new(),
            windows,
            received: 0,
            head: [0; HEAD_BYTES],
            head_len: 0,
            incoming: None,
            payload: Vec::new(),
            block: None,
            memo: Default::default(),
            memo_next: 0,
            goaway: None,
            refused: Vec::new(),
        }
    }

    // --- calls -----------------------------------------------------------------------------------

    /// Whether the server's settings are known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Calls under way.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Why no further call will be taken, if so.
    #[must_use]
    pub fn closing(&self) -> Option<&str> {
        let used_up = self.next_stream >= 1 << 31;
        self.goaway.as_deref().or(used_up.then_some("the stream numbers are used up"))
    }

    /// Whether [`Connection::open`] would take a call now.
    ///
    /// # Errors
    /// Why not.
    pub fn can_open(&self) -> Result<(), Refusal> {
        if self.closing().is_some() {
            return Err(Refusal::Closing);
        }
        let is_full = self.streams.len() >= self.streams_max as usize;
        let is_unsent = self.out.len() + self.unsent_bytes > CLIENT_UNSENT_BYTES_MAX;
        if is_full || is_unsent { Err(Refusal::Busy) } else { Ok(()) }
    }

    /// Begins a call whose messages follow. `more` is metadata beside what every call carries.
    ///
    /// # Errors
    /// When no call can be opened now.
    pub fn open(
        &mut self,
        path: &'static str,
        more: &[(&str, &str)],
        tag: u64,
    ) -> Result<StreamId, Refusal> {
        self.can_open()?;
        let id = self.next_stream;
        self.next_stream += 2;
        let at = self.out.len();
        frame::head(&mut self.out, 0, kind::HEADERS, flag::END_HEADERS, id);
        self.heads.write(&mut self.out, path, more);
        let payload_len = self.out.len() - at - HEAD_BYTES;
        assert!(payload_len <= PAYLOAD_BYTES, "the metadata of a call fits one frame");
        let [_, a, b, c] = (payload_len as u32).to_be_bytes();
        self.out[at..at + 3].copy_from_slice(&[a, b, c]);
        self.streams.insert(id, tag, self.stream_window);
        Ok(StreamId(id))
    }

    /// Sends a message of a call, as soon as the server's window lets it; `is_last` ends our side.
    ///
    /// # Errors
    /// When the call is over or too much is unsent.
    pub fn send(&mut self, stream: StreamId, message: &[u8], is_last: bool) -> Result<(), Refusal> {
        if self.out.len() + self.unsent_bytes > CLIENT_UNSENT_BYTES_MAX {
            return Err(Refusal::Busy);
        }
        let found = self.streams.find(stream.0).ok_or(Refusal::Over)?;
        if found.is_sent || found.is_last_queued {
            return Err(Refusal::Over);
        }
        let mut framed = Vec::new();
        let total = message.len() + 5;
        let window = found.send_window.min(self.send_window);
        if found.unsent.is_empty() && total <= self.frame_bytes_max && total as i64 <= window {
            found.send_window -= total as i64;
            self.send_window -= total as i64;
            found.is_sent = is_last;
            let flags = if is_last { flag::END_STREAM } else { 0 };
            frame::head(&mut self.out, total, kind::DATA, flags, stream.0);
            prefix(&mut self.out, message.len());
            self.out.extend_from_slice(message);
            return Ok(());
        }
        std::mem::swap(&mut framed, &mut found.unsent);
        framed.reserve(total);
        prefix(&mut framed, message.len());
        framed.extend_from_slice(message);
        found.unsent = framed;
        found.is_last_queued = is_last;
        self.unsent_bytes += total;
        self.flush(stream.0);
        Ok(())
    }

    /// A call of one message.
    ///
    /// # Errors
    /// When no call can be opened now.
    pub fn unary(
        &mut self,
        path: &'static str,
        tag: u64,
        message: &[u8],
    ) -> Result<StreamId, Refusal> {
        let stream = self.open(path, &[], tag)?;
        let sent = self.send(stream, message, true);
        debug_assert!(sent.is_ok(), "a stream that was just opened takes its message");
        Ok(stream)
    }

    /// Gives a call up. No event follows. Gives the tag, if the call was still open.
    pub fn cancel(&mut self, stream: StreamId) -> Option<u64> {
        let gone = self.forget(stream.0)?;
        frame::reset(&mut self.out, stream.0, code::CANCEL);
        Some(gone.tag)
    }

    /// What is to be written. The caller removes what it wrote.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes the next whole frames' worth from the head of `input`, until something is to be told
    /// or nothing is left.
    ///
    /// # Errors
    /// When the server broke the protocol. A last frame that says so is in the output.
    pub fn receive<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Broken> {
        self.next(input).inspect_err(|broken| frame::go_away(&mut self.out, broken.code))
    }

    // --- sending ---------------------------------------------------------------------------------

    /// Sends of a stream what the windows let through.
    fn flush(&mut self, id: u32) {
        let Some(stream) = self.streams.find(id) else { return };
        while stream.unsent_len() > 0 {
            let window = stream.send_window.min(self.send_window).max(0);
            let window = usize::try_from(window).unwrap_or(usize::MAX);
            let take = stream.unsent_len().min(window).min(self.frame_bytes_max);
            if take == 0 {
                if !stream.is_blocked {
                    stream.is_blocked = true;
                    self.blocked.push_back(id);
                }
                return;
            }
            let from = stream.unsent_at;
            stream.unsent_at += take;
            let is_last = stream.is_last_queued && stream.unsent_len() == 0;
            let flags = if is_last { flag::END_STREAM } else { 0 };
            frame::head(&mut self.out, take, kind::DATA, flags, id);
            self.out.extend_from_slice(&stream.unsent[from..from + take]);
            stream.send_window -= take as i64;
            self.send_window -= take as i64;
            self.unsent_bytes -= take;
            stream.is_sent |= is_last;
        }
        stream.unsent.clear();
        stream.unsent_at = 0;
    }

    fn flush_blocked(&mut self) {
        for _ in 0..self.blocked.len() {
            if self.send_window <= 0 {
                return;
            }
            let Some(id) = self.blocked.pop_front() else { return };
            if let Some(stream) = self.streams.find(id) {
                stream.is_blocked = false;
                self.flush(id);
            }
        }
    }

    fn forget(&mut self, id: u32) -> Option<Stream> {
        let gone = self.streams.remove(id)?;
        self.unsent_bytes -= gone.unsent_len();
        Some(gone)
    }

    /// Ends a call that the server is done with; what we did not send yet is not sent any more.
    fn end<'i>(&mut self, id: u32, status: Status) -> Option<Event<'i>> {
        let gone = self.forget(id)?;
        if !gone.is_sent {
            frame::reset(&mut self.out, id, code::NO_ERROR);
        }
        Some(Event::End(gone.tag, status))
    }

    /// Ends a call because of what came on it.
    fn break_stream<'i>(&mut self, id: u32, status: Status) -> Option<Event<'i>> {
        let gone = self.forget(id)?;
        frame::reset(&mut self.out, id, code::CANCEL);
        Some(Event::End(gone.tag, status))
    }

    /// Counts a frame that the server makes us send.
    fn reply(&mut self) -> Result<(), Broken> {
        self.replies = if self.out.is_empty() { 0 } else { self.replies + 1 };
        let text = "it wants answers and does not read them";
        let calm = self.replies < CLIENT_REPLIES_MAX;
        if calm { Ok(()) } else { Err(Broken { code: code::ENHANCE_YOUR_CALM, text }) }
    }

    // --- receiving -------------------------------------------------------------------------------

    fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Broken> {
        loop {
            while let Some(id) = self.refused.pop() {
                let why = self.goaway.clone().unwrap_or_default();
                if let Some(event) = self.end(id, Status::new(Status::UNAVAILABLE, why)) {
                    return Ok(Some(event));
                }
            }
            let Some(incoming) = &self.incoming else {
                if self.head(input)? {
                    continue;
                }
                return Ok(None);
            };
            let head = incoming.head;
            if head.kind == kind::DATA && !head.has(flag::PADDED) {
                if let Some(event) = self.data(head, input)? {
                    return Ok(Some(event));
                }
            } else if let Some(payload) = self.whole(input) {
                let event = match payload {
                    Payload::Slice(bytes) => self.frame(head, bytes)?,
                    Payload::Gathered => {
                        let mut bytes = std::mem::take(&mut self.payload);
                        let event = self.frame(head, &bytes)?;
                        bytes.clear();
                        self.payload = bytes;
                        event
                    }
                };
                if event.is_some() {
                    return Ok(event);
                }
            }
            if self.incoming.is_some() && input.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Reads a frame's head. False if its bytes are not all there.
    fn head(&mut self, input: &mut &[u8]) -> Result<bool, Broken> {
        let take = input.len().min(HEAD_BYTES - self.head_len);
        let (head, rest) = input.split_at(take);
        self.head[self.head_len..self.head_len + take].copy_from_slice(head);
        self.head_len += take;
        *input = rest;
        if self.head_len < HEAD_BYTES {
            return Ok(false);
        }
        self.head_len = 0;
        let head = Head::parse(self.head);
        if head.payload_len > PAYLOAD_BYTES {
            let text = "a frame is larger than we announced";
            return Err(Broken { code: code::FRAME_SIZE_ERROR, text });
        }
        if !self.is_ready && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(protocol(
                "its first frame is not its settings; is it an etcd in plaintext?",
            ));
        }
        let continues = head.kind == kind::CONTINUATION;
        let expected = self.block.as_ref().map(|block| block.stream);
        if expected.is_some() != continues || expected.is_some_and(|id| id != head.stream) {
            return Err(protocol("a header block is cut by another frame"));
        }
        self.incoming = Some(Incoming { head, left: head.payload_len });
        Ok(true)
    }

    /// A payload that is handled as a whole, once it is there.
    fn whole<'i>(&mut self, input: &mut &'i [u8]) -> Option<Payload<'i>> {
        let incoming = self.incoming.as_mut()?;
        let take = input.len().min(incoming.left);
        let (piece, rest) = input.split_at(take);
        *input = rest;
        let is_untouched = incoming.left == incoming.head.payload_len;
        incoming.left -= take;
        let is_whole = incoming.left == 0;
        if is_whole {
            self.incoming = None;
            if is_untouched {
                return Some(Payload::Slice(piece));
            }
        }
        self.payload.extend_from_slice(piece);
        is_whole.then_some(Payload::Gathered)
    }

    /// DATA is taken piece by piece.
    fn data<'i>(&mut self, head: Head, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Broken> {
        let left = self.incoming.as_ref().map_or(0, |incoming| incoming.left);
        let (mut piece, _) = input.split_at(input.len().min(left));
        let offered = piece.len();
        let event = self.piece(head.stream, &mut piece)?;
        let taken = offered - piece.len();
        *input = &input[taken..];
        let left = left - taken;
        if let Some(incoming) = &mut self.incoming {
            incoming.left = left;
        }
        if event.is_some() || left > 0 {
            return Ok(event);
        }
        self.incoming = None;
        Ok(if head.has(flag::END_STREAM) { self.end_without_status(head.stream) } else { None })
    }

    /// Messages out of a piece of DATA; all of it is taken unless an event comes out.
    fn piece<'i>(&mut self, id: u32, piece: &mut &'i [u8]) -> Result<Option<Event<'i>>, Broken> {
        self.check_stream(id)?;
        let offered = piece.len();
        let Some(stream) = self.streams.find(id) else {
            // A call that we gave up: its bytes count all the same.
            *piece = &[];
            self.give_back(id, offered);
            return Ok(None);
        };
        let tag = stream.tag;
        let event = match stream.gather.next(piece, CLIENT_MESSAGE_BYTES_MAX) {
            Ok(body) => body.map(|body| Event::Message(tag, body)),
            Err(status) => self.break_stream(id, status),
        };
        self.give_back(id, offered - piece.len());
        Ok(event)
    }

    /// What was taken is given back to the server's windows, by halves.
    fn give_back(&mut self, id: u32, bytes: usize) {
        // Pieces are parts of frames, far below 4 GiB.
        let bytes = bytes as u32;
        self.received += bytes;
        if self.received >= self.windows.connection_bytes / 2 {
            frame::window_update(&mut self.out, 0, self.received);
            self.received = 0;
        }
        let Some(stream) = self.streams.find(id) else { return };
        stream.received += bytes;
        if stream.received >= self.windows.stream_bytes / 2 {
            frame::window_update(&mut self.out, id, stream.received);
            stream.received = 0;
        }
    }

    fn check_stream(&self, id: u32) -> Result<(), Broken> {
        let is_ours = id % 2 == 1 && id < self.next_stream;
        if is_ours { Ok(()) } else { Err(protocol("a frame names a stream that was never opened")) }
    }

    fn end_without_status<'i>(&mut self, id: u32) -> Option<Event<'i>> {
        let status = self.streams.find(id)?.http_status;
        let text = "the server ended the stream without a status";
        let none = || Status::new(Status::INTERNAL, text);
        let status = status.filter(|status| *status != 200).map_or_else(none, Status::of_http);
        self.end(id, status)
    }

    fn frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Broken> {
        match head.kind {
            kind::DATA => self.padded_data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::RST_STREAM => {
                self.check_stream(head.stream)?;
                let reason = frame::number(payload).ok_or(protocol("a cut RST_STREAM"))?;
                let gone = self.forget(head.stream);
                Ok(gone.map(|gone| Event::End(gone.tag, Status::of_reset(reason))))
            }
            kind::SETTINGS => self.settings(head, payload).map(|()| None),
            kind::PING => {
                if payload.len() != 8 {
                    return Err(protocol("a PING of other than 8 bytes"));
                }
                if !head.has(flag::ACK) {
                    self.reply()?;
                    frame::head(&mut self.out, 8, kind::PING, flag::ACK, 0);
                    self.out.extend_from_slice(payload);
                }
                Ok(None)
            }
            kind::GOAWAY => self.go_away(payload).map(|()| None),
            kind::WINDOW_UPDATE => self.window_update(head, payload).map(|()| None),
            kind::PUSH_PROMISE => Err(protocol("a push, which we declined")),
            // PRIORITY is a hint, and what nobody knows is to be ignored.
            _ => Ok(None),
        }
    }

    fn padded_data<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Broken> {
        self.check_stream(head.stream)?;
        let inner = frame::unpadded(head.flags, payload).ok_or(protocol("too much padding"))?;
        self.give_back(head.stream, payload.len());
        let Some(stream) = self.streams.find(head.stream) else { return Ok(None) };
        let tag = stream.tag;
        let mut rest = inner;
        match stream.gather.next(&mut rest, CLIENT_MESSAGE_BYTES_MAX) {
            Err(status) => return Ok(self.break_stream(head.stream, status)),
            Ok(None) => {}
            Ok(Some(body)) => {
                // No server of this API pads; one that does gets one message per frame.
                if !rest.is_empty() {
                    let status = Status::new(Status::INTERNAL, "several messages, padded");
                    return Ok(self.break_stream(head.stream, status));
                }
                return Ok(Some(Event::Message(tag, Body::Gathered(body.bytes().to_vec()))));
            }
        }
        let is_end = head.has(flag::END_STREAM);
        Ok(if is_end { self.end_without_status(head.stream) } else { None })
    }

    fn headers<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Broken> {
        self.check_stream(head.stream)?;
        let inner = frame::unpadded(head.flags, payload).ok_or(protocol("too much padding"))?;
        let skip = if head.has(flag::PRIORITY) { 5 } else { 0 };
        let inner = inner.get(skip..).ok_or(protocol("a cut priority"))?;
        let is_end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.whole_block(head.stream, is_end, inner);
        }
        self.block = Some(Block { stream: head.stream, is_end, bytes: inner.to_vec() });
        Ok(None)
    }

    fn continuation<'i>(
        &mut self,
        head: Head,
        payload: &[u8],
    ) -> Result<Option<Event<'i>>, Broken> {
        let mut block = self.block.take().ok_or(protocol("a CONTINUATION of nothing"))?;
        // An empty one would cost nothing, for ever.
        if payload.is_empty() || block.bytes.len() + payload.len() > CLIENT_HEADER_BYTES_MAX {
            let text = "a header block is too large, or comes in empty pieces";
            return Err(Broken { code: code::ENHANCE_YOUR_CALM, text });
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.whole_block(block.stream, block.is_end, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    fn whole_block<'i>(
        &mut self,
        id: u32,
        is_end: bool,
        block: &[u8],
    ) -> Result<Option<Event<'i>>, Broken> {
        let head = self.read_block(block)?;
        let Some(stream) = self.streams.find(id) else { return Ok(None) };
        if !is_end {
            match (stream.http_status, head.http_status) {
                (None, 100..=199) => {}
                (None, 200) => stream.http_status = Some(200),
                (None, other) => return Ok(self.break_stream(id, Status::of_http(other))),
                (Some(_), _) => return Err(protocol("a second head of one answer")),
            }
            return Ok(None);
        }
        let http_status = stream.http_status.unwrap_or(head.http_status);
        let missing = || match http_status {
            200 => Status::new(Status::UNKNOWN, "the server ended the call without a status"),
            other => Status::of_http(other),
        };
        let status = head.status.unwrap_or_else(missing);
        Ok(self.end(id, status))
    }

    /// Most blocks are one of two, byte by byte; without a table equal bytes mean the same.
    fn read_block(&mut self, block: &[u8]) -> Result<AnswerHead, Broken> {
        if let Some((_, head)) = self.memo.iter().find(|(bytes, _)| bytes == block) {
            return Ok(head.clone());
        }
        let text = "a header block cannot be read";
        let head = AnswerHead::read(block, CLIENT_HEADER_BYTES_MAX)
            .ok_or(Broken { code: code::COMPRESSION_ERROR, text })?;
        if block.len() <= MEMO_BYTES_MAX {
            self.memo[self.memo_next] = (block.to_vec(), head.clone());
            self.memo_next = 1 - self.memo_next;
        }
        Ok(head)
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.has(flag::ACK) {
            return Ok(());
        }
        let (values, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() || head.stream != 0 {
            return Err(Broken { code: code::FRAME_SIZE_ERROR, text: "cut SETTINGS" });
        }
        for [n0, n1, v0, v1, v2, v3] in values.iter().copied() {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([n0, n1]) {
                setting::HEADER_TABLE_SIZE => self.heads.limit_table(value),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE => self.resize_windows(value)?,
                setting::MAX_FRAME_SIZE => {
                    if !(PAYLOAD_BYTES..1 << 24).contains(&(value as usize)) {
                        return Err(protocol("a frame size out of bounds"));
                    }
                    self.frame_bytes_max = value as usize;
                }
                _ => {}
            }
        }
        if !self.is_ready {
            self.is_ready = true;
            // A server that names no limit has none.
            let named =
                |value: &[u8; 6]| value[..2] == setting::MAX_CONCURRENT_STREAMS.to_be_bytes();
            if !values.iter().any(named) {
                self.streams_max = u32::MAX >> 1;
            }
        }
        self.reply()?;
        frame::head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        self.flush_blocked();
        Ok(())
    }

    fn resize_windows(&mut self, value: u32) -> Result<(), Broken> {
        let text = "a window grows beyond its bound";
        let overflow = Broken { code: code::FLOW_CONTROL_ERROR, text };
        let value = i64::from(value);
        let change = value - self.stream_window;
        self.stream_window = value;
        let mut largest = value;
        for stream in self.streams.iter_mut() {
            stream.send_window += change;
            largest = largest.max(stream.send_window);
        }
        if largest > WINDOW_BYTES_MAX { Err(overflow) } else { Ok(()) }
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let more = frame::number(payload).ok_or(protocol("a cut WINDOW_UPDATE"))? & (u32::MAX >> 1);
        let text = "a window grows beyond its bound, or by nothing";
        let broken = Broken { code: code::FLOW_CONTROL_ERROR, text };
        if more == 0 {
            return Err(broken);
        }
        if head.stream == 0 {
            self.send_window += i64::from(more);
            if self.send_window > WINDOW_BYTES_MAX {
                return Err(broken);
            }
            self.flush_blocked();
            return Ok(());
        }
        self.check_stream(head.stream)?;
        if let Some(stream) = self.streams.find(head.stream) {
            stream.send_window += i64::from(more);
            if stream.send_window > WINDOW_BYTES_MAX {
                return Err(broken);
            }
            self.flush(head.stream);
        }
        Ok(())
    }

    fn go_away(&mut self, payload: &[u8]) -> Result<(), Broken> {
        let (Some(last), Some(reason)) =
            (frame::number(payload), payload.get(4..).and_then(frame::number))
        else {
            return Err(protocol("a cut GOAWAY"));
        };
        let said = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
        let said: String = said.chars().take(200).collect();
        let text = format!("the server closes the connection (HTTP/2 code {reason}) {said}");
        self.goaway = Some(text.trim_end().to_owned());
        let last = last & (u32::MAX >> 1);
        self.refused = self.streams.above(last);
        Ok(())
    }
}

/// A frame's payload, where it lies.
enum Payload<'i> {
    Slice(&'i [u8]),
    Gathered,
}
