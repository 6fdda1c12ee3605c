//! The world's watch streams: what their clients ask, and what reaches them.

use super::{Event, MS, US, World};
use crate::base::{CoreId, Revision};
use crate::node::Input;
use crate::sim::watched::{Standing, Stream};
use crate::wire::call::{CallId, Request, WatchBody};
use crate::wire::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

impl World {
    pub(super) fn watch(&mut self) {
        if !self.is_busy {
            return;
        }
        let next = 50 * US + self.prng.below(4 * MS);
        self.clock.after_ns(next, Event::Watch);
        let known = self.streams.len() as u64;
        let (committed, _) = self.machine.shared.committed();
        let pick = self.prng.below(known.max(1)) as usize;
        let picked = self.streams.keys().nth(pick).copied();
        match (self.prng.below(100), picked) {
            (_, None) | (0..15, _) if known < 6 => {
                self.calls += 1;
                let core = CoreId(self.prng.below(u64::from(self.plan.cores)) as u16);
                let call = CallId { connection: 1_000_000, call: self.calls };
                let pace = [US, 100 * US, 20 * MS][self.prng.below(3) as usize];
                self.streams.insert(call, Stream::new(core, call, pace));
                self.create(call, committed);
            }
            (0..60, Some(call)) => self.create(call, committed),
            (60..75, Some(call)) => {
                let ids = self.streams[&call].ids();
                if !ids.is_empty() {
                    let watch_id = ids[self.prng.below(ids.len() as u64) as usize];
                    let cancel = pb::WatchCancelRequest { watch_id };
                    self.tell_hub(call, RequestUnion::CancelRequest(cancel));
                }
            }
            (75..95, Some(call)) => self.ask_progress(call),
            (_, Some(call)) => {
                if let Some(stream) = self.streams.remove(&call) {
                    self.machine.give(stream.core, Input::Gone(call));
                    self.wake_soon(stream.core);
                }
            }
            (_, None) => {}
        }
    }

    fn create(&mut self, call: CallId, committed: Revision) {
        let create = self.workload.watch(self.judge.model(), committed);
        let stream = self.streams.get_mut(&call).expect("a stream that is open");
        stream.creates(create.clone(), committed);
        self.tell_hub(call, RequestUnion::CreateRequest(create));
    }

    pub(super) fn ask_progress(&mut self, call: CallId) {
        let (committed, _) = self.machine.shared.committed();
        let stream = self.streams.get_mut(&call).expect("a stream that is open");
        stream.asks_progress(committed);
        self.tell_hub(call, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    fn tell_hub(&mut self, call: CallId, request: RequestUnion) {
        let core = self.streams[&call].core;
        self.note(|_| format!("{call:?} {core} {request:?}"));
        let request = pb::WatchRequest { request_union: Some(request) };
        self.machine.give(core, Input::Call(call, Request::Watch(request)));
        self.wake_soon(core);
    }

    /// Messages reach their streams.
    pub(super) fn tell(&mut self) {
        for (core, call, message) in std::mem::take(&mut self.machine.told) {
            // What was on its way when the client left is lost.
            if !self.streams.contains_key(&call) {
                continue;
            }
            self.note(|_| format!("{call:?} {core} told {message:?}"));
            let visible = self.machine.shared.visible_revision();
            let (history, compact) = (&self.judge.history[..], self.judge.compact());
            let fragment_bytes = self.plan.node.watch_fragment_bytes;
            let standing = Standing { history, visible, compact, fragment_bytes };
            let stream = self.streams.get_mut(&call).expect("looked for above");
            assert_eq!(stream.core, core, "a message from another core");
            let before = stream.events;
            stream.takes(&message, &standing);
            self.report.events += stream.events - before;
            let is_fragment = matches!(message.body, WatchBody::Events { fragment: true, .. });
            self.report.fragments += usize::from(is_fragment);
            let delay = self.prng.below(stream.pace_ns);
            self.clock.after_ns(delay, Event::Drain(call));
        }
    }

    /// Whether any watcher has not been shown all that is committed.
    pub(super) fn is_anyone_behind(&mut self) -> bool {
        let history = &self.judge.history;
        self.streams.values_mut().any(|stream| stream.is_behind(history))
    }

    pub(super) fn drain(&mut self, call: CallId) {
        let Some(stream) = self.streams.get_mut(&call) else { return };
        if let Some(bytes) = stream.queued.pop_front() {
            let core = stream.core;
            self.machine.give(core, Input::Drained(call, bytes));
            self.wake_soon(core);
        }
    }
}
