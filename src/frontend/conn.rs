//! The task of one connection: the one place of the frontend that is async.
//!
//! A turn collects everything the wake-up brought (new streams, messages, the node's answers),
//! hands requests to the node, writes what is ready, and leaves the pipe with one write. Then
//! the node has its turn on the same core, and its answers are the next wake-up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::{Builder, Handshake};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::meter::{Flood, Meter};
use super::pipe::Pipe;
use super::port::{FrontendContext, Settings, Sleep};
use super::streams::Listed;
use super::wakes::{Wakes, connection_waker};
use crate::base::Tick;
use crate::base::limits;

/// Rounds of one turn before others have theirs.
const ROUNDS_MAX: usize = 8;
/// More than this leaves at once though the node is about to answer.
const LINGER_BYTES_MAX: usize = 4 << 10;
/// A timer that ends so soon is asked whether it has ended already.
const TIMER_SLACK_NS: u64 = 5_000_000;
/// How often calls under way are looked at.
const HOUSEKEEPING_MS: u64 = 500;

/// Serves one HTTP/2 connection until it ends. `connection` is a free slot of this core.
pub async fn serve<P>(pipe: P, ctx: Rc<FrontendContext>, connection: u32)
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let wakes = Arc::new(Wakes::default());
    let state = Connection::open(ctx, connection, Arc::clone(&wakes));
    let settings = state.ctx.settings.clone();
    let pipe = Pipe::new(pipe, Meter::new(settings.ping_interval_min_ms));
    let mut task = Task {
        phase: Phase::Handshake(Box::new(builder(&settings).handshake(pipe.clone()))),
        pipe,
        opened: state.now,
        heard: state.now,
        pinged: None,
        ping_pong: None,
        lingers: false,
        timer: None,
        waker: connection_waker(&wakes),
        ready: Vec::new(),
        state,
        settings,
        wakes,
    };
    poll_fn(|cx| task.poll(cx)).await;
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.streams_max.min(limits::STREAMS_PER_CONNECTION))
        .max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(limits::LOCAL_RESETS_MAX))
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES);
    builder
}

enum Phase<P> {
    Handshake(Box<Handshake<Pipe<P>, Bytes>>),
    Open(Box<h2::server::Connection<Pipe<P>, Bytes>>),
}

/// The connection is over.
struct Over;

struct Task<P> {
    phase: Phase<P>,
    pipe: Pipe<P>,
    opened: Tick,
    /// When the client was last heard.
    heard: Tick,
    /// When it was pinged since.
    pinged: Option<Tick>,
    ping_pong: Option<PingPong>,
    /// What was gathered waits for the node's turn.
    lingers: bool,
    timer: Option<(Tick, Sleep)>,
    waker: Waker,
    ready: Vec<usize>,
    state: Connection,
    settings: Settings,
    wakes: Arc<Wakes>,
}

impl<P: AsyncRead + AsyncWrite + Unpin> Task<P> {
    /// One turn. Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_new_waker = self.wakes.begin(cx.waker());
        self.state.now = self.state.ctx.port.now();
        self.pipe.begin_turn(self.state.now);
        if self.turn().is_err() || self.keep_time(cx, is_new_waker).is_err() {
            return Poll::Ready(());
        }
        self.wakes.end();
        Poll::Pending
    }

    fn turn(&mut self) -> Result<(), Over> {
        for _ in 0..ROUNDS_MAX {
            self.wakes.take_connection();
            self.pipe.begin_round(self.state.slots.len() > 0);
            self.receive()?;
            self.poll_streams();
            self.state.take_mail();
            self.stop();
            let has_written = self.state.write();
            if has_written || self.wakes.is_wanted() || self.state.has_mail() {
                continue;
            }
            if self.linger() {
                return Ok(());
            }
            if !self.drain()? {
                return Ok(());
            }
            if !self.state.has_output() && !self.wakes.is_wanted() {
                return Ok(());
            }
        }
        // More to do, but not now: the mark makes the end of this turn the start of the next.
        self.drain()?;
        self.wakes.signal();
        Ok(())
    }

    /// Lets the library read, write and tell of new streams.
    fn receive(&mut self) -> Result<(), Over> {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if let Phase::Handshake(handshake) = &mut self.phase {
            match Pin::new(handshake).poll(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Over),
                Poll::Ready(Ok(connection)) => self.phase = Phase::Open(Box::new(connection)),
            }
        }
        let Phase::Open(connection) = &mut self.phase else {
            return Ok(());
        };
        loop {
            match connection.poll_accept(&mut cx) {
                Poll::Ready(Some(Ok((request, send)))) => self.state.accept(request, send),
                // The client has closed, or broke the protocol: GOAWAY is written already.
                Poll::Ready(Some(Err(_)) | None) => return Err(Over),
                Poll::Pending => break,
            }
        }
        match self.pipe.flood() {
            Some(flood) => self.flooded(flood, &mut cx),
            None => Ok(()),
        }
    }

    fn flooded(&mut self, flood: Flood, cx: &mut Context<'_>) -> Result<(), Over> {
        self.state.ctx.meters.floods.one();
        self.pipe.go_away(flood);
        // One attempt: a client that floods is not waited for.
        let _ = self.pipe.drain(cx);
        Err(Over)
    }

    fn poll_streams(&mut self) {
        loop {
            self.ready.clear();
            self.wakes.take_streams(&mut self.ready);
            if self.ready.is_empty() {
                return;
            }
            for index in std::mem::take(&mut self.ready) {
                self.poll_stream(index);
            }
        }
    }

    fn poll_stream(&mut self, index: usize) {
        let Some(slot) = self.state.slots.slot(index) else {
            return;
        };
        slot.wake.clear();
        let Some(stream) = slot.stream.as_mut() else {
            return;
        };
        if stream.listed == Listed::Window {
            stream.listed = Listed::No;
            self.state.list(index);
        }
        self.state.read(index);
        self.state.watch_reset(index);
    }

    fn stop(&mut self) {
        if self.state.stop()
            && let Phase::Open(connection) = &mut self.phase
        {
            connection.graceful_shutdown();
        }
    }

    /// Whether what was gathered leaves with the next turn, which follows behind the node's: the
    /// node begins what was asked before the acknowledgement of a PING costs a system call, and
    /// its first answers leave in the same write. Once only, so that nothing waits for long.
    fn linger(&mut self) -> bool {
        let has_asked = self.state.take_asked();
        let few = 0 < self.pipe.gathered() && self.pipe.gathered() <= LINGER_BYTES_MAX;
        self.lingers = has_asked && few && !self.lingers;
        if self.lingers {
            self.wakes.signal();
        }
        self.lingers
    }

    /// Writes out. True if everything has left.
    fn drain(&mut self) -> Result<bool, Over> {
        match self.pipe.drain(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => {
                self.state.set_unsent(0);
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Over),
            Poll::Pending => Ok(false),
        }
    }

    // --- time -----------------------------------------------------------------------------

    fn keep_time(&mut self, cx: &mut Context<'_>, is_new_waker: bool) -> Result<(), Over> {
        let now = self.state.now;
        if self.pipe.take_heard() {
            self.heard = now;
            self.pinged = None;
        }
        let mut is_due = false;
        if let Some((at, sleep)) = &mut self.timer {
            // The timer holds the task's waker: asking it again and again would only cost.
            is_due = *at <= now;
            if !is_due && (is_new_waker || at.since(now) < TIMER_SLACK_NS) {
                is_due = sleep.as_mut().poll(cx).is_ready();
            }
        }
        if is_due {
            self.timer = None;
            self.keep_house()?;
        }
        let wake_at = self.wake_at();
        if self.timer.as_ref().is_none_or(|(at, _)| *at > wake_at) {
            let mut sleep = self.state.ctx.port.sleep_until(wake_at);
            if sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            self.timer = Some((wake_at, sleep));
        }
        Ok(())
    }

    /// When something is to be looked at next.
    fn wake_at(&self) -> Tick {
        if !self.pipe.has_settings() {
            return self.opened.plus_ms(self.settings.preface_timeout_ms);
        }
        if self.state.needs_housekeeping() {
            // All connections at the same moments: one wake-up of the core serves them together.
            return self.state.now.plus_ms(1).rounded_up_ms(HOUSEKEEPING_MS);
        }
        match self.pinged {
            Some(pinged) => pinged.plus_ms(self.settings.keepalive_timeout_ms),
            None => self.heard.plus_ms(self.settings.keepalive_interval_ms),
        }
    }

    fn keep_house(&mut self) -> Result<(), Over> {
        let now = self.state.now;
        let preface_end = self.opened.plus_ms(self.settings.preface_timeout_ms);
        if !self.pipe.has_settings() && preface_end <= now {
            return Err(Over);
        }
        self.state.keep_house();
        // What was ended is written by the next turn, which follows at once.
        self.wakes.signal();
        match self.pinged {
            Some(pinged) if pinged.plus_ms(self.settings.keepalive_timeout_ms) <= now => Err(Over),
            None if self.heard.plus_ms(self.settings.keepalive_interval_ms) <= now => {
                self.ping();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ping(&mut self) {
        let Phase::Open(connection) = &mut self.phase else {
            return;
        };
        if self.ping_pong.is_none() {
            self.ping_pong = connection.ping_pong();
        }
        if let Some(ping_pong) = &mut self.ping_pong {
            // The last pong, if it was not taken yet; any byte counts as a sign of life.
            let _ = ping_pong.poll_pong(&mut Context::from_waker(&self.waker));
            let _ = ping_pong.send_ping(Ping::opaque());
        }
        self.pinged = Some(self.state.now);
    }
}
