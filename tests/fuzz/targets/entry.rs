//! Entries of the log: their payload into effects.
//!
//! ```text
//! item        a chunk; flags: 1 of the next entry, 2 mend the descriptor that it begins with
//! ```

use std::sync::Arc;

use bytes::Bytes;
use ringbolt::base::batch::ShardSet;
use ringbolt::base::effect::{AlarmKind, Effect};
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::{LeaseId, RaftIndex, Revision, ShardId, Sub, Term};
use ringbolt::orderer::{Base, Descriptor, GroupConfig, HardState, Orderer, RecoveredEntry};

use super::{Item, input, items, put_number};

const NEXT: u8 = 1;
const DESCRIPTOR: u8 = 2;

/// Runs it.
pub fn run(data: &[u8]) -> bool {
    let mut entries: Vec<Vec<Item>> = Vec::new();
    for item in items(data) {
        match entries.last_mut().filter(|_| !item.has(NEXT)) {
            Some(entry) => entry.push(item),
            None => entries.push(vec![item]),
        }
    }
    let mut is_taken = true;
    let mut log = Vec::new();
    for (index, mut entry) in (1..).zip(entries) {
        let count = u32::try_from(entry.len() - 1).unwrap_or(0);
        let term = 1 + index / 4;
        if entry[0].has(DESCRIPTOR) {
            let head = &mut entry[0].bytes;
            head.resize(32, 0);
            (head[0], head[1]) = (1, head[1] & 1);
            put_number(head, 4, &count.to_le_bytes());
            put_number(head, 24, &u64::to_le_bytes(term));
        }
        for (place, item) in entry.iter().enumerate() {
            is_taken &= match place {
                0 => descriptor(&item.bytes),
                _ => effect(&Bytes::copy_from_slice(&item.bytes)),
            };
        }
        let chunks = entry.into_iter().map(|item| Bytes::from(item.bytes)).collect();
        log.push(RecoveredEntry { index: RaftIndex(index), term: Term(term), chunks });
    }
    let config =
        GroupConfig { member: 1, election_ticks: 10, heartbeat_ticks: 1, shards: ShardSet::all(3) };
    let last = RaftIndex(log.len() as u64);
    let hard_state = HardState { term: Term(1), vote: 1, commit: last };
    let place = |key: &[u8]| ShardId(key.len() as u16 % 3);
    match Orderer::recover(config, hard_state, Base::START, log, place) {
        Ok(orderer) => assert_eq!(orderer.indexes().0, last),
        Err(what) => assert!(!is_taken || !what.0.is_empty()),
    }
    is_taken
}

fn descriptor(bytes: &[u8]) -> bool {
    let Ok(found) = Descriptor::decode(bytes) else { return false };
    let again = Descriptor::decode(&found.encode());
    assert_eq!(again, Ok(found), "a descriptor reads back");
    true
}

fn effect(bytes: &Bytes) -> bool {
    let Ok(found) = Effect::decode(bytes.clone()) else { return false };
    assert_eq!(found.log_len(), bytes.len());
    if let Effect::Record(record) = &found {
        use_record(record);
        assert_eq!(record.log(), bytes);
    }
    true
}

/// Asks a record for all that it has.
pub fn use_record(record: &Record) {
    let parts = [record.key(), record.value(), record.kv(), record.hashed_value()];
    let len: usize = parts.iter().map(|part| part.len()).sum();
    assert!(len <= 3 * record.log().len(), "parts of a record lie within it");
    assert_eq!(record.key_bytes(), record.key());
    assert!(record.kv_without_value().len() <= record.kv_bytes().len());
    assert_eq!(record.copied().log(), record.log());
    assert!(!format!("{record:?} {:?}", record.turn()).is_empty());
    let shown = record.without_value();
    assert_eq!((shown.at(), shown.key()), (record.at(), record.key()));
}

/// Every kind of effect, in entries of several.
pub fn seeds() -> Vec<Vec<u8>> {
    let put = |key: &[u8], value: &[u8], revision: i64, lease: i64| {
        Effect::Record(Arc::new(Record::put(PutFields {
            key,
            value,
            revision: Revision(revision),
            sub: Sub(0),
            create: Revision(2),
            version: revision - 1,
            lease: LeaseId(lease),
        })))
    };
    let gone = Effect::Record(Arc::new(Record::tombstone(b"key", Revision(9), Sub(1))));
    let entries: [&[Effect]; 4] = [
        &[put(b"key", b"value", 2, 0)],
        &[put(b"key", &[7; 300], 3, 5), gone],
        &[
            Effect::Grant { id: LeaseId(5), ttl_s: 60 },
            Effect::Revoke { id: LeaseId(-5) },
            Effect::Compact { at: Revision(4) },
            Effect::Alarm { member: 7, kind: AlarmKind::NoSpace, raised: true },
        ],
        &[],
    ];
    let chunks = |(index, effects): (u64, &[Effect])| {
        let descriptor = Descriptor {
            term: Term(1 + index / 4),
            before: Revision(1),
            last: Revision(2),
            more: index == 2,
            count: effects.len() as u32,
        };
        let mut out = vec![Item::new(NEXT, descriptor.encode())];
        out.extend(effects.iter().map(|effect| Item::new(0, effect.log().0)));
        out
    };
    let all: Vec<Vec<Item>> = (1..).zip(entries).map(chunks).collect();
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|entry| input(entry)).collect();
    seeds.push(input(&all.concat()));
    seeds
}
