//! shard::mvcc — etcd's read semantics over versions by key and revision.
//! Step 2 of a write and every read. In: ranges at a revision. Out: runs of records,
//! hashes.
//! Owns: cursors, which between two steps hold keys and records and no place in a store; counts of
//! what is left of lists.
//! Invariants: (1) a cursor interrupted anywhere yields what an uninterrupted one yields;
//!             (2) what was read at a revision stays true.
//! Limits: REMAINING_*.
//! Must not: know where a version is kept; choose a revision; write.
//! Tests: tests.rs against the naive model of `sim`.

pub mod cursor;
pub mod hash;
pub mod range;
pub mod remaining;
pub mod source;

#[cfg(test)]
mod tests;
