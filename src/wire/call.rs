//! What the frontend hands to the node of its core, and what comes back.
//!
//! A call is answered exactly once, but for a watch stream, which is answered until it is gone.
//! Requests are the generated messages; answers hold shared records, so that an answer of any
//! size is references until the frontend writes it out.

use std::sync::Arc;

use bytes::Bytes;

use super::etcdserverpb as pb;
use crate::base::effect::AlarmKind;
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::base::{LeaseId, RaftIndex, Revision, Term};

/// Names a call on the core that took it: the connection's slot and the call's on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Slot of the connection, unique among the core's open ones.
    pub connection: u32,
    /// Number of the call on its connection, never used twice.
    pub call: u32,
}

/// What a client asks, checked as far as the request alone allows.
#[derive(Clone, Debug)]
pub enum Request {
    /// Read a range.
    Range(pb::RangeRequest),
    /// Set a key.
    Put(pb::PutRequest),
    /// Delete a range.
    DeleteRange(pb::DeleteRangeRequest),
    /// Compare and act.
    Txn(pb::TxnRequest),
    /// Forget history.
    Compact(pb::CompactionRequest),
    /// Create a lease. The ID is chosen by the node if it is 0.
    LeaseGrant(pb::LeaseGrantRequest),
    /// End a lease and delete its keys.
    LeaseRevoke(LeaseId),
    /// Renew a lease.
    LeaseKeepAlive(LeaseId),
    /// How long a lease has left, and its keys if asked.
    LeaseTimeToLive {
        /// The lease.
        id: LeaseId,
        /// Whether the keys are wanted.
        keys: bool,
    },
    /// All leases.
    LeaseLeases,
    /// List, raise or clear alarms.
    Alarm(pb::AlarmRequest),
    /// How the member does.
    Status,
    /// etcd's hash of all records up to a revision; 0 for the current one.
    HashKv(Revision),
    /// A hash of this member's whole content.
    Hash,
    /// The members, after a read index if `linearizable`.
    MemberList {
        /// Whether the list must be the group's newest.
        linearizable: bool,
    },
    /// Answered at once: there is nothing to defragment.
    Defragment,
    /// One message of a watch stream; all messages of a stream come under the same call.
    Watch(pb::WatchRequest),
}

/// What the node answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Range`.
    Range(RangeAnswer),
    /// To `Put`.
    Put(PutAnswer),
    /// To `DeleteRange`.
    DeleteRange(DeleteRangeAnswer),
    /// To `Txn`.
    Txn(TxnAnswer),
    /// To `Compact` and `Defragment`: the header alone.
    Header(Revision),
    /// To `LeaseGrant`.
    LeaseGrant {
        /// For the header.
        revision: Revision,
        /// The lease.
        id: LeaseId,
        /// The TTL in force, in seconds.
        ttl_s: i64,
    },
    /// To `LeaseRevoke`.
    LeaseRevoke(Revision),
    /// To `LeaseKeepAlive`; a TTL of 0 says that there is no such lease.
    LeaseKeepAlive {
        /// For the header.
        revision: Revision,
        /// The lease.
        id: LeaseId,
        /// The new TTL in seconds.
        ttl_s: i64,
    },
    /// To `LeaseTimeToLive`; a TTL of -1 says that there is no such lease.
    LeaseTimeToLive {
        /// For the header.
        revision: Revision,
        /// The lease.
        id: LeaseId,
        /// Seconds left.
        ttl_s: i64,
        /// The TTL as granted.
        granted_s: i64,
        /// Its keys, ascending, if asked.
        keys: Vec<Bytes>,
    },
    /// To `LeaseLeases`, soonest to expire first.
    LeaseLeases {
        /// For the header.
        revision: Revision,
        /// The leases.
        ids: Vec<LeaseId>,
    },
    /// To `Alarm`.
    Alarm {
        /// For the header.
        revision: Revision,
        /// The alarms listed, raised or cleared.
        alarms: Vec<(u64, AlarmKind)>,
    },
    /// To `Status`.
    Status(StatusAnswer),
    /// To `HashKv`.
    HashKv {
        /// For the header.
        revision: Revision,
        /// CRC-32C as etcd computes it.
        hash: u32,
        /// Compact revision at the start of the pass; -1 if none.
        compact: Revision,
        /// Revision that was hashed.
        hashed: Revision,
    },
    /// To `Hash`.
    Hash {
        /// For the header.
        revision: Revision,
        /// CRC-32C over this member's own content.
        hash: u32,
    },
    /// To `MemberList`.
    MemberList(Vec<pb::Member>),
}

/// To a Range.
#[derive(Clone, Debug, Default)]
pub struct RangeAnswer {
    /// For the header: the store's revision when it was read.
    pub revision: Revision,
    /// The versions, in the order asked for.
    pub records: Vec<Arc<Record>>,
    /// Whether values and leases are left out.
    pub keys_only: bool,
    /// Whether there was more than the limit.
    pub more: bool,
    /// Keys in the range, whatever limit and filters say.
    pub count: u64,
}

/// To a Put.
#[derive(Clone, Debug, Default)]
pub struct PutAnswer {
    /// For the header: the put's own revision.
    pub revision: Revision,
    /// The version before, if it was asked for and there was one.
    pub previous: Option<Arc<Record>>,
}

/// To a DeleteRange.
#[derive(Clone, Debug, Default)]
pub struct DeleteRangeAnswer {
    /// For the header.
    pub revision: Revision,
    /// Keys deleted.
    pub deleted: u64,
    /// The versions before, ascending, if asked for.
    pub previous: Vec<Arc<Record>>,
}

/// To a Txn, also nested.
#[derive(Clone, Debug, Default)]
pub struct TxnAnswer {
    /// For the header; a nested one's header stays empty.
    pub revision: Revision,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One per operation of the branch taken.
    pub ops: Vec<OpAnswer>,
}

/// To one operation of a Txn.
#[derive(Clone, Debug)]
pub enum OpAnswer {
    /// To a Range.
    Range(RangeAnswer),
    /// To a Put.
    Put(PutAnswer),
    /// To a DeleteRange.
    DeleteRange(DeleteRangeAnswer),
    /// To a nested Txn.
    Txn(TxnAnswer),
}

/// To Status.
#[derive(Clone, Debug, Default)]
pub struct StatusAnswer {
    /// For the header.
    pub revision: Revision,
    /// Bytes of the store as the quota counts them.
    pub db_bytes: u64,
    /// Bytes of the store that are in use.
    pub db_bytes_in_use: u64,
    /// The quota in force; 0 if there is none.
    pub quota_bytes: i64,
    /// The leader's member ID, 0 if none is known.
    pub leader: u64,
    /// Newest committed index.
    pub index: RaftIndex,
    /// Newest applied index.
    pub applied: RaftIndex,
    /// Current term.
    pub term: Term,
    /// Alarms in force.
    pub alarms: Vec<(u64, AlarmKind)>,
}

/// What a call that is answered once gets.
pub type Reply = Result<Answer, Reject>;

/// One message to a watch stream.
#[derive(Clone, Debug)]
pub struct WatchMessage {
    /// The watcher; -1 for an answer to a manual progress request or to a refused create.
    pub watch_id: i64,
    /// For the header.
    pub revision: Revision,
    /// What it says.
    pub body: WatchBody,
}

impl WatchMessage {
    /// What every message counts on its stream beside its events.
    pub const OVERHEAD_BYTES: usize = 64;

    /// What the message counts on its stream until it has left. Hub and frontend both count so.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let events = match &self.body {
            WatchBody::Events { events, .. } => events.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        WatchMessage::OVERHEAD_BYTES + events
    }

    /// How many events it carries.
    #[must_use]
    pub fn events(&self) -> usize {
        match &self.body {
            WatchBody::Events { events, .. } => events.len(),
            _ => 0,
        }
    }
}

/// What a message to a watch stream says.
#[derive(Clone, Debug)]
pub enum WatchBody {
    /// The watcher exists.
    Created,
    /// The watcher does not exist: refused at once (`created` and `canceled` both set).
    Refused(WatchRefusal),
    /// The watcher is gone because the client asked.
    Canceled,
    /// The watcher is gone because its start was compacted away; the header has no revision.
    Compacted(Revision),
    /// Events in order. Each is the encoded `events` field, tag and length included.
    Events {
        /// The fields, ready to stand behind each other.
        events: Vec<Bytes>,
        /// Whether more pieces of the same revision follow.
        fragment: bool,
    },
    /// Everything up to the header's revision was sent.
    Progress,
}

/// Why a watcher was refused at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRefusal {
    /// The watch ID is in use on the stream.
    DuplicateId,
    /// The range can hold no key.
    EmptyRange,
    /// The start revision is negative.
    NegativeStart,
    /// The stream has as many watchers as it may have.
    TooMany,
}
