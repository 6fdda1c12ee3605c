//! The versions of one key, ascending.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::Revision;
use crate::base::record::Record;

/// The versions of one key, oldest first, tombstones included. Most keys have one version most
/// of the time, which takes no allocation; a key that is written often drops versions at its
/// front one at a time.
#[derive(Clone, Debug)]
pub enum Versions {
    /// Exactly one.
    One(Arc<Record>),
    /// Any number but one. None only in a slot without a key.
    Many(Box<VecDeque<Arc<Record>>>),
}

impl Versions {
    pub(super) fn none() -> Versions {
        Versions::Many(Box::default())
    }

    /// How many versions are held.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Versions::One(_) => 1,
            Versions::Many(many) => many.len(),
        }
    }

    /// Whether no version is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last change, a tombstone included.
    #[must_use]
    pub fn last(&self) -> Option<&Arc<Record>> {
        match self {
            Versions::One(record) => Some(record),
            Versions::Many(many) => many.back(),
        }
    }

    /// The oldest change held.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<Record>> {
        match self {
            Versions::One(record) => Some(record),
            Versions::Many(many) => many.front(),
        }
    }

    /// The newest version, if the key is live.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Record>> {
        self.last().filter(|record| !record.is_tombstone())
    }

    /// The last change at or below `revision`, a tombstone included.
    #[must_use]
    pub fn last_at(&self, revision: Revision) -> Option<&Arc<Record>> {
        match self {
            Versions::One(record) => Some(record).filter(|record| record.revision <= revision),
            Versions::Many(many) => {
                if let Some(last) = many.back().filter(|last| last.revision <= revision) {
                    return Some(last);
                }
                let above = many.partition_point(|record| record.revision <= revision);
                above.checked_sub(1).and_then(|at| many.get(at))
            }
        }
    }

    /// The version as of `revision`, if the key was live then.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Option<&Arc<Record>> {
        self.last_at(revision).filter(|record| !record.is_tombstone())
    }

    /// All changes held that are above `revision`, oldest first.
    pub fn above(&self, revision: Revision) -> impl Iterator<Item = &Arc<Record>> {
        let (one, many) = match self {
            Versions::One(record) => (Some(record), None),
            Versions::Many(many) => {
                let from = many.partition_point(|record| record.revision <= revision);
                (None, Some(many.range(from..)))
            }
        };
        let one = one.filter(|record| record.revision > revision);
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn push(&mut self, record: Arc<Record>) {
        match self {
            Versions::One(first) => {
                let mut many = VecDeque::with_capacity(2);
                many.push_back(Arc::clone(first));
                many.push_back(record);
                *self = Versions::Many(Box::new(many));
            }
            Versions::Many(many) if many.is_empty() => *self = Versions::One(record),
            Versions::Many(many) => many.push_back(record),
        }
    }

    /// Takes the oldest version away if no read at `cut` or later needs it and no watch that
    /// starts at `cut` does: it is below `cut`, and superseded at or below `cut` or a tombstone.
    pub(super) fn take_unneeded(&mut self, cut: Revision) -> Option<Arc<Record>> {
        match self {
            Versions::One(record) => {
                if record.revision >= cut || !record.is_tombstone() {
                    return None;
                }
                let record = Arc::clone(record);
                *self = Versions::none();
                Some(record)
            }
            Versions::Many(many) => {
                let first = many.front()?;
                let superseded = many.get(1).is_some_and(|next| next.revision <= cut);
                if first.revision >= cut || !(superseded || first.is_tombstone()) {
                    return None;
                }
                let first = many.pop_front();
                match many.len() {
                    1 => *self = Versions::One(many.pop_front()?),
                    // A burst of versions must not keep its memory for ever.
                    len if len < many.capacity() / 4 => many.shrink_to(len * 2),
                    _ => {}
                }
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaseId;
    use crate::base::Sub;
    use crate::base::record::PutFields;

    fn change(revision: i64, sub: u32, tombstone: bool) -> Arc<Record> {
        let (revision, sub) = (Revision(revision), Sub(sub));
        Arc::new(if tombstone {
            Record::tombstone(b"k", revision, sub)
        } else {
            Record::put(PutFields {
                key: b"k",
                value: b"v",
                revision,
                sub,
                create: revision,
                version: 1,
                lease: LeaseId::NONE,
            })
        })
    }

    fn shown(versions: &Versions) -> Vec<(i64, u32)> {
        let all = versions.above(Revision(0));
        all.map(|record| (record.revision.0, record.sub.0)).collect()
    }

    #[test]
    fn reads_find_the_version_of_their_revision() {
        let mut versions = Versions::none();
        for (revision, tombstone) in [(3, false), (5, true), (8, false)] {
            versions.push(change(revision, 0, tombstone));
        }
        let cases = [(2, None), (3, Some(3)), (4, Some(3)), (5, None), (7, None), (8, Some(8))];
        for (revision, expected) in cases {
            let found = versions.at(Revision(revision)).map(|record| record.revision.0);
            assert_eq!(found, expected, "at {revision}");
        }
        assert_eq!(versions.above(Revision(3)).count(), 2);
    }

    #[test]
    fn a_cut_keeps_what_reads_and_watches_from_it_on_need() {
        // (changes as revision, sub, tombstone), cut, what stays.
        type Case = (&'static [(i64, u32, bool)], i64, &'static [(i64, u32)]);
        let cases: [Case; 8] = [
            (&[(3, 0, false)], 9, &[(3, 0)]),
            (&[(3, 0, false), (5, 0, false)], 4, &[(3, 0), (5, 0)]),
            (&[(3, 0, false), (5, 0, false)], 5, &[(5, 0)]),
            (&[(3, 0, false), (5, 0, true)], 5, &[(5, 0)]),
            (&[(3, 0, false), (5, 0, true)], 6, &[]),
            (&[(3, 0, false), (5, 0, true), (9, 0, false)], 6, &[(9, 0)]),
            (&[(5, 0, false), (5, 1, true)], 5, &[(5, 0), (5, 1)]),
            (&[(5, 0, false), (5, 1, true)], 6, &[]),
        ];
        for (changes, cut, expected) in cases {
            let mut versions = Versions::none();
            for (revision, sub, tombstone) in changes {
                versions.push(change(*revision, *sub, *tombstone));
            }
            while versions.take_unneeded(Revision(cut)).is_some() {}
            assert_eq!(shown(&versions), expected, "{changes:?} cut at {cut}");
        }
    }
}
