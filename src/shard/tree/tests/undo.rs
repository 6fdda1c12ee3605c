//! `undo`: grown at its right edge, cut at its left.

use std::ops::ControlFlow;

use super::*;
use crate::base::range::{KeyRange, RangeEnd};

/// `count` changes from `from` on, one a revision, each with a version of `value_bytes`.
fn entries(from: i64, count: i64, value_bytes: usize) -> Vec<Change> {
    let value = vec![9; value_bytes];
    let one = |revision: i64| {
        let key = format!("/registry/leases/{}", revision % 100).into_bytes();
        let form = Form::Whole { log: &put(&key, revision - 1, &value), before: None };
        let undone = form.encode(Turn::Updated, &key);
        change(&undo_key((Revision(revision), Sub(0))), Some(undone))
    };
    (from..from + count).map(one).collect()
}

fn append(disk: &Disk, root: Option<Root>, changes: Vec<Change>) -> Option<Root> {
    merge(disk, Kind::Undo, root, 0, changes, 50_000).0
}

fn first_and_last(disk: &Disk, root: Option<Root>) -> (i64, i64) {
    let reader = disk.reader(Kind::Undo, root);
    let end = |is_back: bool| {
        let mut found = None;
        disk.wait(|| {
            let mut visit = |entry: Entry<'_>| {
                found = Some(undo_place(entry.key()).unwrap().0.0);
                ControlFlow::Break(())
            };
            match is_back {
                false => reader.walk(&KeyRange::all(), None, &mut visit),
                true => reader.walk_back(&KeyRange::all(), None, &mut visit),
            }
        });
        found.unwrap()
    };
    (end(false), end(true))
}

#[test]
fn what_is_appended_leaves_full_leaves_behind() {
    let disk = Disk::new(4);
    let mut root = None;
    for round in 0..400 {
        root = append(&disk, root, entries(2 + round * 77, 77, 300));
    }
    let sizes = leaves(&disk, Kind::Undo, root);
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 40 && last.1 <= Kind::Undo.page_bytes(0));
    assert!(full.iter().all(|(_, bytes)| *bytes > Kind::Undo.page_bytes(0) - 1_024), "{sizes:?}");
    assert_eq!(first_and_last(&disk, root), (2, 30_801));
    // A full last leaf is not read again.
    let mut fits = entries(40_000, 1_000, 300);
    let mut room = Kind::Undo.page_bytes(0) - last.1;
    let count = fits.iter().position(|one| {
        let cost = 8 + one.key.len() + one.value.as_ref().unwrap().len();
        let is_over = cost > room;
        room = room.saturating_sub(cost);
        is_over
    });
    fits.truncate(count.unwrap());
    let root = append(&disk, root, fits);
    disk.work();
    append(&disk, root, entries(50_000, 1, 300));
    assert_eq!(disk.work(), (vec![1], 2), "the branch read; it and a new leaf written");
}

#[test]
fn a_cut_drops_subtrees_without_reading_their_leaves() {
    let disk = Disk::new(4);
    // Large versions, each in a leaf of its own, and many small ones: two levels of branches.
    let mut root = append(&disk, None, entries(2, 500, 140_000));
    root = append(&disk, root, entries(2_000, 20_000, 600));
    assert_eq!(root.map(|root| root.height), Some(2));
    let before = leaves(&disk, Kind::Undo, root).len();
    disk.work();
    let cut = merge(&disk, Kind::Undo, root, 15_000, vec![], 50_000).0;
    let (read, written) = disk.work();
    let read_leaves = read.iter().filter(|level| **level == 0).count();
    assert_eq!(read_leaves, 1, "the one that the cut goes through");
    assert_eq!(written, 2, "that leaf and the branch over it, which is the root now");
    assert!(leaves(&disk, Kind::Undo, cut).len() < before / 4);
    // Entries of the cut itself stay.
    assert_eq!(first_and_last(&disk, cut), (15_000, 21_999));
    assert_eq!(cut.map(|root| root.total.live), Some(7_000));
    assert_eq!(cut.map(|root| root.total.oldest), Some(Revision(15_000)));
    // The same cut again finds nothing to do.
    disk.work();
    assert_eq!(merge(&disk, Kind::Undo, cut, 15_000, vec![], 50_000).0, cut);
    assert_eq!(disk.work(), (vec![], 0));
    // A cut above everything leaves nothing, and reads no leaf.
    disk.0.borrow_mut().read.clear();
    assert_eq!(merge(&disk, Kind::Undo, cut, 30_000, vec![], 50_000).0, None);
    assert!(disk.work().0.iter().all(|level| *level > 0));
}

#[test]
fn cuts_and_appends_follow_a_plain_map() {
    for seed in 0..6 {
        let mut prng = Prng::new(seed);
        let disk = Disk::new(8);
        let mut plain: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let (mut root, mut next, mut cut) = (None, 2, 0);
        for _ in 0..40 {
            let count = prng.below(400) as i64;
            let size = [100, 500, 5_000, 60_000][prng.below(4) as usize];
            let changes = entries(next, if size > 5_000 { count / 20 } else { count }, size);
            next += count;
            if prng.percent(40) {
                cut += prng.below((next - cut) as u64 + 3) as i64;
            }
            plain.extend(changes.iter().map(|one| (one.key.clone(), one.value.clone().unwrap())));
            plain.retain(|key, _| undo_place(key).unwrap().0.0 >= cut);
            next = next.max(cut);
            let budget = [1, 10_000, usize::MAX][prng.below(3) as usize];
            root = merge(&disk, Kind::Undo, root, cut, changes, budget).0;
            let reader = disk.reader(Kind::Undo, root);
            let from = undo_key((Revision(prng.below(next as u64) as i64), Sub(0)));
            let range = KeyRange { start: Bytes::copy_from_slice(&from), end: RangeEnd::Open };
            let mut found: Vec<Bytes> = Vec::new();
            disk.wait(|| {
                let last = found.last().cloned();
                reader.walk(&range, last.as_deref(), &mut |entry| {
                    assert_eq!(plain[entry.key()], entry.value());
                    found.push(Bytes::copy_from_slice(entry.key()));
                    ControlFlow::Continue(())
                })
            });
            let expected: Vec<Bytes> =
                plain.range(range.start.clone()..).map(|(k, _)| k.clone()).collect();
            assert_eq!(found, expected);
            assert_eq!(disk.wait(|| reader.count(&range)).live, expected.len() as u64);
        }
    }
}

#[test]
fn the_chain_of_a_key_leads_back_through_its_versions() {
    let disk = Disk::new(4);
    let mut changes = Vec::new();
    for revision in 2..300_i64 {
        let log = put(b"key", revision - 1, &[1; 2_000]);
        let (turn, form) = match revision {
            2 => (Turn::Created, Form::Nothing),
            _ => (Turn::Updated, Form::Whole { log: &log, before: None }),
        };
        let undone = form.encode(turn, b"key");
        changes.push(change(&undo_key((Revision(revision), Sub(0))), Some(undone)));
    }
    let root = append(&disk, None, changes);
    let reader = disk.reader(Kind::Undo, root);
    let (mut at, mut hops) = ((Revision(299), Sub(0)), 0);
    loop {
        let value = disk.wait(|| reader.get(&undo_key(at))).expect("every change has an entry");
        let replaced = Undone::decode(&value).expect("own encoding").replaced;
        let Replaced::Whole { record, .. } = replaced else { break };
        at = record.at();
        hops += 1;
    }
    assert_eq!((at.0, hops), (Revision(2), 297));
}
