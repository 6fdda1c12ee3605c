//! One seed: a member that lives, dies and lives again under random clients.

mod pages;
mod reshards;
mod watches;

use std::collections::BTreeMap;

use super::clock::Clock;
use super::disk::{Disk, End};
use super::judge::{Judge, OpId};
use super::machine::{Machine, Plan};
use super::mail::Post;
use super::model::shown;
use super::page_disk::PageDisk;
use super::watched::Stream;
use super::workload::{Topic, Workload};
use crate::base::effect::AlarmKind;
use crate::base::prng::Prng;
use crate::base::shared::Position;
use crate::base::{CoreId, LeaseId, Revision, ShardId, Tick};
use crate::node::{Input, Topology};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::wal::Verdict;
use crate::wire::call::{CallId, Reply, Request};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// Events of one seed. More of them: something spins.
const EVENTS_MAX: u64 = 2_000_000;
/// Chosen so that no seed of tests/seeds.txt varies that was found before.
const VARIED_SALT: u64 = 0xa_0000_0000;

#[derive(Clone, Copy, Debug)]
enum Event {
    Step(CoreId),
    Wake(CoreId, Tick),
    Mail(CoreId, CoreId),
    Disk(Token),
    Page(ShardId, Token),
    Act(usize),
    Watch,
    Renew,
    Drain(CallId),
}

#[derive(Debug)]
struct Client {
    core: CoreId,
    calls: u32,
    /// The operation under way, and a request that is to follow.
    op: Option<(OpId, CallId, Request)>,
    follow_up: Option<Request>,
}

/// What became of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Equal for equal runs.
    pub trace: u64,
    /// Answers that were found right.
    pub judged: usize,
    /// Watch events seen.
    pub events: usize,
    /// Watch messages that were fragments.
    pub fragments: usize,
    /// Lives that ended in a crash.
    pub crashes: usize,
    /// Recoveries that found a torn end.
    pub torn: usize,
    /// Members that stopped for a fault of their disk.
    pub halts: usize,
    /// Starts from a checkpoint.
    pub checkpointed: usize,
    /// Starts from shards that were a checkpoint apart.
    pub apart: usize,
    /// Pages that were read.
    pub page_reads: usize,
    /// Pages that found no space.
    pub full: usize,
    /// Times that the store was written for another number of shards.
    pub resharded: usize,
    /// Times that this was cut short.
    pub reshards_cut: usize,
    /// The store's last revision.
    pub revision: i64,
}

/// The world of one seed.
pub struct World {
    plan: Plan,
    prng: Prng,
    clock: Clock<Event>,
    disk: Disk,
    pages: PageDisk,
    machine: Machine,
    post: Post,
    judge: Judge,
    workload: Workload,
    clients: Vec<Client>,
    streams: BTreeMap<CallId, Stream>,
    calls: u32,
    /// Batches of this life that the judge has seen.
    observed: Position,
    stepping: Vec<bool>,
    waking: Vec<Option<Tick>>,
    /// Clients ask.
    is_busy: bool,
    /// What most of it is about.
    topic: Option<Topic>,
    /// Draws when the store is written for another number of shards.
    reshards: Option<Prng>,
    /// Events until the next disk operation that ends fails.
    fault_in: Option<u64>,
    answered: usize,
    handled: u64,
    report: Report,
    /// Where lines of the trace go, if anywhere.
    sink: Option<fn(&str)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({:?}, {:?})", self.plan, self.report)
    }
}

/// Half of the seeds vary more, by draws of their own: what was added later leaves the other half
/// as it was, and with it the seeds that once found something.
fn varied(seed: u64) -> Option<Prng> {
    let mut prng = Prng::new(seed ^ VARIED_SALT);
    prng.percent(50).then_some(prng)
}

/// Runs a seed to its end.
///
/// # Panics
/// If anything is not as it has to be; the message says what.
#[must_use]
pub fn run(seed: u64, sink: Option<fn(&str)>) -> Report {
    let mut prng = Prng::new(seed);
    let mut plan = Plan::draw(&mut prng);
    let mut varied = varied(seed);
    if let Some(prng) = &mut varied {
        plan.vary(prng);
    }
    let (disk, pages) = (Disk::default(), PageDisk::new(plan.shards));
    let clock = Clock::new(Tick(MS));
    let machine = Machine::boot(&plan, &disk, &pages, false, clock.now());
    let machine = machine.expect("empty disks are a new member's");
    let mut workload = Workload::new(prng.next_u64());
    let mut topic = None;
    if let Some(prng) = &mut varied {
        topic = [None, Some(Topic::Leases), Some(Topic::History)][prng.below(3) as usize];
        workload.vary(topic);
    }
    let mut judge = Judge::default();
    judge.may_fill = plan.node.quota_bytes.is_some();
    let cores = usize::from(plan.cores);
    let mut world = World {
        prng,
        clock,
        disk,
        pages,
        machine,
        post: Post::default(),
        judge,
        workload,
        clients: Vec::new(),
        streams: BTreeMap::new(),
        calls: 0,
        observed: 0,
        stepping: vec![false; cores],
        waking: vec![None; cores],
        is_busy: false,
        topic,
        reshards: reshards::drawn(seed),
        fault_in: None,
        answered: 0,
        handled: 0,
        report: Report::default(),
        sink,
        plan,
    };
    world.note(|world| format!("{:?}", world.plan));
    world.live();
    world.report.revision = world.judge.model().revision().0;
    world.report.judged = world.judge.judged;
    world.report
}

impl World {
    fn note(&mut self, line: impl FnOnce(&World) -> String) {
        let line = line(self);
        let crc = crc32c::crc32c_append(self.clock.now().0 as u32, line.as_bytes());
        self.report.trace = self.report.trace.rotate_left(9) ^ u64::from(crc);
        if let Some(sink) = self.sink {
            sink(&format!("{:>12} {line}", self.clock.now().0 / US));
        }
    }

    fn live(&mut self) {
        let lives = 1 + self.prng.below(4);
        for life in 1..=lives {
            self.open();
            let target = self.answered + 10 + self.prng.below(120) as usize;
            self.is_busy = true;
            self.begin_clients();
            if self.prng.percent(12) {
                self.fault_in = Some(self.prng.below(40));
            }
            let crash_in = self.prng.percent(50).then(|| self.prng.below(3_000));
            let mut handled = 0;
            while self.answered < target
                && self.machine.halted.is_none()
                && crash_in.is_none_or(|at| handled < at)
            {
                handled += 1;
                self.turn();
            }
            self.fault_in = None;
            let ends_well = self.machine.halted.is_none() && crash_in.is_none();
            if life == lives || ends_well && self.prng.percent(50) {
                if self.machine.halted.is_some() {
                    self.restart();
                    self.open();
                }
                self.rest();
            }
            if life < lives {
                self.report.halts += usize::from(self.machine.halted.is_some());
                self.restart();
            }
        }
        self.expire();
        self.stop_well();
    }

    // --- lives ----------------------------------------------------------------------------

    /// Runs until the member serves.
    fn open(&mut self) {
        self.machine.topology.all_cores().for_each(|core| self.wake(core, 0));
        let deadline = self.clock.now().plus_ms(60_000);
        while !self.machine.is_open() {
            self.turn();
            assert!(self.clock.now() < deadline, "the member does not open");
            assert!(self.machine.halted.is_none(), "a fault that nobody caused");
        }
        self.judge.opened(self.clock.now());
        self.note(|world| format!("open at {}", world.machine.shared.visible_revision()));
    }

    /// The process ends as it stands, and another begins.
    fn restart(&mut self) {
        let end = if self.prng.percent(60) { End::PowerCut } else { End::Killed };
        self.note(|_| format!("{end:?}"));
        self.begin_disk();
        self.begin_pages();
        self.crash(end);
        self.reshard();
        self.boot();
        self.report.crashes += 1;
    }

    fn crash(&mut self, end: End) {
        self.disk.crash(end, &mut self.prng);
        self.pages.crash(end, &mut self.prng);
    }

    fn boot(&mut self) {
        self.judge.crashed();
        self.clock.clear();
        self.post = Post::default();
        self.clients.clear();
        self.streams.clear();
        self.observed = 0;
        self.stepping.fill(false);
        self.waking.fill(None);
        self.is_busy = false;
        if self.prng.percent(20) {
            self.plan.layout.depth = 1 + self.prng.below(3) as usize;
            self.plan.node.seed = self.prng.next_u64();
        }
        self.clock.after_ns(5 * MS, Event::Step(CoreId(0)));
        let _ = self.clock.advance();
        let machine = Machine::boot(&self.plan, &self.disk, &self.pages, true, self.clock.now());
        self.machine = machine.unwrap_or_else(|refused| panic!("a start was refused: {refused}"));
        self.judge.began(self.machine.base);
        self.report.checkpointed += usize::from(self.machine.base.0 > 0);
        self.report.apart += usize::from(self.machine.is_apart);
        self.report.torn += usize::from(self.machine.verdict != Verdict::Clean);
    }

    /// Clients fall silent and everything under way ends; then everything is compared.
    fn rest(&mut self) {
        self.is_busy = false;
        let deadline = self.clock.now().plus_ms(120_000);
        while self.judge.waiting() > 0 {
            self.turn();
            assert!(self.clock.now() < deadline, "answers do not come: {:?}", self.clients);
        }
        for core in self.machine.topology.all_cores() {
            for request in
                [Request::HashKv(Revision(0)), Request::Range(super::workload::everything())]
            {
                self.ask(core, request);
            }
        }
        self.idle(300);
        // A slow stream of many events takes its time.
        while self.is_anyone_behind() {
            assert!(self.clock.now() < deadline, "events do not arrive");
            self.idle(50);
        }
        let revision = self.machine.shared.visible_revision();
        // A stream that has just been told much is told no more until that has left.
        for _ in 0..3 {
            let untold = self.streams.iter().filter(|(_, stream)| stream.told != revision);
            for call in untold.map(|(call, _)| *call).collect::<Vec<_>>() {
                self.ask_progress(call);
            }
            self.idle(100);
        }
        for stream in self.streams.values_mut() {
            stream.rests(&self.judge.history);
            let told = stream.told == revision || !stream.may_progress(revision);
            assert!(told, "{:?} was not told of progress to {revision}", stream.call);
        }
        // A lease may have ended just now.
        while self.machine.shared.visible() < self.machine.shared.committed().1 {
            self.turn();
        }
        self.judge.rest();
        self.note(|world| format!("rest: {} judged", world.judge.judged));
    }

    /// Time passes until every lease has ended.
    fn expire(&mut self) {
        let leases = self.judge.model().leases();
        let Some(ttl_s) = leases.iter().map(|(_, ttl_s)| *ttl_s).max() else { return };
        self.idle(ttl_s.unsigned_abs() * 1_000 + 1_000 + 2_000);
        self.ask(CoreId(0), Request::LeaseLeases);
        self.rest();
        let model = self.judge.model();
        let may_stay = model.alarms().iter().any(|(_, kind)| *kind == AlarmKind::Corrupt);
        let left = model.leases();
        assert!(left.is_empty() || may_stay, "leases outlive their time: {left:?}");
    }

    /// A clean stop leaves a log that is whole and says so, and notices rot.
    fn stop_well(&mut self) {
        self.machine.stop();
        self.wake(CoreId(0), 0);
        let deadline = self.clock.now().plus_ms(10_000);
        while !self.machine.is_stopped() {
            self.turn();
            assert!(self.clock.now() < deadline, "the member does not stop");
        }
        self.crash(End::PowerCut);
        self.boot();
        assert_eq!(self.machine.verdict, Verdict::Clean, "the log after a clean stop");
        self.open();
        self.rest();
        self.machine.stop();
        self.wake(CoreId(0), 0);
        while !self.machine.is_stopped() {
            self.turn();
        }
        self.crash(End::Killed);
        if !self.rot_pages() && self.disk.rot(&mut self.prng) && self.starts() {
            self.boot();
            self.open();
        }
    }

    /// Whether what was spoiled lets the member start.
    fn starts(&mut self) -> bool {
        self.clock.clear();
        match Machine::boot(&self.plan, &self.disk, &self.pages, true, self.clock.now()) {
            Err(refused) => self.note(|_| format!("rot is noticed: {refused:?}")),
            Ok(_) => return true,
        }
        false
    }

    // --- one thing after the other ----------------------------------------------------------

    /// Lets time pass.
    fn idle(&mut self, ms: u64) {
        let until = self.clock.now().plus_ms(ms);
        while self.clock.next_at().is_some_and(|at| at <= until) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.handled += 1;
        assert!(self.handled < EVENTS_MAX, "the world spins");
        let event = self.clock.advance().expect("a member always waits for its next tick");
        match event {
            Event::Step(core) => self.step(core),
            Event::Wake(core, at) => {
                if self.waking[usize::from(core.0)] == Some(at) {
                    self.wake(core, 0);
                }
            }
            Event::Mail(from, to) => {
                let mail = self.post.take(from, to).expect("mail arrives once");
                self.machine.give(to, Input::Mail(from, mail));
                self.wake_soon(to);
            }
            Event::Disk(token) => self.disk_done(token),
            Event::Page(shard, token) => self.page_done(shard, token),
            Event::Act(client) => self.act(client),
            Event::Watch => self.watch(),
            Event::Renew => self.renew(),
            Event::Drain(call) => self.drain(call),
        }
    }

    fn wake_soon(&mut self, core: CoreId) {
        let pause = if self.prng.percent(3) { 3 * MS } else { 20 * US };
        let pause = self.prng.below(pause);
        self.wake(core, pause);
    }

    fn wake(&mut self, core: CoreId, pause_ns: u64) {
        if !std::mem::replace(&mut self.stepping[usize::from(core.0)], true) {
            self.clock.after_ns(pause_ns, Event::Step(core));
        }
    }

    fn step(&mut self, core: CoreId) {
        self.stepping[usize::from(core.0)] = false;
        let now = self.clock.now();
        let again = self.machine.step(core, now);
        let (_, committed) = self.machine.shared.committed();
        while self.observed < committed {
            self.observed += 1;
            let batch = self.machine.shared.batch(self.observed);
            let batch = batch.expect("the ring shows what was published in one step");
            self.judge.committed(&batch, now);
            self.note(|_| format!("committed {} to revision {}", batch.index, batch.last));
        }
        self.judge.visible(self.machine.shared.visible());
        if again.more {
            self.wake(core, 5 * US);
        }
        self.waking[usize::from(core.0)] = again.wake_at;
        if let Some(at) = again.wake_at {
            self.clock.at(Tick(at.0.max(now.0 + US)), Event::Wake(core, at));
        }
        for (from, to, mail) in std::mem::take(&mut self.machine.sent) {
            // A read of the past is to be overtaken by what makes it past.
            let slow = if self.topic == Some(Topic::History) { 25 } else { 5 };
            let slowest = if self.prng.percent(slow) { 5 * MS } else { 50 * US };
            let delay = self.prng.below(slowest);
            let at = self.post.send(now, (from, to), mail, delay);
            self.clock.at(at, Event::Mail(from, to));
        }
        self.begin_disk();
        self.begin_pages();
        for (core, call, reply) in std::mem::take(&mut self.machine.replies) {
            self.answer(core, call, reply);
        }
        self.tell();
    }

    // --- disk -----------------------------------------------------------------------------

    fn begin_disk(&mut self) {
        for op in std::mem::take(&mut self.machine.disk) {
            let delay = self.disk_delay_ns();
            self.clock.after_ns(delay, Event::Disk(op.token));
            self.disk.begin(op);
        }
    }

    fn disk_delay_ns(&mut self) -> u64 {
        let slowest = if self.prng.percent(5) { 20 * MS } else { MS };
        20 * US + self.prng.below(slowest)
    }

    /// What the operation that ends now fails with, if its turn to fail has come.
    fn disk_fault(&mut self) -> Option<DiskFault> {
        let left = self.fault_in.as_mut()?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return None;
        }
        self.fault_in = None;
        let full = self.prng.percent(40);
        Some(if full { DiskFault::NoSpace } else { DiskFault::Os(5) })
    }

    fn disk_done(&mut self, token: Token) {
        let result = self.disk_fault().map_or(Ok(()), Err);
        let is_final = result.is_err() && self.disk.is_write(token);
        match result {
            Ok(()) => self.disk.finish(token),
            Err(_) => {
                self.note(|_| format!("{token:?} fails: {result:?}"));
                self.disk.fail(token, &mut self.prng);
            }
        }
        self.machine.give(Topology::ORDERER, Input::Disk(token.0, result));
        if is_final {
            self.step(Topology::ORDERER);
            assert!(self.machine.halted.is_some(), "a member lives on without its log");
        } else {
            self.wake_soon(Topology::ORDERER);
        }
    }

    // --- clients --------------------------------------------------------------------------

    fn begin_clients(&mut self) {
        let cores = u64::from(self.plan.cores);
        for at in 0..2 + self.prng.below(10) as usize {
            let core = CoreId(self.prng.below(cores) as u16);
            self.clients.push(Client { core, calls: 0, op: None, follow_up: None });
            self.clock.after_ns(self.prng.below(MS), Event::Act(at));
        }
        self.clock.after_ns(self.prng.below(MS), Event::Watch);
        if self.topic == Some(Topic::Leases) {
            self.clock.after_ns(MS, Event::Renew);
        }
    }

    /// Somebody renews leases at the last moment, or just too late.
    fn renew(&mut self) {
        if !self.is_busy {
            return;
        }
        let now = self.clock.now();
        let is_due = |at: Tick| at <= now && now.since(at) < MS;
        let due: Vec<LeaseId> =
            self.judge.deadlines().filter(|(_, at)| is_due(*at)).map(|(id, _)| id).collect();
        for id in due {
            if let Some(at) = self.clients.iter().position(|client| client.op.is_none()) {
                let request = Request::LeaseKeepAlive(id);
                self.send(at, request.clone(), request);
            }
        }
        let next = self.judge.deadlines().map(|(_, at)| at).filter(|at| *at > now).min();
        let next = next.unwrap_or(now.plus_ms(500));
        self.clock.at(Tick(next.0 + self.prng.below(100 * US)), Event::Renew);
    }

    fn act(&mut self, at: usize) {
        if !self.is_busy || self.clients[at].op.is_some() {
            return;
        }
        if let Some(request) = self.clients[at].follow_up.take() {
            self.send(at, request.clone(), request);
            return;
        }
        let newest = self.machine.shared.newest_taken();
        let (request, checked) = self.workload.next(self.judge.model(), newest);
        self.send(at, request, checked);
    }

    /// An operation of a client of its own.
    fn ask(&mut self, core: CoreId, request: Request) {
        self.clients.push(Client { core, calls: 0, op: None, follow_up: None });
        self.send(self.clients.len() - 1, request.clone(), request);
    }

    fn send(&mut self, at: usize, request: Request, checked: Request) {
        let visible = self.machine.shared.visible();
        let id = self.judge.sent(request.clone(), visible, self.clock.now());
        let client = &mut self.clients[at];
        client.calls += 1;
        let call = CallId { connection: at as u32, call: client.calls };
        let core = client.core;
        client.op = Some((id, call, request));
        self.machine.give(core, Input::Call(call, checked.clone()));
        self.note(|_| format!("#{id} {core} {checked:?}"));
        self.wake_soon(core);
    }

    fn answer(&mut self, core: CoreId, call: CallId, reply: Reply) {
        let at = call.connection as usize;
        let client = &mut self.clients[at];
        let (id, asked, request) = client.op.take().expect("an answer to what was asked");
        assert_eq!((asked, client.core), (call, core), "an answer to another call");
        self.answered += 1;
        if self.prng.percent(30) {
            client.follow_up = Workload::next_page(&request, &reply);
        }
        self.note(|_| format!("#{id} answered: {}", shown(&reply)));
        let (_, committed) = self.machine.shared.committed();
        self.judge.answered(id, reply, committed);
        let long = if self.topic == Some(Topic::Leases) { 88 } else { 98 };
        let pause = match self.prng.below(100) {
            0..70 => 200 * US,
            later if later < long => 3 * MS,
            _ => 3_000 * MS,
        };
        let pause = self.prng.below(pause);
        self.clock.after_ns(pause, Event::Act(at));
    }
}
