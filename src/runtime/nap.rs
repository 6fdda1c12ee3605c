//! All timers of a core in one.
//!
//! The executor looks at each of its timers whenever it parks, and registers one anew at each poll
//! that finds it pending. With a timer per connection both are dear: so naps stand in a queue of
//! our own, and the executor knows the first of them alone.
//!
//! Thousands of naps may end at one moment, as those of connections do that keep house together.
//! They are woken in slices with a pause between, in which requests have their turn.

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
use crate::base::limits::{NAPS_PAUSE_MS, NAPS_PER_SLICE};

/// The naps of one core, driven by one of its tasks.
pub(super) struct Naps {
    clock: Clock,
    waiting: RefCell<BTreeMap<(Tick, u64), Waker>>,
    next: Cell<u64>,
    /// No slice begins before.
    paused_until: Cell<Tick>,
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
            paused_until: Cell::new(Tick(0)),
            timer: RefCell::default(),
            driver: RefCell::default(),
        })
    }

    /// Ready from `at` on.
    pub(super) fn until(self: &Rc<Naps>, at: Tick) -> Nap {
        let number = self.next.replace(self.next.get() + 1);
        Nap { at, number, naps: Rc::clone(self) }
    }

    /// Wakes those whose time has come, a slice of them at most: the driver's first act.
    pub(super) fn fire(&self) {
        let now = self.clock.now();
        if now < self.paused_until.get() {
            return;
        }
        for _ in 0..NAPS_PER_SLICE {
            // A waker may own the last of a task, whose naps end with it: not while the queue is
            // held.
            let Some(waker) = self.take_due(now) else { return };
            waker.wake();
        }
        self.paused_until.set(now.plus_ms(NAPS_PAUSE_MS));
    }

    /// Wakes the driver at the first nap's end, at `at` the latest: its last act before it sleeps.
    pub(super) fn arm(&self, cx: &mut Context<'_>, at: Tick) {
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        let first = self.waiting.borrow().first_key_value().map(|(key, _)| key.0);
        let at = first.map_or(at, |first| first.max(self.paused_until.get()).min(at));
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "naps end in real time")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn naps_end_in_slices_and_those_that_are_dropped_do_not() {
        let clock = Clock::new();
        let naps = Naps::new(clock);
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let at = clock.now().plus_ms(5);
        let mut all: Vec<Nap> = (0..2 * NAPS_PER_SLICE).map(|_| naps.until(at)).collect();
        all.push(naps.until(at.plus_ms(3_600_000)));
        for nap in &mut all {
            // Polled again, as connections are, it still waits in one place.
            assert!(Pin::new(&mut *nap).poll(&mut cx).is_pending());
            assert!(Pin::new(nap).poll(&mut cx).is_pending());
        }
        naps.fire();
        assert_eq!(woken(), 0, "before its time");
        drop(all.remove(0));
        std::thread::sleep(Duration::from_millis(6));
        naps.fire();
        assert_eq!(woken(), NAPS_PER_SLICE);
        std::thread::sleep(Duration::from_millis(NAPS_PAUSE_MS + 1));
        naps.fire();
        assert_eq!(woken(), 2 * NAPS_PER_SLICE - 1, "one was dropped, one is not due");
        assert!(Pin::new(&mut all[0]).poll(&mut cx).is_ready());
        assert_eq!(naps.waiting.borrow().len(), 1);
    }
}
