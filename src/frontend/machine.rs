//! Calls that are more than a question and an answer: streams, and recipes made of several
//! requests. Each is a state machine that is told what happened and says what to do.
//!
//! ```text
//!   client ──message, end, cancel──▶ ┌─────────┐ ──respond, end──▶ client
//!                                    │ Machine │
//!     node ──reply, watch message──▶ └─────────┘ ──submit, give up──▶ node
//! ```
//!
//! A machine names its requests by a [`Sub`] of its own choice. A `Sub` that was answered may be
//! used again. A watch keeps its `Sub` until it is given up; all messages of one watch stream go
//! under the same one.

use bytes::Bytes;

use super::header::Header;
use super::message::Message;
use super::port::Settings;
use super::status::Status;
use crate::base::Revision;
use crate::wire::call::{Reply, Request, WatchMessage};

/// A machine's name for one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sub(pub u32);

/// What a machine wants done.
#[derive(Debug)]
pub enum Action {
    /// Ask the node.
    Submit(Sub, Request),
    /// The answer is not wanted any more; ends a watch.
    GiveUp(Sub),
    /// Write a message. Once it has left, so many bytes of events are drained for the watch.
    Respond(Message, Option<(Sub, usize)>),
    /// So many bytes of a watch's events were used up here.
    Drained(Sub, usize),
    /// End the call once everything is written. Running requests are given up.
    End(Status),
}

/// Where a machine puts what it wants done, with what it needs to know for it.
#[derive(Debug)]
pub struct Actions<'a> {
    /// The member's settings.
    pub settings: &'a Settings,
    /// For answers.
    pub header: Header,
    list: &'a mut Vec<Action>,
}

impl<'a> Actions<'a> {
    /// Collects into `list`.
    #[must_use]
    pub fn new(settings: &'a Settings, header: Header, list: &'a mut Vec<Action>) -> Actions<'a> {
        Actions { settings, header, list }
    }

    /// Asks the node.
    pub fn submit(&mut self, sub: Sub, request: Request) {
        self.list.push(Action::Submit(sub, request));
    }

    /// The answer is not wanted any more.
    pub fn give_up(&mut self, sub: Sub) {
        self.list.push(Action::GiveUp(sub));
    }

    /// Writes a message.
    pub fn respond(&mut self, message: Message) {
        self.list.push(Action::Respond(message, None));
    }

    /// Writes a message that passes a watch's events on.
    pub fn respond_draining(&mut self, message: Message, sub: Sub, bytes: usize) {
        self.list.push(Action::Respond(message, Some((sub, bytes))));
    }

    /// A watch's events were used up here.
    pub fn drained(&mut self, sub: Sub, bytes: usize) {
        self.list.push(Action::Drained(sub, bytes));
    }

    /// Ends the call.
    pub fn end(&mut self, status: Status) {
        self.list.push(Action::End(status));
    }

    /// Ends the call as soon as what was to be answered is written.
    pub fn finish(&mut self, message: Message) {
        self.respond(message);
        self.end(Status::OK);
    }

    /// The generated header at `revision`.
    #[must_use]
    pub fn header_message(
        &self,
        revision: Revision,
    ) -> Option<crate::wire::etcdserverpb::ResponseHeader> {
        self.header.message(revision)
    }
}

/// One call that is more than a question and an answer.
pub trait Machine {
    /// A message of the client. A call that takes one message gets no second one.
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>);

    /// The client will send no more.
    fn on_end(&mut self, _out: &mut Actions<'_>) {}

    /// The answer to a request.
    fn on_reply(&mut self, sub: Sub, reply: Reply, out: &mut Actions<'_>);

    /// A message of a watch.
    fn on_watch(&mut self, _sub: Sub, _message: WatchMessage, _out: &mut Actions<'_>) {}

    /// Everything that was to be written has left.
    fn on_drained(&mut self, _out: &mut Actions<'_>) {}

    /// The client is gone, or the call took too long. Requests submitted now are carried out
    /// and their answers dropped; running ones are given up afterwards.
    fn on_cancel(&mut self, _out: &mut Actions<'_>) {}

    /// Whether the machine takes another message now. Else the stream is not read.
    fn wants_message(&self) -> bool {
        true
    }
}
