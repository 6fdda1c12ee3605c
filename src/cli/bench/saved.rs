//! Runs that were saved as JSON, shown again: side by side in the tables, overlaid in the charts.

use std::io::Write;

use super::args::Args;
use super::command::{fail, refuse, show};
use super::json;
use crate::runtime::file;

/// How `show` is used.
pub const HELP: &str = "
Usage: ringbolt bench show FILE... [flags]

Shows runs that --json wrote, of one file or of several, beside each other.

Flags:
  --report             file for one page with all of them overlaid
  --hdr                file for the histograms as a HdrHistogram log
  --json               file for all of them as one JSON document
";

/// The outputs that a command line may name here.
const OUTPUTS: [&str; 3] = ["report", "hdr", "json"];

/// Shows the files and gives the exit code.
pub fn main(words: &[String], (out, err): (&mut dyn Write, &mut dyn Write)) -> i32 {
    let (paths, flags) = match split(words) {
        Ok(split) => split,
        Err(why) => return refuse(err, &format!("{why} (see ringbolt bench show --help)")),
    };
    let args = match Args::parse(&[], (&[], &[]), &flags) {
        Ok(args) => args,
        Err(why) => return refuse(err, &why),
    };
    let mut runs = Vec::new();
    for path in paths {
        let read = file::read(path)
            .and_then(|text| json::read(&text).map_err(|why| format!("cannot show {path}: {why}")));
        match read {
            Ok(read) => runs.extend(read),
            Err(why) => return fail(err, &why),
        }
    }
    show(&runs, &args, out).map_or_else(|why| fail(err, &why), |()| 0)
}

/// Files to read, and the words that name outputs.
fn split(words: &[String]) -> Result<(Vec<&str>, Vec<String>), String> {
    let (mut paths, mut flags) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(bare) = word.strip_prefix("--") else {
            paths.push(word.as_str());
            continue;
        };
        let name = bare.split('=').next().unwrap_or_default();
        if !OUTPUTS.contains(&name) {
            return Err(format!("--{name} is not a flag of show"));
        }
        flags.push(word.clone());
        if name == bare {
            flags.extend(words.next().cloned());
        }
    }
    if paths.is_empty() {
        return Err("show needs at least one file that --json wrote".to_owned());
    }
    Ok((paths, flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::samples;

    fn shown(words: &[&str]) -> (i32, String, String) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = main(&words, (&mut out, &mut err));
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn files_are_shown_beside_each_other() {
        let name = |what: &str| {
            let name = format!("ringbolt-saved-{}-{what}", std::process::id());
            std::env::temp_dir().join(name).display().to_string()
        };
        let (a, b, page) = (name("a"), name("b"), name("page"));
        file::write(&a, &json::write(&[samples::run("ours", 1)])).expect("room");
        file::write(&b, &json::write(&[samples::run("theirs", 3)])).expect("room");
        let (code, out, err) = shown(&[&a, "--report", &page, &b]);
        assert_eq!((code, &*err), (0, ""));
        assert!(out.contains("\n  ours ") && out.contains("\n  theirs "), "{out}");
        let text = file::read(&page).expect("a page");
        assert!(text.contains("line solid c0") && text.contains("line solid c1"));
        file::write(&b, "{}").expect("room");
        let (code, out, err) = shown(&[&a, &b]);
        assert_eq!((code, &*out), (1, ""));
        assert!(err.contains(&format!("cannot show {b}: this is no result")), "{err}");
        for path in [a, b, page] {
            std::fs::remove_file(path).expect("own file");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let cases: [(&[&str], i32, &str); 5] = [
            (&[], 2, "show needs at least one file"),
            (&["--report=x"], 2, "show needs at least one file"),
            (&["a", "--rate", "5"], 2, "--rate is not a flag of show"),
            (&["a", "--json"], 2, "--json needs a value"),
            (&["/nosuch/file"], 1, "cannot read /nosuch/file: "),
        ];
        for (words, expect, why) in cases {
            let (code, out, err) = shown(words);
            assert_eq!((code, &*out), (expect, ""), "{words:?}: {err}");
            assert!(err.starts_with(&format!("ringbolt bench: {why}")), "{words:?}: {err}");
        }
    }
}
