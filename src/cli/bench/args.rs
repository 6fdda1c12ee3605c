//! The command line of a scenario: its flags as a table, their values, and the help.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::engine::{Pace, Phase, Source};
use super::recorder::SeriesId;
use super::schedule::{Arrivals, Schedule, Share};
use crate::runtime::signals::random_seed;

const HELP_COLUMNS: usize = 92;

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// Its value unless given; empty for none. A switch is `false`.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// A flag.
#[must_use]
pub const fn flag(name: &'static str, default: &'static str, about: &'static str) -> Flag {
    Flag { name, default, about }
}

/// Flags of all scenarios.
pub const COMMON: [Flag; 22] = [
    flag("endpoints", "127.0.0.1:2379", "servers, separated by commas; connections take turns"),
    flag("connections", "1", "connections in all"),
    flag(
        "streams",
        "1",
        "calls under way on each connection: clients of a closed loop, bound of an open one",
    ),
    flag("threads", "1", "threads of the generator; connections are shared out among them"),
    flag(
        "rate",
        "0",
        "operations due per second; 0: a closed loop, each client asks when it was answered",
    ),
    flag("arrivals", "constant", "spacing of what is due: constant or poisson"),
    flag("warmup", "2s", "time before anything counts; none with --total"),
    flag("duration", "20s", "time that counts"),
    flag("total", "0", "operations instead of a time; 0: by time"),
    flag("timeout", "10s", "time for an answer; above it the operation failed"),
    flag("seed", "1", "what chance begins with"),
    flag("label", "", "name of this run in the report"),
    flag(
        "server-pid",
        "",
        "process of a server on this machine, once for each endpoint; found by itself if it may be",
    ),
    flag("json", "", "file for the result as JSON; - for standard output"),
    flag("hdr", "", "file for the histograms as a HdrHistogram log"),
    flag("report", "", "file for the result as a page"),
    flag("short", "false", "a version that ends within 30 seconds"),
    flag("quiet", "false", "no line of progress each second"),
    flag("cacert", "", "not built yet: TLS"),
    flag("cert", "", "not built yet: TLS"),
    flag("key", "", "not built yet: TLS"),
    flag("help", "false", "this text"),
];

/// What a command line came to.
#[derive(Clone, Debug)]
pub struct Args {
    values: BTreeMap<&'static str, String>,
    given: Vec<&'static str>,
    /// Values of a flag that may come several times.
    pids: Vec<String>,
}

/// Pairs of a flag and its value.
pub type Defaults = [(&'static str, &'static str)];

impl Args {
    /// Reads a command line.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(
        flags: &[Flag],
        (defaults, short): (&Defaults, &Defaults),
        words: &[String],
    ) -> Result<Args, String> {
        let all = || COMMON.iter().chain(flags);
        let mut values: BTreeMap<&'static str, String> =
            all().map(|flag| (flag.name, flag.default.to_owned())).collect();
        values.extend(defaults.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut args = Args { values, given: Vec::new(), pids: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(bare) = word.strip_prefix("--") else {
                return Err(format!("{word:?} is no flag; flags begin with --"));
            };
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (bare, None),
            };
            let found = all().find(|flag| flag.name == name);
            let flag = found.ok_or_else(|| format!("--{name} is not a flag of this scenario"))?;
            let value = match value {
                Some(value) => value,
                None if flag.default == "false" => "true".to_owned(),
                None => words.next().cloned().ok_or_else(|| format!("--{name} needs a value"))?,
            };
            if flag.name == "server-pid" {
                args.pids.push(value.clone());
            }
            args.given.push(flag.name);
            args.values.insert(flag.name, value);
        }
        if args.is_on("short")? {
            for (name, value) in short {
                if !args.is_given(name) {
                    args.values.insert(name, (*value).to_owned());
                }
            }
        }
        Ok(args)
    }

    /// Whether a flag was on the command line.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// A flag's value.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A flag's value if it has one.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A flag's value as a number.
    ///
    /// # Errors
    /// A sentence.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("--{name} is no number that fits: {text:?}"))
    }

    /// A flag's value as a number from 1 on.
    ///
    /// # Errors
    /// A sentence.
    pub fn count(&self, name: &str) -> Result<usize, String> {
        let count = self.number(name)?;
        if count == 0 { Err(format!("--{name} must be at least 1")) } else { Ok(count) }
    }

    /// A switch.
    ///
    /// # Errors
    /// A sentence.
    pub fn is_on(&self, name: &str) -> Result<bool, String> {
        let text = self.text(name);
        text.parse().map_err(|_| format!("--{name} is true or false, not {text:?}"))
    }

    /// A size: a number of bytes, or of KiB or MiB.
    ///
    /// # Errors
    /// A sentence.
    pub fn bytes(&self, name: &str) -> Result<usize, String> {
        let text = self.text(name);
        let (digits, unit) = match () {
            () if text.ends_with("MiB") => (&text[..text.len() - 3], 1 << 20),
            () if text.ends_with("KiB") => (&text[..text.len() - 3], 1 << 10),
            () => (text, 1),
        };
        let number = digits.trim().parse::<usize>().ok();
        let bytes = number.and_then(|number| number.checked_mul(unit));
        bytes.ok_or_else(|| format!("--{name} is a size such as 256, 4KiB or 2MiB, not {text:?}"))
    }

    /// A time in milliseconds: `500ms`, `2s`, `5m`; a bare number is seconds.
    ///
    /// # Errors
    /// A sentence.
    pub fn ms(&self, name: &str) -> Result<u64, String> {
        let text = self.text(name);
        parse_ms(text)
            .ok_or_else(|| format!("--{name} is a time such as 500ms, 2s or 5m, not {text:?}"))
    }

    /// The flags and their values, for the result.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let is_output = |name: &str| {
            ["json", "hdr", "report", "help", "quiet", "label", "cacert", "cert", "key"]
                .contains(&name)
        };
        let values = self.values.iter().filter(move |(name, _)| !is_output(name));
        values.map(|(name, value)| (*name, value.as_str()))
    }

    /// A copy with another value of one flag.
    #[must_use]
    pub fn with(&self, name: &'static str, value: String) -> Args {
        let mut args = self.clone();
        args.values.insert(name, value);
        args
    }
}

/// `500ms`, `2s`, `5m`, or seconds.
#[must_use]
pub fn parse_ms(text: &str) -> Option<u64> {
    let units = [("ms", 1.0), ("us", 0.001), ("s", 1_000.0), ("m", 60_000.0)];
    let found = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (digits, ms) = found.unwrap_or((text, 1_000.0));
    let value: f64 = digits.trim().parse().ok()?;
    let ms = value * ms;
    (0.0..1e12).contains(&ms).then_some(ms.round() as u64)
}

/// What all scenarios take.
#[derive(Clone, Debug)]
pub struct Common {
    /// `host:port` of each server.
    pub endpoints: Vec<String>,
    /// Connections in all.
    pub connections: usize,
    /// Calls under way on each.
    pub streams: usize,
    /// Threads.
    pub threads: usize,
    /// Per second, 0 for a closed loop.
    pub rate: f64,
    /// Spacing of an open loop.
    pub arrivals: Arrivals,
    /// Before anything counts.
    pub warmup_ms: u64,
    /// What counts.
    pub duration_ms: u64,
    /// Operations instead.
    pub total: Option<u64>,
    /// For an answer.
    pub timeout_ms: u64,
    /// For chance.
    pub seed: u64,
    /// Processes of the servers.
    pub pids: Vec<u32>,
    /// What the stamps of this run carry: times are of one process.
    pub run: u64,
}

impl Common {
    /// Reads and checks them.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(args: &Args) -> Result<Common, String> {
        for name in ["cacert", "cert", "key"] {
            if args.is_given(name) {
                return Err(format!("--{name}: TLS is not built yet; bench speaks plaintext only"));
            }
        }
        let endpoints = args.text("endpoints").split(',').map(endpoint);
        let endpoints = endpoints.collect::<Result<Vec<String>, String>>()?;
        let arrivals = match args.text("arrivals") {
            "constant" => Arrivals::Constant,
            "poisson" => Arrivals::Poisson,
            other => return Err(format!("--arrivals is constant or poisson, not {other:?}")),
        };
        let total: u64 = args.number("total")?;
        let total = (total > 0).then_some(total);
        let rate: f64 = args.number("rate")?;
        if !(0.0..=1e8).contains(&rate) {
            return Err("--rate is from 0 to 100,000,000 per second".to_owned());
        }
        let pids = args
            .pids
            .iter()
            .map(|pid| pid.parse().map_err(|_| format!("--server-pid {pid} is no process number")));
        let common = Common {
            endpoints,
            connections: args.count("connections")?,
            streams: args.count("streams")?,
            threads: args.count("threads")?,
            rate,
            arrivals,
            warmup_ms: if total.is_some() { 0 } else { args.ms("warmup")? },
            duration_ms: args.ms("duration")?,
            total,
            timeout_ms: args.ms("timeout")?.max(1),
            seed: args.number("seed")?,
            pids: pids.collect::<Result<Vec<u32>, String>>()?,
            run: random_seed() | 1,
        };
        if common.threads > common.connections {
            let (threads, connections) = (common.threads, common.connections);
            return Err(format!("{threads} threads need as many connections, not {connections}"));
        }
        if common.duration_ms == 0 {
            return Err("--duration must be above 0".to_owned());
        }
        Ok(common)
    }

    /// The whole of a thread's load as one source: its share of rate, clients and total.
    pub fn source(&self, share: Share, series: SeriesId) -> Source {
        let total = self.total.map(|total| share.of(total));
        Source { pace: self.pace(share), total, series }
    }

    /// The pace of a thread's main source.
    #[must_use]
    pub fn pace(&self, share: Share) -> Pace {
        if self.rate > 0.0 {
            self.open(self.rate, share)
        } else {
            Pace::Closed(self.clients(share))
        }
    }

    /// An open loop of this rate over all threads.
    #[must_use]
    pub fn open(&self, rate: f64, share: Share) -> Pace {
        Pace::Open(Schedule::new(rate, self.arrivals, self.seed, share))
    }

    /// A thread's clients of a closed loop.
    #[must_use]
    pub fn clients(&self, share: Share) -> usize {
        share.of(self.connections as u64) as usize * self.streams
    }

    /// The phase that counts.
    #[must_use]
    pub fn measured(&self, name: &'static str) -> Phase {
        Phase { name, is_measured: true, is_timed: self.total.is_none() }
    }
}

/// An endpoint as `host:port`.
fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.starts_with("https://") {
        return Err(format!("{text}: TLS is not built yet; bench speaks plaintext only"));
    }
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if bare.is_empty() || bare.contains('/') {
        return Err(format!("{text:?} is no endpoint such as 127.0.0.1:2379"));
    }
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { bare.to_owned() } else { format!("{bare}:2379") })
}

/// The help of a scenario.
#[must_use]
pub fn help(name: &str, about: &str, flags: &[Flag], defaults: &Defaults) -> String {
    let mut out = format!("Usage: ringbolt bench {name} [flags]\n\n");
    wrap(&mut out, "", about);
    let mut section = |title: &str, flags: &[Flag]| {
        if flags.is_empty() {
            return;
        }
        let _ = write!(out, "\n{title}:\n");
        for flag in flags {
            let own = defaults.iter().find(|(name, _)| *name == flag.name);
            let default = own.map_or(flag.default, |(_, value)| *value);
            let shown = match default {
                "" | "false" => String::new(),
                default => format!(" (default {default})"),
            };
            let text = format!("{}{shown}", flag.about);
            wrap(&mut out, &format!("  --{:<18} ", flag.name), &text);
        }
    };
    section("Flags of this scenario", flags);
    section("Flags of all scenarios", &COMMON);
    out
}

/// Appends a text behind a head, in lines that fit a terminal.
fn wrap(out: &mut String, head: &str, text: &str) {
    out.push_str(head);
    let mut column = head.len();
    for word in text.split(' ') {
        if column + word.len() > HELP_COLUMNS {
            out.truncate(out.trim_end().len());
            let _ = write!(out, "\n{:1$}", "", head.len());
            column = head.len();
        }
        out.push_str(word);
        out.push(' ');
        column += word.len() + 1;
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal() {
        const LONG: &str = "a long word and a long word and a long word and a long word and a long \
                            word";
        let flags = [flag("a-flag", "17", LONG)];
        let text = help("name", &"about it ".repeat(30), &flags, &[]);
        assert!(text.lines().all(|line| line.len() <= HELP_COLUMNS && !line.ends_with(' ')));
        assert!(text.contains("\n  --a-flag             a long word"), "{text}");
        assert!(text.contains("17)\n"), "{text}");
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let flags = [flag("val-size", "256", "bytes"), flag("prefix", "", "where")];
        Args::parse(&flags, (&[("streams", "4")], &[("duration", "3s"), ("rate", "5")]), &words)
    }

    #[test]
    fn flags_have_values_defaults_and_a_short_form() {
        let args = parse(&["--val-size=4KiB", "--rate", "100.5", "--short"]).expect("flags");
        assert_eq!((args.bytes("val-size"), args.count("streams")), (Ok(4096), Ok(4)));
        let common = Common::read(&args).expect("checked");
        assert_eq!((common.rate, common.duration_ms), (100.5, 3_000));
        assert_eq!(common.endpoints, ["127.0.0.1:2379"]);
        let args = parse(&["--endpoints", "http://a:1/,b", "--total=9"]).expect("flags");
        let common = Common::read(&args).expect("checked");
        assert_eq!(common.endpoints, ["a:1", "b:2379"]);
        assert_eq!((common.total, common.warmup_ms, common.duration_ms), (Some(9), 0, 20_000));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases: [(&[&str], &str); 9] = [
            (&["--nosuch"], "--nosuch is not a flag of this scenario"),
            (&["put"], "\"put\" is no flag; flags begin with --"),
            (&["--rate"], "--rate needs a value"),
            (&["--rate=fast"], "--rate is no number that fits: \"fast\""),
            (&["--connections=0"], "--connections must be at least 1"),
            (&["--duration=1h"], "--duration is a time such as 500ms, 2s or 5m, not \"1h\""),
            (&["--short=maybe"], "--short is true or false, not \"maybe\""),
            (&["--threads=2"], "2 threads need as many connections, not 1"),
            (
                &["--endpoints=https://a"],
                "https://a: TLS is not built yet; bench speaks plaintext only",
            ),
        ];
        for (words, expect) in cases {
            let error = parse(words).and_then(|args| Common::read(&args)).expect_err("refused");
            assert_eq!(error, expect, "{words:?}");
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        let cases = [("500ms", Some(500)), ("2s", Some(2_000)), ("1.5m", Some(90_000))];
        for (text, ms) in cases.into_iter().chain([("3", Some(3_000)), ("x", None), ("-1s", None)])
        {
            assert_eq!(parse_ms(text), ms, "{text}");
        }
        assert_eq!(parse(&["--val-size=2MiB"]).expect("flags").bytes("val-size"), Ok(2 << 20));
        assert!(parse(&["--val-size=1GB"]).expect("flags").bytes("val-size").is_err());
    }
}
