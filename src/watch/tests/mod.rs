//! A store that is nothing but history, to test hubs against.

mod model;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{AskId, CatchUpAsk, Compacted, Hub, More, Output, Settings, WatchMetrics};
use crate::base::batch::{Batch, Placed, ShardSet};
use crate::base::change::{Change, Stretch};
use crate::base::effect::Effect;
use crate::base::prng::Prng;
use crate::base::record::{PutFields, Record};
use crate::base::shared::Shared;
use crate::base::{CoreId, LeaseId, RaftIndex, Revision, ShardId, Sub, Term, Tick};
use crate::wire::call::{CallId, WatchBody, WatchMessage};
use crate::wire::etcdserverpb as pb;
use crate::wire::mvccpb;
use pb::watch_request::RequestUnion;

/// Everything that ever changed, and the ring.
pub(super) struct Store {
    pub(super) shared: Shared,
    pub(super) shards: u16,
    pub(super) history: Vec<Change>,
    newest: BTreeMap<Vec<u8>, Arc<Record>>,
    revision: Revision,
    published: u64,
    /// Batches published and not yet applied.
    unapplied: Vec<Arc<Batch>>,
}

/// One change of a transaction: a put of the value, or a delete.
pub(super) type Op<'a> = (&'a str, Option<&'a [u8]>);

impl Store {
    pub(super) fn new(shards: u16) -> Store {
        Store {
            shared: Shared::new(1, shards),
            shards,
            history: Vec::new(),
            newest: BTreeMap::new(),
            revision: Revision::EMPTY,
            published: 0,
            unapplied: Vec::new(),
        }
    }

    pub(super) fn shard_of(&self, key: &[u8]) -> ShardId {
        let sum: usize = key.iter().map(|byte| usize::from(*byte)).sum();
        ShardId(u16::try_from(sum % usize::from(self.shards)).expect("few shards"))
    }

    /// Commits one batch of transactions, each at its own revision, without applying it.
    pub(super) fn commit(&mut self, txns: &[Vec<Op<'_>>], compact: Option<Revision>) {
        let before = self.revision;
        let mut effects = Vec::new();
        for txn in txns {
            let revision = self.revision.next();
            let below = self.newest.clone();
            for (sub, (key, value)) in txn.iter().enumerate() {
                let sub = Sub(u32::try_from(sub).expect("short transactions"));
                let record = Arc::new(self.record(key.as_bytes(), *value, (revision, sub)));
                let previous = below.get(key.as_bytes()).cloned();
                let previous = previous.filter(|previous| !previous.is_tombstone());
                let shard = self.shard_of(key.as_bytes());
                self.newest.insert(key.as_bytes().to_vec(), Arc::clone(&record));
                let change = Change { record, previous };
                effects.push(Placed::change(shard, change.clone()));
                self.history.push(change);
            }
            if !txn.is_empty() {
                self.revision = revision;
            }
        }
        if let Some(at) = compact {
            effects.push(Placed::new(None, Effect::Compact { at }));
        }
        self.published += 1;
        let at = (RaftIndex(self.published), Term(1));
        let all = ShardSet::all(self.shards);
        let batch = Arc::new(Batch::new(at, (before, self.revision), effects, all));
        self.shared.publish(Arc::clone(&batch));
        self.unapplied.push(batch);
    }

    fn record(&self, key: &[u8], value: Option<&[u8]>, at: (Revision, Sub)) -> Record {
        let (revision, sub) = at;
        let Some(value) = value else {
            return Record::tombstone(key, revision, sub);
        };
        let newest = self.newest.get(key).filter(|newest| !newest.is_tombstone());
        Record::put(PutFields {
            key,
            value,
            revision,
            sub,
            create: newest.map_or(revision, |newest| newest.create),
            version: newest.map_or(1, |newest| newest.version + 1),
            lease: LeaseId::NONE,
        })
    }

    /// Every shard applies all that is committed; V moves to K.
    pub(super) fn apply(&mut self) {
        for batch in self.unapplied.drain(..) {
            for _ in 0..batch.shards.len() {
                batch.applied_by_one();
            }
        }
        self.shared.advance_visible();
    }

    pub(super) fn write(&mut self, txns: &[Vec<Op<'_>>]) {
        self.commit(txns, None);
        self.apply();
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// A shard's answer to an ask, cut after `revisions` revisions of its own.
    pub(super) fn answer(
        &self,
        ask: &CatchUpAsk,
        shard: ShardId,
        revisions: usize,
    ) -> Result<Stretch, Compacted> {
        assert!(ask.upto <= self.shared.visible_revision(), "an ask beyond V");
        let compact = self.shared.compact_revision();
        if ask.after.next() < compact {
            return Err(Compacted(compact));
        }
        let mut stretch = Stretch { reached: ask.upto, changes: Vec::new() };
        let mut taken = 0;
        for change in &self.history {
            let record = &change.record;
            if record.revision <= ask.after
                || record.revision > ask.upto
                || self.shard_of(record.key()) != shard
                || !ask.range.contains(record.key())
            {
                continue;
            }
            let last = stretch.changes.last().map(|change: &Change| change.record.revision);
            if last != Some(record.revision) {
                if taken == revisions {
                    stretch.reached = record.revision.before();
                    break;
                }
                taken += 1;
            }
            stretch.changes.push(change.clone());
        }
        Ok(stretch)
    }
}

/// A hub with its store, driven by hand.
pub(super) struct Rig {
    pub(super) store: Store,
    pub(super) hub: Hub,
    pub(super) now: Tick,
    pub(super) metrics: Arc<WatchMetrics>,
    out: Output,
}

pub(super) const CALL: CallId = CallId { connection: 1, call: 1 };

impl Rig {
    pub(super) fn new(shards: u16, change: impl FnOnce(&mut Settings)) -> Rig {
        let mut settings = Settings::new(shards, 1_000, 1 << 20);
        change(&mut settings);
        let metrics = Arc::new(WatchMetrics::default());
        let at = (0, Revision::EMPTY);
        let hub = Hub::new(settings, Prng::new(5), at, Arc::clone(&metrics));
        Rig { store: Store::new(shards), hub, now: Tick(0), metrics, out: Output::default() }
    }

    pub(super) fn send(&mut self, call: CallId, request: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.hub.on_request(self.now, call, request, &self.store.shared, &mut self.out);
    }

    /// One call of advance.
    pub(super) fn advance(&mut self) -> More {
        let more = self.hub.advance(self.now, &self.store.shared, &mut self.out);
        self.store.shared.consumed_to(CoreId(0), self.hub.position());
        more
    }

    pub(super) fn answer(&mut self, ask: AskId, shard: u16, answer: Result<Stretch, Compacted>) {
        self.hub.on_stretch(ask, ShardId(shard), answer, &mut self.out);
    }

    pub(super) fn asks(&mut self) -> Vec<CatchUpAsk> {
        std::mem::take(&mut self.out.asks)
    }

    pub(super) fn messages(&mut self) -> Vec<(CallId, WatchMessage)> {
        std::mem::take(&mut self.out.messages)
    }

    /// Runs until nothing is left, answers every ask, and lets every message leave.
    pub(super) fn settle(&mut self) -> Vec<(CallId, WatchMessage)> {
        let mut seen = Vec::new();
        loop {
            let more = self.advance();
            for ask in self.asks() {
                for shard in 0..self.store.shards {
                    let answer = self.store.answer(&ask, ShardId(shard), 3);
                    self.answer(ask.id, shard, answer);
                }
            }
            let messages = self.messages();
            for (call, message) in &messages {
                self.hub.on_drained(*call, message.bytes());
            }
            let idle = messages.is_empty();
            seen.extend(messages);
            if more == More::No && idle && self.advance() == More::No && self.is_silent() {
                return seen;
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.out.messages.is_empty() && self.out.asks.is_empty()
    }

    /// Settles and tells in words what came on [`CALL`].
    pub(super) fn told(&mut self) -> Vec<String> {
        let messages = self.settle();
        messages.iter().map(|(_, message)| words(message)).collect()
    }
}

/// The events of a message, decoded by the generated types.
pub(super) fn events(message: &WatchMessage) -> Vec<mvccpb::Event> {
    let WatchBody::Events { events, .. } = &message.body else {
        return Vec::new();
    };
    let whole: Vec<u8> = events.iter().flatten().copied().collect();
    pb::WatchResponse::decode(Bytes::from(whole)).expect("a response's field").events
}

/// A message as one line: `ID@revision what`.
pub(super) fn words(message: &WatchMessage) -> String {
    let text = |kv: &mvccpb::KeyValue| {
        let value = String::from_utf8_lossy(&kv.value).into_owned();
        let value = if value.len() > 8 { format!("{} B", value.len()) } else { value };
        format!("{}={}", String::from_utf8_lossy(&kv.key), value)
    };
    let body = match &message.body {
        WatchBody::Created => "created".to_owned(),
        WatchBody::Refused(refusal) => format!("refused {refusal:?}"),
        WatchBody::Canceled => "canceled".to_owned(),
        WatchBody::Compacted(at) => format!("compacted {at}"),
        WatchBody::Progress => "progress".to_owned(),
        WatchBody::Events { fragment, .. } => {
            let told = events(message).into_iter().map(|event| {
                let kv = event.kv.expect("an event has a kv");
                let verb = if event.r#type == 1 { "del" } else { "put" };
                let previous = event.prev_kv.map_or(String::new(), |kv| format!("<{}", text(&kv)));
                format!("{verb} {}{previous} r{}", text(&kv), kv.mod_revision)
            });
            let mut told: Vec<String> = told.collect();
            if *fragment {
                told.push("more".to_owned());
            }
            told.join(", ")
        }
    };
    format!("{}@{} {body}", message.watch_id, message.revision)
}
