//! The KV service: Range, Put, DeleteRange, Txn, Compact.

use std::sync::Arc;

use bytes::Bytes;

use super::check;
use super::header::Header;
use super::message::{Message, Writer, field_len, int_len, records_len};
use super::port::Settings;
use super::status::Status;
use crate::base::Revision;
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::wire::call::{DeleteRangeAnswer, OpAnswer, PutAnswer, RangeAnswer, Request, TxnAnswer};
use crate::wire::etcdserverpb as pb;

/// Bytes that etcd's raft request adds to a write: its header, the field's tag and length.
const RAFT_REQUEST_BYTES: usize = 2 + 1 + 11 + 1 + 4;

/// Decodes a message of the client.
///
/// # Errors
/// The status that says what is wrong with the bytes.
pub fn decode<M: prost::Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::undecodable(&error))
}

/// Refuses a write that is larger than a write may be.
///
/// # Errors
/// [`Reject::RequestTooLarge`].
pub fn check_size(bytes: usize, settings: &Settings) -> Result<(), Reject> {
    if bytes + RAFT_REQUEST_BYTES > settings.request_bytes_max {
        return Err(Reject::RequestTooLarge);
    }
    Ok(())
}

pub(super) fn range(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let mut request: pb::RangeRequest = decode(message)?;
    check::range(&mut request)?;
    Ok(Request::Range(request))
}

pub(super) fn put(message: Bytes, settings: &Settings) -> Result<Request, Status> {
    let bytes = message.len();
    let request: pb::PutRequest = decode(message)?;
    check::put(&request)?;
    check_size(bytes, settings)?;
    Ok(Request::Put(request))
}

pub(super) fn delete_range(message: Bytes, settings: &Settings) -> Result<Request, Status> {
    let bytes = message.len();
    let request: pb::DeleteRangeRequest = decode(message)?;
    check::delete_range(&request)?;
    check_size(bytes, settings)?;
    Ok(Request::DeleteRange(request))
}

pub(super) fn txn(message: Bytes, settings: &Settings) -> Result<Request, Status> {
    let bytes = message.len();
    let mut request: pb::TxnRequest = decode(message)?;
    check::txn(&mut request, settings.txn_ops_max)?;
    if !check::is_read_only(&request) {
        check_size(bytes, settings)?;
    }
    Ok(Request::Txn(request))
}

pub(super) fn compact(message: Bytes, _: &Settings) -> Result<Request, Status> {
    Ok(Request::Compact(decode(message)?))
}

// --- answers ------------------------------------------------------------------------------

/// The header alone: what Compact and LeaseRevoke answer.
#[must_use]
pub fn header_alone(header: &Header, revision: Revision) -> Message {
    let header = header.at(revision);
    let mut writer = Writer::new(header.field_len());
    header.write(&mut writer);
    writer.finish()
}

/// A RangeResponse.
#[must_use]
pub fn range_response(header: &Header, answer: RangeAnswer) -> Message {
    let header = header.at(answer.revision);
    let mut writer = Writer::new(header.field_len() + range_len(&answer));
    header.write(&mut writer);
    write_range(&mut writer, answer);
    writer.finish()
}

/// Bytes of a RangeResponse without its header.
pub(super) fn range_len(answer: &RangeAnswer) -> usize {
    records_len(&answer.records, answer.keys_only)
        + int_len(u64::from(answer.more))
        + int_len(answer.count)
}

/// The fields of a RangeResponse behind its header.
pub(super) fn write_range(writer: &mut Writer, answer: RangeAnswer) {
    writer.records(2, answer.records, answer.keys_only);
    writer.flag(3, answer.more);
    writer.int(4, answer.count as i64);
}

/// A PutResponse.
#[must_use]
pub fn put_response(header: &Header, answer: PutAnswer) -> Message {
    let header = header.at(answer.revision);
    let mut writer = Writer::new(header.field_len() + previous_len(answer.previous.as_ref()));
    header.write(&mut writer);
    write_previous(&mut writer, answer.previous);
    writer.finish()
}

fn previous_len(previous: Option<&Arc<Record>>) -> usize {
    previous.map_or(0, |record| field_len(record.kv().len()))
}

fn write_previous(writer: &mut Writer, previous: Option<Arc<Record>>) {
    if let Some(record) = previous {
        writer.records(2, vec![record], false);
    }
}

/// A DeleteRangeResponse.
#[must_use]
pub fn delete_range_response(header: &Header, answer: DeleteRangeAnswer) -> Message {
    let header = header.at(answer.revision);
    let mut writer = Writer::new(header.field_len() + delete_range_len(&answer));
    header.write(&mut writer);
    write_delete_range(&mut writer, answer);
    writer.finish()
}

fn delete_range_len(answer: &DeleteRangeAnswer) -> usize {
    int_len(answer.deleted) + records_len(&answer.previous, false)
}

fn write_delete_range(writer: &mut Writer, answer: DeleteRangeAnswer) {
    writer.int(2, answer.deleted as i64);
    writer.records(3, answer.previous, false);
}

/// A TxnResponse.
#[must_use]
pub fn txn_response(header: &Header, answer: TxnAnswer) -> Message {
    // Lengths stand before what they measure: one pass measures all, a second one writes.
    let mut lens = Vec::with_capacity(2 * answer.ops.len());
    let header = header.at(answer.revision);
    let len = header.field_len() + measure_txn(&answer, &mut lens);
    let mut lens = lens.into_iter();
    let mut writer = Writer::new(len);
    header.write(&mut writer);
    write_txn(&mut writer, answer, &mut lens);
    writer.finish()
}

/// Bytes of a header that holds nothing but a revision, as the operations of a txn have it.
fn op_header_len(revision: Revision) -> usize {
    field_len(int_len(revision.0 as u64))
}

fn write_op_header(writer: &mut Writer, revision: Revision) {
    writer.embedded(1, int_len(revision.0 as u64));
    writer.int(3, revision.0);
}

/// Bytes of a TxnResponse without its header. For each operation the lengths of the operation
/// and of the response in it go to `lens`, in the order in which they are written.
fn measure_txn(answer: &TxnAnswer, lens: &mut Vec<usize>) -> usize {
    let mut total = int_len(u64::from(answer.succeeded));
    for op in &answer.ops {
        let at = lens.len();
        lens.push(0);
        let len = match op {
            OpAnswer::Range(range) => op_header_len(range.revision) + range_len(range),
            OpAnswer::Put(put) => op_header_len(put.revision) + previous_len(put.previous.as_ref()),
            OpAnswer::DeleteRange(delete) => {
                op_header_len(delete.revision) + delete_range_len(delete)
            }
            OpAnswer::Txn(nested) => field_len(0) + measure_txn(nested, lens),
        };
        lens[at] = len;
        total += field_len(field_len(len));
    }
    total
}

fn write_txn(writer: &mut Writer, answer: TxnAnswer, lens: &mut std::vec::IntoIter<usize>) {
    writer.flag(2, answer.succeeded);
    for op in answer.ops {
        let len = lens.next().expect("every operation was measured");
        writer.embedded(3, field_len(len));
        match op {
            OpAnswer::Range(range) => {
                writer.embedded(1, len);
                write_op_header(writer, range.revision);
                write_range(writer, range);
            }
            OpAnswer::Put(put) => {
                writer.embedded(2, len);
                write_op_header(writer, put.revision);
                write_previous(writer, put.previous);
            }
            OpAnswer::DeleteRange(delete) => {
                writer.embedded(3, len);
                write_op_header(writer, delete.revision);
                write_delete_range(writer, delete);
            }
            OpAnswer::Txn(nested) => {
                writer.embedded(4, len);
                writer.embedded(1, 0);
                write_txn(writer, nested, lens);
            }
        }
    }
}

#[cfg(test)]
mod tests;
