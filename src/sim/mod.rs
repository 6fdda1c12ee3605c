//! sim — the other runtime: simulated disk, mail, clock and faults; model and checkers.
//! On no step of a write: it drives the very objects that `runtime` drives, on one thread, and
//! judges what they answer. In: a seed. Out: a report, or a panic that says what was wrong.
//! Owns: the naive model of what a store has to answer, and the judges that use it.
//! Invariants: (1) everything follows from the seed; (2) the model shares no code with what it
//!             judges but the types of base and wire.
//! Limits: none of its own. Must not: be reached from a server; read a clock.
//! Tests: tests/sim.rs (seeds), tests/road.rs (interleavings that were chosen by hand).

pub mod clock;
pub mod disk;
pub mod judge;
pub mod machine;
pub mod mail;
pub mod model;
pub mod page_disk;
pub mod requests;
pub mod reshard;
pub mod rig;
pub mod watched;
pub mod workload;
pub mod world;
