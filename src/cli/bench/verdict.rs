//! What a reader must be told about a run, in sentences: above all where the figures are those of
//! the generator rather than of the server.

use super::result::Run;

/// A generator above this share of its threads' time is likely what is measured.
const BUSY_SHARE: f64 = 0.8;
/// Lateness of the generator that is worth a sentence.
const LAG_NS: u64 = 2_000_000;

/// The sentences.
#[must_use]
pub fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    let seconds = run.measured_seconds;
    let generator = &run.generator;
    let share =
        generator.cpu_us as f64 / 1e6 / seconds.max(1e-9) / f64::from(generator.threads.max(1));
    if share > BUSY_SHARE {
        let percent = share * 100.0;
        notes.push(format!(
            "The generator was the bottleneck: its threads were busy for {percent:.0} % of the \
             time. More --threads, on processors that the server does not use, would show the \
             server."
        ));
    }
    let lag_ns = generator.lag.quantile_ns(0.99);
    if lag_ns > LAG_NS {
        let ms = lag_ns as f64 / 1e6;
        notes.push(format!(
            "The generator turned to what was due up to {ms:.1} ms late (p99), by its own fault \
             or for want of a processor; that is part of the latencies."
        ));
    }
    for series in &run.series {
        let unsent = series.intended.saturating_sub(series.started);
        if unsent > 0 {
            let (name, due) = (&series.name, series.intended);
            notes.push(format!(
                "The server did not keep up: {unsent} of {due} operations of {name:?} that were \
                 due were never sent, as every place was taken. They are in no percentile."
            ));
        }
        let unanswered = series.unfinished().saturating_sub(unsent);
        if unanswered > 0 {
            let name = &series.name;
            notes.push(format!("{unanswered} operations of {name:?} were sent and have no end."));
        }
    }
    for server in run.servers.iter().filter(|server| server.restarted) {
        notes.push(format!("The server at {} was restarted during the run.", server.endpoint));
    }
    for server in run.servers.iter().filter(|server| server.missed_samples > 0) {
        notes.push(format!(
            "The process of the server at {} was not there at {} of the samples, one a second: its \
             cost is that of the rest.",
            server.endpoint, server.missed_samples
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::result::{GeneratorCost, Series};
    use super::*;

    #[test]
    fn a_busy_generator_and_a_slow_server_are_told_apart() {
        let mut run = Run { measured_seconds: 10.0, ..Run::default() };
        run.generator = GeneratorCost { cpu_us: 1_000_000, threads: 1, ..GeneratorCost::default() };
        run.series = vec![Series { intended: 10, started: 10, ..Series::default() }];
        run.series[0].latency.record(1);
        run.series[0].done = 10;
        assert!(notes(&run).is_empty(), "{:?}", notes(&run));
        run.generator.cpu_us = 9_000_000;
        assert!(
            notes(&run)[0]
                .starts_with("The generator was the bottleneck: its threads were busy for 90 %")
        );
        run.generator.threads = 2;
        run.series[0].started = 7;
        run.series[0].done = 7;
        assert_eq!(notes(&run).len(), 1);
        assert!(notes(&run)[0].starts_with("The server did not keep up: 3 of 10"));
    }
}
