//! The Election service but for Observe.

use bytes::Bytes;

use super::super::kv::decode;
use super::super::machine::{Actions, Machine, Sub};
use super::super::message::generated;
use super::super::status::{Code, Status};
use super::turn::{Step, Turn};
use super::{
    ASK, created_at, granted, key_of, key_value, lease_of, oldest, prefix_of, put, range_of,
    range_op, single, submit_removal, submit_txn, txn_of,
};
use crate::base::{LeaseId, Revision};
use crate::wire::call::{OpAnswer, Reply, Request, TxnAnswer, WatchMessage};
use crate::wire::etcdserverpb as pb;
use crate::wire::v3electionpb;

const NO_LEADER_GIVEN: Status = Status::fixed(Code::Unknown, "\"leader\" field must be provided");
const NOT_LEADER: Status = Status::fixed(Code::Unknown, "election: not leader");
const NO_LEADER: Status = Status::fixed(Code::Unknown, "election: no leader");

/// A Campaign call: a lease, a key in the queue with the candidate's value, a turn.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    request: v3electionpb::CampaignRequest,
    prefix: Bytes,
    /// The lease in force, given or granted.
    lease: LeaseId,
    /// Whether it was granted for this call, and nobody else knows of it.
    is_own_lease: bool,
    /// The revision of the call's first transaction; its answer's header shows this one.
    began: Revision,
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
    /// The key stood there already with another value, which is being replaced.
    Proclaiming(Turn),
    /// The key stands in the queue.
    Waiting(Turn),
}

impl Campaign {
    fn queue(&mut self, lease: LeaseId, out: &mut Actions<'_>) {
        self.lease = lease;
        let key = key_of(&self.prefix, lease);
        let txn = pb::TxnRequest {
            compare: vec![created_at(&key, Revision(0))],
            success: vec![put(&key, self.request.value.clone(), lease)],
            failure: vec![range_op(single(&key))],
        };
        self.stage = Stage::Queueing(key);
        submit_txn(txn, out);
    }

    fn queued(&mut self, key: Bytes, reply: Reply, out: &mut Actions<'_>) -> Result<(), Status> {
        let answer = txn_of(reply)?;
        self.began = answer.revision;
        let prefix = self.prefix.clone();
        if answer.succeeded {
            self.wait(Turn::new(prefix, key, answer.revision), out);
            return Ok(());
        }
        let Some(OpAnswer::Range(range)) = answer.ops.first() else {
            unreachable!("the other branch reads the key, and not {:?}", answer.ops);
        };
        // A compare that failed because the key exists reads it: both see one revision.
        let own = range.records.first().ok_or(NOT_LEADER)?;
        let turn = Turn::new(prefix, key, own.create);
        if own.value() == &self.request.value[..] {
            self.wait(turn, out);
        } else {
            submit_proclaim(&turn.key, turn.created, &self.request.value, self.lease, out);
            self.stage = Stage::Proclaiming(turn);
        }
        Ok(())
    }

    fn wait(&mut self, turn: Turn, out: &mut Actions<'_>) {
        turn.check(out);
        self.stage = Stage::Waiting(turn);
    }

    fn step(&mut self, turn: Turn, step: Step, out: &mut Actions<'_>) {
        match step {
            Step::Waiting => self.stage = Stage::Waiting(turn),
            Step::Held(_) => self.finish(turn, out),
            Step::Lost => out.end(NOT_LEADER),
            Step::Failed(status) => out.end(status),
        }
    }

    fn finish(&mut self, turn: Turn, out: &mut Actions<'_>) {
        let leader = v3electionpb::LeaderKey {
            name: std::mem::take(&mut self.request.name),
            key: turn.key,
            rev: turn.created.0,
            lease: self.lease.0,
        };
        let header = out.header_message(self.began);
        out.finish(generated(&v3electionpb::CampaignResponse { header, leader: Some(leader) }));
    }
}

impl Machine for Campaign {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        self.request = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        self.prefix = prefix_of(&self.request.name);
        self.stage = Stage::Granting;
        match lease_of(self.request.lease, out) {
            Some(lease) => self.queue(lease, out),
            None => self.is_own_lease = true,
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        let outcome = match std::mem::take(&mut self.stage) {
            Stage::Idle => unreachable!("nothing was asked"),
            Stage::Granting => granted(reply).map(|lease| self.queue(lease, out)),
            Stage::Queueing(key) => self.queued(key, reply, out),
            Stage::Proclaiming(turn) => proclaimed(reply).map(|_| self.wait(turn, out)),
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
        match &self.stage {
            // The key goes with its lease.
            Stage::Queueing(_) | Stage::Proclaiming(_) | Stage::Waiting(_) if self.is_own_lease => {
                out.submit(ASK, Request::LeaseRevoke(self.lease));
            }
            Stage::Proclaiming(turn) | Stage::Waiting(turn) => turn.remove(out),
            _ => {}
        }
    }
}

/// Replaces the value of a key that still is the one created at `created`.
fn submit_proclaim(
    key: &Bytes,
    created: Revision,
    value: &Bytes,
    lease: LeaseId,
    out: &mut Actions<'_>,
) {
    let txn = pb::TxnRequest {
        compare: vec![created_at(key, created)],
        success: vec![put(key, value.clone(), lease)],
        failure: Vec::new(),
    };
    submit_txn(txn, out);
}

fn proclaimed(reply: Reply) -> Result<TxnAnswer, Status> {
    let answer = txn_of(reply)?;
    if answer.succeeded { Ok(answer) } else { Err(NOT_LEADER) }
}

/// A Proclaim call: a new value for a leader's key.
#[derive(Debug, Default)]
pub(super) struct Proclaim {
    leader: v3electionpb::LeaderKey,
    value: Bytes,
    is_granting: bool,
}

impl Proclaim {
    fn submit(&self, lease: LeaseId, out: &mut Actions<'_>) {
        submit_proclaim(&self.leader.key, Revision(self.leader.rev), &self.value, lease, out);
    }

    fn reply(&mut self, reply: Reply, out: &mut Actions<'_>) -> Result<(), Status> {
        if std::mem::take(&mut self.is_granting) {
            self.submit(granted(reply)?, out);
            return Ok(());
        }
        let answer = proclaimed(reply)?;
        let header = out.header_message(answer.revision);
        out.finish(generated(&v3electionpb::ProclaimResponse { header }));
        Ok(())
    }
}

impl Machine for Proclaim {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: v3electionpb::ProclaimRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        let Some(leader) = request.leader else {
            return out.end(NO_LEADER_GIVEN);
        };
        (self.leader, self.value) = (leader, request.value);
        match lease_of(self.leader.lease, out) {
            Some(lease) => self.submit(lease, out),
            None => self.is_granting = true,
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        if let Err(status) = self.reply(reply, out) {
            out.end(status);
        }
    }
}

/// A Resign call: a leader's key is deleted, if it still is the leader's.
#[derive(Debug)]
pub(super) struct Resign;

impl Machine for Resign {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        let request: v3electionpb::ResignRequest = match decode(message) {
            Ok(request) => request,
            Err(status) => return out.end(status),
        };
        let Some(leader) = request.leader else {
            return out.end(NO_LEADER_GIVEN);
        };
        submit_removal(&leader.key, Revision(leader.rev), out);
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        match txn_of(reply) {
            Ok(answer) => {
                let header = out.header_message(answer.revision);
                out.finish(generated(&v3electionpb::ResignResponse { header }));
            }
            Err(status) => out.end(status),
        }
    }
}

/// A Leader call: the oldest key of a queue.
#[derive(Debug)]
pub(super) struct Leader;

impl Machine for Leader {
    fn on_message(&mut self, message: Bytes, out: &mut Actions<'_>) {
        match decode::<v3electionpb::LeaderRequest>(message) {
            Ok(request) => out.submit(ASK, Request::Range(oldest(&prefix_of(&request.name)))),
            Err(status) => out.end(status),
        }
    }

    fn on_reply(&mut self, _sub: Sub, reply: Reply, out: &mut Actions<'_>) {
        let answer = match range_of(reply) {
            Ok(answer) => answer,
            Err(status) => return out.end(status),
        };
        match answer.records.first() {
            Some(record) => {
                let header = out.header_message(answer.revision);
                let kv = Some(key_value(record));
                out.finish(generated(&v3electionpb::LeaderResponse { header, kv }));
            }
            None => out.end(NO_LEADER),
        }
    }
}
