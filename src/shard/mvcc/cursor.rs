//! A place in a range at a fixed state, good across any change of the store.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::source::{AsOf, Source, Stop, Walk};
use crate::base::range::KeyRange;
use crate::base::record::Record;

/// What one step may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Keys to look at, live or not.
    pub keys: usize,
    /// Encoded bytes to take; the record that passes it is still taken.
    pub bytes: usize,
}

impl Budget {
    /// No bound: for callers that bound the work otherwise.
    pub const UNBOUNDED: Budget = Budget { keys: usize::MAX, bytes: usize::MAX };
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The range is read to its end.
    Ended,
    /// The budget is used up.
    Paused,
    /// The taker refused a record; the next step begins with it.
    Full,
}

/// Reads the live versions of a range in key order, a step at a time.
#[derive(Clone, Debug)]
pub struct RangeCursor {
    range: KeyRange,
    as_of: AsOf,
    after: Option<Bytes>,
}

impl RangeCursor {
    /// A cursor at the start of `range`.
    #[must_use]
    pub fn new(range: KeyRange, as_of: AsOf) -> RangeCursor {
        RangeCursor { range, as_of, after: None }
    }

    /// Goes on behind `key`.
    #[must_use]
    pub fn after(mut self, key: Bytes) -> RangeCursor {
        self.after = Some(key);
        self
    }

    /// Hands records to `take` until the range or the budget ends, or `take` refuses one.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; the next step goes on where this one came to.
    pub fn step(
        &mut self,
        source: &dyn Source,
        budget: Budget,
        mut take: impl FnMut(&Arc<Record>) -> ControlFlow<()>,
    ) -> Result<Step, Stop> {
        let Budget { keys: mut keys_left, bytes: mut bytes_left } = budget;
        // The last key that is done with, while the walk goes on; `None` before the first.
        let mut reached: Option<Vec<u8>> = None;
        let mut is_full = false;
        let mut visit = |key: &[u8], live: Option<&Arc<Record>>| {
            if let Some(record) = live {
                if take(record).is_break() {
                    is_full = true;
                    return ControlFlow::Break(());
                }
                bytes_left = bytes_left.saturating_sub(record.kv().len());
            }
            keys_left = keys_left.saturating_sub(1);
            let reached = reached.get_or_insert_default();
            reached.clear();
            reached.extend_from_slice(key);
            match keys_left == 0 || bytes_left == 0 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let walk = source.walk(&self.range, self.after.as_deref(), self.as_of, &mut visit);
        if let Some(reached) = reached {
            self.after = Some(Bytes::from(reached));
        }
        Ok(match walk? {
            Walk::Ended => Step::Ended,
            Walk::Broken if is_full => Step::Full,
            Walk::Broken => Step::Paused,
        })
    }
}
