//! cli::bench::engine — starts operations when they are due and times their answers.
//! Stands where clients stand. In: a load's operations, bytes. Out: bytes, records, timings.
//! Owns: the connections of one thread and every operation under way on them.
//! Invariants: (1) an open loop starts what is due whatever the server does, and its latency counts
//!             from when it was due; (2) every operation ends once: answered, failed, timed out, or
//!             left over and counted as such; (3) a connection that is lost comes back.
//! Limits: `worker::DUE_MAX`.
//! Must not: know what the operations are.
//! Tests: engine/tests.rs (a server that stalls, in virtual time), tests/bench.rs.

pub mod io;
pub mod link;
pub mod load;
pub mod shared;
#[cfg(test)]
mod tests;
pub mod worker;

pub use io::{CallId, Io, Op};
pub use load::{Load, Pace, Phase, Source};
