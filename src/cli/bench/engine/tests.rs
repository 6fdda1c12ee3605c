//! The engine against a server in virtual time: no sockets, no clock.

use std::sync::mpsc::{self, Receiver};

use super::link::Link;
use super::shared::{Said, Stage};
use super::worker::{Limits, Worker};
use super::{CallId, Io, Load, Op, Pace, Phase, Source};
use crate::base::Tick;
use crate::cli::bench::recorder::{Collector, SeriesId};
use crate::cli::bench::result::Series;
use crate::cli::bench::schedule::{Arrivals, Schedule, Share};
use crate::runtime::pump::{Address, Asks, Handler};
use crate::wire::client::Status;
use crate::wire::client::message::path;

const MS: u64 = 1_000_000;
/// Whole milliseconds, so that ticks are easy to read.
const STEP_MS: u64 = 1;

/// Answers every call after `service_ms`, but nothing between `from` and `until`.
struct Server {
    service_ms: u64,
    stall: (u64, u64),
    /// When each call is to be answered, and its stream.
    calls: Vec<(u64, u32)>,
    input: Vec<u8>,
    sent_settings: bool,
    status: &'static str,
}

impl Server {
    fn new(service_ms: u64, stall: (u64, u64)) -> Server {
        let (calls, input) = (Vec::new(), Vec::new());
        Server { service_ms, stall, calls, input, sent_settings: false, status: "0" }
    }

    fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
    }

    /// Takes what the client wrote and gives what the server has to say by `now_ms`.
    fn step(&mut self, now_ms: u64, written: &mut Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.sent_settings {
            self.sent_settings = true;
            Server::frame(&mut out, 4, 0, 0, &[]);
        }
        self.input.append(written);
        if self.input.starts_with(b"PRI") && self.input.len() >= 24 {
            self.input.drain(..24);
        }
        while self.input.len() >= 9 {
            let length = usize::from(self.input[1]) << 8 | usize::from(self.input[2]);
            if self.input.len() < 9 + length {
                break;
            }
            let (kind, flags) = (self.input[3], self.input[4]);
            let stream = self.input[5..9].first_chunk().map(|id| u32::from_be_bytes(*id));
            if kind == 0 && flags & 1 == 1 {
                self.calls.push((now_ms + self.service_ms, stream.expect("four bytes")));
            }
            self.input.drain(..9 + length);
        }
        let (from, until) = self.stall;
        if (from..until).contains(&now_ms) {
            return out;
        }
        let due: Vec<u32> =
            self.calls.iter().filter(|(at, _)| *at <= now_ms).map(|(_, id)| *id).collect();
        self.calls.retain(|(at, _)| *at > now_ms);
        for stream in due {
            Server::frame(&mut out, 1, 4, stream, b"\x88");
            Server::frame(&mut out, 0, 0, stream, &[0, 0, 0, 0, 0]);
            let trailers = [b"\x00\x0bgrpc-status\x01", self.status.as_bytes()].concat();
            Server::frame(&mut out, 1, 5, stream, &trailers);
        }
        out
    }
}

/// Empty puts.
struct Empty {
    pace: Pace,
    total: Option<u64>,
    started: Vec<Tick>,
}

impl Load for Empty {
    fn sources(&mut self, _phase: usize, _io: &mut Io) -> Vec<Source> {
        vec![Source { pace: self.pace.clone(), total: self.total, series: SeriesId(0) }]
    }

    fn start(&mut self, _source: usize, op: Op, io: &mut Io) -> bool {
        self.started.push(op.intended);
        io.call(op, path::PUT, b"");
        true
    }

    fn message(&mut self, _: CallId, _: Op, _: &[u8], _: &mut Io) -> Result<(), &'static str> {
        Ok(())
    }

    fn ended(&mut self, _: CallId, _: Op, _: &Status, _: &mut Io) {}
}

const ALONE: Share = Share { worker: 0, workers: 1 };

fn open(rate: f64) -> Pace {
    Pace::Open(Schedule::new(rate, Arrivals::Constant, 1, ALONE))
}

struct Setting {
    pace: Pace,
    total: Option<u64>,
    slots: usize,
    duration_ms: u64,
    /// The connection is cut then.
    cut_ms: u64,
}

/// Runs a load for some seconds of virtual time.
fn simulate(setting: &Setting, server: &mut Server) -> (Series, Receiver<Said>) {
    let phases = [Phase { name: "test", is_measured: true, is_timed: setting.total.is_none() }];
    let (stage, (tell, told)) = (Stage::default(), mpsc::channel());
    let mut collector = Collector::new(&["put"]);
    let address = Address::resolve("127.0.0.1:1").expect("an address");
    let load = Empty { pace: setting.pace.clone(), total: setting.total, started: Vec::new() };
    let limits = Limits { slots: setting.slots, timeout_ms: 60_000, seed: 1 };
    let mut worker = Worker::new(
        (Box::new(load), vec![Link::new("127.0.0.1:1", address)]),
        (&phases, &stage),
        (collector.recorder(), tell),
        (ALONE, limits),
    );
    let start = Tick(1).plus_ms(10);
    let end = start.plus_ms(setting.duration_ms);
    collector.open(start);
    collector.close(end);
    stage.begin(start, end);
    let mut asks = Asks::default();
    for now_ms in 0..setting.duration_ms + 60_000 {
        let now = Tick(1).plus_ms(now_ms * STEP_MS);
        worker.turn(now, &mut asks);
        if !std::mem::take(&mut asks.connect).is_empty() {
            worker.connected(now, 0);
            server.sent_settings = false;
            server.calls.clear();
            server.input.clear();
        }
        if now_ms == setting.cut_ms {
            worker.lost(now, 0, "cut".to_owned());
            continue;
        }
        let answer = server.step(now_ms, worker.output(0));
        if !answer.is_empty() {
            worker.received(now, 0, &answer);
        }
    }
    let (mut series, _) = collector.finish(end.plus_ms(60_000));
    (series.remove(0), told)
}

#[test]
fn a_stall_is_in_the_percentiles_of_an_open_loop() {
    // 1,000 per second for 10 s; nothing is answered for 1 s of them. One in ten is due in the
    // stall.
    let pace = open(1_000.0);
    let setting =
        Setting { pace, total: None, slots: 10_000, duration_ms: 10_000, cut_ms: u64::MAX };
    let (open, _) = simulate(&setting, &mut Server::new(1, (5_000, 6_000)));
    assert_eq!((open.intended, open.done, open.failed()), (10_000, 10_000, 0));
    let ms = |quantile| open.latency.quantile_ns(quantile) / MS;
    assert!(ms(0.5) <= 3, "{}", ms(0.5));
    assert!((480..=520).contains(&ms(0.95)), "half of the stall: {}", ms(0.95));
    assert!((880..=920).contains(&ms(0.99)), "nine tenths of it: {}", ms(0.99));
    assert!(open.latency.max_ns() / MS >= 995);

    // The same with few places: what waits for one counts from when it was due.
    let few = Setting { slots: 10, ..setting };
    let (few, _) = simulate(&few, &mut Server::new(1, (5_000, 6_000)));
    assert_eq!(few.intended, few.done);
    assert!(few.latency.quantile_ns(0.95) / MS >= 480);
    assert!(few.service.quantile_ns(0.95) / MS <= 3, "the time on the wire does not show it");

    // A closed loop asks one thing at a time and so hardly notices.
    let closed = Setting {
        pace: Pace::Closed(1),
        total: None,
        slots: 1,
        duration_ms: 10_000,
        cut_ms: u64::MAX,
    };
    let (closed, _) = simulate(&closed, &mut Server::new(1, (5_000, 6_000)));
    assert!(closed.latency.quantile_ns(0.99) / MS <= 3, "one answer of thousands was late");
    assert!(closed.latency.max_ns() / MS >= 990);
}

#[test]
fn what_was_due_and_never_sent_is_counted() {
    // Ten places, each taken for 100 ms: 100 per second of the 1,000 that are due.
    let pace = open(1_000.0);
    let setting = Setting { pace, total: None, slots: 10, duration_ms: 2_000, cut_ms: u64::MAX };
    let (series, _) = simulate(&setting, &mut Server::new(99, (0, 0)));
    assert_eq!((series.intended, series.failed()), (2_000, 0));
    assert!((180..=220).contains(&series.started), "{}", series.started);
    assert_eq!(series.done, series.started);
    assert_eq!(series.unfinished(), series.intended - series.done);
}

#[test]
fn a_total_is_done_to_the_last_one() {
    for pace in [Pace::Closed(7), open(5_000.0)] {
        let setting = Setting {
            pace,
            total: Some(1_000),
            slots: 100,
            duration_ms: 1 << 30,
            cut_ms: u64::MAX,
        };
        // The end of a run by number is not known before.
        let setting = Setting { duration_ms: 20_000, ..setting };
        let (series, told) = simulate(&setting, &mut Server::new(2, (0, 0)));
        assert_eq!((series.intended, series.started, series.done), (1_000, 1_000, 1_000));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Said::Connected, Said::Finished]);
    }
}

#[test]
fn a_lost_connection_fails_what_was_on_it_and_comes_back() {
    let pace = open(1_000.0);
    let setting = Setting { pace, total: None, slots: 100, duration_ms: 4_000, cut_ms: 2_000 };
    let (series, told) = simulate(&setting, &mut Server::new(5, (0, 0)));
    let texts: Vec<&str> = series.errors.keys().map(String::as_str).collect();
    assert_eq!(texts, ["UNAVAILABLE: the connection was lost"]);
    assert!((4..=7).contains(&series.failed()), "{}", series.failed());
    assert_eq!(series.intended, 4_000);
    assert_eq!(series.done + series.failed(), 4_000, "what was due meanwhile waited");
    assert!(series.latency.max_ns() / MS >= 45, "as long as it took to connect again");
    let note = Said::Note("lost a connection to 127.0.0.1:1: cut".to_owned());
    assert_eq!(told.try_iter().nth(1), Some(note));
}

#[test]
fn refusals_are_counted_by_their_text() {
    let mut server = Server::new(1, (0, 0));
    server.status = "8";
    let pace = Pace::Closed(3);
    let setting = Setting { pace, total: Some(30), slots: 3, duration_ms: 2_000, cut_ms: u64::MAX };
    let (series, _) = simulate(&setting, &mut server);
    assert_eq!((series.done, series.failed()), (0, 30));
    assert_eq!(series.errors.get("RESOURCE_EXHAUSTED"), Some(&30));
}
