//! The counters of all cores, for whoever scrapes, and what `/proc` says of the process.

use std::fs;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::clock::Clock;
use super::disk::DiskMetrics;
use super::page_disk::PageMetrics;
use super::signals::open_files_max;
use crate::base::Tick;
use crate::base::metrics::{Counter, Histogram};
use crate::base::shared::Shared;
use crate::config::Gates;
use crate::frontend::http::HealthMeters;
use crate::frontend::http::metrics::{
    Buckets, CompactionSample, DiskSample, GroupSample, LeaseSample, MetricsSource, ProcessSample,
    Sample, StoreSample, WatchSample,
};
use crate::frontend::meters::Meters;
use crate::lease::LeaseMetrics;
use crate::log;
use crate::node::{Applied, LeaderMetrics, NodeMetrics};
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
    /// What its shards' page files cost.
    pub(super) pages: Arc<PageMetrics>,
}

/// How long batches took from committed to visible. The orderer's core writes it.
#[derive(Debug)]
pub(super) struct ApplyMetrics {
    by_kind: [Histogram<20>; Applied::NAMES.len()],
    slow: Counter,
    warn_ms: u64,
}

impl ApplyMetrics {
    /// More than `warn_ms` is slow.
    pub(super) fn new(warn_ms: u64) -> ApplyMetrics {
        let by_kind = std::array::from_fn(|_| Histogram::new(100_000));
        ApplyMetrics { by_kind, slow: Counter::default(), warn_ms }
    }

    /// Counts what became visible in a step that ends now: its answers leave behind this.
    pub(super) fn count(&self, now: Tick, batches: &mut Vec<Applied>) {
        let (mut slow, mut longest_ns) = (0, 0);
        for Applied { committed, counts } in batches.drain(..) {
            let took_ns = now.since(committed);
            let counts = counts.map(u64::from);
            for (histogram, count) in self.by_kind.iter().zip(counts) {
                if count > 0 {
                    histogram.observe_many_ns(took_ns, count);
                }
            }
            if took_ns > self.warn_ms.saturating_mul(1_000_000) {
                slow += counts.iter().sum::<u64>();
                longest_ns = longest_ns.max(took_ns);
            }
        }
        if slow > 0 {
            self.slow.add(slow);
            log!(
                Warn, "apply request took too long", "took_ms" => longest_ns / 1_000_000,
                "expected_ms" => self.warn_ms, "operations" => slow
            );
        }
    }

    fn by_kind(&self) -> impl Iterator<Item = (&'static str, Buckets)> {
        Applied::NAMES.into_iter().zip(self.by_kind.iter().map(Buckets::in_s))
    }
}

/// Everything that is counted in this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    pub(super) cores: Vec<CoreMetrics>,
    pub(super) disk: Arc<DiskMetrics>,
    /// What the orderer's core counts, once it is there.
    pub(super) leader: OnceLock<(Arc<LeaseMetrics>, Arc<LeaderMetrics>)>,
    pub(super) applies: Arc<ApplyMetrics>,
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
    clock: Clock,
}

impl Scraper {
    pub(super) fn new(
        metrics: &Arc<ProcessMetrics>,
        shared: &Arc<Shared>,
        clock: Clock,
    ) -> Rc<Scraper> {
        let (metrics, shared) = (Arc::clone(metrics), Arc::clone(shared));
        Rc::new(Scraper { metrics, shared, clock })
    }

    fn nodes(&self) -> impl Iterator<Item = &(Arc<WatchMetrics>, Arc<NodeMetrics>)> {
        self.metrics.cores.iter().filter_map(|core| core.node.get())
    }

    fn store(&self) -> StoreSample {
        let sum =
            |count: fn(&NodeMetrics) -> u64| Some(self.nodes().map(|(_, node)| count(node)).sum());
        StoreSample {
            revision: Some(self.shared.visible_revision().0),
            compact_revision: Some(self.shared.compact_revision().0),
            keys: Some(self.shared.store_keys()),
            bytes: Some(self.shared.file_bytes()),
            bytes_in_use: Some(self.shared.store_bytes()),
            checkpoints: self.metrics.leader.get().map(|(_, leader)| leader.checkpoints.value()),
            quota_bytes: Some(self.metrics.quota_bytes),
            puts: sum(|node| node.puts.value()),
            put_bytes: sum(|node| node.put_bytes.value()),
            deletes: sum(|node| node.deletes.value()),
            txns: sum(|node| node.txns.value()),
            ranges: sum(|node| node.ranges.value()),
            reads: Some(self.nodes().map(|(_, node)| node.reads.value()).sum()),
            hashes: self.hashes(|node| &node.hashes),
            kv_hashes: self.hashes(|node| &node.kv_hashes),
        }
    }

    fn hashes(&self, of: fn(&NodeMetrics) -> &Histogram<15>) -> Option<Buckets> {
        let mut sum = Buckets::default();
        self.nodes().for_each(|(_, node)| sum.add(&Buckets::in_s(of(node))));
        Some(sum).filter(|_| self.nodes().next().is_some())
    }

    fn disk(&self) -> DiskSample {
        let wal = &self.metrics.disk;
        let pages = |count: fn(&PageMetrics) -> &Counter| {
            self.metrics.cores.iter().map(|core| count(&core.pages).value()).sum()
        };
        let mut page_sync = Buckets::default();
        self.metrics.cores.iter().for_each(|core| page_sync.add(&Buckets::in_s(&core.pages.sync)));
        DiskSample {
            wal_sync: Some(Buckets::in_s(&wal.sync)),
            wal_write: Some(Buckets::in_s(&wal.write)),
            wal_bytes: Some(wal.bytes.value()),
            page_sync: Some(page_sync),
            page_read_bytes: Some(pages(|one| &one.read_bytes)),
            page_written_bytes: Some(pages(|one| &one.written_bytes)),
        }
    }

    fn compaction(&self) -> CompactionSample {
        let Some((_, leader)) = self.metrics.leader.get() else {
            return CompactionSample::default();
        };
        let last = leader.last_compaction.value();
        CompactionSample {
            forgotten: Some(self.nodes().map(|(_, node)| node.forgotten.value()).sum()),
            last_s: Some(u64::try_from(last).map_or(0, |last| match last {
                0 => 0,
                last => unix_s().saturating_sub(self.clock.now().since(Tick(last)) / 1_000_000_000),
            })),
            took_ms: Some(Buckets::in_ms(&leader.compactions)),
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
        let Some((leases, _)) = self.metrics.leader.get() else { return LeaseSample::default() };
        LeaseSample {
            granted: Some(leases.granted.value()),
            revoked: Some(leases.revoked.value()),
            renewed: Some(self.nodes().map(|(_, node)| node.renewals.value()).sum()),
            expired: Some(leases.expired.value()),
            ttl: Some(Buckets::in_s(&leases.ttl)),
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
                members: vec![self.metrics.member],
                applies: self.metrics.applies.by_kind().collect(),
                slow_applies: Some(self.metrics.applies.slow.value()),
            },
            store: self.store(),
            compaction: self.compaction(),
            watch: self.watch(),
            lease: self.leases(),
            disk: self.disk(),
            process: process(),
        }
    }
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "scrapes are told times by the wall clock")]
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let addresses = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let addresses = addresses.and_then(|line| line.split_whitespace().next());
    let open_files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    ProcessSample {
        cpu_s: ticks(11).zip(ticks(12)).map(|(user, system)| user + system),
        open_files: open_files.map(|count| count as u64),
        open_files_max: Some(open_files_max() as u64),
        resident_bytes: field(21).map(|pages| pages * PAGE_BYTES),
        virtual_bytes: field(20),
        virtual_bytes_max: addresses.and_then(|soft| match soft {
            "unlimited" => Some(u64::MAX),
            bytes => bytes.parse().ok(),
        }),
        start_time_s: booted.zip(ticks(19)).map(|(boot, since)| boot + since),
    }
}
