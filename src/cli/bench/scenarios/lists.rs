//! Lists of everything below a prefix, in one of the ways that API servers have for it.

use super::prefix_end;
use crate::cli::bench::engine::{CallId, Io, Op};
use crate::cli::bench::recorder::SeriesId;
use crate::wire::client::Status;
use crate::wire::client::message::{Range, RangeAnswer, path};

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One answer of many messages.
    Stream,
    /// So many keys a request, at one revision.
    Pages(i64),
    /// One answer.
    Unary,
}

/// Kinds of operations: the whole list, and each request of it.
pub(super) const LIST: u32 = 101;
pub(super) const REQUEST: u32 = 102;

#[derive(Debug)]
struct Under {
    serial: u64,
    call: CallId,
    way: Way,
    link: usize,
    revision: i64,
    keys: u64,
    /// Where the next page begins, while there is one.
    next: Option<Vec<u8>>,
}

/// One thread's lists under way.
pub(super) struct Lists {
    prefix: Vec<u8>,
    expected: u64,
    requests: SeriesId,
    serial: u64,
    under: Vec<Under>,
}

impl Lists {
    pub(super) fn new(prefix: &str, expected: u64, requests: SeriesId) -> Lists {
        let prefix = prefix.as_bytes().to_vec();
        Lists { prefix, expected, requests, serial: 0, under: Vec::new() }
    }

    /// Begins a list on one connection; the next one goes to the next.
    pub(super) fn begin(&mut self, way: Way, link: Option<usize>, op: Op, io: &mut Io) {
        self.serial += 1;
        let serial = self.serial;
        let link = link.unwrap_or(serial as usize % io.links());
        let call = io.parts(Op { kind: LIST, key: serial, ..op });
        let (revision, keys, next) = (0, 0, None);
        self.under.push(Under { serial, call, way, link, revision, keys, next });
        self.ask(serial, io);
    }

    fn find(&mut self, serial: u64) -> Option<&mut Under> {
        self.under.iter_mut().find(|under| under.serial == serial)
    }

    fn ask(&mut self, serial: u64, io: &mut Io) {
        let (prefix, requests) = (self.prefix.clone(), self.requests);
        let Some(under) = self.find(serial) else { return };
        let begin = under.next.take().unwrap_or_else(|| prefix.clone());
        let range = Range {
            key: &begin,
            range_end: &prefix_end(&prefix),
            limit: if let Way::Pages(limit) = under.way { limit } else { 0 },
            revision: under.revision,
            ..Range::default()
        };
        let mut request = Vec::new();
        range.write(&mut request);
        let path = if under.way == Way::Stream { path::RANGE_STREAM } else { path::RANGE };
        let op = Op { series: requests, intended: io.now(), kind: REQUEST, key: serial };
        io.call_on(Some(under.link), op, path, &request);
    }

    /// A message of a request.
    pub(super) fn message(
        &mut self,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        let Some(under) = self.find(op.key) else { return Ok(()) };
        let read = match under.way {
            Way::Stream => RangeAnswer::read_streamed(message),
            Way::Pages(_) | Way::Unary => RangeAnswer::read(message),
        };
        let read = read.map_err(|_| "an answer that cannot be read")?;
        io.add_bytes(under.call, message.len() as u64);
        under.keys += read.keys;
        if under.revision == 0 {
            under.revision = read.revision;
        }
        let last = read.last.filter(|_| read.more && under.way != Way::Stream);
        under.next = last.map(|last| [last.key, &[0]].concat());
        Ok(())
    }

    /// A request or a whole list is over.
    pub(super) fn ended(&mut self, op: Op, status: &Status, io: &mut Io) {
        if op.kind == LIST {
            self.under.retain(|under| under.serial != op.key);
            return;
        }
        let expected = self.expected;
        let Some(under) = self.find(op.key) else { return };
        if status.is_ok() && under.next.is_some() {
            return self.ask(op.key, io);
        }
        let is_whole = under.keys == expected;
        let call = under.call;
        let cut = || Status::new(Status::UNKNOWN, "the list is not whole");
        let status = if status.is_ok() && !is_whole { cut() } else { status.clone() };
        io.finish(call, status);
    }
}
