//! Compares of a transaction.

use std::cmp::Ordering;

use super::{Missing, View};
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::wire::etcdserverpb::Compare;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Whether the compare holds for every key of its range. An absent key compares as zeros, but
/// for its value, for which no compare holds.
pub(super) fn holds(view: &impl View, compare: &Compare) -> Result<bool, Missing> {
    if compare.range_end.is_empty() {
        let newest = view.newest(&compare.key)?;
        return Ok(one_holds(newest.as_deref(), compare));
    }
    let range = KeyRange::from_request(compare.key.clone(), compare.range_end.clone());
    let page = view.range(&range, 0)?;
    if page.records.is_empty() {
        return Ok(one_holds(None, compare));
    }
    Ok(page.records.iter().all(|record| one_holds(Some(record), compare)))
}

fn one_holds(record: Option<&Record>, compare: &Compare) -> bool {
    let (Ok(kind), Ok(result)) =
        (CompareTarget::try_from(compare.target), CompareResult::try_from(compare.result))
    else {
        return unknown_holds(compare);
    };
    let target = compare.target_union.as_ref();
    let ordering = match kind {
        CompareTarget::Value => {
            let Some(record) = record else { return false };
            let wanted = match target {
                Some(TargetUnion::Value(value)) => &value[..],
                _ => &[],
            };
            record.value().cmp(wanted)
        }
        CompareTarget::Version => {
            let wanted = match target {
                Some(TargetUnion::Version(version)) => *version,
                _ => 0,
            };
            record.map_or(0, |record| record.version).cmp(&wanted)
        }
        CompareTarget::Create => {
            let wanted = match target {
                Some(TargetUnion::CreateRevision(revision)) => *revision,
                _ => 0,
            };
            record.map_or(0, |record| record.create.0).cmp(&wanted)
        }
        CompareTarget::Mod => {
            let wanted = match target {
                Some(TargetUnion::ModRevision(revision)) => *revision,
                _ => 0,
            };
            record.map_or(0, |record| record.revision.0).cmp(&wanted)
        }
        CompareTarget::Lease => {
            let wanted = match target {
                Some(TargetUnion::Lease(lease)) => *lease,
                _ => 0,
            };
            record.map_or(0, |record| record.lease.0).cmp(&wanted)
        }
    };
    match result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

/// As etcd judges what it does not know: an unknown result always holds, an unknown target is
/// always equal.
fn unknown_holds(compare: &Compare) -> bool {
    !matches!(
        CompareResult::try_from(compare.result),
        Ok(CompareResult::NotEqual | CompareResult::Greater | CompareResult::Less)
    )
}
