//! Counters and histograms. Each core writes its own; a scrape adds them up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `count`. One core writes it, so a load and a store are enough.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `count`, which may be negative. One core writes it.
    pub fn add(&self, count: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// States the figure.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The figure.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations in `N` buckets whose bounds double: `first`, `2 first`, `4 first`, ...
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    first_ns: u64,
    buckets: [Counter; N],
    above: Counter,
    sum_ns: Counter,
}

impl<const N: usize> Histogram<N> {
    /// A histogram whose first bucket ends at `first_ns` nanoseconds.
    #[must_use]
    pub fn new(first_ns: u64) -> Histogram<N> {
        Histogram {
            first_ns,
            buckets: std::array::from_fn(|_| Counter::default()),
            above: Counter::default(),
            sum_ns: Counter::default(),
        }
    }

    /// Counts one duration.
    pub fn observe_ns(&self, ns: u64) {
        self.observe_many_ns(ns, 1);
    }

    /// Counts `count` equal durations.
    pub fn observe_many_ns(&self, ns: u64, count: u64) {
        let quotient = ns.div_ceil(self.first_ns.max(1)).max(1);
        let index = (64 - (quotient - 1).leading_zeros()) as usize;
        self.buckets.get(index).unwrap_or(&self.above).add(count);
        self.sum_ns.add(ns.wrapping_mul(count));
    }

    /// Upper bound in nanoseconds and count of each bucket, not cumulative.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let first_ns = self.first_ns;
        self.buckets.iter().enumerate().map(move |(index, count)| {
            let bound_ns = (first_ns as f64) * 2f64.powi(i32::try_from(index).unwrap_or(i32::MAX));
            (bound_ns, count.value())
        })
    }

    /// Observations above the last bound.
    #[must_use]
    pub fn above(&self) -> u64 {
        self.above.value()
    }

    /// Sum of all observations in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::<4>::new(1_000_000);
        for ns in [1, 1_000_000, 1_000_001, 2_000_000, 8_000_000, 8_000_001] {
            histogram.observe_ns(ns);
        }
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2, 0, 1]);
        assert_eq!(histogram.above(), 1);
        let sum_ns = histogram.sum_ns();
        histogram.observe_many_ns(2_000_000, 3);
        assert_eq!(histogram.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [2, 5, 0, 1]);
        assert_eq!(histogram.sum_ns() - sum_ns, 6_000_000);
    }
}
