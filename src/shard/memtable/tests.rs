use super::*;
use crate::base::record::PutFields;

/// Builds histories: keeps the version counters that evaluation would.
struct Writer {
    table: Memtable,
}

impl Writer {
    fn new() -> Writer {
        Writer { table: Memtable::new(7) }
    }

    fn put(&mut self, key: &str, at: (i64, u32), lease: i64) -> Option<(i64, u32)> {
        let before = self.table.newest(key.as_bytes());
        let record = Record::put(PutFields {
            key: key.as_bytes(),
            value: format!("{key}@{}.{}", at.0, at.1).as_bytes(),
            revision: Revision(at.0),
            sub: Sub(at.1),
            create: before.map_or(Revision(at.0), |before| before.create),
            version: before.map_or(1, |before| before.version + 1),
            lease: LeaseId(lease),
        });
        let previous = self.table.apply(Arc::new(record));
        previous.map(|record| (record.revision.0, record.sub.0))
    }

    fn delete(&mut self, key: &str, at: (i64, u32)) -> Option<(i64, u32)> {
        let record = Record::tombstone(key.as_bytes(), Revision(at.0), Sub(at.1));
        let previous = self.table.apply(Arc::new(record));
        previous.map(|record| (record.revision.0, record.sub.0))
    }

    fn keys_of(&self, lease: i64) -> Vec<String> {
        let keys = self.table.keys_of(LeaseId(lease));
        keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

#[test]
fn two_changes_of_a_key_in_one_revision_have_the_same_previous_version() {
    let mut writer = Writer::new();
    assert_eq!(writer.put("k", (2, 0), 0), None);
    assert_eq!(writer.put("k", (3, 0), 0), Some((2, 0)));
    assert_eq!(writer.delete("k", (3, 1)), Some((2, 0)));
    assert_eq!(writer.put("k", (4, 0), 0), None);
    assert_eq!(writer.table.newest(b"k").map(|record| record.version), Some(1));
    // Created and deleted in one revision: there was nothing below it.
    assert_eq!(writer.put("other", (5, 0), 0), None);
    assert_eq!(writer.delete("other", (5, 1)), None);
    assert_eq!(writer.table.live_keys(), 1);
}

#[test]
fn keys_move_between_leases_and_leave_them() {
    let mut writer = Writer::new();
    writer.table.grant(LeaseId(7));
    writer.table.grant(LeaseId(8));
    writer.put("b", (2, 0), 7);
    writer.put("a", (3, 0), 7);
    writer.put("c", (4, 0), 8);
    assert_eq!(writer.keys_of(7), ["a", "b"]);
    writer.put("a", (5, 0), 8);
    assert_eq!(writer.keys_of(7), ["b"]);
    assert_eq!(writer.keys_of(8), ["a", "c"]);
    writer.put("c", (6, 0), 0);
    writer.delete("a", (7, 0));
    assert_eq!(writer.keys_of(8), [""; 0]);
    writer.put("a", (8, 0), 0);
    assert_eq!(writer.keys_of(8), [""; 0]);
    writer.table.revoke(LeaseId(8));
    assert_eq!(writer.table.leases().collect::<Vec<_>>(), [LeaseId(7)]);
    assert!(!writer.table.has_lease(LeaseId(8)));
}

#[test]
#[should_panic(expected = "out of order")]
fn changes_out_of_order_are_a_bug() {
    let mut writer = Writer::new();
    writer.put("k", (3, 0), 0);
    writer.put("j", (3, 0), 0);
}

#[test]
fn a_compaction_in_slices_keeps_the_cut_and_gives_all_memory_back() {
    let mut writer = Writer::new();
    // 200 keys, each put at 2.., updated at 300.., half of them deleted at 600..
    let key = |number: i64| format!("/registry/k{number:04}");
    for number in 0..200 {
        writer.put(&key(number), (2 + number, 0), 0);
    }
    for number in 0..200 {
        writer.put(&key(number), (300 + number, 0), 0);
    }
    for number in 0..100 {
        writer.delete(&key(number), (600 + number, 0));
    }
    let all = KeyRange::all();
    let table = &mut writer.table;
    assert_eq!((table.live_keys(), table.version_count()), (100, 500));
    let counts: Vec<u64> = (650..700).map(|at| table.count(&all, Revision(at))).collect();

    table.compact(Revision(650));
    let mut slices = 0;
    while !table.compact_slice(Revision(650), 10) {
        slices += 1;
        let during: Vec<u64> = (650..700).map(|at| table.count(&all, Revision(at))).collect();
        assert_eq!(during, counts, "after slice {slices}");
    }
    assert!(slices > 40);
    // 50 tombstones below the cut are gone with their keys; the one at 650 stays, and what it
    // and later ones replaced: 100 live, 50 tombstones from 650 on, 49 replaced above 650.
    assert_eq!(table.version_count(), 100 + 50 + 49);
    assert!(table.at(key(50).as_bytes(), Revision(650)).is_none());
    assert!(table.versions_of(key(50).as_bytes()).is_some());
    assert!(table.versions_of(key(49).as_bytes()).is_none());

    table.compact(Revision(700));
    while !table.compact_slice(Revision(700), 7) {}
    assert_eq!((table.live_keys(), table.version_count()), (100, 100));
    let held = table.scan(&all, None).flat_map(|(_, versions)| versions.above(Revision(0)));
    let bytes: u64 = held.map(|one| one.log().len() as u64 + RECORD_OVERHEAD_BYTES).sum();
    assert_eq!(table.bytes(), bytes);
    assert_eq!(table.changes_above(Revision(0)), 0);
}

#[test]
fn a_key_written_hot_is_cut_a_few_versions_at_a_time() {
    let mut writer = Writer::new();
    for revision in 2..10_002 {
        writer.put("hot", (revision, 0), 0);
    }
    writer.table.compact(Revision(10_001));
    assert!(!writer.table.compact_slice(Revision(10_001), 1));
    assert!(writer.table.version_count() >= 10_000 - 8);
    while !writer.table.compact_slice(Revision(10_001), 100) {}
    assert_eq!(writer.table.version_count(), 1);
}

#[test]
#[should_panic(expected = "below the cut")]
fn a_read_that_held_nothing_is_a_bug() {
    let mut writer = Writer::new();
    writer.put("k", (2, 0), 0);
    writer.put("k", (3, 0), 0);
    writer.table.compact(Revision(3));
    writer.table.compact_slice(Revision(3), 10);
    let _ = writer.table.at(b"k", Revision(2));
}
