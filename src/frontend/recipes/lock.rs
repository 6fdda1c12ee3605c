//! The Lock service.

use bytes::Bytes;

use super::super::kv::{check_size, decode};
use super::super::machine::{Actions, Machine, Sub};
use super::super::message::generated;
use super::super::status::{Code, Status};
use super::turn::{Step, Turn};
use super::{
    ASK, created_at, granted, key_of, lease_of, oldest, prefix_of, put, range_op, read_by, single,
    submit_txn, txn_of, unknown,
};
use crate::base::{LeaseId, Revision};
use crate::frontend::check;
use crate::wire::call::{Answer, Reply, Request, WatchMessage};
use crate::wire::etcdserverpb as pb;
use crate::wire::v3lockpb;
use prost::Message as _;

const SESSION_EXPIRED: Status = Status::fixed(Code::Unknown, "mutex: session is expired");

/// A Lock call: a lease, a key in the queue, a turn.
#[derive(Debug, Default)]
pub(super) struct Lock {
    prefix: Bytes,
    /// A lease that was granted for this call, and that nobody else knows of.
    own_lease: Option<LeaseId>,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    /// Nothing was said yet, or everything.
    #[default]
    Idle,
    /// A lease was asked for.
    Granting,
    /// The key was put, with this name.
    Queueing(Bytes),
    /// The key stands in the queue.
    Waiting(Turn),
}

impl Lock {
    fn queue(&mut self, lease: LeaseId, out: &mut Actions<'_>) {
        let key = key_of(&self.prefix, lease);
        let txn = pb::TxnRequest {
            compare: vec![created_at(&key, Revision(0))],
            success: vec![put(&key, Bytes::new(), lease), range_op(oldest(&self.prefix))],
            failure: vec![range_op(single(&key)), range_op(oldest(&self.prefix))],
        };
        self.stage = Stage::Queueing(key);
        submit_txn(txn, out);
    }

    fn queued(&mut self, key: Bytes, reply: Reply, out: &mut Actions<'_>) -> Result<(), Status> {
        let answer = txn_of(reply)?;
        // The key may stand there already: the same lease asks for the same lock again.
        let created = match answer.succeeded {
            true => answer.revision,
            false => read_by(&answer, 0).map_or(Revision(0), |own| own.create),
        };
        let holder = read_by(&answer, 1);
        if holder.is_none_or(|holder| holder.create == created) {
            self.finish(key, answer.revision, out);
            return Ok(());
        }
        let turn = Turn::new(self.prefix.clone(), key, created);
        turn.check(out);
        self.stage = Stage::Waiting(turn);
        Ok(())
    }

    fn step(&mut self, turn: Turn, step: Step, out: &mut Actions<'_>) {
        match step {
            Step::Waiting => self.stage = Stage::Waiting(turn),
            Step::Held(revision) => self.finish(turn.key, revision, out),
            Step::Lost => out.end(SESSION_EXPIRED),
            Step::Failed(status) => out.end(status),
        }
    }

    fn finish(&mut self, key: Bytes, revision: Revision, out: &mut Actions<'_>) {
        // From here on the key is the client's: a connection that breaks does not take it away.
        self.stage = Stage::Idle;
        let header = out.header_message(revision);
        out.finish(generated(&v3lockpb::LockResponse { header, key }));
    }
}

impl Machine for Lock {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: v3lockpb::LockRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        self.prefix = prefix_of(&request.name);
        self.stage = Stage::Granting;
        if let Some(lease) = lease_of(request.lease, out) {
            self.queue(lease, out);
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        let outcome = match std::mem::take(&mut self.stage) {
            Stage::Idle => unreachable!("nothing was asked"),
            Stage::Granting => granted(reply).map(|lease| {
                self.own_lease = Some(lease);
                self.queue(lease, out);
            }),
            Stage::Queueing(key) => self.queued(key, reply, out),
            Stage::Waiting(mut turn) => {
                let step = turn.on_reply(reply, out);
                self.step(turn, step, out);
                Ok(())
            }
        };
        if let Err(status) = outcome {
            out.end(status);
        }
    }

    fn on_watch(&mut self, _sub: Sub, message: WatchMessage, out: &mut Actions<'_>) {
        match std::mem::take(&mut self.stage) {
            Stage::Waiting(mut turn) => {
                let step = turn.on_watch(&message, out);
                self.step(turn, step, out);
            }
            other => self.stage = other,
        }
    }

    fn on_cancel(&mut self, out: &mut Actions<'_>) {
        match (&self.stage, self.own_lease) {
            // The key goes with its lease.
            (Stage::Queueing(_) | Stage::Waiting(_), Some(lease)) => {
                out.submit(ASK, Request::LeaseRevoke(lease));
            }
            (Stage::Waiting(turn), None) => turn.remove(out),
            _ => {}
        }
    }
}

/// An Unlock call: a deletion of one key.
#[derive(Debug)]
pub(super) struct Unlock;

impl Machine for Unlock {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: v3lockpb::UnlockRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        let delete = pb::DeleteRangeRequest { key: request.key, ..Default::default() };
        let checked = check::delete_range(&delete)
            .and_then(|()| check_size(delete.encoded_len(), out.settings));
        match checked {
            Ok(()) => out.submit(ASK, Request::DeleteRange(delete)),
            Err(reject) => out.end(unknown(reject)),
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        match reply {
            Ok(Answer::DeleteRange(answer)) => {
                let header = out.header_message(answer.revision);
                out.finish(generated(&v3lockpb::UnlockResponse { header }));
            }
            Ok(other) => unreachable!("a deletion is answered by a deletion, not {other:?}"),
            Err(reject) => out.end(unknown(reject)),
        }
    }
}
