use super::*;
use std::sync::Arc;

use prost::Message as _;

use crate::base::record::{PutFields, Record};
use crate::base::reject::Reject;
use crate::base::{LeaseId, Sub as Order, Term};
use crate::frontend::machine::Action;
use crate::frontend::port::Settings;

/// A store of `keys` keys of `value` bytes each, asked as the node would be.
struct Store {
    keys: Vec<Arc<Record>>,
    revision: i64,
    asked: Vec<pb::RangeRequest>,
}

impl Store {
    fn new(keys: usize, value: usize) -> Store {
        let record = |index: usize| {
            Arc::new(Record::put(PutFields {
                key: format!("k{index:06}").as_bytes(),
                value: &vec![b'v'; value],
                revision: Revision(5),
                sub: Order(0),
                create: Revision(5),
                version: 1,
                lease: LeaseId(0),
            }))
        };
        Store { keys: (0..keys).map(record).collect(), revision: 40, asked: Vec::new() }
    }

    fn range(&mut self, request: pb::RangeRequest) -> RangeAnswer {
        let found: Vec<_> =
            self.keys.iter().filter(|record| record.key() >= &request.key[..]).cloned().collect();
        let count = found.len() as u64;
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let shown = if request.count_only { 0 } else { limit };
        let records: Vec<_> = found.into_iter().take(shown).collect();
        let more = !request.count_only && (records.len() as u64) < count;
        let revision = Revision(self.revision);
        // Writes go on in between; a pinned reader does not see them.
        self.revision += 1;
        self.asked.push(request);
        RangeAnswer { revision, records, keys_only: false, more, count }
    }
}

/// Runs a whole call: its messages and its status.
fn run(store: &mut Store, request: &pb::RangeRequest) -> (Vec<pb::RangeResponse>, Status) {
    let settings = Settings { request_bytes_max: 100_000, ..Settings::default() };
    let header = Header::new(&settings, Term(2));
    let mut machine = RangeStream::new();
    let mut responses = Vec::new();
    let mut list = Vec::new();
    machine.on_message(
        request.encode_to_vec().into(),
        &mut Actions::new(&settings, header, &mut list),
    );
    loop {
        let mut next = Vec::new();
        let mut is_drained = false;
        let mut reply = None;
        for action in list.drain(..) {
            match action {
                Action::Submit(sub, Request::Range(request)) => {
                    reply = Some((sub, store.range(request)));
                }
                Action::Respond(mut message, None) => {
                    let body = message.take(usize::MAX).slice(5..);
                    let response = pb::RangeStreamResponse::decode(body).expect("a response");
                    responses.push(response.range_response.expect("a range"));
                    is_drained = true;
                }
                Action::End(status) => return (responses, status),
                other => panic!("{other:?}"),
            }
        }
        let mut out = Actions::new(&settings, header, &mut next);
        if let Some((sub, answer)) = reply {
            machine.on_reply(sub, Ok(Answer::Range(answer)), &mut out);
        } else if is_drained {
            machine.on_drained(&mut out);
        } else {
            panic!("the call stands still");
        }
        list = next;
    }
}

fn all() -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        ..Default::default()
    }
}

#[test]
fn chunks_add_up_to_one_range_as_of_the_first_one() {
    let mut store = Store::new(1_000, 1_000);
    let (responses, status) = run(&mut store, &all());
    assert_eq!(status, Status::OK);
    let keys: usize = responses.iter().map(|response| response.kvs.len()).sum();
    assert_eq!(keys, 1_000);
    let (last, parts) = responses.split_last().expect("chunks");
    for part in parts {
        assert_eq!((part.header.is_none(), part.more, part.count), (true, false, 0));
    }
    assert_eq!(last.header.as_ref().expect("a header").revision, 40);
    assert_eq!((last.more, last.count), (false, 1_000));
    let asked = &store.asked;
    assert_eq!((asked[0].limit, asked[0].revision, asked[0].serializable), (10, 0, false));
    assert!(asked[1..].iter().all(|request| request.revision == 40 && request.serializable));
    // 10, 20 and 40 keys lie below half of the target, 80 keys between half and twice.
    let limits: Vec<i64> = asked.iter().map(|request| request.limit).take(6).collect();
    assert_eq!(limits, [10, 20, 40, 80, 80, 80]);
}

#[test]
fn chunks_of_large_values_shrink_to_one_key() {
    let mut store = Store::new(60, 150_000);
    let (responses, status) = run(&mut store, &all());
    assert_eq!(status, Status::OK);
    let sizes: Vec<usize> = responses.iter().map(|response| response.kvs.len()).collect();
    assert_eq!(sizes[..5], [10, 5, 2, 1, 1]);
    assert_eq!(sizes.iter().sum::<usize>(), 60);
}

#[test]
fn a_limit_ends_the_stream_and_says_that_there_is_more() {
    for (limit, keys, more) in [(25, 25, true), (10, 10, true), (30, 30, false), (99, 30, false)] {
        let mut store = Store::new(30, 10);
        let (responses, status) = run(&mut store, &pb::RangeRequest { limit, ..all() });
        assert_eq!(status, Status::OK);
        let streamed: usize = responses.iter().map(|response| response.kvs.len()).sum();
        let last = responses.last().expect("chunks");
        assert_eq!((streamed, last.more, last.count), (keys, more, 30), "{limit}");
    }
}

#[test]
fn counts_and_empty_ranges_are_one_message() {
    for (keys, count_only) in [(30, true), (0, false), (0, true), (5, false)] {
        let mut store = Store::new(keys, 10);
        let (responses, status) = run(&mut store, &pb::RangeRequest { count_only, ..all() });
        assert_eq!((responses.len(), status), (1, Status::OK));
        let header = responses[0].header.as_ref().expect("a header");
        assert_eq!((header.revision, responses[0].count), (40, keys as i64));
    }
}

#[test]
fn what_a_stream_cannot_do_is_said_in_the_words_of_etcd() {
    let cases = [
        (
            pb::RangeRequest { sort_order: 2, ..all() },
            Status::fixed(Code::Unimplemented, "RangeStream does not support custom sort orders"),
        ),
        (
            pb::RangeRequest { max_create_revision: 2, ..all() },
            Status::fixed(Code::Unimplemented, "RangeStream does not support revision filters"),
        ),
        (pb::RangeRequest::default(), Reject::EmptyKey.into()),
        (pb::RangeRequest { sort_target: 9, ..all() }, Reject::InvalidSortOption.into()),
    ];
    for (request, expected) in cases {
        let (responses, status) = run(&mut Store::new(3, 3), &request);
        assert_eq!((responses.len(), status), (0, expected));
    }
}
