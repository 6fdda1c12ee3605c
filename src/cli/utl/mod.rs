//! cli::utl — commands on the files of a server that is stopped, as etcdutl has them.
//! On no step of a write. In: words. Out: sentences and an exit code.
//! Owns: nothing that lives.
//! Invariants: (1) 0: it is done; 1: it is not, and why; 128: the words make no sense; (2) results
//!             go to the output, all else to the other stream.
//! Limits: none.
//! Must not: know what a command does to files; work beside a server.
//! Tests: here, in each file, tests/reshard.rs.

mod flags;
mod reshard;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;

use flags::Flags;

/// It is done.
const DONE: i32 = 0;
/// It is not done.
const FAILED: i32 = 1;
/// The words make no sense: etcdutl's code for it.
const BAD_ARGS: i32 = 128;

/// Where a command says what.
struct Streams<'s> {
    /// Results.
    out: &'s mut dyn Write,
    /// Everything else.
    err: &'s mut dyn Write,
    /// Whether a person watches the latter.
    is_terminal: bool,
}

/// A command.
struct Command {
    name: &'static str,
    /// What it does, in a line.
    summary: &'static str,
    /// The whole help.
    help: &'static str,
    /// Its flags, all of which take a value.
    flags: &'static [&'static str],
    run: fn(&Flags, &mut Streams<'_>) -> i32,
}

const ALL: [Command; 1] = [reshard::COMMAND];

/// Runs the command that the words name and gives the exit code.
pub fn main(
    words: impl Iterator<Item = OsString>,
    (out, err): (&mut dyn Write, &mut dyn Write),
    is_terminal: bool,
) -> i32 {
    let mut streams = Streams { out, err, is_terminal };
    let words: Result<Vec<String>, OsString> = words.map(OsString::into_string).collect();
    let Ok(words) = words else {
        return streams.refuse("the arguments are no UTF-8 (see ringbolt utl --help)");
    };
    let (name, rest) = match words.split_first() {
        None => return streams.show(&overview()),
        Some((name, _)) if is_help(name) => return streams.show(&overview()),
        Some(split) => split,
    };
    let Some(command) = ALL.iter().find(|command| command.name == name) else {
        let why = format!("there is no command {name:?}; ringbolt utl --help lists them");
        return streams.refuse(&why);
    };
    if rest.iter().any(|word| is_help(word)) {
        return streams.show(command.help);
    }
    match Flags::parse(command.flags, rest) {
        Ok(flags) => (command.run)(&flags, &mut streams),
        Err(why) => streams.refuse_words(command, &why),
    }
}

fn is_help(word: &str) -> bool {
    ["--help", "-h", "help"].contains(&word)
}

fn overview() -> String {
    let mut text = "Usage: ringbolt utl COMMAND [flags]\n       \
        ringbolt utl COMMAND --help\n\n\
        Commands on the data directory of a server that is stopped. A copy of this program that\n\
        is called etcdutl takes them without the word utl.\n\nCommands:\n"
        .to_owned();
    for command in &ALL {
        let _ = writeln!(text, "  {:<10} {}", command.name, command.summary);
    }
    text
}

impl Streams<'_> {
    /// Whoever closed a stream does not want the text, here and below.
    fn show(&mut self, text: &str) -> i32 {
        let _ = self.out.write_all(text.as_bytes());
        DONE
    }

    fn fail(&mut self, why: &str) -> i32 {
        let _ = writeln!(self.err, "Error: {why}");
        FAILED
    }

    fn refuse(&mut self, why: &str) -> i32 {
        let _ = writeln!(self.err, "Error: {why}");
        BAD_ARGS
    }

    fn refuse_words(&mut self, command: &Command, why: &str) -> i32 {
        self.refuse(&format!("{why} (see ringbolt utl {} --help)", command.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn called(words: &[&str]) -> (i32, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = main(words.iter().map(OsString::from), (&mut out, &mut err), false);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn help_goes_to_the_output_and_mistakes_to_the_other() {
        for words in [&[][..], &["--help"], &["-h"], &["help"]] {
            let (code, out, err) = called(words);
            assert!(code == DONE && err.is_empty());
            assert!(ALL.iter().all(|command| out.contains(&format!("\n  {} ", command.name))));
        }
        for command in &ALL {
            let (code, out, err) = called(&[command.name, "--help"]);
            assert_eq!((code, &*out, &*err), (DONE, command.help, ""));
            assert!(command.flags.iter().all(|flag| out.contains(&format!("--{flag} "))));
            let width = out.lines().map(|line| line.chars().count()).max();
            assert!(width <= Some(92), "{width:?} columns");
        }
        let (code, out, err) = called(&["nosuch"]);
        assert_eq!((code, &*out), (BAD_ARGS, ""));
        let why = "Error: there is no command \"nosuch\"; ringbolt utl --help lists them\n";
        assert_eq!(err, why);
    }
}
