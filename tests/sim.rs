//! Random lives of a member, each from a seed.
//!
//! `cargo test --test sim` runs the seeds of every commit. `SEEDS=1000..2000` runs others,
//! `SEED=7 cargo test --test sim -- --nocapture` one of them with its whole trace.

#![expect(clippy::print_stdout, reason = "the line that replays a failing seed")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ringbolt::sim::world::{self, Report};

const SEEDS: Range<u64> = 1..201;

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("SEEDS") else { return SEEDS };
    let (from, to) = range.split_once("..").expect("SEEDS is a..b");
    from.parse().expect("SEEDS is a..b")..to.parse().expect("SEEDS is a..b")
}

fn run(seed: u64) -> Option<Report> {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, None))).ok()
}

/// Runs all seeds on as many threads as the machine has; those that fail come back.
fn run_all(seeds: impl Iterator<Item = u64>) -> (Vec<u64>, Vec<Report>) {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let reports = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    match run(*seed) {
                        Some(report) => reports.lock().expect("no panic").push(report),
                        None => {
                            println!("SEED={seed} cargo test --test sim -- --nocapture");
                            failed.lock().expect("no panic").push(*seed);
                        }
                    }
                }
            });
        }
    });
    (failed.into_inner().expect("no panic"), reports.into_inner().expect("no panic"))
}

#[test]
fn every_answer_of_every_seed_has_its_place() {
    if let Ok(seed) = std::env::var("SEED") {
        let report = world::run(seed.parse().expect("a number"), Some(|line| println!("{line}")));
        println!("{report:?}");
        return;
    }
    let known = include_str!("seeds.txt").lines();
    let known = known.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let all: BTreeSet<u64> = seeds().chain(known).collect();
    let (failed, reports) = run_all(all.into_iter());
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    println!(
        "{} seeds: {} answers judged, {} watch events, {} fragments, {} crashes, {} torn logs, \
         {} halts, {} starts from a checkpoint, {} from shards apart, {} page reads, \
         {} full disks, {} reshards, {} cut short",
        reports.len(),
        sum(|report| report.judged),
        sum(|report| report.events),
        sum(|report| report.fragments),
        sum(|report| report.crashes),
        sum(|report| report.torn),
        sum(|report| report.halts),
        sum(|report| report.checkpointed),
        sum(|report| report.apart),
        sum(|report| report.page_reads),
        sum(|report| report.full),
        sum(|report| report.resharded),
        sum(|report| report.reshards_cut),
    );
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
    if reports.len() >= 200 {
        let reached = sum(|report| report.judged) > 20_000
            && sum(|report| report.events) > 10_000
            && sum(|report| report.fragments) > 50
            && sum(|report| report.torn) > 3
            && sum(|report| report.halts) > 3
            && sum(|report| report.checkpointed) > 50
            && sum(|report| report.apart) > 10
            && sum(|report| report.page_reads) > 500
            && sum(|report| report.full) > 3
            && sum(|report| report.resharded) > 30
            && sum(|report| report.reshards_cut) > 30;
        assert!(reached, "the seeds reach too little");
    }
}

#[test]
fn a_seed_is_a_run() {
    for seed in [1, 2, 3, 5, 8] {
        if let (Some(first), Some(second)) = (run(seed), run(seed)) {
            assert_eq!(first, second, "seed {seed}");
        }
    }
}
