//! How workers tell what happened: each thread has a `Recorder` and writes into memory of its own;
//! once a second the `Collector` exchanges that memory for an empty one and adds it up. A worker
//! never waits for more than the exchange of two pointers, and allocates for nothing but the first
//! occurrence of an error's text.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::Tick;

use super::latencies::Latencies;
use super::result::{Point, Series};

/// Error texts that a series tells apart; what comes behind is counted together.
pub const ERROR_TEXTS_MAX: usize = 32;
/// The text for those.
const OTHER_ERRORS: &str = "other errors";

/// Which series of the collector; the position of its name in `Collector::new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId(pub usize);

/// An operation that was answered well.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// When it was due. A closed loop has nothing due before it can be sent.
    pub intended: Tick,
    /// When it was sent.
    pub started: Tick,
    /// When its answer was complete.
    pub finished: Tick,
    /// Payload bytes that it carried, in the direction that matters.
    pub bytes: u64,
}

/// The measured stretch of time. Closed at both ends until the collector opens it.
#[derive(Debug)]
struct Window {
    from: AtomicU64,
    until: AtomicU64,
}

impl Window {
    fn holds(&self, at: Tick) -> bool {
        self.from.load(Relaxed) <= at.0 && at.0 < self.until.load(Relaxed)
    }

    fn is_open_by(&self, at: Tick) -> bool {
        self.from.load(Relaxed) <= at.0
    }
}

/// What one thread found about one series since the last exchange.
#[derive(Debug, Default)]
struct Cell {
    latency: Latencies,
    service: Latencies,
    intended: u64,
    started: u64,
    in_window: u64,
    finished: u64,
    bytes: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Cells {
    series: Vec<Cell>,
    lag: Latencies,
}

impl Cells {
    fn new(series: usize) -> Cells {
        let series = (0..series).map(|_| Cell::default()).collect();
        Cells { series, lag: Latencies::default() }
    }
}

/// One thread's pen. Clones write into the same memory.
#[derive(Clone, Debug)]
pub struct Recorder {
    window: Arc<Window>,
    cells: Arc<Mutex<Cells>>,
}

impl Recorder {
    /// `count` operations are due at `at`.
    pub fn intend(&self, series: SeriesId, at: Tick, count: u64) {
        if self.window.holds(at) {
            self.cell(series, |cell| cell.intended += count);
        }
    }

    /// One that was due at `intended` is sent.
    pub fn start(&self, series: SeriesId, intended: Tick) {
        if self.window.holds(intended) {
            self.cell(series, |cell| cell.started += 1);
        }
    }

    /// One was answered well.
    pub fn done(&self, series: SeriesId, op: Op) {
        let was_due = self.window.holds(op.intended);
        let in_window = self.window.holds(op.finished);
        let counts = self.window.is_open_by(op.finished);
        self.cell(series, |cell| {
            if was_due {
                cell.latency.record(op.finished.since(op.intended));
                cell.service.record(op.finished.since(op.started));
            }
            if in_window {
                cell.in_window += 1;
                cell.bytes += op.bytes;
            }
            cell.finished += u64::from(counts);
        });
    }

    /// One that was due at `intended` failed.
    pub fn failed(&self, series: SeriesId, intended: Tick, error: &str) {
        if !self.window.holds(intended) {
            return;
        }
        self.cell(series, |cell| {
            cell.failed += 1;
            count_error(&mut cell.errors, error, 1);
        });
    }

    /// The generator turned to a request that was due at `intended` at `now`.
    pub fn lag(&self, intended: Tick, now: Tick) {
        if self.window.holds(intended) {
            lock(&self.cells).lag.record(now.since(intended));
        }
    }

    fn cell(&self, series: SeriesId, write: impl FnOnce(&mut Cell)) {
        write(&mut lock(&self.cells).series[series.0]);
    }
}

/// A worker that panicked ended the process; its memory is still whole.
fn lock(cells: &Mutex<Cells>) -> MutexGuard<'_, Cells> {
    cells.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_error(errors: &mut BTreeMap<String, u64>, text: &str, count: u64) {
    if let Some(sum) = errors.get_mut(text) {
        *sum += count;
        return;
    }
    let text = if errors.len() < ERROR_TEXTS_MAX { text } else { OTHER_ERRORS };
    *errors.entry(text.to_owned()).or_default() += count;
}

/// Adds up what the recorders hold.
#[derive(Debug)]
pub struct Collector {
    window: Arc<Window>,
    recorders: Vec<Arc<Mutex<Cells>>>,
    /// What is exchanged for a recorder's memory; empty between ticks.
    spare: Cells,
    /// The interval that a tick gathers, one for each series; empty between ticks.
    interval: Vec<Cell>,
    series: Vec<Series>,
    lag: Latencies,
    opened: Option<Tick>,
    ticked: Tick,
}

impl Collector {
    /// A collector of series with these names, before the warm-up: nothing counts yet.
    #[must_use]
    pub fn new(names: &[&str]) -> Collector {
        let window = Window { from: AtomicU64::new(u64::MAX), until: AtomicU64::new(u64::MAX) };
        let named = |name: &&str| Series { name: (*name).to_owned(), ..Series::default() };
        Collector {
            window: Arc::new(window),
            recorders: Vec::new(),
            spare: Cells::new(names.len()),
            interval: names.iter().map(|_| Cell::default()).collect(),
            series: names.iter().map(named).collect(),
            lag: Latencies::default(),
            opened: None,
            ticked: Tick(0),
        }
    }

    /// A recorder for one more thread.
    pub fn recorder(&mut self) -> Recorder {
        let cells = Arc::new(Mutex::new(Cells::new(self.series.len())));
        self.recorders.push(cells.clone());
        Recorder { window: self.window.clone(), cells }
    }

    /// The warm-up is over: what is due from `now` on counts. `now` may lie ahead.
    pub fn open(&mut self, now: Tick) {
        self.window.from.store(now.0, Relaxed);
        self.opened = Some(now);
        self.ticked = now;
    }

    /// What is due from `now` on no longer counts. `now` may lie ahead.
    pub fn close(&self, now: Tick) {
        self.window.until.store(now.0, Relaxed);
    }

    /// Once a second, from the opening to the end of the drain: makes one point of each series.
    pub fn tick(&mut self, now: Tick) {
        let Some(opened) = self.opened else { return };
        for recorder in &self.recorders {
            mem::swap(&mut *lock(recorder), &mut self.spare);
            for (sum, cell) in self.interval.iter_mut().zip(&mut self.spare.series) {
                sum.take(cell);
            }
            self.lag.merge(&self.spare.lag);
            self.spare.lag.clear();
        }
        let at_ms = self.ticked.since(opened) / 1_000_000;
        let length_ms = now.since(self.ticked) / 1_000_000;
        for (series, cell) in self.series.iter_mut().zip(&mut self.interval) {
            series.points.push(cell.point(at_ms, length_ms));
            cell.give(series);
        }
        self.ticked = now;
    }

    /// The last point of each series that has something in it.
    pub fn latest(&self) -> impl Iterator<Item = (&str, &Point)> {
        let last = self.series.iter().filter_map(|series| Some((series, series.points.last()?)));
        let is_told = |(_, point): &(&Series, &Point)| point.done + point.errors > 0;
        last.filter(is_told).map(|(series, point)| (series.name.as_str(), point))
    }

    /// What was found about each series, and how late the generator was.
    #[must_use]
    pub fn finish(mut self, now: Tick) -> (Vec<Series>, Latencies) {
        if now > self.ticked {
            self.tick(now);
        }
        (self.series, self.lag)
    }
}

impl Cell {
    /// Adds what `other` holds and leaves it empty, with its memory.
    fn take(&mut self, other: &mut Cell) {
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        other.latency.clear();
        other.service.clear();
        self.intended += mem::take(&mut other.intended);
        self.started += mem::take(&mut other.started);
        self.in_window += mem::take(&mut other.in_window);
        self.finished += mem::take(&mut other.finished);
        self.bytes += mem::take(&mut other.bytes);
        self.failed += mem::take(&mut other.failed);
        for (text, count) in &mut other.errors {
            // The texts stay, so that the next occurrence allocates nothing.
            if *count > 0 {
                count_error(&mut self.errors, text, mem::take(count));
            }
        }
    }

    fn point(&self, at_ms: u64, length_ms: u64) -> Point {
        Point {
            at_ms,
            length_ms,
            done: self.finished,
            errors: self.failed,
            p50_ns: self.latency.quantile_ns(0.5),
            p99_ns: self.latency.quantile_ns(0.99),
            max_ns: self.latency.max_ns(),
            histogram: self.latency.pack(),
        }
    }

    /// Adds all to `series` and leaves nothing.
    fn give(&mut self, series: &mut Series) {
        series.latency.merge(&self.latency);
        series.service.merge(&self.service);
        series.done += self.latency.count();
        self.latency.clear();
        self.service.clear();
        series.intended += mem::take(&mut self.intended);
        series.started += mem::take(&mut self.started);
        series.in_window += mem::take(&mut self.in_window);
        series.bytes += mem::take(&mut self.bytes);
        self.finished = 0;
        self.failed = 0;
        for (text, count) in mem::take(&mut self.errors) {
            count_error(&mut series.errors, &text, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: SeriesId = SeriesId(0);
    const GET: SeriesId = SeriesId(1);

    fn second(seconds: f64) -> Tick {
        Tick((seconds * 1e9) as u64)
    }

    fn run(recorder: &Recorder, series: SeriesId, intended: f64, started: f64, finished: f64) {
        let (intended, started) = (second(intended), second(started));
        recorder.intend(series, intended, 1);
        recorder.lag(intended, started);
        recorder.start(series, intended);
        recorder.done(series, Op { intended, started, finished: second(finished), bytes: 10 });
    }

    #[test]
    fn the_window_is_by_when_an_operation_was_due() {
        let mut collector = Collector::new(&["put", "get"]);
        let recorder = collector.recorder();
        run(&recorder, PUT, 0.5, 0.5, 0.6);
        collector.open(second(1.0));
        run(&recorder, PUT, 0.9, 0.9, 1.1); // due in the warm-up, ended in the window
        run(&recorder, PUT, 1.0, 1.0, 1.5);
        collector.tick(second(2.0));
        run(&recorder, PUT, 1.2, 1.9, 2.5); // sent late: 1.3 s from when it was due, 0.6 s after
        recorder.intend(PUT, second(2.6), 3); // one fails, one never ends
        recorder.start(PUT, second(2.6));
        recorder.failed(PUT, second(2.6), "unavailable");
        collector.close(second(3.0));
        collector.tick(second(3.0));
        run(&recorder, PUT, 2.6, 2.7, 3.5); // ends in the drain
        run(&recorder, PUT, 3.1, 3.1, 3.2); // due in the drain
        recorder.failed(PUT, second(3.1), "unavailable");
        let (series, lag) = collector.finish(second(4.0));
        let (put, get) = (&series[0], &series[1]);
        assert_eq!((put.intended, put.started, put.done, put.in_window), (6, 4, 3, 3));
        assert_eq!((put.failed(), put.unfinished(), put.bytes), (1, 2, 30));
        let is_near = |ns: u64, seconds: f64| (ns as f64 / 1e9 / seconds - 1.0).abs() < 0.002;
        assert!(is_near(put.latency.max_ns(), 1.3) && is_near(put.service.max_ns(), 0.8));
        assert!(is_near(lag.max_ns(), 0.7));
        let shape: Vec<_> =
            put.points.iter().map(|p| (p.at_ms, p.length_ms, p.done, p.errors)).collect();
        assert_eq!(shape, [(0, 1000, 2, 0), (1000, 1000, 1, 1), (2000, 1000, 2, 0)]);
        assert!(is_near(put.points[1].max_ns, 1.3), "the latency of what ended there");
        assert_eq!((get.intended, get.points.len()), (0, 3), "every series has every point");
    }

    #[test]
    fn intervals_add_up_to_the_whole() {
        let mut collector = Collector::new(&["put", "get"]);
        collector.open(Tick(0));
        let recorders = [collector.recorder(), collector.recorder()];
        for at in 0..5 {
            for step in 0..100 {
                let at = f64::from(at) + f64::from(step) / 100.0;
                run(&recorders[0], PUT, at, at, at + 0.001 * f64::from(step));
                run(&recorders[1], GET, at, at, at + 0.002);
            }
            collector.tick(second(f64::from(at + 1)));
        }
        let (series, _) = collector.finish(second(5.0));
        for series in &series {
            let mut sum = Latencies::default();
            for point in &series.points {
                sum.merge(&point.histogram.unpack().expect("own bytes"));
            }
            assert_eq!((sum.count(), series.points.len()), (500, 5));
            assert_eq!(sum, series.latency);
        }
    }

    #[test]
    fn threads_write_while_the_collector_gathers() {
        let mut collector = Collector::new(&["put"]);
        collector.open(Tick(1));
        let recorders: Vec<Recorder> = (0..4).map(|_| collector.recorder()).collect();
        std::thread::scope(|scope| {
            for recorder in &recorders {
                scope.spawn(move || {
                    for at in 0..20_000_u64 {
                        run(recorder, PUT, 1.0, 1.0, 1.0 + at as f64 / 1e6);
                    }
                });
            }
            for at in 0..50 {
                collector.tick(Tick(2 + at));
            }
        });
        let (series, lag) = collector.finish(second(9.0));
        assert_eq!((series[0].done, series[0].in_window, lag.count()), (80_000, 80_000, 80_000));
    }

    #[test]
    fn error_texts_are_bounded() {
        let mut collector = Collector::new(&["put"]);
        collector.open(Tick(0));
        let recorder = collector.recorder();
        for at in 0..1000 {
            recorder.failed(PUT, Tick(1), &format!("error {at}"));
        }
        let (series, _) = collector.finish(Tick(2));
        assert_eq!((series[0].errors.len(), series[0].failed()), (ERROR_TEXTS_MAX + 1, 1000));
        assert_eq!(series[0].points[0].errors, 1000);
    }
}
