//! base — the vocabulary that every room speaks.
//! On no step of a write: values, limits and small algorithms. In: nothing. Out: types.
//! Owns: nothing that lives; names, units and bounds only.
//! Invariants: (1) a revision, an index, a term and a tick are different types; (2) a record's
//!             bytes are final from the moment it exists.
//! Limits: all of them, in `limits`.
//! Must not: do I/O; read a clock; import another room.
//! Tests: at the bottom of each file.

pub mod batch;
pub mod block;
pub mod change;
pub mod effect;
pub mod limits;
pub mod metrics;
pub mod prng;
pub mod range;
pub mod record;
pub mod reject;
pub mod shared;

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position in the store's history. The empty store stands at 1, the first write takes 2.
    Revision, i64
);
number!(
    /// Order of a change within its revision, from 0.
    Sub, u32
);
number!(
    /// Position in the raft log. The first entry is 1.
    RaftIndex, u64
);
number!(
    /// A leadership's number.
    Term, u64
);
number!(
    /// A lease's name; 0 means none.
    LeaseId, i64
);
number!(
    /// One keyspace shard of this member. Never written to the log.
    ShardId, u16
);
number!(
    /// One executor thread of this process.
    CoreId, u16
);
number!(
    /// Monotonic time in nanoseconds since an arbitrary start. Supplied by the caller, always.
    Tick, u64
);

impl Revision {
    /// The revision of a store that was never written to.
    pub const EMPTY: Revision = Revision(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// The revision before this one.
    #[must_use]
    pub fn before(self) -> Revision {
        Revision(self.0 - 1)
    }
}

impl RaftIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> RaftIndex {
        RaftIndex(self.0 + 1)
    }
}

impl LeaseId {
    /// No lease.
    pub const NONE: LeaseId = LeaseId(0);
}

impl Tick {
    /// The tick `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Tick {
        Tick(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// `ns` nanoseconds later.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Tick {
        Tick(self.0.saturating_add(ns))
    }

    /// The first multiple of `ms` milliseconds from here on.
    #[must_use]
    pub fn rounded_up_ms(self, ms: u64) -> Tick {
        let step = ms.saturating_mul(1_000_000).max(1);
        Tick(self.0.checked_next_multiple_of(step).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since `earlier`, 0 if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
