//! What merges make of leaves: how full they are, and what they cost.

use super::*;
use crate::base::limits::{REQUEST_BYTES_CEILING, REQUEST_OVERHEAD_BYTES};

fn name(number: u64) -> Vec<u8> {
    format!("/registry/pods/default/{number:09}").into_bytes()
}

/// Puts `numbers` with values of 300 bytes.
fn puts(numbers: impl IntoIterator<Item = u64>, revision: i64) -> Vec<Change> {
    let numbers: BTreeSet<u64> = numbers.into_iter().collect();
    let put = |number: u64| change(&name(number), Some(put(&name(number), revision, &[7; 300])));
    numbers.into_iter().map(put).collect()
}

fn fill(disk: &Disk, root: Option<Root>) -> f64 {
    let leaves = leaves(disk, Kind::Current, root);
    let bytes: usize = leaves.iter().map(|(_, bytes)| bytes).sum();
    bytes as f64 / (leaves.len() * Kind::Current.page_bytes(0)) as f64
}

#[test]
fn leaves_stay_full_under_inserts_in_random_order() {
    // Few changes a merge and many: leaves are touched here and there, or all of them.
    for (per_merge, merges) in [(20_usize, 400_usize), (2_000, 10)] {
        let mut prng = Prng::new(per_merge as u64);
        let disk = Disk::new(4);
        let mut root = merge(
            &disk,
            Kind::Current,
            None,
            0,
            puts((0..8_000).map(|number| number * 1_000), 2),
            usize::MAX,
        )
        .0;
        assert!(fill(&disk, root) > 0.93, "packed at first: {}", fill(&disk, root));
        let mut fills = Vec::new();
        for round in 0..merges {
            let numbers: Vec<u64> = (0..per_merge).map(|_| prng.below(8_000_000)).collect();
            root = merge(&disk, Kind::Current, root, 0, puts(numbers, round as i64 + 3), 100_000).0;
            fills.push(fill(&disk, root));
        }
        let mean = fills.iter().sum::<f64>() / fills.len() as f64;
        assert!(mean >= 0.9, "{per_merge} a merge: mean fill {mean:.3}");
        let least = fills.iter().copied().fold(1.0, f64::min);
        assert!(least > 0.85, "{per_merge} a merge: {least:.4} at least, {fills:.2?}");
    }
}

#[test]
fn a_small_change_rewrites_a_leaf_and_not_its_neighbours() {
    let disk = Disk::new(4);
    let root = merge(&disk, Kind::Current, None, 0, puts(0..20_000, 2), usize::MAX).0;
    assert_eq!(root.map(|root| root.height), Some(1));
    disk.work();
    let root = merge(&disk, Kind::Current, root, 0, puts([5_000], 3), usize::MAX).0;
    assert_eq!(disk.work(), (vec![1, 0], 2), "the branch and one leaf, read and written");
    // A delete of nothing, as small.
    let absent = vec![change(b"/registry/pods/default/000005000x", None)];
    merge(&disk, Kind::Current, root, 0, absent, usize::MAX);
    assert_eq!(disk.work(), (vec![1, 0], 2));
}

#[test]
fn leaves_that_deletes_emptied_join() {
    let disk = Disk::new(4);
    let root = merge(&disk, Kind::Current, None, 0, puts(0..20_000, 2), usize::MAX).0;
    let before = leaves(&disk, Kind::Current, root).len();
    let most = (0..20_000).filter(|number| number % 10 != 0);
    let gone = most.map(|number| change(&name(number), None)).collect();
    let root = merge(&disk, Kind::Current, root, 0, gone, usize::MAX).0;
    let after = leaves(&disk, Kind::Current, root).len();
    assert!(after <= before / 9, "{before} leaves, then {after}");
    assert!(fill(&disk, root) > 0.85);
}

#[test]
fn tombstones_go_with_the_compaction_that_passes_them() {
    let disk = Disk::new(4);
    let root = merge(&disk, Kind::Current, None, 0, puts(0..20_000, 2), usize::MAX).0;
    let dead =
        |number: u64, revision| change(&name(number), Some(tombstone(&name(number), revision)));
    let changes = vec![dead(100, 10), dead(101, 20), dead(19_000, 30)];
    let root = merge(&disk, Kind::Current, root, 0, changes, usize::MAX).0;
    let total = root.map(|root| root.total).unwrap();
    assert_eq!((total.live, total.oldest, total.newest), (19_997, Revision(10), Revision(30)));
    // One at the compact revision stays. The leaves without an older one are not looked at.
    disk.work();
    let root = merge(&disk, Kind::Current, root, 20, vec![], usize::MAX).0;
    assert_eq!(disk.work(), (vec![1, 0], 2));
    assert_eq!(root.map(|root| root.total.oldest), Some(Revision(20)));
    let root = merge(&disk, Kind::Current, root, 31, vec![], usize::MAX).0;
    let total = root.map(|root| root.total).unwrap();
    assert_eq!((total.live, total.oldest), (19_997, Revision(i64::MAX)));
    // Nothing left to do: nothing is read or written.
    disk.work();
    assert_eq!(merge(&disk, Kind::Current, root, 1_000, vec![], usize::MAX).0, root);
    assert_eq!(disk.work(), (vec![], 0));
}

#[test]
fn a_large_record_has_a_leaf_of_its_own() {
    let disk = Disk::new(4);
    let mut changes = puts(0..2_000, 2);
    let large = [7; 1 << 20];
    changes[1_000] = change(&name(1_000), Some(put(&name(1_000), 2, &large)));
    let root = merge(&disk, Kind::Current, None, 0, changes, usize::MAX).0;
    let sizes = leaves(&disk, Kind::Current, root);
    let alone: Vec<_> = sizes.iter().filter(|(_, bytes)| *bytes > 128 << 10).collect();
    assert!(matches!(alone[..], [(1, _)]), "{sizes:?}");
    // Its neighbours change without it.
    disk.work();
    let root = merge(&disk, Kind::Current, root, 0, puts([10], 3), usize::MAX).0;
    let (read, written) = disk.work();
    assert!(read.len() <= 4 && written <= 4, "{read:?} {written}");
    let reader = disk.reader(Kind::Current, root);
    let found = disk.wait(|| reader.get(&name(1_000))).map(|log| Record::decode(log).unwrap());
    assert_eq!(found.map(|record| record.value().len()), Some(1 << 20));
}

#[test]
fn the_largest_request_fits_a_page() {
    // What a message may bring; a lock's key is its name and a little more.
    let bytes_max = REQUEST_BYTES_CEILING + REQUEST_OVERHEAD_BYTES;
    for key_bytes in [bytes_max + 20, bytes_max / 2, 10] {
        let value = vec![7; bytes_max.saturating_sub(key_bytes)];
        let keys = (0..5_u8).map(|last| {
            let mut key = vec![b'k'; key_bytes];
            key[key_bytes - 1] = last;
            key
        });
        let (mut current, mut undo, mut leased) = (vec![], vec![], vec![]);
        for (key, revision) in keys.zip(2..) {
            let log = put(&key, i64::MAX - 9 + revision, &value);
            let undone = Form::Whole { log: &log, before: None }.encode(Turn::Updated, &key);
            let place = undo_key((Revision(revision), Sub(0)));
            undo.push(change(&place, Some(undone)));
            leased.push(change(&leased_key(LeaseId(i64::MAX), &key), Some(Bytes::new())));
            current.push(change(&key, Some(log)));
        }
        for (kind, changes) in
            [(Kind::Current, current), (Kind::Undo, undo), (Kind::Leased, leased)]
        {
            // The disk of these tests refuses what is too long.
            let disk = Disk::new(64);
            let root = merge(&disk, kind, None, 0, changes, usize::MAX).0;
            assert_eq!(root.map(|root| root.total.live), Some(5), "{kind:?}");
        }
    }
}

#[test]
fn a_slice_does_what_its_budget_allows() {
    let disk = Disk::new(1 << 10);
    let root = merge(&disk, Kind::Current, None, 0, puts(0..20_000, 2), usize::MAX).0;
    let mut merge = Merge::new(Kind::Current, root, Revision(0), puts(0..20_000, 3).into_iter());
    let mut sink = disk.clone();
    let mut slices = 0;
    loop {
        disk.work();
        let step = merge.step(&mut sink, &mut |change, _| change.value.clone(), 128 << 10).unwrap();
        assert!(disk.work().1 <= 2, "a leaf a slice, and what is begun is ended");
        match step {
            Step::Paused => slices += 1,
            Step::Wanted(pages) => disk.load(&pages),
            Step::Done(root) => {
                check_all(&disk, Kind::Current, root);
                break;
            }
        }
    }
    // 8 MB are moved, as many replaced at twice the cost, and as many written.
    assert!((100..400).contains(&slices), "{slices} slices");
}

#[test]
#[should_panic(expected = "out of order")]
fn changes_out_of_order_are_a_bug() {
    let disk = Disk::new(4);
    let twice = vec![change(b"a", None), change(b"a", None)];
    merge(&disk, Kind::Meta, None, 0, twice, usize::MAX);
}
