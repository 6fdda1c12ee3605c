//! The one clock of the process: monotonic, from its start.

use std::time::Instant;

use crate::base::Tick;

/// Monotonic time since the process began. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(self) -> Tick {
        // 584 years fit; tick 0 is never `now`, so that it can mean "at once".
        Tick(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1))
    }
}
