//! What the threads of a run and their coordinator tell each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use crate::base::Tick;

/// The phase that is on, written by the coordinator.
#[derive(Debug)]
pub struct Stage {
    /// How many phases have begun.
    begun: AtomicUsize,
    start: AtomicU64,
    end: AtomicU64,
}

/// What a thread says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// All of its connections are made.
    Connected,
    /// Its part of the phase is over.
    Finished,
    /// The run cannot go on, and why.
    Fatal(String),
    /// A line for the user.
    Note(String),
}

/// Where threads say it.
pub type Tell = Sender<Said>;

impl Default for Stage {
    fn default() -> Stage {
        let never = || AtomicU64::new(u64::MAX);
        Stage { begun: AtomicUsize::new(0), start: never(), end: never() }
    }
}

impl Stage {
    /// Begins the next phase. Its operations are due from `start` to `end`.
    pub fn begin(&self, start: Tick, end: Tick) {
        self.start.store(start.0, Ordering::Relaxed);
        self.end.store(end.0, Ordering::Relaxed);
        // Whoever sees the number sees the times of that phase.
        self.begun.fetch_add(1, Ordering::Release);
    }

    /// No phase follows.
    pub fn leave(&self) {
        self.begun.store(usize::MAX, Ordering::Release);
    }

    /// How many phases have begun, and the times of the last one. `usize::MAX`: it is over.
    #[must_use]
    pub fn now(&self) -> (usize, Tick, Tick) {
        let begun = self.begun.load(Ordering::Acquire);
        let times = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        (begun, Tick(times.0), Tick(times.1))
    }
}
