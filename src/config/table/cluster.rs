//! Flags of the group: who its members are and how they find each other.

use super::super::flag::Flag;
use super::super::flag::Kind::{Bool, Choice, Choices, Duration, List, Text, Urls};
use super::super::flag::Support::{self, Built, Ignored, NotBuilt, Peer};

const DISCOVERY: Support =
    NotBuilt("discovery is not built; name the members by --initial-cluster");

#[rustfmt::skip]
pub(super) const CLUSTERING: [Flag; 26] = [
    Flag::new("initial-advertise-peer-urls", Urls, "http://localhost:2380", Built,
        "Where other members reach this one."),
    Flag::new("initial-cluster", Text, "default=http://localhost:2380", Built,
        "The first members, name=URL,...; counts when the data directory is made.\n\
         Only a single member is built so far."),
    Flag::new("initial-cluster-state", Choice(&["new", "existing"]), "new", Built,
        "Whether the group is new or exists; counts when the data directory is made."),
    Flag::new("initial-cluster-token", Text, "etcd-cluster", Built,
        "Goes into the IDs of group and members, so that two groups do not mix."),
    Flag::new("advertise-client-urls", Urls, "http://localhost:2379", Built,
        "Where clients reach this member; shown to them as given."),
    Flag::new("discovery-token", Text, "", DISCOVERY,
        "Names the group at the discovery service."),
    Flag::new("discovery-endpoints", List, "", DISCOVERY,
        "Addresses of the discovery service."),
    Flag::new("discovery-dial-timeout", Duration, "2s", DISCOVERY,
        "Longest wait for a connection to it."),
    Flag::new("discovery-request-timeout", Duration, "5s", DISCOVERY,
        "Longest wait for its answer."),
    Flag::new("discovery-keepalive-time", Duration, "2s", DISCOVERY,
        "Silence until it is pinged."),
    Flag::new("discovery-keepalive-timeout", Duration, "6s", DISCOVERY,
        "Time for it to answer a ping."),
    Flag::new("discovery-insecure-transport", Bool, "true", DISCOVERY,
        "Speak to it in the clear."),
    Flag::new("discovery-insecure-skip-tls-verify", Bool, "false", DISCOVERY,
        "Do not check its certificate."),
    Flag::new("discovery-cert", Text, "", DISCOVERY,
        "Certificate to show it."),
    Flag::new("discovery-key", Text, "", DISCOVERY,
        "Key of that certificate."),
    Flag::new("discovery-cacert", Text, "", DISCOVERY,
        "Authorities that may sign its certificate."),
    Flag::new("discovery-user", Text, "", DISCOVERY,
        "User name, or name:password, at it."),
    Flag::new("discovery-password", Text, "", DISCOVERY,
        "Password at it."),
    Flag::new("discovery-fallback", Choice(&["exit", "proxy"]), "exit", Built,
        "What to do when discovery fails; only \"exit\"."),
    Flag::new("discovery-srv", Text, "", DISCOVERY,
        "DNS domain whose SRV records name the members."),
    Flag::new("discovery-srv-name", Text, "", DISCOVERY,
        "Suffix of the service name in those records."),
    Flag::new("strict-reconfig-check", Bool, "true", Peer,
        "Refuse changes of membership that would cost the quorum."),
    Flag::new("pre-vote", Bool, "true", Built,
        "Ask before an election whether it could be won, so that a member that was away\n\
         disturbs nobody."),
    Flag::new("auto-compaction-retention", Text, "0", Built,
        "How much history to keep: hours, a duration or a number of revisions. 0: all."),
    Flag::new("auto-compaction-mode", Text, "periodic", Built,
        "How to read the retention: \"periodic\" (time) or \"revision\" (a number)."),
    Flag::new("v2-deprecation",
        Choices(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only", Ignored("there never was a v2 store here"),
        "A stage of the end of etcd's v2 store."),
];
