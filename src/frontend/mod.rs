//! frontend — gRPC over HTTP/2 for clients.
//! Steps 1 and 7 of a write. In: bytes of connections, deliveries. Out: requests, bytes.
//! Owns: connections, streams, the numbers of calls, the table of errors.
//! Invariants: (1) every call is answered once or cancelled; (2) nothing is handed to h2 that
//!             the client has no window for; (3) an admitted write is released exactly once.
//! Limits: STREAMS_PER_CONNECTION, STREAM_QUEUE_MESSAGES_MAX, CONNECTION_UNSENT_BYTES_MAX.
//! Must not: know keys' shards; read a clock; be async outside `conn`.
//! Tests: at the bottom of each file, tests.rs (whole connections over an in-memory pipe).

mod answer;
pub mod check;
mod cluster;
pub mod conn;
mod connection;
pub mod frame;
mod header;
mod health;
pub mod http;
pub mod http_call;
mod intake;
mod kv;
mod lease;
pub mod machine;
mod maintenance;
pub mod message;
mod meter;
pub mod meters;
pub mod methods;
mod output;
mod pipe;
pub mod port;
mod range_stream;
pub mod recipes;
pub mod sniff;
pub mod status;
mod streams;
mod wakes;
mod watch;

/// The etcd release whose contract is kept.
pub const ETCD_VERSION: &str = "3.7.3";
/// Its storage version.
pub const ETCD_STORAGE_VERSION: &str = "3.7.0";

pub use conn::serve;
pub use header::Header;
pub use kv::decode;
pub use port::{Delivery, FrontendContext, Inbox, Port, Settings};
pub use wakes::Wakes;

#[cfg(test)]
mod tests;
