//! What one core's connections count, by method: arrays over the table of methods, so that
//! every method is there from the first scrape on.

use std::sync::OnceLock;

use super::methods::METHODS_COUNT;
use super::status::Code;
use crate::base::limits::{CLIENT_VERSION_BYTES_MAX, CLIENT_VERSIONS_MAX};
use crate::base::metrics::{Counter, Histogram};

/// Counters of one method.
#[derive(Debug)]
pub struct MethodMeters {
    /// Calls begun: `grpc_server_started_total`.
    pub started: Counter,
    /// Calls ended, by code: `grpc_server_handled_total`.
    pub handled: [Counter; 17],
    /// Messages received: `grpc_server_msg_received_total`.
    pub received: Counter,
    /// Messages sent: `grpc_server_msg_sent_total`.
    pub sent: Counter,
    /// Time from the request's message to its answer, of calls that went well:
    /// `etcd_server_request_duration_seconds{success="true"}`.
    pub succeeded: Histogram<14>,
    /// The same of calls that failed.
    pub failed: Histogram<14>,
}

impl Default for MethodMeters {
    fn default() -> MethodMeters {
        MethodMeters {
            started: Counter::default(),
            handled: Default::default(),
            received: Counter::default(),
            sent: Counter::default(),
            succeeded: Histogram::new(1_000_000),
            failed: Histogram::new(1_000_000),
        }
    }
}

impl MethodMeters {
    /// A call has ended after `ns`.
    pub fn ended(&self, code: Code, ns: u64) {
        self.handled[code as usize].one();
        if code == Code::Ok { &self.succeeded } else { &self.failed }.observe_ns(ns);
    }
}

/// Calls by the API version that the client names and by whether they are streams:
/// `etcd_server_client_requests_total`. Clients choose the names, so there is a bound to them.
#[derive(Debug, Default)]
pub struct ClientVersions {
    named: [OnceLock<(Box<str>, [Counter; 2])>; CLIENT_VERSIONS_MAX],
    unnamed: [Counter; 2],
    others: [Counter; 2],
}

impl ClientVersions {
    /// A call begins.
    pub fn count(&self, version: Option<&str>, is_stream: bool) {
        let counts = version.map_or(&self.unnamed, |version| self.of(version));
        counts[usize::from(is_stream)].one();
    }

    fn of(&self, version: &str) -> &[Counter; 2] {
        if version.len() > CLIENT_VERSION_BYTES_MAX {
            return &self.others;
        }
        let made = || (version.into(), <[Counter; 2]>::default());
        let mut places = self.named.iter().map(|place| place.get_or_init(made));
        places.find(|(known, _)| **known == *version).map_or(&self.others, |(_, counts)| counts)
    }

    /// Each version with its unary calls and its streams. Calls without one are `unknown`, as in
    /// etcd; those of too many or too long versions are `other`.
    pub fn counts(&self) -> impl Iterator<Item = (&str, [u64; 2])> {
        let named = self.named.iter().filter_map(OnceLock::get).map(|(name, n)| (&**name, n));
        let rest = [("unknown", &self.unnamed), ("other", &self.others)];
        named.chain(rest).map(|(name, [unary, streams])| (name, [unary.value(), streams.value()]))
    }
}

/// Counters of one core.
#[derive(Debug)]
pub struct Meters {
    /// By method, in the order of [`METHODS`](super::methods::METHODS).
    pub methods: Vec<MethodMeters>,
    /// Calls by their client's version.
    pub clients: ClientVersions,
    /// Time from a Range to the node's answer, of those refused and of those answered:
    /// `etcd_server_range_duration_seconds`.
    pub ranges: [Histogram<20>; 2],
    /// Ranges that took longer than `--warning-apply-duration`.
    pub slow_ranges: Counter,
    /// Bytes of gRPC messages received: `etcd_network_client_grpc_received_bytes_total`.
    pub received_bytes: Counter,
    /// Bytes of gRPC messages sent: `etcd_network_client_grpc_sent_bytes_total`.
    pub sent_bytes: Counter,
    /// Connections taken.
    pub connections_opened: Counter,
    /// Connections gone.
    pub connections_closed: Counter,
    /// Connections closed for flooding.
    pub floods: Counter,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            methods: (0..METHODS_COUNT).map(|_| MethodMeters::default()).collect(),
            clients: ClientVersions::default(),
            ranges: [Histogram::new(100_000), Histogram::new(100_000)],
            slow_ranges: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            floods: Counter::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_up_to_a_bound() {
        let clients = ClientVersions::default();
        clients.count(None, false);
        clients.count(Some(&"9".repeat(CLIENT_VERSION_BYTES_MAX + 1)), true);
        for number in 0..CLIENT_VERSIONS_MAX + 2 {
            clients.count(Some(&format!("3.{number}")), false);
            clients.count(Some("3.0"), true);
        }
        let counts: Vec<_> = clients.counts().collect();
        let calls = CLIENT_VERSIONS_MAX as u64 + 2;
        assert_eq!(counts[0], ("3.0", [1, calls]));
        assert_eq!(counts[1], ("3.1", [1, 0]));
        assert_eq!(counts[CLIENT_VERSIONS_MAX..], [("unknown", [1, 0]), ("other", [2, 1])]);
    }
}
