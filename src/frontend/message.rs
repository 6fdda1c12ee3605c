//! An answer on its way out: a gRPC message with its length first, then its bytes.
//!
//! A small one is one piece of memory. A large one is a list of pieces that refer to shared
//! records and events; it is written slice by slice and never exists as one buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::PREFIX_BYTES;
use crate::base::limits::BULK_SLICE_BYTES;
use crate::base::record::{Record, put_bytes_field, put_int_field, put_varint, varint_len};

/// The largest message that gRPC's clients take, with its prefix.
pub const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// A gRPC message to be written.
#[derive(Debug)]
pub enum Message {
    /// All of it.
    Small(Bytes),
    /// Pieces in order.
    Bulk(Bulk),
}

/// A large message.
#[derive(Debug)]
pub struct Bulk {
    remaining: usize,
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    Records(Records),
}

/// Records as a repeated field.
#[derive(Debug)]
struct Records {
    field: u8,
    keys_only: bool,
    records: std::vec::IntoIter<Arc<Record>>,
}

impl Message {
    /// Bytes left to write.
    #[must_use]
    pub fn remaining(&self) -> usize {
        match self {
            Message::Small(bytes) => bytes.len(),
            Message::Bulk(bulk) => bulk.remaining,
        }
    }

    /// Whether it goes before bulk data.
    #[must_use]
    pub fn is_small(&self) -> bool {
        matches!(self, Message::Small(_))
    }

    /// The next `bytes_max` bytes, or what is left.
    pub fn take(&mut self, bytes_max: usize) -> Bytes {
        match self {
            Message::Small(bytes) => bytes.split_to(bytes_max.min(bytes.len())),
            Message::Bulk(bulk) => bulk.take(bytes_max),
        }
    }
}

impl Bulk {
    fn take(&mut self, bytes_max: usize) -> Bytes {
        let goal = bytes_max.min(self.remaining);
        let mut out = BytesMut::with_capacity(goal);
        while out.len() < goal {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            let room = goal - out.len();
            match piece {
                Piece::Bytes(bytes) => {
                    out.put_slice(&bytes.split_to(room.min(bytes.len())));
                    if bytes.is_empty() {
                        self.pieces.pop_front();
                    }
                }
                Piece::Records(list) => {
                    if let Some(rest) = list.fill(&mut out, goal) {
                        self.pieces.push_front(Piece::Bytes(rest));
                    } else if list.records.len() == 0 {
                        self.pieces.pop_front();
                    }
                }
            }
        }
        assert_eq!(out.len(), goal, "a message is as long as it said it was");
        self.remaining -= goal;
        out.freeze()
    }
}

impl Records {
    /// Writes records until `out` holds `goal` bytes. What of the last one did not fit is given
    /// back, sharing the record's memory.
    fn fill(&mut self, out: &mut BytesMut, goal: usize) -> Option<Bytes> {
        while out.len() < goal {
            let record = self.records.next()?;
            let kv = shown(&record, self.keys_only);
            if out.len() + field_len(kv.len()) <= goal {
                put_head(out, self.field, kv.len());
                out.put_slice(kv);
                continue;
            }
            let mut rest = BytesMut::with_capacity(16);
            put_head(&mut rest, self.field, kv.len());
            if rest.len() + out.len() <= goal {
                // The rest of the record's own bytes follow without a copy.
                out.put_slice(&rest);
                let room = goal - out.len();
                out.put_slice(&kv[..room]);
                return Some(record.kv_bytes().slice(room..kv.len()));
            }
            rest.put_slice(kv);
            let mut rest = rest.freeze();
            out.put_slice(&rest.split_to(goal - out.len()));
            return Some(rest);
        }
        None
    }
}

fn shown(record: &Record, keys_only: bool) -> &[u8] {
    if keys_only { record.kv_without_value() } else { record.kv() }
}

/// Bytes of a field of `len` bytes with its tag and length.
#[must_use]
pub fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Bytes of an integer field; zero is left out.
#[must_use]
pub fn int_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Bytes of a bytes field; empty is left out.
#[must_use]
pub fn bytes_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { field_len(value.len()) }
}

/// Bytes of records as a repeated field.
#[must_use]
pub fn records_len(records: &[Arc<Record>], keys_only: bool) -> usize {
    records.iter().map(|record| field_len(shown(record, keys_only).len())).sum()
}

fn put_head(out: &mut BytesMut, field: u8, len: usize) {
    out.put_u8((field << 3) | 2);
    put_varint(out, len as u64);
}

/// Writes one message whose length is known.
#[derive(Debug)]
pub struct Writer {
    out: BytesMut,
    total: usize,
    pieces: VecDeque<Piece>,
}

impl Writer {
    /// A writer for a message of `len` bytes.
    #[must_use]
    pub fn new(len: usize) -> Writer {
        let total = PREFIX_BYTES + len;
        let mut out = BytesMut::with_capacity(total.min(BULK_SLICE_BYTES));
        out.put_u8(0);
        // A length that does not fit is refused where the message is queued.
        out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        Writer { out, total, pieces: VecDeque::new() }
    }

    fn is_bulk(&self) -> bool {
        self.total > BULK_SLICE_BYTES
    }

    /// An integer field; zero is left out.
    pub fn int(&mut self, field: u8, value: i64) {
        put_int_field(&mut self.out, field, value);
    }

    /// A boolean field; false is left out.
    pub fn flag(&mut self, field: u8, value: bool) {
        put_int_field(&mut self.out, field, i64::from(value));
    }

    /// A bytes field; empty is left out.
    pub fn bytes(&mut self, field: u8, value: &[u8]) {
        put_bytes_field(&mut self.out, field, value);
    }

    /// The tag and length of an embedded message of `len` bytes; its fields come next.
    pub fn embedded(&mut self, field: u8, len: usize) {
        put_head(&mut self.out, field, len);
    }

    /// Bytes that are whole fields already.
    pub fn raw(&mut self, fields: &[u8]) {
        self.out.put_slice(fields);
    }

    /// Shared bytes that are whole fields already.
    pub fn shared(&mut self, fields: Bytes) {
        if self.is_bulk() && fields.len() > 1024 {
            self.cut();
            self.pieces.push_back(Piece::Bytes(fields));
        } else {
            self.out.put_slice(&fields);
        }
    }

    /// Records as a repeated field.
    pub fn records(&mut self, field: u8, records: Vec<Arc<Record>>, keys_only: bool) {
        let mut list = Records { field, keys_only, records: records.into_iter() };
        if self.is_bulk() {
            self.cut();
            self.pieces.push_back(Piece::Records(list));
        } else {
            let rest = list.fill(&mut self.out, self.total);
            assert!(rest.is_none(), "a small message holds all of its records");
        }
    }

    fn cut(&mut self) {
        if !self.out.is_empty() {
            self.pieces.push_back(Piece::Bytes(self.out.split().freeze()));
        }
    }

    /// The message.
    #[must_use]
    pub fn finish(mut self) -> Message {
        if !self.is_bulk() {
            assert_eq!(self.out.len(), self.total, "a message is as long as it said it was");
            return Message::Small(self.out.freeze());
        }
        self.cut();
        Message::Bulk(Bulk { remaining: self.total, pieces: self.pieces })
    }
}

/// A message of the generated kind. For answers that are rare or short.
#[must_use]
pub fn generated(message: &impl prost::Message) -> Message {
    let len = message.encoded_len();
    let mut writer = Writer::new(len);
    if writer.is_bulk() {
        writer.cut();
        writer.pieces.push_back(Piece::Bytes(message.encode_to_vec().into()));
    } else {
        writer.raw(&message.encode_to_vec());
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::record::PutFields;
    use crate::base::{LeaseId, Revision, Sub};
    use crate::wire::etcdserverpb as pb;
    use prost::Message as _;

    fn records(sizes: &[usize]) -> Vec<Arc<Record>> {
        let record = |(index, size): (usize, &usize)| {
            Arc::new(Record::put(PutFields {
                key: format!("key-{index:06}").as_bytes(),
                value: &vec![b'v'; *size],
                revision: Revision(7),
                sub: Sub(0),
                create: Revision(7),
                version: 1,
                lease: LeaseId(9),
            }))
        };
        sizes.iter().enumerate().map(record).collect()
    }

    fn message(records: &[Arc<Record>], keys_only: bool) -> Message {
        let len = records_len(records, keys_only) + int_len(5);
        let mut writer = Writer::new(len);
        writer.records(2, records.to_vec(), keys_only);
        writer.int(4, 5);
        writer.finish()
    }

    /// Writes it out in slices of at most `slice` bytes and reads it back.
    fn read_back(mut message: Message, slice: usize) -> pb::RangeResponse {
        let mut out = BytesMut::new();
        while message.remaining() > 0 {
            let bytes = message.take(slice);
            assert!(!bytes.is_empty() && bytes.len() <= slice);
            out.put_slice(&bytes);
        }
        let body = out.split_off(PREFIX_BYTES);
        assert_eq!(out[0], 0);
        assert_eq!(u32::from_be_bytes(out[1..].try_into().unwrap()) as usize, body.len());
        pb::RangeResponse::decode(body.freeze()).expect("a message")
    }

    #[test]
    fn slices_of_any_size_add_up_to_the_message() {
        let sizes: Vec<usize> = (0..400).map(|index| index * 7 % 1500).collect();
        let list = records(&sizes);
        for keys_only in [false, true] {
            let message = || message(&list, keys_only);
            assert_eq!(message().is_small(), keys_only, "the sizes are chosen so");
            for slice in [1, 2, 3, 17, 1000, 1 << 16, 1 << 20] {
                let response = read_back(message(), slice);
                assert_eq!((response.kvs.len(), response.count), (list.len(), 5));
                for (kv, record) in response.kvs.iter().zip(&list) {
                    let (value, lease) =
                        if keys_only { (&b""[..], 0) } else { (record.value(), 9) };
                    assert_eq!((&kv.key[..], &kv.value[..]), (record.key(), value));
                    assert_eq!(kv.lease, lease);
                }
            }
        }
    }

    #[test]
    fn a_generated_message_of_any_size_is_the_same_bytes() {
        for keys in [0, 3, 20_000] {
            let message = pb::LeaseTimeToLiveResponse {
                keys: (0..keys).map(|i| Bytes::from(format!("key-{i}"))).collect(),
                ..Default::default()
            };
            let mut out = generated(&message);
            let bytes = out.take(usize::MAX);
            assert_eq!(bytes[PREFIX_BYTES..], message.encode_to_vec());
        }
    }
}
