//! The highest rate that holds an objective: doubling until it is missed, then halving the gap.

use std::io::Write;

use super::args::{Args, Flag, flag, parse_ms};
use super::command::{described, fail, read, refuse, show};
use super::result::Run;
use super::run;
use super::scenarios::Scenario;
use crate::cli::progress::Progress;

/// What `max` takes beside the flags of its scenario.
pub const HELP: &str = "
Usage: ringbolt bench max SCENARIO --slo p99=10ms [flags of the scenario]

Finds the highest rate that holds an objective, by runs of a few seconds each.

Flags of max:
  --slo                objective, such as p99=10ms or p99.9=50ms,p50=2ms; errors always miss it
  --slo-series         the series that it is about (default: the first of the scenario)
  --start-rate         rate of the first run (default 1000)
  --precision          stop when the gap is below this share of the rate (default 0.05)
  --probe-duration     time that counts of each run (default 5s)
";

const FLAGS: [Flag; 5] = [
    flag("slo", "", "objective"),
    flag("slo-series", "", "series"),
    flag("start-rate", "1000", "rate of the first run"),
    flag("precision", "0.05", "share of the rate"),
    flag("probe-duration", "5s", "time of each run"),
];

/// Runs of one search at most.
const PROBES_MAX: usize = 40;
/// Of what was due, this share has to be answered in time for a rate to count as carried.
const CARRIED_SHARE: f64 = 0.99;

/// What has to hold.
#[derive(Clone, Debug, PartialEq)]
struct Objective {
    /// Quantile (0 to 1) and the latency it may have.
    bounds: Vec<(f64, u64)>,
    series: String,
}

impl Objective {
    fn parse(text: &str, series: &str) -> Result<Objective, String> {
        if text.is_empty() {
            return Err("--slo is needed, such as --slo p99=10ms".to_owned());
        }
        let bound = |part: &str| {
            let (quantile, time) = part.split_once('=')?;
            let percent: f64 = quantile.trim().strip_prefix('p')?.parse().ok()?;
            let is_percent = (0.0..=100.0).contains(&percent);
            let us = parse_ms(time.trim()).filter(|_| is_percent)?;
            Some((percent / 100.0, us * 1_000_000))
        };
        let bounds: Option<Vec<(f64, u64)>> = text.split(',').map(bound).collect();
        let bounds = bounds.ok_or_else(|| format!("--slo is like p99=10ms, not {text:?}"))?;
        Ok(Objective { bounds, series: series.to_owned() })
    }

    /// Why a run misses it, if it does.
    fn missed(&self, run: &Run) -> Option<String> {
        let named = |name: &str| run.series.iter().find(|series| series.name == name);
        let series = if self.series.is_empty() { run.series.first() } else { named(&self.series) };
        let Some(series) = series else { return Some(format!("no series {:?}", self.series)) };
        if series.failed() > 0 {
            return Some(format!("{} errors", series.failed()));
        }
        let due = series.intended as f64;
        if (series.in_window as f64) < due * CARRIED_SHARE {
            return Some(format!("only {} of {due:.0} answered in time", series.in_window));
        }
        self.bounds.iter().find_map(|(quantile, bound_ns)| {
            let ns = series.latency.quantile_ns(*quantile);
            let ms = |ns: u64| ns as f64 / 1e6;
            let text = format!("p{} {:.3} ms above {} ms", quantile * 100.0, ms(ns), ms(*bound_ns));
            (ns > *bound_ns).then_some(text)
        })
    }
}

/// The next rate to try.
#[derive(Clone, Debug)]
struct Search {
    held: f64,
    missed: Option<f64>,
    next: f64,
    precision: f64,
}

impl Search {
    fn new(start: f64, precision: f64) -> Search {
        Search { held: 0.0, missed: None, next: start, precision }
    }

    /// Takes what came of the rate in `next`. False when the search is over.
    fn step(&mut self, is_held: bool) -> bool {
        if is_held {
            self.held = self.next;
        } else {
            self.missed = Some(self.next);
        }
        self.next = match self.missed {
            None => self.next * 2.0,
            Some(missed) => (self.held + missed) / 2.0,
        };
        let gap = self.missed.map_or(f64::INFINITY, |missed| missed - self.held);
        // Below one operation in ten seconds there is nothing to find.
        gap > self.next * self.precision && self.next > 0.1
    }
}

/// Runs a search and gives the exit code.
pub fn main(
    scenario: &Scenario,
    words: &[String],
    (out, err): (&mut dyn Write, &mut dyn Write),
    is_terminal: bool,
) -> i32 {
    let flags: Vec<Flag> = scenario.flags.iter().chain(&FLAGS).copied().collect();
    let lists = (scenario.defaults, scenario.short);
    let made = Args::parse(&flags, lists, words).and_then(|args| {
        let objective = Objective::parse(args.text("slo"), args.text("slo-series"))?;
        let (start, precision) = (args.number("start-rate")?, args.number("precision")?);
        if !(0.1..1e8).contains(&start) || !(0.001..1.0).contains(&precision) {
            return Err("--start-rate is from 0.1 on, --precision from 0.001 to 1".to_owned());
        }
        args.ms("probe-duration")?;
        let duration = args.text("probe-duration").to_owned();
        // Before the first run, for what is wrong at any rate.
        read(scenario, &args)?;
        Ok((args.with("duration", duration), objective, Search::new(start, precision)))
    });
    let (args, objective, mut search) = match made {
        Ok(made) => made,
        Err(why) => return refuse(err, &why),
    };
    let mut runs: Vec<Run> = Vec::new();
    for _ in 0..PROBES_MAX {
        let args = args.with("rate", format!("{:.1}", search.next));
        let mut progress = Progress { out: err, is_terminal, is_quiet: true };
        let run = read(scenario, &args)
            .and_then(|(common, plan)| run::run(&plan, &common, &mut progress));
        let run = match run {
            Ok(run) => described(run, scenario, &args, words),
            Err(why) => return fail(err, &why),
        };
        let missed = objective.missed(&run);
        let verdict = missed.as_deref().unwrap_or("held");
        let _ = writeln!(err, "{:>10.0}/s  {verdict}", search.next);
        let label = format!("{:.0}/s {verdict}", search.next);
        runs.push(Run { label, ..run });
        if !search.step(missed.is_none()) {
            break;
        }
    }
    if search.held == 0.0 {
        return fail(err, "no rate held the objective");
    }
    let held = format!("{:.0}/s", search.held);
    runs.retain(|run| run.label.ends_with(" held"));
    let best = runs.iter().rfind(|run| run.label.starts_with(&held)).cloned();
    let best = best.map(|run| Run { label: format!("highest rate: {held}"), ..run });
    show(best.as_slice(), &args, out).map_or_else(|why| fail(err, &why), |()| 0)
}

#[cfg(test)]
mod tests {
    use super::super::result::Series;
    use super::*;

    #[test]
    fn objectives_are_read_and_judged() {
        let objective = Objective::parse("p99=10ms, p50=2ms", "").expect("an objective");
        assert_eq!(objective.bounds, [(0.99, 10_000_000), (0.5, 2_000_000)]);
        for text in ["", "p99", "99=1ms", "p101=1ms", "p99=fast"] {
            assert!(Objective::parse(text, "").is_err(), "{text:?}");
        }
        let mut series = Series { intended: 100, in_window: 100, ..Series::default() };
        series.latency.record(3_000_000);
        let mut run = Run { series: vec![series], ..Run::default() };
        let missed = objective.missed(&run).expect("a slow median");
        assert!(missed.starts_with("p50 3.00"), "{missed}");
        let objective = Objective::parse("p99=10ms", "").expect("an objective");
        assert_eq!(objective.missed(&run), None);
        run.series[0].in_window = 98;
        assert_eq!(objective.missed(&run).as_deref(), Some("only 98 of 100 answered in time"));
        run.series[0].errors.insert("gone".to_owned(), 2);
        assert_eq!(objective.missed(&run).as_deref(), Some("2 errors"));
    }

    #[test]
    fn the_search_closes_in_on_the_highest_rate() {
        for (limit, start) in [(23_456.0, 1_000.0), (70.0, 1_000.0), (1_000.0, 1_000.0)] {
            let mut search = Search::new(start, 0.02);
            let mut probes = 1;
            while search.step(search.next <= limit) {
                probes += 1;
            }
            assert!(search.held <= limit && search.held > limit * 0.97, "{search:?}");
            assert!(probes < 20, "{probes}");
        }
        let mut search = Search::new(1_000.0, 0.05);
        while search.step(false) {}
        assert_eq!(search.held, 0.0);
    }
}
