//! Flags of the member itself, and Ringbolt's own.

use super::super::flag::Flag;
use super::super::flag::Kind::{Bool, Choice, Duration, Int, Text, Uint, Uint32, Urls};
use super::super::flag::Support::{Built, Hidden, Ignored, NotBuilt, Own};

const BY_WORK: &str = "snapshots and log segments are kept by work, not by count";
const NO_BBOLT: &str = "the store is not bbolt: there is nothing to tune here";
const NO_PEERS: &str = "there is no peer service";

#[rustfmt::skip]
pub(super) const MEMBER: [Flag; 31] = [
    Flag::new("name", Text, "default", Built,
        "Name of this member, for people."),
    Flag::new("data-dir", Text, "", Built,
        "Where the data lives; empty: the name with \".etcd\" behind it."),
    Flag::new("wal-dir", Text, "", NotBuilt("a log outside the data directory is not built yet; \
            mount the faster device at <data-dir>/ringbolt/wal"),
        "A directory of its own for the log."),
    Flag::new("snapshot-count", Uint, "10000", Ignored(BY_WORK),
        "Writes between two snapshots."),
    Flag::new("snapshot-catchup-entries", Uint, "5000", Ignored(BY_WORK),
        "Log entries kept for a follower that lags behind a snapshot."),
    Flag::new("heartbeat-interval", Uint, "100", Built,
        "Milliseconds between two heartbeats of a leader."),
    Flag::new("election-timeout", Uint, "1000", Built,
        "Milliseconds without a heartbeat until an election; at least five heartbeats."),
    Flag::new("initial-election-tick-advance", Bool, "true", Ignored(NO_PEERS),
        "Elect sooner at the first start."),
    Flag::new("listen-peer-urls", Urls, "http://localhost:2380", Built,
        "Where to listen for other members."),
    Flag::new("listen-client-urls", Urls, "http://localhost:2379", Built,
        "Where to listen for clients, gRPC and HTTP on one port."),
    Flag::new("listen-client-http-urls", Urls, "", NotBuilt("a port of its own for HTTP is not \
            built yet; --listen-client-urls serves gRPC and HTTP"),
        "Where to listen for HTTP alone."),
    Flag::new("listen-metrics-urls", Urls, "", Built,
        "Where to serve /metrics and the health checks and nothing else."),
    Flag::new("max-snapshots", Uint, "5", Ignored(BY_WORK),
        "Snapshot files to keep."),
    Flag::new("max-wals", Uint, "5", Ignored(BY_WORK),
        "Log files to keep."),
    Flag::new("memory-mlock", Bool, "false", Ignored("pages are not locked into memory; turn \
            swap off instead"),
        "Keep the store's pages in memory."),
    Flag::new("quota-backend-bytes", Int, "0", Built,
        "Size of the store above which writes that add are refused.\n\
         0: 2 GiB. Below 0: no quota."),
    Flag::new("backend-bbolt-freelist-type", Text, "", Ignored(NO_BBOLT),
        "bbolt's free list."),
    Flag::new("backend-batch-interval", Duration, "0", Ignored(NO_BBOLT),
        "Longest time between two commits of bbolt."),
    Flag::new("backend-batch-limit", Int, "0", Ignored(NO_BBOLT),
        "Most operations between two commits of bbolt."),
    Flag::new("max-txn-ops", Uint, "128", Built,
        "Most operations of a transaction."),
    Flag::new("max-request-bytes", Uint, "1572864", Built,
        "Largest write that is accepted."),
    Flag::new("max-concurrent-streams", Uint32, "4294967295", Built,
        "Most calls under way on one connection."),
    Flag::new("grpc-keepalive-min-time", Duration, "5s", Built,
        "A client that pings more often than this is sent away."),
    Flag::new("grpc-keepalive-interval", Duration, "2h", Built,
        "Silence after which the server pings a client. 0: never."),
    Flag::new("grpc-keepalive-timeout", Duration, "20s", Built,
        "Time for the answer to such a ping. 0: no limit."),
    Flag::new("socket-reuse-port", Bool, "false", Built,
        "Set SO_REUSEPORT, so that a second process may bind the same ports."),
    Flag::new("socket-reuse-address", Bool, "false", Built,
        "Set SO_REUSEADDR. It always is, so that a restart follows at once."),
    Flag::new("raft-read-timeout", Duration, "5s", Ignored(NO_PEERS),
        "Longest wait for bytes of another member."),
    Flag::new("raft-write-timeout", Duration, "5s", Ignored(NO_PEERS),
        "Longest wait while writing to another member."),
    Flag::new("enable-grpc-gateway", Bool, "true", Built,
        "Serve the JSON gateway below /v3/. It is not built yet: those paths answer 404."),
    Flag::new("config-file", Text, "", Built,
        "A YAML file that holds the configuration. Flags and environment are then ignored.\n\
         Durations in it are integers, in nanoseconds."),
];

#[rustfmt::skip]
pub(super) const OWN: [Flag; 10] = [
    Flag::new("cores", Uint32, "0", Own,
        "Cores to run on. 0: all that the process may use."),
    Flag::new("shards", Uint32, "0", Own,
        "Shards of the keyspace of a new data directory, at most 16.\n\
         0: a quarter of the cores, one on up to four cores.\n\
         One that is there keeps its own: ringbolt utl reshard changes them."),
    Flag::new("wal-sync", Choice(&["dsync", "fdatasync"]), "dsync", Own,
        "How the log becomes durable: writes with O_DSYNC, or a write and an fdatasync."),
    Flag::new("wal-depth", Uint32, "1", Own,
        "Log writes that one lane may have in flight, 1 to 8."),
    Flag::new("wal-segment-bytes", Uint, "67108864", Hidden,
        "Size of a log segment."),
    Flag::new("page-cache-bytes", Uint, "0", Own,
        "Memory for pages of the store, at least 16 MiB.\n\
         0: an eighth of the memory that the process may use, 64 MiB to 16 GiB."),
    Flag::new("memtable-bytes", Uint, "0", Own,
        "Memory for changes that are not on pages yet, at least 16 MiB.\n\
         0: a sixteenth of the memory that the process may use, 64 MiB to 1 GiB."),
    Flag::new("page-scrub-interval", Duration, "24h", Own,
        "Rest between two passes that read all pages to see whether they are intact. 0: none."),
    Flag::new("checkpoint-records", Uint, "400000", Hidden,
        "Changes behind which a checkpoint is due."),
    Flag::new("version", Bool, "false", Own,
        "Say which version this is and exit."),
];
