//! Order and cut of a range, and what a compare says of one key.

use bytes::Bytes;

use super::Event;
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::mvccpb::KeyValue;

/// Applies limit, filters and order in etcd's way; true if there was more than the limit.
pub(super) fn order_and_cut(found: &mut Vec<&Event>, request: &pb::RangeRequest) -> bool {
    let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
    let (order, target) = (request.sort_order(), request.sort_target());
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let key_order_asked =
        order == SortOrder::None || (order == SortOrder::Ascend && target == SortTarget::Key);
    if key_order_asked && filters == [0; 4] {
        found.truncate(limit.saturating_add(1));
    }
    let [min_mod, max_mod, min_create, max_create] = filters;
    let version = |event: &Event| event.kv.clone().unwrap_or_default();
    found.retain(|event| max_mod == 0 || version(event).mod_revision <= max_mod);
    found.retain(|event| min_mod == 0 || version(event).mod_revision >= min_mod);
    found.retain(|event| max_create == 0 || version(event).create_revision <= max_create);
    found.retain(|event| min_create == 0 || version(event).create_revision >= min_create);
    let number = |event: &Event| match target {
        SortTarget::Version => version(event).version,
        SortTarget::Create => version(event).create_revision,
        SortTarget::Mod => version(event).mod_revision,
        SortTarget::Key | SortTarget::Value => 0,
    };
    // Sorting is stable, and leaves the keys of equal targets in order.
    match (target, order) {
        (SortTarget::Key, _) => {}
        (SortTarget::Value, SortOrder::Descend) => {
            found.sort_by_key(|event| std::cmp::Reverse(version(event).value));
        }
        (SortTarget::Value, _) => found.sort_by_key(|event| version(event).value),
        (_, SortOrder::Descend) => found.sort_by_key(|event| -number(event)),
        (_, _) => found.sort_by_key(|event| number(event)),
    }
    if target == SortTarget::Key && order == SortOrder::Descend {
        found.reverse();
    }
    let more = found.len() > limit;
    found.truncate(limit);
    more
}

pub(super) fn holds_for(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let number = |given: Option<i64>, actual: i64| actual.cmp(&given.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let ordering = match compare.target() {
        CompareTarget::Value => {
            let given = match union {
                Some(TargetUnion::Value(value)) => value.clone(),
                _ => Bytes::new(),
            };
            kv.value.cmp(&given)
        }
        CompareTarget::Version => {
            let given = union.and_then(|union| match union {
                TargetUnion::Version(version) => Some(*version),
                _ => None,
            });
            number(given, kv.version)
        }
        CompareTarget::Create => {
            let given = union.and_then(|union| match union {
                TargetUnion::CreateRevision(revision) => Some(*revision),
                _ => None,
            });
            number(given, kv.create_revision)
        }
        CompareTarget::Mod => {
            let given = union.and_then(|union| match union {
                TargetUnion::ModRevision(revision) => Some(*revision),
                _ => None,
            });
            number(given, kv.mod_revision)
        }
        CompareTarget::Lease => {
            let given = union.and_then(|union| match union {
                TargetUnion::Lease(lease) => Some(*lease),
                _ => None,
            });
            number(given, kv.lease)
        }
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}
