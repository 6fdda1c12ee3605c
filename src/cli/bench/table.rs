//! Runs as tables: for a terminal, and cell by cell for the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::result::{Run, Series, ServerCost};
use super::units;

/// The percentiles that tables show, with their names.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];
/// What stands where a figure is not known, or rests on too few samples.
const NONE: &str = "-";
/// Titles that the page places by name.
pub(super) const SERVERS: &str = "Servers";
pub(super) const GENERATOR: &str = "The generator itself";
pub(super) const NOTES: &str = "Notes";

/// One table: cells as text. The first column of each row names its run.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) title: &'static str,
    pub(super) head: Vec<String>,
    /// The run's position and the cells behind its name.
    pub(super) rows: Vec<(usize, Vec<String>)>,
    /// Columns from this one on are figures, aligned to the right.
    pub(super) figures_from: usize,
}

impl Grid {
    fn new(title: &'static str, head: &[&str], figures_from: usize) -> Grid {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Grid { title, head, rows: Vec::new(), figures_from }
    }
}

/// The runs as text for people, aligned for a terminal.
#[must_use]
pub fn text(runs: &[Run]) -> String {
    let names = names(runs);
    let mut out = String::new();
    for (run, name) in runs.iter().zip(&names) {
        let _ = writeln!(out, "{}: {}", plain(name), plain(&headline(run)));
        if !run.parameters.is_empty() {
            let _ = writeln!(out, "  {}", plain(&parameters(run)));
        }
    }
    for grid in grids(runs) {
        let _ = write!(out, "\n{}\n{}", grid.title, aligned(&grid, &names));
    }
    out
}

/// What each run is called: its label, with a number if it is not the only one.
pub(super) fn names<'a>(runs: &'a [Run]) -> Vec<String> {
    let mut seen: BTreeMap<&'a str, u32> = BTreeMap::new();
    let name = |run: &'a Run| {
        let label = if run.label.is_empty() { &run.scenario } else { &run.label };
        let times = seen.entry(label.as_str()).or_default();
        *times += 1;
        if *times == 1 { label.clone() } else { format!("{label} ({times})") }
    };
    runs.iter().map(name).collect()
}

/// One line about what was run.
pub(super) fn headline(run: &Run) -> String {
    format!(
        "{} on {}, {} s measured behind {} s of warm-up, from {}",
        run.scenario,
        run.endpoints.join(" "),
        units::digits(run.measured_seconds),
        units::digits(run.warmup_seconds),
        units::date(run.started_unix_ms),
    )
}

/// The settings of a run on one line.
pub(super) fn parameters(run: &Run) -> String {
    let each = run.parameters.iter().map(|given| format!("{}={}", given.name, given.value));
    each.collect::<Vec<String>>().join(" ")
}

/// All tables that have something to say.
pub(super) fn grids(runs: &[Run]) -> Vec<Grid> {
    let all =
        [latency(runs), figures(runs), errors(runs), servers(runs), generator(runs), notes(runs)];
    all.into_iter().filter(|grid| !grid.rows.is_empty()).collect()
}

fn latency(runs: &[Run]) -> Grid {
    let mut every = runs.iter().flat_map(|run| &run.series);
    let has_bytes = every.clone().any(|series| series.bytes > 0);
    // Where nothing waited to be sent, the two are the same.
    let has_service = every.any(|series| series.service != series.latency);
    let mut head = vec!["run", "operation", "rate/s"];
    head.extend(QUANTILES.iter().map(|(name, _)| *name));
    head.push("max");
    if has_service {
        head.push("p99 from sending");
    }
    if has_bytes {
        head.push("payload/s");
    }
    head.extend(["done", "errors", "unfinished"]);
    let mut grid = Grid::new("Latency, from when a request was due", &head, 2);
    for (at, run) in runs.iter().enumerate() {
        for series in &run.series {
            let mut row = vec![series.name.clone(), units::rate(run.per_second(series.in_window))];
            row.extend(QUANTILES.iter().map(|(_, quantile)| percentile(series, *quantile)));
            let some = |text: String| if series.done > 0 { text } else { NONE.to_owned() };
            row.push(some(units::time(series.latency.max_ns() as f64)));
            if has_service {
                row.push(some(units::time(series.service.quantile_ns(0.99) as f64)));
            }
            if has_bytes {
                row.push(units::bytes(run.per_second(series.bytes)));
            }
            let counts = [series.done, series.failed(), series.unfinished()];
            row.extend(counts.map(units::count));
            grid.rows.push((at, row));
        }
    }
    grid
}

/// A percentile, unless so few were measured that it would be another name for the maximum.
fn percentile(series: &Series, quantile: f64) -> String {
    let samples = series.latency.count() as f64;
    if samples * (1.0 - quantile) < 0.999 {
        return NONE.to_owned();
    }
    units::time(series.latency.quantile_ns(quantile) as f64)
}

fn figures(runs: &[Run]) -> Grid {
    let mut grid = Grid::new("Further figures", &["run", "figure", "value"], 2);
    for (at, run) in runs.iter().enumerate() {
        for figure in &run.figures {
            let value = if figure.value.abs() >= 1e4 {
                format!("{:.0}", figure.value)
            } else {
                units::digits(figure.value)
            };
            grid.rows.push((at, vec![figure.name.clone(), format!("{value} {}", figure.unit)]));
        }
    }
    grid
}

fn errors(runs: &[Run]) -> Grid {
    let mut grid = Grid::new("Errors", &["run", "operation", "error", "times"], 3);
    for (at, run) in runs.iter().enumerate() {
        for series in &run.series {
            for (error, times) in &series.errors {
                let row = vec![series.name.clone(), error.clone(), units::count(*times)];
                grid.rows.push((at, row));
            }
        }
    }
    grid
}

fn servers(runs: &[Run]) -> Grid {
    let head = [
        "run",
        "server",
        "CPU us/op",
        "cores",
        "RSS peak",
        "read/op",
        "written/op",
        "syncs/op",
        "threads",
    ];
    let mut grid = Grid::new(SERVERS, &head, 2);
    for (at, run) in runs.iter().enumerate() {
        let rows = run.servers.iter().filter_map(|server| server_row(run, server));
        grid.rows.extend(rows.map(|row| (at, row)));
    }
    grid
}

fn server_row(run: &Run, server: &ServerCost) -> Option<Vec<String>> {
    if server.pid.is_none() && server.syncs.is_none() {
        return None;
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let seen = |text: Option<String>| or_none(server.pid.and(text));
    let each = |amount: Option<u64>| run.per_operation(amount?);
    let name = match server.pid {
        Some(pid) => format!("{} (process {pid})", server.endpoint),
        None => server.endpoint.clone(),
    };
    Some(vec![
        name,
        seen(each(Some(server.cpu_us)).map(units::digits)),
        seen(Some(units::digits(cores(run, server.cpu_us)))),
        seen(Some(units::bytes(server.rss_peak_bytes as f64))),
        or_none(each(server.read_bytes).map(units::bytes)),
        or_none(each(server.written_bytes).map(units::bytes)),
        or_none(each(server.syncs).map(units::digits)),
        seen(Some(server.threads.to_string())),
    ])
}

fn cores(run: &Run, cpu_us: u64) -> f64 {
    run.per_second(cpu_us) / 1e6
}

fn generator(runs: &[Run]) -> Grid {
    let head = ["run", "CPU us/op", "cores", "threads", "late p50", "late p99", "late max"];
    let mut grid = Grid::new(GENERATOR, &head, 1);
    for (at, run) in runs.iter().enumerate() {
        let own = &run.generator;
        let each = run.per_operation(own.cpu_us).map(units::digits);
        let late = |ns: u64| {
            if own.lag.is_empty() { NONE.to_owned() } else { units::time(ns as f64) }
        };
        let row = vec![
            each.unwrap_or_else(|| NONE.to_owned()),
            units::digits(cores(run, own.cpu_us)),
            own.threads.to_string(),
            late(own.lag.quantile_ns(0.5)),
            late(own.lag.quantile_ns(0.99)),
            late(own.lag.max_ns()),
        ];
        grid.rows.push((at, row));
    }
    grid
}

fn notes(runs: &[Run]) -> Grid {
    let mut grid = Grid::new(NOTES, &["run", "note"], 2);
    for (at, run) in runs.iter().enumerate() {
        grid.rows.extend(run.notes.iter().map(|note| (at, vec![note.clone()])));
    }
    grid
}

/// A label may come from anywhere: nothing in it moves the cursor of a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn aligned(grid: &Grid, names: &[String]) -> String {
    let mut rows = vec![grid.head.clone()];
    for (run, cells) in &grid.rows {
        let all = std::iter::once(&names[*run]).chain(cells);
        rows.push(all.map(|cell| plain(cell)).collect());
    }
    let columns = grid.head.len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = *width;
            let _ = match column {
                _ if column >= grid.figures_from => write!(line, "  {cell:>width$}"),
                _ => write!(line, "  {cell:<width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::samples;

    #[test]
    fn a_run_is_readable() {
        let found = text(&[samples::run("ringbolt", 1)]);
        let expect = "\
ringbolt: put on 127.0.0.1:2379, 5.00 s measured behind 1.00 s of warm-up, from \
2026-11-28 01:02:03 UTC
  clients=1000 value-bytes=256

Latency, from when a request was due
  run       operation  rate/s      p50      p90      p99    p99.9  p99.99      max  \
payload/s   done  errors  unfinished
  ringbolt  put         1,000  1.50 ms  1.90 ms  1.99 ms  2.00 ms       -  2.00 ms  \
\x20 250 KiB  5,000       3           7
  ringbolt  range           0        -        -        -        -       -        -  \
\x20     0 B      0       0           0

Further figures
  run       figure          value
  ringbolt  throughput  12.5 MB/s

Errors
  run       operation  error              times
  ringbolt  put        too many requests      3

Servers
  run       server                         CPU us/op  cores  RSS peak  read/op  written/op  \
syncs/op  threads
  ringbolt  127.0.0.1:2379 (process 4242)        800  0.800   104 MiB        -    4.00 KiB  \
\x20 0.0200        9

The generator itself
  run       CPU us/op    cores  threads  late p50  late p99  late max
  ringbolt       8.00  0.00800        2   20.0 us   20.0 us   20.0 us
";
        let found: Vec<&str> = found.lines().collect();
        let expect: Vec<&str> = expect.lines().collect();
        for (found, expect) in found.iter().zip(&expect) {
            assert_eq!(found, expect);
        }
        assert_eq!(found.len(), expect.len());
    }

    #[test]
    fn runs_of_one_label_are_told_apart() {
        let mut other = samples::run("a", 2);
        other.notes = vec!["the generator was the bottleneck".to_owned()];
        let runs = [samples::run("a", 1), other, samples::run("", 1)];
        assert_eq!(names(&runs), ["a", "a (2)", "put"]);
        let found = text(&runs);
        assert!(found.contains("  a (2)  the generator was the bottleneck\n"), "{found}");
    }

    #[test]
    fn what_waited_is_shown_beside_what_was_sent() {
        let mut run = samples::run("a", 1);
        run.series[0].service.clear();
        run.series[0].service.record(1_000);
        let found = text(&[run]);
        assert!(found.contains("p99 from sending") && found.contains(" 1.00 us "), "{found}");
    }

    #[test]
    fn a_hostile_label_moves_no_cursor() {
        let mut run = samples::run("\u{1b}[2J\nfake: 0", 1);
        run.series[0].errors.insert("\u{7}\r".to_owned(), 1);
        let found = text(&[run]);
        assert!(!found.contains(['\u{1b}', '\u{7}', '\r']) && !found.contains("\nfake"));
    }

    #[test]
    fn nothing_at_all_is_shown_too() {
        assert_eq!(text(&[]), "");
        assert!(text(&[Run::default()]).starts_with(":  on , 0 s measured"));
    }
}
