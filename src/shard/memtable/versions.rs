//! The versions of one key, ascending.

use std::sync::Arc;

use crate::base::Revision;
use crate::base::record::Record;

/// The versions of one key, oldest first, tombstones included. Most keys have one version most
/// of the time, which takes no allocation.
#[derive(Clone, Debug)]
pub enum Versions {
    /// Exactly one.
    One(Arc<Record>),
    /// Any number but one. None only in a slot without a key.
    Many(Vec<Arc<Record>>),
}

impl Versions {
    pub(super) fn none() -> Versions {
        Versions::Many(Vec::new())
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
            Versions::Many(many) => many.last(),
        }
    }

    /// The oldest change held.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<Record>> {
        match self {
            Versions::One(record) => Some(record),
            Versions::Many(many) => many.first(),
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
                if let Some(last) = many.last().filter(|last| last.revision <= revision) {
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
                (None, Some(many[from..].iter()))
            }
        };
        let one = one.filter(|record| record.revision > revision);
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn push(&mut self, record: Arc<Record>) {
        match self {
            Versions::One(first) => {
                *self = Versions::Many(vec![Arc::clone(first), record]);
            }
            Versions::Many(many) if many.is_empty() => *self = Versions::One(record),
            Versions::Many(many) => many.push(record),
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
}
