//! Families with a row for each method: what grpc-prometheus shows, and etcd's own duration of
//! requests. Every method is there from the start.

use std::collections::BTreeMap;

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
    ranges(sample, text);
    clients(sample, text);
}

fn ranges(sample: &Sample, text: &mut Text) {
    let name = "etcd_server_range_duration_seconds";
    let mut has_head = false;
    for (index, success) in ["false", "true"].into_iter().enumerate() {
        let mut buckets = Buckets::default();
        sample.meters.iter().for_each(|core| buckets.add(&Buckets::in_s(&core.ranges[index])));
        if buckets.count() == 0 {
            continue;
        }
        if !has_head {
            text.head(name, Kind::Histogram, "Time from a Range to the store's answer.");
            has_head = true;
        }
        text.buckets(name, &[("success", success)], &buckets);
    }
}

fn clients(sample: &Sample, text: &mut Text) {
    let mut by_version: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for (version, counts) in sample.meters.iter().flat_map(|core| core.clients.counts()) {
        let sum = by_version.entry(version).or_default();
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let name = "etcd_server_client_requests_total";
    by_version.retain(|_, counts| *counts != [0, 0]);
    if !by_version.is_empty() {
        text.head(name, Kind::Counter, "Calls by the API version that the client names.");
    }
    for (version, counts) in by_version {
        for (kind, count) in ["unary", "stream"].into_iter().zip(counts) {
            if count > 0 {
                text.row(name, &[("client_api_version", version), ("type", kind)], count);
            }
        }
    }
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
                let histogram = if success { &meters.succeeded } else { &meters.failed };
                buckets.add(&Buckets::in_s(histogram));
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
