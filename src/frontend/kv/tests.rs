use super::*;

use prost::Message as _;

use crate::base::record::PutFields;
use crate::base::{LeaseId, Sub, Term};
use crate::wire::mvccpb;

fn settings() -> Settings {
    Settings {
        cluster_id: 0xcdf8_181e_3277_8c12,
        member_id: 0x8e9e_05c5_2164_694d,
        ..Settings::default()
    }
}

fn header() -> Header {
    Header::new(&settings(), Term(3))
}

fn record(key: &str, value: &[u8], lease: i64) -> Arc<Record> {
    Arc::new(Record::put(PutFields {
        key: key.as_bytes(),
        value,
        revision: Revision(300),
        sub: Sub(0),
        create: Revision(17),
        version: 9,
        lease: LeaseId(lease),
    }))
}

fn kv(record: &Record, keys_only: bool) -> mvccpb::KeyValue {
    let bytes = if keys_only { record.kv_without_value() } else { record.kv() };
    mvccpb::KeyValue::decode(bytes).expect("own encoding")
}

/// The hand-written bytes are exactly what the generated message would be.
fn check(mut message: Message, expect: &impl prost::Message) {
    let mut out = Vec::new();
    while message.remaining() > 0 {
        out.extend_from_slice(&message.take(1000));
    }
    let expect = expect.encode_to_vec();
    assert_eq!(out[..5], [&[0][..], &u32::try_from(expect.len()).unwrap().to_be_bytes()].concat());
    assert_eq!(out[5..], expect);
}

fn pb_range(answer: &RangeAnswer, header: Option<pb::ResponseHeader>) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: answer.records.iter().map(|record| kv(record, answer.keys_only)).collect(),
        more: answer.more,
        count: i64::try_from(answer.count).unwrap(),
    }
}

fn range_answers() -> Vec<RangeAnswer> {
    let large: Vec<_> = (0..200).map(|i| record(&format!("k{i}"), &[b'x'; 999], i)).collect();
    vec![
        RangeAnswer { revision: Revision(1), ..RangeAnswer::default() },
        RangeAnswer { revision: Revision(400), count: 7, more: true, ..RangeAnswer::default() },
        RangeAnswer {
            revision: Revision(400),
            records: vec![record("a", b"1", 0), record("b", b"", 5)],
            count: 2,
            ..RangeAnswer::default()
        },
        RangeAnswer {
            revision: Revision(400),
            records: large.clone(),
            count: 200,
            keys_only: true,
            more: true,
        },
        RangeAnswer {
            revision: Revision(400),
            records: large,
            count: 200,
            keys_only: false,
            more: false,
        },
    ]
}

#[test]
fn simple_answers_are_the_generated_messages() {
    for answer in range_answers() {
        let expect = pb_range(&answer, header().message(answer.revision));
        check(range_response(&header(), answer), &expect);
    }
    for previous in [None, Some(record("k", b"v", 0)), Some(record("k", &[1; 200_000], 9))] {
        let expect = pb::PutResponse {
            header: header().message(Revision(8)),
            prev_kv: previous.as_ref().map(|record| kv(record, false)),
        };
        check(put_response(&header(), PutAnswer { revision: Revision(8), previous }), &expect);
    }
    for previous in [vec![], vec![record("a", b"1", 0), record("b", &[2; 100_000], 0)]] {
        let answer = DeleteRangeAnswer { revision: Revision(9), deleted: 2, previous };
        let expect = pb::DeleteRangeResponse {
            header: header().message(Revision(9)),
            deleted: 2,
            prev_kvs: answer.previous.iter().map(|record| kv(record, false)).collect(),
        };
        check(delete_range_response(&header(), answer), &expect);
    }
    let expect = pb::CompactionResponse { header: header().message(Revision(9)) };
    check(header_alone(&header(), Revision(9)), &expect);
}

fn pb_txn(answer: &TxnAnswer, header: Option<pb::ResponseHeader>) -> pb::TxnResponse {
    use pb::response_op::Response;
    let at = |revision: Revision| {
        Some(pb::ResponseHeader { revision: revision.0, ..Default::default() })
    };
    let op = |op: &OpAnswer| match op {
        OpAnswer::Range(range) => Response::ResponseRange(pb_range(range, at(range.revision))),
        OpAnswer::Put(put) => Response::ResponsePut(pb::PutResponse {
            header: at(put.revision),
            prev_kv: put.previous.as_ref().map(|record| kv(record, false)),
        }),
        OpAnswer::DeleteRange(delete) => Response::ResponseDeleteRange(pb::DeleteRangeResponse {
            header: at(delete.revision),
            deleted: i64::try_from(delete.deleted).unwrap(),
            prev_kvs: delete.previous.iter().map(|record| kv(record, false)).collect(),
        }),
        OpAnswer::Txn(nested) => {
            Response::ResponseTxn(pb_txn(nested, Some(pb::ResponseHeader::default())))
        }
    };
    let responses = answer.ops.iter().map(|answer| pb::ResponseOp { response: Some(op(answer)) });
    pb::TxnResponse { header, succeeded: answer.succeeded, responses: responses.collect() }
}

#[test]
fn a_txn_of_every_kind_and_depth_is_the_generated_message() {
    let leaf = |succeeded| TxnAnswer {
        revision: Revision(0),
        succeeded,
        ops: vec![
            OpAnswer::Put(PutAnswer {
                revision: Revision(5),
                previous: Some(record("k", b"v", 0)),
            }),
            OpAnswer::DeleteRange(DeleteRangeAnswer {
                revision: Revision(5),
                deleted: 1,
                previous: vec![record("d", b"v", 0)],
            }),
        ],
    };
    let mut deep = leaf(true);
    for _ in 0..30 {
        deep =
            TxnAnswer { ops: vec![OpAnswer::Txn(deep), OpAnswer::Txn(leaf(false))], ..leaf(true) };
    }
    let mut answers =
        vec![TxnAnswer { revision: Revision(2), ..TxnAnswer::default() }, leaf(true), deep];
    for range in range_answers() {
        let nested = TxnAnswer { ops: vec![OpAnswer::Range(range.clone())], ..leaf(false) };
        let ops = vec![OpAnswer::Range(range), OpAnswer::Txn(nested)];
        answers.push(TxnAnswer { revision: Revision(6), succeeded: true, ops });
    }
    for answer in answers {
        let expect = pb_txn(&answer, header().message(answer.revision));
        check(txn_response(&header(), answer), &expect);
    }
}

#[test]
fn a_write_is_measured_as_etcd_does() {
    let max = settings().request_bytes_max;
    let put = |value: usize| {
        let request = pb::PutRequest {
            key: Bytes::from_static(b"k"),
            value: vec![0; value].into(),
            ..Default::default()
        };
        put(request.encode_to_vec().into(), &settings()).map(|_| ())
    };
    assert_eq!(put(max - 64), Ok(()));
    assert_eq!(put(max), Err(Reject::RequestTooLarge.into()));
    assert_eq!(put(max - 16), Err(Reject::RequestTooLarge.into()));
    let undecodable = super::put(Bytes::from_static(&[0x0a, 5, 1]), &settings());
    assert_eq!(undecodable.expect_err("cut").code, crate::frontend::status::Code::Internal);
}
