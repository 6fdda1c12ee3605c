//! node — all rooms of one core composed; every message that crosses cores.
//! All steps of a write, between the frontend's seam and the disk's. In: calls, mail, disk
//! completions, time. Out: answers, mail, disk operations, when to be called again.
//! Owns: one `Core` per executor; the first one also holds the orderer, the log, the leases.
//! Invariants: (1) `step` is a pure function of the core and its input, so that the runtime and
//!             the simulator run the very same code; (2) nothing is answered before it is
//!             committed, durable and visible; (3) K is published before any shard applies.
//! Limits: RING_BATCHES, ADMITTED_MAX, MAIL_MAX.
//! Must not: do I/O; read a clock; block.
//! Tests: tests/sim.rs, tests/road.rs (the interleavings that shaped the road).

mod boot;
mod coordinator;
mod leader;
mod mail;
mod reader;
mod renewer;
pub mod reshard;
mod shard_role;
mod topology;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::STEP_ROUNDS_MAX;
use crate::base::metrics::{Counter, Gauge, Histogram};
use crate::base::reject::Reject;
use crate::base::shared::Shared;
use crate::base::{CoreId, LeaseId, ShardId, Tick};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::wal::DiskOp;
use crate::shard::{pages, store};
use crate::watch::{AskId, Compacted, Hub, Interest, More, Output, Settings, WatchMetrics};
use crate::wire::call::{Answer, CallId, Reply, Request, WatchMessage};
use crate::wire::etcdserverpb as pb;

pub use boot::{Boot, Covered, Refused, ShardStart, Whose};
pub use leader::{Applied, BootError, Leader, LeaderMetrics};
pub use mail::{Mail, Origin};
pub use topology::Topology;

use reader::Reader;
use renewer::Renewer;
use shard_role::ShardRole;

/// What one core's shards and reads count.
#[derive(Debug)]
pub struct NodeMetrics {
    /// Puts applied. What the log held at the start is not counted, here and below.
    pub puts: Counter,
    /// Bytes of their keys and values.
    pub put_bytes: Counter,
    /// Keys deleted.
    pub deletes: Counter,
    /// Transactions asked for on this core.
    pub txns: Counter,
    /// Ranges asked for on this core.
    pub ranges: Counter,
    /// Leases renewed by this core.
    pub renewals: Counter,
    /// Reads that this core has under way.
    pub reads: Gauge,
    /// Versions forgotten after compactions.
    pub forgotten: Counter,
    /// Time that Hash took, by the ticks of its first and last step.
    pub hashes: Histogram<15>,
    /// The same of HashKV.
    pub kv_hashes: Histogram<15>,
}

impl Default for NodeMetrics {
    fn default() -> NodeMetrics {
        NodeMetrics {
            puts: Counter::default(),
            put_bytes: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            ranges: Counter::default(),
            renewals: Counter::default(),
            reads: Gauge::default(),
            forgotten: Counter::default(),
            hashes: Histogram::new(10_000_000),
            kv_hashes: Histogram::new(10_000_000),
        }
    }
}

/// What is fixed for the whole process.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member's ID.
    pub member: u64,
    /// Its description in MemberList.
    pub members: Vec<pb::Member>,
    /// Bytes that the quota allows; `None`: no quota.
    pub quota_bytes: Option<u64>,
    /// Milliseconds between raft's ticks.
    pub tick_ms: u64,
    /// Ticks without a leader until an election.
    pub election_ticks: usize,
    /// Automatic compaction.
    pub compaction: crate::cluster::compactor::Mode,
    /// Milliseconds between automatic progress messages of a watcher.
    pub progress_interval_ms: u64,
    /// Bytes queued on a watch stream above which its watchers lag.
    pub watch_stream_bytes: usize,
    /// Bytes of a watch message from which on it is cut, for who asked for fragments.
    pub watch_fragment_bytes: usize,
    /// Records that one slice of a long read visits.
    pub read_slice_records: usize,
    /// Bytes of pages in memory, of all shards.
    pub page_cache_bytes: usize,
    /// Bytes of changes in memory that are not on pages yet, of all shards.
    pub memtable_bytes: u64,
    /// Records, or bytes of log, behind which a checkpoint is due.
    pub checkpoint_behind: (u64, u64),
    /// Pause between two slices of a checkpoint that has time.
    pub checkpoint_pause_ns: u64,
    /// Passes over all pages.
    pub scrub: store::ScrubSettings,
    /// Seed of everything that is chosen at random.
    pub seed: u64,
}

/// What reaches a core.
#[derive(Debug)]
pub enum Input {
    /// A client's call, or one message of its watch stream.
    Call(CallId, Request),
    /// The client is gone, or has ended its stream.
    Gone(CallId),
    /// So many bytes of a watch stream's messages have left.
    Drained(CallId, usize),
    /// Mail from a core.
    Mail(CoreId, Mail),
    /// An operation of the log has ended.
    Disk(u64, Result<(), DiskFault>),
    /// A read of a shard's page file has ended: its bytes.
    PageRead(ShardId, Token, Result<Bytes, DiskFault>),
    /// Any other operation of a shard's page file has ended.
    PageDone(ShardId, Token, Result<(), DiskFault>),
}

/// What a step leaves to be done. The caller owns it, empties it and hands it in again.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Answers to calls of this core.
    pub replies: Vec<(CallId, Reply)>,
    /// Messages to watch streams of this core.
    pub watch: Vec<(CallId, WatchMessage)>,
    /// Mail to other cores, in order.
    pub mail: Vec<(CoreId, Mail)>,
    /// Operations of the log; only the orderer's core has any.
    pub disk: Vec<DiskOp>,
    /// Operations of page files, of shards that are at home on this core.
    pub pages: Vec<(ShardId, pages::DiskOp)>,
    /// Batches that became visible in this step; only the orderer's core has any.
    pub applied: Vec<Applied>,
    /// The member cannot go on: a fault of the machine, in a sentence.
    pub halt: Option<String>,
    /// Step again at this tick though nothing arrives.
    pub wake_at: Option<Tick>,
    /// Step again at once: there is more to do than one step takes on.
    pub more: bool,
}

impl Outbox {
    fn wake(&mut self, at: Tick) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What a core's parts share during a step.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) core: CoreId,
    pub(crate) now: Tick,
    pub(crate) topology: Arc<Topology>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) metrics: Arc<NodeMetrics>,
    /// Mail to this very core, delivered within the step.
    pub(crate) own: VecDeque<Mail>,
}

impl Here {
    /// Sends mail, to this core too.
    pub(crate) fn send(&mut self, to: CoreId, mail: Mail, out: &mut Outbox) {
        if to == self.core {
            self.own.push_back(mail);
        } else {
            out.mail.push((to, mail));
        }
    }

    /// Bytes that the quota has left; `None` if there is no quota.
    pub(crate) fn quota_left(&self) -> Option<u64> {
        let quota = self.config.quota_bytes?;
        Some(quota.saturating_sub(self.shared.store_bytes()))
    }

    /// A shard of this core has applied something: moves V if that was the last to wait for.
    /// The orderer's core has answers to release then, and hubs have events to match.
    pub(crate) fn advance_visible(&mut self, out: &mut Outbox) {
        let before = self.shared.visible();
        if !self.shared.advance_visible() {
            return;
        }
        let visible = self.shared.visible();
        // A core that nothing concerns has to follow too, or the ring fills up behind it. It can
        // pass what is visible and no more, so it is rung as V goes on: from half the ring on at
        // every sixteenth batch.
        let sixteenth = before / 16 != visible / 16;
        let half = self.shared.ring_batches() / 2;
        for core in self.topology.all_cores() {
            let lags = sixteenth && visible.saturating_sub(self.shared.consumed(core)) >= half;
            let due = core == Topology::ORDERER || lags || self.shared.wants_visible(core);
            if core != self.core && due {
                out.mail.push((core, Mail::Ring));
            }
        }
    }

    /// Answers a call, wherever it was taken.
    pub(crate) fn answer(&mut self, origin: Origin, reply: Reply, out: &mut Outbox) {
        if origin.core == self.core {
            out.replies.push((origin.call, reply));
        } else {
            self.send(origin.core, Mail::Answers(vec![(origin.call, reply)]), out);
        }
    }
}

/// One executor's share of the member.
#[derive(Debug)]
pub struct Core {
    here: Here,
    shards: Vec<ShardRole>,
    reader: Reader,
    renewer: Renewer,
    hub: Hub,
    hub_out: Output,
    watch_metrics: Arc<WatchMetrics>,
    leader: Option<Box<Leader>>,
}

impl Core {
    /// A core of the placement. `starts` are those of all shards, by number; `leader` goes to the
    /// orderer's core.
    #[must_use]
    pub fn new(
        core: CoreId,
        topology: Arc<Topology>,
        shared: Arc<Shared>,
        config: Arc<NodeConfig>,
        starts: &[ShardStart],
        leader: Option<Leader>,
    ) -> Core {
        assert_eq!(leader.is_some(), core == Topology::ORDERER, "the leader's part on {core}");
        let shards = topology.shards_on(core).iter().map(|shard| {
            let shards = topology.router().shards();
            let (records, bytes) = config.checkpoint_behind;
            let settings = store::Settings {
                cache_bytes: config.page_cache_bytes / usize::from(shards),
                memtable_bytes: config.memtable_bytes / u64::from(shards),
                checkpoint_behind: (records / u64::from(shards), bytes / u64::from(shards)),
                seed: config.seed ^ u64::from(shard.0),
                scrub: config.scrub,
            };
            ShardRole::new(shard, &starts[usize::from(shard.0)], settings)
        });
        let shards = shards.collect();
        let shards_count = topology.router().shards();
        let oldest = starts.iter().min_by_key(|start| start.superblock.state.applied.index);
        let oldest = oldest.expect("a member has a shard").superblock.state;
        shared.begin_at(oldest.revision, oldest.compact_revision, oldest.applied.index);
        let settings = Settings {
            stream_bytes: config.watch_stream_bytes,
            ..Settings::new(shards_count, config.progress_interval_ms, config.watch_fragment_bytes)
        };
        let prng = crate::base::prng::Prng::new(config.seed ^ u64::from(core.0));
        let watch_metrics = Arc::new(WatchMetrics::default());
        let hub = Hub::new(settings, prng, (0, oldest.revision), Arc::clone(&watch_metrics));
        let own = VecDeque::new();
        let metrics = Arc::default();
        let here = Here { core, now: Tick(0), topology, shared, config, metrics, own };
        Core {
            here,
            shards,
            reader: Reader::default(),
            renewer: Renewer::default(),
            hub,
            hub_out: Output::default(),
            watch_metrics,
            leader: leader.map(Box::new),
        }
    }

    /// The orderer's part, if this core has it.
    #[must_use]
    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_deref()
    }

    /// The process is told to stop: no more work of the core's own, and a stamp behind the log.
    pub fn stop(&mut self) {
        if let Some(leader) = &mut self.leader {
            leader.stop();
        }
    }

    /// What the shards and reads count.
    #[must_use]
    pub fn metrics(&self) -> Arc<NodeMetrics> {
        Arc::clone(&self.here.metrics)
    }

    /// The watch hub's counters.
    #[must_use]
    pub fn watch_metrics(&self) -> Arc<WatchMetrics> {
        Arc::clone(&self.watch_metrics)
    }

    /// Takes all input and does what follows from it.
    pub fn step(&mut self, now: Tick, inputs: &mut VecDeque<Input>, out: &mut Outbox) {
        self.here.now = now;
        out.wake_at = None;
        out.more = false;
        while let Some(input) = inputs.pop_front() {
            self.input(input, out);
            self.own_mail(out);
        }
        for round in 0.. {
            let mut moved = self.follow_ring(out);
            if let Some(leader) = &mut self.leader {
                moved |= leader.advance(&mut self.here, out);
            }
            moved |= !self.here.own.is_empty();
            self.own_mail(out);
            if !moved {
                break;
            }
            if round == STEP_ROUNDS_MAX {
                out.more = true;
                break;
            }
        }
        self.background(out);
        self.hub_step(out);
        self.own_mail(out);
        out.more |= !self.here.own.is_empty();
        // What that mail began.
        out.more |= self.reader.has_work() || self.shards.iter().any(ShardRole::has_jobs);
        // Said before looking: what is published from here on rings this core.
        let parked = self.shards.iter().any(ShardRole::is_parked);
        self.here.shared.want_committed(self.here.core, parked);
        let (_, committed) = self.here.shared.committed();
        let behind = |role: &ShardRole| role.is_parked() && role.position() < committed;
        out.more |= self.shards.iter().any(behind);
    }

    fn input(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Call(call, request) => self.call(call, request, out),
            Input::Gone(call) => self.hub.on_gone(call),
            Input::Drained(call, bytes) => self.hub.on_drained(call, bytes),
            Input::Mail(from, mail) => self.mail(from, mail, out),
            Input::PageRead(shard, token, result) => {
                let (role, here) = self.shard(shard);
                role.on_page_read(here, token, result, out);
            }
            Input::PageDone(shard, token, result) => {
                let (role, here) = self.shard(shard);
                role.on_page_done(here, token, result, out);
            }
            Input::Disk(token, result) => {
                let leader = self.leader.as_mut().expect("only the orderer's core has disk");
                leader.on_disk(token, result, out);
            }
        }
    }

    fn own_mail(&mut self, out: &mut Outbox) {
        let core = self.here.core;
        // Mail may cause mail; what is left after a bound goes on in the next step.
        for _ in 0..crate::base::limits::MAIL_MAX {
            let Some(mail) = self.here.own.pop_front() else { return };
            self.mail(core, mail, out);
        }
    }

    /// Routes a client's call.
    fn call(&mut self, call: CallId, request: Request, out: &mut Outbox) {
        let origin = Origin { core: self.here.core, call };
        let topology = Arc::clone(&self.here.topology);
        let router = topology.router();
        match request {
            Request::Put(ref put) => {
                let shard = router.shard_of(&put.key);
                let mail = Mail::Evaluate(origin, shard, request);
                self.here.send(topology.home(shard), mail, out);
            }
            Request::DeleteRange(_) | Request::Txn(_) => {
                if matches!(request, Request::Txn(_)) {
                    self.here.metrics.txns.one();
                }
                let named = coordinator::shards_named(&request, router);
                if reader::is_read_only(&request) {
                    let Request::Txn(txn) = request else { unreachable!("only a Txn reads only") };
                    self.reader.txn(&mut self.here, origin, txn, out);
                } else if named.len() <= 1 {
                    // One that names no key at all, of empty transactions, is anyone's.
                    let shard = named.iter().next().unwrap_or(ShardId(0));
                    let mail = Mail::Evaluate(origin, shard, request);
                    self.here.send(topology.home(shard), mail, out);
                } else {
                    self.here.send(Topology::ORDERER, Mail::Coordinate(origin, request), out);
                }
            }
            Request::Range(range) => {
                self.here.metrics.ranges.one();
                self.reader.range(&mut self.here, origin, range, out);
            }
            Request::HashKv(revision) => {
                self.reader.hash_kv(&mut self.here, origin, revision, out);
            }
            Request::Hash => self.reader.hash(&mut self.here, origin, out),
            Request::Defragment => {
                let revision = self.here.shared.visible_revision();
                out.replies.push((call, Ok(Answer::Header(revision))));
            }
            Request::MemberList { linearizable } => {
                let reply = if linearizable && !self.here.shared.has_leader() {
                    Err(Reject::NoLeader)
                } else {
                    Ok(Answer::MemberList(self.here.config.members.clone()))
                };
                out.replies.push((call, reply));
            }
            Request::Watch(request) => {
                let (now, shared) = (self.here.now, &self.here.shared);
                self.hub.on_request(now, call, request, shared, &mut self.hub_out);
            }
            Request::LeaseKeepAlive(id) => self.keep_alive(origin, id, out),
            Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseTimeToLive { .. }
            | Request::LeaseLeases
            | Request::Alarm(_)
            | Request::Status => {
                self.here.send(Topology::ORDERER, Mail::Coordinate(origin, request), out);
            }
        }
    }

    /// Renews a lease here if this core knows it, else on the orderer's.
    fn keep_alive(&mut self, origin: Origin, id: LeaseId, out: &mut Outbox) {
        if let Some(ttl_s) = self.renewer.renew(id, self.here.now) {
            self.here.metrics.renewals.one();
            let revision = self.here.shared.committed().0;
            self.here.answer(origin, Ok(Answer::LeaseKeepAlive { revision, id, ttl_s }), out);
        } else {
            let mail = Mail::Coordinate(origin, Request::LeaseKeepAlive(id));
            self.here.send(Topology::ORDERER, mail, out);
        }
    }

    fn shard(&mut self, shard: ShardId) -> (&mut ShardRole, &mut Here) {
        let role = self.shards.iter_mut().find(|role| role.id() == shard);
        (role.expect("mail for a shard of another core"), &mut self.here)
    }

    fn mail(&mut self, from: CoreId, mail: Mail, out: &mut Outbox) {
        match mail {
            Mail::Evaluate(origin, shard, request) => {
                let (role, here) = self.shard(shard);
                role.evaluate(here, origin, request, out);
            }
            Mail::Read(ask) => {
                let (role, here) = self.shard(ask.shard);
                role.read(here, ask, out);
            }
            Mail::Latch(operation, shard, asks) => {
                let (role, here) = self.shard(shard);
                role.latch(here, operation, asks, out);
            }
            Mail::Release(operation, shard, release) => {
                let (role, here) = self.shard(shard);
                role.release(here, operation, release, out);
            }
            Mail::CatchUp(ask) => {
                let (role, here) = self.shard(ask.shard);
                role.catch_up(here, ask, out);
            }
            Mail::Cut(shard, below) => self.shard(shard).0.cut(below),
            Mail::Checkpoint(shard, position, point) => {
                let (role, here) = self.shard(shard);
                role.checkpoint(here, position, point, out);
            }
            Mail::Open(term) => {
                for role in &mut self.shards {
                    role.open(&mut self.here, term, out);
                }
            }
            Mail::Share(id, shard, share) => {
                self.reader.share(&mut self.here, id, shard, share, out);
            }
            Mail::Answers(replies) => out.replies.extend(replies),
            Mail::Stretch(number, shard, stretch) => {
                let stretch = stretch.map_err(Compacted);
                self.hub.on_stretch(AskId(number), shard, stretch, &mut self.hub_out);
            }
            Mail::LeaseKeys(origin, lease) => {
                self.reader.lease_keys(&mut self.here, origin, lease, out);
            }
            Mail::Lifeline(id, line) => self.renewer.know(id, line),
            Mail::Unhold(below) => self.reader.unhold(&mut self.here, below, out),
            Mail::Ring => {}
            Mail::Coordinate(..)
            | Mail::Propose(_)
            | Mail::NoSpace(_)
            | Mail::Latched(..)
            | Mail::Unheld(..)
            | Mail::Checkpointed(..)
            | Mail::DiskFull
            | Mail::WantsCheckpoint(..)
            | Mail::HasCut(..) => {
                let leader = self.leader.as_mut().expect("mail for the orderer's core");
                leader.mail(&mut self.here, from, mail, out);
            }
        }
    }

    /// Lets the shards apply what is committed. True if anything was.
    fn follow_ring(&mut self, out: &mut Outbox) -> bool {
        let mut applied = false;
        for role in &mut self.shards {
            applied |= role.follow_ring(&mut self.here, out);
        }
        if applied {
            self.here.advance_visible(out);
        }
        applied
    }

    /// Sliced work that no one waits for at this moment.
    fn background(&mut self, out: &mut Outbox) {
        for role in &mut self.shards {
            out.more |= role.background(&mut self.here, out);
            if let Some(at) = role.wake_at(self.here.now) {
                out.wake(at);
            }
        }
        out.more |= self.reader.background(&mut self.here, out);
    }

    fn hub_step(&mut self, out: &mut Outbox) {
        let more = self.hub.advance(self.here.now, &self.here.shared, &mut self.hub_out);
        out.more |= matches!(more, More::Yes);
        out.watch.append(&mut self.hub_out.messages);
        for ask in self.hub_out.asks.drain(..) {
            for shard in self.here.topology.router().all().iter() {
                let catch_up = mail::CatchUp {
                    core: self.here.core,
                    number: ask.id.0,
                    shard,
                    range: ask.range.clone(),
                    after: ask.after,
                    upto: ask.upto,
                    bytes_max: ask.bytes_max,
                };
                let home = self.here.topology.home(shard);
                self.here.send(home, Mail::CatchUp(catch_up), out);
            }
        }
        if let Some(at) = self.hub.wake_at() {
            out.wake(at);
        }
        let interested = !matches!(self.hub.interest(), Interest::None);
        self.here.shared.want_visible(self.here.core, interested);
        // V may have moved between the hub's look and the wish: nobody rang for that.
        out.more |= interested && self.here.shared.visible() > self.hub.position();
        let shards = self.shards.iter().map(ShardRole::position);
        let consumed = shards.chain([self.hub.position()]).min().unwrap_or(0);
        let before = self.here.shared.consumed(self.here.core);
        self.here.shared.consumed_to(self.here.core, consumed);
        let makes_room = consumed > before && self.here.shared.wants_room();
        if makes_room && self.here.core != Topology::ORDERER {
            out.mail.push((Topology::ORDERER, Mail::Ring));
        }
        out.more |= makes_room && self.here.core == Topology::ORDERER;
    }
}
