//! The text of a scrape, read back by its own rules.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::methods::METHODS;
use super::*;

fn full() -> Sample {
    let meters = [Arc::new(Meters::default()), Arc::new(Meters::default())];
    let range = METHODS.iter().position(|method| method.name == "Range").expect("Range");
    for (core, ns) in meters.iter().zip([500_000, 3_000_000]) {
        core.methods[range].started.one();
        core.methods[range].ended(super::super::super::status::Code::Ok, ns);
        core.sent_bytes.add(10);
        core.ranges[1].observe_ns(ns);
        core.slow_ranges.one();
        core.clients.count(Some("3.7"), false);
    }
    let sync = Histogram::<14>::new(1_000_000);
    sync.observe_ns(700_000);
    sync.observe_ns(u64::from(u32::MAX) * 10);
    let buckets = Buckets::in_s(&sync);
    Sample {
        member_id: 0x8e9e_05c5_2164_694d,
        command_line: Vec::new(),
        gates: vec![("LeaseCheckpoint", "ALPHA", false), ("FastLeaseKeepAlive", "BETA", true)],
        meters: meters.to_vec(),
        group: GroupSample {
            has_leader: Some(true),
            is_leader: Some(true),
            leader_changes: Some(1),
            proposals_committed: Some(10),
            proposals_applied: Some(9),
            proposals_pending: Some(1),
            proposals_failed: Some(0),
            alarms: Some(vec![(0xab, AlarmKind::NoSpace)]),
            members: vec![0xab, 0xcd],
            applies: vec![("Put", buckets.clone()), ("Txn", Buckets::default())],
            slow_applies: Some(3),
        },
        store: store(&buckets),
        compaction: CompactionSample {
            forgotten: Some(8),
            last_s: Some(1_767_323_045),
            took_ms: Some(Buckets::in_ms(&sync)),
        },
        watch: WatchSample {
            streams: Some(1),
            watchers: Some(2),
            slow: Some(0),
            events: Some(3),
            pending: Some(0),
        },
        lease: LeaseSample {
            granted: Some(1),
            revoked: Some(1),
            renewed: Some(1),
            expired: Some(1),
            ttl: Some(buckets.clone()),
        },
        disk: disk(buckets),
        process: ProcessSample {
            cpu_s: Some(1.25),
            open_files: Some(9),
            open_files_max: Some(1024),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(1 << 30),
            virtual_bytes_max: Some(u64::MAX),
            start_time_s: Some(1_767_323_045.5),
        },
    }
}

fn disk(syncs: Buckets) -> DiskSample {
    DiskSample {
        wal_sync: Some(syncs.clone()),
        wal_write: Some(syncs.clone()),
        wal_bytes: Some(8192),
        page_sync: Some(syncs),
        page_read_bytes: Some(4096),
        page_written_bytes: Some(8192),
    }
}

fn store(hashes: &Buckets) -> StoreSample {
    StoreSample {
        revision: Some(7),
        compact_revision: Some(-1),
        keys: Some(1),
        bytes: Some(4096),
        bytes_in_use: Some(4096),
        checkpoints: Some(2),
        quota_bytes: Some(2 << 30),
        puts: Some(2),
        put_bytes: Some(600),
        deletes: Some(3),
        txns: Some(4),
        ranges: Some(5),
        reads: Some(1),
        hashes: Some(hashes.clone()),
        kv_hashes: Some(hashes.clone()),
    }
}

/// Rows by name with labels; checks the format on the way.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut rows = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name").to_owned();
            assert!(families.insert(family.clone()), "{family} stands twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(&format!("{family} ")), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(name.starts_with(&family), "{name} stands below {family}");
        let value = value.parse().expect("a number");
        assert!(rows.insert(name.to_owned(), value).is_none(), "{name} stands twice");
    }
    rows
}

#[test]
fn a_full_sample_is_well_formed_and_says_what_it_was_given() {
    let rows = read(&exposition(&full(), &HealthMeters::default()));
    let expect = [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_learner", 0.0),
        ("etcd_server_proposals_committed_total", 10.0),
        ("etcd_server_id{server_id=\"8e9e05c52164694d\"}", 1.0),
        ("etcd_server_version{server_version=\"3.7.3\"}", 1.0),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
        ("etcd_server_feature_enabled{name=\"FastLeaseKeepAlive\",stage=\"BETA\"}", 1.0),
        ("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"ab\"}", 1.0),
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_mvcc_delete_total", 3.0),
        ("etcd_debugging_mvcc_compact_revision", -1.0),
        ("etcd_network_client_grpc_sent_bytes_total", 20.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("etcd_disk_wal_fsync_duration_seconds_count", 2.0),
        ("etcd_server_slow_apply_total", 5.0),
        ("etcd_network_known_peers{Local=\"8e9e05c52164694d\",Remote=\"cd\"}", 1.0),
        (
            "etcd_server_apply_duration_seconds_bucket{le=\"0.001\",op=\"Put\",success=\"true\",\
             version=\"v3\"}",
            1.0,
        ),
        ("etcd_server_range_duration_seconds_bucket{le=\"0.0001\",success=\"true\"}", 0.0),
        ("etcd_server_range_duration_seconds_count{success=\"true\"}", 2.0),
        ("etcd_server_client_requests_total{client_api_version=\"3.7\",type=\"unary\"}", 2.0),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_bucket{le=\"1\"}", 1.0),
        ("etcd_disk_backend_commit_duration_seconds_bucket{le=\"8.192\"}", 1.0),
        ("promhttp_metric_handler_requests_total{code=\"200\"}", 0.0),
        ("process_cpu_seconds_total", 1.25),
        ("process_start_time_seconds", 1_767_323_045.5),
        ("os_fd_used", 9.0),
        (
            "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",\
             grpc_type=\"unary\"}",
            2.0,
        ),
        (
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
            2.0,
        ),
        (
            "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Watch\",\
             grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}",
            0.0,
        ),
        (
            "etcd_server_request_duration_seconds_bucket{le=\"0.002\",success=\"true\",\
             type=\"Range\"}",
            1.0,
        ),
        ("etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"}", 2.0),
    ];
    for (name, value) in expect {
        assert_eq!(rows.get(name), Some(&value), "{name}");
    }
    let types: Vec<&String> =
        rows.keys().filter(|name| name.contains("request_duration")).collect();
    assert!(types.iter().all(|name| name.contains("type=\"Range\"")), "{types:?}");
}

#[test]
fn what_nobody_counts_is_left_out() {
    let rows = read(&exposition(&Sample::default(), &HealthMeters::default()));
    for name in ["etcd_mvcc_put_total", "etcd_disk_wal_fsync", "process_", "go_"] {
        assert!(!rows.keys().any(|row| row.starts_with(name)), "{name}");
    }
    assert!(rows.contains_key("etcd_server_health_success"));
}

#[test]
fn labels_are_escaped_and_histograms_add_up() {
    let mut text = Text { out: String::new() };
    text.row("a", &[("x", "q\"\\\n")], 1);
    assert_eq!(text.out, "a{x=\"q\\\"\\\\\\n\"} 1\n");
    let mut sum = Buckets::default();
    for ns in [1_000, 3_000] {
        let histogram = Histogram::<2>::new(1_000);
        histogram.observe_ns(ns);
        sum.add(&Buckets::in_s(&histogram));
    }
    assert_eq!((sum.counts.as_slice(), sum.above), (&[(1e-6, 1), (2e-6, 0)][..], 1));
    assert_eq!(sum.count(), 2);
}

#[test]
fn bounds_are_written_as_go_writes_them() {
    let texts = [0.0001, 0.1, 1.0, 819_200.0, 1_048_576.0, 4_194_304.0].map(bound_text);
    assert_eq!(texts, ["0.0001", "0.1", "1", "819200", "1.048576e+06", "4.194304e+06"]);
}
