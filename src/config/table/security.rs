//! Flags of transport security and of users.

use super::super::flag::Flag;
use super::super::flag::Kind::{Bool, List, Origins, Text, Uint};
use super::super::flag::Support::{self, Built, Ignored, NotBuilt, Peer};

const TLS: Support = NotBuilt(
    "TLS for clients is not built yet, and without it this member would \
    serve everyone in the clear",
);
const NO_CERTIFICATES: &str = "no certificates are made here";
const NO_AUTH: &str = "users and roles are not built yet";

#[rustfmt::skip]
pub(super) const SECURITY: [Flag; 26] = [
    Flag::new("cert-file", Text, "", TLS,
        "Certificate shown to clients."),
    Flag::new("key-file", Text, "", TLS,
        "Key of that certificate."),
    Flag::new("client-cert-auth", Bool, "false", TLS,
        "Ask clients for a certificate."),
    Flag::new("client-cert-file", Text, "", TLS,
        "Certificate shown when this member calls itself as a client."),
    Flag::new("client-key-file", Text, "", TLS,
        "Key of that certificate."),
    Flag::new("client-crl-file", Text, "", TLS,
        "Client certificates that were revoked."),
    Flag::new("client-cert-allowed-hostname", List, "", TLS,
        "Names of which a client certificate must hold one."),
    Flag::new("trusted-ca-file", Text, "", TLS,
        "Authorities that may sign client certificates."),
    Flag::new("auto-tls", Bool, "false", TLS,
        "Make a certificate for clients at start."),
    Flag::new("peer-cert-file", Text, "", Peer,
        "Certificate shown to other members."),
    Flag::new("peer-key-file", Text, "", Peer,
        "Key of that certificate."),
    Flag::new("peer-client-cert-auth", Bool, "false", Peer,
        "Ask other members for a certificate."),
    Flag::new("peer-client-cert-file", Text, "", Peer,
        "Certificate shown when calling other members."),
    Flag::new("peer-client-key-file", Text, "", Peer,
        "Key of that certificate."),
    Flag::new("peer-trusted-ca-file", Text, "", Peer,
        "Authorities that may sign certificates of members."),
    Flag::new("peer-cert-allowed-cn", List, "", Peer,
        "Common names of which a member's certificate must have one."),
    Flag::new("peer-cert-allowed-hostname", List, "", Peer,
        "Names of which a member's certificate must hold one."),
    Flag::new("peer-auto-tls", Bool, "false", Peer,
        "Make a certificate for other members at start."),
    Flag::new("peer-crl-file", Text, "", Peer,
        "Certificates of members that were revoked."),
    Flag::new("peer-skip-client-san-verification", Bool, "false", Peer,
        "Do not compare a member's certificate with its address."),
    Flag::new("self-signed-cert-validity", Uint, "1", Ignored(NO_CERTIFICATES),
        "Years that a certificate made at start is good for."),
    Flag::new("cipher-suites", List, "", TLS,
        "Cipher suites of TLS 1.2 that may be used."),
    Flag::new("tls-min-version", Text, "TLS1.2", TLS,
        "Oldest version of TLS: TLS1.2 or TLS1.3."),
    Flag::new("tls-max-version", Text, "", TLS,
        "Newest version of TLS."),
    Flag::new("cors", Origins, "*", Built,
        "Origins whose pages may call this member's HTTP. Empty or *: all."),
    Flag::new("host-whitelist", List, "*", Built,
        "Host names that HTTP requests in the clear may be for. Empty or *: all."),
];

#[rustfmt::skip]
pub(super) const AUTH: [Flag; 3] = [
    Flag::new("auth-token", Text, "simple", NotBuilt("tokens other than simple ones are not built"),
        "Kind of token that users get."),
    Flag::new("bcrypt-cost", Uint, "10", Ignored(NO_AUTH),
        "Cost of a password's hash, 4 to 31."),
    Flag::new("auth-token-ttl", Uint, "300", Ignored(NO_AUTH),
        "Seconds that an unused token lives."),
];
