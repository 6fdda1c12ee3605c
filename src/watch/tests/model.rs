//! Random histories, watchers, readers and compactions against a plain replay of history.

use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::base::range::KeyRange;

const KEYS: [&str; 9] = ["a/1", "a/2", "a/3", "b", "b/1", "b/2", "c", "c/1", "d"];
const STREAMS: u32 = 5;

/// What a client asked for and what it has seen since.
struct Seen {
    request: pb::WatchCreateRequest,
    range: KeyRange,
    /// The first revision it is to see.
    from: Revision,
    /// Everything below this is known to the client: by an event or by progress.
    known: Revision,
    /// How far into history its events have come.
    cursor: usize,
    compacted: bool,
}

impl Seen {
    fn wants(&self, change: &Change) -> bool {
        let filter = i32::from(change.record.is_tombstone());
        change.record.revision >= self.from
            && self.range.contains(change.record.key())
            && !self.request.filters.contains(&filter)
    }

    /// The next change that it has yet to see.
    fn next<'a>(&mut self, history: &'a [Change]) -> Option<&'a Change> {
        while let Some(change) = history.get(self.cursor) {
            if self.wants(change) {
                return Some(change);
            }
            self.cursor += 1;
        }
        None
    }
}

/// A stream as its client sees it.
#[derive(Default)]
struct Client {
    /// Creates that were sent, with K at that moment.
    asked: VecDeque<(pb::WatchCreateRequest, Revision)>,
    watchers: BTreeMap<i64, Seen>,
    /// What was sent and has not left.
    queued: VecDeque<(usize, usize)>,
    /// Chance in percent that something leaves in a step.
    drains: u64,
}

struct World {
    rig: Rig,
    prng: Prng,
    seed: u64,
    live: BTreeSet<&'static str>,
    clients: BTreeMap<CallId, Client>,
    calls: u32,
    /// Asks with the shards that have yet to answer.
    asks: Vec<(CatchUpAsk, Vec<u16>)>,
    asked: usize,
    compacted: usize,
    progressed: usize,
    fragments: usize,
}

impl World {
    fn new(seed: u64, shards: u16) -> World {
        let rig = Rig::new(shards, |settings| {
            settings.stream_bytes = 4_000;
            settings.fragment_bytes = 300;
            settings.progress_interval_ms = 100;
            settings.slice = [4_096, 30, 5][(seed / 3 % 3) as usize];
        });
        let mut world = World {
            rig,
            prng: Prng::new(seed),
            seed,
            live: BTreeSet::new(),
            clients: BTreeMap::new(),
            calls: 0,
            asks: Vec::new(),
            asked: 0,
            compacted: 0,
            progressed: 0,
            fragments: 0,
        };
        for connection in 0..STREAMS {
            world.connect(connection);
        }
        world
    }

    fn connect(&mut self, connection: u32) {
        self.calls += 1;
        let drains = [100, 60, 10, 1, 0][self.prng.below(5) as usize];
        let client = Client { drains, ..Client::default() };
        self.clients.insert(CallId { connection, call: self.calls }, client);
    }

    fn any_call(&mut self) -> CallId {
        let at = self.prng.below(self.clients.len() as u64) as usize;
        *self.clients.keys().nth(at).expect("streams are replaced at once")
    }

    fn step(&mut self) {
        match self.prng.below(1000) {
            0..350 => self.commit(),
            350..600 => self.rig.store.apply(),
            600..630 => self.create(),
            630..645 => {
                let call = self.any_call();
                let ids: Vec<i64> = self.clients[&call].watchers.keys().copied().collect();
                if !ids.is_empty() {
                    let watch_id = ids[self.prng.below(ids.len() as u64) as usize];
                    let cancel = pb::WatchCancelRequest { watch_id };
                    self.rig.send(call, RequestUnion::CancelRequest(cancel));
                }
            }
            645..680 => {
                let call = self.any_call();
                self.rig.send(call, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
            }
            680..683 => {
                let call = self.any_call();
                self.rig.hub.on_gone(call);
                self.clients.remove(&call);
                self.connect(call.connection);
            }
            683..685 => {
                let (current, compact) =
                    (self.rig.store.revision().0, self.rig.store.shared.compact_revision().0);
                let at = current - 800 - self.prng.below(6_000) as i64;
                if at > compact && at > 0 {
                    self.rig.store.commit(&[], Some(Revision(at)));
                }
            }
            685..800 => self.answer(),
            _ => {
                self.rig.now = self.rig.now.plus_ms(self.prng.below(10));
                self.rig.advance();
            }
        }
        if !self.rig.store.shared.has_room() {
            self.rig.store.apply();
            while self.rig.advance() == More::Yes {}
        }
        self.read();
        self.drain();
    }

    fn commit(&mut self) {
        let value = [b'v'; 400];
        let mut txns = Vec::new();
        for _ in 0..self.prng.below(4) {
            let mut txn: Vec<Op<'_>> = Vec::new();
            for _ in 0..=self.prng.below(3) {
                let key = KEYS[self.prng.below(KEYS.len() as u64) as usize];
                if self.live.contains(key) && self.prng.percent(40) {
                    self.live.remove(key);
                    txn.push((key, None));
                } else {
                    let max = if self.prng.percent(5) { 400 } else { 6 };
                    let len = self.prng.below(max) as usize;
                    self.live.insert(key);
                    txn.push((key, Some(&value[..len])));
                }
            }
            txns.push(txn);
        }
        self.rig.store.commit(&txns, None);
    }

    fn create(&mut self) {
        let call = self.any_call();
        let key = KEYS[self.prng.below(KEYS.len() as u64) as usize];
        let (key, range_end) = match self.prng.below(5) {
            0 | 1 => (key, ""),
            2 => (&key[..1], "d"),
            3 => ("", "\0"),
            _ => (key, "\0"),
        };
        let current = self.rig.store.revision().0;
        let start = match self.prng.below(4) {
            0 => 0,
            1 => 1 + self.prng.below(current as u64) as i64,
            2 => (current - self.prng.below(40) as i64).max(0),
            _ => current + self.prng.below(20) as i64,
        };
        let filters = if self.prng.percent(30) { vec![self.prng.below(2) as i32] } else { vec![] };
        let request = pb::WatchCreateRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(range_end.as_bytes()),
            start_revision: start,
            progress_notify: self.prng.percent(50),
            filters,
            prev_kv: self.prng.percent(50),
            watch_id: if self.prng.percent(20) { self.prng.below(9) as i64 } else { 0 },
            fragment: self.prng.percent(50),
        };
        let (committed, _) = self.rig.store.shared.committed();
        let client = self.clients.get_mut(&call).expect("one of the streams");
        client.asked.push_back((request.clone(), committed));
        self.rig.send(call, RequestUnion::CreateRequest(request));
    }

    /// One shard answers one ask, with a stretch of a random length.
    fn answer(&mut self) {
        if self.asks.is_empty() {
            return;
        }
        let at = self.prng.below(self.asks.len() as u64) as usize;
        let (ask, missing) = &mut self.asks[at];
        let shard = missing.swap_remove(self.prng.below(missing.len() as u64) as usize);
        let revisions = 1 + self.prng.below(400) as usize;
        let answer = self.rig.store.answer(ask, ShardId(shard), revisions);
        let id = ask.id;
        if missing.is_empty() {
            self.asks.swap_remove(at);
        }
        self.rig.answer(id, shard, answer);
    }

    fn read(&mut self) {
        let shards = self.rig.store.shards;
        let asks = self.rig.asks();
        self.asked += asks.len();
        self.asks.extend(asks.into_iter().map(|ask| (ask, (0..shards).collect())));
        for (call, message) in self.rig.messages() {
            self.check(call, &message);
            let client = self.clients.get_mut(&call).expect("messages go to open streams");
            client.queued.push_back((message.bytes(), message.events()));
            let queued: usize = client.queued.iter().map(|(bytes, _)| *bytes).sum();
            assert!(queued < 4_000 + (1 << 20), "seed {}: a queue of {queued}", self.seed);
        }
    }

    fn drain(&mut self) {
        for (call, client) in &mut self.clients {
            // The slowest readers read in bursts, with long silence between.
            let burst = client.drains < 2 && self.prng.below(700) == 0;
            while burst || self.prng.percent(client.drains) {
                let Some((bytes, _)) = client.queued.pop_front() else { break };
                self.rig.hub.on_drained(*call, bytes);
            }
        }
    }

    fn check(&mut self, call: CallId, message: &WatchMessage) {
        let context = format!("seed {}: {call:?} {}", self.seed, words(message));
        let hub = self.rig.hub.revision();
        let client = self.clients.get_mut(&call).expect("messages go to open streams");
        let history = &self.rig.store.history;
        match &message.body {
            WatchBody::Created => {
                let (request, committed) = client.asked.pop_front().expect("it was asked for");
                assert!(message.revision >= committed && message.revision <= hub, "{context}");
                let start = Revision(request.start_revision);
                let after = message.revision.next();
                let key = if request.key.is_empty() { "\0".into() } else { request.key.clone() };
                let range = KeyRange::from_request(key, request.range_end.clone());
                let from = if start.0 == 0 { after } else { start };
                assert!(request.watch_id == 0 || request.watch_id == message.watch_id);
                let (known, cursor, compacted) = (from, 0, false);
                let seen = Seen { request, range, from, known, cursor, compacted };
                let before = client.watchers.insert(message.watch_id, seen);
                assert!(before.is_none(), "{context}: the ID was in use");
            }
            WatchBody::Refused(_) => {
                let (request, _) = client.asked.pop_front().expect("it was asked for");
                let taken = client.watchers.contains_key(&request.watch_id);
                let empty = request.range_end <= request.key
                    && !request.range_end.is_empty()
                    && request.range_end[..] != [0];
                assert!(taken || empty, "{context}: {request:?}");
            }
            WatchBody::Canceled => {
                client.watchers.remove(&message.watch_id).expect("a known watcher");
            }
            WatchBody::Compacted(at) => {
                let seen = client.watchers.get_mut(&message.watch_id).expect("a known watcher");
                assert_eq!(message.revision, Revision(0), "{context}");
                assert!(seen.known < *at && !seen.compacted, "{context}: from {}", seen.known);
                assert!(*at <= self.rig.store.shared.compact_revision(), "{context}");
                seen.compacted = true;
                self.compacted += 1;
            }
            WatchBody::Progress => {
                self.progressed += 1;
                assert!(message.revision <= hub, "{context}");
                let all = message.watch_id == -1;
                assert!(!client.watchers.is_empty(), "{context}");
                for (id, seen) in &mut client.watchers {
                    if !all && *id != message.watch_id {
                        continue;
                    }
                    assert!(all || seen.request.progress_notify, "{context}");
                    assert!(!seen.compacted, "{context}: {id} has ended");
                    assert!(seen.request.start_revision <= message.revision.0, "{context}");
                    let next = seen.next(history).map(|change| change.record.revision);
                    assert!(next.is_none_or(|next| next > message.revision), "{context}: {id}");
                    seen.known = seen.known.max(message.revision.next());
                }
            }
            WatchBody::Events { fragment, .. } => {
                self.fragments += usize::from(*fragment);
                let seen = client.watchers.get_mut(&message.watch_id).expect("a known watcher");
                let compact = self.rig.store.shared.compact_revision();
                check_events(seen, message, *fragment, history, compact, &context);
                assert!(message.revision <= hub, "{context}");
            }
        }
    }

    /// Lets everything come to rest and checks that nobody lacks anything.
    fn finish(&mut self) {
        self.rig.store.apply();
        loop {
            let more = self.rig.advance();
            while !self.asks.is_empty() {
                self.answer();
            }
            self.read();
            let mut idle = self.asks.is_empty() && more == More::No;
            for (call, client) in &mut self.clients {
                for (bytes, _) in client.queued.drain(..) {
                    idle = false;
                    self.rig.hub.on_drained(*call, bytes);
                }
            }
            if idle {
                break;
            }
        }
        for (call, client) in &mut self.clients {
            assert!(client.asked.is_empty(), "seed {}: a create went unanswered", self.seed);
            for (id, seen) in &mut client.watchers {
                let rest = seen.next(&self.rig.store.history);
                let rest = rest.filter(|_| !seen.compacted);
                assert!(rest.is_none(), "seed {}: {call:?} {id} lacks {rest:?}", self.seed);
            }
        }
        assert_eq!(self.rig.metrics.pending_events.value(), 0);
        assert_eq!(self.rig.metrics.slow.value(), 0);
        let watchers: usize = self.clients.values().map(|client| client.watchers.len()).sum();
        assert_eq!(self.rig.metrics.watchers.value(), watchers as i64);
    }
}

fn check_events(
    seen: &mut Seen,
    message: &WatchMessage,
    fragment: bool,
    history: &[Change],
    compact: Revision,
    context: &str,
) {
    assert!(!seen.compacted, "{context}: it has ended");
    assert!(!fragment || seen.request.fragment, "{context}: fragments were not asked for");
    let told = events(message);
    assert!(!told.is_empty(), "{context}");
    for event in &told {
        let change = seen.next(history).unwrap_or_else(|| panic!("{context}: nothing is due"));
        let kv = |record: &Record| mvccpb::KeyValue::decode(record.kv()).expect("own encoding");
        let begins =
            !change.record.is_tombstone() && change.record.create == change.record.revision;
        // A compaction may come between the match and now, so it may be shown and need not be.
        let hidden = event.prev_kv.is_none() && change.record.revision.before() < compact;
        let shown = seen.request.prev_kv && !begins && !hidden;
        let previous = change.previous.as_deref().filter(|_| shown);
        let expected = mvccpb::Event {
            r#type: i32::from(change.record.is_tombstone()),
            kv: Some(kv(&change.record)),
            prev_kv: previous.map(kv),
        };
        assert_eq!(*event, expected, "{context}");
        seen.known = seen.known.max(change.record.revision);
        seen.cursor += 1;
    }
    let last = told.last().and_then(|event| event.kv.as_ref()).map(|kv| Revision(kv.mod_revision));
    assert_eq!(last, Some(message.revision), "{context}: the header names the last revision");
    let next = seen.next(history).map(|change| change.record.revision);
    if !fragment {
        assert!(next.is_none_or(|next| next > message.revision), "{context}: a revision is cut");
        seen.known = message.revision.next();
    }
}

#[test]
fn every_watcher_sees_its_part_of_history() {
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..9).collect(),
    };
    let (mut asked, mut compacted, mut progressed, mut fragments) = (0, 0, 0, 0);
    let many = seeds.len() > 1;
    for seed in seeds {
        let shards = [1, 2, 5][(seed % 3) as usize];
        let mut world = World::new(seed, shards);
        for _ in 0..10_000 {
            world.step();
        }
        world.finish();
        asked += world.asked;
        compacted += world.compacted;
        progressed += world.progressed;
        fragments += world.fragments;
    }
    let reached = asked > 100 && compacted > 10 && progressed > 100 && fragments > 10;
    assert!(
        reached || !many,
        "too little was reached: {asked} asks, {compacted} compacted, {progressed} progress, \
         {fragments} fragments"
    );
}
