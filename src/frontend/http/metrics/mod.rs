//! frontend::http::metrics — the text of a scrape.
//! On no step of a write. In: a sample of all counters. Out: Prometheus' text format.
//! Owns: the names; they are etcd's, so that dashboards and alerts go on working.
//! Invariants: (1) what nobody counts is left out; shown as zero is what was counted so, or cannot
//!             happen in this build; (2) a name stands once.
//! Limits: none; the size follows from the table.
//! Must not: count anything; read a file.
//! Tests: metrics/tests.rs.

mod calls;
mod names;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write};
use std::sync::Arc;

use super::super::meters::Meters;
use super::probe::HealthMeters;
use crate::base::effect::AlarmKind;
use crate::base::metrics::Histogram;

/// Knows what all cores count.
pub trait MetricsSource {
    /// Adds everything up, now.
    fn sample(&self) -> Sample;
}

/// What a scrape shows. What is `None` is left out.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The member's ID.
    pub member_id: u64,
    /// The process's arguments.
    pub command_line: Vec<String>,
    /// Feature gates: name, stage, whether on.
    pub gates: Vec<(&'static str, &'static str, bool)>,
    /// Each core's connections and calls.
    pub meters: Vec<Arc<Meters>>,
    /// The group and its log.
    pub group: GroupSample,
    /// The store.
    pub store: StoreSample,
    /// Compactions.
    pub compaction: CompactionSample,
    /// Watches.
    pub watch: WatchSample,
    /// Leases.
    pub lease: LeaseSample,
    /// The log's disk.
    pub disk: DiskSample,
    /// The process.
    pub process: ProcessSample,
}

/// What a scrape shows of the group.
#[derive(Clone, Debug, Default)]
pub struct GroupSample {
    /// Whether a leader is known.
    pub has_leader: Option<bool>,
    /// Whether this member leads.
    pub is_leader: Option<bool>,
    /// Changes of leader seen.
    pub leader_changes: Option<u64>,
    /// Entries committed.
    pub proposals_committed: Option<u64>,
    /// Entries applied.
    pub proposals_applied: Option<u64>,
    /// Writes under way.
    pub proposals_pending: Option<u64>,
    /// Writes that failed after they were proposed.
    pub proposals_failed: Option<u64>,
    /// Alarms in force.
    pub alarms: Option<Vec<(u64, AlarmKind)>>,
    /// All members.
    pub members: Vec<u64>,
    /// Time from committed to visible, by kind of operation.
    pub applies: Vec<(&'static str, Buckets)>,
    /// Operations for which that took long.
    pub slow_applies: Option<u64>,
}

/// What a scrape shows of the store.
#[derive(Clone, Debug, Default)]
pub struct StoreSample {
    /// The newest revision.
    pub revision: Option<i64>,
    /// The revision compacted at; -1: none.
    pub compact_revision: Option<i64>,
    /// Live keys.
    pub keys: Option<u64>,
    /// Bytes of the page files and of what is in memory alone.
    pub bytes: Option<u64>,
    /// Bytes of these that are in use: what the quota counts.
    pub bytes_in_use: Option<u64>,
    /// Checkpoints that all shards have ended.
    pub checkpoints: Option<u64>,
    /// The quota; 0: none.
    pub quota_bytes: Option<u64>,
    /// Puts applied.
    pub puts: Option<u64>,
    /// Bytes of their keys and values.
    pub put_bytes: Option<u64>,
    /// Deletions applied.
    pub deletes: Option<u64>,
    /// Transactions applied.
    pub txns: Option<u64>,
    /// Ranges read.
    pub ranges: Option<u64>,
    /// Reads under way.
    pub reads: Option<i64>,
    /// Durations of Hash.
    pub hashes: Option<Buckets>,
    /// Durations of HashKV.
    pub kv_hashes: Option<Buckets>,
}

/// What a scrape shows of compactions.
#[derive(Clone, Debug, Default)]
pub struct CompactionSample {
    /// Versions forgotten.
    pub forgotten: Option<u64>,
    /// When the last one ended, in seconds since 1970; 0: there was none.
    pub last_s: Option<u64>,
    /// Their durations in milliseconds.
    pub took_ms: Option<Buckets>,
}

/// What a scrape shows of watches.
#[derive(Clone, Debug, Default)]
pub struct WatchSample {
    /// Open streams.
    pub streams: Option<i64>,
    /// Watchers on them.
    pub watchers: Option<i64>,
    /// Watchers that lag behind.
    pub slow: Option<i64>,
    /// Events sent.
    pub events: Option<u64>,
    /// Events that wait to leave.
    pub pending: Option<i64>,
}

/// What a scrape shows of leases.
#[derive(Clone, Debug, Default)]
pub struct LeaseSample {
    /// Leases granted.
    pub granted: Option<u64>,
    /// Leases ended.
    pub revoked: Option<u64>,
    /// Leases renewed.
    pub renewed: Option<u64>,
    /// Leases that expired.
    pub expired: Option<u64>,
    /// TTLs granted, in seconds.
    pub ttl: Option<Buckets>,
}

/// What a scrape shows of the disk of the log and of the page files.
#[derive(Clone, Debug, Default)]
pub struct DiskSample {
    /// Time until a log write is durable.
    pub wal_sync: Option<Buckets>,
    /// Time until it is written.
    pub wal_write: Option<Buckets>,
    /// Bytes written to the log.
    pub wal_bytes: Option<u64>,
    /// Time of a sync of a page file.
    pub page_sync: Option<Buckets>,
    /// Bytes read from page files.
    pub page_read_bytes: Option<u64>,
    /// Bytes written to page files.
    pub page_written_bytes: Option<u64>,
}

/// What a scrape shows of the process.
#[derive(Clone, Debug, Default)]
pub struct ProcessSample {
    /// CPU time used, in seconds.
    pub cpu_s: Option<f64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Most files that may be open.
    pub open_files_max: Option<u64>,
    /// Memory in use, in bytes.
    pub resident_bytes: Option<u64>,
    /// Addresses in use, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Most addresses that may be in use, in bytes.
    pub virtual_bytes_max: Option<u64>,
    /// Start, in seconds since 1970.
    pub start_time_s: Option<f64>,
}

/// A histogram's counts, of one core or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Upper bound and count of each, not cumulative.
    counts: Vec<(f64, u64)>,
    above: u64,
    sum: f64,
}

impl Buckets {
    /// A histogram in seconds.
    #[must_use]
    pub fn in_s<const N: usize>(histogram: &Histogram<N>) -> Buckets {
        Buckets::scaled(histogram, 1e9)
    }

    /// A histogram in milliseconds.
    #[must_use]
    pub fn in_ms<const N: usize>(histogram: &Histogram<N>) -> Buckets {
        Buckets::scaled(histogram, 1e6)
    }

    fn scaled<const N: usize>(histogram: &Histogram<N>, unit_ns: f64) -> Buckets {
        Buckets {
            counts: histogram.buckets().map(|(bound_ns, n)| (bound_ns / unit_ns, n)).collect(),
            above: histogram.above(),
            sum: histogram.sum_ns() as f64 / unit_ns,
        }
    }

    /// Observations in all.
    fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.above
    }

    /// Adds a histogram with the same bounds.
    pub fn add(&mut self, other: &Buckets) {
        if self.counts.is_empty() {
            self.counts = other.counts.iter().map(|(bound, _)| (*bound, 0)).collect();
        }
        for (mine, (bound, count)) in self.counts.iter_mut().zip(&other.counts) {
            assert!(mine.0 == *bound, "histograms with other bounds cannot be added");
            mine.1 += count;
        }
        self.above += other.above;
        self.sum += other.sum;
    }
}

/// The text of a scrape.
#[must_use]
pub fn exposition(sample: &Sample, health: &HealthMeters) -> String {
    let mut text = Text { out: String::with_capacity(128 << 10) };
    table::write(sample, &mut text);
    names::write(sample, &mut text);
    calls::write(sample, &mut text);
    names::write_health(health, &mut text);
    text.out
}

/// What `/debug/vars` shows: the few variables that scripts look for.
#[must_use]
pub fn debug_vars(sample: &Sample) -> String {
    let mut out = String::from("{\n\"cmdline\": [");
    for (index, argument) in sample.command_line.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        put_json(&mut out, argument);
    }
    // Writing into a string cannot fail.
    let _ = write!(
        out,
        "],\n\"file_descriptor_limit\": {}\n}}\n",
        sample.process.open_files_max.unwrap_or(0)
    );
    out
}

fn put_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing into a string cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A label's name and value.
type Label<'a> = (&'static str, &'a str);

/// Prometheus' text format in the making.
struct Text {
    out: String,
}

impl Text {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One row. Labels stand in the order of their names.
    fn row(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        debug_assert!(labels.windows(2).all(|pair| pair[0].0 < pair[1].0), "{name}: label order");
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            for c in text.chars() {
                match c {
                    '"' | '\\' => self.out.extend(['\\', c]),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        // Writing into a string cannot fail.
        let _ = writeln!(self.out, " {value}");
    }

    /// A histogram's rows. Its labels sort before `le`, or there are none.
    fn buckets(&mut self, name: &str, labels: &[Label<'_>], buckets: &Buckets) {
        let bucket_name = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in &buckets.counts {
            below += count;
            self.bucket(&bucket_name, labels, &bound_text(*bound), below);
        }
        let count = buckets.count();
        self.bucket(&bucket_name, labels, "+Inf", count);
        self.row(&format!("{name}_sum"), labels, buckets.sum);
        self.row(&format!("{name}_count"), labels, count);
    }

    fn bucket(&mut self, name: &str, labels: &[Label<'_>], bound: &str, count: u64) {
        let mut all = labels.to_vec();
        let at = all.partition_point(|(label, _)| *label < "le");
        all.insert(at, ("le", bound));
        self.row(name, &all, count);
    }
}

/// A bound as Go writes it: the text is part of the series' name.
fn bound_text(bound: f64) -> String {
    if bound < 1e6 {
        return bound.to_string();
    }
    let text = format!("{bound:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}e+{exponent:0>2}")
}
