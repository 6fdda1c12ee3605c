//! What clients ask: create, cancel, progress.

use bytes::Bytes;

use super::Output;
use super::hub::Hub;
use super::watcher::{Bundle, Handle, Standing, Watcher};
use crate::base::limits::{WATCH_REQUESTS_WAITING_MAX, WATCHERS_PER_STREAM_MAX};
use crate::base::range::KeyRange;
use crate::base::shared::{Position, Shared};
use crate::base::{Revision, Tick};
use crate::wire::call::{CallId, WatchBody, WatchMessage, WatchRefusal};
use crate::wire::etcdserverpb as pb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// What an answer that belongs to no watcher names.
const NO_WATCHER: i64 = -1;

/// A request that waits until the hub has matched what was committed when it was read.
#[derive(Debug)]
pub(super) struct Waiting {
    target: Position,
    /// Slot and serial of the stream.
    stream: (usize, u64),
    request: RequestUnion,
}

impl Hub {
    /// Takes a request of a watch stream; the stream is there from its first one on. Who reads
    /// the stream must pause while more than the stream's bytes are queued.
    pub fn on_request(
        &mut self,
        now: Tick,
        call: CallId,
        request: pb::WatchRequest,
        shared: &Shared,
        out: &mut Output,
    ) {
        let Some(request) = request.request_union else {
            return;
        };
        if !self.streams.by_call.contains_key(&call) {
            self.metrics.streams.add(1);
        }
        let slot = self.streams.open(call);
        let (_, target) = shared.committed();
        let stream = &mut self.streams.all[slot];
        if stream.waiting == 0 && self.position >= target {
            self.serve(now, slot, request, shared, out);
        } else if stream.waiting < WATCH_REQUESTS_WAITING_MAX {
            stream.waiting += 1;
            let stream = (slot, stream.serial);
            self.waiting.push_back(Waiting { target, stream, request });
        } else {
            match request {
                RequestUnion::CreateRequest(_) => self.refuse(slot, WatchRefusal::TooMany, out),
                RequestUnion::CancelRequest(cancel) => self.cancel(slot, cancel.watch_id, out),
                // A progress request may stay without an answer.
                RequestUnion::ProgressRequest(_) => {}
            }
        }
    }

    /// Serves the requests that waited for what is matched now.
    pub(super) fn serve_waiting(&mut self, now: Tick, shared: &Shared, out: &mut Output) {
        while let Some(first) = self.waiting.front() {
            if first.target > self.position {
                return;
            }
            let Some(Waiting { stream: (slot, serial), request, .. }) = self.waiting.pop_front()
            else {
                return;
            };
            if let Some(stream) = self.streams.all.get_mut(slot)
                && stream.serial == serial
            {
                stream.waiting -= 1;
                self.serve(now, slot, request, shared, out);
            }
        }
    }

    fn serve(
        &mut self,
        now: Tick,
        stream: usize,
        request: RequestUnion,
        shared: &Shared,
        out: &mut Output,
    ) {
        match request {
            RequestUnion::CreateRequest(create) => {
                match self.create(stream, &create, shared, out) {
                    Ok(()) if create.progress_notify => self.start_ticking(stream, now),
                    Ok(()) => {}
                    Err(refusal) => self.refuse(stream, refusal, out),
                }
            }
            RequestUnion::CancelRequest(cancel) => self.cancel(stream, cancel.watch_id, out),
            RequestUnion::ProgressRequest(_) => self.tell_progress(stream, out),
        }
    }

    fn refuse(&mut self, stream: usize, refusal: WatchRefusal, out: &mut Output) {
        let message = self.message(NO_WATCHER, WatchBody::Refused(refusal));
        self.streams.send(stream, message, &self.metrics, out);
    }

    fn create(
        &mut self,
        stream: usize,
        create: &pb::WatchCreateRequest,
        shared: &Shared,
        out: &mut Output,
    ) -> Result<(), WatchRefusal> {
        let start = Revision(create.start_revision);
        if start.0 < 0 {
            return Err(WatchRefusal::NegativeStart);
        }
        let range = range_of(create);
        if range.is_empty() {
            return Err(WatchRefusal::EmptyRange);
        }
        if self.streams.all[stream].watchers.len() >= WATCHERS_PER_STREAM_MAX {
            return Err(WatchRefusal::TooMany);
        }
        let id = self.streams.all[stream].choose_id(create.watch_id);
        let id = id.ok_or(WatchRefusal::DuplicateId)?;
        let filtered = |kind: FilterType| create.filters.contains(&(kind as i32));
        self.watchers_made += 1;
        let serial = self.watchers_made;
        let slot = self.watchers.insert(Watcher {
            serial,
            stream,
            id,
            range,
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            with_previous: create.prev_kv,
            progress: create.progress_notify,
            fragment: create.fragment,
            start,
            next: start.max(self.revision.next()),
            standing: Standing::Behind,
            quiet: true,
            bundle: Bundle::default(),
        });
        self.metrics.watchers.add(1);
        self.metrics.slow.add(1);
        let entry = &mut self.streams.all[stream];
        entry.watchers.insert(id, slot);
        entry.unsynced += 1;
        let message = self.message(id, WatchBody::Created);
        self.streams.send(stream, message, &self.metrics, out);
        self.place(slot, shared, out);
        Ok(())
    }

    /// Puts a new watcher where it starts.
    fn place(&mut self, slot: usize, shared: &Shared, out: &mut Output) {
        let watcher = &mut self.watchers[slot];
        let (start, stream) = (watcher.start, watcher.stream);
        if start.0 == 0 || start > self.revision {
            self.streams.all[stream].park(start);
            self.go_live(slot);
            return;
        }
        watcher.next = start;
        let compact = shared.compact_revision();
        if start < compact {
            self.compact_away(slot, compact, out);
        } else {
            self.ready.push_back(Handle { slot, serial: watcher.serial });
        }
    }

    /// What the watcher is to see next was compacted away: it ends, but keeps its ID.
    pub(super) fn compact_away(&mut self, slot: usize, compact: Revision, out: &mut Output) {
        let watcher = &mut self.watchers[slot];
        assert!(watcher.standing == Standing::Behind, "only who is behind can be overtaken");
        watcher.standing = Standing::Compacted;
        self.metrics.slow.add(-1);
        let body = WatchBody::Compacted(compact);
        let message = WatchMessage { watch_id: watcher.id, revision: Revision(0), body };
        self.streams.send(watcher.stream, message, &self.metrics, out);
    }

    fn cancel(&mut self, stream: usize, id: i64, out: &mut Output) {
        if let Some(slot) = self.streams.all[stream].watchers.remove(&id) {
            self.remove(slot);
            let message = self.message(id, WatchBody::Canceled);
            self.streams.send(stream, message, &self.metrics, out);
        }
    }

    /// Answers a progress request if every watcher of the stream has seen everything; else
    /// nothing is sent, and the client asks again.
    fn tell_progress(&mut self, slot: usize, out: &mut Output) {
        let stream = &self.streams.all[slot];
        let is_synced = stream.is_synced_at(self.revision);
        if is_synced && !stream.watchers.is_empty() && self.streams.has_credit(slot) {
            let message = self.message(NO_WATCHER, WatchBody::Progress);
            self.streams.send(slot, message, &self.metrics, out);
        }
    }
}

/// The range of a request, in memory of its own: a watcher outlives the buffer it came in.
fn range_of(create: &pb::WatchCreateRequest) -> KeyRange {
    let key = match &create.key[..] {
        [] => Bytes::from_static(&[0]),
        key => Bytes::copy_from_slice(key),
    };
    KeyRange::from_request(key, Bytes::copy_from_slice(&create.range_end))
}
