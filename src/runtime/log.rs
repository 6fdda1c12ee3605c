//! The log: one JSON object per line, from the first byte on, and nothing else on that stream.
//!
//! A line is put together in a buffer of its core and leaves in one write(2): cores need no lock
//! to keep their lines whole. A line that is not wanted costs one load of an atomic.
//!
//! ```text
//! log!(Info, "ready to serve client requests", "address" => url);
//! {"level":"info","ts":"2026-01-02T03:04:05.000006Z","caller":"runtime/serve.rs:7","msg":...}
//! ```

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::limits::LOG_FIELD_BYTES_MAX;
use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};

/// Writes a line: `log!(Warn, "message", "field" => value, ...)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $message:expr $(, $name:literal => $value:expr)* $(,)?) => {
        if $crate::runtime::log::is_on($crate::config::LogLevel::$level) {
            $crate::runtime::log::line(
                $crate::config::LogLevel::$level,
                concat!(file!(), ":", line!()),
                $message,
                &[$(($name, $crate::runtime::log::Field::from(&$value))),*],
            );
        }
    };
}

/// A field's value.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// Text, quoted.
    Text(&'a str),
    /// Whatever displays itself, quoted.
    Shown(&'a dyn Display),
    /// Several texts, as a list.
    Texts(&'a [String]),
    /// A number without sign.
    Uint(u64),
    /// A number.
    Int(i64),
    /// True or false.
    Bool(bool),
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        put_value(&mut out, *self);
        f.write_str(&out)
    }
}

macro_rules! field_from {
    ($($type:ty => |$value:ident| $field:expr),* $(,)?) => {
        $(impl<'a> From<&'a $type> for Field<'a> {
            fn from($value: &'a $type) -> Field<'a> {
                $field
            }
        })*
    };
}

field_from! {
    &'a str => |value| Field::Text(value),
    String => |value| Field::Text(value),
    &'a String => |value| Field::Text(value),
    Vec<String> => |value| Field::Texts(value),
    bool => |value| Field::Bool(*value),
    u16 => |value| Field::Uint(u64::from(*value)),
    u32 => |value| Field::Uint(u64::from(*value)),
    u64 => |value| Field::Uint(*value),
    usize => |value| Field::Uint(*value as u64),
    i32 => |value| Field::Int(i64::from(*value)),
    i64 => |value| Field::Int(*value),
    io::Error => |value| Field::Shown(value),
    fmt::Arguments<'a> => |value| Field::Shown(value),
    std::path::Display<'a> => |value| Field::Shown(value),
}

/// Where lines go, once that is known.
#[derive(Debug)]
struct Sink {
    format: LogFormat,
    outputs: Vec<File>,
}

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);
static SINK: OnceLock<Sink> = OnceLock::new();

/// Opens the outputs. Until then lines of level info and above go to standard error as JSON.
///
/// # Errors
/// A sentence that names the output which cannot be opened.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let outputs = config.outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    LEVEL.store(config.level as u8, Ordering::Relaxed);
    // A second call, as in tests, leaves the first one's outputs in place.
    let _ = SINK.set(Sink { format: config.format, outputs });
    Ok(())
}

fn open(output: &LogOutput) -> Result<File, String> {
    let (name, file) = match output {
        LogOutput::Stderr => ("stderr".into(), duplicate(io::stderr().as_fd())),
        LogOutput::Stdout => ("stdout".into(), duplicate(io::stdout().as_fd())),
        LogOutput::File(path) => {
            (path.to_string_lossy(), OpenOptions::new().append(true).create(true).open(path))
        }
    };
    file.map_err(|why| format!("couldn't open sink \"{name}\": {why}"))
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(fd.try_clone_to_owned()?))
}

/// Whether lines of this level are written.
#[must_use]
pub fn is_on(level: LogLevel) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes a line. Use [`log!`](crate::log!), which asks [`is_on`] first.
pub fn line(level: LogLevel, caller: &str, message: &str, fields: &[(&str, Field<'_>)]) {
    let format = SINK.get().map_or(LogFormat::Json, |sink| sink.format);
    LINE.with(|buffer| {
        // A value that logs while it is displayed would find the buffer in use.
        let mut spare = String::new();
        let mut shared = buffer.try_borrow_mut();
        let out = match &mut shared {
            Ok(buffer) => &mut **buffer,
            Err(_) => &mut spare,
        };
        out.clear();
        put_line(out, format, now(), level, caller, message, fields);
        write_out(out.as_bytes());
        out.shrink_to(4 * LOG_FIELD_BYTES_MAX);
    });
}

/// A log that cannot be written to must not stop the member: what fails here is lost.
fn write_out(bytes: &[u8]) {
    match SINK.get() {
        None => {
            let _ = io::stderr().write_all(bytes);
        }
        Some(sink) => {
            for mut output in &sink.outputs {
                let _ = output.write_all(bytes);
            }
        }
    }
}

fn put_line(
    out: &mut String,
    format: LogFormat,
    at: Duration,
    level: LogLevel,
    caller: &str,
    message: &str,
    fields: &[(&str, Field<'_>)],
) {
    let caller = caller.strip_prefix("src/").unwrap_or(caller);
    match format {
        LogFormat::Json => {
            out.push_str("{\"level\":\"");
            out.push_str(level_name(level));
            out.push_str("\",\"ts\":\"");
            put_time(out, at);
            out.push_str("\",\"caller\":");
            put_value(out, Field::Text(caller));
            out.push_str(",\"msg\":");
            put_value(out, Field::Text(message));
            for (name, value) in fields {
                out.push(',');
                put_field(out, name, *value);
            }
            out.push_str("}\n");
        }
        LogFormat::Console => {
            put_time(out, at);
            // Writing into a string cannot fail.
            let _ = write!(out, "\t{}\t{caller}\t", level_name(level));
            // A message stays on its line.
            out.extend(message.chars().map(|c| if c.is_control() { ' ' } else { c }));
            if !fields.is_empty() {
                out.push_str("\t{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    put_field(out, name, *value);
                }
                out.push('}');
            }
            out.push('\n');
        }
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Panic => "panic",
        LogLevel::Fatal => "fatal",
    }
}

fn put_field(out: &mut String, name: &str, value: Field<'_>) {
    put_value(out, Field::Text(name));
    out.push(':');
    put_value(out, value);
}

fn put_value(out: &mut String, value: Field<'_>) {
    match value {
        Field::Text(text) => quoted(out, |quote| quote.write_str(text)),
        Field::Shown(shown) => quoted(out, |quote| write!(quote, "{shown}")),
        Field::Texts(texts) => {
            out.push('[');
            for (index, text) in texts.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                quoted(out, |quote| quote.write_str(text));
            }
            out.push(']');
        }
        // Writing into a string cannot fail.
        Field::Uint(number) => drop(write!(out, "{number}")),
        Field::Int(number) => drop(write!(out, "{number}")),
        Field::Bool(truth) => drop(write!(out, "{truth}")),
    }
}

fn quoted(out: &mut String, write: impl FnOnce(&mut Quote<'_>) -> fmt::Result) {
    out.push('"');
    let mut quote = Quote { out, room: LOG_FIELD_BYTES_MAX };
    if write(&mut quote).is_err() {
        out.push_str("...");
    }
    out.push('"');
}

/// Escapes what it is given, and breaks off when a value is too long for a log.
struct Quote<'a> {
    out: &'a mut String,
    room: usize,
}

impl fmt::Write for Quote<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.room = self.room.checked_sub(c.len_utf8()).ok_or(fmt::Error)?;
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if c.is_control() => write!(self.out, "\\u{:04x}", c as u32)?,
                c => self.out.push(c),
            }
        }
        Ok(())
    }
}

/// Time since 1970. The log is one of the few who may ask.
#[expect(clippy::disallowed_methods, reason = "a line of the log bears the wall clock's time")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Appends the time since 1970 as `2006-01-02T15:04:05.000000Z`, always in UTC.
pub fn put_time(out: &mut String, at: Duration) {
    let seconds = at.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = at.subsec_micros();
    // Writing into a string cannot fail.
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// The civil date, `days` after 1970-01-01: years begin in March here, so that a leap day is the
/// last of its year (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Makes a broken invariant a line of the log, so that nothing else reaches standard error.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        line(LogLevel::Panic, &place, text, &[]);
    }));
}

/// Takes raft's own lines. What raft calls an error is often a message that came late, so each
/// of its levels counts one less here.
#[derive(Clone, Copy, Debug)]
pub struct RaftDrain;

impl RaftDrain {
    fn level(level: slog::Level) -> Option<LogLevel> {
        match level {
            slog::Level::Critical => Some(LogLevel::Error),
            slog::Level::Error => Some(LogLevel::Warn),
            slog::Level::Warning => Some(LogLevel::Info),
            slog::Level::Info | slog::Level::Debug => Some(LogLevel::Debug),
            slog::Level::Trace => None,
        }
    }
}

impl slog::Drain for RaftDrain {
    type Ok = ();
    type Err = slog::Never;

    fn log(
        &self,
        record: &slog::Record<'_>,
        values: &slog::OwnedKVList,
    ) -> Result<(), slog::Never> {
        let Some(level) = RaftDrain::level(record.level()).filter(|level| is_on(*level)) else {
            return Ok(());
        };
        let mut collected = Collected::default();
        // A value that cannot be shown is left out.
        let _ = slog::KV::serialize(&record.kv(), record, &mut collected);
        let _ = slog::KV::serialize(values, record, &mut collected);
        let fields: Vec<(&str, Field<'_>)> =
            collected.0.iter().map(|(name, value)| (name.as_ref(), Field::Text(value))).collect();
        line(level, "raft", &record.msg().to_string(), &fields);
        Ok(())
    }

    fn is_enabled(&self, level: slog::Level) -> bool {
        RaftDrain::level(level).is_some_and(is_on)
    }
}

/// Values of a line of raft's.
#[derive(Default)]
struct Collected(Vec<(String, String)>);

impl slog::Serializer for Collected {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: LogFormat, message: &str, fields: &[(&str, Field<'_>)]) -> String {
        let mut out = String::new();
        let at = Duration::new(1_767_323_045, 6_000);
        put_line(&mut out, format, at, LogLevel::Warn, "src/a.rs:7", message, fields);
        out
    }

    #[test]
    fn a_line_is_one_json_object_with_fields_behind_the_message() {
        let list = ["x".to_owned(), "y\n".to_owned()];
        let fields = [
            ("s", Field::Text("q\"\\\u{1}")),
            ("n", Field::Uint(7)),
            ("i", Field::Int(-7)),
            ("b", Field::Bool(true)),
            ("l", Field::Texts(&list)),
        ];
        assert_eq!(
            text(LogFormat::Json, "two\nlines", &fields),
            "{\"level\":\"warn\",\"ts\":\"2026-01-02T03:04:05.000006Z\",\"caller\":\"a.rs:7\",\
             \"msg\":\"two\\nlines\",\"s\":\"q\\\"\\\\\\u0001\",\"n\":7,\"i\":-7,\"b\":true,\
             \"l\":[\"x\",\"y\\n\"]}\n"
        );
        assert_eq!(
            text(LogFormat::Console, "two\nlines", &fields[1..3]),
            "2026-01-02T03:04:05.000006Z\twarn\ta.rs:7\ttwo lines\t{\"n\":7, \"i\":-7}\n"
        );
        assert!(text(LogFormat::Console, "m", &[]).ends_with("\tm\n"));
    }

    #[test]
    fn long_values_are_cut_and_stay_text() {
        let long = "\u{e4}".repeat(LOG_FIELD_BYTES_MAX);
        let line = text(LogFormat::Json, &long, &[]);
        assert!(line.len() < LOG_FIELD_BYTES_MAX + 200);
        assert!(line.ends_with("\u{e4}...\"}\n"));
    }

    #[test]
    fn dates_are_civil() {
        let cases = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, expect) in cases {
            assert_eq!(date(days), expect, "{days}");
        }
    }

    #[test]
    fn rafts_levels_count_one_less() {
        assert_eq!(RaftDrain::level(slog::Level::Error), Some(LogLevel::Warn));
        assert_eq!(RaftDrain::level(slog::Level::Info), Some(LogLevel::Debug));
        let logger = slog::Logger::root(RaftDrain, slog::o!("id" => 1));
        slog::debug!(logger, "not shown at level info"; "term" => 2);
        assert!(!slog::Drain::is_enabled(&RaftDrain, slog::Level::Info));
    }
}
