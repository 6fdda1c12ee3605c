//! wire — messages of the client API and what crosses the frontend's seam.
//! Between steps 0 and 1 of a write. In: bytes. Out: messages, requests, answers.
//! Owns: the generated types of `proto/`.
//! Invariants: (1) keys and values are slices of the buffer they arrived in; (2) nothing here
//!             trusts a length it has not checked.
//! Limits: REQUEST_BYTES_MAX, TXN_DEPTH_MAX.
//! Must not: decide anything; hold state.
//! Tests: here (round trips), tests/wire.rs (an independent client).

pub mod call;
pub mod client;

/// `mvccpb`: keys and events.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// `etcdserverpb`: the client API.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// `v3lockpb`: the lock recipe.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// `v3electionpb`: the election recipe.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// `grpc.health.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
