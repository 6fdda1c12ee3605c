//! Generates the message types of `proto/` into `OUT_DIR`, without a protoc on the machine.

use std::error::Error;

const FILES: [&str; 5] = [
    "proto/kv.proto",
    "proto/rpc.proto",
    "proto/v3lock.proto",
    "proto/v3election.proto",
    "proto/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut config = prost_build::Config::new();
    // Keys and values stay slices of the buffer they arrived in.
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
