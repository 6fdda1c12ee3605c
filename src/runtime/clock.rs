//! The one clock of the process: monotonic, from its start.

use std::time::{Instant, SystemTime};

use crate::base::Tick;

/// Monotonic time since the process began. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
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

    /// Wall time in milliseconds since 1970, for what is shown.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    #[must_use]
    pub fn unix_ms() -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
