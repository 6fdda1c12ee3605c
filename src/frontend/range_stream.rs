//! RangeStream: a Range whose answer comes in chunks, all as of one revision. Each chunk is an
//! ordinary Range, asked for when the one before has left, so a slow client holds one chunk.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::kv::{decode, range_len, write_range};
use super::machine::{Actions, Machine, Sub};
use super::message::{Message, Writer, field_len};
use super::status::{Code, Status};
use super::{check, header::Header};
use crate::base::Revision;
use crate::base::limits::RANGE_STREAM_FIRST_KEYS;
use crate::base::record::Record;
use crate::wire::call::{Answer, RangeAnswer, Reply, Request};
use crate::wire::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

const CHUNK: Sub = Sub(0);

/// One RangeStream call.
#[derive(Debug, Default)]
pub struct RangeStream {
    /// What is still to be read; its limit is the client's, 0 for none.
    rest: pb::RangeRequest,
    /// Keys to ask for next.
    chunk_keys: i64,
    /// The store's revision at the first chunk.
    revision: Option<Revision>,
    streamed: u64,
    /// A chunk has come and more are wanted.
    is_between_chunks: bool,
}

impl RangeStream {
    /// A call that has yet to be asked for something.
    #[must_use]
    pub fn new() -> RangeStream {
        RangeStream { chunk_keys: RANGE_STREAM_FIRST_KEYS, ..RangeStream::default() }
    }

    fn start(&mut self, message: Bytes) -> Result<(), Status> {
        let mut request: pb::RangeRequest = decode(message)?;
        check::range(&mut request)?;
        if has_custom_order(&request) {
            let text = "RangeStream does not support custom sort orders";
            return Err(Status::fixed(Code::Unimplemented, text));
        }
        if has_revision_filter(&request) {
            let text = "RangeStream does not support revision filters";
            return Err(Status::fixed(Code::Unimplemented, text));
        }
        self.rest = request;
        Ok(())
    }

    fn ask(&mut self, out: &mut Actions<'_>) {
        self.is_between_chunks = false;
        let mut request = self.rest.clone();
        // The chunks have to follow each other by key.
        request.set_sort_target(SortTarget::Key);
        if !request.count_only {
            let limit = request.limit;
            request.limit = if limit == 0 { self.chunk_keys } else { self.chunk_keys.min(limit) };
        }
        out.submit(CHUNK, Request::Range(request));
    }

    fn take(&mut self, mut answer: RangeAnswer, out: &mut Actions<'_>) {
        let revision = *self.revision.get_or_insert(answer.revision);
        let keys = answer.records.len() as u64;
        let mut left = 0;
        if self.rest.limit > 0 {
            left = self.rest.limit - i64::try_from(keys).unwrap_or(i64::MAX);
        }
        let is_limited = self.rest.limit > 0 && left <= 0;
        let last_key = answer.records.last().map(|record| record.key_bytes());
        sort_chunk(&mut answer.records, self.rest.sort_target());
        let (Some(last_key), true, false) = (last_key, answer.more, is_limited) else {
            let count = self.streamed + answer.count;
            let whole = RangeAnswer { revision, count, ..answer };
            out.finish(chunk(Some(&out.header), whole));
            return;
        };
        self.streamed += keys;
        self.rest.limit = left;
        self.rest.key = successor(&last_key);
        if self.rest.revision <= 0 {
            self.rest.revision = revision.0;
        }
        // What was read at the first chunk's revision stays true: no further round is needed.
        self.rest.serializable = true;
        let part = RangeAnswer { more: false, count: 0, ..answer };
        let message = chunk(None, part);
        self.resize(message.remaining(), out.settings.request_bytes_max);
        self.is_between_chunks = true;
        out.respond(message);
    }

    /// Chunks grow or shrink towards the size of the largest request.
    fn resize(&mut self, bytes: usize, target_bytes: usize) {
        if bytes < target_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > target_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

impl Machine for RangeStream {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        match self.start(message) {
            Ok(()) => self.ask(out),
            Err(status) => out.end(status),
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        match reply {
            Ok(Answer::Range(answer)) => self.take(answer, out),
            Ok(_) => unreachable!("a Range is answered by a Range"),
            Err(reject) => out.end(reject.into()),
        }
    }

    fn on_drained(&mut self, out: &mut Actions<'_>) {
        if self.is_between_chunks {
            self.ask(out);
        }
    }
}

/// An order other than that in which keys come anyway. A target without an order is none: it
/// sorts within a chunk, as it sorts within a page of a Range.
fn has_custom_order(request: &pb::RangeRequest) -> bool {
    let by_key = request.sort_target() == SortTarget::Key;
    match request.sort_order() {
        SortOrder::None => false,
        SortOrder::Ascend => !by_key,
        SortOrder::Descend => true,
    }
}

fn sort_chunk(records: &mut [Arc<Record>], target: SortTarget) {
    match target {
        SortTarget::Key => {}
        SortTarget::Version => records.sort_by_key(|record| record.version),
        SortTarget::Create => records.sort_by_key(|record| record.create),
        SortTarget::Mod => records.sort_by_key(|record| record.revision),
        SortTarget::Value => records.sort_by(|a, b| a.value().cmp(b.value())),
    }
}

fn has_revision_filter(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// The key right behind `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.extend_from_slice(&[0]);
    next.freeze()
}

/// A RangeStreamResponse: keys alone, or the last one with everything.
fn chunk(header: Option<&Header>, answer: RangeAnswer) -> Message {
    let header = header.map(|header| header.at(answer.revision));
    let len = header.map_or(0, |header| header.field_len()) + range_len(&answer);
    let mut writer = Writer::new(field_len(len));
    writer.embedded(1, len);
    if let Some(header) = header {
        header.write(&mut writer);
    }
    write_range(&mut writer, answer);
    writer.finish()
}

#[cfg(test)]
mod tests;
