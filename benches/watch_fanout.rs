//! What an event costs per watcher: batches of single-key puts against 100 and 1,000 watchers of
//! one prefix, on one hub, messages thrown away. Prints nanoseconds per (event x watcher).
//!
//! `cargo bench --bench watch_fanout`

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use ringbolt::base::batch::{Batch, Placed, ShardSet};
use ringbolt::base::change::Change;
use ringbolt::base::prng::Prng;
use ringbolt::base::record::{PutFields, Record};
use ringbolt::base::shared::Shared;
use ringbolt::base::{CoreId, LeaseId, RaftIndex, Revision, ShardId, Sub, Term, Tick};
use ringbolt::watch::{Hub, More, Output, Settings, WatchMetrics};
use ringbolt::wire::call::CallId;
use ringbolt::wire::etcdserverpb as pb;

const BATCHES: u64 = 500;
const VALUE: [u8; 600] = [7; 600];

fn record(key: &str, revision: Revision) -> Arc<Record> {
    Arc::new(Record::put(PutFields {
        key: key.as_bytes(),
        value: &VALUE,
        revision,
        sub: Sub(0),
        create: Revision(2),
        version: 3,
        lease: LeaseId::NONE,
    }))
}

fn batch(index: u64, events: u64) -> Arc<Batch> {
    let before = Revision((index * events) as i64 + 1);
    let mut revision = before;
    let mut effects = Vec::new();
    for event in 0..events {
        revision = revision.next();
        let key = format!("/registry/pods/default/pod-{event}");
        let (record, previous) = (record(&key, revision), record(&key, revision.before()));
        let change = Change { record, previous: Some(previous) };
        effects.push(Placed::change(ShardId(0), change));
    }
    let at = (RaftIndex(index + 1), Term(1));
    let batch = Batch::new(at, (before, revision), effects, ShardSet::all(1));
    batch.applied_by_one();
    Arc::new(batch)
}

/// Nanoseconds per (event x watcher).
fn run(watchers: u32, streams: u32, events: u64) -> f64 {
    let shared = Shared::new(1, 1);
    let metrics = Arc::new(WatchMetrics::default());
    let settings = Settings { stream_bytes: usize::MAX, ..Settings::new(1, 600_000, 1 << 20) };
    let mut hub = Hub::new(settings, Prng::new(1), (0, Revision::EMPTY), Arc::clone(&metrics));
    let mut out = Output::default();
    for watcher in 0..watchers {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"/registry/pods/"),
            range_end: Bytes::from_static(b"/registry/pods0"),
            prev_kv: true,
            ..pb::WatchCreateRequest::default()
        };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        let request = pb::WatchRequest { request_union: Some(union) };
        let call = CallId { connection: watcher % streams, call: 1 };
        hub.on_request(Tick(0), call, request, &shared, &mut out);
    }
    let mut spent_ns = 0;
    for index in 0..BATCHES {
        shared.publish(batch(index, events));
        shared.advance_visible();
        #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
        let start = std::time::Instant::now();
        while hub.advance(Tick(0), &shared, &mut out) == More::Yes {}
        spent_ns += start.elapsed().as_nanos();
        black_box(&mut out).messages.clear();
        shared.consumed_to(CoreId(0), hub.position());
    }
    let sent = metrics.events.value();
    assert_eq!(sent, u64::from(watchers) * BATCHES * events, "every watcher sees every event");
    spent_ns as f64 / sent as f64
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn main() {
    for (watchers, streams) in [(100, 1), (100, 100), (1_000, 10), (1_000, 1_000)] {
        for events in [1, 20] {
            let ns = run(watchers, streams, events);
            println!(
                "{watchers} watchers on {streams} streams, {events} events a batch: \
                 {ns:.1} ns per event and watcher"
            );
        }
    }
}
