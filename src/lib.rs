//! Ringbolt: a drop-in replacement for the etcd server, one pinned thread per core, all I/O
//! through io_uring. The modules stand in the order in which a write meets them;
//! docs/ARCHITECTURE.md is the map.

pub mod base;
pub mod wire;

pub mod frontend;
pub mod orderer;
pub mod router;
pub mod shard;
pub mod watch;

pub mod cluster;
pub mod config;
pub mod lease;

pub mod node;

pub mod runtime;
pub mod sim;

pub mod cli;
