//! The pipe below the HTTP/2 library: meters frames, bounds what is read before it is looked
//! at, and gathers what one turn writes into few large writes.
//!
//! The library flushes many times per turn; here a flush is nothing, and the connection's task
//! writes out once at the end of its turn.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{Flood, Meter};
use crate::base::Tick;
use crate::base::limits::{ROUND_READ_BYTES, WRITE_BATCH_BYTES};

const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const LAST_STREAM: u32 = 0x7fff_ffff;
/// A pipe that gathered little keeps no more memory than this.
const IDLE_BUFFER_BYTES: usize = 8 << 10;

#[derive(Debug)]
struct State<P> {
    inner: P,
    meter: Meter,
    gathered: Vec<u8>,
    /// How much of what was gathered is written.
    written: usize,
    read_left: usize,
    /// The pipe had nothing more; it is not asked again in this round.
    is_read_dry: bool,
    /// Bytes came since last asked.
    is_heard: bool,
    now: Tick,
    has_streams: bool,
}

/// A pipe that the library and the connection's task hold together.
#[derive(Debug)]
pub struct Pipe<P>(Rc<RefCell<State<P>>>);

impl<P> Clone for Pipe<P> {
    fn clone(&self) -> Pipe<P> {
        Pipe(Rc::clone(&self.0))
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> Pipe<P> {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: P, meter: Meter) -> Pipe<P> {
        Pipe(Rc::new(RefCell::new(State {
            inner,
            meter,
            gathered: Vec::new(),
            written: 0,
            read_left: ROUND_READ_BYTES,
            is_read_dry: false,
            is_heard: false,
            now: Tick(0),
            has_streams: false,
        })))
    }

    /// A turn begins.
    pub fn begin_turn(&self, now: Tick) {
        self.0.borrow_mut().now = now;
    }

    /// A round of a turn begins: the pipe may be asked again, for so much.
    pub fn begin_round(&self, has_streams: bool) {
        let mut state = self.0.borrow_mut();
        state.is_read_dry = false;
        state.read_left = ROUND_READ_BYTES;
        state.has_streams = has_streams;
    }

    /// What the client does too much of.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.0.borrow().meter.flood()
    }

    /// Whether the client's first SETTINGS have come.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.0.borrow().meter.has_settings()
    }

    /// Whether bytes came since this was last asked.
    #[must_use]
    pub fn take_heard(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().is_heard)
    }

    /// Bytes gathered and not written out.
    #[must_use]
    pub fn gathered(&self) -> usize {
        let state = self.0.borrow();
        state.gathered.len() - state.written
    }

    /// Writes out what was gathered. Ready when nothing is left.
    ///
    /// # Errors
    /// The pipe's.
    pub fn drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().drain(cx)
    }

    /// Puts a GOAWAY that says why at the end of what was gathered, unless the library is in
    /// the middle of a frame. It cannot say this itself: it sends no debug data.
    pub fn go_away(&self, flood: Flood) {
        let mut state = self.0.borrow_mut();
        if !state.meter.is_between_sent_frames() {
            return;
        }
        let debug_data = flood.debug_data();
        let length = u8::try_from(8 + debug_data.len()).unwrap_or(8);
        state.gathered.extend_from_slice(&[0, 0, length, GOAWAY, 0, 0, 0, 0, 0]);
        state.gathered.extend_from_slice(&LAST_STREAM.to_be_bytes());
        state.gathered.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        state.gathered.extend_from_slice(debug_data);
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> State<P> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        let used = self.gathered.len();
        self.gathered.clear();
        self.written = 0;
        if used < IDLE_BUFFER_BYTES && self.gathered.capacity() > 2 * IDLE_BUFFER_BYTES {
            self.gathered.shrink_to(IDLE_BUFFER_BYTES);
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> AsyncRead for Pipe<P> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        if state.is_read_dry || state.meter.flood().is_some() {
            // Who asked before is registered; and a flood is read no further.
            return Poll::Pending;
        }
        if state.read_left == 0 {
            // What is here is looked at first.
            state.is_read_dry = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match Pin::new(&mut state.inner).poll_read(cx, buf) {
            Poll::Pending => {
                state.is_read_dry = true;
                Poll::Pending
            }
            Poll::Ready(result) => {
                let bytes = &buf.filled()[before..];
                state.read_left = state.read_left.saturating_sub(bytes.len().max(1));
                state.is_heard |= !bytes.is_empty();
                state.meter.received(bytes, state.now, state.has_streams);
                Poll::Ready(result)
            }
        }
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pipe<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        if state.gathered.len() >= WRITE_BATCH_BYTES {
            ready!(state.drain(cx))?;
        }
        let count = bytes.len().min(WRITE_BATCH_BYTES);
        state.meter.sent(&bytes[..count]);
        state.gathered.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.drain(cx))?;
        Pin::new(&mut state.inner).poll_shutdown(cx)
    }
}
