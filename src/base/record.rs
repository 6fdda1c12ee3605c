//! One version of a key, encoded once for log, memory, answers and events.
//!
//! The log form is a fixed header and, behind it, the final `mvccpb.KeyValue`:
//!
//! ```text
//! byte 0      1        4      8      16       24        32      40        44          48
//!      | kind | zero   | sub  | mod  | create | version | lease | key_len | value_len | kv ...
//!      | u8   | 3 B    | u32  | i64  | i64    | i64     | i64   | u32     | u32       |
//! ```
//!
//! The length of `kv` is the rest. All numbers are little-endian. A tombstone's `kv` is
//! `KeyValue{key, mod_revision}`: what a DELETE event shows.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{LeaseId, Revision, Sub};

const KIND_PUT: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const HEADER_BYTES: usize = 48;

/// Bytes that are no record, with what is wrong about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// One version of a key: its header as fields, its bytes final and shared.
#[derive(Clone)]
pub struct Record {
    /// Revision that made this version.
    pub revision: Revision,
    /// Order within that revision.
    pub sub: Sub,
    /// Revision at which this generation of the key began; 0 for a tombstone.
    pub create: Revision,
    /// Changes since creation, from 1; 0 for a tombstone.
    pub version: i64,
    /// Attached lease, `LeaseId::NONE` for none.
    pub lease: LeaseId,
    tombstone: bool,
    key_len: u32,
    value_len: u32,
    crc: u32,
    log: Bytes,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Record({:?} at {}.{} create {} version {} lease {}{})",
            String::from_utf8_lossy(self.key()),
            self.revision,
            self.sub,
            self.create,
            self.version,
            self.lease,
            if self.tombstone { " tombstone" } else { "" }
        )
    }
}

/// What a change did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The key did not exist before.
    Created,
    /// It was live before and after.
    Updated,
    /// It was live before.
    Deleted,
}

/// What the header of a log form tells by itself; see [`Record::head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Revision that made the version.
    pub revision: Revision,
    /// Order within that revision.
    pub sub: Sub,
    /// Whether the version is a deletion.
    pub is_tombstone: bool,
    /// The lease that it is on.
    pub lease: LeaseId,
    /// Bytes of the encoded `KeyValue`.
    pub kv_len: usize,
    /// Bytes of the log form.
    pub log_len: usize,
}

/// What a put sets; see [`Record::put`].
#[derive(Clone, Copy, Debug)]
pub struct PutFields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value.
    pub value: &'a [u8],
    /// Revision of the put.
    pub revision: Revision,
    /// Order within the revision.
    pub sub: Sub,
    /// Revision at which the key was created; `revision` itself for a new key.
    pub create: Revision,
    /// 1 for a new key, else one more than before.
    pub version: i64,
    /// Attached lease.
    pub lease: LeaseId,
}

impl Record {
    /// Encodes a put. The one place where a `KeyValue` is made.
    #[must_use]
    pub fn put(fields: PutFields<'_>) -> Record {
        let PutFields { key, value, revision, sub, create, version, lease } = fields;
        // Exactly as long as it gets: every version that is kept would keep the slack, too.
        let ints =
            [create.0, revision.0, version, lease.0].map(int_field_len).iter().sum::<usize>();
        let bytes = bytes_field_len(key.len()) + bytes_field_len(value.len());
        let mut log = BytesMut::with_capacity(HEADER_BYTES + ints + bytes);
        put_header(&mut log, KIND_PUT, sub, revision, create, version, lease, key, value);
        put_bytes_field(&mut log, 1, key);
        put_int_field(&mut log, 2, create.0);
        put_int_field(&mut log, 3, revision.0);
        put_int_field(&mut log, 4, version);
        put_bytes_field(&mut log, 5, value);
        put_int_field(&mut log, 6, lease.0);
        Record::sealed(log.freeze(), false, fields)
    }

    /// A copy that shares no memory: who keeps a version must not keep all that it was read with.
    #[must_use]
    pub fn copied(&self) -> Record {
        Record { log: Bytes::copy_from_slice(&self.log), ..self.clone() }
    }

    /// What this version did to its key: a deletion is of a live key, and the first version of a
    /// generation says so.
    #[must_use]
    pub fn turn(&self) -> Turn {
        match (self.tombstone, self.version) {
            (true, _) => Turn::Deleted,
            (false, 1) => Turn::Created,
            (false, _) => Turn::Updated,
        }
    }

    /// The same version with an empty value, to be shown and never to be stored.
    #[must_use]
    pub fn without_value(&self) -> Record {
        Record::put(PutFields {
            key: self.key(),
            value: &[],
            revision: self.revision,
            sub: self.sub,
            create: self.create,
            version: self.version,
            lease: self.lease,
        })
    }

    /// Encodes the tombstone of `key`.
    #[must_use]
    pub fn tombstone(key: &[u8], revision: Revision, sub: Sub) -> Record {
        let fields = PutFields {
            key,
            value: &[],
            revision,
            sub,
            create: Revision(0),
            version: 0,
            lease: LeaseId::NONE,
        };
        let mut log = BytesMut::with_capacity(HEADER_BYTES + 24 + key.len());
        let lease = LeaseId::NONE;
        put_header(&mut log, KIND_TOMBSTONE, sub, revision, Revision(0), 0, lease, key, &[]);
        put_bytes_field(&mut log, 1, key);
        put_int_field(&mut log, 3, revision.0);
        Record::sealed(log.freeze(), true, fields)
    }

    fn sealed(log: Bytes, tombstone: bool, fields: PutFields<'_>) -> Record {
        Record {
            revision: fields.revision,
            sub: fields.sub,
            create: fields.create,
            version: fields.version,
            lease: fields.lease,
            tombstone,
            key_len: length_u32(fields.key),
            value_len: length_u32(fields.value),
            crc: crc32c::crc32c(&log),
            log,
        }
    }

    /// Reads the log form back.
    ///
    /// # Errors
    /// [`Malformed`] when the lengths do not fit the bytes or the kind is unknown.
    pub fn decode(log: Bytes) -> Result<Record, Malformed> {
        if log.len() < HEADER_BYTES {
            return Err(Malformed("a record shorter than its header"));
        }
        let mut head = &log[..HEADER_BYTES];
        let kind = head.get_u8();
        head.advance(3);
        let sub = Sub(head.get_u32_le());
        let revision = Revision(head.get_i64_le());
        let create = Revision(head.get_i64_le());
        let version = head.get_i64_le();
        let lease = LeaseId(head.get_i64_le());
        let key_len = head.get_u32_le();
        let value_len = head.get_u32_le();
        let tombstone = match kind {
            KIND_PUT => false,
            KIND_TOMBSTONE => true,
            _ => return Err(Malformed("a record of unknown kind")),
        };
        let crc = crc32c::crc32c(&log);
        let record = Record {
            revision,
            sub,
            create,
            version,
            lease,
            tombstone,
            key_len,
            value_len,
            crc,
            log,
        };
        let value_end = record.value_start() + value_len as usize;
        if HEADER_BYTES + value_end + int_field_len(lease.0) != record.log.len() {
            return Err(Malformed("a record whose lengths do not add up"));
        }
        Ok(record)
    }

    /// Looks at the header of a log form alone, behind which more may stand.
    ///
    /// # Errors
    /// [`Malformed`] when there is no header, the kind is unknown, or fewer bytes stand there than
    /// it says.
    pub fn head(bytes: &[u8]) -> Result<Head, Malformed> {
        let Some(mut head) = bytes.get(..HEADER_BYTES) else {
            return Err(Malformed("a record shorter than its header"));
        };
        let is_tombstone = match head.get_u8() {
            KIND_PUT => false,
            KIND_TOMBSTONE => true,
            _ => return Err(Malformed("a record of unknown kind")),
        };
        head.advance(3);
        let sub = Sub(head.get_u32_le());
        let ints = [head.get_i64_le(), head.get_i64_le(), head.get_i64_le(), head.get_i64_le()];
        let texts = [head.get_u32_le(), head.get_u32_le()];
        let kv_len = ints.map(int_field_len).iter().sum::<usize>()
            + texts.map(|len| bytes_field_len(len as usize)).iter().sum::<usize>();
        let log_len = HEADER_BYTES + kv_len;
        if log_len > bytes.len() {
            return Err(Malformed("a record shorter than it says"));
        }
        let (revision, lease) = (Revision(ints[0]), LeaseId(ints[3]));
        Ok(Head { revision, sub, is_tombstone, lease, kv_len, log_len })
    }

    /// Whether `log` starts as a record does; other effects have other kinds.
    #[must_use]
    pub fn is_record(log: &[u8]) -> bool {
        matches!(log.first(), Some(&(KIND_PUT | KIND_TOMBSTONE)))
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        let start = self.key_start();
        &self.log[start..start + self.key_len as usize]
    }

    /// The key as a slice that shares the record's memory.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        let start = self.key_start();
        self.log.slice(start..start + self.key_len as usize)
    }

    /// The value; empty for a tombstone.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let start = HEADER_BYTES + self.value_start();
        &self.log[start..start + self.value_len as usize]
    }

    /// Whether this version is a deletion.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.tombstone
    }

    /// The encoded `KeyValue`.
    #[must_use]
    pub fn kv(&self) -> &[u8] {
        &self.log[HEADER_BYTES..]
    }

    /// The encoded `KeyValue`, sharing the record's memory.
    #[must_use]
    pub fn kv_bytes(&self) -> Bytes {
        self.log.slice(HEADER_BYTES..)
    }

    /// The encoded `KeyValue` without value and lease: what a keys-only Range shows.
    #[must_use]
    pub fn kv_without_value(&self) -> &[u8] {
        let value_len = self.value_len as usize;
        let value_field = bytes_field_len(value_len) - value_len;
        &self.log[HEADER_BYTES..HEADER_BYTES + self.value_start() - value_field]
    }

    /// What HashKV feeds into its sum as the value: a tombstone counts as `KeyValue{key}`.
    #[must_use]
    pub fn hashed_value(&self) -> &[u8] {
        if self.tombstone {
            &self.log[HEADER_BYTES..self.key_start() + self.key_len as usize]
        } else {
            self.kv()
        }
    }

    /// The log form.
    #[must_use]
    pub fn log(&self) -> &Bytes {
        &self.log
    }

    /// CRC-32C of the log form.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Position of this version in history.
    #[must_use]
    pub fn at(&self) -> (Revision, Sub) {
        (self.revision, self.sub)
    }

    fn key_start(&self) -> usize {
        let key_len = self.key_len as usize;
        HEADER_BYTES + bytes_field_len(key_len) - key_len
    }

    /// Offset of the value's first byte within `kv`.
    fn value_start(&self) -> usize {
        let ints = [self.create.0, self.revision.0, self.version].map(int_field_len);
        let value_len = self.value_len as usize;
        let value_field = bytes_field_len(value_len) - value_len;
        bytes_field_len(self.key_len as usize) + ints.iter().sum::<usize>() + value_field
    }
}

#[expect(clippy::too_many_arguments, reason = "the header's eight fields, in their order")]
fn put_header(
    log: &mut BytesMut,
    kind: u8,
    sub: Sub,
    revision: Revision,
    create: Revision,
    version: i64,
    lease: LeaseId,
    key: &[u8],
    value: &[u8],
) {
    log.put_u8(kind);
    log.put_bytes(0, 3);
    log.put_u32_le(sub.0);
    log.put_i64_le(revision.0);
    log.put_i64_le(create.0);
    log.put_i64_le(version);
    log.put_i64_le(lease.0);
    log.put_u32_le(length_u32(key));
    log.put_u32_le(length_u32(value));
}

fn length_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and values are bounded by REQUEST_BYTES_MAX")
}

/// Bytes of `value` as a protobuf varint.
#[must_use]
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes of an integer field of a low number, as [`put_int_field`] writes it.
fn int_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

/// Bytes of a bytes field of a low number, as [`put_bytes_field`] writes it.
fn bytes_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

/// Appends `value` as a protobuf varint.
pub fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends an integer field; proto3 leaves zero out.
pub fn put_int_field(out: &mut BytesMut, field: u8, value: i64) {
    if value != 0 {
        out.put_u8(field << 3);
        put_varint(out, value as u64);
    }
}

/// Appends a bytes field; proto3 leaves empty out.
pub fn put_bytes_field(out: &mut BytesMut, field: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8((field << 3) | 2);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8], lease: i64) -> Record {
        Record::put(PutFields {
            key,
            value,
            revision: Revision(300),
            sub: Sub(2),
            create: Revision(17),
            version: 9,
            lease: LeaseId(lease),
        })
    }

    #[test]
    fn a_put_reads_back_with_every_field() {
        for (value, lease) in [(&b"value"[..], 0), (b"", 0), (b"", -5), (&[7u8; 3000][..], 1 << 40)]
        {
            let record = put(b"key", value, lease);
            let back = Record::decode(record.log().clone()).expect("own encoding");
            assert_eq!(back.key(), b"key");
            assert_eq!(back.key_bytes(), &b"key"[..]);
            assert_eq!(back.value(), value);
            assert_eq!((back.revision, back.sub), (Revision(300), Sub(2)));
            assert_eq!((back.create, back.version), (Revision(17), 9));
            assert_eq!(back.lease, LeaseId(lease));
            assert_eq!(back.crc(), record.crc());
            assert!(!back.is_tombstone());
            let head = Record::head(record.log()).expect("own encoding");
            assert_eq!((head.revision, head.sub), back.at());
            assert_eq!((head.is_tombstone, head.kv_len), (false, record.kv().len()));
        }
    }

    #[test]
    fn the_kv_is_the_protobuf_message() {
        use crate::wire::mvccpb::KeyValue;
        use prost::Message;
        let record = put(b"key", b"value", 5);
        let expected = KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 17,
            mod_revision: 300,
            version: 9,
            value: Bytes::from_static(b"value"),
            lease: 5,
        };
        assert_eq!(record.kv(), expected.encode_to_vec());
        let keys_only = KeyValue { value: Bytes::new(), lease: 0, ..expected.clone() };
        assert_eq!(record.kv_without_value(), keys_only.encode_to_vec());
        assert_eq!(put(b"key", b"", 0).kv_without_value(), keys_only.encode_to_vec());
    }

    #[test]
    fn a_tombstone_shows_key_and_revision_and_hashes_as_the_key_alone() {
        use crate::wire::mvccpb::KeyValue;
        use prost::Message;
        let record = Record::tombstone(b"key", Revision(4), Sub(1));
        let key_alone = KeyValue { key: Bytes::from_static(b"key"), ..KeyValue::default() };
        let shown = KeyValue { mod_revision: 4, ..key_alone.clone() };
        assert_eq!(record.kv(), shown.encode_to_vec());
        assert_eq!(record.hashed_value(), key_alone.encode_to_vec());
        let back = Record::decode(record.log().clone()).expect("own encoding");
        assert!(back.is_tombstone());
    }

    #[test]
    fn cut_or_grown_bytes_are_refused() {
        let log = put(b"key", b"value", 5).log().clone();
        for len in 0..log.len() {
            assert!(Record::decode(log.slice(..len)).is_err(), "{len}");
        }
        let mut longer = BytesMut::from(&log[..]);
        longer.put_u8(0);
        assert!(Record::decode(longer.freeze()).is_err());
    }
}
