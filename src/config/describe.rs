//! The configuration in force as fields of the one line of the log that states it.

use super::url::join;
use super::{AutoCompaction, Config, WalSync};

impl Config {
    /// Names and values of what is in force.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let quota = self.quota_bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        let any = || "*".to_owned();
        vec![
            ("name", self.name.clone()),
            ("data-dir", self.data_dir.display().to_string()),
            ("initial-cluster", self.group.text()),
            ("initial-cluster-token", self.group.token.clone()),
            ("initial-advertise-peer-urls", join(&self.group.advertise_peer)),
            ("listen-peer-urls", join(&self.listen_peer)),
            ("listen-client-urls", join(&self.listen_client)),
            ("listen-metrics-urls", join(&self.listen_metrics)),
            ("advertise-client-urls", join(&self.advertise_client)),
            ("heartbeat-interval", format!("{}ms", self.heartbeat_ms)),
            ("election-timeout", format!("{}ms", self.election_ms)),
            ("pre-vote", self.pre_vote.to_string()),
            ("quota-backend-bytes", quota),
            ("max-txn-ops", self.max_txn_ops.to_string()),
            ("max-request-bytes", self.max_request_bytes.to_string()),
            ("max-concurrent-streams", self.max_concurrent_streams.to_string()),
            ("watch-progress-notify-interval", format!("{}ms", self.watch_progress_interval_ms)),
            ("cors", self.cors.as_ref().map_or_else(any, |list| list.join(","))),
            (
                "host-whitelist",
                self.host_whitelist.as_ref().map_or_else(any, |list| list.join(",")),
            ),
            (
                "auto-compaction",
                match self.auto_compaction {
                    AutoCompaction::Off => "off".to_owned(),
                    AutoCompaction::PeriodMs(ms) => format!("{ms}ms"),
                    AutoCompaction::Revisions(count) => format!("{count} revisions"),
                },
            ),
            (
                "wal-sync",
                match self.wal_sync {
                    WalSync::Dsync => "dsync".to_owned(),
                    WalSync::Fdatasync => "fdatasync".to_owned(),
                },
            ),
            ("wal-depth", self.wal_depth.to_string()),
            ("page-cache-bytes", by_rule(self.page_cache_bytes)),
            ("memtable-bytes", by_rule(self.memtable_bytes)),
        ]
    }
}

fn by_rule(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "by the machine's memory".to_owned(), |bytes| bytes.to_string())
}
