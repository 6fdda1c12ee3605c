//! watch — the hub of one core: its watch streams and what they still have to see.
//! Step 6 of a write. In: requests, batches up to V, stretches. Out: messages, catch-up asks.
//! Owns: watchers, their place in history, the bytes queued on each stream.
//! Invariants: (1) a watcher sees each of its events once, in order, a revision never split but
//!             by fragments; (2) no header is ahead of what was matched; (3) progress is never
//!             ahead of events; (4) who reads slowly delays itself only.
//! Limits: WATCH_*, WATCHERS_PER_STREAM_MAX, CATCH_UP_*.
//! Must not: read a clock; wait; copy an event per watcher; keep a queue per watcher.
//! Tests: in each file, tests/rules.rs (the contract), tests/model.rs (a replay of history).

mod behind;
mod event;
mod hub;
mod index;
mod live;
mod request;
mod watcher;

#[cfg(test)]
mod tests;

use crate::base::Revision;
use crate::base::limits;
use crate::base::metrics::{Counter, Gauge};
use crate::base::range::KeyRange;
use crate::wire::call::{CallId, WatchMessage};

pub use hub::Hub;

/// What a hub is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Shards that answer a catch-up ask.
    pub shards: u16,
    /// Time between automatic progress messages.
    pub progress_interval_ms: u64,
    /// A revision of this size goes in pieces to a watcher that asked for fragments.
    pub fragment_bytes: usize,
    /// Bytes queued on a stream above which its watchers lag.
    pub stream_bytes: usize,
    /// Events times watchers that are matched, and as many that are replayed, per
    /// [`Hub::advance`].
    pub slice: usize,
}

impl Settings {
    /// The limits of the process, for `shards` shards and the flags' values.
    #[must_use]
    pub fn new(shards: u16, progress_interval_ms: u64, fragment_bytes: usize) -> Settings {
        Settings {
            shards,
            progress_interval_ms,
            fragment_bytes,
            stream_bytes: limits::WATCH_STREAM_BYTES_MAX,
            slice: limits::WATCH_SLICE,
        }
    }
}

/// What a hub has to say; the caller owns it and empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages, in the order in which each stream is to see them.
    pub messages: Vec<(CallId, WatchMessage)>,
    /// Questions, each for every shard.
    pub asks: Vec<CatchUpAsk>,
}

/// Names a catch-up ask of one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// A question for every shard: what changed in `range` in the stretch `(after, upto]`? The shard
/// answers with a [`Stretch`](crate::base::change::Stretch), or with [`Compacted`] if it has
/// forgotten changes of `after + 1` or later. Every shard has applied `upto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpAsk {
    /// To be named in the answer.
    pub id: AskId,
    /// The keys asked for.
    pub range: KeyRange,
    /// The last revision that the watcher has seen.
    pub after: Revision,
    /// The last revision wanted.
    pub upto: Revision,
    /// Once the changes of a shard take this many bytes it ends its stretch behind the revision
    /// it is at. A stretch reaches beyond `after` in any case.
    pub bytes_max: usize,
}

/// A shard's refusal of a catch-up ask, with its compact revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted(pub Revision);

/// Whether [`Hub::advance`] has more to do without further input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Call it again, after the core's other work.
    Yes,
    /// Nothing is left.
    No,
}

/// Which batches have to wake a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Every batch.
    All,
    /// None; the hub catches up when next asked.
    None,
}

/// What a hub counts, for the core that scrapes it.
#[derive(Debug, Default)]
pub struct WatchMetrics {
    /// Open streams.
    pub streams: Gauge,
    /// Watchers on them.
    pub watchers: Gauge,
    /// Watchers that are behind the hub.
    pub slow: Gauge,
    /// Events sent.
    pub events: Counter,
    /// Events sent and still queued at the frontend.
    pub pending_events: Gauge,
}
