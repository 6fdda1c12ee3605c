//! Answers of the node as messages of the API.

use super::header::Header;
use super::message::Message;
use super::methods::DEFRAGMENT;
use super::{cluster, kv, lease, maintenance};
use crate::wire::call::Answer;

/// The message that answers a call of `method`.
#[must_use]
pub fn encode(method: usize, header: &Header, answer: Answer) -> Message {
    match answer {
        Answer::Range(answer) => kv::range_response(header, answer),
        Answer::Put(answer) => kv::put_response(header, answer),
        Answer::DeleteRange(answer) => kv::delete_range_response(header, answer),
        Answer::Txn(answer) => kv::txn_response(header, answer),
        Answer::Header(_) if method == DEFRAGMENT => maintenance::defragment_response(),
        Answer::Header(revision) | Answer::LeaseRevoke(revision) => {
            kv::header_alone(header, revision)
        }
        Answer::LeaseGrant { revision, id, ttl_s } => {
            lease::grant_response(header, revision, id, ttl_s)
        }
        Answer::LeaseKeepAlive { revision, id, ttl_s } => {
            lease::keep_alive_response(header, revision, id, ttl_s)
        }
        Answer::LeaseTimeToLive { revision, id, ttl_s, granted_s, keys } => {
            lease::time_to_live_response(header, revision, id, (ttl_s, granted_s), keys)
        }
        Answer::LeaseLeases { revision, ids } => lease::leases_response(header, revision, &ids),
        Answer::Alarm { revision, alarms } => {
            maintenance::alarm_response(header, revision, &alarms)
        }
        Answer::Status(answer) => maintenance::status_response(header, &answer),
        Answer::HashKv { revision, hash, compact, hashed } => {
            maintenance::hash_kv_response(header, revision, hash, compact, hashed)
        }
        Answer::Hash { revision, hash } => maintenance::hash_response(header, revision, hash),
        Answer::MemberList(members) => cluster::member_list_response(header, members),
    }
}
