//! The Maintenance service, as far as this build has it: Alarm, Status, Defragment, Hash, HashKV.

use bytes::Bytes;

use super::ETCD_STORAGE_VERSION;
use super::ETCD_VERSION;
use super::header::Header;
use super::kv::decode;
use super::message::{Message, generated};
use super::port::Settings;
use super::status::{Code, Status};
use crate::base::Revision;
use crate::base::effect::AlarmKind;
use crate::wire::call::{Request, StatusAnswer};
use crate::wire::etcdserverpb as pb;

pub(super) fn alarm(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let request: pb::AlarmRequest = decode(message)?;
    let action = pb::alarm_request::AlarmAction::try_from(request.action);
    if action.is_err() || pb::AlarmType::try_from(request.alarm).is_err() {
        return Err(Status::fixed(Code::InvalidArgument, "unknown alarm action or alarm type"));
    }
    Ok(Request::Alarm(request))
}

pub(super) fn status(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let _: pb::StatusRequest = decode(message)?;
    Ok(Request::Status)
}

pub(super) fn defragment(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let _: pb::DefragmentRequest = decode(message)?;
    Ok(Request::Defragment)
}

pub(super) fn hash(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let _: pb::HashRequest = decode(message)?;
    Ok(Request::Hash)
}

pub(super) fn hash_kv(message: Bytes, _: &Settings) -> Result<Request, Status> {
    let request: pb::HashKvRequest = decode(message)?;
    Ok(Request::HashKv(Revision(request.revision)))
}

fn alarm_type(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

/// An AlarmResponse.
#[must_use]
pub fn alarm_response(header: &Header, revision: Revision, list: &[(u64, AlarmKind)]) -> Message {
    let alarms = list
        .iter()
        .map(|(member_id, kind)| pb::AlarmMember {
            member_id: *member_id,
            alarm: alarm_type(*kind).into(),
        })
        .collect();
    generated(&pb::AlarmResponse { header: header.message(revision), alarms })
}

/// A StatusResponse.
#[must_use]
pub fn status_response(header: &Header, answer: &StatusAnswer) -> Message {
    let mut errors = Vec::new();
    if answer.leader == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    for (member, kind) in &answer.alarms {
        let name = alarm_type(*kind).as_str_name();
        errors.push(format!("memberID:{member} alarm:{name} "));
    }
    generated(&pb::StatusResponse {
        header: header.message(answer.revision),
        version: ETCD_VERSION.to_owned(),
        db_size: signed(answer.db_bytes),
        leader: answer.leader,
        raft_index: answer.index.0,
        raft_term: answer.term.0,
        raft_applied_index: answer.applied.0,
        errors,
        db_size_in_use: signed(answer.db_bytes_in_use),
        is_learner: false,
        storage_version: ETCD_STORAGE_VERSION.to_owned(),
        db_size_quota: answer.quota_bytes,
        downgrade_info: Some(pb::DowngradeInfo::default()),
    })
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A DefragmentResponse: nothing at all.
#[must_use]
pub fn defragment_response() -> Message {
    generated(&pb::DefragmentResponse::default())
}

/// A HashResponse.
#[must_use]
pub fn hash_response(header: &Header, revision: Revision, hash: u32) -> Message {
    generated(&pb::HashResponse { header: header.message(revision), hash })
}

/// A HashKVResponse.
#[must_use]
pub fn hash_kv_response(
    header: &Header,
    revision: Revision,
    hash: u32,
    compact: Revision,
    hashed: Revision,
) -> Message {
    generated(&pb::HashKvResponse {
        header: header.message(revision),
        hash,
        compact_revision: compact.0,
        hash_revision: hashed.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Term;
    use prost::Message as _;

    #[test]
    fn status_lists_what_is_wrong_in_the_words_of_etcd() {
        let header = Header::new(&Settings::default(), Term(1));
        let answer = StatusAnswer {
            revision: Revision(4),
            db_bytes: u64::MAX,
            alarms: vec![(10, AlarmKind::NoSpace), (11, AlarmKind::Corrupt)],
            ..StatusAnswer::default()
        };
        let body = status_response(&header, &answer).take(usize::MAX).slice(5..);
        let response = pb::StatusResponse::decode(body).expect("a response");
        let expected =
            ["etcdserver: no leader", "memberID:10 alarm:NOSPACE ", "memberID:11 alarm:CORRUPT "];
        assert_eq!(response.errors, expected);
        assert_eq!(response.db_size, i64::MAX);
        assert_eq!(response.version, ETCD_VERSION);
    }

    #[test]
    fn alarms_of_unknown_kind_are_refused() {
        for (action, kind, ok) in [(0, 0, true), (2, 2, true), (3, 0, false), (1, 3, false)] {
            let request = pb::AlarmRequest { action, member_id: 1, alarm: kind };
            let result = alarm(request.encode_to_vec().into(), &Settings::default());
            assert_eq!(result.is_ok(), ok, "{action} {kind}");
        }
    }
}
