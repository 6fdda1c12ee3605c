//! What `--help` and a mistake on the command line show.

use std::fmt::Write;

use super::flag::{Kind, Support};
use super::table;

/// The few lines behind a mistake.
pub(super) fn usage() -> String {
    "Usage:\n\
     \n\
     \x20 ringbolt [flags]        run a server; the flags are etcd's\n\
     \x20 ringbolt --version      say which version this is\n\
     \x20 ringbolt -h | --help    list all flags\n\
     \x20 ringbolt utl --help     commands on the files of a server that is stopped\n\
     \x20 ringbolt bench --help   a load generator for any server of the etcd API\n"
        .to_owned()
}

/// All flags by group.
pub(super) fn full() -> String {
    let mut out = usage();
    out.push_str(
        "\n\
         Each flag can also be given as an environment variable (--data-dir as ETCD_DATA_DIR) or\n\
         in a YAML file named by --config-file, which then counts alone.\n",
    );
    for (title, flags) in table::GROUPS {
        // Writing into a string cannot fail.
        let _ = write!(out, "\n{title}:\n");
        for flag in flags.iter().filter(|flag| flag.support != Support::Hidden) {
            let note = match flag.support {
                Support::Ignored(_) => " (accepted, changes nothing)",
                Support::Peer => " (accepted, no use without peers)",
                Support::NotBuilt(_) => " (not built yet)",
                Support::Built | Support::Own | Support::Hidden => "",
            };
            let value = match flag.kind {
                Kind::Bool if flag.default == "false" => String::new(),
                _ => format!(" '{}'", flag.default),
            };
            let _ = writeln!(out, "  --{}{value}{note}", flag.name);
            for line in flag.help.lines() {
                let _ = writeln!(out, "      {line}");
            }
        }
    }
    out
}
