//! The command line of `bench`: words in, a run or a search, results where the flags want them.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;

use super::args::{self, Args, Common};
use super::result::{Parameter, Run};
use super::run;
use super::scenarios::{self, Plan, Scenario};
use super::{hdrlog, html, json, saved, search, table};
use crate::cli::progress::Progress;
use crate::runtime::file;

/// The search for the highest rate, as it is called in place of a scenario.
const SEARCH: &str = "max";
/// Saved runs, as they are called in place of a scenario.
const SAVED: &str = "show";

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
        // Whoever closed the stream does not want the text.
        let _ = err.write_all(overview().as_bytes());
        return 2;
    };
    if is_help(name) {
        let _ = out.write_all(overview().as_bytes());
        return 0;
    }
    if name == SAVED {
        if rest.iter().any(|word| is_help(word)) {
            let _ = out.write_all(saved::HELP.as_bytes());
            return 0;
        }
        return saved::main(rest, (out, err));
    }
    let (is_search, name, rest) = match rest.split_first() {
        Some((scenario, rest)) if name == SEARCH && !is_help(scenario) => (true, scenario, rest),
        _ if name == SEARCH => {
            let _ = out.write_all(search::HELP.as_bytes());
            return if rest.is_empty() { 2 } else { 0 };
        }
        _ => (false, name, rest),
    };
    let Some(scenario) = scenarios::find(name) else {
        let why = format!("there is no scenario {name:?}; ringbolt bench --help lists them");
        return refuse(err, &why);
    };
    if rest.iter().any(|word| is_help(word)) {
        let text = args::help(scenario.name, scenario.about, scenario.flags, scenario.defaults);
        let _ = out.write_all(text.as_bytes());
        if is_search {
            let _ = out.write_all(search::HELP.as_bytes());
        }
        return 0;
    }
    let streams = (out, err);
    if is_search {
        search::main(scenario, rest, streams, is_terminal)
    } else {
        one(scenario, rest, streams, is_terminal)
    }
}

fn is_help(word: &str) -> bool {
    ["--help", "-h", "-help", "help"].contains(&word)
}

pub(super) fn refuse(err: &mut dyn Write, why: &str) -> i32 {
    let _ = writeln!(err, "ringbolt bench: {why}");
    2
}

pub(super) fn fail(err: &mut dyn Write, why: &str) -> i32 {
    let _ = writeln!(err, "ringbolt bench: {why}");
    1
}

/// Everything that can be wrong with the words is found here.
pub(super) fn read(scenario: &Scenario, args: &Args) -> Result<(Common, Plan), String> {
    let common = Common::read(args)?;
    let plan = (scenario.plan)(args, &common)?;
    Ok((common, plan))
}

/// One run of one scenario.
fn one(
    scenario: &Scenario,
    words: &[String],
    (out, err): (&mut dyn Write, &mut dyn Write),
    is_terminal: bool,
) -> i32 {
    let args = Args::parse(scenario.flags, (scenario.defaults, scenario.short), words);
    let made = args.and_then(|args| read(scenario, &args).map(|made| (args, made)));
    let (args, (common, plan)) = match made {
        Ok(made) => made,
        Err(why) => {
            return refuse(err, &format!("{why} (see ringbolt bench {} --help)", scenario.name));
        }
    };
    // Not after a long run.
    if let Err(why) = outputs(&args).try_for_each(file::check_writable) {
        return fail(err, &why);
    }
    let is_quiet = args.is_on("quiet").unwrap_or(false);
    let run = run::run(&plan, &common, &mut Progress { out: err, is_terminal, is_quiet });
    let shown = run.and_then(|run| show(&[described(run, scenario, &args, words)], &args, out));
    shown.map_or_else(|why| fail(err, &why), |()| 0)
}

fn outputs(args: &Args) -> impl Iterator<Item = &str> {
    let files = ["json", "hdr", "report"].into_iter().filter_map(|name| args.file(name));
    files.filter(|path| *path != "-")
}

/// A run with what only the command line knows.
pub(super) fn described(run: Run, scenario: &Scenario, args: &Args, words: &[String]) -> Run {
    let parameter =
        |(name, value): (&str, &str)| Parameter { name: name.to_owned(), value: value.to_owned() };
    let command = ["ringbolt", "bench", scenario.name].into_iter().map(str::to_owned);
    Run {
        scenario: scenario.name.to_owned(),
        label: args.text("label").to_owned(),
        command: command.chain(words.iter().cloned()).collect(),
        parameters: args.parameters().map(parameter).collect(),
        ..run
    }
}

/// The results where the flags want them: a table on the output unless JSON goes there.
pub(super) fn show(runs: &[Run], args: &Args, out: &mut dyn Write) -> Result<(), String> {
    let is_json_shown = args.file("json") == Some("-");
    let text = if is_json_shown { json::write(runs) } else { table::text(runs) };
    let _ = out.write_all(text.as_bytes());
    if let Some(path) = args.file("json").filter(|_| !is_json_shown) {
        file::write(path, &json::write(runs))?;
    }
    if let Some(path) = args.file("hdr") {
        file::write(path, &hdrlog::write(runs)?)?;
    }
    if let Some(path) = args.file("report") {
        file::write(path, &html::page(runs))?;
    }
    Ok(())
}

fn overview() -> String {
    let mut text = "Usage: ringbolt bench SCENARIO [flags]\n       \
        ringbolt bench max SCENARIO --slo p99=10ms [flags]\n       \
        ringbolt bench show FILE... [--report page.html]\n       \
        ringbolt bench SCENARIO --help\n\n\
        A load generator for any server of the etcd API. Latency counts from when an operation\n\
        was due, not from when it could be sent.\n\nScenarios:\n"
        .to_owned();
    for scenario in scenarios::ALL {
        let _ = writeln!(text, "  {:<16} {}", scenario.name, scenario.summary);
    }
    text += "\n  max              the highest rate of a scenario that holds an objective\n  \
        show             runs that --json saved, side by side and overlaid\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(words: &[&str]) -> (i32, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = main(words.iter().map(OsString::from), (&mut out, &mut err), false);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn help_goes_to_the_output_and_mistakes_to_the_other() {
        let (code, out, err) = called(&["--help"]);
        assert!(code == 0 && err.is_empty());
        for scenario in scenarios::ALL {
            assert!(out.contains(&format!("\n  {} ", scenario.name)), "{}", scenario.name);
            let (code, out, err) = called(&[scenario.name, "--help"]);
            assert!(code == 0 && err.is_empty() && out.contains("--endpoints"));
        }
        let cases: [(&[&str], i32, &str); 6] = [
            (&["nosuch"], 2, "there is no scenario \"nosuch\"; ringbolt bench --help lists them"),
            (
                &["put", "--nosuch"],
                2,
                "--nosuch is not a flag of this scenario (see ringbolt bench put --help)",
            ),
            (&["put", "--json=/nosuch/file"], 1, "cannot write /nosuch/file: "),
            (&["max", "nosuch"], 2, "there is no scenario \"nosuch\""),
            (&["max", "put"], 2, "--slo is needed, such as --slo p99=10ms"),
            (&["put", "--endpoints=127.0.0.1:1"], 1, "127.0.0.1:1: cannot connect: "),
        ];
        for (words, expect, why) in cases {
            let (code, out, err) = called(words);
            assert_eq!((code, &*out), (expect, ""), "{words:?}: {err}");
            assert!(err.starts_with(&format!("ringbolt bench: {why}")), "{words:?}: {err}");
        }
        assert_eq!(called(&[]).0, 2);
    }
}
