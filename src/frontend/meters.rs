//! What one core's connections count, by method: arrays over the table of methods, so that
//! every method is there from the first scrape on.

use super::methods::METHODS_COUNT;
use super::status::Code;
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

/// Counters of one core.
#[derive(Debug)]
pub struct Meters {
    /// By method, in the order of [`METHODS`](super::methods::METHODS).
    pub methods: Vec<MethodMeters>,
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
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            floods: Counter::default(),
        }
    }
}
