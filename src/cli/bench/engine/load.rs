//! What a scenario is to the engine.

use super::io::{CallId, Io, Op};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Schedule;
use crate::wire::client::Status;

/// A stretch of a run that all threads begin and end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What is shown while it lasts.
    pub name: &'static str,
    /// Whether its operations are what was asked for, rather than preparation.
    pub is_measured: bool,
    /// Ends by the clock, with warm-up and duration. Else when its sources have done their totals.
    pub is_timed: bool,
}

impl Phase {
    /// Preparation.
    #[must_use]
    pub const fn setup(name: &'static str) -> Phase {
        Phase { name, is_measured: false, is_timed: false }
    }
}

/// Where a source's operations come from.
#[derive(Clone, Debug)]
pub enum Pace {
    /// So many at a time; the next one follows an answer.
    Closed(usize),
    /// When they are due.
    Open(Schedule),
}

/// One stream of operations of one thread.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its pace.
    pub pace: Pace,
    /// It ends behind so many.
    pub total: Option<u64>,
    /// Where those are counted that were due and never started.
    pub series: SeriesId,
}

/// One thread's part of a scenario. The engine calls, the load answers with calls on [`Io`].
pub trait Load: Send {
    /// This thread's sources in a phase, in the order of their numbers.
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source>;

    /// One more operation of `source` is due: begin it with one call on `io`. False leaves it due.
    fn start(&mut self, source: usize, op: Op, io: &mut Io) -> bool;

    /// A message of an operation. An error makes the operation a failed one.
    ///
    /// # Errors
    /// What is wrong with the answer.
    fn message(
        &mut self,
        call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str>;

    /// An operation is over and counted.
    fn ended(&mut self, _call: CallId, _op: Op, _status: &Status, _io: &mut Io) {}

    /// A time asked for with [`Io::after`] has come.
    fn timer(&mut self, _token: u64, _io: &mut Io) {}

    /// A connection is there, or there again: streams are to be opened on it.
    fn link_ready(&mut self, _link: usize, _io: &mut Io) {}
}
