//! cli — command lines: from arguments to an exit code.
//! Before step 1 of a write. In: arguments and environment. Out: a member that serves, or a
//! sentence and 1 or 2.
//! Owns: nothing that lives.
//! Invariants: (1) nothing is created before all that can be refused is; (2) but for help and
//!             version only the log writes to the standard streams.
//! Limits: none.
//! Must not: know how a member serves.
//! Tests: here.

pub mod bench;
mod progress;
mod units;
pub mod utl;

use std::ffi::OsString;
use std::io::Write;
use std::num::NonZero;

use crate::config::{self, Config, Exit, LogLevel, Stream, shards_by_rule};
use crate::log;
use crate::runtime::datadir::{DataDir, NewMember};
use crate::runtime::log::{self as member_log, Field};
use crate::runtime::probe::{self, Grant};

/// What a member needs to serve, with everything checked that could be refused.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The open data directory.
    pub data_dir: DataDir,
    /// What the kernel grants.
    pub grant: Grant,
    /// Cores to run on.
    pub cores: u16,
}

/// Runs a server: reads the configuration, asks the kernel, opens the data directory and hands
/// all of it to `serve`, whose exit code it returns. `args` are those behind the program's name.
pub fn server(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
    (out, err): (&mut dyn Write, &mut dyn Write),
    serve: impl FnOnce(Start) -> i32,
) -> i32 {
    match prepare(args, env) {
        Ok(start) => serve(start),
        Err(Exit::Print { code, stream, text }) => {
            // Whoever closed the stream does not want the text.
            let _ = match stream {
                Stream::Out => out.write_all(text.as_bytes()),
                Stream::Err => err.write_all(text.as_bytes()),
            };
            code
        }
        Err(Exit::Refuse { message, fields }) => {
            let mut line = vec![("error", Field::Text(&message))];
            line.extend(fields.iter().map(|(name, value)| (*name, Field::Text(value))));
            let caller = concat!(file!(), ":", line!());
            member_log::line(LogLevel::Fatal, caller, "failed to start", &line);
            1
        }
    }
}

fn prepare(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Start, Exit> {
    let refuse = |message: String| Exit::Refuse { message, fields: Vec::new() };
    let args = args
        .map(OsString::into_string)
        .collect::<Result<Vec<String>, OsString>>()
        .map_err(|arg| refuse(format!("the argument {} is no UTF-8", arg.display())))?;
    // A variable that is no text cannot be one of ours.
    let env = env.filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    let (config, warnings) = config::load(&args, env, &|path| std::fs::read(path))?;
    member_log::init(&config.log).map_err(refuse)?;
    for warning in &warnings {
        let fields: Vec<(&str, Field<'_>)> =
            warning.fields.iter().map(|(name, value)| (*name, Field::Text(value))).collect();
        if member_log::is_on(LogLevel::Warn) {
            let caller = concat!(file!(), ":", line!());
            member_log::line(LogLevel::Warn, caller, &warning.message, &fields);
        }
    }
    let cores = config.cores.unwrap_or_else(available_cores);
    log_config(&config, cores);
    let grant = probe::probe(cores).map_err(refuse)?;
    let data_dir = DataDir::open(&config.data_dir, || new_member(&config, cores));
    let data_dir = data_dir.map_err(refuse)?;
    for warning in &data_dir.warnings {
        log!(Warn, warning, "data-dir" => data_dir.root.display());
    }
    let member = &data_dir.identity.member;
    log!(
        Info,
        if data_dir.is_new { "made a new data directory" } else { "opened the data directory" },
        "data-dir" => data_dir.root.display(),
        "cluster-id" => format_args!("{:x}", member.cluster_id),
        "local-member-id" => format_args!("{:x}", member.member_id),
        "shards" => member.shards,
    );
    Ok(Start { config, data_dir, grant, cores })
}

fn new_member(config: &Config, cores: u16) -> Result<NewMember, String> {
    let (member_id, cluster_id) = config.group.ids()?;
    let peer_urls = config.group.advertise_peer.iter().map(|url| url.as_str().to_owned());
    let shards = config.shards.unwrap_or_else(|| shards_by_rule(cores));
    Ok(NewMember { cluster_id, member_id, peer_urls: peer_urls.collect(), shards })
}

fn available_cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// The configuration in force, once.
fn log_config(config: &Config, cores: u16) {
    if !member_log::is_on(LogLevel::Info) {
        return;
    }
    let described = config.describe();
    let mut fields = vec![
        ("etcd-version", Field::Text(config::ETCD_VERSION)),
        ("ringbolt-version", Field::Text(env!("CARGO_PKG_VERSION"))),
        ("cores", Field::Uint(u64::from(cores))),
    ];
    fields.extend(described.iter().map(|(name, value)| (*name, Field::Text(value))));
    let caller = concat!(file!(), ":", line!());
    member_log::line(LogLevel::Info, caller, "starting a Ringbolt server", &fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> (i32, String, String, Option<Start>) {
        let (mut out, mut err, mut start) = (Vec::new(), Vec::new(), None);
        let env = std::iter::empty();
        let args = args.iter().map(OsString::from);
        let code = server(args, env, (&mut out, &mut err), |given| {
            start = Some(given);
            7
        });
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err), start)
    }

    #[test]
    fn exits_are_etcds() {
        let (code, out, err, _) = run(&["--version"]);
        assert!(code == 0 && out.starts_with("etcd Version: ") && err.is_empty());
        let (code, out, err, _) = run(&["--nosuch"]);
        assert!(code == 2 && out.is_empty() && err.starts_with("flag provided but not defined"));
        let (code, out, err, start) = run(&["nosuch"]);
        assert!(code == 1 && out.is_empty() && err.is_empty() && start.is_none());
    }

    #[test]
    fn a_start_holds_all_that_serving_needs() {
        let dir = std::env::temp_dir().join(format!("ringbolt-cli-{}", std::process::id()));
        let flag = format!("--data-dir={}", dir.display());
        let (code, out, err, start) = run(&[&flag, "--shards=2", "--cores=1", "--log-level=warn"]);
        assert!(code == 7 && out.is_empty() && err.is_empty());
        let start = start.expect("a start");
        assert_eq!((start.cores, start.data_dir.identity.member.shards), (1, 2));
        assert!(start.grant.io_memory > 0 && start.data_dir.is_new);
        drop(start);
        let (code, ..) = run(&[&flag, "--initial-cluster-state=existing"]);
        assert_eq!(code, 7, "what a directory holds already is not asked again");
        std::fs::remove_dir_all(&dir).expect("own folder");
    }
}
