//! What watch streams were told, against the history that the log makes.
//!
//! A watcher sees each change of its keys once, in order, a revision whole, with the version
//! before; progress never runs ahead of events; and once everything rests nobody lacks anything.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use prost::Message;

use crate::base::change::Change;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::{CoreId, Revision};
use crate::wire::call::{CallId, WatchBody, WatchMessage};
use crate::wire::etcdserverpb as pb;
use crate::wire::mvccpb;

/// What a message is compared with: how the member stands when it arrives.
#[derive(Debug)]
pub struct Standing<'a> {
    /// Every change that is committed.
    pub history: &'a [Change],
    /// The visible revision.
    pub visible: Revision,
    /// The compact revision, one that is committed and not visible included.
    pub compact: Revision,
    /// Bytes from which on a message is cut.
    pub fragment_bytes: usize,
}

#[derive(Debug)]
struct Watcher {
    request: pb::WatchCreateRequest,
    range: KeyRange,
    /// The first revision it is to see.
    from: Revision,
    /// Everything below this is known to the client.
    known: Revision,
    cursor: usize,
    compacted: bool,
    /// Bytes of the fragments so far of the revision under way; 0 between revisions.
    fragmented_bytes: usize,
}

impl Watcher {
    fn next<'a>(&mut self, history: &'a [Change]) -> Option<&'a Change> {
        while let Some(change) = history.get(self.cursor) {
            let record = &change.record;
            let filter = i32::from(record.is_tombstone());
            if record.revision >= self.from
                && self.range.contains(record.key())
                && !self.request.filters.contains(&filter)
            {
                return Some(change);
            }
            self.cursor += 1;
        }
        None
    }
}

/// A watch stream as its client sees it.
#[derive(Debug)]
pub struct Stream {
    /// Its core.
    pub core: CoreId,
    /// Its call.
    pub call: CallId,
    /// Creates and progress requests that were sent, each with K at that moment.
    creates: VecDeque<(pb::WatchCreateRequest, Revision)>,
    progress: VecDeque<Revision>,
    watchers: BTreeMap<i64, Watcher>,
    /// Bytes of messages that have not left.
    pub queued: VecDeque<usize>,
    /// Nanoseconds until the next message leaves.
    pub pace_ns: u64,
    /// The newest answer to a progress request.
    pub told: Revision,
    /// Events seen.
    pub events: usize,
}

impl Stream {
    /// A stream without watchers.
    #[must_use]
    pub fn new(core: CoreId, call: CallId, pace_ns: u64) -> Stream {
        Stream {
            core,
            call,
            creates: VecDeque::new(),
            progress: VecDeque::new(),
            watchers: BTreeMap::new(),
            queued: VecDeque::new(),
            pace_ns,
            told: Revision(0),
            events: 0,
        }
    }

    /// A create is sent.
    pub fn creates(&mut self, request: pb::WatchCreateRequest, committed: Revision) {
        self.creates.push_back((request, committed));
    }

    /// A progress request is sent.
    pub fn asks_progress(&mut self, committed: Revision) {
        self.progress.push_back(committed);
    }

    /// The watchers that the client knows of, with what each still has to see.
    #[must_use]
    pub fn ids(&self) -> Vec<i64> {
        self.watchers.keys().copied().collect()
    }

    /// Whether every watcher is to be told of progress.
    #[must_use]
    pub fn may_progress(&self, at: Revision) -> bool {
        let starts =
            |watcher: &Watcher| watcher.request.start_revision <= at.0 && !watcher.compacted;
        !self.watchers.is_empty() && self.watchers.values().all(starts)
    }

    /// Takes a message.
    ///
    /// # Panics
    /// If it breaks the contract.
    pub fn takes(&mut self, message: &WatchMessage, standing: &Standing<'_>) {
        self.queued.push_back(message.bytes());
        let id = message.watch_id;
        assert!(
            message.revision <= standing.visible,
            "a watch message is ahead of what is visible: {message:?}"
        );
        match &message.body {
            WatchBody::Created => self.created(message),
            WatchBody::Refused(why) => {
                let (request, _) = self.creates.pop_front().expect("a refusal answers a create");
                let taken = self.watchers.contains_key(&request.watch_id);
                let empty = range_of(&request).is_empty();
                let fits = taken || empty || request.start_revision < 0;
                assert!(fits, "{request:?} was refused: {why:?}");
            }
            WatchBody::Canceled => {
                self.watchers.remove(&id).expect("a watcher that exists is cancelled");
            }
            WatchBody::Compacted(at) => {
                let watcher = self.watchers.get_mut(&id).expect("a watcher that exists");
                assert!(*at <= standing.compact, "watcher {id} ended in {at}, not compacted");
                assert!(watcher.known < *at, "watcher {id} knows all below {}", watcher.known);
                watcher.compacted = true;
                assert_eq!(watcher.fragmented_bytes, 0, "watcher {id} ended in half a revision");
            }
            WatchBody::Progress => self.progressed(message, standing),
            WatchBody::Events { events, fragment } => {
                let watcher = self.watchers.get_mut(&id).expect("a watcher that exists");
                self.events += events.len();
                saw(watcher, message, events, *fragment, standing);
            }
        }
    }

    fn created(&mut self, message: &WatchMessage) {
        let (request, committed) = self.creates.pop_front().expect("an answer to a create");
        assert!(
            message.revision >= committed,
            "a watcher was created at {}, behind what was committed: {committed}",
            message.revision
        );
        let start = Revision(request.start_revision);
        let from = if start.0 == 0 { message.revision.next() } else { start };
        let range = range_of(&request);
        let watcher = Watcher {
            request,
            range,
            from,
            known: from,
            cursor: 0,
            compacted: false,
            fragmented_bytes: 0,
        };
        let before = self.watchers.insert(message.watch_id, watcher);
        assert!(before.is_none(), "watch ID {} was given twice", message.watch_id);
    }

    fn progressed(&mut self, message: &WatchMessage, standing: &Standing<'_>) {
        let to_all = message.watch_id == -1;
        if to_all {
            let asked = self.progress.pop_front().expect("an answer to a progress request");
            assert!(message.revision >= asked, "progress is behind what was committed: {asked}");
            self.told = message.revision;
        }
        for (id, watcher) in &mut self.watchers {
            if !to_all && *id != message.watch_id {
                continue;
            }
            assert!(to_all || watcher.request.progress_notify, "nobody asked for progress");
            assert!(!watcher.compacted, "progress of a watcher that has ended");
            assert_eq!(watcher.fragmented_bytes, 0, "progress in the middle of a revision");
            let next = watcher.next(standing.history).map(|change| change.record.revision);
            assert!(
                next.is_none_or(|next| next > message.revision),
                "progress {} overtook the events of {next:?} for watcher {id}",
                message.revision
            );
            watcher.known = watcher.known.max(message.revision.next());
        }
    }

    /// Whether any watcher lacks an event.
    #[must_use]
    pub fn is_behind(&mut self, history: &[Change]) -> bool {
        let lacks = |watcher: &mut Watcher| !watcher.compacted && watcher.next(history).is_some();
        self.watchers.values_mut().any(lacks)
    }

    /// Everything rests: nobody may lack anything.
    ///
    /// # Panics
    /// If somebody does.
    pub fn rests(&mut self, history: &[Change]) {
        assert!(self.creates.is_empty(), "a create went unanswered");
        for (id, watcher) in &mut self.watchers {
            let lacks = watcher.next(history).filter(|_| !watcher.compacted);
            assert!(lacks.is_none(), "{:?}: watcher {id} lacks {lacks:?}", self.call);
        }
    }
}

fn range_of(request: &pb::WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
    KeyRange::from_request(key, request.range_end.clone())
}

/// Who asked for fragments gets none of the limit or above but single events, and none where all
/// of it would have fit.
fn fits_fragments(
    watcher: &mut Watcher,
    message: &WatchMessage,
    events: usize,
    fragment: bool,
    max: usize,
) {
    assert!(!fragment || watcher.request.fragment, "fragments were not asked for");
    if !watcher.request.fragment {
        return;
    }
    let bytes = message.bytes();
    assert!(bytes < max || events == 1, "{events} events in {bytes} bytes were not cut");
    let before = std::mem::take(&mut watcher.fragmented_bytes);
    // The overhead counts once for all of them.
    let whole = if before > 0 { before + bytes - WatchMessage::OVERHEAD_BYTES } else { bytes };
    if fragment {
        watcher.fragmented_bytes = whole;
    } else {
        assert!(before == 0 || whole >= max, "{whole} bytes were cut");
    }
}

fn saw(
    watcher: &mut Watcher,
    message: &WatchMessage,
    events: &[Bytes],
    fragment: bool,
    standing: &Standing<'_>,
) {
    assert!(!watcher.compacted, "events of a watcher that has ended");
    assert!(!events.is_empty(), "a message of no events");
    fits_fragments(watcher, message, events.len(), fragment, standing.fragment_bytes);
    let bytes: Vec<u8> = events.iter().flatten().copied().collect();
    let told = pb::WatchResponse::decode(&bytes[..]).expect("events that decode").events;
    assert_eq!(told.len(), events.len(), "one event each");
    for event in &told {
        let due = watcher.next(standing.history);
        let due = due.unwrap_or_else(|| panic!("{event:?} came and nothing was due"));
        let revision = due.record.revision;
        let kv = |record: &Record| mvccpb::KeyValue::decode(record.kv()).expect("own encoding");
        let previous = due.previous.as_deref().filter(|_| watcher.request.prev_kv).map(kv);
        // What a compaction has taken need not be shown, and may be.
        let is_create = !due.record.is_tombstone() && due.record.create == revision;
        let may_lack = is_create || event.prev_kv.is_none() && revision <= standing.compact;
        let expected = mvccpb::Event {
            r#type: i32::from(due.record.is_tombstone()),
            kv: Some(kv(&due.record)),
            prev_kv: if may_lack { None } else { previous },
        };
        assert_eq!(*event, expected, "the next event of {:?}", watcher.request);
        watcher.known = watcher.known.max(revision);
        watcher.cursor += 1;
    }
    let last = told.last().and_then(|event| event.kv.as_ref()).map(|kv| Revision(kv.mod_revision));
    assert_eq!(last, Some(message.revision), "a header names the last revision contained");
    if !fragment {
        let next = watcher.next(standing.history).map(|change| change.record.revision);
        let whole = next.is_none_or(|next| next > message.revision);
        assert!(whole, "revision {} was cut in two", message.revision);
        watcher.known = message.revision.next();
    }
}
