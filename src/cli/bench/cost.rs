//! What a process costs: samples of it, taken once a second, become the cost of the window.

use crate::base::Tick;
use crate::runtime::procfs::Sample;

use super::result::{CostPoint, ServerCost};

/// The metric by which etcd and Ringbolt tell how often they synced their log.
const SYNCS: &str = "etcd_disk_wal_fsync_duration_seconds_count";

/// Follows one server from the opening of the window to its end.
#[derive(Debug)]
pub struct CostMeter {
    cost: ServerCost,
    opened: Option<Tick>,
    last: Option<(Tick, Sample)>,
    syncs_before: Option<u64>,
}

impl CostMeter {
    /// A meter of the server at `endpoint`, whose process is `pid` if it can be looked at.
    #[must_use]
    pub fn new(endpoint: &str, pid: Option<u32>) -> CostMeter {
        let cost = ServerCost { endpoint: endpoint.to_owned(), pid, ..ServerCost::default() };
        CostMeter { cost, opened: None, last: None, syncs_before: None }
    }

    /// Which server.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.cost.endpoint
    }

    /// The process to sample.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.cost.pid
    }

    /// Another process serves there now.
    pub fn follow(&mut self, pid: u32) {
        self.cost.pid = Some(pid);
    }

    /// There was no process to sample.
    pub fn missed(&mut self) {
        self.cost.missed_samples += 1;
    }

    /// A sample. The first opens the window, the last closes it.
    pub fn sample(&mut self, at: Tick, sample: Sample) {
        let opened = *self.opened.get_or_insert(at);
        let cost = &mut self.cost;
        cost.rss_peak_bytes = cost.rss_peak_bytes.max(sample.rss_bytes);
        cost.threads = cost.threads.max(sample.threads);
        if let Some((before, last)) = self.last {
            let is_same = sample.start_ticks == last.start_ticks;
            cost.restarted |= !is_same;
            // A process that took another's place began from nothing.
            let since = |now: u64, then: u64| if is_same { now.saturating_sub(then) } else { now };
            let bytes = |now: Option<u64>, then: Option<u64>| {
                Some(since(now?, then.filter(|_| is_same).unwrap_or(0)))
            };
            let read = bytes(sample.read_bytes, last.read_bytes);
            let written = bytes(sample.written_bytes, last.written_bytes);
            let cpu_us = since(sample.cpu_ns, last.cpu_ns) / 1000;
            cost.cpu_us += cpu_us;
            cost.read_bytes = read.map(|bytes| cost.read_bytes.unwrap_or(0) + bytes);
            cost.written_bytes = written.map(|bytes| cost.written_bytes.unwrap_or(0) + bytes);
            cost.points.push(CostPoint {
                at_ms: before.since(opened) / 1_000_000,
                length_ms: at.since(before) / 1_000_000,
                cpu_us,
                rss_bytes: sample.rss_bytes,
                read_bytes: read.unwrap_or(0),
                written_bytes: written.unwrap_or(0),
            });
        }
        self.last = Some((at, sample));
    }

    /// The server's /metrics when the window opened.
    pub fn metrics_before(&mut self, text: &str) {
        self.syncs_before = syncs(text);
    }

    /// The server's /metrics when the window closed.
    pub fn metrics_after(&mut self, text: &str) {
        let pair = self.syncs_before.zip(syncs(text));
        // A count that went back is of another process.
        self.cost.syncs = pair.and_then(|(before, after)| after.checked_sub(before));
    }

    /// The cost of the window.
    #[must_use]
    pub fn finish(self) -> ServerCost {
        self.cost
    }
}

/// Syncs of the log since the server's start, by its metrics.
fn syncs(metrics: &str) -> Option<u64> {
    let value = metric(metrics, SYNCS)?;
    // A count in a float; the range makes the conversion exact enough.
    (0.0..9e15).contains(&value).then_some(value as u64)
}

/// The sum of a metric over its labels in Prometheus' text format; `None` if it is not there.
fn metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            // A label's value may hold a brace in quotes; the last one closes.
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix([' ', '\t'])?,
        };
        // A time stamp may follow.
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_ms: u64, rss: u64, written: u64, start: u64) -> Sample {
        Sample {
            cpu_ns: cpu_ms * 1_000_000,
            rss_bytes: rss,
            read_bytes: None,
            written_bytes: Some(written),
            threads: 4,
            start_ticks: start,
        }
    }

    #[test]
    fn samples_become_a_cost() {
        let mut meter = CostMeter::new("a:1", Some(7));
        let at = |ms: u64| Tick(1).plus_ms(ms);
        meter.sample(at(500), sample(10_000, 50, 1000, 3));
        meter.sample(at(1500), sample(10_900, 90, 5000, 3));
        meter.sample(at(2500), sample(11_000, 70, 5000, 3));
        let cost = meter.finish();
        assert_eq!((cost.cpu_us, cost.rss_peak_bytes, cost.threads), (1_000_000, 90, 4));
        assert_eq!((cost.read_bytes, cost.written_bytes), (None, Some(4000)));
        assert!(!cost.restarted);
        let shape: Vec<_> =
            cost.points.iter().map(|p| (p.at_ms, p.length_ms, p.cpu_us, p.rss_bytes)).collect();
        assert_eq!(shape, [(0, 1000, 900_000, 90), (1000, 1000, 100_000, 70)]);
    }

    #[test]
    fn a_restart_is_noticed_and_counts_from_nothing() {
        let mut meter = CostMeter::new("a:1", Some(7));
        meter.sample(Tick(1), sample(10_000, 50, 9000, 3));
        meter.sample(Tick(1).plus_ms(1000), sample(200, 50, 30, 4));
        let cost = meter.finish();
        assert!(cost.restarted);
        assert_eq!((cost.cpu_us, cost.written_bytes), (200_000, Some(30)));
    }

    #[test]
    fn a_server_that_was_gone_is_followed_to_its_next_process() {
        let mut meter = CostMeter::new("a:1", Some(7));
        meter.sample(Tick(1), sample(10_000, 50, 9000, 3));
        meter.missed();
        meter.follow(8);
        meter.sample(Tick(1).plus_ms(2000), sample(200, 50, 30, 4));
        let cost = meter.finish();
        assert_eq!((cost.pid, cost.missed_samples, cost.restarted), (Some(8), 1, true));
        assert_eq!(cost.cpu_us, 200_000);
    }

    #[test]
    fn syncs_are_the_difference_of_two_scrapes() {
        let text = |count: &str| {
            format!(
                "# HELP {SYNCS} of the log\n{SYNCS}_other 99\n\
                 etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"0.001\"}} 7\n{SYNCS} {count}\n"
            )
        };
        let cases = [
            ("10", "35", Some(25)),
            ("1e+06", "1.00001e+06", Some(10)),
            ("35", "10", None),
            ("NaN", "10", None),
            ("-4", "10", None),
            ("10", "many", None),
        ];
        for (before, after, expect) in cases {
            let mut meter = CostMeter::new("a:1", None);
            meter.metrics_before(&text(before));
            meter.metrics_after(&text(after));
            assert_eq!(meter.finish().syncs, expect, "{before} {after}");
        }
    }

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "a{x=\"}\"} 1\na{x=\"2\"} 2 1700000000\nab 9\na 4\na{broken 3\n";
        assert_eq!(metric(text, "a"), Some(7.0));
        assert_eq!(metric(text, "b"), None);
    }
}
