//! The orderer as a lone voter: nothing commits before it is durable, restarts go on.

use super::*;
use crate::base::record::Record;
use crate::base::{LeaseId, Sub};

fn config() -> GroupConfig {
    GroupConfig { member: 7, election_ticks: 10, heartbeat_ticks: 1, shards: ShardSet::all(2) }
}

fn recover(entries: Vec<RecoveredEntry>, hard_state: HardState) -> Orderer {
    Orderer::recover(config(), hard_state, Base::START, entries, |key: &[u8]| {
        ShardId(u16::from(key[0] % 2))
    })
    .expect("well-formed entries")
}

/// An orderer that leads and is open, and the disk that took its entries so far.
fn opened() -> (Orderer, Vec<LogEntry>) {
    let mut orderer = recover(Vec::new(), HardState::default());
    let mut committed = VecDeque::new();
    orderer.campaign(&mut committed);
    let own = orderer.next_entry(&mut Vec::new()).expect("a new leader's entry");
    assert!(own.chunks.is_empty());
    assert_eq!(own.hard_state.term, Term(2));
    assert_eq!(own.hard_state.vote, 7);
    assert!(committed.is_empty());
    orderer.persisted(own.index, &mut committed);
    assert_eq!(committed.len(), 1);
    orderer.open(Revision::EMPTY);
    (orderer, vec![own])
}

fn put(revision: i64, key: &[u8]) -> Proposal {
    let record = Record::tombstone(key, Revision(revision), Sub(0));
    let effect = placed(Effect::Record(Arc::new(record)), |key| ShardId(u16::from(key[0] % 2)));
    let bytes = effect.effect.log_len();
    Proposal {
        place: Place::At(Revision(revision)),
        effects: vec![effect],
        bytes,
        credit: 0,
        answer: None,
    }
}

fn mark(call: u32) -> Proposal {
    let call = CallId { connection: 0, call };
    let reply = Err(crate::base::reject::Reject::KeyNotFound);
    let answer = Some(Prepared { core: CoreId(0), call, reply });
    Proposal { place: Place::Mark(Revision(0)), effects: Vec::new(), bytes: 0, credit: 0, answer }
}

#[test]
fn what_waits_becomes_one_entry_and_commits_once_durable() {
    let (mut orderer, _) = opened();
    for revision in [3, 2, 4] {
        orderer.offer(put(revision, b"a"));
    }
    let mut settled = Vec::new();
    let entry = orderer.next_entry(&mut settled).expect("three proposals wait");
    assert_eq!(entry.chunks.len(), 4);
    assert!(orderer.next_entry(&mut settled).is_none());
    let mut committed = VecDeque::new();
    orderer.tick(&mut committed);
    assert!(committed.is_empty(), "committed before it was durable");
    orderer.persisted(entry.index, &mut committed);
    let batch = &committed[0].batch;
    assert_eq!((batch.before, batch.last), (Revision(1), Revision(4)));
    assert_eq!(batch.effects.len(), 3);
}

#[test]
fn several_entries_in_flight_commit_by_the_durable_prefix() {
    let (mut orderer, _) = opened();
    let mut settled = Vec::new();
    let mut indexes = Vec::new();
    for revision in 2..6 {
        orderer.offer(put(revision, b"b"));
        indexes.push(orderer.next_entry(&mut settled).expect("one waits").index);
    }
    let mut committed = VecDeque::new();
    orderer.persisted(indexes[1], &mut committed);
    assert_eq!(committed.len(), 2);
    orderer.persisted(indexes[3], &mut committed);
    let revisions: Vec<i64> = committed.iter().map(|one| one.batch.last.0).collect();
    assert_eq!(revisions, [2, 3, 4, 5]);
}

#[test]
fn marks_ride_with_the_newest_entry_or_settle_at_once() {
    let (mut orderer, _) = opened();
    let mut settled = Vec::new();
    orderer.offer(mark(1));
    assert!(orderer.next_entry(&mut settled).is_none());
    assert_eq!(settled.len(), 1, "nothing is in flight");
    orderer.offer(put(2, b"a"));
    let entry = orderer.next_entry(&mut settled).expect("a write waits");
    orderer.offer(mark(2));
    assert!(orderer.next_entry(&mut settled).is_none());
    assert_eq!(settled.len(), 1, "the mark waits for the write");
    let mut committed = VecDeque::new();
    orderer.persisted(entry.index, &mut committed);
    assert_eq!(committed[0].answers[0].call.call, 2);
}

#[test]
fn an_operation_larger_than_an_entry_takes_effect_with_its_last_piece() {
    let (mut orderer, _) = opened();
    let key = vec![b'a'; 1 << 19];
    let mut big = put(2, &key);
    for sub in 1..7 {
        let record = Record::tombstone(&key, Revision(2), Sub(sub));
        big.effects.push(placed(Effect::Record(Arc::new(record)), |_| ShardId(0)));
    }
    big.bytes = big.effects.iter().map(|placed| placed.effect.log_len()).sum();
    orderer.offer(put(3, b"b"));
    orderer.offer(big);
    let mut settled = Vec::new();
    let mut entries = Vec::new();
    while let Some(entry) = orderer.next_entry(&mut settled) {
        entries.push(entry);
    }
    assert!(entries.len() > 3, "{}", entries.len());
    let mut committed = VecDeque::new();
    for entry in &entries[..entries.len() - 2] {
        orderer.persisted(entry.index, &mut committed);
        assert!(committed.is_empty());
    }
    orderer.persisted(entries[entries.len() - 1].index, &mut committed);
    assert_eq!(committed.len(), 2);
    assert_eq!(committed[0].batch.effects.len(), 7);
    assert_eq!(committed[1].batch.last, Revision(3));
}

#[test]
fn a_restart_commits_the_durable_log_and_leads_a_new_term() {
    let (mut orderer, mut disk) = opened();
    let mut settled = Vec::new();
    orderer.offer(put(2, b"a"));
    disk.extend(orderer.next_entry(&mut settled));
    let grant = placed(Effect::Grant { id: LeaseId(5), ttl_s: 9 }, |_| ShardId(0));
    let place = Place::Behind(Revision(2));
    orderer.offer(Proposal { place, bytes: 17, credit: 0, effects: vec![grant], answer: None });
    disk.extend(orderer.next_entry(&mut settled));
    let hard_state = disk[2].hard_state;
    let entries = disk.into_iter().map(|entry| RecoveredEntry {
        index: entry.index,
        term: entry.term,
        chunks: entry.chunks.into_iter().map(|(bytes, _)| bytes).collect(),
    });
    let mut again = recover(entries.collect(), hard_state);
    let mut committed = VecDeque::new();
    again.campaign(&mut committed);
    assert_eq!(again.term(), Term(3));
    let own = again.next_entry(&mut settled).expect("a new leader's entry");
    again.persisted(own.index, &mut committed);
    let shapes: Vec<(u64, usize, i64)> = committed
        .iter()
        .map(|one| (one.batch.index.0, one.batch.effects.len(), one.batch.last.0))
        .collect();
    assert_eq!(shapes, [(1, 0, 1), (2, 1, 2), (3, 1, 2), (4, 0, 2)]);
    assert_eq!(committed[2].batch.shards, ShardSet::all(2));
}
