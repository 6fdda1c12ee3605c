//! One connection as a state machine over its streams: calls to the node, answers to streams,
//! machines and what they want done. Reading is in `intake`, writing in `output`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::answer;
use super::header::Header;
use super::http_call::{HttpStep, plain};
use super::machine::{Action, Actions, Machine, Sub};
use super::message::{MESSAGE_BYTES_MAX, Message};
use super::methods::RANGE;
use super::port::{Delivery, FrontendContext, Inbox};
use super::status::Status;
use super::streams::{Call, Calls, Ending, Kind, Listed, Plain, Queued, Role, Slots, Stream};
use super::wakes::Wakes;
use crate::base::Tick;
use crate::base::limits::ADMITTED_MAX;
use crate::base::reject::Reject;
use crate::wire::call::{CallId, Reply, Request};

/// Polls without a leader before a call that requires one ends.
const LEADERLESS_POLLS: u64 = 3;

/// The streams of one connection and what is under way for them.
pub(super) struct Connection {
    pub(super) ctx: Rc<FrontendContext>,
    pub(super) id: u32,
    pub(super) wakes: Arc<Wakes>,
    pub(super) now: Tick,
    pub(super) slots: Slots,
    pub(super) small: VecDeque<usize>,
    pub(super) bulk: VecDeque<usize>,
    /// Bytes handed to h2 since everything was last written.
    pub(super) unsent: usize,
    /// Streams with a deadline of their own.
    pub(super) deadlines: usize,
    /// Streams that end when the leader is lost.
    pub(super) leader_waiters: usize,
    calls: Calls,
    inbox: Rc<Inbox>,
    leaderless_since: Option<Tick>,
    is_stopping: bool,
    /// The node was asked something since this was last taken.
    has_asked: bool,
    /// Empty lists of actions, for reuse.
    scratch: Vec<Action>,
}

impl Connection {
    pub(super) fn open(ctx: Rc<FrontendContext>, id: u32, wakes: Arc<Wakes>) -> Connection {
        let inbox = Rc::new(Inbox::new(Arc::clone(&wakes)));
        let first_call = ctx.open(id, Rc::clone(&inbox));
        ctx.meters.connections_opened.one();
        Connection {
            now: ctx.port.now(),
            ctx,
            id,
            wakes,
            slots: Slots::default(),
            small: VecDeque::new(),
            bulk: VecDeque::new(),
            unsent: 0,
            deadlines: 0,
            leader_waiters: 0,
            calls: Calls::starting_at(first_call),
            inbox,
            leaderless_since: None,
            is_stopping: false,
            has_asked: false,
            scratch: Vec::new(),
        }
    }

    /// Whether the housekeeping has something to look at.
    pub(super) fn needs_housekeeping(&self) -> bool {
        !self.calls.is_empty() || self.deadlines > 0 || self.leader_waiters > 0
    }

    pub(super) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    // --- to the node ----------------------------------------------------------------------

    /// Asks the node on behalf of a stream, or of nobody.
    pub(super) fn submit(&mut self, slot: Option<usize>, sub: Sub, request: Request) {
        let is_admitted = super::check::is_write(&request);
        let shared = self.ctx.port.shared();
        if is_admitted && shared.admit() > ADMITTED_MAX {
            shared.release(1);
            if let Some(index) = slot {
                self.refuse_request(index, sub);
            }
            return;
        }
        let deadline = match request {
            Request::Watch(_) | Request::Hash | Request::HashKv(_) => Tick(u64::MAX),
            // It is answered when pages are rewritten; etcd waits for that without end, too.
            Request::Compact(ref compact) if compact.physical => Tick(u64::MAX),
            _ => self.now.plus_ms(self.ctx.settings.request_timeout_ms),
        };
        let number = self.calls.insert(Call { slot, sub, is_admitted, deadline });
        if let Some(stream) = slot.and_then(|index| self.slots.stream(index)) {
            stream.subs.push((sub, number));
        } else {
            self.calls.detach(number);
        }
        self.ask(number, request);
    }

    fn ask(&mut self, number: u32, request: Request) {
        self.has_asked = true;
        self.ctx.port.submit(self.call_id(number), request);
    }

    /// Whether the node was asked something since the last time.
    pub(super) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.has_asked)
    }

    /// Too many writes are under way: the answer comes as any other, later.
    fn refuse_request(&mut self, index: usize, sub: Sub) {
        let slot = Some(index);
        let call = Call { slot, sub, is_admitted: false, deadline: Tick(u64::MAX) };
        let number = self.calls.insert(call);
        if let Some(stream) = self.slots.stream(index) {
            stream.subs.push((sub, number));
        }
        let id = self.call_id(number);
        self.ctx.deliver(Delivery::Reply(id, Err(Reject::TooManyRequests)));
    }

    fn call_id(&self, number: u32) -> CallId {
        CallId { connection: self.id, call: number }
    }

    fn call_of(&mut self, index: usize, sub: Sub) -> Option<u32> {
        let stream = self.slots.stream(index)?;
        stream.subs.iter().find(|(known, _)| *known == sub).map(|(_, number)| *number)
    }

    /// Nobody waits for these any more.
    fn give_up(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.calls.detach(number);
            self.ctx.port.gone(self.call_id(number));
        }
    }

    // --- from the node --------------------------------------------------------------------

    /// Takes everything the node has said.
    pub(super) fn take_mail(&mut self) {
        while let Some(delivery) = self.inbox.pop() {
            match delivery {
                Delivery::Reply(id, reply) => self.reply(id.call, reply),
                Delivery::Watch(id, message) => {
                    let call = self.calls.find(id.call);
                    let Some(Call { slot: Some(index), sub, .. }) = call else {
                        continue;
                    };
                    self.run(index, |machine, out| machine.on_watch(sub, message, out));
                }
            }
        }
    }

    fn reply(&mut self, number: u32, reply: Reply) {
        let Some(call) = self.calls.remove(number) else {
            return;
        };
        if call.is_admitted {
            self.ctx.port.shared().release(1);
        }
        let Some(index) = call.slot else {
            return;
        };
        let header = self.header();
        let Some(stream) = self.slots.stream(index) else {
            return;
        };
        stream.subs.retain(|(_, known)| *known != number);
        if let Kind::Grpc(RANGE, Role::Unary) = stream.kind {
            let ns = self.now.since(stream.started);
            let meters = &self.ctx.meters;
            meters.ranges[usize::from(reply.is_ok())].observe_ns(ns);
            if ns > self.ctx.settings.warn_apply_ms.saturating_mul(1_000_000) {
                meters.slow_ranges.one();
            }
        }
        match &mut stream.kind {
            Kind::Grpc(method, Role::Unary) => match reply {
                Ok(answer) => {
                    let message = answer::encode(*method, &header, answer);
                    self.respond(index, message, None);
                    self.end(index, Status::OK);
                }
                Err(reject) => self.end(index, reject.into()),
            },
            Kind::Grpc(..) => {
                self.run(index, |machine, out| machine.on_reply(call.sub, reply, out));
            }
            Kind::Http(state) => {
                if let Plain::Waiting(next) = std::mem::replace(state, Plain::Ended) {
                    let step = next.resume(reply);
                    self.plain_step(index, step);
                }
            }
        }
    }

    fn header(&self) -> Header {
        Header::new(&self.ctx.settings, self.ctx.port.shared().term())
    }

    // --- machines -------------------------------------------------------------------------

    /// Tells a stream's machine something and does what it wants done.
    pub(super) fn run(
        &mut self,
        index: usize,
        tell: impl FnOnce(&mut dyn Machine, &mut Actions<'_>),
    ) {
        let header = self.header();
        let mut list = std::mem::take(&mut self.scratch);
        if let Some(Stream { kind: Kind::Grpc(_, Role::Machine(machine)), .. }) =
            self.slots.stream(index)
        {
            tell(machine.as_mut(), &mut Actions::new(&self.ctx.settings, header, &mut list));
        }
        for action in list.drain(..) {
            self.perform(index, action);
        }
        self.scratch = list;
        self.resume_reading(index);
    }

    fn perform(&mut self, index: usize, action: Action) {
        match action {
            Action::Submit(sub, request) => match (&request, self.call_of(index, sub)) {
                (Request::Watch(_), Some(number)) => self.ask(number, request),
                (_, known) => {
                    assert!(known.is_none(), "a machine used the name of a request under way");
                    self.submit(Some(index), sub, request);
                }
            },
            Action::GiveUp(sub) => {
                if let Some(number) = self.call_of(index, sub) {
                    if let Some(stream) = self.slots.stream(index) {
                        stream.subs.retain(|(_, known)| *known != number);
                    }
                    self.give_up([number]);
                }
            }
            Action::Respond(message, drains) => self.respond(index, message, drains),
            Action::Drained(sub, bytes) => self.drain_watch(index, sub, bytes),
            Action::End(status) => self.end(index, status),
        }
    }

    pub(super) fn drain_watch(&mut self, index: usize, sub: Sub, bytes: usize) {
        if let Some(number) = self.call_of(index, sub) {
            self.ctx.port.drained(self.call_id(number), bytes);
        }
    }

    /// Reads on where reading had stopped for want of room.
    pub(super) fn resume_reading(&mut self, index: usize) {
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        let may_read = slot.may_read();
        if let Some(stream) = slot.stream.as_mut()
            && stream.is_paused
            && may_read
        {
            // Not here: a machine may be answering from within its own message.
            stream.is_paused = false;
            slot.waker.wake_by_ref();
        }
    }

    // --- plain HTTP -----------------------------------------------------------------------

    pub(super) fn plain_step(&mut self, index: usize, step: HttpStep) {
        match step {
            HttpStep::Done(response) => self.plain_response(index, response),
            HttpStep::Ask(request, next) => {
                if let Some(Stream { kind: Kind::Http(state), .. }) = self.slots.stream(index) {
                    *state = Plain::Waiting(next);
                    self.submit(Some(index), Sub(0), request);
                }
            }
        }
    }

    pub(super) fn plain_response(&mut self, index: usize, response: http::Response<bytes::Bytes>) {
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        let Some(stream) = slot.stream.as_mut() else {
            return;
        };
        let (parts, body) = response.into_parts();
        stream.kind = Kind::Http(Plain::Ended);
        stream.recv = None;
        self.ctx.hold_request_bytes(&mut stream.request_bytes, 0);
        stream.ending = Some(Ending::Http(Box::new(http::Response::from_parts(parts, ()))));
        if !body.is_empty() {
            slot.queue.push_back(Queued { message: Message::Small(body), drains: None });
        }
        self.list(index);
    }

    // --- the end of streams ---------------------------------------------------------------

    /// Ends a call once its queue is written. What it has at the node is given up.
    pub(super) fn end(&mut self, index: usize, status: Status) {
        let Some(stream) = self.slots.stream(index) else {
            return;
        };
        let subs = std::mem::take(&mut stream.subs);
        match &mut stream.kind {
            Kind::Grpc(_, role) => *role = Role::Ended,
            Kind::Http(_) => {
                self.give_up(subs.into_iter().map(|(_, number)| number));
                let code = http::StatusCode::PAYLOAD_TOO_LARGE;
                return self.plain_response(index, plain(code, "request is too large\n"));
            }
        }
        if stream.ending.is_none() {
            stream.ending = Some(Ending::Grpc(status));
        }
        stream.recv = None;
        self.ctx.hold_request_bytes(&mut stream.request_bytes, 0);
        self.give_up(subs.into_iter().map(|(_, number)| number));
        self.list(index);
    }

    /// The server ends a call that would go on: its machine may tidy up first.
    fn end_early(&mut self, index: usize, status: Status) {
        self.say_farewell(index);
        self.end(index, status);
    }

    /// The client is gone from a stream.
    pub(super) fn cancel(&mut self, index: usize) {
        self.say_farewell(index);
        if let Some(stream) = self.slots.stream(index) {
            let subs = std::mem::take(&mut stream.subs);
            self.give_up(subs.into_iter().map(|(_, number)| number));
        }
        self.remove(index, &Status::CANCELED);
    }

    /// A machine may ask for last things; nobody waits for their answers.
    fn say_farewell(&mut self, index: usize) {
        let header = self.header();
        let mut list = Vec::new();
        if let Some(Stream { kind: Kind::Grpc(_, Role::Machine(machine)), .. }) =
            self.slots.stream(index)
        {
            machine.on_cancel(&mut Actions::new(&self.ctx.settings, header, &mut list));
        }
        for action in list {
            match action {
                Action::Submit(sub, request) => self.submit(None, sub, request),
                Action::GiveUp(_) | Action::Respond(..) | Action::Drained(..) => {}
                Action::End(_) => {}
            }
        }
    }

    /// Forgets a stream, whose call ended so.
    pub(super) fn remove(&mut self, index: usize, status: &Status) {
        let Some(mut stream) = self.slots.remove(index) else {
            return;
        };
        self.ctx.hold_request_bytes(&mut stream.request_bytes, 0);
        self.leader_waiters -= usize::from(stream.requires_leader);
        self.deadlines -= usize::from(stream.deadline != Tick(u64::MAX));
        if let Kind::Grpc(method, _) = stream.kind {
            let ns = self.now.since(stream.started);
            self.ctx.meters.methods[method].ended(status.code, ns);
        }
    }

    // --- messages out ---------------------------------------------------------------------

    /// Queues a message.
    pub(super) fn respond(&mut self, index: usize, message: Message, drains: Option<(Sub, usize)>) {
        if message.remaining() > MESSAGE_BYTES_MAX {
            return self.end_early(index, Status::answer_too_large(message.remaining()));
        }
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        if slot.stream.as_ref().is_some_and(|stream| stream.ending.is_none()) {
            slot.queue.push_back(Queued { message, drains });
            self.list(index);
        }
    }

    /// Lists a stream that has something to write, by what comes next on it.
    pub(super) fn list(&mut self, index: usize) {
        let Some(slot) = self.slots.slot(index) else {
            return;
        };
        let is_small = slot.queue.front().is_none_or(|queued| queued.message.is_small());
        let Some(stream) = slot.stream.as_mut().filter(|stream| stream.listed == Listed::No) else {
            return;
        };
        if is_small {
            stream.listed = Listed::Small;
            self.small.push_back(index);
        } else {
            stream.listed = Listed::Bulk;
            self.bulk.push_back(index);
        }
    }

    // --- time and the end -----------------------------------------------------------------

    /// Ends what took too long.
    pub(super) fn keep_house(&mut self) {
        let now = self.now;
        let late = |(number, call): (u32, Call)| (call.deadline <= now).then_some(number);
        let late: Vec<u32> = self.calls.iter().filter_map(late).collect();
        for number in late {
            self.ctx.port.gone(self.call_id(number));
            self.reply(number, Err(Reject::Timeout));
        }
        let has_leader = self.ctx.port.shared().has_leader();
        let since = if has_leader { None } else { self.leaderless_since.or(Some(now)) };
        self.leaderless_since = since;
        let leaderless_ms = LEADERLESS_POLLS * self.ctx.settings.election_timeout_ms;
        let is_leaderless = since.is_some_and(|since| since.plus_ms(leaderless_ms) <= now);
        if self.deadlines == 0 && !is_leaderless {
            return;
        }
        let open = |(_, stream): &(usize, &Stream)| stream.ending.is_none();
        let ends = |(index, stream): (usize, &Stream)| {
            if stream.deadline <= now {
                Some((index, Status::DEADLINE_EXCEEDED))
            } else if stream.requires_leader && is_leaderless {
                Some((index, Reject::NoLeader.into()))
            } else {
                None
            }
        };
        let ended: Vec<_> = self.slots.iter().filter(open).filter_map(ends).collect();
        for (index, status) in ended {
            self.end_early(index, status);
        }
    }

    /// Ends what would not end by itself, once the member stops. True the first time.
    pub(super) fn stop(&mut self) -> bool {
        if self.is_stopping || !self.ctx.is_stopping() {
            return false;
        }
        self.is_stopping = true;
        let calls = &self.calls;
        let ends_by_itself = |stream: &Stream| {
            let is_timed = |(_, number): &(Sub, u32)| {
                calls.find(*number).is_some_and(|call| call.deadline != Tick(u64::MAX))
            };
            let is_asking = !stream.subs.is_empty() && stream.subs.iter().all(is_timed);
            stream.ending.is_some() || (is_asking && !stream.is_bidi())
        };
        let endless =
            |(index, stream): (usize, &Stream)| (!ends_by_itself(stream)).then_some(index);
        let endless: Vec<usize> = self.slots.iter().filter_map(endless).collect();
        for index in endless {
            self.end_early(index, Reject::Stopped.into());
        }
        true
    }

    /// Sets what is handed over and not written, for the connection and its core.
    pub(super) fn set_unsent(&mut self, bytes: usize) {
        let account = self.ctx.unsent_bytes();
        let total = account.get() + bytes;
        assert!(total >= self.unsent, "a connection gives back what it was given");
        account.set(total - self.unsent);
        self.unsent = bytes;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let open: Vec<usize> = self.slots.iter().map(|(index, _)| index).collect();
        for index in open {
            self.cancel(index);
        }
        let admitted = self.calls.iter().filter(|(_, call)| call.is_admitted).count();
        self.ctx.port.shared().release(i64::try_from(admitted).unwrap_or(i64::MAX));
        self.set_unsent(0);
        self.ctx.close(self.id, self.calls.next_number());
        self.ctx.meters.connections_closed.one();
    }
}
