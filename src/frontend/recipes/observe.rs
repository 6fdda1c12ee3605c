//! Observe: every leader of an election and every value that it proclaims.
//!
//! ```text
//!   read the oldest key ── there is one ──▶ say it, follow that key ── deleted ─┐
//!     ▲            └─ none ─▶ wait for the first put ─▶ say it, follow it       │
//!     └───────────────────────────────────────────────────────────────────────◀┘
//! ```

use bytes::Bytes;
use prost::Message as _;

use super::super::kv::decode;
use super::super::machine::{Actions, Machine, Sub};
use super::super::message::{Message, generated};
use super::turn::{lost_watcher, watch};
use super::{ASK, WATCH, end_of, key_value, oldest, prefix_of, range_of, unknown};
use crate::base::Revision;
use crate::wire::call::{RangeAnswer, Reply, Request, WatchBody, WatchMessage};
use crate::wire::etcdserverpb as pb;
use crate::wire::mvccpb::{Event, KeyValue, event::EventType};
use crate::wire::v3electionpb;
use pb::watch_create_request::FilterType;

/// The next watcher's ID; the number itself means nothing.
const WATCHER: i64 = 1;

/// An Observe call.
#[derive(Debug, Default)]
pub(super) struct Observe {
    prefix: Bytes,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The oldest key is being read.
    #[default]
    Reading,
    /// There is none: the first put is waited for.
    Vacant,
    /// A leader's key is followed.
    Following,
}

impl Observe {
    fn read(&mut self, out: &mut Actions<'_>) {
        self.stage = Stage::Reading;
        out.submit(ASK, Request::Range(oldest(&self.prefix)));
    }

    fn found(&mut self, answer: &RangeAnswer, out: &mut Actions<'_>) {
        match answer.records.first() {
            Some(record) => {
                let kv = key_value(record);
                self.follow(kv.key.clone(), answer.revision, out);
                out.respond(leader(kv, answer.revision, out));
            }
            None => {
                self.stage = Stage::Vacant;
                let (start, end) = (answer.revision.next(), end_of(&self.prefix));
                watch(self.prefix.clone(), end, WATCHER, start, FilterType::Nodelete, out);
            }
        }
    }

    /// Follows a key that was seen at `seen`.
    fn follow(&mut self, key: Bytes, seen: Revision, out: &mut Actions<'_>) {
        self.stage = Stage::Following;
        let create = pb::WatchCreateRequest {
            key,
            start_revision: seen.0 + 1,
            watch_id: WATCHER,
            ..Default::default()
        };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        out.submit(WATCH, Request::Watch(pb::WatchRequest { request_union: Some(union) }));
    }

    fn events(&mut self, message: &WatchMessage, events: &[Bytes], out: &mut Actions<'_>) {
        let bytes = message.bytes();
        for (index, field) in events.iter().enumerate() {
            let event = event_of(field.clone());
            let Some(kv) = event.kv else { continue };
            match (self.stage, event.r#type == i32::from(EventType::Delete)) {
                (Stage::Vacant, false) => {
                    // The first of them leads; what else came is seen by following it.
                    let seen = Revision(kv.mod_revision);
                    out.give_up(WATCH);
                    self.follow(kv.key.clone(), seen, out);
                    out.respond(leader(kv, seen, out));
                    return;
                }
                (Stage::Following, true) => {
                    out.give_up(WATCH);
                    self.read(out);
                    return;
                }
                (Stage::Following, false) if index + 1 == events.len() => {
                    // A client that does not read holds the watch back with this one.
                    let response = leader(kv, message.revision, out);
                    out.respond_draining(response, WATCH, bytes);
                    return;
                }
                (Stage::Following, false) => out.respond(leader(kv, message.revision, out)),
                (Stage::Vacant, true) | (Stage::Reading, _) => {}
            }
        }
        out.drained(WATCH, bytes);
    }
}

/// An event from its encoded field.
fn event_of(field: Bytes) -> Event {
    match pb::WatchResponse::decode(field) {
        Ok(mut response) => response.events.pop().unwrap_or_default(),
        Err(why) => unreachable!("an event's own encoding reads back: {why}"),
    }
}

fn leader(kv: KeyValue, revision: Revision, out: &Actions<'_>) -> Message {
    let header = out.header_message(revision);
    generated(&v3electionpb::LeaderResponse { header, kv: Some(kv) })
}

impl Machine for Observe {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        match decode::<v3electionpb::LeaderRequest>(message) {
            Ok(request) => {
                self.prefix = prefix_of(&request.name);
                self.read(out);
            }
            Err(status) => out.end(status),
        }
    }

    fn on_reply(&mut self, sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        if sub == WATCH {
            let status = reply.map_or_else(unknown, |_| lost_watcher());
            return out.end(status);
        }
        match range_of(reply) {
            Ok(answer) => self.found(&answer, out),
            Err(status) => out.end(status),
        }
    }

    fn on_watch(&mut self, _sub: Sub, message: WatchMessage, out: &mut Actions<'_>) {
        match &message.body {
            WatchBody::Created | WatchBody::Progress => out.drained(WATCH, message.bytes()),
            WatchBody::Events { events, .. } => self.events(&message, events, out),
            // What was missed does not matter: who leads now does.
            WatchBody::Compacted(_) | WatchBody::Canceled => {
                out.give_up(WATCH);
                self.read(out);
            }
            WatchBody::Refused(_) => out.end(lost_watcher()),
        }
    }
}
