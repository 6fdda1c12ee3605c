//! config — flags, ETCD_* variables and the YAML file, read once into one frozen `Config`.
//! Before step 1 of a write. In: arguments, environment, a file reader. Out: Config or Exit.
//! Owns: the table of all flags and the words of every refusal.
//! Invariants: (1) what is refused is refused before anything is touched; (2) a flag that would
//!             change security or durability and is not built is never accepted in silence.
//! Limits: SHARDS_MAX, REQUEST_BYTES_CEILING, WAL_DEPTH_MAX.
//! Must not: read a file, the environment or a clock by itself; change after start.
//! Tests: here.

mod args;
mod describe;
mod flag;
mod gates;
mod go;
mod group;
mod help;
mod table;
mod url;
mod validate;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

pub use gates::{GATES, Gates, Stage};
pub use group::Group;
pub use url::{Scheme, Url};

use args::Settings;

/// The etcd release whose contract is kept: `/version`, Status and metrics say this one.
pub const ETCD_VERSION: &str = "3.7.3";
/// The group's version, with its patch number.
pub const CLUSTER_VERSION: &str = "3.7.0";
/// The quota in force when none is given.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// How the log becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalSync {
    /// Writes with O_DSYNC.
    Dsync,
    /// A write and, linked behind it, an fdatasync.
    Fdatasync,
}

/// How much history the server keeps by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    Off,
    /// That of this long.
    PeriodMs(u64),
    /// This many revisions.
    Revisions(i64),
}

/// How severe a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What a person may want to know later.
    Info,
    /// What a person should look at some time.
    Warn,
    /// What a person should look at now.
    Error,
    /// A broken invariant.
    Panic,
    /// The last line before the end.
    Fatal,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Columns, for people.
    Console,
}

/// Where lines of the log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

/// The log's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// What a line looks like.
    pub format: LogFormat,
    /// Where lines go; never empty.
    pub outputs: Vec<LogOutput>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: LogLevel::Info,
            format: LogFormat::Json,
            outputs: vec![LogOutput::Stderr],
        }
    }
}

/// The configuration in force. Frozen: it is read at start and never changes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where the data lives.
    pub data_dir: PathBuf,
    /// What goes into the IDs when the data directory is made.
    pub group: Group,
    /// Time between heartbeats.
    pub heartbeat_ms: u64,
    /// Time without a heartbeat until an election.
    pub election_ms: u64,
    /// Whether elections ask first.
    pub pre_vote: bool,
    /// Where clients are served, sorted.
    pub listen_client: Vec<Url>,
    /// Where peers will be served, sorted.
    pub listen_peer: Vec<Url>,
    /// Where metrics and probes alone are served, sorted.
    pub listen_metrics: Vec<Url>,
    /// What MemberList says of this member, byte for byte.
    pub advertise_client: Vec<Url>,
    /// Whether sockets share their port with other processes.
    pub socket_reuse_port: bool,
    /// Bytes of the store above which adding writes are refused; `None`: no quota.
    pub quota_bytes: Option<u64>,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// Largest write.
    pub max_request_bytes: usize,
    /// Most calls under way on one connection.
    pub max_concurrent_streams: u32,
    /// Least time between two pings of a client.
    pub keepalive_min_time_ms: u64,
    /// Silence until the server pings; 0: never.
    pub keepalive_interval_ms: u64,
    /// Time for the answer; 0: no limit.
    pub keepalive_timeout_ms: u64,
    /// Time between progress notices.
    pub watch_progress_interval_ms: u64,
    /// How much history the server keeps by itself.
    pub auto_compaction: AutoCompaction,
    /// Origins that HTTP answers; `None`: all.
    pub cors: Option<Vec<String>>,
    /// Host names that HTTP requests in the clear may be for; `None`: all.
    pub host_whitelist: Option<Vec<String>>,
    /// Whether the histogram of calls is exported.
    pub extensive_metrics: bool,
    /// The log.
    pub log: LogConfig,
    /// A write that takes longer to apply is logged; it and a slower Range are counted.
    pub warn_apply_ms: u64,
    /// The feature gates.
    pub gates: Gates,
    /// Cores to run on; `None`: all that there are.
    pub cores: Option<u16>,
    /// Shards of a new data directory; `None`: by rule.
    pub shards: Option<u16>,
    /// How the log becomes durable.
    pub wal_sync: WalSync,
    /// Writes in flight per lane.
    pub wal_depth: usize,
    /// Size of a log segment.
    pub wal_segment_bytes: u64,
    /// Bytes of pages in memory; `None`: by rule.
    pub page_cache_bytes: Option<u64>,
    /// Bytes of changes in memory that are not on pages yet; `None`: by rule.
    pub memtable_bytes: Option<u64>,
    /// Rest between two passes over all pages; 0: there are none.
    pub page_scrub_interval_ms: u64,
    /// Changes behind which a checkpoint is due.
    pub checkpoint_records: u64,
}

/// Bytes of pages in memory where the process may use `memory`.
#[must_use]
pub fn page_cache_by_rule(memory: u64) -> u64 {
    (memory / 8).clamp(64 << 20, 16 << 30)
}

/// Bytes of changes in memory where the process may use `memory`.
#[must_use]
pub fn memtable_by_rule(memory: u64) -> u64 {
    (memory / 16).clamp(64 << 20, 1 << 30)
}

/// Shards of a new data directory on a machine of `cores` cores: a quarter of them, one on up to
/// four cores, at most 16.
#[must_use]
pub fn shards_by_rule(cores: u16) -> u16 {
    (cores / 4).clamp(1, crate::base::limits::SHARDS_MAX)
}

/// Something the operator should know, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The sentence.
    pub message: String,
    /// What it is about.
    pub fields: Vec<(&'static str, String)>,
}

impl Warning {
    fn new(message: impl Into<String>) -> Warning {
        Warning { message: message.into(), fields: Vec::new() }
    }

    fn field(mut self, name: &'static str, value: &str) -> Warning {
        self.fields.push((name, value.to_owned()));
        self
    }
}

/// Which stream a text goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Why no server starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The text is the whole answer.
    Print {
        /// The process's exit code.
        code: i32,
        /// Where the text goes.
        stream: Stream,
        /// The text, with its last newline.
        text: String,
    },
    /// The configuration is refused: one fatal line of the log, exit 1.
    Refuse {
        /// The sentence.
        message: String,
        /// What it is about.
        fields: Vec<(&'static str, String)>,
    },
}

impl Exit {
    fn refuse(message: impl Into<String>) -> Exit {
        Exit::Refuse { message: message.into(), fields: Vec::new() }
    }
}

/// Reads a file's bytes, for the configuration file.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> io::Result<Vec<u8>>;

/// Reads the configuration. `args` are those behind the program's name.
///
/// # Errors
/// [`Exit`] when there is nothing to start: help, version, or a refusal.
pub fn load(
    args: &[String],
    env: impl Iterator<Item = (String, String)>,
    read_file: ReadFile<'_>,
) -> Result<(Config, Vec<Warning>), Exit> {
    let env: BTreeMap<String, String> = env.collect();
    let mut warnings = Vec::new();
    let mut settings = Settings::default();
    args::read(args, &mut settings, &mut warnings)?;
    if validate::flag_is_on(&settings, "version") {
        return Err(Exit::Print { code: 0, stream: Stream::Out, text: version_text() });
    }
    let path = match validate::text_of(&settings, "config-file") {
        path if path.is_empty() => env.get("ETCD_CONFIG_FILE").cloned().unwrap_or_default(),
        path => path,
    };
    let from_file = !path.is_empty();
    if from_file {
        // A file counts alone: flags and environment are ignored, as in etcd.
        settings = Settings::default();
        warnings.clear();
        let bytes = read_file(&path).map_err(|why| Exit::refuse(format!("open {path}: {why}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Exit::refuse(format!("{path}: the configuration file is no UTF-8")))?;
        yaml::read(&path, &text, &mut settings, &mut warnings)?;
    } else {
        if env.get("ETCD_VERSION").is_some_and(|value| !value.is_empty()) {
            warnings.push(Warning::new("cannot set special environment variable ETCD_VERSION"));
        }
        args::read_env(&env, &mut settings, &mut warnings)?;
    }
    args::check_support(&settings, &mut warnings)?;
    let config = validate::config(&settings, from_file, &mut warnings).map_err(Exit::refuse)?;
    Ok((config, warnings))
}

/// What `--version` prints.
#[must_use]
pub fn version_text() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nRingbolt Version: {}\nOS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
