//! The Cluster service, as far as this build has it: MemberList.

use bytes::Bytes;

use super::header::Header;
use super::kv::decode;
use super::message::{Message, generated};
use super::port::Settings;
use super::status::Status;
use crate::base::Revision;
use crate::wire::call::Request;
use crate::wire::etcdserverpb as pb;

pub(super) fn member_list(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let request: pb::MemberListRequest = decode(message)?;
    Ok(Request::MemberList { linearizable: request.linearizable })
}

/// A MemberListResponse; its header has no revision, as with all of this service.
#[must_use]
pub fn member_list_response(header: &Header, members: Vec<pb::Member>) -> Message {
    generated(&pb::MemberListResponse { header: header.message(Revision(0)), members })
}
