//! Who has something to do on a connection: one waker per stream slot, one for the connection
//! itself, all leading to one wake-up of the connection's task. A wake-up then polls only what
//! asked for it, never ten thousand streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// What asked to be polled on one connection.
#[derive(Debug, Default)]
pub struct Wakes {
    /// The task is running and will look by itself before it sleeps.
    running: AtomicBool,
    /// The connection as a whole has something to do.
    connection: AtomicBool,
    streams: Mutex<Vec<usize>>,
    task: Mutex<Option<Waker>>,
}

impl Wakes {
    /// The connection has something to do: an inbox was filled, the pipe is ready.
    pub fn signal(&self) {
        self.connection.store(true, Ordering::Release);
        self.wake_task();
    }

    /// The task starts to run under `waker`. True if that is not the waker of its last run.
    pub(super) fn begin(&self, waker: &Waker) -> bool {
        self.running.store(true, Ordering::Release);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !task.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_new {
            *task = Some(waker.clone());
        }
        is_new
    }

    /// The task is about to sleep. If something came meanwhile it is woken again.
    pub(super) fn end(&self) {
        self.running.store(false, Ordering::Release);
        if self.is_wanted() {
            self.wake_task();
        }
    }

    /// Whether anything asked to be polled.
    pub(super) fn is_wanted(&self) -> bool {
        self.connection.load(Ordering::Acquire)
            || !self.streams.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the connection's own mark.
    pub(super) fn take_connection(&self) -> bool {
        self.connection.swap(false, Ordering::AcqRel)
    }

    /// Exchanges the slots that asked for `empty`.
    pub(super) fn take_streams(&self, empty: &mut Vec<usize>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *streams, empty);
    }

    fn wake_task(&self) {
        if self.running.load(Ordering::Acquire) {
            return;
        }
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The waker of the connection as a whole, for h2 and the pipe.
pub(super) fn connection_waker(wakes: &Arc<Wakes>) -> Waker {
    struct Connection(Arc<Wakes>);
    impl Wake for Connection {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.signal();
        }
    }
    Waker::from(Arc::new(Connection(Arc::clone(wakes))))
}

/// The waker of one stream slot. It outlives the slot's streams; one wake too many is harmless.
#[derive(Debug)]
pub(super) struct SlotWake {
    wakes: Arc<Wakes>,
    slot: usize,
    queued: AtomicBool,
}

impl SlotWake {
    pub(super) fn new(wakes: &Arc<Wakes>, slot: usize) -> Arc<SlotWake> {
        Arc::new(SlotWake { wakes: Arc::clone(wakes), slot, queued: AtomicBool::new(false) })
    }

    /// The slot is about to be polled: from here on a wake counts again.
    pub(super) fn clear(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for SlotWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let streams = &self.wakes.streams;
            streams.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
            self.wakes.wake_task();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_slot_is_listed_once_and_the_task_woken_only_when_it_sleeps() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let woken = || count.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&count));
        let wakes = Arc::new(Wakes::default());
        let slot = SlotWake::new(&wakes, 7);
        let waker = Waker::from(Arc::clone(&slot));

        wakes.begin(&task);
        waker.wake_by_ref();
        waker.wake_by_ref();
        connection_waker(&wakes).wake();
        assert_eq!(woken(), 0, "the task runs and will look");
        let mut ready = Vec::new();
        wakes.take_streams(&mut ready);
        assert_eq!(ready, [7]);
        assert!(wakes.take_connection());
        slot.clear();
        wakes.end();
        assert_eq!(woken(), 0);

        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        wakes.begin(&task);
        wakes.end();
        assert_eq!(woken(), 2, "what was not looked at wakes again");
    }
}
