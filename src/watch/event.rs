//! The bytes of an event: the `events` field of a `WatchResponse`, tag and length included, so
//! that messages are made by standing events behind each other.

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::Revision;
use crate::base::batch::Placed;
use crate::base::record::{Record, put_bytes_field, put_varint, varint_len};

/// Tag of `WatchResponse.events`: field 11, length-delimited.
const EVENTS_TAG: u8 = (11 << 3) | 2;
const TYPE_TAG: u8 = 1 << 3;
const TYPE_DELETE: u8 = 1;
const KV_FIELD: u8 = 2;
const PREVIOUS_FIELD: u8 = 3;

/// Encodes the event that `record` is, with the version below its revision if there is one to
/// show.
pub(super) fn encode(record: &Record, previous: Option<&Record>) -> Bytes {
    // A key that begins has no previous version, though the same transaction may have deleted one.
    let begins = !record.is_tombstone() && record.create == record.revision;
    let previous = previous.filter(|_| !begins);
    let type_len = if record.is_tombstone() { 2 } else { 0 };
    let kv_len = field_len(record.kv());
    let previous_len = previous.map_or(0, |previous| field_len(previous.kv()));
    let len = type_len + kv_len + previous_len;
    let mut out = BytesMut::with_capacity(1 + varint_len(len as u64) + len);
    out.put_u8(EVENTS_TAG);
    put_varint(&mut out, len as u64);
    if record.is_tombstone() {
        out.put_u8(TYPE_TAG);
        out.put_u8(TYPE_DELETE);
    }
    put_bytes_field(&mut out, KV_FIELD, record.kv());
    if let Some(previous) = previous {
        put_bytes_field(&mut out, PREVIOUS_FIELD, previous.kv());
    }
    out.freeze()
}

/// The event of a batch's record, encoded by whoever comes first on any core. The previous
/// version is shown where a read at the revision before could still see it.
pub(super) fn shared(
    placed: &Placed,
    record: &Record,
    with_previous: bool,
    compact: Revision,
) -> Bytes {
    let bare = || placed.event[0].get_or_init(|| encode(record, None)).clone();
    if !with_previous || record.revision.before() < compact {
        return bare();
    }
    match &placed.previous {
        None => bare(),
        Some(previous) => placed.event[1].get_or_init(|| encode(record, Some(previous))).clone(),
    }
}

fn field_len(kv: &[u8]) -> usize {
    1 + varint_len(kv.len() as u64) + kv.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;

    use super::*;
    use crate::base::ShardId;
    use crate::base::change::Change;
    use crate::base::record::PutFields;
    use crate::base::{LeaseId, Revision, Sub};
    use crate::wire::etcdserverpb::WatchResponse;
    use crate::wire::mvccpb::{Event, KeyValue};

    fn put(revision: i64, value: &[u8]) -> Record {
        Record::put(PutFields {
            key: b"k",
            value,
            revision: Revision(revision),
            sub: Sub(0),
            create: Revision(2),
            version: revision - 1,
            lease: LeaseId(7),
        })
    }

    fn message(record: &Record) -> KeyValue {
        KeyValue::decode(record.kv()).expect("own encoding")
    }

    #[test]
    fn an_event_is_the_field_of_the_response() {
        let long = vec![b'v'; 300];
        let (old, new) = (put(2, b"v"), put(3, &long));
        let gone = Record::tombstone(b"k", Revision(4), Sub(1));
        for (record, previous, kind) in
            [(&new, None, 0), (&new, Some(&old), 0), (&gone, Some(&new), 1), (&gone, None, 1)]
        {
            let event =
                Event { r#type: kind, kv: Some(message(record)), prev_kv: previous.map(message) };
            let expected = WatchResponse { events: vec![event], ..WatchResponse::default() };
            assert_eq!(encode(record, previous), expected.encode_to_vec());
        }
    }

    #[test]
    fn a_batch_holds_each_event_once() {
        let new = Arc::new(put(3, b"w"));
        let previous = Some(Arc::new(put(2, b"v")));
        let placed = Placed::change(ShardId(0), Change { record: Arc::clone(&new), previous });
        for with_previous in [false, true] {
            let first = shared(&placed, &new, with_previous, Revision(-1));
            let second = shared(&placed, &new, with_previous, Revision(-1));
            assert_eq!(first.as_ptr(), second.as_ptr());
        }
        assert_ne!(
            shared(&placed, &new, false, Revision(-1)),
            shared(&placed, &new, true, Revision(-1))
        );
        let previous = None;
        let fresh = Placed::change(ShardId(0), Change { record: Arc::clone(&new), previous });
        let bare = shared(&fresh, &new, false, Revision(-1));
        assert_eq!(shared(&fresh, &new, true, Revision(-1)).as_ptr(), bare.as_ptr());
    }
}
