//! shard — one slice of the keyspace, owned by one core.
//! Steps 2, 4 and 5 of a write, every read. In: effects, reads. Out: answers, previous versions.
//! Owns: the keys that the router's hash gives it, with their history.
//! Invariants: (1) evaluation order is revision order; (2) nothing outside touches its state.
//! Limits: RECORD_OVERHEAD_BYTES.
//! Must not: do I/O; read a clock; know other shards.
//! Tests: in its rooms.

pub mod disk;
pub mod eval;
pub mod memtable;
pub mod mvcc;
pub mod pages;
pub mod reshard;
pub mod store;
pub mod tree;
pub mod wal;
