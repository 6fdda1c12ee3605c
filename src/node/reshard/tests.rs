//! Whole stores before and after: what clients are told, and every entry of every tree.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::Failed;
use crate::base::prng::Prng;
use crate::base::range::KeyRange;
use crate::base::{LeaseId, Revision, ShardId};
use crate::node::boot::{Boot, Refused};
use crate::router::Router;
use crate::shard::pages::{Codec, FileId, PageMedium, PageRef, Pages, Place, Roots, State};
use crate::shard::tree::{Kind, Reader, Root, lease_of, undone_key};
use crate::sim::disk::{Disk, End};
use crate::sim::machine::{DATA_DIR, Plan};
use crate::sim::model::shown;
use crate::sim::page_disk::PageDisk;
use crate::sim::reshard::{Ended, Trouble, reshard};
use crate::sim::rig::Rig;
use crate::wire::call::{Reply, Request, WatchBody};
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::mvccpb;

const KINDS: [Kind; 4] = [Kind::Current, Kind::Undo, Kind::Leased, Kind::Meta];

fn plan(shards: u16) -> Plan {
    let mut plan = Plan::new(2, shards, 1);
    plan.node.page_cache_bytes = (8 << 20) * usize::from(shards);
    plan.node.checkpoint_behind = (700, u64::MAX);
    plan.layout.segment_bytes = 8 << 20;
    // Nobody takes what streams are told.
    plan.node.watch_stream_bytes = 1 << 30;
    plan
}

fn put(key: String, value: Vec<u8>, lease: i64) -> pb::PutRequest {
    let (key, value) = (Bytes::from(key), Bytes::from(value));
    pb::PutRequest { key, value, lease, ..pb::PutRequest::default() }
}

/// Values of all sizes, some of which need a page of their own, some of which do not compress.
fn value(prng: &mut Prng) -> Vec<u8> {
    let len = match prng.below(1_000) {
        0..4 => 200_000 + prng.below(300_000),
        4..100 => prng.below(20_000),
        _ => prng.below(600),
    };
    let alphabet = [2, 256][prng.below(2) as usize];
    (0..len).map(|_| prng.below(alphabet) as u8).collect()
}

/// A member with some history: keys of many sizes, deleted and put again, leases that came and
/// went, an alarm, a compaction.
fn lived(shards: u16, seed: u64, keys: u64) -> Rig {
    let mut prng = Prng::new(seed);
    let mut rig = Rig::new(plan(shards));
    for id in 1..=20 {
        done(rig.ask(0, Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 600 + id, id })));
    }
    for turn in 0..2 * keys {
        let puts = (0..1 + prng.below(4)).map(|_| {
            // One is revoked on the way.
            let lease = if prng.percent(20) { 1 + prng.below(20) as i64 } else { 0 };
            let lease = if lease == 3 && turn > keys { 4 } else { lease };
            put(format!("key/{:05}", prng.below(keys)), value(&mut prng), lease)
        });
        // A Txn puts each key once.
        let mut seen = BTreeSet::new();
        let puts: Vec<_> = puts.filter(|put| seen.insert(put.key.clone())).collect();
        let ops = puts.into_iter().map(|put| pb::RequestOp { request: Some(Op::RequestPut(put)) });
        let txn = pb::TxnRequest { success: ops.collect(), ..pb::TxnRequest::default() };
        done(rig.ask(0, Request::Txn(txn)));
        if prng.percent(10) {
            let from = prng.below(keys);
            let (key, range_end) = (format!("key/{from:05}"), format!("key/{:05}", from + 4));
            let (key, range_end) = (Bytes::from(key), Bytes::from(range_end));
            let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
            done(rig.ask(1, Request::DeleteRange(delete)));
        }
        if turn == keys {
            let revision = rig.machine.shared.visible_revision().0 / 3;
            let compact = pb::CompactionRequest { revision, physical: true };
            done(rig.ask(0, Request::Compact(compact)));
            done(rig.ask(0, Request::LeaseRevoke(LeaseId(3))));
        }
    }
    let raise = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    done(rig.ask(0, Request::Alarm(raise)));
    rig
}

#[track_caller]
fn done(reply: Reply) {
    assert!(reply.is_ok(), "{reply:?}");
}

/// What clients are told of all that is kept.
fn told(rig: &mut Rig) -> Vec<String> {
    let newest = rig.machine.shared.visible_revision().0;
    let everything = |revision| {
        let (key, range_end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0]));
        pb::RangeRequest { key, range_end, revision, ..pb::RangeRequest::default() }
    };
    let mut told = Vec::new();
    let mut ask = |request: Request| told.push(shown(&rig.ask(1, request)));
    ask(Request::Range(everything(0)));
    for at in (0..=newest).filter(|at| at % 37 == 0 || newest - at < 20) {
        ask(Request::HashKv(Revision(at)));
        ask(Request::Range(pb::RangeRequest { count_only: true, ..everything(at) }));
        ask(Request::Range(pb::RangeRequest { limit: 30, keys_only: true, ..everything(at) }));
    }
    for id in (1..=20).map(LeaseId) {
        ask(Request::LeaseTimeToLive { id, keys: true });
    }
    ask(Request::LeaseLeases);
    ask(Request::Alarm(pb::AlarmRequest::default()));
    told.push(format!("compacted at {}", rig.machine.shared.compact_revision()));
    told
}

/// What a watch from a revision on is told, up to the newest.
fn watched(rig: &mut Rig, start_revision: i64) -> Vec<mvccpb::Event> {
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(b"key/"),
        range_end: Bytes::from_static(b"key0"),
        start_revision,
        prev_kv: true,
        ..pb::WatchCreateRequest::default()
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    let request = Request::Watch(pb::WatchRequest { request_union: Some(union) });
    let call = rig.call(0, request);
    let mut all = Vec::new();
    loop {
        rig.run();
        let (mine, others) = std::mem::take(&mut rig.told).into_iter().partition(|t| t.0 == call);
        rig.told = others;
        let mine: Vec<_> = mine;
        if mine.is_empty() {
            return all;
        }
        for (_, message) in mine {
            if let WatchBody::Events { events, .. } = &message.body {
                let bytes: Vec<u8> = events.iter().flatten().copied().collect();
                all.extend(pb::WatchResponse::decode(&bytes[..]).expect("events").events);
            }
        }
    }
}

/// A page file as whoever reads all of it sees it.
struct Read<'a> {
    disk: &'a PageDisk,
    file: FileId,
    codec: RefCell<Codec>,
}

impl Pages for Read<'_> {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        let stored = self.disk.read(self.file, at.extent()).expect("a page");
        Some(self.codec.borrow_mut().open(at, &stored).expect("an intact page"))
    }

    fn holds(&self, _: PageRef) -> bool {
        true
    }
}

/// Every entry of a tree of a store, with its shard; and that the tree is higher than a page.
fn entries(disk: &PageDisk, states: &[State], kind: Kind) -> (Vec<(Bytes, Bytes, ShardId)>, bool) {
    let mut all = Vec::new();
    let mut is_high = false;
    for (shard, state) in (0..).map(ShardId).zip(states) {
        let Roots { current, undo, leased, meta } = state.roots;
        let root = match kind {
            Kind::Current => current,
            Kind::Undo => undo,
            Kind::Leased => leased,
            Kind::Meta => meta,
        };
        let root = root.map(|root| Root::from_stored(&root).expect("a root"));
        is_high |= root.is_some_and(|root| root.height > 0);
        let codec =
            RefCell::new(Codec::new(Place { data_dir: DATA_DIR, shard }, crate::shard::tree::FORM));
        let pages = Read { disk, file: FileId(shard), codec };
        let walked = Reader::new(kind, root, &pages).walk(&KeyRange::all(), None, &mut |entry| {
            let key = Bytes::copy_from_slice(entry.key());
            all.push((key, Bytes::copy_from_slice(entry.value()), shard));
            ControlFlow::Continue(())
        });
        walked.expect("all pages are there");
    }
    all.sort();
    (all, is_high)
}

fn states(plan: &Plan, disk: &Disk, pages: &PageDisk) -> Result<Vec<State>, Refused> {
    let boot = Boot::recover(disk, pages, &plan.whose(true), plan.layout)?;
    assert!(boot.entries.is_empty(), "the log was not applied to its end");
    Ok(boot.starts.iter().map(|start| start.superblock.state).collect())
}

/// Whether two stores hold the same, each entry where it belongs.
fn assert_same(old: (&Plan, &PageDisk), new: (&Plan, &PageDisk), disk: &Disk) -> bool {
    let old_states = states(old.0, disk, old.1).expect("the old store");
    let new_states = states(new.0, disk, new.1).expect("the new store");
    let roots = Roots::default();
    for state in old_states.iter().chain(&new_states) {
        assert_eq!(State { roots, ..*state }, State { roots, ..old_states[0] });
    }
    let mut is_high = true;
    for kind in KINDS {
        let (was, _) = entries(old.1, &old_states, kind);
        let (is, high) = entries(new.1, &new_states, kind);
        let bare = |all: &[(Bytes, Bytes, ShardId)]| -> Vec<(Bytes, Bytes)> {
            all.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect()
        };
        assert!(bare(&was) == bare(&is), "{kind:?} holds {} and {}", was.len(), is.len());
        let router = Router::new(new.0.whose(true).hash_seed, new.0.shards);
        for (key, value, shard) in &is {
            let owner = match kind {
                Kind::Current => router.shard_of(key),
                Kind::Undo => router.shard_of(undone_key(value).expect("an entry")),
                Kind::Leased => router.shard_of(lease_of(key).expect("an entry").1.expect("a key")),
                Kind::Meta => ShardId(0),
            };
            assert_eq!(*shard, owner, "{kind:?} {}", key.escape_ascii());
        }
        is_high &= high || matches!(kind, Kind::Leased | Kind::Meta);
        assert!(!is.is_empty(), "{kind:?} is empty");
    }
    is_high
}

fn write_anew(rig: &mut Rig, from: &Plan, shards: u16, prng: &mut Prng) -> (Plan, PageDisk) {
    rig.pages.crash(End::Killed, prng);
    rig.disk.crash(End::PowerCut, prng);
    let disks = (&rig.disk, &mut rig.pages);
    let new = reshard(from, disks, shards, Trouble::default(), prng).expect("a new store");
    let mut plan = from.clone();
    plan.reshard(shards);
    (plan, new)
}

fn brief(event: &mvccpb::Event) -> String {
    let one = |kv: &mvccpb::KeyValue| {
        let key = kv.key.escape_ascii();
        format!("{key} at {} of {} bytes on {}", kv.mod_revision, kv.value.len(), kv.lease)
    };
    let (kv, before) = (event.kv.as_ref().map(one), event.prev_kv.as_ref().map(one));
    format!("{:?} {kv:?}, before {before:?}", event.r#type())
}

#[test]
fn a_store_is_the_same_with_any_number_of_shards() {
    let mut prng = Prng::new(5);
    let rig = lived(1, 5, 500);
    let mut from = plan(1);
    // Every start gives leases their whole time again.
    let mut rig = Rig::open(from.clone(), rig.disk, rig.pages, true);
    let before = told(&mut rig);
    let revision = rig.machine.shared.visible_revision();
    let compact = rig.machine.shared.compact_revision().0;
    let events = watched(&mut rig, compact);
    assert!(events.len() > 1_000, "{} events", events.len());
    for shards in [4, 16, 3, 1, 2] {
        let (to, new) = write_anew(&mut rig, &from, shards, &mut prng);
        let is_high = assert_same((&from, &rig.pages), (&to, &new), &rig.disk);
        assert!(is_high || shards > 4, "trees of one page alone");
        rig = Rig::open(to.clone(), rig.disk, new, true);
        for (now, was) in told(&mut rig).iter().zip(&before) {
            assert_eq!(now, was, "{shards} shards");
        }
        let now = watched(&mut rig, compact);
        assert_eq!(now.len(), events.len(), "{shards} shards");
        for (now, was) in now.iter().zip(&events) {
            assert!(now == was, "{shards} shards: {} and {}", brief(now), brief(was));
        }
        from = to;
    }
    // It goes on.
    let lift = pb::AlarmRequest { action: 2, member_id: 7, alarm: 1 };
    done(rig.ask(0, Request::Alarm(lift)));
    done(rig.ask(0, Request::Put(put("key/new".to_owned(), vec![1; 10], 5))));
    assert_eq!(rig.machine.shared.visible_revision(), revision.next());
}

#[test]
fn an_empty_store_has_any_number_of_shards() {
    let from = plan(2);
    let mut rig = Rig::new(from.clone());
    let (to, new) = write_anew(&mut rig, &from, 3, &mut Prng::new(1));
    let mut rig = Rig::open(to, rig.disk, new, true);
    done(rig.ask(0, Request::Put(put("key".to_owned(), vec![1], 0))));
    assert_eq!(rig.machine.shared.visible_revision(), Revision(2));
}

#[test]
fn rot_is_noticed_and_what_is_whole_stays() {
    let (mut noticed, mut unseen) = (0, 0);
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let mut rig = lived(2, 9, 40);
        let from = plan(2);
        rig.pages.crash(End::Killed, &mut prng);
        rig.disk.crash(End::PowerCut, &mut prng);
        assert!(rig.pages.rot(&mut prng));
        if Boot::recover(&rig.disk, &rig.pages, &from.whose(true), from.layout).is_err() {
            noticed += 1;
            continue;
        }
        let disks = (&rig.disk, &mut rig.pages);
        match reshard(&from, disks, 3, Trouble::default(), &mut prng) {
            // It hit what nobody needs.
            Ok(new) => {
                let mut to = from.clone();
                to.reshard(3);
                assert_same((&from, &rig.pages), (&to, &new), &rig.disk);
                unseen += 1;
            }
            Err(Ended::Failed(Failed::Fault { .. })) => noticed += 1,
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(noticed > 5 && unseen > 0, "{noticed} noticed, {unseen} not");
}
