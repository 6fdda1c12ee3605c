//! cluster — what concerns the member as a whole and is no key.
//! Beside the road. In: time, the current revision. Out: revisions to compact at.
//! Owns: the history that automatic compaction goes by.
//! Invariants: (1) nothing is compacted that is younger than the retention.
//! Limits: none; the history has at most 100 entries.
//! Must not: read a clock; compact by itself.
//! Tests: in its files.

pub mod compactor;
