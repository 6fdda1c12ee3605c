//! Decides when and where to compact without being asked.

use std::collections::VecDeque;

use crate::base::{Revision, Tick};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Samples per compaction interval.
const SAMPLES: u64 = 10;
/// Time between two looks at the revision, when a number of revisions is kept.
const REVISION_CHECK_MS: u64 = 5 * MINUTE_MS;
const RETRY_AFTER_ERROR_MS: u64 = 5 * MINUTE_MS;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    Off,
    /// The history of this long, in milliseconds.
    Periodic(u64),
    /// This many revisions.
    Revisions(i64),
}

/// Samples the revision and says where to compact.
#[derive(Debug)]
pub struct Compactor {
    mode: Mode,
    /// Revisions seen, one per sampling interval, oldest first.
    samples: VecDeque<Revision>,
    next: Option<Tick>,
    last: Revision,
}

impl Compactor {
    /// Nothing sampled yet.
    #[must_use]
    pub fn new(mode: Mode) -> Compactor {
        Compactor { mode, samples: VecDeque::new(), next: None, last: Revision(0) }
    }

    /// When to call again; `None` if never.
    #[must_use]
    pub fn wake_at(&self) -> Option<Tick> {
        match self.mode {
            Mode::Off => None,
            _ => Some(self.next.unwrap_or(Tick(0))),
        }
    }

    /// Looks at the store's revision. The revision to compact at, if one is due.
    pub fn tick(&mut self, now: Tick, current: Revision) -> Option<Revision> {
        if self.wake_at()? > now {
            return None;
        }
        let target = match self.mode {
            Mode::Off => return None,
            Mode::Periodic(retention_ms) => self.sample(now, current, retention_ms),
            Mode::Revisions(kept) => {
                self.next = Some(now.plus_ms(REVISION_CHECK_MS));
                Some(Revision(current.0 - kept))
            }
        };
        let target = target.filter(|target| *target > self.last && target.0 > 0)?;
        self.last = target;
        Some(target)
    }

    /// The compaction did not come about: another try is due later.
    pub fn failed(&mut self, now: Tick) {
        self.next = self.next.map(|next| next.min(now.plus_ms(RETRY_AFTER_ERROR_MS)));
    }

    /// One sample per tenth of the interval; once a retention's worth is there, the oldest one
    /// falls due every interval.
    fn sample(&mut self, now: Tick, current: Revision, retention_ms: u64) -> Option<Revision> {
        let interval_ms = retention_ms.min(HOUR_MS);
        let sampling_ms = (interval_ms / SAMPLES).max(1);
        self.next = Some(now.plus_ms(sampling_ms));
        self.samples.push_back(current);
        let kept = usize::try_from(retention_ms / sampling_ms).unwrap_or(usize::MAX);
        if self.samples.len() <= kept {
            return None;
        }
        let target = self.samples.front().copied();
        // The next compaction is due an interval later.
        let per_interval = usize::try_from(SAMPLES).unwrap_or(1);
        let drop = self.samples.len().min(per_interval);
        self.samples.drain(..drop);
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compactions(mode: Mode, hours: u64) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(mode);
        let mut out = Vec::new();
        // One revision a second.
        for minute in 0..hours * 60 {
            let now = Tick(1).plus_ms(minute * MINUTE_MS);
            let current = Revision(i64::try_from(minute * 60).expect("small"));
            if let Some(target) = compactor.tick(now, current) {
                out.push((minute, target.0 / 60));
            }
        }
        out
    }

    #[test]
    fn a_period_keeps_that_much_history() {
        let one_hour = compactions(Mode::Periodic(HOUR_MS), 4);
        // The first hour fills the history, and the last one's end is not reached.
        assert_eq!(one_hour, [(120, 60), (180, 120)]);
        for (minute, target) in
            one_hour.into_iter().chain(compactions(Mode::Periodic(3 * HOUR_MS), 9))
        {
            assert!(i64::try_from(minute).expect("small") - target >= 60, "{minute} {target}");
        }
        for (minute, target) in compactions(Mode::Periodic(3 * HOUR_MS), 9) {
            assert!(i64::try_from(minute).expect("small") - target >= 180, "{minute} {target}");
        }
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        for (minute, target) in compactions(Mode::Revisions(600), 2) {
            assert_eq!(minute % 5, 0);
            assert_eq!(target, i64::try_from(minute).expect("small") - 10);
        }
        assert!(compactions(Mode::Off, 5).is_empty());
    }
}
