//! cli::bench::scenarios — what is measured: one file for each scenario, and the parts they share.
//! Stands where clients stand. In: flags. Out: a plan: phases, series, a load for each thread.
//! Owns: the table of scenarios.
//! Invariants: (1) a scenario says in its help whom it concerns; (2) what it writes is stamped with
//!             when it was due wherever somebody watches it.
//! Limits: none.
//! Must not: do I/O; read a clock.
//! Tests: here (every plan is made), tests/bench.rs (the real process).

mod cache_init;
mod compaction;
mod fairness;
mod idle;
mod keepalive;
mod leases;
mod lists;
mod mixed;
mod names;
mod objects;
mod parts;
mod pods;
mod put;
mod range;
mod read_tail;
mod steady;
mod txn;
mod watch_latency;
mod watch_scale;
mod watched_writes;
mod watchers;

use super::args::{Args, Common, Defaults, Flag};
use super::engine::{Load, Phase};
use super::result::{Figure, Run};
use super::schedule::Share;

/// A kind of load that can be asked for by name.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    /// Whom it concerns, in two sentences.
    pub about: &'static str,
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Its defaults for the flags of all scenarios.
    pub defaults: &'static Defaults,
    /// Values of the short form.
    pub short: &'static Defaults,
    /// Makes the plan.
    pub plan: fn(&Args, &Common) -> Result<Plan, String>,
}

/// Makes a thread's load.
pub type MakeLoad = Box<dyn Fn(Share) -> Box<dyn Load>>;
/// Adds what only this scenario knows to the result.
pub type Figures = Box<dyn Fn(&Run) -> Vec<Figure>>;

/// A scenario with its flags read.
pub struct Plan {
    /// What follows what.
    pub phases: Vec<Phase>,
    /// What is counted apart.
    pub series: Vec<&'static str>,
    /// Those of the series that are no operations of their own.
    pub derived: &'static [&'static str],
    /// The load.
    pub load: MakeLoad,
    /// Figures of its own.
    pub figures: Figures,
}

impl Plan {
    /// A plan without figures of its own.
    fn new(phases: Vec<Phase>, series: Vec<&'static str>, load: MakeLoad) -> Plan {
        Plan { phases, series, derived: &[], load, figures: Box::new(|_| Vec::new()) }
    }

    fn derived(mut self, names: &'static [&'static str]) -> Plan {
        self.derived = names;
        self
    }

    fn figures(mut self, figures: impl Fn(&Run) -> Vec<Figure> + 'static) -> Plan {
        self.figures = Box::new(figures);
        self
    }
}

/// All of them.
pub const ALL: [&Scenario; 15] = [
    &put::SCENARIO,
    &range::SCENARIO,
    &txn::SCENARIO,
    &keepalive::SCENARIO,
    &watch_latency::SCENARIO,
    &leases::SCENARIO,
    &pods::SCENARIO,
    &watched_writes::SCENARIO,
    &cache_init::SCENARIO,
    &fairness::SCENARIO,
    &watch_scale::SCENARIO,
    &compaction::SCENARIO,
    &steady::SCENARIO,
    &read_tail::SCENARIO,
    &idle::SCENARIO,
];

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name == name)
}

/// A figure of a scenario.
fn figure(name: impl Into<String>, value: f64, unit: &str) -> Figure {
    Figure { name: name.into(), value, unit: unit.to_owned() }
}

/// The series of this name, which is one of the plan.
fn series<'r>(run: &'r Run, name: &str) -> Option<&'r super::result::Series> {
    run.series.iter().find(|series| series.name == name)
}

/// The end of the range of all keys that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // All keys from the prefix on.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_plan_and_says_whom_it_concerns() {
        for scenario in ALL {
            for words in [vec![], vec!["--short".to_owned()]] {
                let lists = (scenario.defaults, scenario.short);
                let args = Args::parse(scenario.flags, lists, &words).expect(scenario.name);
                let common = Common::read(&args).expect(scenario.name);
                let plan = (scenario.plan)(&args, &common).map_err(|error| (scenario.name, error));
                let plan = plan.expect("a plan");
                assert!(plan.phases.iter().any(|phase| phase.is_measured), "{}", scenario.name);
                assert!(!plan.series.is_empty());
                let _ = (plan.load)(Share { worker: 0, workers: 1 });
            }
            let sentences = scenario.about.matches(['.', '?']).count();
            assert!((2..=4).contains(&sentences), "{}: {}", scenario.name, scenario.about);
            let is_known = |name: &str| {
                super::super::args::COMMON
                    .iter()
                    .chain(scenario.flags)
                    .any(|flag| flag.name == name)
            };
            let named = scenario.defaults.iter().chain(scenario.short);
            assert!(named.map(|(name, _)| *name).all(is_known), "{}", scenario.name);
        }
    }

    #[test]
    fn prefixes_end_behind_their_last_key() {
        assert_eq!(prefix_end(b"/a/"), b"/a0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
    }
}
