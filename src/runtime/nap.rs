//! A timer that may be polled again without cost.
//!
//! Each poll of the executor's own `Timer` that finds it pending registers it once more, and the
//! registrations pile up until their time has come. This one registers once, with the task that
//! polls it first: it has to stay with that task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;

use super::clock::Clock;
use crate::base::Tick;

/// Ready from a moment on.
pub(super) struct Nap {
    at: Tick,
    clock: Clock,
    timer: Timer,
    registered: bool,
}

impl Nap {
    pub(super) fn until(at: Tick, clock: Clock) -> Nap {
        let wait = Duration::from_nanos(at.since(clock.now()));
        Nap { at, clock, timer: Timer::new(wait), registered: false }
    }

    /// The moment.
    pub(super) fn at(&self) -> Tick {
        self.at
    }
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        if self.registered {
            return Poll::Pending;
        }
        self.registered = true;
        Pin::new(&mut self.timer).poll(cx).map(|_| ())
    }
}
