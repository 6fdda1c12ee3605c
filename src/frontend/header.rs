//! The ResponseHeader: which cluster and member answers, at which revision and term.

use super::message::{Writer, field_len, int_len};
use super::port::Settings;
use crate::base::{Revision, Term};
use crate::wire::etcdserverpb as pb;

/// A header without its revision.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    cluster_id: u64,
    member_id: u64,
    term: Term,
}

/// A header with its revision, measured.
#[derive(Clone, Copy, Debug)]
pub struct HeaderAt {
    header: Header,
    revision: Revision,
    len: usize,
}

impl Header {
    /// The header of this member in `term`.
    #[must_use]
    pub fn new(settings: &Settings, term: Term) -> Header {
        Header { cluster_id: settings.cluster_id, member_id: settings.member_id, term }
    }

    /// The header at `revision`; 0 leaves it out.
    #[must_use]
    pub fn at(&self, revision: Revision) -> HeaderAt {
        let len = int_len(self.cluster_id)
            + int_len(self.member_id)
            + int_len(revision.0 as u64)
            + int_len(self.term.0);
        HeaderAt { header: *self, revision, len }
    }

    /// The generated message, for answers that are generated.
    #[must_use]
    pub fn message(&self, revision: Revision) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: revision.0,
            raft_term: self.term.0,
        })
    }
}

impl HeaderAt {
    /// Bytes of the header as field 1 of an answer.
    #[must_use]
    pub fn field_len(&self) -> usize {
        field_len(self.len)
    }

    /// Writes it as field 1.
    pub fn write(&self, writer: &mut Writer) {
        writer.embedded(1, self.len);
        writer.int(1, self.header.cluster_id as i64);
        writer.int(2, self.header.member_id as i64);
        writer.int(3, self.revision.0);
        writer.int(4, self.header.term.0 as i64);
    }
}
