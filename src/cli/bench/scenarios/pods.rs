//! `pods`: pods that come, change and go.

use super::leases::{sizes, watching};
use super::mixed::{Mixed, Part};
use super::parts::{DATA, SharedLease};
use super::{Plan, Scenario, names};
use crate::base::Tick;
use crate::cli::bench::args::{Args, Common, flag};
use crate::cli::bench::engine::{CallId, Io, Load, Op, Pace, Source};
use crate::cli::bench::recorder::SeriesId;
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::{Shape, Sizes, Values};
use crate::wire::client::Status;
use crate::wire::client::message::{Put, TxnAnswer, cas_delete, cas_put, path};
use slab::Slab;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pods",
    summary: "pods that are created, bound, updated and deleted",
    about: "For whoever starts many pods at once: batch jobs, rollouts, autoscaling. Each pod is \
            created, bound, updated a few times, reported in events and deleted, each step due at \
            its own time whether or not the server kept up with the one before.",
    flags: &[
        flag("status-updates", "3", "updates of each pod behind its binding"),
        flag("events", "7", "events of each pod, with one lease for all"),
        flag("step", "200ms", "time between two steps of a pod"),
        flag("watchers", "1", "API servers that watch all pods"),
        flag("val-min", "3000", "bytes of the smallest pod"),
        flag("val-max", "12000", "bytes of the largest pod"),
    ],
    defaults: &[("rate", "50"), ("connections", "8"), ("streams", "250")],
    short: &[("duration", "5s"), ("warmup", "1s")],
    plan,
};

const SERIES: [&str; 6] = ["create", "bind", "status", "event", "delete", "watch lag"];
/// TTL of the lease that all events of a thread have.
const EVENT_TTL_S: i64 = 3_660;

fn plan(args: &Args, common: &Common) -> Result<Plan, String> {
    if common.rate == 0.0 {
        return Err("pods come at a rate: --rate must be above 0".to_owned());
    }
    let (updates, events): (u64, u64) = (args.number("status-updates")?, args.number("events")?);
    let life = life(updates, events, args.ms("step")?);
    let (sizes, watchers) = (sizes(args)?, args.number("watchers")?);
    let common = common.clone();
    let phases = Mixed::phases(&common, "pods");
    let load = move |share: Share| -> Box<dyn Load> {
        let seed = common.seed + share.worker as u64;
        let pods = Pods {
            pace: common.pace(share),
            total: common.total.map(|total| share.of(total)),
            life: life.clone(),
            values: Values::new(Shape::Object("Pod"), sizes, seed, common.run),
            event_values: Values::new(Shape::Object("Event"), Sizes::fixed(700), seed, common.run),
            lease: SharedLease::new(EVENT_TTL_S),
            // Other runs' pods have other numbers.
            next_number: common.run % 1_000_000 * 1_000_000 + share.worker as u64,
            pods: Slab::new(),
            key: Vec::new(),
            scratch: Vec::new(),
        };
        let watch = watching(names::PODS, watchers, SeriesId(5), (&common, share));
        Mixed::load(vec![Box::new(pods), watch])
    };
    Ok(Plan::new(phases, SERIES.to_vec(), Box::new(load)).derived(&["watch lag"]))
}

/// What happens to a pod behind its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Bind,
    Status,
    Event(u64),
    Delete,
}

impl Step {
    fn series(self) -> SeriesId {
        SeriesId(match self {
            Step::Bind => 1,
            Step::Status => 2,
            Step::Event(_) => 3,
            Step::Delete => 4,
        })
    }
}

/// The steps with the time of each from the creation on, in order.
fn life(updates: u64, events: u64, step_ms: u64) -> Vec<(u64, Step)> {
    let mut life = vec![(step_ms, Step::Bind)];
    life.extend((0..updates).map(|at| (step_ms * (at + 2), Step::Status)));
    // Spread over the same time.
    let span_ms = step_ms * (updates + 1);
    life.extend((0..events).map(|at| (span_ms * (at + 1) / events.max(1), Step::Event(at))));
    life.push((step_ms * (updates + 2), Step::Delete));
    life.sort_unstable();
    life
}

#[derive(Debug)]
struct Pod {
    number: u64,
    created: Tick,
    revision: i64,
    is_busy: bool,
    /// The next step.
    at: usize,
    /// The step is due and waits for the write before it.
    is_due: bool,
}

struct Pods {
    pace: Pace,
    total: Option<u64>,
    life: Vec<(u64, Step)>,
    values: Values,
    event_values: Values,
    lease: SharedLease,
    next_number: u64,
    pods: Slab<Pod>,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

const WRITE: u32 = 1;
const EVENT: u32 = 2;
const DELETE: u32 = 3;

impl Pods {
    fn write(&mut self, place: usize, op: Op, io: &mut Io) {
        let pod = &mut self.pods[place];
        pod.is_busy = true;
        self.key.clear();
        (names::pod())(pod.number, &mut self.key);
        self.scratch.clear();
        if op.kind == DELETE {
            cas_delete(&mut self.scratch, &self.key, pod.revision);
        } else {
            let value = self.values.of(&self.key, op.intended);
            cas_put(&mut self.scratch, &Put { key: &self.key, value, lease: 0 }, pod.revision);
        }
        io.call(Op { key: place as u64, ..op }, path::TXN, &self.scratch);
    }

    fn report(&mut self, number: u64, event: u64, op: Op, io: &mut Io) {
        self.key.clear();
        names::write_event(number, event, &mut self.key);
        self.scratch.clear();
        let value = self.event_values.of(&self.key, op.intended);
        let put = Put { key: &self.key, value, lease: self.lease.id() };
        cas_put(&mut self.scratch, &put, 0);
        io.call(op, path::TXN, &self.scratch);
    }

    /// Sets the timer of a pod's next step.
    fn await_next(&mut self, place: usize, io: &mut Io) {
        let pod = &self.pods[place];
        let Some((offset_ms, _)) = self.life.get(pod.at) else { return };
        let due = pod.created.plus_ms(*offset_ms);
        // What is due behind the end is not part of the run; the pod stays.
        if io.is_within(due) {
            io.after(due, place as u32);
        } else {
            self.pods.remove(place);
        }
    }

    fn step(&mut self, place: usize, io: &mut Io) {
        let Some(pod) = self.pods.get_mut(place) else { return };
        let (offset_ms, step) = self.life[pod.at];
        pod.is_due = true;
        if pod.is_busy && !matches!(step, Step::Event(_)) {
            // Its answer goes on with it.
            return;
        }
        pod.is_due = false;
        pod.at += 1;
        let intended = pod.created.plus_ms(offset_ms);
        let number = pod.number;
        let op = |kind| Op { series: step.series(), intended, kind, key: 0 };
        match step {
            Step::Event(event) => self.report(number, event, op(EVENT), io),
            Step::Bind | Step::Status => self.write(place, op(WRITE), io),
            Step::Delete => return self.write(place, op(DELETE), io),
        }
        self.await_next(place, io);
    }
}

impl Part for Pods {
    fn prepare(&mut self, number: usize, _io: &mut Io) -> Option<Source> {
        (number == DATA).then(|| self.lease.source(SeriesId(3)))
    }

    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        Some(Source { pace: self.pace.clone(), total: self.total, series: SeriesId(0) })
    }

    fn start(&mut self, is_preparing: bool, op: Op, io: &mut Io) -> bool {
        if is_preparing {
            self.lease.ask(op, io);
            return true;
        }
        let (number, created) = (self.next_number, op.intended);
        self.next_number += io.share().workers as u64;
        let pod = Pod { number, created, revision: 0, is_busy: false, at: 0, is_due: false };
        let place = self.pods.insert(pod);
        self.write(place, Op { kind: WRITE, ..op }, io);
        self.await_next(place, io);
        true
    }

    fn message(
        &mut self,
        _call: CallId,
        op: Op,
        answer: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        if self.lease.is_answer(op) {
            return self.lease.answered(answer);
        }
        let read = TxnAnswer::read(answer).map_err(|_| "an answer that cannot be read")?;
        if let (WRITE, Some(pod)) = (op.kind, self.pods.get_mut(op.key as usize)) {
            let found = read.found_mod_revision.unwrap_or(0);
            pod.revision = if read.succeeded { read.revision } else { found };
        }
        if read.succeeded { Ok(()) } else { Err("the compare failed") }
    }

    fn ended(&mut self, _call: CallId, op: Op, _status: &Status, io: &mut Io) {
        let place = op.key as usize;
        match op.kind {
            WRITE => {
                let Some(pod) = self.pods.get_mut(place) else { return };
                pod.is_busy = false;
                if pod.is_due {
                    self.step(place, io);
                }
            }
            DELETE => {
                self.pods.try_remove(place);
            }
            _ => {}
        }
    }

    fn timer(&mut self, token: u32, io: &mut Io) {
        self.step(token as usize, io);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_first_and_deleted_last() {
        let life = life(3, 7, 100);
        assert_eq!(life.len(), 12);
        assert_eq!(life.last(), Some(&(500, Step::Delete)));
        assert!(life.is_sorted_by_key(|(ms, _)| *ms));
        let bind = life.iter().position(|(_, step)| *step == Step::Bind).expect("bound");
        let status = life.iter().position(|(_, step)| *step == Step::Status).expect("updated");
        assert!(bind < status);
    }
}
