//! What a request may be refused with. `frontend::status` gives each its gRPC code and text.

/// A refusal: the caller's problem or the cluster's state, never the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The revision asked for was compacted away.
    Compacted,
    /// The store holds damaged data and writes are off.
    Corrupt,
    /// A key is put twice, or put and deleted, by one transaction.
    DuplicateKey,
    /// A request without a key.
    EmptyKey,
    /// The revision asked for does not exist yet.
    FutureRevision,
    /// A sort order or target that does not exist.
    InvalidSortOption,
    /// `ignore_value` or `ignore_lease` on a key that is not there, or an operation left empty.
    KeyNotFound,
    /// The lease to grant exists already.
    LeaseExists,
    /// The lease named is not there.
    LeaseNotFound,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// A TTL above the largest one allowed.
    LeaseTtlTooLarge,
    /// The member that proposed the write is no longer the leader.
    LeaderChanged,
    /// No leader is known.
    NoLeader,
    /// The quota is used up and writes that add are off.
    NoSpace,
    /// The request is larger than a request may be.
    RequestTooLarge,
    /// The member is stopping.
    Stopped,
    /// The request was not answered in time.
    Timeout,
    /// A transaction with more operations than allowed.
    TooManyOps,
    /// More requests are under way than the member takes on.
    TooManyRequests,
    /// `ignore_value` together with a value.
    ValueProvided,
}
