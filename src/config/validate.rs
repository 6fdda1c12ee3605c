//! From settings to the frozen `Config`: types, bounds, and etcd's checks in etcd's order.

use std::path::PathBuf;

use super::args::Settings;
use super::flag::Value;
use super::gates::Gates;
use super::go;
use super::group::Group;
use super::url::{Scheme, Url, join};
use super::{
    AutoCompaction, Config, LogConfig, LogFormat, LogLevel, LogOutput, QUOTA_BYTES_DEFAULT,
    WalSync, Warning,
};
use crate::base::limits;

const ELECTION_MS_MAX: u64 = 50_000;
const DEFAULT_NAME: &str = "default";
const PROGRESS_INTERVAL_MS_DEFAULT: u64 = 600_000;
const PROGRESS_INTERVAL_MS_MIN: u64 = 100;

/// Whether a switch is on.
pub(super) fn flag_is_on(settings: &Settings, name: &str) -> bool {
    matches!(settings.value(name), Value::Bool(true))
}

/// A text; empty for a flag of another kind.
pub(super) fn text_of(settings: &Settings, name: &str) -> String {
    match settings.value(name) {
        Value::Text(text) => text,
        other => unreachable!("--{name} is no text but {other:?}"),
    }
}

fn uint_of(settings: &Settings, name: &str) -> u64 {
    match settings.value(name) {
        Value::Uint(value) => value,
        other => unreachable!("--{name} is no unsigned number but {other:?}"),
    }
}

fn urls_of(settings: &Settings, name: &str) -> Vec<Url> {
    match settings.value(name) {
        Value::Urls(urls) => urls,
        other => unreachable!("--{name} is no list of URLs but {other:?}"),
    }
}

fn list_of(settings: &Settings, name: &str) -> Vec<String> {
    match settings.value(name) {
        Value::List(list) => list,
        other => unreachable!("--{name} is no list but {other:?}"),
    }
}

fn ns_of(settings: &Settings, name: &str) -> i64 {
    match settings.value(name) {
        Value::Duration(ns) => ns,
        other => unreachable!("--{name} is no duration but {other:?}"),
    }
}

/// A duration in milliseconds, rounded up so that a short one does not become "never".
fn ms_of(settings: &Settings, name: &str) -> Result<u64, String> {
    let ns = ns_of(settings, name);
    let ns = u64::try_from(ns).map_err(|_| {
        format!("--{name} must not be negative (set to {})", go::print_duration(ns))
    })?;
    Ok(ns.div_ceil(1_000_000))
}

/// Builds the configuration. The checks stand in etcd's order: of two mistakes the same one is
/// named.
pub(super) fn config(
    settings: &Settings,
    from_file: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Config, String> {
    check_fallback(settings)?;
    let log = log(settings)?;
    let listen = Listen::read(settings)?;
    let advertise_client = advertise_client(settings, from_file)?;
    let group = group(settings, &listen)?;
    let (heartbeat_ms, election_ms) = timing(settings)?;
    if advertise_client.is_empty() {
        return Err("--advertise-client-urls is required when --listen-client-urls is set \
                    explicitly"
            .to_owned());
    }
    let auto_compaction = auto_compaction(settings)?;
    let gates = gates(settings, warnings)?;
    check_hash_time(settings)?;
    let name = group.name.clone();
    if name == DEFAULT_NAME {
        warnings
            .push(Warning::new("no --name was given; two members should not share \"default\""));
    }
    let data_dir = data_dir(settings, &name, warnings);
    let (shards, wal_depth, wal_segment_bytes) = own(settings)?;
    Ok(Config {
        name,
        data_dir,
        group,
        heartbeat_ms,
        election_ms,
        pre_vote: flag_is_on(settings, "pre-vote"),
        listen_client: listen.client,
        listen_peer: listen.peer,
        listen_metrics: listen.metrics,
        advertise_client,
        socket_reuse_port: flag_is_on(settings, "socket-reuse-port"),
        quota_bytes: quota(settings),
        max_txn_ops: usize_of(settings, "max-txn-ops"),
        max_request_bytes: max_request_bytes(settings)?,
        max_concurrent_streams: u32_of(settings, "max-concurrent-streams"),
        keepalive_min_time_ms: ms_of(settings, "grpc-keepalive-min-time")?,
        keepalive_interval_ms: ms_of(settings, "grpc-keepalive-interval")?,
        keepalive_timeout_ms: ms_of(settings, "grpc-keepalive-timeout")?,
        watch_progress_interval_ms: progress_interval(settings)?,
        auto_compaction,
        cors: unless_all(list_of(settings, "cors")),
        host_whitelist: unless_all(list_of(settings, "host-whitelist")),
        extensive_metrics: extensive_metrics(settings, warnings),
        log,
        warn_apply_ms: ms_of(settings, "warning-apply-duration")?,
        gates,
        cores: u16_of(settings, "cores")?,
        shards,
        wal_sync: match text_of(settings, "wal-sync").as_str() {
            "fdatasync" => WalSync::Fdatasync,
            _ => WalSync::Dsync,
        },
        wal_depth,
        wal_segment_bytes,
        page_cache_bytes: memory_of(settings, "page-cache-bytes")?,
        memtable_bytes: memory_of(settings, "memtable-bytes")?,
        page_scrub_interval_ms: ms_of(settings, "page-scrub-interval")?,
        checkpoint_records: uint_of(settings, "checkpoint-records").max(1),
    })
}

fn check_fallback(settings: &Settings) -> Result<(), String> {
    if text_of(settings, "discovery-fallback") != "proxy" {
        return Ok(());
    }
    Err("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
        .to_owned())
}

fn check_hash_time(settings: &Settings) -> Result<(), String> {
    match ns_of(settings, "compact-hash-check-time") {
        ns if ns > 0 => Ok(()),
        ns => {
            let set_to = go::print_duration(ns);
            Err(format!("--compact-hash-check-time must be >0 (set to {set_to})"))
        }
    }
}

fn data_dir(settings: &Settings, name: &str, warnings: &mut Vec<Warning>) -> PathBuf {
    let given = text_of(settings, "data-dir");
    if !given.is_empty() {
        return PathBuf::from(given);
    }
    let dir = format!("{name}.etcd");
    warnings.push(Warning::new("'data-dir' was empty; using default").field("data-dir", &dir));
    PathBuf::from(dir)
}

fn log(settings: &Settings) -> Result<LogConfig, String> {
    match text_of(settings, "logger").as_str() {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option \"{other}\"")),
    }
    let mut names = list_of(settings, "log-outputs");
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        names.push("default".to_owned());
    }
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    let mut outputs = Vec::new();
    for name in names {
        outputs.push(match name.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                return Err("--log-outputs=systemd/journal is not built: under systemd standard \
                            error reaches the journal anyway"
                    .to_owned());
            }
            path => LogOutput::File(PathBuf::from(path)),
        });
    }
    let level = match text_of(settings, "log-level").as_str() {
        "debug" => LogLevel::Debug,
        "info" | "" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "dpanic" | "panic" => LogLevel::Panic,
        "fatal" => LogLevel::Fatal,
        other => return Err(format!("unrecognized level: \"{other}\"")),
    };
    let format = match text_of(settings, "log-format").as_str() {
        "json" | "" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            return Err(format!("unknown log format: {other}, supported values json, console"));
        }
    };
    Ok(LogConfig { level, format, outputs })
}

/// The three kinds of listeners.
struct Listen {
    client: Vec<Url>,
    peer: Vec<Url>,
    metrics: Vec<Url>,
}

impl Listen {
    fn read(settings: &Settings) -> Result<Listen, String> {
        let peer = bindable(settings, "listen-peer-urls")?;
        let client = bindable(settings, "listen-client-urls")?;
        let metrics = bindable(settings, "listen-metrics-urls")?;
        for (flag, urls) in [("listen-client-urls", &client), ("listen-metrics-urls", &metrics)] {
            if let Some(url) = urls.iter().find(|url| url.scheme() == Scheme::Https) {
                return Err(format!(
                    "--{flag}={}: TLS for clients is not built yet, and nothing is served in the \
                     clear where TLS was asked for",
                    url.as_str()
                ));
            }
        }
        if client.is_empty() {
            return Err("--listen-client-urls names no address to listen on".to_owned());
        }
        Ok(Listen { client, peer, metrics })
    }
}

fn bindable(settings: &Settings, flag: &str) -> Result<Vec<Url>, String> {
    let urls = urls_of(settings, flag);
    for url in &urls {
        url.check_bind()?;
        if url.is_unix() {
            return Err(format!("--{flag}={}: Unix sockets are not built yet", url.as_str()));
        }
    }
    Ok(urls)
}

fn advertise_client(settings: &Settings, from_file: bool) -> Result<Vec<Url>, String> {
    let flag = "advertise-client-urls";
    // On the command line a listen URL of one's own drops the default; a file keeps it.
    if !from_file && settings.is_given("listen-client-urls") && !settings.is_given(flag) {
        return Ok(Vec::new());
    }
    let urls = urls_of(settings, flag);
    if let Some(why) = urls.iter().find_map(|url| url.check_host().err()) {
        return Err(format!(
            "--{flag} \"{}\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" ({why})",
            join(&urls)
        ));
    }
    Ok(urls)
}

fn group(settings: &Settings, listen: &Listen) -> Result<Group, String> {
    let advertise_peer = urls_of(settings, "initial-advertise-peer-urls");
    if let Some(why) = advertise_peer.iter().find_map(|url| url.check_host().err()) {
        return Err(format!(
            "--initial-advertise-peer-urls \"{}\" must be \"host:port\" ({why})",
            join(&advertise_peer)
        ));
    }
    let name = text_of(settings, "name");
    let members = if settings.is_given("initial-cluster") {
        Group::parse_members(&text_of(settings, "initial-cluster"))?
    } else {
        // Nothing said: this member under its own name at its own URLs.
        let own = if name.is_empty() { DEFAULT_NAME } else { &name };
        advertise_peer.iter().map(|url| (own.to_owned(), url.clone())).collect()
    };
    if advertise_peer.is_empty() || listen.peer.is_empty() {
        return Err(
            "--initial-advertise-peer-urls and --listen-peer-urls name no address".to_owned()
        );
    }
    Ok(Group {
        name,
        members,
        token: text_of(settings, "initial-cluster-token"),
        advertise_peer,
        existing: text_of(settings, "initial-cluster-state") == "existing",
    })
}

fn timing(settings: &Settings) -> Result<(u64, u64), String> {
    let heartbeat = uint_of(settings, "heartbeat-interval");
    let election = uint_of(settings, "election-timeout");
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {ELECTION_MS_MAX}ms"
        ));
    }
    Ok((heartbeat, election))
}

fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, String> {
    let mode = text_of(settings, "auto-compaction-mode");
    let retention = text_of(settings, "auto-compaction-retention");
    let revisions = match mode.as_str() {
        "periodic" => false,
        "revision" => true,
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        _ => return Err(format!("unknown auto-compaction-mode \"{mode}\"")),
    };
    let bad =
        || format!("error parsing CompactionRetention: time: invalid duration \"{retention}\"");
    let number = retention.parse::<i64>().ok().filter(|number| *number >= 0);
    Ok(match (number, revisions) {
        (Some(0), _) => AutoCompaction::Off,
        (Some(count), true) => AutoCompaction::Revisions(count),
        (Some(hours), false) => {
            AutoCompaction::PeriodMs(hours.unsigned_abs().saturating_mul(3_600_000))
        }
        (None, _) => match go::parse_duration(&retention).ok_or_else(bad)? {
            ns if ns <= 0 => AutoCompaction::Off,
            ns if revisions => AutoCompaction::Revisions(ns),
            ns => AutoCompaction::PeriodMs(ns.unsigned_abs().div_ceil(1_000_000)),
        },
    })
}

fn gates(settings: &Settings, warnings: &mut Vec<Warning>) -> Result<Gates, String> {
    let gates = match settings.value("feature-gates") {
        Value::Gates(gates) => gates,
        other => unreachable!("--feature-gates holds {other:?}"),
    };
    gates.check()?;
    for name in ["LeaseCheckpoint", "PriorityRequest"] {
        if gates.is_on(name) {
            warnings.push(
                Warning::new("the feature gate is accepted and changes nothing")
                    .field("gate", name),
            );
        }
    }
    Ok(gates)
}

fn extensive_metrics(settings: &Settings, warnings: &mut Vec<Warning>) -> bool {
    let is_extensive = text_of(settings, "metrics") == "extensive";
    if is_extensive {
        warnings.push(Warning::new("--metrics=extensive: the histogram of calls is not built yet"));
    }
    is_extensive
}

fn quota(settings: &Settings) -> Option<u64> {
    match settings.value("quota-backend-bytes") {
        Value::Int(0) => Some(QUOTA_BYTES_DEFAULT),
        Value::Int(bytes) => u64::try_from(bytes).ok(),
        other => unreachable!("--quota-backend-bytes is no number but {other:?}"),
    }
}

fn max_request_bytes(settings: &Settings) -> Result<usize, String> {
    let bytes = usize_of(settings, "max-request-bytes");
    if bytes > limits::REQUEST_BYTES_CEILING {
        return Err(format!(
            "--max-request-bytes={bytes} is more than one entry of the log can hold; the most is \
             {}",
            limits::REQUEST_BYTES_CEILING
        ));
    }
    Ok(bytes)
}

fn progress_interval(settings: &Settings) -> Result<u64, String> {
    Ok(match ms_of(settings, "watch-progress-notify-interval")? {
        0 => PROGRESS_INTERVAL_MS_DEFAULT,
        ms => ms.max(PROGRESS_INTERVAL_MS_MIN),
    })
}

/// Shards, log depth and segment size: Ringbolt's own flags, bounded.
fn own(settings: &Settings) -> Result<(Option<u16>, usize, u64), String> {
    let shards = u16_of(settings, "shards")?;
    if shards.is_some_and(|shards| shards > limits::SHARDS_MAX) {
        return Err(format!("--shards must be 0 to {}", limits::SHARDS_MAX));
    }
    let depth = usize_of(settings, "wal-depth");
    if depth == 0 || depth > limits::WAL_DEPTH_MAX {
        return Err(format!("--wal-depth must be 1 to {}", limits::WAL_DEPTH_MAX));
    }
    let segment = uint_of(settings, "wal-segment-bytes");
    let least = (limits::ENTRY_BYTES_MAX * 8) as u64;
    if segment < least || segment > (1 << 30) || !segment.is_multiple_of(4096) {
        return Err(format!(
            "--wal-segment-bytes must be a multiple of 4096 between {least} and 1073741824"
        ));
    }
    Ok((shards, depth, segment))
}

/// A share of the memory; `None`: by rule.
fn memory_of(settings: &Settings, name: &str) -> Result<Option<u64>, String> {
    match uint_of(settings, name) {
        0 => Ok(None),
        bytes if bytes < limits::MEMORY_SHARE_BYTES_MIN => Err(format!(
            "--{name} must be 0 or at least {} (16 MiB)",
            limits::MEMORY_SHARE_BYTES_MIN
        )),
        bytes => Ok(Some(bytes)),
    }
}

fn u16_of(settings: &Settings, name: &str) -> Result<Option<u16>, String> {
    let value = u16::try_from(uint_of(settings, name))
        .map_err(|_| format!("--{name} must be 0 to {}", u16::MAX))?;
    Ok((value != 0).then_some(value))
}

fn u32_of(settings: &Settings, name: &str) -> u32 {
    u32::try_from(uint_of(settings, name)).unwrap_or(u32::MAX)
}

fn usize_of(settings: &Settings, name: &str) -> usize {
    usize::try_from(uint_of(settings, name)).unwrap_or(usize::MAX)
}

/// `None` if the list lets everything in.
fn unless_all(list: Vec<String>) -> Option<Vec<String>> {
    let all = list.is_empty() || list.iter().any(|item| item == "*");
    (!all).then_some(list)
}
