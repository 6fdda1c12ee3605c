//! What a client sends on a stream: messages out of bytes, requests out of messages.
//!
//! ```text
//! item 0      the method u8
//! item 1..    bytes that arrive together; flags: 1 as one whole message
//! ```

use bytes::Bytes;
use prost::Message as _;
use ringbolt::base::Term;
use ringbolt::frontend::frame::{Decoder, PREFIX_BYTES};
use ringbolt::frontend::machine::{Action, Actions, Machine};
use ringbolt::frontend::methods::{METHODS, METHODS_COUNT, Serve, find};
use ringbolt::frontend::{Header, Settings};
use ringbolt::wire::etcdserverpb as pb;

use super::{Item, input, items};

const WHOLE: u8 = 1;

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let items = items(data);
    let Some((head, arrivals)) = items.split_first() else { return false };
    let method = &METHODS[head.number(0, 1) as usize % METHODS_COUNT];
    let settings = Settings { request_bytes_max: 8 << 10, ..Settings::default() };
    let mut machine = match method.serve {
        Serve::Machine(start) => Some(start()),
        Serve::Unary(_) | Serve::Absent => None,
    };
    let mut decoder = Decoder::default();
    let mut is_taken = false;
    for item in arrivals {
        let mut bytes = item.bytes.clone();
        if item.has(WHOLE) {
            let len = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
            bytes.splice(..0, [0, len[0], len[1], len[2], len[3]]);
        }
        decoder.push(bytes.into());
        loop {
            match decoder.next(settings.message_bytes_max()) {
                Ok(Some(message)) => {
                    assert!(message.len() <= settings.message_bytes_max());
                    is_taken |= take(&method.serve, &mut machine, message, &settings);
                }
                Ok(None) => break,
                Err(status) => {
                    assert!(!status.message.is_empty());
                    return is_taken;
                }
            }
        }
        assert!(decoder.held() <= settings.message_bytes_max() + PREFIX_BYTES);
    }
    if let Some(machine) = &mut machine {
        drive(&settings, |out| machine.on_end(out));
        drive(&settings, |out| machine.on_cancel(out));
    }
    is_taken
}

/// A message. True if it is a good request.
fn take(
    serve: &Serve,
    machine: &mut Option<Box<dyn Machine>>,
    message: Bytes,
    settings: &Settings,
) -> bool {
    match (serve, machine) {
        (Serve::Unary(decode), _) => match decode(message, settings) {
            Ok(request) => !format!("{request:?}").is_empty(),
            Err(status) => status.message.is_empty(),
        },
        (_, Some(machine)) if machine.wants_message() => {
            drive(settings, |out| machine.on_message(message, out))
        }
        _ => false,
    }
}

/// Whether the machine asked the node anything.
fn drive(settings: &Settings, event: impl FnOnce(&mut Actions<'_>)) -> bool {
    let mut list = Vec::new();
    event(&mut Actions::new(settings, Header::new(settings, Term(2)), &mut list));
    list.iter().any(|action| matches!(action, Action::Submit(..)))
}

/// Requests of every shape.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |path: &str, messages: &[Vec<u8>]| {
        let method = find(path).expect("a method");
        let mut out = vec![Item::new(0, [method as u8])];
        out.extend(messages.iter().map(|message| Item::new(WHOLE, &message[..])));
        input(&out)
    };
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let put = pb::PutRequest { key: text("a"), value: text("value"), lease: 7, ..<_>::default() };
    let range = pb::RangeRequest {
        key: text("a"),
        range_end: text("b"),
        limit: 9,
        sort_order: 1,
        ..<_>::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = pb::Compare { key: text("a"), result: 1, target: 2, ..<_>::default() };
    let inner = pb::TxnRequest {
        success: vec![op(pb::request_op::Request::RequestRange(range.clone()))],
        ..<_>::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(pb::request_op::Request::RequestPut(put.clone())),
            op(pb::request_op::Request::RequestTxn(inner)),
        ],
        failure: Vec::new(),
    };
    let create = pb::WatchCreateRequest { key: text("a"), start_revision: 3, ..<_>::default() };
    let union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    let watch = pb::WatchRequest { request_union: union };
    let lease = pb::LeaseGrantRequest { ttl: 10, id: 0 };
    let alive = pb::LeaseKeepAliveRequest { id: 10 };
    let watches = [watch.encode_to_vec(), watch.encode_to_vec()];
    vec![
        seed("/etcdserverpb.KV/Put", &[put.encode_to_vec()]),
        seed("/etcdserverpb.KV/Range", &[range.encode_to_vec()]),
        seed("/etcdserverpb.KV/RangeStream", &[range.encode_to_vec()]),
        seed("/etcdserverpb.KV/Txn", &[txn.encode_to_vec()]),
        seed("/etcdserverpb.Watch/Watch", &watches),
        seed("/etcdserverpb.Lease/LeaseGrant", &[lease.encode_to_vec()]),
        seed("/etcdserverpb.Lease/LeaseKeepAlive", &[alive.encode_to_vec(), vec![]]),
        seed("/v3lockpb.Lock/Lock", &[b"\x0a\x04name\x10\x07".to_vec()]),
        seed("/v3electionpb.Election/Campaign", &[b"\x0a\x04name\x10\x07\x1a\x01v".to_vec()]),
    ]
}
