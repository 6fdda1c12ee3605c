//! The shard's page file: what was wished for arrives, checkpoints go on in slices.

use bytes::Bytes;

use super::{Awaited, Queued, ShardRole, Until, Waiting};
use crate::base::limits::CHECKPOINT_RETRY_MS;
use crate::base::shared::Position;
use crate::base::{Revision, Tick};
use crate::node::mail::Mail;
use crate::node::{Here, Outbox, Topology};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{DiskOp, FileId, PageRef, Read};
use crate::shard::store::{Ended, Halt};
use crate::shard::wal::ChainPoint;

impl ShardRole {
    /// Asks for the pages that something lacks. Damage ends the member.
    pub(super) fn wish(&mut self, stop: Stop, out: &mut Outbox) -> Awaited {
        match stop {
            Stop::Wanted(pages) => {
                let mut ops = Vec::new();
                let is_taken = self.store.wish(&pages, &mut ops);
                self.begin(ops, out);
                pages.first().copied().filter(|_| is_taken)
            }
            Stop::Damaged(damaged) => {
                let file = FileId(self.id);
                let remedy = crate::shard::disk::REMEDY;
                out.halt.get_or_insert_with(|| {
                    format!(
                        "{file}: {damaged}; this member stops, since it would answer from it; \
                         see to the disk; {remedy}"
                    )
                });
                None
            }
        }
    }

    fn begin(&self, ops: Vec<DiskOp>, out: &mut Outbox) {
        out.pages.extend(ops.into_iter().map(|op| (self.id, op)));
    }

    /// A read of the page file has ended.
    pub(in crate::node) fn on_page_read(
        &mut self,
        here: &mut Here,
        token: Token,
        result: Result<Bytes, DiskFault>,
        out: &mut Outbox,
    ) {
        let mut ops = Vec::new();
        let read = self.store.on_read(token, result, &mut ops);
        self.begin(ops, out);
        match read {
            Ok(Read::Page(at) | Read::Void(at) | Read::Checked(at)) => {
                self.wake_for(here, Some(at), out);
            }
            Err(fault) => drop(out.halt.get_or_insert_with(|| fault.to_string())),
        }
    }

    /// Another operation of the page file has ended.
    pub(in crate::node) fn on_page_done(
        &mut self,
        here: &mut Here,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Outbox,
    ) {
        let mut ops = Vec::new();
        let ended = self.store.on_done(token, result, &mut ops);
        self.begin(ops, out);
        match ended {
            Ok(None) => {}
            Ok(Some(Ended::Durable { index, forgotten })) => {
                here.send(Topology::ORDERER, Mail::Checkpointed(self.id, index), out);
                if let Some(below) = self.forgetting.take() {
                    self.cutting = self.cutting.filter(|cutting| *cutting > below);
                    here.send(Topology::ORDERER, Mail::HasCut(self.id, below), out);
                }
                here.metrics.forgotten.add(forgotten);
                self.tell_size(here);
                self.wake_for(here, None, out);
                self.run_queue(here, out);
            }
            Ok(Some(Ended::NoSpace)) => {
                here.send(Topology::ORDERER, Mail::DiskFull, out);
                self.retry_at = Some(here.now.plus_ms(CHECKPOINT_RETRY_MS));
                self.wake_for(here, None, out);
            }
            Err(fault) => drop(out.halt.get_or_insert_with(|| fault.to_string())),
        }
    }

    /// Lets go on what waits for this page, and what has to ask again; `None`: everything.
    fn wake_for(&mut self, here: &mut Here, read: Option<PageRef>, out: &mut Outbox) {
        let is_due = |awaited: Awaited| read.is_none() || awaited.is_none() || awaited == read;
        self.work_awaits.take_if(|awaited| is_due(*awaited));
        let mut at = 0;
        while at < self.waiting.len() {
            if !is_due(self.waiting[at].0) {
                at += 1;
                continue;
            }
            match self.waiting.swap_remove(at).1 {
                Waiting::Write(origin, request) => {
                    self.queue.push_front(Queued::Write(origin, request));
                }
                Waiting::Read(job) => self.jobs.push_back(job),
            }
        }
        let is_parked = |(until, _): &mut (Until, _)| match until {
            Until::Page(awaited) => is_due(*awaited),
            Until::Applied(_) => false,
        };
        match self.parked.take_if(is_parked) {
            Some((_, asks)) => self.go_on(here, asks, out),
            None => self.run_queue(here, out),
        }
    }

    /// What is frozen at `position` is the state as of an entry: it goes to disk.
    pub(in crate::node) fn checkpoint(
        &mut self,
        here: &mut Here,
        position: Position,
        point: ChainPoint,
        out: &mut Outbox,
    ) {
        if self.position < position {
            self.follow_ring(here, out);
            here.advance_visible(out);
        }
        self.forgetting = self.cutting;
        self.store.begin_checkpoint(point);
    }

    /// Nothing reads below `below` any more.
    pub(in crate::node) fn cut(&mut self, below: Revision) {
        self.store.cut(below);
        self.cutting = self.cutting.max(Some(below));
    }

    /// When there is something to do though nothing arrives.
    pub(in crate::node) fn wake_at(&self, now: Tick) -> Option<Tick> {
        let scrub = self.store.scrub_due(now).filter(|_| self.work_awaits.is_none());
        self.retry_at.into_iter().chain(scrub).chain(self.work_at).min()
    }

    /// Whether a read goes on with the next step.
    pub(in crate::node) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Sliced work. True if there is more of it.
    pub(in crate::node) fn background(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        if let Some(job) = self.jobs.pop_front() {
            self.slice(here, job, out);
        }
        if self.retry_at.is_some_and(|at| at <= here.now) {
            self.retry_at = None;
            self.store.retry_checkpoint();
        }
        let more = self.work(here, out);
        // Each slice makes room for a little more.
        if !self.queue.is_empty() {
            self.run_queue(here, out);
        }
        !self.jobs.is_empty() | more
    }

    fn work(&mut self, here: &Here, out: &mut Outbox) -> bool {
        if self.work_awaits.is_some() || self.work_at.is_some_and(|at| at > here.now) {
            return false;
        }
        self.work_at = None;
        let mut ops = Vec::new();
        let worked = self.store.work(here.now, &mut ops);
        self.begin(ops, out);
        match worked {
            // The disk and this core are for those who wait: a checkpoint hurries only as far as
            // the next layer fills.
            Ok(true) => match self.store.rest_ns(here.config.checkpoint_pause_ns) {
                0 => true,
                rest_ns => {
                    self.work_at = Some(here.now.plus_ns(rest_ns));
                    false
                }
            },
            Ok(false) => false,
            Err(Halt::Stop(stop)) => {
                self.work_awaits = Some(self.wish(stop, out));
                false
            }
            Err(Halt::Fault(fault)) => {
                out.halt.get_or_insert_with(|| fault.to_string());
                false
            }
        }
    }
}
