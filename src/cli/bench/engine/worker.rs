//! One thread: a load, its sources, and the connections they use, driven by a pump.

use std::collections::VecDeque;

use super::io::{Active, CallId, Carrier, Io, Op};
use super::link::{Link, State};
use super::load::{Load, Pace, Phase, Source};
use super::shared::{Said, Stage, Tell};
use crate::base::Tick;
use crate::cli::bench::recorder::{self, Recorder};
use crate::cli::bench::schedule::{Schedule, Share};
use crate::runtime::pump::{Address, Asks, Handler};
use crate::wire::client::{Event, Status};

/// Operations of one source that are due and not started. Above it what is due stays on the
/// schedule.
pub const DUE_MAX: usize = 16 << 20;
/// How often a thread that has nothing to do asks whether the next phase began.
const IDLE_MS: u64 = 1;
/// Behind the end of a phase, for starting what was due at its very end.
const GRACE_MS: u64 = 50;
/// How often operations are looked at for their timeout.
const SWEEP_MS: u64 = 250;

/// What all threads of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations under way at once in an open loop, per thread.
    pub slots: usize,
    /// Time for an answer.
    pub timeout_ms: u64,
    /// What chance begins with.
    pub seed: u64,
}

#[derive(Debug)]
struct Running {
    pace: Pace,
    /// Operations still to be started.
    left: u64,
    series: recorder::SeriesId,
    in_flight: usize,
    /// When those are due that could not be started yet, earliest first.
    due: VecDeque<Tick>,
    /// Places of a closed loop whose next operation could not be started.
    parked: usize,
}

/// Where a thread is in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Waiting for the phase of this number.
    Before(usize),
    /// In the phase of this number.
    Within(usize),
}

/// One thread of a run.
pub struct Worker<'r> {
    io: Io,
    load: Box<dyn Load>,
    phases: &'r [Phase],
    stage: &'r Stage,
    tell: Tell,
    limits: Limits,
    stand: Stand,
    sources: Vec<Running>,
    swept: Tick,
    /// When a connection next needs a look.
    tend_at: Tick,
    /// All connections were made, and the coordinator knows.
    is_connected: bool,
    /// Connections that were lost and not yet told of: endpoint, why, how many.
    lost: Vec<(String, String, usize)>,
    is_broken: bool,
    /// Operations of a preparation that failed, and how the first one did.
    failed: (u64, String),
}

impl<'r> Worker<'r> {
    /// A thread that waits for the first phase.
    pub fn new(
        (load, links): (Box<dyn Load>, Vec<Link>),
        (phases, stage): (&'r [Phase], &'r Stage),
        (recorder, tell): (Recorder, Tell),
        (share, limits): (Share, Limits),
    ) -> Worker<'r> {
        Worker {
            io: Io::new(share, links, recorder, limits.seed),
            load,
            phases,
            stage,
            tell,
            limits,
            stand: Stand::Before(0),
            sources: Vec::new(),
            swept: Tick(0),
            tend_at: Tick(0),
            is_connected: false,
            lost: Vec::new(),
            is_broken: false,
            failed: (0, String::new()),
        }
    }

    fn say(&self, said: Said) {
        // Without a coordinator there is nobody to tell.
        let _ = self.tell.send(said);
    }

    // --- phases ----------------------------------------------------------------------------------

    /// True when the run is over.
    fn step_phase(&mut self) -> bool {
        let (begun, start, end) = self.stage.now();
        if begun == usize::MAX || self.is_broken {
            return true;
        }
        // Connections come first: what is due while they are made would only wait.
        if !self.is_connected {
            if !self.io.links.iter().all(|link| link.was_ready) {
                return false;
            }
            self.is_connected = true;
            self.say(Said::Connected);
        }
        match self.stand {
            Stand::Before(number) if begun > number && self.io.now >= start => {
                self.begin(number, start, end);
            }
            Stand::Within(number) if self.is_over() => {
                self.leave_over();
                self.io.until = Tick(u64::MAX);
                self.stand = Stand::Before(number + 1);
                let (failed, first) = std::mem::take(&mut self.failed);
                let Phase { name, is_measured, .. } = self.phases[number];
                if failed > 0 && !is_measured {
                    let text = format!("to {name:?} failed {failed} times: {first}");
                    self.say(Said::Fatal(text));
                } else {
                    self.say(Said::Finished);
                }
            }
            _ => {}
        }
        false
    }

    fn begin(&mut self, number: usize, start: Tick, end: Tick) {
        self.stand = Stand::Within(number);
        self.io.until = end;
        let sources = self.load.sources(number, &mut self.io);
        let running = |source: Source| Running {
            pace: match source.pace {
                Pace::Open(mut schedule) => {
                    schedule.start_at(start);
                    Pace::Open(schedule)
                }
                closed => closed,
            },
            left: source.total.unwrap_or(u64::MAX),
            series: source.series,
            in_flight: 0,
            due: VecDeque::new(),
            parked: 0,
        };
        self.sources = sources.into_iter().map(running).collect();
        for number in 0..self.sources.len() {
            if let Pace::Closed(width) = self.sources[number].pace {
                for place in 0..width {
                    self.io.home = Some(place % self.io.links.len());
                    self.start_closed(number);
                }
            }
        }
    }

    /// Nothing is to be started any more and nothing is under way.
    fn is_over(&self) -> bool {
        let is_late = self.io.now >= self.io.until;
        let is_timed = matches!(self.stand, Stand::Within(number) if self.phases[number].is_timed);
        if is_timed && !is_late && self.sources.is_empty() {
            return false;
        }
        let may_start = self.may_start();
        let is_done = |source: &Running| {
            let is_empty = source.due.is_empty() || !may_start;
            source.in_flight == 0 && is_empty && (is_late || source.left == 0)
        };
        self.io.in_flight == 0 && self.sources.iter().all(is_done)
    }

    /// Whether what was due in the phase is still started: a moment longer than the phase, since
    /// what is due at its very end is turned to behind it.
    fn may_start(&self) -> bool {
        self.io.now.since(self.io.until) < GRACE_MS * 1_000_000
    }

    /// Counts what was due in the phase and never started.
    fn leave_over(&mut self) {
        for source in &mut self.sources {
            let due = std::mem::take(&mut source.due);
            for due in due {
                self.io.recorder.intend(source.series, due, 1);
            }
            if let Pace::Open(schedule) = &mut source.pace {
                while source.left > 0 && schedule.next() < self.io.until {
                    source.left -= 1;
                    self.io.recorder.intend(source.series, schedule.take(), 1);
                }
            }
        }
    }

    // --- sources ---------------------------------------------------------------------------------

    fn op(&self, source: usize, intended: Tick) -> Op {
        Op { series: self.sources[source].series, intended, kind: 0, key: 0 }
    }

    /// The next operation of one place of a closed loop, on the connection of `io.home`.
    fn start_closed(&mut self, number: usize) {
        let source = &mut self.sources[number];
        if source.left == 0 || self.io.now >= self.io.until {
            return;
        }
        let is_home_ready = self.io.home.is_some_and(|home| self.io.links[home].is_ready());
        if !is_home_ready && !self.io.has_room() {
            source.parked += 1;
            return;
        }
        let op = self.op(number, self.io.now);
        if self.launch(number, op) {
            self.sources[number].left -= 1;
        } else {
            self.sources[number].parked += 1;
        }
    }

    fn launch(&mut self, number: usize, op: Op) -> bool {
        self.io.source = Some(number);
        let started = self.load.start(number, op, &mut self.io);
        let taken = self.io.source.take().is_none();
        debug_assert!(started == taken, "a started operation has its first call");
        self.sources[number].in_flight += usize::from(taken);
        started
    }

    /// Starts what is due, as far as there is room. Gives when the next one is.
    fn start_due(&mut self) -> Option<Tick> {
        let mut next = None;
        for number in 0..self.sources.len() {
            self.notice(number);
            while let Some(due) = self.sources[number].due.front().copied() {
                let is_full = self.io.in_flight >= self.limits.slots || !self.io.has_room();
                if is_full || !self.may_start() {
                    break;
                }
                self.io.home = None;
                if !self.launch(number, self.op(number, due)) {
                    break;
                }
                self.sources[number].due.pop_front();
            }
            let source = &self.sources[number];
            if let (Pace::Open(schedule), true) = (&source.pace, source.left > 0) {
                let due = schedule.next().min(self.io.until);
                next = Some(next.map_or(due, |next: Tick| next.min(due)));
            }
            let parked = std::mem::take(&mut self.sources[number].parked);
            for _ in 0..parked {
                self.io.home = None;
                self.start_closed(number);
            }
        }
        next
    }

    /// Moves what became due from the schedule to the queue.
    fn notice(&mut self, number: usize) {
        let (now, until) = (self.io.now, self.io.until);
        let source = &mut self.sources[number];
        let Pace::Open(schedule) = &mut source.pace else { return };
        let is_due = |schedule: &Schedule| schedule.next() <= now && schedule.next() < until;
        while source.left > 0 && is_due(schedule) && source.due.len() < DUE_MAX {
            let due = schedule.take();
            self.io.recorder.lag(due, now);
            source.due.push_back(due);
            source.left -= 1;
        }
    }

    // --- answers ---------------------------------------------------------------------------------

    fn message(&mut self, call: usize, message: &[u8]) {
        let Some(active) = self.io.active.get_mut(call) else { return };
        active.bytes += message.len() as u64;
        let op = active.op;
        if let Err(error) = self.load.message(CallId(call), op, message, &mut self.io)
            && let Some(active) = self.io.active.get_mut(call)
        {
            active.error = Some(error);
        }
        self.settle();
    }

    /// Ends what the load declared over.
    fn settle(&mut self) {
        while let Some((call, status)) = self.io.finished.pop() {
            self.ended(call, status);
        }
    }

    fn ended(&mut self, call: usize, status: Status) {
        let Some(active) = self.io.active.try_remove(call) else { return };
        let Active { op, carrier, source, home, started, bytes, error } = active;
        if carrier == Carrier::Waiting {
            self.io.forget_waiting(call);
        }
        let status = match error {
            Some(error) if status.is_ok() => Status::new(Status::UNKNOWN, error),
            _ => status,
        };
        let is_stream = matches!(carrier, Carrier::Stream { .. });
        if !is_stream {
            self.io.in_flight -= 1;
            if status.is_ok() {
                let finished = self.io.now;
                let done = recorder::Op { intended: op.intended, started, finished, bytes };
                self.io.recorder.done(op.series, done);
            } else {
                let text = error_text(&status, error);
                self.io.recorder.failed(op.series, op.intended, &text);
                self.failed.0 += 1;
                if self.failed.0 == 1 {
                    self.failed.1 = text;
                }
            }
        }
        self.load.ended(CallId(call), op, &status, &mut self.io);
        let Some(number) = source.filter(|number| *number < self.sources.len()) else { return };
        self.sources[number].in_flight -= 1;
        if matches!(self.sources[number].pace, Pace::Closed(_)) {
            self.io.home = home;
            if status.is_ok() || home.is_some_and(|home| self.io.is_link_ready(home)) {
                self.start_closed(number);
            } else {
                // Not at once: a server that refuses all would be asked in a tight loop.
                self.sources[number].parked += 1;
            }
        }
    }

    fn lose(&mut self, link: usize, why: &str) {
        let lost = &mut self.io.links[link];
        let was_ready = lost.is_ready();
        lost.down(self.io.now);
        self.tend_at = Tick(0);
        let endpoint = lost.endpoint.clone();
        if !lost.was_ready {
            self.is_broken = true;
            self.say(Said::Fatal(format!("{endpoint}: {why}")));
            return;
        }
        if was_ready {
            match self.lost.iter_mut().find(|lost| lost.0 == endpoint && lost.1 == why) {
                Some(lost) => lost.2 += 1,
                None => self.lost.push((endpoint, why.to_owned(), 1)),
            }
        }
        let is_on = |carrier: &Carrier| match carrier {
            Carrier::Unary { link: on, .. } | Carrier::Stream { link: on, .. } => *on == link,
            Carrier::Parts | Carrier::Waiting => false,
        };
        let gone = self.io.active.iter().filter(|(_, active)| is_on(&active.carrier));
        let gone: Vec<usize> = gone.map(|(call, _)| call).collect();
        for call in gone {
            self.ended(call, Status::new(Status::UNAVAILABLE, "the connection was lost"));
        }
        self.settle();
    }

    /// Gives up what has waited for too long; tells of connections lost, a line for each kind.
    fn sweep(&mut self) {
        self.swept = self.io.now;
        for (endpoint, why, count) in std::mem::take(&mut self.lost) {
            let what = if count == 1 { "a connection" } else { &format!("{count} connections") };
            self.say(Said::Note(format!("lost {what} to {endpoint}: {why}")));
        }
        let now = self.io.now;
        let timeout_ns = self.limits.timeout_ms * 1_000_000;
        let is_late = |active: &Active| {
            !matches!(active.carrier, Carrier::Stream { .. })
                && now.since(active.started) >= timeout_ns
        };
        let late = self.io.active.iter().filter(|(_, active)| is_late(active));
        let late: Vec<(usize, Carrier)> =
            late.map(|(call, active)| (call, active.carrier)).collect();
        for (call, carrier) in late {
            if let Carrier::Unary { link, stream } = carrier {
                self.io.links[link].connection.cancel(stream);
                self.io.dirty.push(link);
            }
            let text = format!("no answer within {} ms", self.limits.timeout_ms);
            self.ended(call, Status::new(Status::DEADLINE_EXCEEDED, text));
        }
        self.settle();
    }

    fn tend_links(&mut self, asks: &mut Asks) {
        if self.io.now < self.tend_at {
            return;
        }
        for link in 0..self.io.links.len() {
            let now = self.io.now;
            let found = &mut self.io.links[link];
            if found.is_overdue(now) {
                asks.close.push(link);
                self.lose(link, "it does not speak HTTP/2 within 5 s");
            } else if found.is_ready() && found.connection.closing().is_some() {
                // What is under way may end; a new connection is made when it did.
                if found.connection.open_streams() == 0 {
                    let why = found.connection.closing().unwrap_or_default().to_owned();
                    asks.close.push(link);
                    self.lose(link, &why);
                }
            } else if matches!(found.state, State::Down(at) if now >= at) {
                found.connecting(now);
                asks.connect.push((link, found.address));
            }
        }
        let wakes = self.io.links.iter().filter_map(Link::wake_at);
        self.tend_at = wakes.min().unwrap_or(Tick(u64::MAX));
    }
}

/// A status as it is counted: one text for all of a kind.
fn error_text(status: &Status, error: Option<&'static str>) -> String {
    error.map_or_else(|| status.to_string(), str::to_owned)
}

impl Handler for Worker<'_> {
    fn connected(&mut self, now: Tick, _link: usize) {
        self.io.now = now;
    }

    fn received(&mut self, now: Tick, link: usize, bytes: &[u8]) {
        self.io.now = now;
        if matches!(self.io.links[link].state, State::Down(_)) {
            // What a broken connection still brings, until it is closed.
            return;
        }
        let mut input = bytes;
        loop {
            match self.io.links[link].connection.receive(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Message(call, body))) => self.message(call as usize, body.bytes()),
                Ok(Some(Event::End(call, status))) => {
                    self.ended(call as usize, status);
                    self.settle();
                }
                Err(broken) => {
                    // The connection is closed at the next turn, as it is down by then.
                    self.lose(link, &broken.to_string());
                    return;
                }
            }
        }
        let found = &mut self.io.links[link];
        if found.connection.closing().is_some() {
            self.tend_at = Tick(0);
        }
        if !found.is_ready() && found.connection.is_ready() {
            found.ready();
            self.load.link_ready(link, &mut self.io);
        }
        if self.io.is_waiting() {
            self.io.retry_waiting();
        }
    }

    fn lost(&mut self, now: Tick, link: usize, why: String) {
        self.io.now = now;
        self.lose(link, &why);
    }

    fn output(&mut self, link: usize) -> &mut Vec<u8> {
        self.io.links[link].connection.output()
    }

    fn turn(&mut self, now: Tick, asks: &mut Asks) {
        self.io.now = now;
        self.tend_links(asks);
        let is_over = self.step_phase();
        while let Some(due) = self.io.timers.peek().map(|timer| timer.0.0) {
            if due > now {
                break;
            }
            let token = self.io.timers.pop().map_or(0, |timer| timer.0.1);
            self.load.timer(token, &mut self.io);
            self.settle();
        }
        let next_due = self.start_due();
        if now.since(self.swept) >= SWEEP_MS * 1_000_000 {
            self.sweep();
        }
        for note in self.io.take_notes() {
            self.say(Said::Note(note));
        }
        self.io.dirty.sort_unstable();
        self.io.dirty.dedup();
        asks.flush.append(&mut self.io.dirty);
        // Within a phase the same time again and again, so that the timer need not be set anew.
        let idle = match self.stand {
            Stand::Before(_) => now.plus_ms(IDLE_MS),
            Stand::Within(_) => self.swept.plus_ms(SWEEP_MS),
        };
        let timer = self.io.timers.peek().map(|timer| timer.0.0);
        let end = Some(self.io.until).filter(|until| *until > now);
        let links = Some(self.tend_at);
        let start = Some(self.stage.now().1).filter(|start| *start > now);
        let wakes = [Some(idle), next_due, timer, start, end, links];
        asks.wake_at = wakes.into_iter().flatten().min();
        asks.is_over = is_over;
    }
}

/// A thread's connections: every `workers`th of all, each to the endpoint whose turn it is.
pub fn links(
    endpoints: &[String],
    addresses: &[Address],
    connections: usize,
    share: Share,
) -> Vec<Link> {
    let own = (share.worker..connections).step_by(share.workers);
    let link = |number: usize| {
        let at = number % endpoints.len();
        Link::new(&endpoints[at], addresses[at])
    };
    own.map(link).collect()
}
