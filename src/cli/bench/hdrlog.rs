//! Runs as an interval log of HdrHistogram, which its log processors and plotters read: a tagged
//! line for each second of each series. Values are nanoseconds, the column of the maximum is in
//! milliseconds.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::result::Run;
use super::table::{headline, names};

/// Nanoseconds in a millisecond.
const MAX_DIVISOR: f64 = 1e6;

/// The runs as one log, in the order of time within each series. Its base time is the start of
/// the earliest.
///
/// # Errors
/// A sentence, if an interval of a run that was read from a file is damaged.
pub fn write(runs: &[Run]) -> Result<String, String> {
    let base_ms = runs.iter().map(|run| run.started_unix_ms).min().unwrap_or(0);
    // Beyond the year 9999 nothing was measured, and a time of the system ends somewhere.
    let base = UNIX_EPOCH + Duration::from_millis(base_ms.min(253_402_300_799_999));
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    for (run, name) in runs.iter().zip(names(runs)) {
        builder.add_comment(&comment(&format!("{name}: {}", headline(run))));
    }
    builder.with_start_time(base).with_base_time(base).with_max_value_divisor(MAX_DIVISOR);
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let failed = |what: &dyn std::fmt::Display| format!("a histogram was not written: {what}");
    let mut log = builder.begin_log_with(&mut out, &mut serializer).map_err(|why| failed(&why))?;
    for (run, name) in runs.iter().zip(names(runs)) {
        let since_base = Duration::from_millis(run.started_unix_ms - base_ms);
        let warmup = Duration::try_from_secs_f64(run.warmup_seconds).unwrap_or_default();
        for series in &run.series {
            let tag = tag(&name, &series.name);
            for point in &series.points {
                let opened = since_base.saturating_add(warmup);
                let at = opened.saturating_add(Duration::from_millis(point.at_ms));
                let length = Duration::from_millis(point.length_ms);
                let interval = point.histogram.unpack()?;
                log.write_histogram(interval.histogram(), at, length, Tag::new(&tag))
                    .map_err(|why| failed(&why))?;
            }
        }
    }
    drop(log);
    String::from_utf8(out).map_err(|why| failed(&why))
}

/// One line that no reader takes for a header: those begin with a bracket right behind the mark.
fn comment(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!(" {}", line.collect::<String>())
}

/// Commas and blanks end a tag.
fn tag(run: &str, series: &str) -> String {
    let ends = |c: char| c == ',' || c.is_whitespace() || c.is_control();
    format!("{run}/{series}").chars().map(|c| if ends(c) { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::samples;
    use base64::Engine as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_reader_finds_every_interval() {
        let mut late = samples::run("b", 2);
        late.started_unix_ms += 60_500;
        let text = write(&[samples::run("a", 1), late]).expect("a log");
        assert!(
            text.starts_with("#[Histogram log format version 1.3]\n# a: put on 127.0.0.1:2379")
        );
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            match entry.expect("a line that can be read") {
                LogEntry::BaseTime(base) => assert_eq!(base.as_secs(), 1_795_827_723),
                LogEntry::Interval(line) => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(line.encoded_histogram())
                        .expect("base64");
                    let histogram: Histogram<u64> =
                        Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2 deflate");
                    let tag = line.tag().expect("a tag").as_str().to_owned();
                    let start = line.start_timestamp().as_secs_f64();
                    found.push((
                        tag,
                        start,
                        line.duration().as_secs(),
                        histogram.len(),
                        line.max(),
                    ));
                }
                _ => {}
            }
        }
        assert_eq!(found.len(), 10);
        assert_eq!(found[0], ("a/put".to_owned(), 1.0, 1, 1000, 2.001));
        assert_eq!(found[9], ("b/put".to_owned(), 65.5, 1, 1000, 4.002));
    }

    #[test]
    fn a_hostile_label_stays_in_its_line() {
        let run = samples::run("x\n[BaseTime: 0]\nTag=evil,0,1,2,AA\r", 1);
        let text = write(&[run]).expect("a log");
        let is_known = |line: &str| {
            line.starts_with("#[Hist")
                || line.starts_with("# x [BaseTime")
                || line.starts_with("#[StartTime: 1795827723")
                || line.starts_with("#[BaseTime: 1795827723")
                || line.starts_with("#[MaxValueDivisor")
                || line.starts_with("Tag=x-[BaseTime:-0]-Tag=evil-0-1-2-AA-/put,")
        };
        for line in text.lines() {
            assert!(is_known(line), "{line}");
        }
    }

    #[test]
    fn nothing_is_an_empty_log() {
        assert!(write(&[]).expect("a log").starts_with("#[Histogram log"));
        assert!(write(&[Run::default()]).is_ok());
    }
}
