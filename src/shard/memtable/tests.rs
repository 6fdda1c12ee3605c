use super::*;
use crate::base::record::PutFields;

/// Builds a layer: keeps the version counters that evaluation would.
struct Writer {
    table: Memtable,
}

impl Writer {
    fn new() -> Writer {
        Writer { table: Memtable::new(7) }
    }

    fn put(&mut self, key: &str, at: (i64, u32), lease: i64) {
        let before = self.table.versions_of(key.as_bytes()).and_then(Versions::newest);
        let record = Record::put(PutFields {
            key: key.as_bytes(),
            value: format!("{key}@{}.{}", at.0, at.1).as_bytes(),
            revision: Revision(at.0),
            sub: Sub(at.1),
            create: before.map_or(Revision(at.0), |before| before.create),
            version: before.map_or(1, |before| before.version + 1),
            lease: LeaseId(lease),
        });
        self.table.apply(Arc::new(record));
    }

    /// An update of a key that is live below the layer.
    fn update_below(&mut self, key: &str, at: (i64, u32)) {
        let record = Record::put(PutFields {
            key: key.as_bytes(),
            value: b"",
            revision: Revision(at.0),
            sub: Sub(at.1),
            create: Revision(1),
            version: 9,
            lease: LeaseId::NONE,
        });
        self.table.apply(Arc::new(record));
    }

    fn delete(&mut self, key: &str, at: (i64, u32)) {
        let record = Record::tombstone(key.as_bytes(), Revision(at.0), Sub(at.1));
        self.table.apply(Arc::new(record));
    }

    fn keys_on(&self, lease: i64) -> Vec<String> {
        let keys = self.table.keys_on(LeaseId(lease));
        let mut keys: Vec<_> = keys.map(|key| String::from_utf8_lossy(&key).into_owned()).collect();
        keys.sort();
        keys
    }
}

#[test]
fn counts_are_what_the_layer_adds_to_those_below_it() {
    let mut writer = Writer::new();
    let all = KeyRange::all();
    writer.put("made", (2, 0), 0);
    writer.update_below("kept", (3, 0));
    assert_eq!(writer.table.net(&all), 1);
    writer.delete("gone", (4, 0));
    writer.delete("kept", (5, 0));
    assert_eq!(writer.table.net(&all), -1);
    writer.put("kept", (6, 0), 0);
    writer.delete("made", (7, 0));
    assert_eq!(writer.table.net(&all), -1);
    writer.put("gone", (8, 0), 0);
    writer.delete("gone", (8, 1));
    assert_eq!(writer.table.net(&all), -1);
    assert_eq!(writer.table.net(&KeyRange::single(Bytes::from_static(b"gone"))), -1);
    let behind = |revision| (Revision(revision), Sub(u32::MAX));
    assert_eq!(writer.table.net_created(&all, behind(1), 100), (-1, None));
    assert_eq!(writer.table.net_created(&all, behind(6), 100), (-1, None));
    assert_eq!(writer.table.net_created(&all, behind(1), 1).0, 1);
    assert_eq!((writer.table.version_count(), writer.table.changes_above(Revision(7))), (8, 2));
}

#[test]
fn keys_move_between_leases_and_leave_them() {
    let mut writer = Writer::new();
    writer.put("b", (2, 0), 7);
    writer.put("a", (3, 0), 7);
    writer.put("c", (4, 0), 8);
    assert_eq!(writer.keys_on(7), ["a", "b"]);
    writer.put("a", (5, 0), 8);
    assert_eq!(writer.keys_on(7), ["b"]);
    assert_eq!(writer.keys_on(8), ["a", "c"]);
    writer.put("c", (6, 0), 0);
    writer.delete("a", (7, 0));
    assert_eq!(writer.keys_on(8), [""; 0]);
    writer.put("a", (8, 0), 0);
    assert_eq!(writer.keys_on(8), [""; 0]);
}

#[test]
#[should_panic(expected = "out of order")]
fn changes_out_of_order_are_a_bug() {
    let mut writer = Writer::new();
    writer.put("k", (3, 0), 0);
    writer.put("j", (3, 0), 0);
}

#[test]
#[should_panic(expected = "does not follow")]
fn a_change_that_cannot_follow_is_a_bug() {
    let mut writer = Writer::new();
    writer.delete("k", (3, 0));
    writer.delete("k", (4, 0));
}

#[test]
fn a_layer_goes_in_slices() {
    let mut writer = Writer::new();
    for revision in 2..10_002 {
        writer.put(&format!("k{}", revision % 5_000), (revision, 0), 3);
    }
    assert_eq!(writer.table.bytes(), {
        let held = writer.table.history(Revision(0)).map(|(one, _)| one.log().len() as u64);
        held.map(|bytes| bytes + RECORD_OVERHEAD_BYTES).sum::<u64>()
    });
    let slices = std::iter::from_fn(|| (!writer.table.dismantle(500)).then_some(()));
    assert!(slices.count() >= 25);
}
