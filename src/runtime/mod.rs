//! runtime — the only room that knows Linux.
//! Around every step of a write. In: the configuration. Out: an exit code.
//! Owns: the log's outputs, the data directory.
//! Invariants: (1) what this member acknowledged is never touched by another process; (2) whoever
//!             is refused is told why in one sentence.
//! Limits: LOG_FIELD_BYTES_MAX.
//! Must not: decide anything that a room could decide.
//! Tests: here.

pub mod clock;
mod connection;
pub mod datadir;
mod direct;
mod disk;
pub mod file;
pub mod log;
mod mailbox;
mod memory;
mod metrics;
mod nap;
pub mod notify;
mod page_disk;
mod page_files;
mod pipe;
pub mod probe;
pub mod procfs;
pub mod pump;
mod recovery;
pub mod reshard;
mod ring;
pub mod scrape;
mod segments;
pub mod serve;
pub mod signals;
mod station;
mod timer;
