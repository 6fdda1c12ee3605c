//! The counters of all cores, for whoever scrapes, and what `/proc` says of the process.

use std::fs;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::disk::DiskMetrics;
use super::signals::open_files_max;
use crate::base::shared::Shared;
use crate::config::Gates;
use crate::frontend::http::HealthMeters;
use crate::frontend::http::metrics::{
    Buckets, DiskSample, GroupSample, LeaseSample, MetricsSource, ProcessSample, Sample,
    StoreSample, WatchSample,
};
use crate::frontend::meters::Meters;
use crate::lease::LeaseMetrics;
use crate::node::NodeMetrics;
use crate::watch::WatchMetrics;

/// Clock ticks per second in `/proc`, the same on every Linux that this runs on.
const CLOCK_TICKS_PER_S: f64 = 100.0;
const PAGE_BYTES: u64 = 4_096;

/// One core's counters.
#[derive(Debug, Default)]
pub(super) struct CoreMetrics {
    /// What its connections count.
    pub(super) frontend: Arc<Meters>,
    /// What its hub and its shards count, once they are there.
    pub(super) node: OnceLock<(Arc<WatchMetrics>, Arc<NodeMetrics>)>,
}

/// Everything that is counted in this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    pub(super) cores: Vec<CoreMetrics>,
    pub(super) disk: Arc<DiskMetrics>,
    pub(super) leases: OnceLock<Arc<LeaseMetrics>>,
    pub(super) health: Arc<HealthMeters>,
    pub(super) member: u64,
    pub(super) quota_bytes: u64,
    pub(super) gates: Gates,
}

/// Adds everything up for a scrape.
#[derive(Debug)]
pub(super) struct Scraper {
    metrics: Arc<ProcessMetrics>,
    shared: Arc<Shared>,
}

impl Scraper {
    pub(super) fn new(metrics: &Arc<ProcessMetrics>, shared: &Arc<Shared>) -> Rc<Scraper> {
        Rc::new(Scraper { metrics: Arc::clone(metrics), shared: Arc::clone(shared) })
    }

    fn nodes(&self) -> impl Iterator<Item = &(Arc<WatchMetrics>, Arc<NodeMetrics>)> {
        self.metrics.cores.iter().filter_map(|core| core.node.get())
    }

    fn store(&self) -> StoreSample {
        let bytes = self.shared.store_bytes();
        let sum =
            |count: fn(&NodeMetrics) -> u64| Some(self.nodes().map(|(_, node)| count(node)).sum());
        StoreSample {
            revision: Some(self.shared.visible_revision().0),
            compact_revision: Some(self.shared.compact_revision().0),
            keys: Some(self.shared.store_keys()),
            bytes: Some(bytes),
            bytes_in_use: Some(bytes),
            quota_bytes: Some(self.metrics.quota_bytes),
            puts: sum(|node| node.puts.value()),
            deletes: sum(|node| node.deletes.value()),
            txns: sum(|node| node.txns.value()),
            ranges: sum(|node| node.ranges.value()),
        }
    }

    fn watch(&self) -> WatchSample {
        let sum = |count: fn(&WatchMetrics) -> i64| {
            Some(self.nodes().map(|(watch, _)| count(watch)).sum())
        };
        WatchSample {
            streams: sum(|watch| watch.streams.value()),
            watchers: sum(|watch| watch.watchers.value()),
            slow: sum(|watch| watch.slow.value()),
            events: Some(self.nodes().map(|(watch, _)| watch.events.value()).sum()),
            pending: sum(|watch| watch.pending_events.value()),
        }
    }

    fn leases(&self) -> LeaseSample {
        let Some(leases) = self.metrics.leases.get() else { return LeaseSample::default() };
        LeaseSample {
            granted: Some(leases.granted.value()),
            revoked: Some(leases.revoked.value()),
            renewed: Some(leases.renewed.value()),
            expired: Some(leases.expired.value()),
            ttl: Some(Buckets::from(&leases.ttl)),
        }
    }
}

impl MetricsSource for Scraper {
    fn sample(&self) -> Sample {
        let shared = &self.shared;
        Sample {
            member_id: self.metrics.member,
            command_line: std::env::args().collect(),
            gates: self.metrics.gates.all().collect(),
            meters: self.metrics.cores.iter().map(|core| Arc::clone(&core.frontend)).collect(),
            group: GroupSample {
                has_leader: Some(shared.has_leader()),
                is_leader: Some(shared.has_leader()),
                leader_changes: Some(u64::from(shared.has_leader())),
                proposals_committed: Some(shared.committed_index().0),
                proposals_applied: Some(shared.visible_index().0),
                proposals_pending: Some(u64::try_from(shared.admitted()).unwrap_or(0)),
                proposals_failed: Some(0),
                alarms: None,
            },
            store: self.store(),
            watch: self.watch(),
            lease: self.leases(),
            disk: DiskSample {
                wal_sync: Some(Buckets::from(&self.metrics.disk.sync)),
                wal_bytes: Some(self.metrics.disk.bytes.value()),
            },
            process: process(),
        }
    }
}

/// What the kernel says of this process; what it does not say is left out.
fn process() -> ProcessSample {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; the fields behind it are numbers.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = |at: usize| field(at).map(|ticks| ticks as f64 / CLOCK_TICKS_PER_S);
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime "));
    let booted: Option<f64> = booted.and_then(|seconds| seconds.trim().parse().ok());
    let open_files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    ProcessSample {
        cpu_s: ticks(11).zip(ticks(12)).map(|(user, system)| user + system),
        open_files: open_files.map(|count| count as u64),
        open_files_max: Some(open_files_max() as u64),
        resident_bytes: field(21).map(|pages| pages * PAGE_BYTES),
        virtual_bytes: field(20),
        start_time_s: booted.zip(ticks(19)).map(|(boot, since)| boot + since),
    }
}
