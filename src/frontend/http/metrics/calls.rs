//! Families with a row for each method: what grpc-prometheus shows, and etcd's own duration of
//! requests. Every method is there from the start.

use super::super::super::meters::MethodMeters;
use super::super::super::methods::METHODS;
use super::super::super::status::CODE_NAMES;
use super::{Buckets, Kind, Sample, Text};

/// Methods with their name in `etcd_server_request_duration_seconds`.
const REQUESTS: [(&str, &str); 8] = [
    ("Range", "Range"),
    ("Put", "Put"),
    ("DeleteRange", "DeleteRange"),
    ("Txn", "Txn"),
    ("Compact", "Compaction"),
    ("LeaseGrant", "LeaseGrant"),
    ("LeaseRevoke", "LeaseRevoke"),
    ("Alarm", "Alarm"),
];

pub(super) fn write(sample: &Sample, text: &mut Text) {
    by_method(sample, text, "grpc_server_started_total", "Calls begun, by method.", |meters| {
        meters.started.value()
    });
    handled(sample, text);
    by_method(
        sample,
        text,
        "grpc_server_msg_received_total",
        "Messages received, by method.",
        |meters| meters.received.value(),
    );
    by_method(sample, text, "grpc_server_msg_sent_total", "Messages sent, by method.", |meters| {
        meters.sent.value()
    });
    durations(sample, text);
}

/// A method's counts on all cores.
fn of<T: std::iter::Sum>(sample: &Sample, method: usize, count: impl Fn(&MethodMeters) -> T) -> T {
    sample.meters.iter().map(|core| count(&core.methods[method])).sum()
}

fn by_method(
    sample: &Sample,
    text: &mut Text,
    name: &str,
    help: &str,
    count: impl Fn(&MethodMeters) -> u64,
) {
    text.head(name, Kind::Counter, help);
    for (index, method) in METHODS.iter().enumerate() {
        let labels = [
            ("grpc_method", method.name),
            ("grpc_service", method.service),
            ("grpc_type", method.flow.name()),
        ];
        text.row(name, &labels, of(sample, index, &count));
    }
}

fn handled(sample: &Sample, text: &mut Text) {
    let name = "grpc_server_handled_total";
    text.head(name, Kind::Counter, "Calls ended, by method and code.");
    for (index, method) in METHODS.iter().enumerate() {
        for (code, code_name) in CODE_NAMES.iter().enumerate() {
            let labels = [
                ("grpc_code", *code_name),
                ("grpc_method", method.name),
                ("grpc_service", method.service),
                ("grpc_type", method.flow.name()),
            ];
            let count = of(sample, index, |meters| meters.handled[code].value());
            text.row(name, &labels, count);
        }
    }
}

fn durations(sample: &Sample, text: &mut Text) {
    let name = "etcd_server_request_duration_seconds";
    let mut has_head = false;
    for (method, kind) in REQUESTS {
        let found = METHODS
            .iter()
            .position(|known| known.name == method && known.service.starts_with("etcdserverpb."));
        let Some(index) = found else { continue };
        for success in [false, true] {
            let mut buckets = Buckets::default();
            for core in &sample.meters {
                let meters = &core.methods[index];
                buckets.add(if success { &meters.succeeded } else { &meters.failed });
            }
            if buckets.count() == 0 {
                continue;
            }
            if !has_head {
                text.head(name, Kind::Histogram, "Time from a request to its answer.");
                has_head = true;
            }
            let truth = if success { "true" } else { "false" };
            text.buckets(name, &[("success", truth), ("type", kind)], &buckets);
        }
    }
}
