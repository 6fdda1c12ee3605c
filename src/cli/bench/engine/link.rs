//! One connection as the engine keeps it: where it leads, and when to try again.

use crate::base::Tick;
use crate::runtime::pump::Address;
use crate::wire::client::{Connection, Windows};

const BACKOFF_MS_MIN: u64 = 50;
const BACKOFF_MS_MAX: u64 = 5_000;
/// A connection that has not brought the server's settings by then is given up.
const CONNECT_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be connected from then on.
    Down(Tick),
    /// Under way since then.
    Connecting(Tick),
    /// Takes calls.
    Ready,
}

/// A connection's endpoint and its state.
#[derive(Debug)]
pub struct Link {
    pub(super) endpoint: String,
    pub(super) address: Address,
    pub(super) connection: Connection,
    pub(super) state: State,
    /// It worked once: what fails later is reported, not fatal.
    pub(super) was_ready: bool,
    backoff_ms: u64,
}

impl Link {
    pub(super) fn new(endpoint: &str, address: Address) -> Link {
        Link {
            endpoint: endpoint.to_owned(),
            address,
            connection: Connection::new(endpoint, Windows::default()),
            state: State::Down(Tick(0)),
            was_ready: false,
            backoff_ms: BACKOFF_MS_MIN,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn connecting(&mut self, now: Tick) {
        self.connection = Connection::new(&self.endpoint, Windows::default());
        self.state = State::Connecting(now);
    }

    pub(super) fn ready(&mut self) {
        self.state = State::Ready;
        self.was_ready = true;
        self.backoff_ms = BACKOFF_MS_MIN;
    }

    pub(super) fn down(&mut self, now: Tick) {
        self.state = State::Down(now.plus_ms(self.backoff_ms));
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX);
    }

    pub(super) fn is_overdue(&self, now: Tick) -> bool {
        matches!(self.state, State::Connecting(since) if now >= since.plus_ms(CONNECT_MS))
    }

    /// When something is to be done about it.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        match self.state {
            State::Down(at) => Some(at),
            State::Connecting(since) => Some(since.plus_ms(CONNECT_MS)),
            State::Ready => None,
        }
    }
}
