//! Everything that reads bytes from elsewhere, on valid inputs changed at random.
//!
//! `cargo test --test fuzz` takes a few seconds, always with the same inputs. More of them:
//!
//! ```text
//! FUZZ_SECONDS=600 SEED=7 cargo test --test fuzz           each target for so long
//! FUZZ_INPUT=shard:FILE cargo test --test fuzz -- replay   one input, such as libFuzzer found
//! FUZZ_SEEDS=DIR cargo test --test fuzz -- seeds           the valid inputs as files
//! ```
//!
//! `tests/fuzz` runs the same targets under libFuzzer.

#![allow(clippy::disallowed_methods, reason = "a longer run ends by the clock")]
#![allow(clippy::print_stderr, reason = "what failed and what was counted is to be read")]

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

use mutate::Mutator;
use targets::{TARGETS, Target, input, items};

thread_local! {
    /// Whether a panic of this thread is what is looked for.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    /// What the last such panic said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a target. `None`: it panicked.
fn attempt(target: &Target, data: &[u8]) -> Option<bool> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match IS_RUNNING.get() {
            true => SAID.set(panic.to_string()),
            false => before(panic),
        }));
    });
    IS_RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    IS_RUNNING.set(false);
    outcome.ok()
}

/// Whether a target panics on an input in the same place.
fn fails(target: &Target, data: &[u8], said: &str) -> bool {
    let place = |said: &str| said.lines().next().unwrap_or_default().to_owned();
    attempt(target, data).is_none() && SAID.with_borrow(|now| place(now) == place(said))
}

/// A smaller input on which the target still panics.
fn shrunk(target: &Target, data: &[u8]) -> Vec<u8> {
    assert_eq!(attempt(target, data), None, "it fails again");
    let said = SAID.take();
    let mut best = items(data);
    let mut part = best.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut fewer = best.clone();
            fewer.drain(at..(at + part).min(best.len()));
            if fails(target, &input(&fewer), &said) {
                best = fewer;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    for at in 0..best.len() {
        while best[at].bytes.len() > 1 {
            let mut shorter = best.clone();
            let len = shorter[at].bytes.len();
            shorter[at].bytes.truncate(len - len.div_ceil(4));
            if !fails(target, &input(&shorter), &said) {
                break;
            }
            best = shorter;
        }
    }
    SAID.set(said);
    input(&best)
}

fn show(data: &[u8]) {
    for item in items(data) {
        let shown = &item.bytes[..item.bytes.len().min(200)];
        eprintln!("{:#04x} {} B {shown:02x?}", item.flags, item.bytes.len());
    }
}

/// Runs a target on so many inputs, or for as long as it is told to. How many it took.
fn fuzz(target: &Target, rounds: u64) -> Result<u64, Vec<u8>> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect(name));
    let limit: Option<u64> = number("FUZZ_SECONDS");
    let seed: u64 = number("SEED").unwrap_or(1);
    let seeds = (target.seeds)();
    let mut taken = 0;
    for seed in &seeds {
        assert!((target.run)(seed), "{}: a valid input is refused", target.name);
    }
    let mut mutator = Mutator::new(seed, seeds);
    let begun = Instant::now();
    for round in 0.. {
        let is_over = match limit {
            Some(seconds) => begun.elapsed() >= Duration::from_secs(seconds),
            None => round == rounds,
        };
        if is_over {
            break;
        }
        let data = mutator.next();
        match attempt(target, &data) {
            Some(is_taken) => taken += u64::from(is_taken),
            None => return Err(data),
        }
    }
    Ok(taken)
}

/// A target that must not panic, and that must take enough of its inputs to be worth its time.
#[track_caller]
fn check(name: &str, rounds: u64) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    match fuzz(target, rounds) {
        Ok(taken) if std::env::var_os("FUZZ_SECONDS").is_some() => {
            eprintln!("{name}: {taken} inputs were taken");
        }
        Ok(taken) => {
            let range = rounds / 50..rounds - rounds / 50;
            assert!(range.contains(&taken), "{name}: {taken} of {rounds} inputs were taken");
        }
        Err(data) => {
            let data = shrunk(target, &data);
            let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&file, &data).expect("a file");
            show(&data);
            panic!("FUZZ_INPUT={name}:{} fails: {}", file.display(), SAID.take());
        }
    }
}

#[test]
fn log() {
    check("log", 2_500);
}

#[test]
fn entry() {
    check("entry", 12_000);
}

#[test]
fn superblock() {
    check("superblock", 10_000);
}

#[test]
fn image() {
    check("image", 10_000);
}

#[test]
fn page() {
    check("page", 6_000);
}

#[test]
fn shard() {
    check("shard", 600);
}

#[test]
fn frame() {
    check("frame", 20_000);
}

/// What is hidden behind a checksum and a field is found, or this finds nothing at all.
#[test]
fn a_planted_fault_is_found() {
    let planted = Target {
        name: "planted",
        run: |data| {
            let is_taken = targets::superblock::run(data);
            let term = items(data).get(3).map_or(0, |unit| unit.number(80, 8));
            assert!(!is_taken || term < 1 << 30, "planted");
            is_taken
        },
        seeds: targets::superblock::seeds,
    };
    let data = fuzz(&planted, 50_000).expect_err("the fault is found");
    let small = shrunk(&planted, &data);
    assert!(attempt(&planted, &small).is_none() && small.len() <= data.len());
}

#[test]
fn replay() {
    let Ok(which) = std::env::var("FUZZ_INPUT") else { return };
    let (name, file) = which.split_once(':').expect("FUZZ_INPUT=TARGET:FILE");
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let data = std::fs::read(file).expect("a file");
    show(&data);
    eprintln!("taken: {}", (target.run)(&data));
}

#[test]
fn seeds() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) else { return };
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a file");
        }
    }
}
