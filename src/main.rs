//! The `ringbolt` binary.

fn main() {}
