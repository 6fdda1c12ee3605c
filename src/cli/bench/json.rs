//! Runs as a document: `{"format": "ringbolt-bench/1", "runs": [...]}`. The fields are those of
//! `result`, by name; a histogram is in HdrHistogram's V2 encoding as base64, which its libraries
//! read, with the usual percentiles beside it for those who do not. Fields are added in later
//! versions, never renamed or taken away; a field that a reader does not know is skipped.

use serde::{Deserialize, Serialize};

use super::result::Run;

/// The name of the format. The number changes when an old reader would misread a new file.
const FORMAT: &str = "ringbolt-bench/1";

#[derive(Serialize)]
struct Written<'a> {
    format: &'a str,
    runs: &'a [Run],
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: String,
}

#[derive(Deserialize)]
struct Read {
    runs: Vec<Run>,
}

/// The runs as a document.
#[must_use]
pub fn write(runs: &[Run]) -> String {
    let document = Written { format: FORMAT, runs };
    let text = serde_json::to_string_pretty(&document);
    text.expect("names and numbers are always JSON") + "\n"
}

/// The runs of a document.
///
/// # Errors
/// A sentence, if it is none or of another format.
pub fn read(text: &str) -> Result<Vec<Run>, String> {
    let bad = |error: serde_json::Error| format!("this is no result of ringbolt bench: {error}");
    let head: Head = serde_json::from_str(text).map_err(bad)?;
    if head.format != FORMAT {
        return Err(format!(
            "this is no result of ringbolt bench that this version can read: its format is \
             {:?}, not {FORMAT:?}",
            head.format
        ));
    }
    let document: Read = serde_json::from_str(text).map_err(bad)?;
    Ok(document.runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::samples;

    #[test]
    fn what_is_written_is_read() {
        let runs = vec![samples::run("a \"b\" </script> \u{1b}\u{2028}", 1), samples::run("b", 3)];
        assert_eq!(read(&write(&runs)), Ok(runs));
        assert_eq!(read(&write(&[])), Ok(Vec::new()));
    }

    #[test]
    fn names_are_stable() {
        let text = write(&[samples::run("a", 1)]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let run = &value["runs"][0];
        let cases = [
            (&value["format"], "\"ringbolt-bench/1\""),
            (&run["scenario"], "\"put\""),
            (&run["endpoints"][0], "\"127.0.0.1:2379\""),
            (&run["command"][1], "\"bench\""),
            (&run["started_unix_ms"], "1795827723000"),
            (&run["warmup_seconds"], "1.0"),
            (&run["measured_seconds"], "5.0"),
            (&run["parameters"][0], "{\"name\":\"clients\",\"value\":\"1000\"}"),
            (&run["series"][0]["in_window"], "5000"),
            (&run["series"][0]["errors"]["too many requests"], "3"),
            (&run["series"][0]["latency"]["count"], "5000"),
            (&run["series"][0]["latency"]["p50_ns"], "1500159"),
            (&run["series"][0]["latency"]["p99_9_ns"], "1999871"),
            (&run["series"][0]["service"]["max_ns"], "2000895"),
            (&run["series"][0]["points"][4]["at_ms"], "4000"),
            (&run["figures"][0]["unit"], "\"MB/s\""),
            (&run["servers"][0]["cpu_us"], "4000000"),
            (&run["servers"][0]["read_bytes"], "null"),
            (&run["servers"][0]["points"][0]["rss_bytes"], "104857600"),
            (&run["generator"]["lag"]["p99_ns"], "20015"),
            (&run["notes"], "[]"),
        ];
        for (found, expect) in cases {
            assert_eq!(found.to_string(), expect);
        }
    }

    #[test]
    fn what_is_no_result_is_told() {
        let cases = [
            ("", "this is no result of ringbolt bench: EOF"),
            ("[1]", "this is no result of ringbolt bench: invalid"),
            ("{}", "its format is \"\", not \"ringbolt-bench/1\""),
            ("{\"format\":\"ringbolt-bench/2\"}", "its format is \"ringbolt-bench/2\""),
            ("{\"format\":\"ringbolt-bench/1\"}", "missing field `runs`"),
            (
                "{\"format\":\"ringbolt-bench/1\",\"runs\":[{\"generator\":{\"lag\":\
                 {\"histogram\":\"AAAA\"}}}]}",
                "V2 encoding",
            ),
        ];
        for (text, expect) in cases {
            let why = read(text).expect_err(expect);
            assert!(why.contains(expect), "{why}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err(), "depth is bounded");
    }
}
