//! Waiting for one's turn: until no key of the queue is older than one's own.
//!
//! ```text
//!          own key there, none older                own key gone
//!   check ───────────────────────────▶ held   check ─────────────▶ lost
//!     ▲  └─ an older one ─▶ watch it and the own one ─┐
//!     └────────────────── one of them was deleted ◀──┘
//! ```
//!
//! Where that cannot be found out, the own key is taken away and the turn has failed: whoever
//! gets an error does not hold the lock and must not stand in its way.
//!
//! One read answers both questions as of one revision, so a lock is never given to a key that
//! expired between them.

use bytes::Bytes;

use super::super::machine::Actions;
use super::super::status::{Code, Status};
use super::{
    ASK, WATCH, end_of, range_op, read_by, single, submit_removal, submit_txn, txn_of, unknown,
};
use crate::base::Revision;
use crate::wire::call::{Reply, Request, TxnAnswer, WatchBody, WatchMessage};
use crate::wire::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// A place in a queue.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    prefix: Bytes,
    /// The own key.
    pub(super) key: Bytes,
    /// Where the own key was created.
    pub(super) created: Revision,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// A check is under way.
    Checking,
    /// The own key and an older one are watched.
    Watching,
    /// The own key is being taken away; then the turn has failed so.
    Leaving(Status),
}

/// What is known of the turn.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing new.
    Waiting,
    /// It has come, as of this revision.
    Held(Revision),
    /// The own key is gone.
    Lost,
    /// It will never be known, and the own key is gone.
    Failed(Status),
}

impl Turn {
    /// A place in the queue of `prefix`, with a key of one's own in it.
    pub(super) fn new(prefix: Bytes, key: Bytes, created: Revision) -> Turn {
        Turn { prefix, key, created, stage: Stage::Checking }
    }

    /// Asks whether the turn has come.
    pub(super) fn check(&self, out: &mut Actions<'_>) {
        let before = pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: end_of(&self.prefix),
            limit: 1,
            keys_only: true,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: self.created.0 - 1,
            ..Default::default()
        };
        let own = pb::RangeRequest { keys_only: true, ..single(&self.key) };
        let txn =
            pb::TxnRequest { success: vec![range_op(own), range_op(before)], ..Default::default() };
        submit_txn(txn, out);
    }

    /// The answer to a check or to the removal of the key, or the end of the watch stream.
    pub(super) fn on_reply(&mut self, reply: Reply, out: &mut Actions<'_>) -> Step {
        match (&self.stage, reply) {
            (Stage::Leaving(status), _) => Step::Failed(status.clone()),
            (Stage::Checking, reply) => match txn_of(reply) {
                Ok(answer) => self.checked(&answer, out),
                Err(status) => self.leave(status, out),
            },
            (Stage::Watching, Err(reject)) => self.leave(unknown(reject), out),
            (Stage::Watching, Ok(answer)) => {
                unreachable!("a watch stream has no answer, and not {answer:?}")
            }
        }
    }

    fn checked(&mut self, answer: &TxnAnswer, out: &mut Actions<'_>) -> Step {
        if read_by(answer, 0).is_none_or(|own| own.create != self.created) {
            return Step::Lost;
        }
        let Some(before) = read_by(answer, 1) else {
            return Step::Held(answer.revision);
        };
        self.stage = Stage::Watching;
        let keys = [before.key_bytes(), self.key.clone()];
        for (watch_id, key) in (1..).zip(keys) {
            watch(key, Bytes::new(), watch_id, answer.revision.next(), FilterType::Noput, out);
        }
        Step::Waiting
    }

    /// A message of the watch: puts are filtered out, so any event is a deletion.
    pub(super) fn on_watch(&mut self, message: &WatchMessage, out: &mut Actions<'_>) -> Step {
        if !matches!(self.stage, Stage::Watching) {
            return Step::Waiting;
        }
        match &message.body {
            WatchBody::Created | WatchBody::Progress => {
                out.drained(WATCH, message.bytes());
                return Step::Waiting;
            }
            WatchBody::Refused(_) => return self.leave(lost_watcher(), out),
            WatchBody::Canceled | WatchBody::Compacted(_) | WatchBody::Events { .. } => {}
        }
        self.stage = Stage::Checking;
        out.give_up(WATCH);
        self.check(out);
        Step::Waiting
    }

    fn leave(&mut self, status: Status, out: &mut Actions<'_>) -> Step {
        self.stage = Stage::Leaving(status);
        self.remove(out);
        Step::Waiting
    }

    /// Takes the own key away.
    pub(super) fn remove(&self, out: &mut Actions<'_>) {
        submit_removal(&self.key, self.created, out);
    }
}

/// The words of etcd's client for a watch that ends before it should.
pub(super) fn lost_watcher() -> Status {
    Status::fixed(Code::Unknown, "lost watcher waiting for delete")
}

/// Asks for a watcher on the call's stream.
pub(super) fn watch(
    key: Bytes,
    range_end: Bytes,
    watch_id: i64,
    start: Revision,
    filter: FilterType,
    out: &mut Actions<'_>,
) {
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: start.0,
        filters: vec![filter.into()],
        watch_id,
        ..Default::default()
    };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    out.submit(WATCH, Request::Watch(request));
}

const _: () = assert!(ASK.0 != WATCH.0);
