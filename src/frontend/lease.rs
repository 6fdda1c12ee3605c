//! The Lease service: grant, revoke, keep alive, time to live, list.

use std::collections::VecDeque;

use bytes::Bytes;

use super::check;
use super::header::Header;
use super::kv::{check_size, decode};
use super::machine::{Actions, Machine, Sub};
use super::message::{Message, Writer, generated, int_len};
use super::port::Settings;
use super::status::Status;
use crate::base::limits::KEEPALIVES_IN_FLIGHT_MAX;
use crate::base::{LeaseId, Revision};
use crate::wire::call::{Answer, Reply, Request};
use crate::wire::etcdserverpb as pb;

pub(super) fn grant(message: Bytes, settings: &Settings) -> Result<Request, Status> {
    let bytes = message.len();
    let request: pb::LeaseGrantRequest = decode(message)?;
    check::lease_grant(&request)?;
    check_size(bytes, settings)?;
    Ok(Request::LeaseGrant(request))
}

pub(super) fn revoke(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let request: pb::LeaseRevokeRequest = decode(message)?;
    Ok(Request::LeaseRevoke(LeaseId(request.id)))
}

pub(super) fn time_to_live(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let request: pb::LeaseTimeToLiveRequest = decode(message)?;
    Ok(Request::LeaseTimeToLive { id: LeaseId(request.id), keys: request.keys })
}

pub(super) fn leases(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let _: pb::LeaseLeasesRequest = decode(message)?;
    Ok(Request::LeaseLeases)
}

/// A LeaseGrantResponse.
#[must_use]
pub fn grant_response(header: &Header, revision: Revision, id: LeaseId, ttl_s: i64) -> Message {
    id_and_ttl(header, revision, id, ttl_s)
}

/// A LeaseKeepAliveResponse; it has the fields of a LeaseGrantResponse.
#[must_use]
pub fn keep_alive_response(
    header: &Header,
    revision: Revision,
    id: LeaseId,
    ttl_s: i64,
) -> Message {
    id_and_ttl(header, revision, id, ttl_s)
}

fn id_and_ttl(header: &Header, revision: Revision, id: LeaseId, ttl_s: i64) -> Message {
    let header = header.at(revision);
    let mut writer = Writer::new(header.field_len() + int_len(id.0 as u64) + int_len(ttl_s as u64));
    header.write(&mut writer);
    writer.int(2, id.0);
    writer.int(3, ttl_s);
    writer.finish()
}

/// A LeaseTimeToLiveResponse.
#[must_use]
pub fn time_to_live_response(
    header: &Header,
    revision: Revision,
    id: LeaseId,
    (ttl, granted_ttl): (i64, i64),
    keys: Vec<Bytes>,
) -> Message {
    let header = header.message(revision);
    generated(&pb::LeaseTimeToLiveResponse { header, id: id.0, ttl, granted_ttl, keys })
}

/// A LeaseLeasesResponse.
#[must_use]
pub fn leases_response(header: &Header, revision: Revision, ids: &[LeaseId]) -> Message {
    let leases = ids.iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
    generated(&pb::LeaseLeasesResponse { header: header.message(revision), leases })
}

/// One LeaseKeepAlive stream: each message is a request of its own, several are under way at
/// once, and the answers leave in the order of the messages.
#[derive(Debug, Default)]
pub struct KeepAlive {
    /// Answers by request, oldest first; none while it is out.
    answers: VecDeque<Option<Reply>>,
    /// Number of the oldest.
    first: u32,
    is_ended: bool,
}

impl KeepAlive {
    fn flush(&mut self, out: &mut Actions<'_>) {
        while let Some(reply) = self.answers.front_mut().and_then(Option::take) {
            self.answers.pop_front();
            self.first = self.first.wrapping_add(1);
            match reply {
                Ok(Answer::LeaseKeepAlive { revision, id, ttl_s }) => {
                    out.respond(keep_alive_response(&out.header, revision, id, ttl_s));
                }
                Ok(_) => unreachable!("a keepalive is answered by a keepalive"),
                Err(reject) => return out.end(reject.into()),
            }
        }
        if self.is_ended && self.answers.is_empty() {
            out.end(Status::OK);
        }
    }
}

impl Machine for KeepAlive {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: pb::LeaseKeepAliveRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        let ahead = u32::try_from(self.answers.len()).unwrap_or(u32::MAX);
        self.answers.push_back(None);
        let sub = Sub(self.first.wrapping_add(ahead));
        out.submit(sub, Request::LeaseKeepAlive(LeaseId(request.id)));
    }

    fn on_end(&mut self, out: &mut Actions<'_>) {
        self.is_ended = true;
        self.flush(out);
    }

    fn on_reply(&mut self, sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        let index = sub.0.wrapping_sub(self.first) as usize;
        if let Some(answer) = self.answers.get_mut(index) {
            *answer = Some(reply);
        }
        self.flush(out);
    }

    fn wants_message(&self) -> bool {
        self.answers.len() < KEEPALIVES_IN_FLIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Term;
    use crate::base::reject::Reject;
    use crate::frontend::machine::Action;
    use crate::frontend::status::Code;
    use prost::Message as _;

    fn header() -> Header {
        let settings = Settings { cluster_id: 11, member_id: 22, ..Settings::default() };
        Header::new(&settings, Term(3))
    }

    fn check(mut message: Message, expect: &impl prost::Message) {
        assert_eq!(message.take(usize::MAX)[5..], expect.encode_to_vec());
    }

    #[test]
    fn answers_are_the_generated_messages() {
        let header = header();
        let at = header.message(Revision(5));
        let expect = pb::LeaseGrantResponse { header: at, id: -9, ttl: 60, error: String::new() };
        check(grant_response(&header, Revision(5), LeaseId(-9), 60), &expect);
        let expect = pb::LeaseKeepAliveResponse { header: at, id: 9, ttl: 0 };
        check(keep_alive_response(&header, Revision(5), LeaseId(9), 0), &expect);
        let leases = vec![pb::LeaseStatus { id: 3 }, pb::LeaseStatus { id: 4 }];
        let expect = pb::LeaseLeasesResponse { header: at, leases };
        check(leases_response(&header, Revision(5), &[LeaseId(3), LeaseId(4)]), &expect);
    }

    /// Runs one input and returns what it led to.
    fn run(
        machine: &mut KeepAlive,
        input: impl FnOnce(&mut KeepAlive, &mut Actions<'_>),
    ) -> Vec<Action> {
        let settings = Settings::default();
        let mut list = Vec::new();
        input(machine, &mut Actions::new(&settings, header(), &mut list));
        list
    }

    fn ask(machine: &mut KeepAlive, id: i64) -> Sub {
        let message = pb::LeaseKeepAliveRequest { id }.encode_to_vec().into();
        let actions = run(machine, |machine, out| machine.on_message(message, out));
        match &actions[..] {
            [Action::Submit(sub, Request::LeaseKeepAlive(asked))] if asked.0 == id => *sub,
            other => panic!("{other:?}"),
        }
    }

    fn answer(machine: &mut KeepAlive, sub: Sub, id: i64) -> Vec<Action> {
        let answer = Answer::LeaseKeepAlive { revision: Revision(5), id: LeaseId(id), ttl_s: 1 };
        run(machine, |machine, out| machine.on_reply(sub, Ok(answer), out))
    }

    fn ids(actions: Vec<Action>) -> Vec<i64> {
        let id = |action| match action {
            Action::Respond(mut message, None) => {
                let body = message.take(usize::MAX).slice(5..);
                pb::LeaseKeepAliveResponse::decode(body).expect("a response").id
            }
            other => panic!("{other:?}"),
        };
        actions.into_iter().map(id).collect()
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let mut machine = KeepAlive::default();
        let subs = [ask(&mut machine, 1), ask(&mut machine, 2), ask(&mut machine, 3)];
        assert!(answer(&mut machine, subs[2], 3).is_empty());
        assert_eq!(ids(answer(&mut machine, subs[0], 1)), [1]);
        let fourth = ask(&mut machine, 4);
        assert_eq!(ids(answer(&mut machine, subs[1], 2)), [2, 3]);
        assert!(run(&mut machine, |machine, out| machine.on_end(out)).is_empty());
        let last = answer(&mut machine, fourth, 4);
        assert!(matches!(&last[..], [Action::Respond(..), Action::End(status)]
                if *status == Status::OK));
    }

    #[test]
    fn a_refusal_ends_the_stream_behind_the_answers_before_it() {
        let mut machine = KeepAlive::default();
        let first = ask(&mut machine, 1);
        let second = ask(&mut machine, 2);
        let refused = Err(Reject::NoLeader);
        assert!(run(&mut machine, |m, out| m.on_reply(second, refused, out)).is_empty());
        let actions = answer(&mut machine, first, 1);
        assert!(matches!(&actions[..], [Action::Respond(..), Action::End(status)]
                if status.code == Code::Unavailable));
    }

    #[test]
    fn too_many_under_way_stop_the_reading() {
        let mut machine = KeepAlive::default();
        let subs: Vec<Sub> = (0..KEEPALIVES_IN_FLIGHT_MAX).map(|_| ask(&mut machine, 7)).collect();
        assert!(!machine.wants_message());
        answer(&mut machine, subs[0], 7);
        assert!(machine.wants_message());
    }
}
