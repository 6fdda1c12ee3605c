//! One run: threads that send, and a coordinator that keeps the time, looks at processes and tells
//! how it goes.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::args::Common;
use super::cost::CostMeter;
use super::engine::Phase;
use super::engine::shared::{Said, Stage};
use super::engine::worker::{Limits, Worker, links};
use super::recorder::{Collector, Recorder};
use super::result::{GeneratorCost, Run};
use super::scenarios::Plan;
use super::schedule::Share;
use super::verdict;
use crate::base::Tick;
use crate::cli::progress::Progress;
use crate::runtime::clock::Clock;
use crate::runtime::procfs::{self, Sample};
use crate::runtime::pump::{Address, Pump};
use crate::runtime::scrape;

/// Behind the last answer, for events that are still under way to watchers.
const LINGER_MS: u64 = 300;
/// Between the word to begin and the first operation, so that all threads begin together.
const LEAD_MS: u64 = 3;

/// Carries a plan out.
///
/// # Errors
/// A sentence, when there is no result.
pub fn run(plan: &Plan, common: &Common, progress: &mut Progress<'_>) -> Result<Run, String> {
    let addresses = common.endpoints.iter().map(|name| Address::resolve(name));
    let addresses = addresses.collect::<Result<Vec<Address>, String>>()?;
    let clock = Clock::new();
    let stage = Stage::default();
    let mut collector = Collector::new(&plan.series);
    let (tell, told) = mpsc::channel();
    let phases = plan.phases.as_slice();
    let started_unix_ms = Clock::unix_ms();
    std::thread::scope(|scope| {
        for worker in 0..common.threads {
            let share = Share { worker, workers: common.threads };
            let recorder: Recorder = collector.recorder();
            let (tell, stage) = (tell.clone(), &stage);
            let load = (plan.load)(share);
            let links = links(&common.endpoints, &addresses, common.connections, share);
            let limits = Limits {
                slots: common.clients(share),
                timeout_ms: common.timeout_ms,
                seed: common.seed,
            };
            scope.spawn(move || {
                let said = tell.clone();
                let mut worker =
                    Worker::new((load, links), (phases, stage), (recorder, tell), (share, limits));
                if let Err(error) = Pump::new(clock).and_then(|mut pump| pump.run(&mut worker)) {
                    let _ = said.send(Said::Fatal(format!("this machine cannot poll: {error}")));
                }
            });
        }
        drop(tell);
        let mut coordinator = Coordinator::new((plan, common), clock, (&stage, told), collector);
        let result = coordinator.all_phases(progress);
        stage.leave();
        progress.end();
        result.map(|()| Run { started_unix_ms, ..coordinator.finish() })
    })
}

struct Coordinator<'c> {
    plan: &'c Plan,
    common: &'c Common,
    clock: Clock,
    stage: &'c Stage,
    told: Receiver<Said>,
    collector: Collector,
    meters: Vec<CostMeter>,
    opens: Option<Tick>,
    warmup_ms: u64,
    closes: Option<Tick>,
    ticks: Tick,
    own: Option<Sample>,
    own_cpu_ns: u64,
    phase: &'static str,
    notes: Vec<String>,
}

impl<'c> Coordinator<'c> {
    fn new(
        (plan, common): (&'c Plan, &'c Common),
        clock: Clock,
        (stage, told): (&'c Stage, Receiver<Said>),
        collector: Collector,
    ) -> Coordinator<'c> {
        let meters = common.endpoints.iter().enumerate().map(|(at, endpoint)| {
            let pid = common.pids.get(at).copied().or_else(|| local_listener(endpoint));
            CostMeter::new(endpoint, pid)
        });
        Coordinator {
            plan,
            common,
            clock,
            stage,
            told,
            collector,
            meters: meters.collect(),
            opens: None,
            warmup_ms: 0,
            closes: None,
            ticks: Tick(0),
            own: None,
            own_cpu_ns: 0,
            phase: "",
            notes: Vec::new(),
        }
    }

    fn all_phases(&mut self, progress: &mut Progress<'_>) -> Result<(), String> {
        // Time begins when all threads are connected: thousands of connections take seconds.
        self.await_all(&Said::Connected, progress)?;
        let last = self.plan.phases.iter().rposition(|phase| phase.is_measured);
        for (number, phase) in self.plan.phases.iter().enumerate() {
            self.phase = phase.name;
            self.begin(phase, Some(number) == last);
            self.await_all(&Said::Finished, progress)?;
            if Some(number) == last {
                self.close();
                self.linger(progress)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, phase: &Phase, is_last: bool) {
        if phase.is_measured && self.opens.is_none() {
            for meter in &mut self.meters {
                if let Ok(text) = scrape::get(meter.endpoint(), "/metrics") {
                    meter.metrics_before(&text);
                }
            }
        }
        let start = self.clock.now().plus_ms(LEAD_MS);
        if phase.is_measured && self.opens.is_none() {
            self.warmup_ms = if phase.is_timed { self.common.warmup_ms } else { 0 };
            let opens = start.plus_ms(self.warmup_ms);
            self.opens = Some(opens);
            self.collector.open(opens);
            self.ticks = opens;
        }
        let mut end = Tick(u64::MAX);
        if phase.is_timed {
            let warmup_ms = if self.opens >= Some(start) { self.warmup_ms } else { 0 };
            end = start.plus_ms(warmup_ms + self.common.duration_ms);
            if is_last {
                self.closes = Some(end);
                self.collector.close(end);
            }
        }
        self.stage.begin(start, end);
    }

    /// Until all threads have said so.
    fn await_all(&mut self, what: &Said, progress: &mut Progress<'_>) -> Result<(), String> {
        let mut left = self.common.threads;
        while left > 0 {
            let now = self.clock.now();
            self.pass(now, progress);
            match self.told.recv_timeout(self.nap(now)) {
                Ok(said) if said == *what => left -= 1,
                Ok(said) => self.hear(said, progress)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the generator's threads are gone".to_owned());
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, said: Said, progress: &mut Progress<'_>) -> Result<(), String> {
        match said {
            Said::Fatal(text) => return Err(text),
            Said::Note(text) => progress.note(&text),
            Said::Connected | Said::Finished => {}
        }
        Ok(())
    }

    fn linger(&mut self, progress: &mut Progress<'_>) -> Result<(), String> {
        let until = self.clock.now().plus_ms(LINGER_MS);
        loop {
            let left = until.since(self.clock.now());
            if left == 0 {
                return Ok(());
            }
            if let Ok(said) = self.told.recv_timeout(Duration::from_nanos(left)) {
                self.hear(said, progress)?;
            }
        }
    }

    /// Until something is to be done.
    fn nap(&self, now: Tick) -> Duration {
        let tick = self.opens.map(|_| self.ticks.plus_ms(1_000));
        let ahead = |at: &Tick| *at > now;
        let opens = self.opens.filter(ahead);
        let closes = self.closes.filter(ahead);
        let next = [tick, opens, closes].into_iter().flatten().min();
        let ns = next.map_or(100_000_000, |next| next.since(now).min(100_000_000));
        Duration::from_nanos(ns.max(100_000))
    }

    /// Does what the time asks for.
    fn pass(&mut self, now: Tick, progress: &mut Progress<'_>) {
        let Some(opens) = self.opens else { return };
        if now < opens {
            return;
        }
        let is_closed = self.closes.is_some_and(|closes| now >= closes);
        if self.own.is_none() {
            self.sample(now);
        }
        if is_closed {
            self.close();
        }
        if now >= self.ticks.plus_ms(1_000) {
            self.ticks = now;
            self.collector.tick(now);
            if !is_closed {
                self.sample(now);
            }
            progress.line(&self.progress_line(now, opens));
        }
    }

    /// The window is over: the last look at all processes.
    fn close(&mut self) {
        let now = self.clock.now();
        if self.closes.is_none() {
            self.collector.close(now);
            self.closes = Some(now);
        }
        if self.own_cpu_ns == 0 {
            self.sample(now);
            let own = procfs::own().ok();
            let used = own.zip(self.own).map(|(own, before)| own.cpu_ns - before.cpu_ns);
            // At least 1, so that it is done once.
            self.own_cpu_ns = used.unwrap_or(0).max(1);
        }
    }

    fn sample(&mut self, now: Tick) {
        if self.own_cpu_ns > 0 {
            return;
        }
        if self.own.is_none() {
            self.own = procfs::own().ok();
        }
        for meter in &mut self.meters {
            let Some(pid) = meter.pid() else { continue };
            let sample = procfs::sample(pid).or_else(|gone| {
                // A server that was started again is another process.
                let pid = local_listener(meter.endpoint()).ok_or(gone)?;
                meter.follow(pid);
                procfs::sample(pid)
            });
            match sample {
                Ok(sample) => meter.sample(now, sample),
                Err(_) => meter.missed(),
            }
        }
    }

    fn progress_line(&self, now: Tick, opens: Tick) -> String {
        let second = now.since(opens) / 1_000_000_000;
        let mut line = format!("{second:>5} s  {}", self.phase);
        for (name, point) in self.collector.latest() {
            let seconds = point.length_ms.max(1) as f64 / 1_000.0;
            let rate = point.done as f64 / seconds;
            let ms = |ns: u64| ns as f64 / 1e6;
            let (p50, p99) = (ms(point.p50_ns), ms(point.p99_ns));
            line += &format!("  | {name} {rate:.0}/s p50 {p50:.3} ms p99 {p99:.3} ms");
            if point.errors > 0 {
                line += &format!(" errors {}", point.errors);
            }
        }
        line
    }

    fn finish(mut self) -> Run {
        let now = self.clock.now();
        for meter in &mut self.meters {
            if let Ok(text) = scrape::get(meter.endpoint(), "/metrics") {
                meter.metrics_after(&text);
            }
        }
        let (opens, closes) = (self.opens.unwrap_or(now), self.closes.unwrap_or(now));
        let (mut series, lag) = self.collector.finish(now);
        for series in &mut series {
            series.is_derived = self.plan.derived.contains(&series.name.as_str());
        }
        let generator = GeneratorCost {
            cpu_us: self.own_cpu_ns / 1_000,
            threads: u32::try_from(self.common.threads).unwrap_or(u32::MAX),
            lag,
        };
        let mut run = Run {
            endpoints: self.common.endpoints.clone(),
            warmup_seconds: self.warmup_ms as f64 / 1_000.0,
            measured_seconds: closes.since(opens) as f64 / 1e9,
            series,
            servers: self.meters.into_iter().map(CostMeter::finish).collect(),
            generator,
            notes: self.notes,
            ..Run::default()
        };
        run.figures = (self.plan.figures)(&run);
        run.notes.extend(verdict::notes(&run));
        run
    }
}

/// The process behind an endpoint of this machine.
fn local_listener(endpoint: &str) -> Option<u32> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let is_local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    procfs::listener(port.parse().ok().filter(|_| is_local)?)
}
