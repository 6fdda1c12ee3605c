//! Everything that is read, against the naive model: random histories over 1, 2 and 5 shards,
//! read in slices of random size, with missing pages and a small cache, while history goes on, is
//! compacted, and moves from memory to pages.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::{Budget, RangeCursor, Step};
use super::hash::{HashOf, HashSum};
use super::range::{Gather, Progress, Run, ShardAsk, ShardRange, revision_of, validate};
use super::remaining::Remaining;
use super::source::{AsOf, CountState, Counted, Source, Stop, Visitor, Walk};
use crate::base::change::Change;
use crate::base::prng::Prng;
use crate::base::range::KeyRange;
use crate::base::record::{PutFields, Record};
use crate::base::reject::Reject;
use crate::base::{LeaseId, Revision, Sub};
use crate::shard::store::tests::Paged;
use crate::shard::store::{HashList, Overlaid, StretchCursor};
use crate::sim::model::{Model, shown};
use crate::sim::requests::Requests;
use crate::wire::call::{Answer, RangeAnswer, Request};
use crate::wire::etcdserverpb as pb;

/// Says how to run a failed case again.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "a failing seed has to be seen")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: SEED={} cargo test --lib shard::mvcc::tests", self.0);
        }
    }
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// What the model did and the shards have yet to apply.
enum Pending {
    Change(Change),
    Grant(LeaseId, i64),
    Revoke(LeaseId),
    Compact(Revision),
}

/// Some shards behind a model that decides what is written.
struct Store {
    model: Model,
    shards: Vec<Paged>,
    pending: VecDeque<Pending>,
    requests: Requests,
    prng: Prng,
    /// A revision that a reader holds.
    held: Option<Revision>,
    remaining: Remaining,
    /// Pages of lists of which the count was known.
    pages: u64,
}

/// A source that misses pages at random.
struct Faulty<'a> {
    below: &'a dyn Source,
    prng: RefCell<Prng>,
}

impl Source for Faulty<'_> {
    fn walk(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        as_of: AsOf,
        visit: &mut Visitor<'_>,
    ) -> Result<Walk, Stop> {
        let mut prng = self.prng.borrow_mut();
        let mut left = if prng.percent(40) { prng.below(5) } else { u64::MAX };
        let mut is_missing = false;
        let walk = self.below.walk(range, after, as_of, &mut |key, live| {
            if left == 0 {
                is_missing = true;
                return ControlFlow::Break(());
            }
            left -= 1;
            visit(key, live)
        });
        // No page: whoever asks for more only tries again.
        if is_missing { Err(Stop::Wanted(Vec::new())) } else { walk }
    }

    fn count_slice(
        &self,
        range: &KeyRange,
        as_of: AsOf,
        from: CountState,
        budget: usize,
    ) -> Result<Counted, Stop> {
        self.below.count_slice(range, as_of, from, budget)
    }

    fn counts_slower_than_walking(&self, _: &KeyRange, _: AsOf) -> bool {
        // Both ways must give the same.
        self.prng.borrow_mut().percent(50)
    }
}

impl Store {
    fn new(seed: u64) -> Store {
        let shards = [1, 2, 5][(seed % 3) as usize];
        let cache_bytes = [20 << 10, 60 << 10, 1 << 20][(seed / 3 % 3) as usize];
        Store {
            model: Model::new(),
            shards: (0..shards).map(|shard| Paged::new(shard, cache_bytes)).collect(),
            pending: VecDeque::new(),
            requests: Requests::new(seed),
            prng: Prng::new(seed ^ 0xABCD),
            held: None,
            remaining: Remaining::default(),
            pages: 0,
        }
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        crc32c::crc32c(key) as usize % self.shards.len()
    }

    /// Executes a write in the model and queues its effects.
    fn write(&mut self) {
        let before = self.model.revision();
        let request = self.requests.write(&self.model);
        let reply = self.model.execute(&request);
        let events = self.model.events(&KeyRange::all(), before.next());
        self.pending.extend(events.unwrap_or_default().into_iter().map(Pending::Change));
        match (request, reply) {
            (Request::LeaseGrant(grant), Ok(_)) => {
                self.pending.push_back(Pending::Grant(LeaseId(grant.id), grant.ttl));
            }
            (Request::LeaseRevoke(id), Ok(_)) => self.pending.push_back(Pending::Revoke(id)),
            (Request::Compact(compact), Ok(_)) => {
                self.pending.push_back(Pending::Compact(Revision(compact.revision)));
            }
            _ => {}
        }
    }

    /// Applies what is pending up to the end of some revision.
    fn apply(&mut self, all: bool) {
        while let Some(next) = self.pending.pop_front() {
            let revision = match &next {
                Pending::Change(change) => Some(change.record.revision),
                _ => None,
            };
            self.apply_one(next);
            let following = match self.pending.front() {
                Some(Pending::Change(change)) => Some(change.record.revision),
                _ => None,
            };
            let splits = revision.is_some() && revision == following;
            if !all && !splits && self.prng.percent(25) {
                return;
            }
        }
    }

    fn apply_one(&mut self, next: Pending) {
        match next {
            Pending::Change(change) => {
                let shard = self.shard_of(change.record.key());
                self.shards[shard].store.apply(Arc::clone(&change.record));
            }
            Pending::Grant(id, ttl_s) => {
                self.shards.iter_mut().for_each(|shard| shard.store.grant(id, ttl_s));
            }
            Pending::Revoke(id) => self.shards.iter_mut().for_each(|shard| shard.store.revoke(id)),
            Pending::Compact(at) => {
                self.shards.iter_mut().for_each(|shard| shard.store.compact(at));
            }
        }
    }

    /// A slice of physical compaction and of checkpoints on some shards.
    fn forget(&mut self) {
        let applied = self.applied();
        for shard in &mut self.shards {
            let floor = shard.store.compact_revision();
            let upto = self.held.map_or(floor, |held| held.min(floor));
            if self.prng.percent(60) {
                shard.store.cut(upto);
            }
            if self.prng.percent(30) {
                shard.begin(applied);
            }
            for _ in 0..self.prng.below(12) {
                shard.work(&mut self.prng);
            }
        }
    }

    fn applied(&self) -> Revision {
        let first = self.pending.iter().find_map(|next| match next {
            Pending::Change(change) => Some(change.record.revision.before()),
            _ => None,
        });
        first.unwrap_or(self.model.revision())
    }

    fn has_pending_compaction(&self) -> bool {
        self.pending.iter().any(|next| matches!(next, Pending::Compact(_)))
    }

    fn budget(&mut self) -> Budget {
        let keys = 1 + self.prng.below(6) as usize;
        let bytes = 1 + self.prng.below(200) as usize;
        if self.prng.percent(30) { Budget::UNBOUNDED } else { Budget { keys, bytes } }
    }

    fn overlay(&self, shard: usize) -> BTreeMap<Bytes, Arc<Record>> {
        let mut overlay = BTreeMap::new();
        for next in &self.pending {
            if let Pending::Change(change) = next
                && self.shard_of(change.record.key()) == shard
            {
                overlay.insert(change.record.key_bytes(), Arc::clone(&change.record));
            }
        }
        overlay
    }

    /// One shard's part, in slices; history goes on between them if it may.
    fn run(&mut self, shard: usize, ask: ShardAsk, goes_on: bool) -> Run {
        let is_newest = ask.as_of == AsOf::Newest;
        let overlay = self.overlay(shard);
        let mut part: Option<ShardRange> = None;
        loop {
            let budget = self.budget();
            let prng = RefCell::new(Prng::new(self.prng.next_u64()));
            let store = &self.shards[shard].store;
            let overlaid = Overlaid { store, overlay: &overlay };
            let below: &dyn Source = if is_newest { &overlaid } else { store };
            let source = Faulty { below, prng };
            let part = part.get_or_insert_with(|| ShardRange::new(ask.clone(), &source));
            match part.step(&source, budget) {
                Ok(Progress::Done(run)) => return run,
                Ok(Progress::Paused) => {}
                Err(stop) => self.shards[shard].bring(stop),
            }
            if goes_on {
                self.write();
                if self.prng.percent(50) {
                    self.apply(false);
                }
                self.forget();
            }
        }
    }

    fn gather(&mut self, request: &pb::RangeRequest, as_of: AsOf, goes_on: bool) -> RangeAnswer {
        let shards = self.shards.len();
        let mut gather = Gather::new(request.clone(), as_of, shards);
        if let AsOf::At(at) = as_of {
            gather = gather.knowing(self.remaining.of(at, request));
        }
        let first = gather.first_ask();
        let mut asks: Vec<_> = (0..shards).map(|shard| (shard, first.clone())).collect();
        while !asks.is_empty() {
            for (shard, ask) in asks {
                let run = self.run(shard, ask, goes_on);
                gather.add(shard, run);
            }
            asks = gather.further_asks();
        }
        gather.finish(Revision(0), &mut self.remaining)
    }

    // --- checks ---------------------------------------------------------------------------

    /// A range as of an applied revision, while history goes on.
    fn check_range_at(&mut self) {
        let applied = self.applied();
        let lowest = self.model.compact_revision().max(Revision(1));
        if applied < lowest {
            return;
        }
        let span = (applied.0 - lowest.0) as u64 + 1;
        let at = Revision(lowest.0 + self.prng.below(span) as i64);
        let asked = self.requests.range(&self.model);
        let mut request = pb::RangeRequest { revision: at.0, ..asked };
        self.held = Some(at);
        for _ in 0..4 {
            let expected = self.model.execute(&Request::Range(request.clone()));
            let answer = self.gather(&request, AsOf::At(at), true);
            check_same(&answer, expected, &request);
            // The next page of the same list.
            let goes_on = answer.more && at >= self.model.compact_revision();
            let Some(last) = answer.records.last().filter(|_| goes_on) else { break };
            request.key = [last.key(), &[0]].concat().into();
            self.pages += u64::from(self.remaining.of(at, &request).is_some());
        }
        self.held = None;
    }

    /// A range over what is in flight.
    fn check_range_newest(&mut self) {
        let asked = self.requests.range(&self.model);
        let request = pb::RangeRequest { revision: 0, ..asked };
        let expected = self.model.execute(&Request::Range(request.clone()));
        let answer = self.gather(&request, AsOf::Newest, false);
        check_same(&answer, expected, &request);
        let key = &request.key;
        let shard = self.shard_of(key);
        let overlay = self.overlay(shard);
        let newest =
            self.shards[shard].read(|store| Overlaid { store, overlay: &overlay }.newest(key));
        let single = pb::RangeRequest { key: key.clone(), ..pb::RangeRequest::default() };
        let expected = self.model.execute(&Request::Range(single));
        let Ok(Answer::Range(expected)) = expected else { panic!("{expected:?}") };
        assert_eq!(text(newest.as_ref()), text(expected.records.first()));
    }

    /// Which revisions may be read.
    fn check_revision(&mut self) {
        let request = self.requests.range(&self.model);
        let (newest, compact) = (self.model.revision(), self.model.compact_revision());
        let mine = validate(&request).and_then(|()| revision_of(request.revision, newest, compact));
        let theirs = self.model.execute(&Request::Range(request));
        assert_eq!(mine.err(), theirs.err());
    }

    fn check_leases(&mut self) {
        let applied = self.applied();
        for id in (1..5).map(LeaseId) {
            let mut keys = Vec::new();
            for shard in &mut self.shards {
                let now = shard.read(|store| store.keys_of(id));
                assert_eq!(shard.read(|store| store.keys_of_at(id, applied)), now);
                keys.extend(now);
            }
            keys.sort();
            assert_eq!(keys, self.model.keys_of(id), "lease {id}");
            let exists = self.model.leases().iter().any(|lease| lease.0 == id);
            let all_say = |says| self.shards.iter().all(|shard| shard.store.has_lease(id) == says);
            assert!(all_say(exists), "lease {id}");
        }
    }

    fn check_stretch(&mut self) {
        let (newest, compact) = (self.model.revision(), self.model.compact_revision());
        let lowest = compact.before().max(Revision(0)).0;
        let after = Revision(lowest + self.prng.below((newest.0 - lowest) as u64 + 1) as i64);
        let upto = Revision(after.0 + self.prng.below((newest.0 - after.0) as u64 + 1) as i64);
        let (key, end) = self.requests.keys();
        let range = KeyRange::from_request(key, end);
        let events = self.model.events(&range, after.next()).expect("not compacted");
        let expected = events.into_iter().filter(|event| event.record.revision <= upto);
        let mut found = Vec::new();
        for shard in &mut self.shards {
            let mut at = after;
            while at < upto {
                let bytes_max = 1 + self.prng.below(300) as usize;
                let changes_max = 1 + self.prng.below(60) as usize;
                let mut cursor = StretchCursor::new(range.clone(), at, upto, bytes_max);
                cursor = cursor.within(changes_max);
                let stretch = loop {
                    match cursor.step(&shard.store) {
                        Ok(Some(stretch)) => break stretch,
                        Ok(None) => {}
                        Err(stop) => shard.bring(stop),
                    }
                    // What it waits for may have moved when it goes on.
                    shard.work(&mut self.prng);
                };
                assert!(stretch.reached > at, "a stretch did not move");
                let within = |change: &Change| {
                    at < change.record.revision && change.record.revision <= stretch.reached
                };
                assert!(stretch.changes.iter().all(within));
                found.extend(stretch.changes);
                at = stretch.reached;
            }
        }
        found.sort_by_key(|change| change.record.at());
        let all_text =
            |change: &Change| (text(Some(&change.record)), text(change.previous.as_ref()));
        let found: Vec<_> = found.iter().map(all_text).collect();
        let expected: Vec<_> = expected.map(|change| all_text(&change)).collect();
        assert_eq!(found, expected, "{range:?} after {after} up to {upto} over {compact}");
    }

    fn check_hash(&mut self) {
        let (newest, compact) = (self.model.revision(), self.model.compact_revision());
        let lowest = compact.max(Revision(1)).0;
        let revision = Revision(lowest + self.prng.below((newest.0 - lowest) as u64 + 1) as i64);
        let reply = self.model.execute(&Request::HashKv(revision));
        let Ok(Answer::HashKv { hash: expected, .. }) = reply else { panic!("{reply:?}") };
        let everything = KeyRange::all();
        let count = |shard: &mut Paged| shard.read(|store| store.count(&everything, revision));
        let any_live = self.shards.iter_mut().map(count).sum::<u64>() > 0;
        let of = HashOf { revision, compact, any_live };
        let mut lists = Vec::new();
        let applied = self.applied();
        for shard in &mut self.shards {
            let mut list = HashList::new(of);
            loop {
                match list.step(&shard.store, 1 + self.prng.below(5) as usize) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(stop) => shard.bring(stop),
                }
                if self.prng.percent(20) {
                    shard.begin(applied);
                }
                shard.work(&mut self.prng);
            }
            lists.push(list.finish());
        }
        let mut sum = HashSum::new(lists);
        let mut hash = None;
        while hash.is_none() {
            hash = sum.step(1 + self.prng.below(100) as usize);
        }
        assert_eq!(hash, Some(expected), "{of:?}");
    }
}

fn text(record: Option<&Arc<Record>>) -> Option<String> {
    record.map(|record| format!("{record:?} = {}", record.value().escape_ascii()))
}

fn check_same(answer: &RangeAnswer, expected: Result<Answer, Reject>, request: &pb::RangeRequest) {
    let Ok(Answer::Range(expected)) = expected else { panic!("{expected:?} for {request:?}") };
    let answer = RangeAnswer { revision: expected.revision, ..answer.clone() };
    let (answer, expected) = (Ok(Answer::Range(answer)), Ok(Answer::Range(expected)));
    assert_eq!(shown(&answer), shown(&expected), "{request:?}");
}

/// Pages of lists of which the count was known.
fn case(seed: u64) -> u64 {
    let _replay = Replay(seed);
    let mut store = Store::new(seed);
    for _ in 0..40 {
        store.write();
        match store.prng.below(12) {
            0..3 => store.apply(false),
            3..5 => store.apply(true),
            5 => store.forget(),
            6 => store.check_range_at(),
            7 => store.check_range_newest(),
            8 => store.check_revision(),
            _ => {}
        }
        if store.pending.is_empty() && !store.has_pending_compaction() {
            store.check_leases();
            store.check_stretch();
            store.check_hash();
        }
    }
    store.apply(true);
    store.check_leases();
    store.check_hash();
    for _ in 0..4 {
        store.check_range_at();
        store.check_range_newest();
    }
    store.pages
}

#[test]
fn every_read_is_the_models() {
    let pages: u64 = seeds(3000).map(case).sum();
    assert!(pages > 200 || std::env::var("SEED").is_ok(), "{pages} pages");
}

/// Creates a key.
fn put(shard: &mut Paged, key: &[u8], revision: i64) {
    let revision = Revision(revision);
    let (value, sub, lease) = (&b"v"[..], Sub(0), LeaseId::NONE);
    let fields = PutFields { key, value, revision, sub, create: revision, version: 1, lease };
    shard.store.apply(Arc::new(Record::put(fields)));
}

#[test]
fn a_cursor_goes_on_behind_a_key_that_is_gone() {
    let mut shard = Paged::new(1, 1 << 20);
    for (at, key) in [b"a", b"b", b"c", b"d"].iter().enumerate() {
        put(&mut shard, *key, 2 + at as i64);
    }
    let mut cursor = RangeCursor::new(KeyRange::all(), AsOf::Newest);
    let mut keys = Vec::new();
    let two = Budget { keys: 2, bytes: usize::MAX };
    let mut take = |record: &Arc<Record>| {
        keys.push(record.key_bytes());
        ControlFlow::Continue(())
    };
    assert_eq!(cursor.step(&shard.store, two, &mut take), Ok(Step::Paused));
    shard.store.apply(Arc::new(Record::tombstone(b"b", Revision(6), Sub(0))));
    put(&mut shard, b"e", 7);
    shard.store.compact(Revision(7));
    shard.store.cut(Revision(7));
    shard.checkpoint(Revision(7));
    let rest = shard.read(|store| cursor.step(store, Budget::UNBOUNDED, &mut take));
    assert_eq!(rest, Step::Ended);
    assert_eq!(keys, [b"a", b"b", b"c", b"d", b"e"].map(|key| Bytes::from_static(key)));
    assert_eq!(shard.store.live_keys(), 4);
}

#[test]
fn a_page_of_a_list_asks_each_shard_for_little_more_than_its_share() {
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        limit: 500,
        ..pb::RangeRequest::default()
    };
    let limit_of = |request: &pb::RangeRequest, shards| {
        Gather::new(request.clone(), AsOf::Newest, shards).first_ask().limit
    };
    assert_eq!(limit_of(&request, 1), Some(501));
    assert_eq!(limit_of(&request, 8), Some(63 + 3 * 7 + 1));
    let filtered = pb::RangeRequest { min_mod_revision: 3, ..request.clone() };
    assert_eq!(limit_of(&filtered, 8), None);
    let unlimited = pb::RangeRequest { limit: 0, ..request };
    assert_eq!(limit_of(&unlimited, 8), None);
}

#[test]
fn shards_of_unequal_share_are_asked_again() {
    for seed in seeds(300) {
        let _replay = Replay(seed);
        let mut prng = Prng::new(seed);
        let mut shards: Vec<Paged> = (0..4).map(|seed| Paged::new(seed, 1 << 20)).collect();
        let keys = 1 + prng.below(200) as i64;
        let skew = prng.below(101);
        for number in 0..keys {
            // A hash would not do this; whole stretches of keys lie on one shard here.
            let shard = if prng.percent(skew) { number / 50 % 4 } else { prng.below(4) as i64 };
            put(&mut shards[shard as usize], format!("{number:03}").as_bytes(), 2 + number);
        }
        let limit = 1 + prng.below(150) as i64;
        let key = Bytes::from_static(b"0");
        let range_end = Bytes::from_static(b"\0");
        let request = pb::RangeRequest { key, range_end, limit, ..pb::RangeRequest::default() };
        let mut gather = Gather::new(request, AsOf::Newest, shards.len());
        let first = gather.first_ask();
        let mut asks: Vec<_> = (0..shards.len()).map(|shard| (shard, first.clone())).collect();
        while !asks.is_empty() {
            for (shard, ask) in asks {
                gather.add(shard, ShardRange::run(ask, &shards[shard].store).expect("no pages"));
            }
            asks = gather.further_asks();
        }
        let answer = gather.finish(Revision(1), &mut Remaining::default());
        let found: Vec<i64> = answer.records.iter().map(|record| record.revision.0 - 2).collect();
        assert_eq!(found, (0..keys.min(limit)).collect::<Vec<_>>(), "{keys} keys, limit {limit}");
        assert_eq!((answer.more, answer.count), (keys > limit, keys as u64));
    }
}

#[test]
fn the_hash_of_two_changes_is_what_is_written_down_by_hand() {
    let mut shard = Paged::new(1, 1 << 20);
    put(&mut shard, b"k", 2);
    shard.store.apply(Arc::new(Record::tombstone(b"k", Revision(3), Sub(0))));
    let put: &[u8] =
        b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x01v";
    let gone: &[u8] = b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0t\x0a\x01k";
    // (revision, compact revision, what is summed behind the word `key`).
    let cases: [(i64, i64, &[&[u8]]); 6] = [
        (1, -1, &[]),
        (2, -1, &[put]),
        (3, -1, &[put, gone]),
        (2, 2, &[put]),
        // Nothing is live at 3, so what a compaction at 2 left counts although it is replaced.
        (3, 2, &[put, gone]),
        (3, 3, &[]),
    ];
    for (revision, compact, summed) in cases {
        let (revision, compact) = (Revision(revision), Revision(compact));
        let any_live = shard.read(|store| store.count(&KeyRange::all(), revision)) > 0;
        let mut list = HashList::new(HashOf { revision, compact, any_live });
        while !shard.read(|store| list.step(store, 1)) {}
        let mut sum = HashSum::new(vec![list.finish(), Vec::new()]);
        let bytes: Vec<u8> =
            [b"key".as_slice()].iter().chain(summed).copied().flatten().copied().collect();
        assert_eq!(sum.step(usize::MAX), Some(crc32c::crc32c(&bytes)), "{revision} over {compact}");
    }
}
