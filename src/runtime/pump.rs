//! Client sockets of one thread: connects, polls, and carries bytes between them and someone who
//! knows nothing of sockets.
//!
//! A wake-up reads each socket that has something, hands the bytes over in one piece, and writes
//! what came of them in one write.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::clock::Clock;
use super::timer::Timer;
use crate::base::Tick;

const EVENTS_PER_TURN: usize = 1_024;
const READ_BYTES: usize = 256 << 10;
/// Full reads of one socket before the others get their turn.
const READS_PER_TURN: usize = 4;
/// Written bytes at the head of an output that are kept rather than moved away.
const WRITTEN_BYTES_MAX: usize = 1 << 20;

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl Address {
    /// Finds `host:port`.
    ///
    /// # Errors
    /// A sentence.
    pub fn resolve(name: &str) -> Result<Address, String> {
        let found = name.to_socket_addrs().map_err(|error| format!("cannot find {name}: {error}"));
        let first = found?.next().ok_or_else(|| format!("{name} has no address"))?;
        Ok(Address(first))
    }
}

/// Whose bytes these are. Links are named by the handler, from 0.
pub trait Handler {
    /// A connect succeeded.
    fn connected(&mut self, now: Tick, link: usize);

    /// Bytes arrived.
    fn received(&mut self, now: Tick, link: usize, bytes: &[u8]);

    /// A connect failed or a connection is gone.
    fn lost(&mut self, now: Tick, link: usize, why: String);

    /// What waits to be written. The pump removes what it wrote.
    fn output(&mut self, link: usize) -> &mut Vec<u8>;

    /// Called once per wake-up, behind everything that arrived: time passed.
    fn turn(&mut self, now: Tick, asks: &mut Asks);
}

/// What a handler wants done.
#[derive(Debug, Default)]
pub struct Asks {
    /// Links to connect; what they were connected to is closed.
    pub connect: Vec<(usize, Address)>,
    /// Links to close. Nothing is told of them any more.
    pub close: Vec<usize>,
    /// Links whose output grew without anything having arrived on them.
    pub flush: Vec<usize>,
    /// When to call again at the latest.
    pub wake_at: Option<Tick>,
    /// Leave.
    pub is_over: bool,
}

#[derive(Debug, Default)]
struct Link {
    stream: Option<TcpStream>,
    is_connected: bool,
    /// The kernel took no more; it will say when it does.
    is_full: bool,
    /// Bytes at the head of the output that are written already.
    written: usize,
}

/// The sockets of one thread.
#[derive(Debug)]
pub struct Pump {
    poll: Poll,
    timer: Timer,
    clock: Clock,
    links: Vec<Link>,
    buffer: Vec<u8>,
    /// Links that were left with more to read.
    unread: Vec<usize>,
}

const TIMER: Token = Token(usize::MAX);

impl Pump {
    /// A pump without links.
    ///
    /// # Errors
    /// When the kernel gives no poll or no timer.
    pub fn new(clock: Clock) -> io::Result<Pump> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let buffer = vec![0; READ_BYTES];
        Ok(Pump { poll, timer, clock, links: Vec::new(), buffer, unread: Vec::new() })
    }

    /// Serves a handler until it wants to leave. Connections stay open for the next one.
    ///
    /// # Errors
    /// When polling itself fails.
    pub fn run(&mut self, handler: &mut impl Handler) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut asks = Asks::default();
        let mut armed = None;
        loop {
            let now = self.clock.now();
            handler.turn(now, &mut asks);
            self.carry_out(handler, &mut asks);
            if asks.is_over {
                return Ok(());
            }
            let wake_at = asks.wake_at.take();
            let mut timeout = None;
            if !self.unread.is_empty() || wake_at.is_some_and(|at| at <= now) {
                timeout = Some(std::time::Duration::ZERO);
            } else if let Some(at) = wake_at.filter(|_| wake_at != armed) {
                self.timer.set(at.since(now))?;
                armed = wake_at;
            }
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for link in std::mem::take(&mut self.unread) {
                self.read(handler, link);
                self.write(handler, link);
            }
            for event in &events {
                if event.token() == TIMER {
                    armed = None;
                    continue;
                }
                self.ready(handler, event);
            }
        }
    }

    fn ready(&mut self, handler: &mut impl Handler, event: &mio::event::Event) {
        let link = event.token().0;
        let Some(found) = self.links.get_mut(link) else { return };
        if found.stream.is_none() {
            return;
        }
        if event.is_writable() || event.is_error() {
            found.is_full = false;
            if !found.is_connected && !self.finish_connect(handler, link) {
                return;
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(handler, link);
        }
        self.write(handler, link);
    }

    /// False if the link is not connected yet, or never will be.
    fn finish_connect(&mut self, handler: &mut impl Handler, link: usize) -> bool {
        let found = &mut self.links[link];
        let Some(stream) = &found.stream else { return false };
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => {
                self.lose(handler, link, format!("cannot connect: {error}"));
                return false;
            }
        }
        if stream.peer_addr().is_err() {
            // Not there yet; another event will come.
            return false;
        }
        // A socket without it is slow, not wrong.
        let _ = stream.set_nodelay(true);
        found.is_connected = true;
        handler.connected(self.clock.now(), link);
        true
    }

    fn read(&mut self, handler: &mut impl Handler, link: usize) {
        for _ in 0..READS_PER_TURN {
            let found = &mut self.links[link];
            let Some(stream) = found.stream.as_mut().filter(|_| found.is_connected) else { return };
            match stream.read(&mut self.buffer) {
                Ok(0) => return self.lose(handler, link, "the server closed it".to_owned()),
                Ok(length) => {
                    handler.received(self.clock.now(), link, &self.buffer[..length]);
                    // A read that left room took all there was; new bytes make a new event.
                    if length < self.buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(handler, link, error.to_string()),
            }
        }
        self.unread.push(link);
    }

    fn write(&mut self, handler: &mut impl Handler, link: usize) {
        let found = &mut self.links[link];
        if !found.is_connected || found.is_full {
            return;
        }
        let Some(stream) = found.stream.as_mut() else { return };
        let out = handler.output(link);
        while found.written < out.len() {
            match stream.write(&out[found.written..]) {
                Ok(length) => found.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    found.is_full = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(handler, link, error.to_string()),
            }
        }
        if found.written == out.len() {
            out.clear();
            found.written = 0;
        } else if found.written > WRITTEN_BYTES_MAX {
            out.drain(..found.written);
            found.written = 0;
        }
    }

    fn lose(&mut self, handler: &mut impl Handler, link: usize, why: String) {
        self.links[link] = Link::default();
        handler.lost(self.clock.now(), link, why);
    }

    fn carry_out(&mut self, handler: &mut impl Handler, asks: &mut Asks) {
        for link in asks.close.drain(..) {
            if let Some(found) = self.links.get_mut(link) {
                // Dropping a socket closes it and takes it out of the poll.
                *found = Link::default();
            }
        }
        for (link, address) in asks.connect.drain(..) {
            if self.links.len() <= link {
                self.links.resize_with(link + 1, Link::default);
            }
            if let Err(error) = self.connect(link, address) {
                self.lose(handler, link, format!("cannot connect: {error}"));
            }
        }
        for link in asks.flush.drain(..) {
            if link < self.links.len() {
                self.write(handler, link);
            }
        }
    }

    fn connect(&mut self, link: usize, address: Address) -> io::Result<()> {
        let mut stream = TcpStream::connect(address.0)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(link), interest)?;
        self.links[link] = Link { stream: Some(stream), ..Link::default() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Sends `left` bytes and counts what comes back.
    #[derive(Default)]
    struct Echo {
        address: Option<Address>,
        out: Vec<u8>,
        expected: usize,
        received: usize,
        lost: Vec<String>,
        turns: Vec<Tick>,
        wake_ms: u64,
    }

    impl Handler for Echo {
        fn connected(&mut self, _: Tick, _: usize) {
            self.out = vec![7; self.expected];
        }

        fn received(&mut self, _: Tick, _: usize, bytes: &[u8]) {
            assert!(bytes.iter().all(|byte| *byte == 7));
            self.received += bytes.len();
        }

        fn lost(&mut self, _: Tick, _: usize, why: String) {
            self.lost.push(why);
        }

        fn output(&mut self, _: usize) -> &mut Vec<u8> {
            &mut self.out
        }

        fn turn(&mut self, now: Tick, asks: &mut Asks) {
            self.turns.push(now);
            asks.connect.extend(self.address.take().map(|address| (0, address)));
            let is_waiting = self.wake_ms > 0 && self.turns.len() < 2;
            asks.wake_at = is_waiting.then(|| now.plus_ms(self.wake_ms));
            let is_echoed = self.wake_ms == 0 && self.received == self.expected;
            asks.is_over =
                is_echoed || !self.lost.is_empty() || self.turns.len() >= 2 && self.wake_ms > 0;
        }
    }

    #[test]
    fn more_than_the_kernel_holds_goes_there_and_back() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut bytes = vec![0; 8 << 20];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("a reader");
            // Until the other side has left.
            let _ = stream.read(&mut bytes);
        });
        let mut echo =
            Echo { address: Some(Address(address)), expected: 8 << 20, ..Echo::default() };
        Pump::new(Clock::new()).and_then(|mut pump| pump.run(&mut echo)).expect("polls");
        assert_eq!((echo.received, echo.lost.len(), echo.out.len()), (8 << 20, 0, 0));
        server.join().expect("a server");
    }

    #[test]
    fn who_is_not_there_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut echo = Echo { address: Some(Address(address)), expected: 1, ..Echo::default() };
        Pump::new(Clock::new()).and_then(|mut pump| pump.run(&mut echo)).expect("polls");
        assert!(echo.lost[0].starts_with("cannot connect: "), "{:?}", echo.lost);
    }

    #[test]
    fn time_passes() {
        let mut echo = Echo { wake_ms: 5, expected: 1, ..Echo::default() };
        Pump::new(Clock::new()).and_then(|mut pump| pump.run(&mut echo)).expect("polls");
        assert!(echo.turns[1].since(echo.turns[0]) >= 5_000_000);
    }
}
