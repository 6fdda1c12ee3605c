//! When operations are due. A schedule does not look at what the server does.

use crate::base::Tick;
use crate::base::prng::Prng;

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// The same time between any two.
    Constant,
    /// Independent of each other, as those of many clients are.
    Poisson,
}

/// One thread's share of an open loop.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    spacing_ns: f64,
    offset_ns: f64,
    start: Tick,
    count: u64,
    elapsed_ns: f64,
    prng: Prng,
    next: Tick,
}

/// Which of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// This one, from 0.
    pub worker: usize,
    /// All of them.
    pub workers: usize,
}

impl Share {
    /// This thread's part of a number.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        let workers = self.workers as u64;
        total / workers + u64::from((self.worker as u64) < total % workers)
    }

    /// Whether this thread does what is done once.
    #[must_use]
    pub fn is_first(self) -> bool {
        self.worker == 0
    }
}

impl Schedule {
    /// A share of `rate` per second over all threads. The rate is above 0.
    #[must_use]
    pub fn new(rate: f64, arrivals: Arrivals, seed: u64, share: Share) -> Schedule {
        let apart_ns = 1e9 / rate;
        let mut schedule = Schedule {
            arrivals,
            spacing_ns: apart_ns * share.workers as f64,
            // The threads take turns.
            offset_ns: apart_ns * share.worker as f64,
            start: Tick(0),
            count: 0,
            elapsed_ns: 0.0,
            prng: Prng::new(seed.wrapping_add(share.worker as u64)),
            next: Tick(0),
        };
        schedule.start_at(Tick(0));
        schedule
    }

    /// The first arrival is due from `start` on.
    pub fn start_at(&mut self, start: Tick) {
        self.start = start;
        self.count = 0;
        self.elapsed_ns = 0.0;
        self.advance();
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Tick {
        self.next
    }

    /// Takes the next arrival.
    pub fn take(&mut self) -> Tick {
        let due = self.next;
        self.advance();
        due
    }

    fn advance(&mut self) {
        let since_ns = match self.arrivals {
            // By multiplication: a sum would drift.
            Arrivals::Constant => self.offset_ns + self.count as f64 * self.spacing_ns,
            Arrivals::Poisson => {
                // In (0, 1], so that the logarithm is finite.
                let unit = ((self.prng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                self.elapsed_ns -= unit.ln() * self.spacing_ns;
                self.elapsed_ns
            }
        };
        self.count += 1;
        self.next = Tick(self.start.0.saturating_add(since_ns as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(worker: usize, workers: usize) -> Share {
        Share { worker, workers }
    }

    #[test]
    fn constant_arrivals_of_all_threads_are_evenly_spaced() {
        let mut all = Vec::new();
        for worker in 0..3 {
            let mut schedule = Schedule::new(1_000.0, Arrivals::Constant, 1, share(worker, 3));
            schedule.start_at(Tick(5_000_000));
            all.extend((0..100).map(|_| schedule.take().0));
        }
        all.sort_unstable();
        let expect: Vec<u64> = (0..300).map(|at| 5_000_000 + at * 1_000_000).collect();
        assert_eq!(all, expect);
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let mut schedule = Schedule::new(30_000.0, Arrivals::Constant, 1, share(0, 1));
        let last = (0..30_000 * 60).map(|_| schedule.take()).last();
        let ns = last.map(|tick| tick.0).expect("many");
        assert!(ns.abs_diff(60_000_000_000) < 40_000, "{ns}");
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let mut schedule = Schedule::new(1_000.0, Arrivals::Poisson, 7, share(0, 1));
        let mut counts = [0_u32; 100];
        while schedule.next() < Tick(100_000_000_000) {
            counts[(schedule.take().0 / 1_000_000_000) as usize] += 1;
        }
        let mean = f64::from(counts.iter().sum::<u32>()) / 100.0;
        let square = |count: &u32| (f64::from(*count) - mean).powi(2);
        let variance = counts.iter().map(square).sum::<f64>() / 100.0;
        assert!((mean - 1_000.0).abs() < 15.0, "{mean}");
        assert!((600.0..1_500.0).contains(&variance), "as large as the mean: {variance}");
        let again = Schedule::new(1_000.0, Arrivals::Poisson, 7, share(0, 1));
        let other = Schedule::new(1_000.0, Arrivals::Poisson, 8, share(0, 1));
        let first = Schedule::new(1_000.0, Arrivals::Poisson, 7, share(0, 1)).next();
        assert!(again.next() == first && other.next() != first, "the seed decides");
    }

    #[test]
    fn shares_add_up() {
        for workers in 1..5 {
            let sum: u64 = (0..workers).map(|worker| share(worker, workers).of(1_003)).sum();
            assert_eq!(sum, 1_003);
        }
    }
}
