//! `ringbolt bench` against the real process: what is counted adds up.

#![allow(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]

mod member;

use std::process::Command;

use member::{Folder, Member, Ports, binary};
use serde_json::Value;

/// Runs a scenario and gives its result.
#[track_caller]
fn bench(member: &Member, words: &[&str]) -> Value {
    let run = Command::new(binary())
        .env_clear()
        .arg("bench")
        .args(words)
        .args(["--endpoints", &member.ports.client, "--json", "-", "--quiet"])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{words:?}: {}", String::from_utf8_lossy(&run.stderr));
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["format"], "ringbolt-bench/1");
    document["runs"][0].clone()
}

fn series<'v>(run: &'v Value, name: &str) -> &'v Value {
    let all = run["series"].as_array().expect("series");
    all.iter().find(|series| series["name"] == name).expect(name)
}

/// Every operation that was due was answered well; gives how many.
#[track_caller]
fn all_done(run: &Value, name: &str) -> u64 {
    let series = series(run, name);
    let count = |field: &str| series[field].as_u64().expect("a count");
    assert_eq!(series["errors"], serde_json::json!({}), "{name}");
    assert_eq!((count("intended"), count("started")), (count("done"), count("done")), "{name}");
    assert_eq!(series["latency"]["count"].as_u64(), Some(count("done")), "{name}");
    assert!(series["latency"]["p99_ns"].as_u64() > Some(0), "{name}");
    count("done")
}

#[test]
fn scenarios_count_what_they_did() {
    let folder = Folder::new("bench");
    let ports = Ports::free();
    let member = Member::start(&folder.path, &ports, &[]);

    let run = bench(&member, &["put", "--total=3000", "--connections=4", "--streams=8"]);
    assert_eq!(all_done(&run, "put"), 3_000);
    assert!(run["servers"][0]["pid"].as_u64() == Some(u64::from(member.child.id())));
    assert!(run["generator"]["cpu_us"].as_u64() > Some(0));

    let words = ["put", "--rate=500", "--duration=1s", "--warmup=200ms", "--streams=50"];
    let run = bench(&member, &[&words[..], &["--connections=2", "--threads=2"]].concat());
    assert_eq!(all_done(&run, "put"), 500);

    let words = ["range", "--total=500", "--key-space-size=300", "--connections=2"];
    assert_eq!(all_done(&bench(&member, &words), "range"), 500);
    let words = ["txn", "--total=500", "--key-space-size=100", "--streams=8"];
    assert_eq!(all_done(&bench(&member, &words), "txn"), 500);
    let words = ["keepalive", "--total=500", "--leases=50"];
    assert_eq!(all_done(&bench(&member, &words), "keepalive"), 500);

    let words = ["watch-latency", "--total=100", "--rate=400", "--watch-streams=3"];
    let run = bench(&member, &[&words[..], &["--watchers-per-stream=2"]].concat());
    assert_eq!((all_done(&run, "put"), all_done(&run, "watch lag")), (100, 600));

    let words = ["cache-init", "--objects=1200", "--val-min=1KiB", "--val-max=2KiB"];
    let run = bench(&member, &[&words[..], &["--readers=2", "--rounds=1"]].concat());
    for way in ["stream", "pages of 10000", "pages of 500", "unary"] {
        assert_eq!(all_done(&run, &format!("{way}, alone")), 1, "{way}");
        assert_eq!(all_done(&run, &format!("{way}, together")), 2, "{way}");
        assert!(series(&run, &format!("{way}, alone"))["bytes"].as_u64() > Some(1_200 << 10));
    }
    // One request for each list, but three pages of 500 for 1,200 objects.
    assert_eq!(all_done(&run, "requests"), 3 + 3 + 9 + 3);
}

#[test]
fn mixed_scenarios_count_what_they_did() {
    let folder = Folder::new("bench");
    let ports = Ports::free();
    let member = Member::start(&folder.path, &ports, &[]);
    let times = ["--duration=1s", "--warmup=100ms"];

    let run = bench(&member, &[&["leases", "--nodes=200", "--rate=200"], &times[..]].concat());
    assert_eq!((all_done(&run, "renew"), all_done(&run, "watch lag")), (200, 200));

    let words = ["compaction", "--nodes=200", "--rate=500", "--compact-every=300ms"];
    let run = bench(&member, &[&words[..], &times].concat());
    assert_eq!(all_done(&run, "renew"), 500);
    assert!(all_done(&run, "compact") >= 2);
    let apart = ["renew, compacting", "renew, otherwise"].map(|name| all_done(&run, name));
    assert!(apart.iter().sum::<u64>() == 500 && apart[0] > 0, "{apart:?}");

    let words = ["pods", "--rate=30", "--step=50ms"];
    let run = bench(&member, &[&words[..], &times].concat());
    assert_eq!(all_done(&run, "create"), 30);
    assert!(all_done(&run, "delete") > 0 && all_done(&run, "event") > 100);

    let words = ["fairness", "--objects=200", "--readers=3"];
    let run = bench(&member, &[&words[..], &times].concat());
    assert!(all_done(&run, "read") > 0);
    assert_eq!((all_done(&run, "put"), all_done(&run, "watch lag")), (100, 100));

    let run = bench(&member, &[&["steady", "--scale=0.02"], &times[..]].concat());
    assert!(all_done(&run, "renew") > 100 && all_done(&run, "pod status") > 0);

    let words = ["read-tail", "--nodes=200", "--rate=100", "--readers=2"];
    let run = bench(&member, &[&words[..], &times].concat());
    assert!(all_done(&run, "read") > 100 && all_done(&run, "renew") == 100);
}

#[test]
fn who_is_not_there_is_named() {
    let ports = Ports::free();
    let run = Command::new(binary())
        .args(["bench", "put", "--endpoints", &ports.client])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(text.starts_with(&format!("ringbolt bench: {}: cannot connect: ", ports.client)));
}
