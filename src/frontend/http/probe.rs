//! Probes as small machines: each check asks the node or knows by itself; the answer is the sum.
//!
//! ```text
//!   /health   alarms, leader ──▶ a read                       one JSON object
//!   /livez    a serializable read                             "ok", or the checks by line
//!   /readyz   corruption, serializable, linearizable, learner
//! ```

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;

use super::super::http_call::{HttpContinuation, HttpStep};
use super::super::status::Status;
use super::query::Query;
use super::reply::{Origin, Reply as Response};
use crate::base::effect::AlarmKind;
use crate::base::reject::Reject;
use crate::wire::call::{Answer, Reply, Request, StatusAnswer};
use crate::wire::etcdserverpb as pb;

/// One thing that a probe looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// The checks of each probe, in the order in which they are made and counted.
const CHECKS: [(&str, &str, Check); 5] = [
    ("livez", "serializable_read", Check::SerializableRead),
    ("readyz", "data_corruption", Check::DataCorruption),
    ("readyz", "serializable_read", Check::SerializableRead),
    ("readyz", "linearizable_read", Check::LinearizableRead),
    ("readyz", "non_learner", Check::NonLearner),
];

/// What the probes have found, and scrapes; one for all cores, as both are rare.
#[derive(Debug, Default)]
pub struct HealthMeters {
    healthy: AtomicU64,
    unhealthy: AtomicU64,
    checks: [CheckMeter; CHECKS.len()],
    scrapes_begun: AtomicU64,
    scrapes_done: AtomicU64,
}

#[derive(Debug, Default)]
struct CheckMeter {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// 0: never made; 1: failed the last time; 2: succeeded the last time.
    last: AtomicU8,
}

/// What a check has found so far, for metrics.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckCount {
    pub(super) probe: &'static str,
    pub(super) name: &'static str,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) is_fine: bool,
}

impl HealthMeters {
    fn health(&self, is_healthy: bool) {
        let count = if is_healthy { &self.healthy } else { &self.unhealthy };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn check(&self, index: usize, is_fine: bool) {
        let meter = &self.checks[index];
        let count = if is_fine { &meter.succeeded } else { &meter.failed };
        count.fetch_add(1, Ordering::Relaxed);
        meter.last.store(if is_fine { 2 } else { 1 }, Ordering::Relaxed);
    }

    /// Counts a scrape around its making.
    pub(super) fn scrape<T>(&self, make: impl FnOnce() -> T) -> T {
        self.scrapes_begun.fetch_add(1, Ordering::Relaxed);
        let made = make();
        self.scrapes_done.fetch_add(1, Ordering::Relaxed);
        made
    }

    /// Scrapes under way, and those done.
    pub(super) fn scrapes(&self) -> (u64, u64) {
        let done = self.scrapes_done.load(Ordering::Relaxed);
        (self.scrapes_begun.load(Ordering::Relaxed).saturating_sub(done), done)
    }

    /// Health checks that succeeded and that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.healthy.load(Ordering::Relaxed), self.unhealthy.load(Ordering::Relaxed))
    }

    /// The checks that were made at least once.
    pub(super) fn made(&self) -> impl Iterator<Item = CheckCount> {
        self.checks.iter().zip(CHECKS).filter_map(|(meter, (probe, name, _))| {
            let last = meter.last.load(Ordering::Relaxed);
            (last != 0).then(|| CheckCount {
                probe,
                name,
                succeeded: meter.succeeded.load(Ordering::Relaxed),
                failed: meter.failed.load(Ordering::Relaxed),
                is_fine: last == 2,
            })
        })
    }
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    kind: Kind,
    origin: Origin,
    meters: Arc<HealthMeters>,
}

#[derive(Debug)]
enum Kind {
    Health { excluded: Vec<AlarmKind>, is_serializable: bool },
    Checks(Checks),
}

/// The checks of `/livez` or `/readyz`.
#[derive(Debug)]
struct Checks {
    /// Places in [`CHECKS`].
    left: VecDeque<usize>,
    is_verbose: bool,
    output: String,
    has_failed: bool,
}

impl Probe {
    /// The probe of a path.
    pub(super) fn find(path: &str, query: &Query) -> Option<Probe> {
        let kind = if path == "/health" {
            let excluded = [AlarmKind::NoSpace, AlarmKind::Corrupt];
            let excluded = excluded.into_iter().filter(|kind| query.names("exclude", name(*kind)));
            let is_serializable = query.first("serializable") == Some("true");
            Kind::Health { excluded: excluded.collect(), is_serializable }
        } else {
            Kind::Checks(Checks::find(path, query)?)
        };
        Some(Probe { kind, origin: Origin::Unsaid, meters: Arc::default() })
    }

    /// Adds who may read the answer and where it is counted.
    pub(super) fn for_whom(self, origin: Origin, meters: Arc<HealthMeters>) -> Probe {
        Probe { origin, meters, ..self }
    }

    /// Asks the first question, or answers.
    pub(super) fn begin(self: Box<Self>) -> HttpStep {
        match self.kind {
            Kind::Health { .. } => HttpStep::Ask(Request::Status, self),
            Kind::Checks(_) => self.next_check(),
        }
    }

    fn done(&self, response: Response) -> HttpStep {
        HttpStep::Done(response.with_origin(&self.origin))
    }

    // --- /health --------------------------------------------------------------------------

    fn healthy(&self) -> HttpStep {
        self.meters.health(true);
        self.done(Response::text("{\"health\":\"true\",\"reason\":\"\"}".to_owned()))
    }

    fn unhealthy(&self, reason: &str) -> HttpStep {
        self.meters.health(false);
        let text = format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}");
        self.done(Response::error(StatusCode::SERVICE_UNAVAILABLE, &text))
    }

    /// What Status says against this member's health.
    fn fault(&self, status: &StatusAnswer) -> Option<&'static str> {
        let Kind::Health { excluded, is_serializable } = &self.kind else { return None };
        let alarm = status.alarms.iter().find(|(_, kind)| !excluded.contains(kind));
        match alarm {
            Some((_, AlarmKind::NoSpace)) => Some("ALARM NOSPACE"),
            Some((_, AlarmKind::Corrupt)) => Some("ALARM CORRUPT"),
            None if status.leader == 0 && !is_serializable => Some("RAFT NO LEADER"),
            None => None,
        }
    }

    fn health_reply(self: Box<Self>, reply: Reply) -> HttpStep {
        match reply {
            Ok(Answer::Status(status)) => match self.fault(&status) {
                Some(reason) => self.unhealthy(reason),
                None => {
                    let is_serializable =
                        matches!(self.kind, Kind::Health { is_serializable: true, .. });
                    HttpStep::Ask(read(is_serializable), self)
                }
            },
            Ok(_) => self.healthy(),
            // etcd's texts hold nothing that JSON would have to escape.
            Err(reject) => self.unhealthy(&format!("RANGE ERROR:{}", text_of(reject))),
        }
    }

    // --- /livez and /readyz ---------------------------------------------------------------

    /// Makes the next check that needs the node, or answers when none is left.
    fn next_check(mut self: Box<Self>) -> HttpStep {
        loop {
            let Kind::Checks(checks) = &mut self.kind else {
                unreachable!("only a list of checks goes on to the next");
            };
            let Some(index) = checks.left.front().copied() else {
                let response = checks.response();
                return self.done(response);
            };
            let request = match CHECKS[index].2 {
                Check::DataCorruption => Request::Status,
                Check::SerializableRead => read(true),
                Check::LinearizableRead => read(false),
                Check::NonLearner => {
                    // Every member of this build votes.
                    self.checked(None);
                    continue;
                }
            };
            return HttpStep::Ask(request, self);
        }
    }

    /// Notes what the check in front has found.
    fn checked(&mut self, fault: Option<&str>) {
        let Kind::Checks(checks) = &mut self.kind else { return };
        let Some(index) = checks.left.pop_front() else { return };
        self.meters.check(index, fault.is_none());
        let name = CHECKS[index].1;
        // Writing into a string cannot fail.
        let _ = match fault {
            None => writeln!(checks.output, "[+]{name} ok"),
            Some(fault) => writeln!(checks.output, "[-]{name} failed: {fault}"),
        };
        checks.has_failed |= fault.is_some();
    }
}

impl Checks {
    /// `/livez`, `/readyz`, or one of their checks.
    fn find(path: &str, query: &Query) -> Option<Checks> {
        let mut parts = path.strip_prefix('/')?.splitn(2, '/');
        let (probe, one) = (parts.next()?, parts.next());
        let mut left = VecDeque::new();
        let mut is_known = false;
        for (index, (of, name, _)) in CHECKS.iter().enumerate() {
            if *of != probe || one.is_some_and(|one| one != *name) {
                continue;
            }
            is_known = true;
            // A check that is asked for by its own path is not excluded by the query.
            if one.is_some() || !query.names("exclude", name) {
                left.push_back(index);
            }
        }
        is_known.then(|| Checks {
            left,
            is_verbose: query.has("verbose"),
            output: String::new(),
            has_failed: false,
        })
    }

    fn response(&mut self) -> Response {
        let output = std::mem::take(&mut self.output);
        match (self.has_failed, self.is_verbose) {
            (true, _) => Response::error(StatusCode::SERVICE_UNAVAILABLE, &output),
            (false, true) => Response::sure_text(format!("{output}ok\n")),
            (false, false) => Response::sure_text("ok\n".to_owned()),
        }
    }
}

impl HttpContinuation for Probe {
    fn resume(mut self: Box<Self>, reply: Reply) -> HttpStep {
        if matches!(self.kind, Kind::Health { .. }) {
            return self.health_reply(reply);
        }
        match reply {
            Ok(Answer::Status(status)) => {
                let is_corrupt = status.alarms.iter().any(|(_, kind)| *kind == AlarmKind::Corrupt);
                self.checked(is_corrupt.then_some("alarm activated: CORRUPT"));
            }
            Ok(_) => self.checked(None),
            Err(reject) => self.checked(Some(&text_of(reject))),
        }
        self.next_check()
    }
}

fn text_of(reject: Reject) -> std::borrow::Cow<'static, str> {
    Status::from(reject).message
}

fn name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// The read that proves that reads work; whether the key exists does not matter.
fn read(serializable: bool) -> Request {
    let key = Bytes::from_static(b"\0");
    let keys_only = true;
    Request::Range(pb::RangeRequest {
        key,
        keys_only,
        serializable,
        limit: 1,
        ..Default::default()
    })
}
