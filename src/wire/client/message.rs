//! The messages that a busy client sends and reads most, coded by hand: no message is built to be
//! written, and of an answer only what is asked for is looked at. The rest is prost's.

/// Paths of the calls.
pub mod path {
    /// KV
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    /// KV, an answer in pieces
    pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
    /// KV
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    /// KV
    pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
    /// KV
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    /// KV
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
    /// Watch, both ways
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
    /// Lease
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    /// Lease
    pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    /// Lease, both ways
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    /// Maintenance
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
}

// --- writing ----------------------------------------------------------------------------------

const fn varint_len(value: u64) -> usize {
    // Seven bits a byte, at least one.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn bytes_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

const fn number_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

/// The head of a field of bytes; all our field numbers fit one byte.
fn bytes_head(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(field << 3 | 2);
    varint(out, len as u64);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        bytes_head(out, field, value.len());
        out.extend_from_slice(value);
    }
}

fn number(out: &mut Vec<u8>, field: u8, value: i64) {
    if value != 0 {
        out.push(field << 3);
        varint(out, value as u64);
    }
}

/// A PutRequest.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Not empty.
    pub key: &'a [u8],
    /// May be empty.
    pub value: &'a [u8],
    /// 0 for none.
    pub lease: i64,
}

impl Put<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes(out, 1, self.key);
        bytes(out, 2, self.value);
        number(out, 3, self.lease);
    }

    fn len(&self) -> usize {
        let value = if self.value.is_empty() { 0 } else { bytes_len(self.value.len()) };
        bytes_len(self.key.len()) + value + number_len(self.lease)
    }
}

/// A RangeRequest, without sorting and without bounds on revisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range<'a> {
    /// Not empty.
    pub key: &'a [u8],
    /// Empty for one key.
    pub range_end: &'a [u8],
    /// 0 for none.
    pub limit: i64,
    /// 0 for the newest.
    pub revision: i64,
    /// Read what this member has, without asking for the newest.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Count only.
    pub count_only: bool,
}

impl Range<'_> {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes(out, 1, self.key);
        bytes(out, 2, self.range_end);
        number(out, 3, self.limit);
        number(out, 4, self.revision);
        number(out, 7, i64::from(self.serializable));
        number(out, 8, i64::from(self.keys_only));
        number(out, 9, i64::from(self.count_only));
    }
}

/// Appends a TxnRequest of puts alone.
pub fn txn_of_puts<'a>(out: &mut Vec<u8>, puts: impl Iterator<Item = Put<'a>>) {
    for put in puts {
        success_put(out, &put);
    }
}

/// Appends the TxnRequest of an update: if the key is at `mod_revision` then put, else read it. At
/// 0 it is a create.
pub fn cas_put(out: &mut Vec<u8>, put: &Put<'_>, mod_revision: i64) {
    compare_mod(out, put.key, mod_revision);
    success_put(out, put);
    failure_range(out, put.key);
}

/// Appends the TxnRequest of a delete: if the key is at `mod_revision` then delete, else read it.
pub fn cas_delete(out: &mut Vec<u8>, key: &[u8], mod_revision: i64) {
    compare_mod(out, key, mod_revision);
    let inner = bytes_len(key.len());
    bytes_head(out, 2, bytes_len(inner));
    bytes_head(out, 3, inner);
    bytes(out, 1, key);
    failure_range(out, key);
}

fn compare_mod(out: &mut Vec<u8>, key: &[u8], mod_revision: i64) {
    const TARGET_MOD: i64 = 2;
    let revision_len = 1 + varint_len(mod_revision as u64);
    bytes_head(out, 1, number_len(TARGET_MOD) + bytes_len(key.len()) + revision_len);
    number(out, 2, TARGET_MOD);
    bytes(out, 3, key);
    // One of several: it is there even when it is 0.
    out.push(6 << 3);
    varint(out, mod_revision as u64);
}

fn success_put(out: &mut Vec<u8>, put: &Put<'_>) {
    let inner = put.len();
    bytes_head(out, 2, bytes_len(inner));
    bytes_head(out, 2, inner);
    put.write(out);
}

fn failure_range(out: &mut Vec<u8>, key: &[u8]) {
    let inner = bytes_len(key.len());
    bytes_head(out, 3, bytes_len(inner));
    bytes_head(out, 1, inner);
    bytes(out, 1, key);
}

/// Appends a LeaseKeepAliveRequest.
pub fn keep_alive(out: &mut Vec<u8>, lease: i64) {
    number(out, 1, lease);
}

// --- reading ----------------------------------------------------------------------------------

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok(Some((tag >> 3, field)))
    }
}

/// Calls `take` with each field of a message.
fn each<'a>(
    message: &'a [u8],
    mut take: impl FnMut(u64, Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut fields = Fields { rest: message };
    while let Some((number, field)) = fields.next()? {
        take(number, field)?;
    }
    Ok(())
}

/// The store's revision in a ResponseHeader.
fn header_revision(header: &[u8]) -> Result<i64, Malformed> {
    let mut revision = 0;
    each(header, |number, field| {
        if let (3, Field::Number(value)) = (number, field) {
            revision = value as i64;
        }
        Ok(())
    })?;
    Ok(revision)
}

/// A KeyValue without its lease and its counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Revision of this version.
    pub mod_revision: i64,
}

impl<'a> KeyValue<'a> {
    fn read(message: &'a [u8]) -> Result<KeyValue<'a>, Malformed> {
        let mut kv = KeyValue::default();
        each(message, |number, field| {
            match (number, field) {
                (1, Field::Bytes(bytes)) => kv.key = bytes,
                (3, Field::Number(value)) => kv.mod_revision = value as i64,
                (5, Field::Bytes(bytes)) => kv.value = bytes,
                _ => {}
            }
            Ok(())
        })?;
        Ok(kv)
    }
}

/// What every answer of one message has: the store's revision.
///
/// # Errors
/// When it is no message.
pub fn revision(answer: &[u8]) -> Result<i64, Malformed> {
    let mut revision = 0;
    each(answer, |number, field| {
        if let (1, Field::Bytes(header)) = (number, field) {
            revision = header_revision(header)?;
        }
        Ok(())
    })?;
    Ok(revision)
}

/// A RangeResponse, counted rather than read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer<'a> {
    /// The store's revision; 0 in the middle of a streamed answer.
    pub revision: i64,
    /// Keys in this message.
    pub keys: u64,
    /// The last of them.
    pub last: Option<KeyValue<'a>>,
    /// More keys are in the range.
    pub more: bool,
    /// Keys in the range.
    pub count: i64,
}

impl<'a> RangeAnswer<'a> {
    /// Reads a RangeResponse.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(message: &'a [u8]) -> Result<RangeAnswer<'a>, Malformed> {
        let mut answer = RangeAnswer::default();
        let mut last = None;
        each(message, |number, field| {
            match (number, field) {
                (1, Field::Bytes(header)) => answer.revision = header_revision(header)?,
                (2, Field::Bytes(kv)) => {
                    answer.keys += 1;
                    last = Some(kv);
                }
                (3, Field::Number(value)) => answer.more = value != 0,
                (4, Field::Number(value)) => answer.count = value as i64,
                _ => {}
            }
            Ok(())
        })?;
        answer.last = last.map(KeyValue::read).transpose()?;
        Ok(answer)
    }

    /// Reads a RangeStreamResponse.
    ///
    /// # Errors
    /// When it is none.
    pub fn read_streamed(message: &'a [u8]) -> Result<RangeAnswer<'a>, Malformed> {
        let mut answer = RangeAnswer::default();
        each(message, |number, field| {
            if let (1, Field::Bytes(inner)) = (number, field) {
                answer = RangeAnswer::read(inner)?;
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

/// Calls `take` with every key of a RangeResponse.
///
/// # Errors
/// When it is none.
pub fn each_key<'a>(
    message: &'a [u8],
    mut take: impl FnMut(KeyValue<'a>),
) -> Result<(), Malformed> {
    each(message, |number, field| {
        if let (2, Field::Bytes(kv)) = (number, field) {
            take(KeyValue::read(kv)?);
        }
        Ok(())
    })
}

/// A TxnResponse of one of our updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnAnswer {
    /// The store's revision: that of the write, if there was one.
    pub revision: i64,
    /// The compare held.
    pub succeeded: bool,
    /// Where the key stands, when the compare did not hold and the key is there.
    pub found_mod_revision: Option<i64>,
}

impl TxnAnswer {
    /// Reads a TxnResponse.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(message: &[u8]) -> Result<TxnAnswer, Malformed> {
        let mut answer = TxnAnswer::default();
        each(message, |number, field| {
            match (number, field) {
                (1, Field::Bytes(header)) => answer.revision = header_revision(header)?,
                (2, Field::Number(value)) => answer.succeeded = value != 0,
                (3, Field::Bytes(operation)) => {
                    answer.found_mod_revision = found_mod_revision(operation)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

fn found_mod_revision(operation: &[u8]) -> Result<Option<i64>, Malformed> {
    let mut found = None;
    each(operation, |number, field| {
        if let (1, Field::Bytes(range)) = (number, field) {
            found = RangeAnswer::read(range)?.last.map(|kv| kv.mod_revision);
        }
        Ok(())
    })?;
    Ok(found)
}

/// A WatchResponse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchAnswer {
    /// The store's revision.
    pub revision: i64,
    /// Which watch of the stream.
    pub watch_id: i64,
    /// The answer to a create.
    pub created: bool,
    /// The watch is over.
    pub canceled: bool,
    /// Why, if the server said so.
    pub cancel_reason: String,
    /// Events in this message.
    pub events: u64,
}

impl WatchAnswer {
    /// Reads a WatchResponse and calls `take` with the key of each event.
    ///
    /// # Errors
    /// When it is none.
    pub fn read<'a>(
        message: &'a [u8],
        mut take: impl FnMut(KeyValue<'a>),
    ) -> Result<WatchAnswer, Malformed> {
        let mut answer = WatchAnswer::default();
        each(message, |number, field| {
            match (number, field) {
                (1, Field::Bytes(header)) => answer.revision = header_revision(header)?,
                (2, Field::Number(value)) => answer.watch_id = value as i64,
                (3, Field::Number(value)) => answer.created = value != 0,
                (4, Field::Number(value)) => answer.canceled = value != 0,
                (6, Field::Bytes(text)) => {
                    answer.cancel_reason = String::from_utf8_lossy(text).into_owned();
                }
                (11, Field::Bytes(event)) => {
                    answer.events += 1;
                    each(event, |number, field| {
                        if let (2, Field::Bytes(kv)) = (number, field) {
                            take(KeyValue::read(kv)?);
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

/// Lease and TTL of a LeaseKeepAliveResponse or a LeaseGrantResponse. A TTL of 0 or less says that
/// the lease is gone.
///
/// # Errors
/// When it is none.
pub fn lease_and_ttl(answer: &[u8]) -> Result<(i64, i64), Malformed> {
    let (mut id, mut ttl) = (0, 0);
    each(answer, |number, field| {
        match (number, field) {
            (2, Field::Number(value)) => id = value as i64,
            (3, Field::Number(value)) => ttl = value as i64,
            _ => {}
        }
        Ok(())
    })?;
    Ok((id, ttl))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::etcdserverpb as pb;
    use crate::wire::mvccpb;

    const KEY: &[u8] = b"/registry/leases/kube-node-lease/node-000001";

    fn put() -> Put<'static> {
        Put { key: KEY, value: &[7; 600], lease: 1 << 40 }
    }

    #[test]
    fn requests_are_what_the_generated_types_read() {
        let mut out = Vec::new();
        put().write(&mut out);
        let read = pb::PutRequest::decode(&out[..]).expect("a put");
        assert_eq!((&read.key[..], &read.value[..], read.lease), (KEY, &[7; 600][..], 1 << 40));
        assert_eq!(out, read.encode_to_vec());
        assert_eq!(out.len(), put().len());

        let range = Range {
            key: KEY,
            range_end: b"z",
            limit: 500,
            revision: 77,
            serializable: true,
            keys_only: true,
            count_only: true,
        };
        let mut out = Vec::new();
        range.write(&mut out);
        let read = pb::RangeRequest::decode(&out[..]).expect("a range");
        assert_eq!(out, read.encode_to_vec());
        assert_eq!((read.limit, read.revision), (500, 77));
        assert!(read.serializable && read.keys_only && read.count_only);
    }

    #[test]
    fn updates_are_one_compare_one_write_one_read() {
        for revision in [0, 5, 1 << 50] {
            let mut out = Vec::new();
            cas_put(&mut out, &put(), revision);
            let read = pb::TxnRequest::decode(&out[..]).expect("a txn");
            assert_eq!(out, read.encode_to_vec(), "{revision}");
            assert_eq!((read.compare.len(), read.success.len(), read.failure.len()), (1, 1, 1));
            let target = pb::compare::TargetUnion::ModRevision(revision);
            assert_eq!(read.compare[0].target_union, Some(target));

            let mut out = Vec::new();
            cas_delete(&mut out, KEY, revision);
            let read = pb::TxnRequest::decode(&out[..]).expect("a txn");
            assert_eq!(out, read.encode_to_vec(), "{revision}");
        }
        let mut out = Vec::new();
        txn_of_puts(&mut out, [put(), put()].into_iter());
        let read = pb::TxnRequest::decode(&out[..]).expect("a txn");
        assert_eq!((out.len(), read.success.len()), (read.encoded_len(), 2));
    }

    fn header() -> Option<pb::ResponseHeader> {
        let (cluster_id, member_id) = (u64::MAX, 1);
        Some(pb::ResponseHeader { cluster_id, member_id, revision: 42, raft_term: 3 })
    }

    fn kv(key: &'static [u8], mod_revision: i64) -> mvccpb::KeyValue {
        let key = bytes::Bytes::from_static(key);
        mvccpb::KeyValue { key, mod_revision, value: "v".into(), ..Default::default() }
    }

    #[test]
    fn answers_are_read_as_the_generated_types_write_them() {
        let range = pb::RangeResponse {
            header: header(),
            kvs: vec![kv(b"a", 7), kv(b"b", 9)],
            more: true,
            count: 5,
        };
        let message = range.encode_to_vec();
        let last = KeyValue { key: b"b", value: b"v", mod_revision: 9 };
        let expect = RangeAnswer { revision: 42, keys: 2, last: Some(last), more: true, count: 5 };
        assert_eq!(RangeAnswer::read(&message), Ok(expect));
        assert_eq!(revision(&message), Ok(42));
        let streamed = pb::RangeStreamResponse { range_response: Some(range.clone()) };
        assert_eq!(RangeAnswer::read_streamed(&streamed.encode_to_vec()), Ok(expect));
        let mut keys = Vec::new();
        each_key(&message, |kv| keys.push((kv.key, kv.mod_revision))).expect("a range");
        assert_eq!(keys, [(&b"a"[..], 7), (&b"b"[..], 9)]);

        let failed =
            pb::ResponseOp { response: Some(pb::response_op::Response::ResponseRange(range)) };
        let txn = pb::TxnResponse { header: header(), succeeded: false, responses: vec![failed] };
        let expect = TxnAnswer { revision: 42, succeeded: false, found_mod_revision: Some(9) };
        assert_eq!(TxnAnswer::read(&txn.encode_to_vec()), Ok(expect));

        let event = mvccpb::Event { kv: Some(kv(b"a", 7)), prev_kv: Some(kv(b"a", 6)), r#type: 0 };
        let watch = pb::WatchResponse {
            header: header(),
            watch_id: 3,
            events: vec![event.clone(), event],
            ..Default::default()
        };
        let message = watch.encode_to_vec();
        let mut seen = Vec::new();
        let answer = WatchAnswer::read(&message, |kv| seen.push(kv.mod_revision));
        let answer = answer.expect("a watch answer");
        assert_eq!((answer.revision, answer.watch_id, answer.events), (42, 3, 2));
        assert_eq!(seen, [7, 7]);

        let alive = pb::LeaseKeepAliveResponse { header: header(), id: 9, ttl: 60 };
        assert_eq!(lease_and_ttl(&alive.encode_to_vec()), Ok((9, 60)));
    }

    #[test]
    fn garbage_is_malformed_and_nothing_worse() {
        let cases: [&[u8]; 5] = [
            b"\x0a",
            b"\x0a\x05a",
            b"\x0b",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x12\x02\x0a\x05",
        ];
        for message in cases {
            assert_eq!(RangeAnswer::read(message), Err(Malformed), "{message:?}");
        }
        let mut prng = crate::base::prng::Prng::new(1);
        for _ in 0..10_000 {
            let bytes: Vec<u8> = (0..prng.below(40)).map(|_| prng.next_u64() as u8).collect();
            let _ = (RangeAnswer::read(&bytes), TxnAnswer::read(&bytes), lease_and_ttl(&bytes));
            let _ = WatchAnswer::read(&bytes, |_| ());
        }
    }
}
