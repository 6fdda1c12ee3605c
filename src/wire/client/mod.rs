//! wire::client — gRPC over HTTP/2 as a client, for any server of the etcd API.
//! Opposite of step 0. In: bytes of a connection, calls. Out: bytes, messages, statuses.
//! Owns: one connection's streams, windows and header tables; the few messages coded by hand.
//! Invariants: (1) no clock and no socket: the caller moves the bytes; (2) every call that was
//!             opened ends once, with a status; (3) a hostile peer costs a bounded amount of
//!             memory.
//! Limits: CLIENT_*.
//! Must not: retry; know what the calls are for.
//! Tests: here (tests.rs: against the h2 crate as the server).

pub mod connection;
mod frame;
mod gather;
pub mod hpack;
mod huffman;
pub mod message;
pub mod status;
mod streams;
#[cfg(test)]
mod tests;

pub use connection::{Broken, Connection, Event, Refusal, StreamId, Windows};
pub use status::Status;
