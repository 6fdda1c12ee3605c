//! Pages that are intact and do not belong together: every read says so, none panics.

use std::sync::Arc;

use super::*;
use crate::base::record::{PutFields, Record};
use crate::base::{LeaseId, Revision, Sub};

fn put(key: &str, revision: i64, version: i64) -> Record {
    Record::put(PutFields {
        key: key.as_bytes(),
        value: b"value",
        revision: Revision(revision),
        sub: Sub(0),
        create: Revision(revision - version + 1),
        version,
        lease: LeaseId::NONE,
    })
}

/// A store of one key with versions at the revisions 2 to 4, all of it in pages.
fn paged() -> Paged {
    let mut paged = Paged::new(1, 1 << 20);
    for version in 1..4 {
        paged.store.apply(Arc::new(put("key", version + 1, version)));
    }
    paged.checkpoint(Revision(4));
    paged
}

/// What is wrong, as a read tells it.
fn wrong<T: std::fmt::Debug>(
    paged: &mut Paged,
    mut read: impl FnMut(&Store) -> Result<T, Stop>,
) -> String {
    for _ in 0..100 {
        match read(&paged.store) {
            Err(Stop::Damaged(damaged)) => return damaged.to_string(),
            Err(stop) => paged.bring(stop),
            Ok(found) => panic!("{found:?} was read"),
        }
    }
    panic!("a read that never ends")
}

#[test]
fn a_tree_that_is_named_and_not_there_is_told() {
    let mut paged = paged();
    assert!(paged.read(|store| store.at(b"key", Revision(2))).is_some());
    paged.store.trees.undo = None;
    let what = wrong(&mut paged, |store| store.at(b"key", Revision(2)));
    assert!(what.contains("an entry is missing that a version names"), "{what}");
}
