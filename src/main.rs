//! The `ringbolt` binary.

use std::process::ExitCode;

use ringbolt::cli;

/// A request allocates a handful of small things on one core and frees them there: what mimalloc
/// is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let streams: (&mut dyn std::io::Write, &mut dyn std::io::Write) =
        (&mut std::io::stdout(), &mut std::io::stderr());
    let code = cli::server(std::env::args_os().skip(1), std::env::vars_os(), streams, |start| {
        let why = "this build has no runtime that could serve";
        ringbolt::log!(Fatal, why, "data-dir" => start.data_dir.root.display());
        1
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
