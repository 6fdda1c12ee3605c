//! What one run found. These types are the document too: a field's name here is its name in JSON,
//! and a file written by an earlier version is read by a later one. Times end in `_ns`, `_us` or
//! `_ms`; counts are of the measured window, from the end of the warm-up on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latencies::{Latencies, Packed};

/// One run of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// What the user calls this run, such as the server's name.
    pub label: String,
    /// What was asked, as `host:port` or a URL.
    pub endpoints: Vec<String>,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// When the run began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// How long it ran before anything counted.
    pub warmup_seconds: f64,
    /// How long it counted. The drain behind it is not part of it.
    pub measured_seconds: f64,
    /// What the scenario was set to.
    pub parameters: Vec<Parameter>,
    /// One for each kind of operation.
    pub series: Vec<Series>,
    /// Figures that the scenario adds.
    pub figures: Vec<Figure>,
    /// What each server process cost.
    pub servers: Vec<ServerCost>,
    /// What the generator cost, and how late it was.
    pub generator: GeneratorCost,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

/// A setting of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name, as the flag is called.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

/// A figure that only this scenario has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what, such as "MB/s".
    pub unit: String,
}

/// What happened to one kind of operation. Of those due in the window, each was started or not;
/// each started one is done, failed, or unfinished when the run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// What it is, such as "put".
    pub name: String,
    /// From when an operation was due to its end. Failed ones are counted, not timed.
    pub latency: Latencies,
    /// From when it was sent to its end: what a generator that waits for answers would have seen.
    pub service: Latencies,
    /// Due in the window.
    pub intended: u64,
    /// Of these, sent.
    pub started: u64,
    /// Of these, answered well, within the window or in the drain behind it.
    pub done: u64,
    /// Answered well within the window, whenever they were due: the rate comes from these.
    pub in_window: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Failed ones by the text of the error.
    pub errors: BTreeMap<String, u64>,
    /// These are no operations of their own, but events seen or operations counted elsewhere: no
    /// cost is divided by them.
    pub is_derived: bool,
    /// The same over time.
    pub points: Vec<Point>,
}

/// One interval of a series, about a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// When it began, since the window opened. Points behind the window are of the drain.
    pub at_ms: u64,
    /// How long it was.
    pub length_ms: u64,
    /// Answered well in it.
    pub done: u64,
    /// Failed in it.
    pub errors: u64,
    /// Median latency of those that ended in it and were due in the window.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// All of them.
    pub histogram: Packed,
}

/// What one server process cost over the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerCost {
    /// Which one.
    pub endpoint: String,
    /// Its process, if it runs on this machine and may be looked at.
    pub pid: Option<u32>,
    /// CPU time, user and system, of all its threads.
    pub cpu_us: u64,
    /// Most resident memory that a sample saw.
    pub rss_peak_bytes: u64,
    /// What it made the devices read, if the kernel tells.
    pub read_bytes: Option<u64>,
    /// What it made the devices write, if the kernel tells.
    pub written_bytes: Option<u64>,
    /// Syncs of its log by its own count, if it tells.
    pub syncs: Option<u64>,
    /// Most threads that a sample saw.
    pub threads: u32,
    /// Whether another process took its place during the run.
    pub restarted: bool,
    /// Samples that found no process.
    pub missed_samples: u32,
    /// The same over time.
    pub points: Vec<CostPoint>,
}

/// One interval of a server's cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostPoint {
    /// When it began, since the window opened.
    pub at_ms: u64,
    /// How long it was.
    pub length_ms: u64,
    /// CPU time in it.
    pub cpu_us: u64,
    /// Resident memory at its end.
    pub rss_bytes: u64,
    /// Read from devices in it.
    pub read_bytes: u64,
    /// Written to devices in it.
    pub written_bytes: u64,
}

/// What the generator itself cost over the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GeneratorCost {
    /// CPU time of all its threads.
    pub cpu_us: u64,
    /// Its threads that send.
    pub threads: u32,
    /// From when a request was due to when the generator turned to it: its own lateness, without
    /// waiting for a free place.
    pub lag: Latencies,
}

impl Series {
    /// Operations that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        sum(self.errors.values().copied())
    }

    /// Operations that were due in the window and had no end when the run had one.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.intended.saturating_sub(self.done).saturating_sub(self.failed())
    }
}

impl Run {
    /// Operations of all series that were answered well within the window: what costs are
    /// divided by.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let operations = self.series.iter().filter(|series| !series.is_derived);
        sum(operations.map(|series| series.in_window))
    }

    /// `count` in the window as a rate per second.
    #[must_use]
    pub fn per_second(&self, count: u64) -> f64 {
        if self.measured_seconds > 0.0 { count as f64 / self.measured_seconds } else { 0.0 }
    }

    /// `amount` for each operation, if there was one.
    #[must_use]
    pub fn per_operation(&self, amount: u64) -> Option<f64> {
        let operations = self.operations();
        (operations > 0).then(|| amount as f64 / operations as f64)
    }

    /// CPU time of all servers that could be looked at.
    #[must_use]
    pub fn server_cpu_us(&self) -> Option<u64> {
        let seen = self.servers.iter().filter(|server| server.pid.is_some());
        seen.map(|server| server.cpu_us).reduce(u64::saturating_add)
    }
}

/// Figures may come from a file and be any: a sum of them does not wrap.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_happened() {
        let mut series = Series { intended: 10, started: 9, done: 6, ..Series::default() };
        series.errors.insert("too many requests".to_owned(), 2);
        assert_eq!((series.failed(), series.unfinished()), (2, 2));
        series.in_window = 5;
        let mut run = Run { measured_seconds: 2.0, ..Run::default() };
        assert_eq!((run.per_operation(7), run.server_cpu_us()), (None, None));
        run.series = vec![series];
        assert_eq!((run.per_second(5), run.per_operation(20)), (2.5, Some(4.0)));
        let seen = ServerCost { pid: Some(1), cpu_us: 7, ..ServerCost::default() };
        run.servers = vec![seen.clone(), ServerCost::default(), seen];
        assert_eq!(run.server_cpu_us(), Some(14));
        run.series.push(Series { in_window: 9, is_derived: true, ..Series::default() });
        assert_eq!(run.operations(), 5, "events are no operations");
    }

    #[test]
    fn what_an_older_file_lacks_is_empty() {
        let run: Run = serde_json::from_str("{\"scenario\":\"put\"}").expect("a run");
        assert_eq!(run, Run { scenario: "put".to_owned(), ..Run::default() });
    }
}
