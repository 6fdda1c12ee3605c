//! The Watch service: every message of a stream goes to the node under the stream's one call,
//! every message of the node becomes a WatchResponse around events that were encoded long ago.

use bytes::Bytes;

use super::header::Header;
use super::kv::decode;
use super::machine::{Actions, Machine, Sub};
use super::message::{Message, Writer, bytes_len, int_len};
use crate::base::Revision;
use crate::wire::call::{Reply, Request, WatchBody, WatchMessage, WatchRefusal};

const STREAM: Sub = Sub(0);

/// One watch stream.
#[derive(Debug, Default)]
pub struct Watch;

impl Machine for Watch {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        match decode(message) {
            Ok(request) => out.submit(STREAM, Request::Watch(request)),
            Err(status) => out.end(status),
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        // A watch stream is answered by messages; a reply is the end of it.
        match reply {
            Ok(_) => unreachable!("a watch stream has no answer"),
            Err(reject) => out.end(reject.into()),
        }
    }

    fn on_watch(&mut self, _sub: Sub, message: WatchMessage, out: &mut Actions<'_>) {
        let bytes = message.bytes();
        let response = watch_response(&out.header, message);
        out.respond_draining(response, STREAM, bytes);
    }
}

fn reason(refusal: WatchRefusal) -> &'static str {
    match refusal {
        WatchRefusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        WatchRefusal::EmptyRange => "mvcc: watcher range is empty",
        WatchRefusal::NegativeStart => "etcdserver: mvcc: required revision has been compacted",
        WatchRefusal::TooMany => "etcdserver: too many requests",
    }
}

/// A WatchResponse.
#[must_use]
pub fn watch_response(header: &Header, message: WatchMessage) -> Message {
    let WatchMessage { watch_id, revision, body } = message;
    let mut created = false;
    let mut canceled = false;
    let mut compact = Revision(0);
    let mut cancel_reason = "";
    let mut is_fragment = false;
    let mut fields = Vec::new();
    let mut at = revision;
    match body {
        WatchBody::Created => created = true,
        WatchBody::Refused(refusal) => {
            (created, canceled) = (true, true);
            cancel_reason = reason(refusal);
        }
        WatchBody::Canceled => canceled = true,
        WatchBody::Compacted(revision) => {
            canceled = true;
            compact = revision;
            at = Revision(0);
        }
        WatchBody::Events { events, fragment } => {
            is_fragment = fragment;
            fields = events;
        }
        WatchBody::Progress => {}
    }
    let header = header.at(at);
    let len = header.field_len()
        + int_len(watch_id as u64)
        + int_len(u64::from(created))
        + int_len(u64::from(canceled))
        + int_len(compact.0 as u64)
        + bytes_len(cancel_reason.as_bytes())
        + int_len(u64::from(is_fragment))
        + fields.iter().map(Bytes::len).sum::<usize>();
    let mut writer = Writer::new(len);
    header.write(&mut writer);
    writer.int(2, watch_id);
    writer.flag(3, created);
    writer.flag(4, canceled);
    writer.int(5, compact.0);
    writer.bytes(6, cancel_reason.as_bytes());
    writer.flag(7, is_fragment);
    for event in fields {
        writer.shared(event);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Term;
    use crate::base::record::{Record, put_varint};
    use crate::base::{Revision, Sub as Order};
    use crate::frontend::port::Settings;
    use crate::wire::etcdserverpb as pb;
    use crate::wire::mvccpb;
    use bytes::{BufMut, BytesMut};
    use prost::Message as _;

    fn header() -> Header {
        let settings = Settings { cluster_id: 11, member_id: 22, ..Settings::default() };
        Header::new(&settings, Term(3))
    }

    fn event(revision: i64, value: usize) -> (mvccpb::Event, Bytes) {
        let record = Record::tombstone(&vec![b'k'; value], Revision(revision), Order(0));
        let kv = mvccpb::KeyValue::decode(record.kv()).expect("own encoding");
        let event = mvccpb::Event { r#type: 1, kv: Some(kv), prev_kv: None };
        let body = event.encode_to_vec();
        let mut field = BytesMut::new();
        field.put_u8(11 << 3 | 2);
        put_varint(&mut field, body.len() as u64);
        field.put_slice(&body);
        (event, field.freeze())
    }

    #[test]
    fn every_kind_of_message_is_the_generated_one() {
        let (first, first_field) = event(5, 3);
        let (second, second_field) = event(5, 100_000);
        let base = |watch_id| pb::WatchResponse {
            header: header().message(Revision(9)),
            watch_id,
            ..Default::default()
        };
        let refused = |text: &str| pb::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: text.to_owned(),
            ..base(-1)
        };
        let events = |events, fragment| WatchBody::Events { events, fragment };
        let cases = [
            (0, WatchBody::Created, pb::WatchResponse { created: true, ..base(0) }),
            (7, WatchBody::Canceled, pb::WatchResponse { canceled: true, ..base(7) }),
            (-1, WatchBody::Progress, base(-1)),
            (
                7,
                WatchBody::Compacted(Revision(4)),
                pb::WatchResponse {
                    header: header().message(Revision(0)),
                    canceled: true,
                    compact_revision: 4,
                    ..base(7)
                },
            ),
            (
                -1,
                WatchBody::Refused(WatchRefusal::DuplicateId),
                refused("mvcc: duplicate watch ID provided on the WatchStream"),
            ),
            (
                -1,
                WatchBody::Refused(WatchRefusal::EmptyRange),
                refused("mvcc: watcher range is empty"),
            ),
            (
                -1,
                WatchBody::Refused(WatchRefusal::NegativeStart),
                refused("etcdserver: mvcc: required revision has been compacted"),
            ),
            (
                3,
                events(vec![first_field.clone()], false),
                pb::WatchResponse { events: vec![first.clone()], ..base(3) },
            ),
            (
                3,
                events(vec![first_field.clone(), second_field, first_field], true),
                pb::WatchResponse {
                    events: vec![first.clone(), second, first],
                    fragment: true,
                    ..base(3)
                },
            ),
        ];
        for (watch_id, body, expect) in cases {
            let message = WatchMessage { watch_id, revision: Revision(9), body };
            let mut response = watch_response(&header(), message);
            let bytes = response.take(usize::MAX);
            assert_eq!(bytes[5..], expect.encode_to_vec(), "{expect:?}");
        }
    }
}
