//! What an idle member costs: how often its threads wake when nobody asks anything.

#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]

mod member;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use member::{Folder, Member, Ports, STOP_LIMIT, bytes, run};
use ringbolt::wire::etcdserverpb as pb;

const WINDOW: Duration = Duration::from_secs(3);
/// Heartbeat and tick share a wake-up ten times a second; twice a second connections keep house.
const WAKES_PER_S_MAX: u64 = 20;

/// Times that each thread has gone to sleep.
fn sleeps(member: &Member) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", member.child.id())).expect("threads");
    let mut sleeps = BTreeMap::new();
    for task in tasks.map(|task| task.expect("a thread").path()) {
        let status = fs::read_to_string(task.join("status")).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.and_then(|count| count.trim().parse().ok()).expect("a count");
        sleeps.insert(task.display().to_string(), count);
    }
    sleeps
}

#[test]
fn an_idle_member_with_watches_hardly_wakes_and_stops_at_once() {
    let folder = Folder::new("idle");
    let mut member = Member::start(&folder.path, &Ports::free(), &[]);
    run(async {
        let mut watches = Vec::new();
        for number in 0..20 {
            let client = member.client().await;
            let key = bytes(&format!("key-{number}"));
            let request = pb::WatchCreateRequest { key, ..Default::default() };
            let mut watch = client.watch(request).await.expect("a stream");
            assert!(watch.next().await.created);
            watches.push(watch);
        }
        // Past the first second, in which an executor wakes more often.
        std::thread::sleep(Duration::from_millis(1_500));
        let before = sleeps(&member);
        std::thread::sleep(WINDOW);
        for (thread, after) in sleeps(&member) {
            let woke = after - before.get(&thread).copied().unwrap_or(0);
            let most = WAKES_PER_S_MAX * WINDOW.as_secs();
            assert!(woke <= most, "{thread} woke {woke} times in {WINDOW:?}, {most} at most");
        }
    });
    let told = Instant::now();
    member.signal("TERM");
    member.wait(STOP_LIMIT);
    assert!(told.elapsed() < Duration::from_secs(2), "it stopped after {:?}", told.elapsed());
}
