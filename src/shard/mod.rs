//! shard — everything that a shard of the keyspace does and keeps.
//! Steps 2, 4 and 5 of a write. In: operations, batches. Out: answers, effects, `DiskOp`s.
//! Owns: the shard's state; one owner per datum.
//! Invariants: stated by each room.
//! Limits: stated by each room.
//! Must not: do I/O; read a clock.
//! Tests: in each room.

pub mod wal;
