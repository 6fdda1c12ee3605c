//! cli::bench — a load generator that is honest about latency, for any server of etcd's API.
//! On no step of a write: it stands where clients stand. In: a scenario and endpoints. Out: one
//! `Run` for each, shown as a table, JSON, a log of histograms or a page.
//! Owns: what was measured, until it is written.
//! Invariants: (1) a latency counts from the moment a request was due, not from when it could be
//!             sent; (2) no latency is clamped or left out: what did not finish is counted as
//!             such; (3) what the generator itself cost and how late it was stands beside the
//!             figures.
//! Limits: `recorder::ERROR_TEXTS_MAX`.
//! Must not: know which server it measures.
//! Tests: at the bottom of each file.

mod args;
pub mod cost;
mod engine;
pub mod latencies;
pub mod recorder;
pub mod result;
mod run;
mod scenarios;
mod schedule;
mod values;
mod verdict;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;

use self::args::{Args, Common};
use self::result::{Parameter, Run};
use self::run::Progress;
use self::scenarios::Scenario;

/// Runs what the words behind `bench` ask for and gives the exit code: 0 for a result, 1 when there
/// is none, 2 when the words make no sense.
pub fn main(
    words: impl Iterator<Item = OsString>,
    (out, err): (&mut dyn Write, &mut dyn Write),
    is_terminal: bool,
) -> i32 {
    let words: Result<Vec<String>, OsString> = words.map(OsString::into_string).collect();
    let Ok(words) = words else { return refuse(err, "the arguments are no UTF-8") };
    let Some((name, rest)) = words.split_first() else {
        let _ = err.write_all(overview().as_bytes());
        return 2;
    };
    if ["--help", "-h", "help"].contains(&name.as_str()) {
        let _ = out.write_all(overview().as_bytes());
        return 0;
    }
    let Some(scenario) = scenarios::find(name) else {
        return refuse(
            err,
            &format!("there is no scenario {name:?}; ringbolt bench --help lists them"),
        );
    };
    one(scenario, rest, (out, err), is_terminal)
}

fn refuse(err: &mut dyn Write, why: &str) -> i32 {
    let _ = writeln!(err, "ringbolt bench: {why}");
    2
}

/// One run of one scenario.
fn one(
    scenario: &Scenario,
    words: &[String],
    (out, err): (&mut dyn Write, &mut dyn Write),
    is_terminal: bool,
) -> i32 {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        let text = args::help(scenario.name, scenario.about, scenario.flags, scenario.defaults);
        let _ = out.write_all(text.as_bytes());
        return 0;
    }
    let made = Args::parse(scenario.flags, (scenario.defaults, scenario.short), words)
        .and_then(|args| Common::read(&args).map(|common| (args, common)))
        .and_then(|(args, common)| {
            (scenario.plan)(&args, &common).map(|plan| (args, common, plan))
        });
    let (args, common, plan) = match made {
        Ok(made) => made,
        Err(why) => {
            return refuse(err, &format!("{why} (ringbolt bench {} --help)", scenario.name));
        }
    };
    let is_quiet = args.is_on("quiet").unwrap_or(false);
    let run = run::run(&plan, &common, &mut Progress { out: err, is_terminal, is_quiet });
    let run = match run {
        Ok(run) => described(run, scenario, &args, words),
        Err(why) => {
            let _ = writeln!(err, "ringbolt bench: {why}");
            return 1;
        }
    };
    match show(&run, &args, out) {
        Ok(()) => 0,
        Err(why) => {
            let _ = writeln!(err, "ringbolt bench: {why}");
            1
        }
    }
}

fn described(run: Run, scenario: &Scenario, args: &Args, words: &[String]) -> Run {
    let parameter =
        |(name, value): (&str, &str)| Parameter { name: name.to_owned(), value: value.to_owned() };
    Run {
        scenario: scenario.name.to_owned(),
        label: args.text("label").to_owned(),
        command: ["ringbolt", "bench", scenario.name]
            .into_iter()
            .map(str::to_owned)
            .chain(words.iter().cloned())
            .collect(),
        parameters: args.parameters().map(parameter).collect(),
        ..run
    }
}

/// The result where the flags want it.
fn show(run: &Run, args: &Args, out: &mut dyn Write) -> Result<(), String> {
    let text = serde_json::to_string(run).map_err(|error| error.to_string())?;
    if args.file("json") == Some("-") {
        let _ = writeln!(out, "{text}");
        return Ok(());
    }
    for series in &run.series {
        let rate = run.per_second(series.in_window);
        let ms = |quantile| series.latency.quantile_ns(quantile) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{:<12} {rate:.0}/s p50 {:.3} p90 {:.3} p99 {:.3} p99.9 {:.3} max {:.3} ms errors {:?}",
            series.name,
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            series.latency.max_ns() as f64 / 1e6,
            series.errors
        );
    }
    let _ = writeln!(
        out,
        "generator {:?} us/op, server {:?} us/op",
        run.per_operation(run.generator.cpu_us),
        run.server_cpu_us().and_then(|us| run.per_operation(us))
    );
    for note in &run.notes {
        let _ = writeln!(out, "{note}");
    }
    Ok(())
}

fn overview() -> String {
    let mut text =
        "Usage: ringbolt bench SCENARIO [flags]\n       ringbolt bench SCENARIO --help\n\n\
        An honest load generator for any server of the etcd API. Latency counts from when an\n\
        operation was due, not from when it could be sent.\n\nScenarios:\n"
            .to_owned();
    for scenario in scenarios::ALL {
        let first =
            scenario.about.split_once(['.', '?', ':']).map_or(scenario.about, |(first, _)| first);
        let _ = writeln!(text, "  {:<14} {first}.", scenario.name);
    }
    text
}
