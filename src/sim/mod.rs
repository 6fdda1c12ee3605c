//! sim — the other runtime: simulated disk, network, clock, faults; model and checkers.
//! On no step of a write: it drives and judges them. In: seeds. Out: verdicts.
//! Owns: the model of what a store has to answer.
//! Invariants: (1) the model shares no code with what it judges but the types of base and wire.
//! Limits: none of its own.
//! Must not: be reached from a server.
//! Tests: in its files.

pub mod model;
pub mod requests;
