//! The families that a sample fills, one line each.

use super::{Buckets, Kind, Sample, Text};
use crate::base::metrics::Histogram;

/// Where a family's single value comes from.
enum From {
    Count(fn(&Sample) -> Option<u64>),
    Signed(fn(&Sample) -> Option<i64>),
    Real(fn(&Sample) -> Option<f64>),
    Truth(fn(&Sample) -> Option<bool>),
    Buckets(fn(&Sample) -> Option<&Buckets>),
    /// Nothing that this build has could ever be observed.
    Empty(fn() -> Buckets),
}

struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    from: From,
}

const fn counter(
    name: &'static str,
    from: fn(&Sample) -> Option<u64>,
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, help, from: Count(from) }
}

const fn gauge(name: &'static str, from: From, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, from }
}

const fn histogram(
    name: &'static str,
    from: fn(&Sample) -> Option<&Buckets>,
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram, help, from: From::Buckets(from) }
}

/// A histogram of a part that this build does not have, as etcd shows it before its first use:
/// `N` buckets from `FIRST_MS` on.
const fn empty<const N: usize, const FIRST_MS: u64>(
    name: &'static str,
    help: &'static str,
) -> Family {
    let from = Empty(|| Buckets::in_s(&Histogram::<N>::new(FIRST_MS * 1_000_000)));
    Family { name, kind: Kind::Histogram, help, from }
}

use From::{Count, Empty, Real, Signed, Truth};

#[rustfmt::skip]
const FAMILIES: [Family; 70] = [
    gauge("etcd_server_has_leader", Truth(|s| s.group.has_leader),
        "Whether a leader is known: 1 or 0."),
    gauge("etcd_server_is_leader", Truth(|s| s.group.is_leader),
        "Whether this member leads: 1 or 0."),
    gauge("etcd_server_is_learner", Truth(|_| Some(false)),
        "Whether this member is a learner: 1 or 0."),
    counter("etcd_server_leader_changes_seen_total", |s| s.group.leader_changes,
        "Changes of leader that this member has seen."),
    gauge("etcd_server_proposals_committed_total", Count(|s| s.group.proposals_committed),
        "Proposals committed."),
    gauge("etcd_server_proposals_applied_total", Count(|s| s.group.proposals_applied),
        "Proposals applied."),
    gauge("etcd_server_proposals_pending", Count(|s| s.group.proposals_pending),
        "Proposals under way."),
    counter("etcd_server_proposals_failed_total", |s| s.group.proposals_failed,
        "Proposals that failed."),
    gauge("etcd_server_quota_backend_bytes", Count(|s| s.store.quota_bytes),
        "The store's quota in bytes."),
    gauge("etcd_mvcc_db_total_size_in_bytes", Count(|s| s.store.bytes),
        "Size of the page files, and of what is in memory alone, in bytes."),
    gauge("etcd_mvcc_db_total_size_in_use_in_bytes", Count(|s| s.store.bytes_in_use),
        "Size of what is in use of it, as the quota counts it."),
    counter("etcd_mvcc_put_total", |s| s.store.puts,
        "Puts carried out by this member."),
    gauge("etcd_debugging_mvcc_total_put_size_in_bytes", Count(|s| s.store.put_bytes),
        "Bytes of the keys and values that this member has put."),
    counter("etcd_mvcc_delete_total", |s| s.store.deletes,
        "Deletions carried out by this member."),
    counter("etcd_mvcc_txn_total", |s| s.store.txns,
        "Transactions carried out by this member."),
    counter("etcd_mvcc_range_total", |s| s.store.ranges,
        "Ranges read by this member."),
    gauge("etcd_mvcc_db_open_read_transactions", Signed(|s| s.store.reads),
        "Reads under way."),
    histogram("etcd_mvcc_hash_duration_seconds", |s| s.store.hashes.as_ref(),
        "Time that Hash took, by the steps of a core: what ends within one counts as 0."),
    histogram("etcd_mvcc_hash_rev_duration_seconds", |s| s.store.kv_hashes.as_ref(),
        "Time that HashKV took, by the steps of a core: what ends within one counts as 0."),
    counter("etcd_debugging_mvcc_db_compaction_keys_total", |s| s.compaction.forgotten,
        "Versions forgotten after compactions."),
    gauge("etcd_debugging_mvcc_db_compaction_last", Count(|s| s.compaction.last_s),
        "End of the last compaction in seconds since 1970; 0: none since the start."),
    histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        |s| s.compaction.took_ms.as_ref(),
        "Time that compactions took to forget, in milliseconds."),
    gauge("etcd_debugging_mvcc_keys_total", Count(|s| s.store.keys),
        "Keys in the store."),
    gauge("etcd_debugging_mvcc_current_revision", Signed(|s| s.store.revision),
        "The store's revision."),
    gauge("etcd_debugging_mvcc_compact_revision", Signed(|s| s.store.compact_revision),
        "The revision of the last compaction."),
    gauge("etcd_debugging_mvcc_watch_stream_total", Signed(|s| s.watch.streams),
        "Watch streams open."),
    gauge("etcd_debugging_mvcc_watcher_total", Signed(|s| s.watch.watchers),
        "Watchers."),
    gauge("etcd_debugging_mvcc_slow_watcher_total", Signed(|s| s.watch.slow),
        "Watchers that are behind."),
    counter("etcd_debugging_mvcc_events_total", |s| s.watch.events,
        "Events sent to watchers."),
    gauge("etcd_debugging_mvcc_pending_events_total", Signed(|s| s.watch.pending),
        "Events that wait to be sent."),
    counter("etcd_debugging_lease_granted_total", |s| s.lease.granted,
        "Leases granted."),
    counter("etcd_debugging_lease_revoked_total", |s| s.lease.revoked,
        "Leases ended."),
    counter("etcd_debugging_lease_renewed_total", |s| s.lease.renewed,
        "Leases renewed, on the leader."),
    histogram("etcd_debugging_lease_ttl_total", |s| s.lease.ttl.as_ref(),
        "TTLs of leases in seconds, when granted."),
    counter("etcd_debugging_server_lease_expired_total", |s| s.lease.expired,
        "Leases that expired."),
    histogram("etcd_disk_wal_fsync_duration_seconds", |s| s.disk.wal_sync.as_ref(),
        "Time until a write of the log was durable."),
    histogram("etcd_disk_wal_write_duration_seconds", |s| s.disk.wal_write.as_ref(),
        "Time until a write of the log was written; with --wal-sync=dsync it is durable then."),
    gauge("etcd_disk_wal_write_bytes_total", Count(|s| s.disk.wal_bytes),
        "Bytes written to the log."),
    counter("etcd_network_client_grpc_received_bytes_total", received_bytes,
        "Bytes of gRPC messages from clients."),
    counter("etcd_network_client_grpc_sent_bytes_total", sent_bytes,
        "Bytes of gRPC messages to clients."),
    gauge("os_fd_limit", Count(|s| s.process.open_files_max),
        "Most files that may be open."),
    gauge("os_fd_used", Count(|s| s.process.open_files),
        "Files open."),
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "CPU time of the process in seconds.",
        from: Real(|s| s.process.cpu_s),
    },
    gauge("process_max_fds", Count(|s| s.process.open_files_max),
        "Most files that may be open."),
    gauge("process_open_fds", Count(|s| s.process.open_files),
        "Files open."),
    gauge("process_resident_memory_bytes", Count(|s| s.process.resident_bytes),
        "Memory in use in bytes."),
    gauge("process_start_time_seconds", Real(|s| s.process.start_time_s),
        "Start of the process in seconds since 1970."),
    gauge("process_virtual_memory_bytes", Count(|s| s.process.virtual_bytes),
        "Addresses in use in bytes."),
    gauge("process_virtual_memory_max_bytes", Count(|s| s.process.virtual_bytes_max),
        "Most addresses that may be in use, in bytes."),
    counter("ringbolt_checkpoints_total", |s| s.store.checkpoints,
        "Checkpoints that all shards have ended since the start."),
    counter("ringbolt_page_read_bytes_total", |s| s.disk.page_read_bytes,
        "Bytes read from page files."),
    counter("ringbolt_page_written_bytes_total", |s| s.disk.page_written_bytes,
        "Bytes written to page files."),
    gauge("ringbolt_client_connections", Signed(connections),
        "Connections of clients."),
    counter("ringbolt_client_connections_total", opened,
        "Connections of clients since the start."),
    counter("ringbolt_client_floods_total", floods,
        "Connections closed because the client flooded them."),
    counter("etcd_server_heartbeat_send_failures_total", |_| Some(0),
        "Heartbeats that the leader could not send; a member without peers sends none."),
    counter("etcd_server_slow_apply_total", slow,
        "Applies and Ranges that took longer than --warning-apply-duration."),
    counter("etcd_server_slow_read_indexes_total", |_| Some(0),
        "Slow questions to the leader before a read; a member alone asks nobody."),
    counter("etcd_server_read_indexes_failed_total", |_| Some(0),
        "Failed questions to the leader before a read; a member alone asks nobody."),
    counter("etcd_server_learner_promote_successes", |_| Some(0),
        "Learners promoted; there are none."),
    gauge("etcd_server_snapshot_apply_in_progress_total", Count(|_| Some(0)),
        "1 while the leader's snapshot is taken in; there are none."),
    gauge("etcd_disk_defrag_inflight", Count(|_| Some(0)),
        "1 while the store is defragmented; it never is."),
    histogram("etcd_disk_backend_commit_duration_seconds", |s| s.disk.page_sync.as_ref(),
        "Time of a sync of a shard's page file, of which a checkpoint makes two; no write waits."),
    empty::<13, 100>("etcd_disk_backend_defrag_duration_seconds",
        "Always empty: there is nothing to defragment."),
    empty::<17, 10>("etcd_disk_backend_snapshot_duration_seconds",
        "Always empty: snapshots are not built."),
    empty::<14, 1>("etcd_snap_fsync_duration_seconds",
        "Always empty: snapshots are not built."),
    empty::<14, 1>("etcd_snap_db_fsync_duration_seconds",
        "Always empty: snapshots are not built."),
    empty::<10, 100>("etcd_snap_db_save_total_duration_seconds",
        "Always empty: snapshots are not built."),
    empty::<14, 1>("etcd_debugging_snap_save_total_duration_seconds",
        "Always empty: snapshots are not built."),
    empty::<14, 1>("etcd_debugging_snap_save_marshalling_duration_seconds",
        "Always empty: snapshots are not built."),
];

fn slow(sample: &Sample) -> Option<u64> {
    let ranges: u64 = sample.meters.iter().map(|core| core.slow_ranges.value()).sum();
    sample.group.slow_applies.map(|applies| applies + ranges)
}

fn received_bytes(sample: &Sample) -> Option<u64> {
    Some(sample.meters.iter().map(|core| core.received_bytes.value()).sum())
}

fn sent_bytes(sample: &Sample) -> Option<u64> {
    Some(sample.meters.iter().map(|core| core.sent_bytes.value()).sum())
}

fn opened(sample: &Sample) -> Option<u64> {
    Some(sample.meters.iter().map(|core| core.connections_opened.value()).sum())
}

fn connections(sample: &Sample) -> Option<i64> {
    let closed: u64 = sample.meters.iter().map(|core| core.connections_closed.value()).sum();
    i64::try_from(opened(sample)?.saturating_sub(closed)).ok()
}

fn floods(sample: &Sample) -> Option<u64> {
    Some(sample.meters.iter().map(|core| core.floods.value()).sum())
}

/// Writes the families with a single value.
pub(super) fn write(sample: &Sample, text: &mut Text) {
    for family in &FAMILIES {
        let name = family.name;
        let mut one = |value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                text.head(name, family.kind, family.help);
                text.row(name, &[], value);
            }
        };
        match family.from {
            Count(from) => one(from(sample).as_ref().map(|value| value as _)),
            Signed(from) => one(from(sample).as_ref().map(|value| value as _)),
            Real(from) => one(from(sample).as_ref().map(|value| value as _)),
            Truth(from) => one(from(sample).map(u8::from).as_ref().map(|value| value as _)),
            From::Buckets(from) => {
                if let Some(buckets) = from(sample) {
                    text.head(name, family.kind, family.help);
                    text.buckets(name, &[], buckets);
                }
            }
            Empty(buckets) => {
                text.head(name, family.kind, family.help);
                text.buckets(name, &[], &buckets());
            }
        }
    }
}
