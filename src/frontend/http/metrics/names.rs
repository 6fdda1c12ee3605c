//! Families that name something by their labels: identities, alarms, members, checks, scrapes.

use super::super::super::{ETCD_STORAGE_VERSION, ETCD_VERSION};
use super::super::probe::HealthMeters;
use super::{Kind, Sample, Text};
use crate::base::effect::AlarmKind;

pub(super) fn write(sample: &Sample, text: &mut Text) {
    let id = format!("{:x}", sample.member_id);
    let cluster = ETCD_STORAGE_VERSION.rsplit_once('.').map_or("", |(minor, _)| minor);
    let ours = env!("CARGO_PKG_VERSION");
    let named = [
        ("etcd_server_id", "server_id", &*id, "The member's ID."),
        ("etcd_server_version", "server_version", ETCD_VERSION, "The etcd release it stands for."),
        ("etcd_cluster_version", "cluster_version", cluster, "The version of the group."),
        ("ringbolt_version", "version", ours, "The version of Ringbolt."),
    ];
    for (name, label, value, help) in named {
        text.head(name, Kind::Gauge, help);
        text.row(name, &[(label, value)], 1);
    }
    peers(sample, text);
    applies(sample, text);
    if !sample.gates.is_empty() {
        let name = "etcd_server_feature_enabled";
        text.head(name, Kind::Gauge, "Whether a feature gate is on: 1 or 0.");
        for (gate, stage, is_on) in &sample.gates {
            text.row(name, &[("name", gate), ("stage", stage)], u8::from(*is_on));
        }
    }
    if let Some(alarms) = &sample.group.alarms {
        let name = "etcd_debugging_server_alarms";
        text.head(name, Kind::Gauge, "Alarms in force.");
        for (member, kind) in alarms {
            let kind = match kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            let member = format!("{member:x}");
            text.row(name, &[("alarm_type", kind), ("server_id", &*member)], 1);
        }
    }
}

/// The members that this one knows, itself included, as in etcd.
fn peers(sample: &Sample, text: &mut Text) {
    let name = "etcd_network_known_peers";
    let mut members = sample.group.members.iter().peekable();
    if members.peek().is_some() {
        text.head(name, Kind::Gauge, "Members that this one knows.");
    }
    let local = format!("{:x}", sample.member_id);
    for member in members {
        let remote = format!("{member:x}");
        text.row(name, &[("Local", &*local), ("Remote", &*remote)], 1);
    }
}

/// Only what is applied is counted, and that cannot fail.
fn applies(sample: &Sample, text: &mut Text) {
    let name = "etcd_server_apply_duration_seconds";
    let mut counted = sample.group.applies.iter().filter(|(_, took)| took.count() > 0).peekable();
    if counted.peek().is_some() {
        let help = "Time from committed to visible of the operations that the log holds.";
        text.head(name, Kind::Histogram, help);
    }
    for (op, took) in counted {
        text.buckets(name, &[("op", op), ("success", "true"), ("version", "v3")], took);
    }
}

/// Writes what the probes have found, and the scrapes before this one.
pub(super) fn write_health(health: &HealthMeters, text: &mut Text) {
    let (under_way, done) = health.scrapes();
    let name = "promhttp_metric_handler_requests_in_flight";
    text.head(name, Kind::Gauge, "Scrapes under way.");
    text.row(name, &[], under_way);
    let name = "promhttp_metric_handler_requests_total";
    text.head(name, Kind::Counter, "Scrapes by the code of their answer.");
    // A scrape is answered from memory: none fails.
    for (code, count) in [("200", done), ("500", 0), ("503", 0)] {
        text.row(name, &[("code", code)], count);
    }
    let (healthy, unhealthy) = health.counts();
    for (name, count, help) in [
        ("etcd_server_health_success", healthy, "Health checks that succeeded."),
        ("etcd_server_health_failures", unhealthy, "Health checks that failed."),
    ] {
        text.head(name, Kind::Counter, help);
        text.row(name, &[], count);
    }
    let made: Vec<_> = health.made().collect();
    if made.is_empty() {
        return;
    }
    let name = "etcd_server_healthcheck";
    text.head(name, Kind::Gauge, "The last outcome of each check: 1 or 0.");
    for check in &made {
        let labels = [("name", check.name), ("type", check.probe)];
        text.row(name, &labels, u8::from(check.is_fine));
    }
    let name = "etcd_server_healthchecks_total";
    text.head(name, Kind::Counter, "Checks made, by outcome.");
    for check in &made {
        for (status, count) in [("success", check.succeeded), ("error", check.failed)] {
            if count > 0 {
                let labels = [("name", check.name), ("status", status), ("type", check.probe)];
                text.row(name, &labels, count);
            }
        }
    }
}
