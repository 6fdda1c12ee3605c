//! One life of a member: its cores, and what they have left to be done by whoever drives them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::Disk;
use super::page_disk::PageDisk;
use crate::base::limits;
use crate::base::prng::Prng;
use crate::base::shared::Shared;
use crate::base::{CoreId, RaftIndex, ShardId, Tick};
use crate::node::{
    Boot, Core, Input, Leader, Mail, NodeConfig, Outbox, Refused, ShardStart, Topology, Whose,
};
use crate::router::Router;
use crate::shard::pages;
use crate::shard::store::ScrubSettings;
use crate::shard::wal::{DiskOp, Layout, Verdict};
use crate::wire::call::{CallId, Reply, WatchMessage};

/// The id of every simulated data directory.
pub const DATA_DIR: u128 = 0x5eed_0000_0000_0000_0000_0000_0000_5eed;
/// The seed that places keys on shards, in every simulated member.
const HASH_SEED: u64 = 7;

/// How a member is built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Executors.
    pub cores: u16,
    /// Keyspace shards.
    pub shards: u16,
    /// Batches that the ring holds.
    pub ring: usize,
    /// The log.
    pub layout: Layout,
    /// Writes of pages, of a hundred, that find no space.
    pub page_no_space_percent: u64,
    /// The rest.
    pub node: NodeConfig,
}

impl Plan {
    /// A small member of so many cores and shards.
    #[must_use]
    pub fn new(cores: u16, shards: u16, seed: u64) -> Plan {
        Plan {
            cores,
            shards,
            ring: 64,
            layout: Layout { lanes: shards, depth: 1, segment_bytes: 64 * 4096 },
            page_no_space_percent: 0,
            node: NodeConfig {
                member: 1,
                members: Vec::new(),
                quota_bytes: None,
                tick_ms: 100,
                election_ticks: 10,
                compaction: crate::cluster::compactor::Mode::Off,
                progress_interval_ms: 200,
                watch_stream_bytes: 4 << 20,
                watch_fragment_bytes: 1 << 20,
                read_slice_records: limits::READ_SLICE_RECORDS,
                page_cache_bytes: 4 << 20,
                memtable_bytes: 16 << 20,
                checkpoint_behind: (u64::MAX, u64::MAX),
                checkpoint_pause_ns: 0,
                scrub: ScrubSettings { rest_ms: None, bytes_per_s: 1 << 20 },
                seed,
            },
        }
    }
}

impl Plan {
    /// A member of any shape.
    #[must_use]
    pub fn draw(prng: &mut Prng) -> Plan {
        let cores = 1 + prng.below(2) as u16;
        let shards = [1, 2, 5][prng.below(3) as usize];
        let mut plan = Plan::new(cores, shards, prng.next_u64());
        plan.layout.depth = 1 + prng.below(3) as usize;
        plan.layout.segment_bytes = 4096 * (24 + prng.below(40));
        // One core may publish more in a step than a small ring shows to an observer.
        plan.ring = if cores == 1 { 1024 } else { [32, 64, 1024][prng.below(3) as usize] };
        plan.node.watch_stream_bytes = [300, 2_000, 4 << 20][prng.below(3) as usize];
        if prng.percent(70) {
            plan.node.page_cache_bytes = (400 << 10) * usize::from(shards);
            plan.node.checkpoint_behind = (1 + prng.below(150), u64::MAX);
            if prng.percent(50) {
                plan.node.checkpoint_pause_ns = 100_000;
            }
            if prng.percent(30) {
                plan.node.scrub.rest_ms = Some(30 + prng.below(300));
            }
            if prng.percent(10) {
                plan.page_no_space_percent = 1 + prng.below(30);
            }
            if prng.percent(30) {
                plan.node.memtable_bytes = 3 * u64::from(shards) * (2_000 + prng.below(60_000));
            }
        }
        if prng.percent(8) {
            plan.node.quota_bytes = Some(20_000 + prng.below(60_000));
        }
        plan
    }

    /// Whose its files are.
    #[must_use]
    pub fn whose(&self, is_used: bool) -> Whose {
        Whose {
            data_dir: DATA_DIR,
            cluster: 1,
            member: self.node.member,
            shards: self.shards,
            hash_seed: HASH_SEED,
            is_used,
        }
    }

    /// The same member with another number of shards, each with what a shard has now.
    pub fn reshard(&mut self, shards: u16) {
        let scale = |bytes: u64, before: u16| bytes / u64::from(before) * u64::from(shards);
        let cache = scale(self.node.page_cache_bytes as u64, self.shards);
        self.node.page_cache_bytes = usize::try_from(cache).expect("small");
        self.node.memtable_bytes = scale(self.node.memtable_bytes, self.shards);
        self.layout.lanes = shards;
        self.shards = shards;
    }

    /// More cores than shards, so that reads can wait where the coordinator's mail does not;
    /// slices, fragments and quotas of very little.
    pub fn vary(&mut self, prng: &mut Prng) {
        self.cores = 2 + prng.below(3) as u16;
        self.node.watch_fragment_bytes = [100, 200, 1 << 20][prng.below(3) as usize];
        self.node.read_slice_records = 1 + prng.below(4) as usize;
        if prng.percent(15) {
            self.node.quota_bytes = Some(3_000 + prng.below(9_000));
        }
    }
}

struct Station {
    core: Core,
    inputs: VecDeque<Input>,
    out: Outbox,
}

/// The cores of one life.
pub struct Machine {
    /// Who does what.
    pub topology: Arc<Topology>,
    /// The words that the cores share.
    pub shared: Arc<Shared>,
    /// How the log ended that this life began with.
    pub verdict: Verdict,
    /// The last entry that every shard's checkpoint held.
    pub base: RaftIndex,
    /// Whether these were not of one entry.
    pub is_apart: bool,
    stations: Vec<Station>,
    /// Mail that was sent and not collected: sender, receiver.
    pub sent: Vec<(CoreId, CoreId, Mail)>,
    /// Disk operations that were begun and not collected.
    pub disk: Vec<DiskOp>,
    /// The same of page files.
    pub pages: Vec<(ShardId, pages::DiskOp)>,
    /// Answers given.
    pub replies: Vec<(CoreId, CallId, Reply)>,
    /// Messages to watch streams.
    pub told: Vec<(CoreId, CallId, WatchMessage)>,
    /// Why the member cannot go on, once it cannot.
    pub halted: Option<String>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({} cores, halted: {:?})", self.stations.len(), self.halted)
    }
}

/// When a core wants to be stepped again though nothing arrives.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// At this time.
    pub wake_at: Option<Tick>,
    /// At once.
    pub more: bool,
}

impl Machine {
    /// Starts a member from what its disks hold, as the runtime does.
    ///
    /// # Errors
    /// The log or a page file is refused.
    pub fn boot(
        plan: &Plan,
        disk: &Disk,
        pages: &PageDisk,
        is_used: bool,
        now: Tick,
    ) -> Result<Machine, Refused> {
        let whose = plan.whose(is_used);
        let boot = Boot::recover(disk, pages, &whose, plan.layout)?;
        let starts = boot.starts.clone();
        let verdict = boot.recovered.verdict;
        let base = boot.recovered.base().index;
        let applied = |start: &ShardStart| start.superblock.state.applied.index;
        let is_apart = boot.starts.iter().any(|start| applied(start) != base);
        let topology = Arc::new(Topology::new(plan.cores, Router::new(HASH_SEED, plan.shards)));
        let shared = Arc::new(Shared::with_ring(plan.cores, plan.shards, plan.ring));
        let node = Arc::new(plan.node.clone());
        let mut first = Outbox::default();
        let leader = Leader::boot(boot, &node, &topology, now, &mut first);
        let mut leader = Some(leader.expect("a log of this program's own format"));
        let mut stations = Vec::new();
        for core in (0..plan.cores).map(CoreId) {
            let (topology, shared) = (Arc::clone(&topology), Arc::clone(&shared));
            let node = Arc::clone(&node);
            let core = Core::new(core, topology, shared, node, &starts, leader.take());
            let out = std::mem::take(&mut first);
            stations.push(Station { core, inputs: VecDeque::new(), out });
        }
        Ok(Machine {
            topology,
            shared,
            verdict,
            base,
            is_apart,
            stations,
            sent: Vec::new(),
            disk: Vec::new(),
            pages: Vec::new(),
            replies: Vec::new(),
            told: Vec::new(),
            halted: None,
        })
    }

    /// Whether clients may come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stations[0].core.leader().is_some_and(Leader::is_open)
    }

    /// Tells the member to stop.
    pub fn stop(&mut self) {
        self.stations[0].core.stop();
    }

    /// Whether it has: everything durable, witnessed and answered.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stations[0].core.leader().is_some_and(Leader::is_stopped)
    }

    /// Lays input before a core, for its next step.
    pub fn give(&mut self, core: CoreId, input: Input) {
        self.stations[usize::from(core.0)].inputs.push_back(input);
    }

    /// Whether a core has input to step over.
    #[must_use]
    pub fn has_input(&self, core: CoreId) -> bool {
        !self.stations[usize::from(core.0)].inputs.is_empty()
    }

    /// Steps one core and collects what comes out of it. A member that halts says nothing more.
    pub fn step(&mut self, id: CoreId, now: Tick) -> Again {
        let Station { core, inputs, out } = &mut self.stations[usize::from(id.0)];
        core.step(now, inputs, out);
        assert!(inputs.is_empty(), "a step takes all input");
        self.disk.append(&mut out.disk);
        self.pages.append(&mut out.pages);
        out.applied.clear();
        if let Some(why) = out.halt.take() {
            self.halted.get_or_insert(why);
        }
        if self.halted.is_none() {
            self.replies.extend(out.replies.drain(..).map(|(call, reply)| (id, call, reply)));
            self.told.extend(out.watch.drain(..).map(|(call, message)| (id, call, message)));
            self.sent.extend(out.mail.drain(..).map(|(to, mail)| (id, to, mail)));
        }
        Again { wake_at: out.wake_at, more: out.more }
    }
}
