//! All timers of a core in one.
//!
//! The executor looks at each of its timers whenever it parks, and registers one anew at each poll
//! that finds it pending. With a timer per connection both are dear: so naps stand in a queue of
//! our own, and the executor knows the first of them alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::timer::Timer;

use super::clock::Clock;
use crate::base::Tick;

/// The naps of one core, driven by one of its tasks.
pub(super) struct Naps {
    clock: Clock,
    waiting: RefCell<BTreeMap<(Tick, u64), Waker>>,
    next: Cell<u64>,
    /// When the driver wakes, and the executor's timer for it.
    timer: RefCell<Option<(Tick, Timer)>>,
    driver: RefCell<Option<Waker>>,
}

impl Naps {
    pub(super) fn new(clock: Clock) -> Rc<Naps> {
        Rc::new(Naps {
            clock,
            waiting: RefCell::default(),
            next: Cell::new(0),
            timer: RefCell::default(),
            driver: RefCell::default(),
        })
    }

    /// Ready from `at` on.
    pub(super) fn until(self: &Rc<Naps>, at: Tick) -> Nap {
        let number = self.next.replace(self.next.get() + 1);
        Nap { at, number, naps: Rc::clone(self) }
    }

    /// Wakes whoever's time has come: the driver's first act.
    pub(super) fn fire(&self) {
        let now = self.clock.now();
        // A waker may own the last of a task, whose naps end with it: not while the queue is held.
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
    }

    /// Wakes the driver at the first nap's end, at `at` the latest: its last act before it sleeps.
    pub(super) fn arm(&self, cx: &mut Context<'_>, at: Tick) {
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        let first = self.waiting.borrow().first_key_value().map(|(key, _)| key.0);
        let at = first.map_or(at, |first| first.min(at));
        let now = self.clock.now();
        let mut timer = self.timer.borrow_mut();
        // One that ends earlier is kept: it is cheaper to wake once for nothing.
        if timer.as_ref().is_some_and(|(set, _)| *set > now && *set <= at) {
            return;
        }
        let mut fresh = Timer::new(Duration::from_nanos(at.since(now)));
        if Pin::new(&mut fresh).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        *timer = Some((at, fresh));
    }

    fn take_due(&self, now: Tick) -> Option<Waker> {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    fn enter(&self, key: (Tick, u64), waker: &Waker) {
        self.waiting.borrow_mut().insert(key, waker.clone());
        let is_early = self.timer.borrow().as_ref().is_none_or(|(set, _)| key.0 < *set);
        if let Some(driver) = self.driver.borrow().as_ref().filter(|_| is_early) {
            driver.wake_by_ref();
        }
    }
}

/// Ready from a moment on.
pub(super) struct Nap {
    at: Tick,
    number: u64,
    naps: Rc<Naps>,
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.naps.clock.now() >= self.at {
            return Poll::Ready(());
        }
        let key = (self.at, self.number);
        if let Some(waker) = self.naps.waiting.borrow_mut().get_mut(&key) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        self.naps.enter(key, cx.waker());
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        let waker = self.naps.waiting.borrow_mut().remove(&(self.at, self.number));
        drop(waker);
    }
}
