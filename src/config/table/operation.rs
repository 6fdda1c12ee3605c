//! Flags of logs, metrics, features and dangers.

use super::super::flag::Flag;
use super::super::flag::Kind::{Bool, Dropped, Duration, Gates, Int, List, Text, Uint};
use super::super::flag::Support::{Built, Ignored, NotBuilt, Peer};

const NO_TRACING: &str = "distributed tracing is not built yet";
const NO_PASSES: &str = "compaction cuts history off without passes over the store";

#[rustfmt::skip]
pub(super) const LOGGING: [Flag; 7] = [
    Flag::new("logger", Text, "zap", Built,
        "Format of structured logs; only \"zap\", etcd's."),
    Flag::new("log-outputs", List, "default", Built,
        "Where logs go: default and stderr, stdout, or paths of files."),
    Flag::new("log-level", Text, "info", Built,
        "Least severe level that is logged: debug, info, warn, error, panic or fatal."),
    Flag::new("log-format", Text, "json", Built,
        "json, or console for people."),
    Flag::new("enable-log-rotation", Bool, "false", NotBuilt("rotation of log files is not built; \
            let logrotate do it with copytruncate"),
        "Rotate a log file."),
    Flag::new("log-rotation-config-json", Text,
        "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \
          \"compress\": false}",
        Ignored("rotation of log files is not built"),
        "How to rotate."),
    Flag::new("warning-unary-request-duration", Duration, "300ms",
        Ignored("slow calls are not logged; etcd_server_request_duration_seconds counts them"),
        "A call that takes longer is logged."),
];

#[rustfmt::skip]
pub(super) const MONITORING: [Flag; 7] = [
    Flag::new("enable-pprof", Bool, "false", Ignored("there is no Go runtime to profile; use perf"),
        "Serve profiles below /debug/pprof/."),
    Flag::new("metrics", Text, "basic", Built,
        "\"extensive\" adds a histogram of calls."),
    Flag::new("enable-distributed-tracing", Bool, "false", Ignored(NO_TRACING),
        "Send spans to a collector."),
    Flag::new("distributed-tracing-address", Text, "localhost:4317", Ignored(NO_TRACING),
        "Address of the collector."),
    Flag::new("distributed-tracing-service-name", Text, "etcd", Ignored(NO_TRACING),
        "Name of the service in spans."),
    Flag::new("distributed-tracing-instance-id", Text, "", Ignored(NO_TRACING),
        "Name of this member in spans."),
    Flag::new("distributed-tracing-sampling-rate", Int, "0", Ignored(NO_TRACING),
        "Spans to keep of a million."),
];

#[rustfmt::skip]
pub(super) const FEATURES: [Flag; 10] = [
    Flag::new("feature-gates", Gates, "", Built,
        "Name=true|false,...: CompactHashCheck, FastLeaseKeepAlive, InitialCorruptCheck,\n\
         LeaseCheckpoint, LeaseCheckpointPersist, PriorityRequest, SetMemberLocalAddr,\n\
         StopGRPCServiceOnDefrag, TxnModeWriteWithSharedBuffer, AllAlpha, AllBeta."),
    Flag::new("corrupt-check-time", Duration, "0", Peer,
        "Time between two comparisons with other members."),
    Flag::new("compact-hash-check-time", Duration, "1m", Peer,
        "Time between two comparisons of compacted history with other members."),
    Flag::new("compaction-batch-limit", Int, "0", Ignored(NO_PASSES),
        "Most revisions deleted by one step of a compaction."),
    Flag::new("compaction-sleep-interval", Duration, "0", Ignored(NO_PASSES),
        "Pause between two such steps."),
    Flag::new("watch-progress-notify-interval", Duration, "0", Built,
        "Time between two progress notices to a watcher that asked for them. 0: 10 minutes."),
    Flag::new("warning-apply-duration", Duration, "100ms", Built,
        "A write that takes longer to apply is logged; it and a slower Range are counted."),
    Flag::new("bootstrap-defrag-threshold-megabytes", Uint, "0",
        Ignored("there is nothing to defragment"),
        "Defragment at start if that frees as much."),
    Flag::new("max-learners", Int, "1", Peer,
        "Most learners of the group."),
    Flag::new("downgrade-check-time", Duration, "5s", Peer,
        "Time between two looks at a downgrade under way."),
];

#[rustfmt::skip]
pub(super) const UNSAFE: [Flag; 2] = [
    Flag::new("force-new-cluster", Bool, "false", NotBuilt("making a group of one out of a member \
            is not built yet"),
        "Forget the other members and go on alone."),
    Flag::new("unsafe-no-fsync", Bool, "false", NotBuilt("this member does not acknowledge writes \
            that are not durable"),
        "Do not wait for the disk."),
];

const fn dropped(name: &'static str) -> Flag {
    Flag::new(name, Dropped, "", Built, "")
}

/// What etcd 0.4 had: accepted without a word, as etcd does.
pub(super) const DROPPED: [Flag; 15] = [
    dropped("cluster-active-size"),
    dropped("cluster-remove-delay"),
    dropped("cluster-sync-interval"),
    dropped("config"),
    dropped("force"),
    dropped("max-result-buffer"),
    dropped("max-retry-attempts"),
    dropped("peer-heartbeat-interval"),
    dropped("peer-election-timeout"),
    dropped("retry-interval"),
    dropped("snapshot"),
    dropped("v"),
    dropped("vv"),
    dropped("test.coverprofile"),
    dropped("test.outputdir"),
];
