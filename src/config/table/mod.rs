//! config::table — every flag of etcd 3.7 and Ringbolt's own, once.
//! On no step of a write. In: a name. Out: its row.
//! Owns: names, kinds, defaults, help, and how far each flag is built.
//! Invariants: (1) a name stands once; (2) every default is a value of its kind.
//! Limits: none.
//! Must not: read anything; decide what a value means.
//! Tests: config/tests.rs.

mod cluster;
mod member;
mod operation;
mod security;

use super::flag::Flag;

/// The flags by group, in the order of the help.
pub(super) const GROUPS: [(&str, &[Flag]); 9] = [
    ("Member", &member::MEMBER),
    ("Clustering", &cluster::CLUSTERING),
    ("Security", &security::SECURITY),
    ("Auth", &security::AUTH),
    ("Logging", &operation::LOGGING),
    ("Monitoring", &operation::MONITORING),
    ("Features", &operation::FEATURES),
    ("Unsafe", &operation::UNSAFE),
    ("Ringbolt's own", &member::OWN),
];

/// Switches of releases before 3.6 that became feature gates.
pub(super) const EXPERIMENTAL_GATES: [(&str, &str); 7] = [
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("set-member-localaddr", "SetMemberLocalAddr"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
];

/// The row of a flag.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    let all = GROUPS.iter().flat_map(|(_, flags)| flags.iter());
    all.chain(&operation::DROPPED).find(|flag| flag.name == name)
}
