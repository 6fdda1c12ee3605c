//! Virtual time: it stands still while anything happens, then jumps to what happens next.

use std::collections::BTreeMap;

use crate::base::Tick;

/// What is to happen, by time; what is set for the same moment happens in the order it was set.
#[derive(Debug)]
pub struct Clock<E> {
    now: Tick,
    set: u64,
    events: BTreeMap<(Tick, u64), E>,
}

impl<E> Clock<E> {
    /// A clock at `now` with nothing to come.
    #[must_use]
    pub fn new(now: Tick) -> Clock<E> {
        Clock { now, set: 0, events: BTreeMap::new() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.now
    }

    /// Sets an event for a time, or for now if that has passed.
    pub fn at(&mut self, at: Tick, event: E) {
        self.set += 1;
        self.events.insert((at.max(self.now), self.set), event);
    }

    /// Sets an event for a time from now.
    pub fn after_ns(&mut self, ns: u64, event: E) {
        self.at(Tick(self.now.0.saturating_add(ns)), event);
    }

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Tick> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Goes to the next event.
    pub fn advance(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// Drops what was to come.
    pub fn clear(&mut self) {
        self.events.clear();
    }
}
