//! The `ringbolt` binary.

use std::io::IsTerminal;
use std::path::Path;

use ringbolt::{cli, log, runtime};

/// A request allocates a handful of small things on one core and frees them there: what mimalloc
/// is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // From here on a broken invariant is a line of the log like any other.
    runtime::log::log_panics();
    let streams: (&mut dyn std::io::Write, &mut dyn std::io::Write) =
        (&mut std::io::stdout(), &mut std::io::stderr());
    let serve = |start: cli::Start| {
        match runtime::serve::serve(start.config, &start.data_dir, start.grant, start.cores) {
            Ok(end) => {
                // The lock goes before the process does, so that a restart finds it free.
                drop(start.data_dir);
                end.exit()
            }
            Err(error) => {
                log!(Fatal, "failed to start", "error" => error);
                1
            }
        }
    };
    let mut args = std::env::args_os().peekable();
    let called = args.next().unwrap_or_default();
    let is_utl = Path::new(&called).file_name().is_some_and(|name| name == "etcdutl");
    let is_terminal = std::io::stderr().is_terminal();
    let code = if is_utl || args.next_if(|first| first == "utl").is_some() {
        cli::utl::main(args, streams, is_terminal)
    } else if args.next_if(|first| first == "bench").is_some() {
        cli::bench::main(args, streams, is_terminal)
    } else {
        cli::server(args, std::env::vars_os(), streams, serve)
    };
    std::process::exit(code)
}
