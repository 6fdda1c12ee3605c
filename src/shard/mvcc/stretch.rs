//! A stretch of history for watchers that catch up.

use std::sync::Arc;

use crate::base::Revision;
use crate::base::change::{Change, Stretch};
use crate::base::limits::STRETCH_CHANGES_MAX;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::shard::memtable::{Memtable, Versions};

/// The changes of `range` above `after` and not above `upto`, in order, each with the key's
/// version below its revision. The shard has applied `upto`.
///
/// It ends early, at the end of a revision, when it holds `bytes_max` of records or has looked
/// at as many changes as one call may; `reached` says where. Below the compact revision nothing
/// is readable any more, so a change at the compact revision has no previous version.
#[must_use]
pub fn stretch(
    table: &Memtable,
    range: &KeyRange,
    after: Revision,
    upto: Revision,
    bytes_max: usize,
) -> Stretch {
    stretch_within(table, range, after, upto, (bytes_max, STRETCH_CHANGES_MAX))
}

/// As [`stretch`], with its bounds: bytes of records, and changes to look at.
pub(super) fn stretch_within(
    table: &Memtable,
    range: &KeyRange,
    after: Revision,
    upto: Revision,
    (bytes_max, changes_max): (usize, usize),
) -> Stretch {
    if upto <= after || range.is_empty() {
        return Stretch { reached: upto.max(after), changes: Vec::new() };
    }
    let collect = Collect { compact: table.compact_revision(), upto, bytes_max, changes_max };
    if let Some(key) = range.as_single() {
        let versions = table.versions_of(key);
        let changes = versions.into_iter().flat_map(|versions| above(versions, after));
        return collect.from(changes, |_| true);
    }
    if let Some(changes) = changes_by_key(table, range, after, changes_max) {
        return collect.from(changes.into_iter(), |_| true);
    }
    collect.from(table.history(after), |key| range.contains(key))
}

fn above(versions: &Versions, after: Revision) -> impl Iterator<Item = (&Arc<Record>, &Versions)> {
    versions.above(after).map(move |record| (record, versions))
}

/// The changes of `range` above `after`, in order, if going by key is the cheaper way: few keys,
/// few changes, and a long history of other keys.
fn changes_by_key<'a>(
    table: &'a Memtable,
    range: &KeyRange,
    after: Revision,
    changes_max: usize,
) -> Option<Vec<(&'a Arc<Record>, &'a Versions)>> {
    let keys_max = changes_max / 8;
    if table.changes_above(after) <= changes_max || table.keys_about(range) > keys_max {
        return None;
    }
    let count: usize = table.scan(range, None).map(|(_, versions)| versions.len()).sum();
    if count > changes_max {
        return None;
    }
    let keys = table.scan(range, None);
    let mut changes: Vec<_> = keys.flat_map(|(_, versions)| above(versions, after)).collect();
    changes.sort_unstable_by_key(|(record, _)| record.at());
    Some(changes)
}

struct Collect {
    compact: Revision,
    upto: Revision,
    bytes_max: usize,
    changes_max: usize,
}

impl Collect {
    fn from<'a>(
        &self,
        changes: impl Iterator<Item = (&'a Arc<Record>, &'a Versions)>,
        wants: impl Fn(&[u8]) -> bool,
    ) -> Stretch {
        let mut stretch = Stretch { reached: self.upto, changes: Vec::new() };
        let mut bytes = 0;
        let mut last = None;
        for (seen, (record, versions)) in changes.enumerate() {
            if record.revision > self.upto {
                break;
            }
            let is_full = bytes >= self.bytes_max || seen >= self.changes_max;
            match last {
                // The first change of a revision is where a stretch may end.
                Some(last) if is_full && last < record.revision => {
                    stretch.reached = last;
                    break;
                }
                _ => last = Some(record.revision),
            }
            if !wants(record.key()) {
                continue;
            }
            let before = record.revision.before();
            let previous = (before >= self.compact).then(|| versions.at(before)).flatten();
            bytes += record.kv().len() + previous.map_or(0, |previous| previous.kv().len());
            let (record, previous) = (Arc::clone(record), previous.cloned());
            stretch.changes.push(Change { record, previous });
        }
        stretch
    }
}
