//! Made-up runs for the tests of the outputs.

use super::latencies::Latencies;
use super::result::{CostPoint, Figure, GeneratorCost, Parameter, Point, Run, Series, ServerCost};

/// Five seconds of a thousand puts of 1 to 2 ms, `factor` times as slow and as costly.
pub(super) fn run(label: &str, factor: u64) -> Run {
    let mut put = Series { name: "put".to_owned(), ..Series::default() };
    for second in 0..5_u64 {
        let mut interval = Latencies::default();
        for at in 1..=1000 {
            interval.record((1_000_000 + at * 1000) * factor);
        }
        put.latency.merge(&interval);
        put.points.push(Point {
            at_ms: second * 1000,
            length_ms: 1000,
            done: 1000,
            errors: u64::from(second > 1),
            p50_ns: interval.quantile_ns(0.5),
            p99_ns: interval.quantile_ns(0.99),
            max_ns: interval.max_ns(),
            histogram: interval.pack(),
        });
    }
    put.service = put.latency.clone();
    (put.intended, put.started, put.done, put.in_window) = (5010, 5008, 5000, 5000);
    put.bytes = 5000 * 256;
    put.errors.insert("too many requests".to_owned(), 3);
    let mut lag = Latencies::default();
    lag.record(20_000);
    Run {
        scenario: "put".to_owned(),
        label: label.to_owned(),
        endpoints: vec!["127.0.0.1:2379".to_owned()],
        command: ["ringbolt", "bench", "put", "--label", label].map(str::to_owned).to_vec(),
        started_unix_ms: 1_795_827_723_000,
        warmup_seconds: 1.0,
        measured_seconds: 5.0,
        parameters: vec![
            Parameter { name: "clients".to_owned(), value: "1000".to_owned() },
            Parameter { name: "value-bytes".to_owned(), value: "256".to_owned() },
        ],
        series: vec![put, Series { name: "range".to_owned(), ..Series::default() }],
        figures: vec![Figure {
            name: "throughput".to_owned(),
            value: 12.5,
            unit: "MB/s".to_owned(),
        }],
        servers: vec![server(factor)],
        generator: GeneratorCost { cpu_us: 40_000, threads: 2, lag },
        notes: Vec::new(),
    }
}

fn server(factor: u64) -> ServerCost {
    let point = |second: u64| CostPoint {
        at_ms: second * 1000,
        length_ms: 1000,
        cpu_us: 800_000 * factor,
        rss_bytes: (100 + second) << 20,
        read_bytes: 0,
        written_bytes: 4_096_000,
    };
    ServerCost {
        endpoint: "127.0.0.1:2379".to_owned(),
        pid: Some(4242),
        cpu_us: 4_000_000 * factor,
        rss_peak_bytes: 104 << 20,
        read_bytes: None,
        written_bytes: Some(5000 * 4096),
        syncs: Some(100),
        threads: 9,
        restarted: false,
        missed_samples: 0,
        points: (0..5).map(point).collect(),
    }
}
