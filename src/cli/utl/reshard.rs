//! `reshard`: another number of shards for a store.

use std::path::Path;

use super::flags::Flags;
use super::{Command, DONE, Streams};
use crate::base::limits::SHARDS_MAX;
use crate::cli::progress::Progress;
use crate::cli::units;
use crate::node::reshard::Progress as Done;
use crate::runtime::reshard::{Report, Told, reshard};

pub(super) const COMMAND: Command = Command {
    name: "reshard",
    summary: "another number of keyspace shards for a store",
    help: HELP,
    flags: &["data-dir", "shards"],
    run,
};

const HELP: &str = "\
Usage: ringbolt utl reshard --data-dir DIR --shards N

Writes the store of a server that is stopped for another number of keyspace shards. A shard
has a core and a lane of the log; as a rule there is one for each four cores. Nothing else
changes: keys, history, leases, alarms, revisions and the member are what they were.

  --data-dir DIR   the server's data directory
  --shards N       shards from now on, 1 to 16

The new page files are written beside the old ones, which stand until the new ones are
durable: so long as much space again is needed as the page files take. A run that is killed
or finds no space leaves the store as it was or as it is to be; what else it left is removed
by the next run, or by the next start of the server.

Progress goes to standard error, what was done to standard output. Exit code 0: the store
has N shards; 1: that was not done, and why; 128: the flags make no sense.
";

/// Between two lines of progress, for a person who watches and for a file.
const INTERVALS_MS: [u64; 2] = [200, 5_000];

fn run(flags: &Flags, streams: &mut Streams<'_>) -> i32 {
    let read = || -> Result<(&str, u16), String> {
        let text = flags.needed("shards")?;
        let shards = text.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
        let wrong = || format!("--shards is a number from 1 to {SHARDS_MAX}, not {text:?}");
        Ok((flags.needed("data-dir")?, shards.ok_or_else(wrong)?))
    };
    let (dir, shards) = match read() {
        Ok(read) => read,
        Err(why) => return streams.refuse_words(&COMMAND, &why),
    };
    let is_terminal = streams.is_terminal;
    let mut progress = Progress { out: &mut *streams.err, is_terminal, is_quiet: false };
    let interval_ms = INTERVALS_MS[usize::from(!is_terminal)];
    let done = reshard(Path::new(dir), shards, interval_ms, &mut |told| match told {
        Told::Note(text) => progress.note(text),
        Told::Progress(done, ns) => progress.line(&line(done, ns)),
    });
    progress.end();
    match done {
        Ok(Some(report)) => streams.show(&said(dir, shards, &report)),
        Ok(None) => streams.show(&format!("{dir} has {shards} shards already: nothing to do\n")),
        Err(why) => streams.fail(&why),
    }
}

fn line(done: Done, ns: u64) -> String {
    let Done { bytes, bytes_total } = done;
    let time = units::time(ns as f64);
    let Some(total) = bytes_total else { return format!("applying the end of the log, {time}") };
    let percent = (100 * bytes).checked_div(total).unwrap_or(100);
    let (bytes, total) = (units::bytes(bytes as f64), units::bytes(total as f64));
    format!("{percent:>3} %  {bytes} of {total}, {time}")
}

fn said(dir: &str, shards: u16, report: &Report) -> String {
    let Report { before, written, file_bytes: (was, is), ns } = *report;
    let shards_of =
        |count| if count == 1 { "1 shard".to_owned() } else { format!("{count} shards") };
    format!(
        "{dir} has {} now, where it had {}: {} keys, {} changes of history, {}; page files of \
         {}, before {}; in {}\n",
        shards_of(shards),
        shards_of(before),
        units::count(written.keys),
        units::count(written.changes),
        units::bytes(written.bytes as f64),
        units::bytes(is as f64),
        units::bytes(was as f64),
        units::time(ns as f64),
    )
}

const _: () = assert!(DONE == 0 && SHARDS_MAX == 16, "as the help says");

#[cfg(test)]
mod tests {
    use super::super::tests::called;
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_touched() {
        let dir = std::env::temp_dir().join(format!("ringbolt-utl-{}", std::process::id()));
        let dir = dir.to_str().expect("text");
        let see = "(see ringbolt utl reshard --help)";
        let cases: [(&[&str], i32, String); 6] = [
            (&[], 128, format!("--shards is needed {see}")),
            (&["--shards", "4"], 128, format!("--data-dir is needed {see}")),
            (
                &["--shards=17", "--data-dir", dir],
                128,
                format!("--shards is a number from 1 to 16, not \"17\" {see}"),
            ),
            (
                &["--shards=0", "--data-dir", dir],
                128,
                format!("--shards is a number from 1 to 16, not \"0\" {see}"),
            ),
            (&["--cores=2"], 128, format!("--cores is not a flag of this command {see}")),
            (
                &["--shards=2", "--data-dir", dir],
                1,
                format!("{dir} holds no store: --data-dir names the server's"),
            ),
        ];
        for (words, expect, why) in cases {
            let words: Vec<&str> = ["reshard"].iter().chain(words).copied().collect();
            let (code, out, err) = called(&words);
            assert_eq!((code, &*out, err), (expect, "", format!("Error: {why}\n")), "{words:?}");
        }
        assert!(!Path::new(dir).exists());
    }

    #[test]
    fn progress_and_results_are_sentences() {
        let second = 1_000_000_000;
        let all = [
            (0, None, "applying the end of the log, 1.50 s"),
            (0, Some(0), "100 %  0 B of 0 B, 1.50 s"),
            (1 << 20, Some(3 << 20), " 33 %  1.00 MiB of 3.00 MiB, 1.50 s"),
        ];
        for (bytes, bytes_total, expect) in all {
            assert_eq!(line(Done { bytes, bytes_total }, 3 * second / 2), expect);
        }
        let written = crate::node::reshard::Written { keys: 1_234, changes: 5, bytes: 1 << 30 };
        let report = Report { before: 1, written, file_bytes: (3 << 20, 4 << 20), ns: 7 * second };
        assert_eq!(
            said("dir", 4, &report),
            "dir has 4 shards now, where it had 1 shard: 1,234 keys, 5 changes of history, \
             1.00 GiB; page files of 4.00 MiB, before 3.00 MiB; in 7.00 s\n"
        );
    }
}
