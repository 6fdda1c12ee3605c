//! The real process under SIGKILL, damaged logs, a second process, a kernel that denies io_uring,
//! and a real etcd on the same directory.
//!
//! `CRASH_CYCLES=300 cargo test --test crash` kills more often than the default. A test that needs
//! a real etcd takes `ETCD_BIN` or `tests/go/bin/etcd`, and says so when there is neither.

#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]
#![allow(clippy::print_stderr, reason = "what is skipped and what was counted is to be read")]

mod member;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use member::{
    Client, Folder, Member, Ports, STOP_LIMIT, bytes, delete, event_shown, get, list, put,
    revision, run,
};
use pb::request_op::Request as Op;
use ringbolt::base::prng::Prng;
use ringbolt::wire::etcdserverpb as pb;

const WRITERS: u64 = 16;
/// The smallest that the server takes, so that several segments come into play.
const SEGMENTS: &str = "--wal-segment-bytes=8388608";

// --- SIGKILL under writers --------------------------------------------------------------------

/// What the writers know.
#[derive(Debug, Default)]
struct Ledger {
    /// By revision: the mark of the operation that was acknowledged with it.
    acknowledged: BTreeMap<i64, String>,
    /// Marks of operations sent; each has its own, so that none can pass for another.
    sent: u64,
}

/// The events of a revision, joined; the history of the store by revision.
type History = BTreeMap<i64, String>;

#[test]
fn acknowledged_writes_survive_sigkill() {
    let cycles: u64 = std::env::var("CRASH_CYCLES")
        .map_or(30, |text| text.parse().expect("CRASH_CYCLES is a number"));
    let seed = std::env::var("SEED").map_or(1, |text| text.parse().expect("SEED is a number"));
    let mut prng = Prng::new(seed);
    let folder = Folder::new("sigkill");
    let ports = Ports::free();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut before = History::new();
    // Shards and cores change nothing about what is promised; the directory fixes the shards.
    let plain = [SEGMENTS, "--shards=2", "--wal-depth=2"];
    let busy = [SEGMENTS, "--shards=2", "--checkpoint-records=200", "--page-cache-bytes=16777216"];
    for cycle in 0..cycles {
        // Now with checkpoints all the time, now without.
        let flags: &[&str] = if cycle % 3 == 2 { &plain } else { &busy };
        let mut member = Member::start(&folder.path, &ports, flags);
        let now = run(async {
            let client = member.client().await;
            let history = history(&client).await;
            check(&before, &history, &lock(&ledger), cycle);
            let alive = Duration::from_millis(50 + prng.below(250));
            write_until_killed(&mut member, &ledger, prng.next_u64(), alive).await;
            history
        });
        before = now;
    }
    let member = Member::start(&folder.path, &ports, &plain);
    let history = run(async { history(&member.client().await).await });
    let ledger = lock(&ledger);
    check(&before, &history, &ledger, cycles);
    eprintln!(
        "{cycles} kills: {} operations sent, {} acknowledged, {} revisions in the end",
        ledger.sent,
        ledger.acknowledged.len(),
        history.len()
    );
    assert!(ledger.acknowledged.len() as u64 > cycles * WRITERS, "the writers hardly wrote");
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen or acknowledged is there, unchanged; every revision is one whole operation.
fn check(before: &History, now: &History, ledger: &Ledger, cycle: u64) {
    for (revision, events) in before {
        assert_eq!(now.get(revision), Some(events), "cycle {cycle}: revision {revision} changed");
    }
    for (revision, mark) in &ledger.acknowledged {
        let is_there = now.get(revision).is_some_and(|found| found.contains(&format!("={mark}/")));
        assert!(is_there, "cycle {cycle}: revision {revision} was acknowledged: {mark}");
    }
    let revisions: Vec<i64> = now.keys().copied().collect();
    let expect: Vec<i64> = (2..revisions.len() as i64 + 2).collect();
    assert_eq!(revisions, expect, "cycle {cycle}: revisions have no gaps");
    // The value of the first put names the operation.
    let mut seen = BTreeMap::new();
    for events in now.values() {
        let (_, value) = events.split_once('=').expect("an event has a value");
        let (mark, _) = value.split_once('/').expect("a value ends");
        assert_eq!(seen.insert(mark, events), None, "cycle {cycle}: {mark} took effect twice");
        let is_pair = mark.starts_with("pair");
        assert_eq!(events.contains("=second/"), is_pair, "cycle {cycle}: half of {events}");
    }
}

/// Everything that ever happened, by a watch from the first revision on.
async fn history(client: &Client) -> History {
    let newest = client.range(get("w")).await.expect("a range");
    let newest = revision(newest.header.as_ref());
    let mut found = History::new();
    if newest < 2 {
        return found;
    }
    let all = pb::WatchCreateRequest {
        key: bytes("w"),
        range_end: bytes("x"),
        start_revision: 2,
        ..Default::default()
    };
    let mut watch = client.watch(all).await.expect("a watch");
    assert!(watch.next().await.created);
    while found.last_key_value().is_none_or(|(last, _)| *last < newest) {
        for event in &watch.next().await.events {
            let at = event.kv.as_ref().expect("a key").mod_revision;
            let events = found.entry(at).or_default();
            *events = format!("{events} {}", event_shown(event)).trim_start().to_owned();
        }
    }
    found
}

/// Writes from all sides, then SIGKILL in the middle of it.
async fn write_until_killed(
    member: &mut Member,
    ledger: &Arc<Mutex<Ledger>>,
    seed: u64,
    alive: Duration,
) {
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = member.client().await;
        let ledger = Arc::clone(ledger);
        let prng = Prng::new(seed ^ writer.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        writers.push(tokio::spawn(write(client, ledger, prng, writer)));
    }
    tokio::time::sleep(alive).await;
    member.kill();
    for writer in writers {
        writer.await.expect("a writer ends with its connection");
    }
}

/// One writer: puts, deletes and transactions on its own keys until the server is gone.
async fn write(client: Client, ledger: Arc<Mutex<Ledger>>, mut prng: Prng, writer: u64) {
    let key = |kind: char, number: u64| format!("w{writer:02}-{kind}{number}");
    loop {
        let number = {
            let mut ledger = lock(&ledger);
            ledger.sent += 1;
            ledger.sent
        };
        // Sizes from a few bytes to several blocks of the log.
        let padding = "x".repeat(usize::try_from(prng.below(4) * prng.below(2_000)).unwrap_or(0));
        let (first, second) = (key('a', prng.below(8)), key('b', prng.below(8)));
        // A pair is one of two puts at one revision, and its mark says so.
        let (kind, success) = match prng.below(10) {
            0 => ("pair", vec![put(&first, ""), put(&second, "second")]),
            _ => ("one", vec![put(&first, "")]),
        };
        let mark = format!("{kind}{number}{padding}");
        let mut success: Vec<Op> = success.into_iter().map(Op::RequestPut).collect();
        if let Op::RequestPut(put) = &mut success[0] {
            put.value = bytes(&mark);
        }
        if kind == "one" && prng.below(10) == 0 {
            success.push(Op::RequestDeleteRange(delete(&key('b', 0), &key('b', 4))));
        }
        let success = success.into_iter().map(|op| pb::RequestOp { request: Some(op) });
        let request = pb::TxnRequest { success: success.collect(), ..Default::default() };
        let answer = match client.txn(request).await {
            Ok(answer) => answer,
            // The process is gone.
            Err(status) if status.code() != tonic::Code::InvalidArgument => return,
            Err(status) => panic!("a good request is refused: {status:?}"),
        };
        let at = revision(answer.header.as_ref());
        let known = lock(&ledger).acknowledged.insert(at, mark);
        assert_eq!(known, None, "revision {at} was acknowledged twice");
    }
}

// --- damage to the log ------------------------------------------------------------------------

/// A frame as it lies in a file, by the layout of `src/shard/wal/frame.rs`, read independently.
#[derive(Clone, Debug)]
struct Frame {
    file: PathBuf,
    offset: u64,
    len: u64,
    sequence: u64,
    is_stamp: bool,
}

/// All frames in the order of sealing.
fn frames(folder: &Path) -> Vec<Frame> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("data/ringbolt/wal")).expect("a log") {
        let file = entry.expect("a file").path();
        let contents = fs::read(&file).expect("a segment");
        let mut at = 0;
        while at + 4096 <= contents.len() {
            let head = &contents[at..at + 128];
            if &head[..8] != b"RINGBOLT" {
                at += 4096;
                continue;
            }
            let u32_at = |from: usize| {
                u32::from_le_bytes(head[from..from + 4].try_into().expect("four bytes"))
            };
            let len = 128 + 8 * u64::from(u32_at(112)) + u64::from(u32_at(116));
            let len = len.next_multiple_of(4096);
            let sequence = u64::from_le_bytes(head[40..48].try_into().expect("eight bytes"));
            let is_stamp = head[120] == 2;
            found.push(Frame { file: file.clone(), offset: at as u64, len, sequence, is_stamp });
            at += usize::try_from(len).expect("a frame fits memory");
        }
    }
    found.sort_by_key(|frame| frame.sequence);
    found
}

/// A store of `PUTS` keys that was killed, with or without a stamp behind its last write.
struct Wreck {
    folder: Folder,
    ports: Ports,
    frames: Vec<Frame>,
}

const PUTS: i64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    Before,
    After,
}

impl Wreck {
    fn new(stamp: Stamp) -> Wreck {
        // Between a write and its stamp lie milliseconds, which a kill may miss.
        for _ in 0..30 {
            let folder = Folder::new("wreck");
            let ports = Ports::free();
            let mut member = Member::start(&folder.path, &ports, &[SEGMENTS]);
            run(async {
                let client = member.client().await;
                for number in 0..PUTS {
                    // Several blocks each, so that a frame can be cut in its middle.
                    let value = format!("{number}{}", "v".repeat(10_000));
                    client.put(put(&format!("k{number:02}"), &value)).await.expect("a put");
                }
                if stamp == Stamp::After {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                member.kill();
            });
            let frames = frames(&folder.path);
            let is_stamped = frames.last().expect("frames").is_stamp;
            if is_stamped == (stamp == Stamp::After) {
                return Wreck { folder, ports, frames };
            }
        }
        panic!("no process was killed {stamp:?} its stamp in 30 attempts");
    }

    fn entries(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| !frame.is_stamp).collect()
    }

    /// The member starts; how many of its puts are there, and what it says of its log.
    fn starts(&self) -> (i64, String) {
        let mut member = Member::start(&self.folder.path, &self.ports, &[SEGMENTS]);
        let kept = run(async {
            let client = member.client().await;
            let kept = client.range(list("k", "l")).await.expect("a range");
            let keys: Vec<_> = kept.kvs.iter().map(|kv| kv.key.clone()).collect();
            let expect: Vec<_> = (0..kept.count).map(|n| bytes(&format!("k{n:02}"))).collect();
            assert_eq!(keys, expect, "what is kept is a prefix of what was written");
            let after = client.put(put("later", "v")).await.expect("a put");
            assert_eq!(revision(after.header.as_ref()), kept.count + 2);
            kept.count
        });
        member.kill();
        let text = member.log_text();
        let verdict = text
            .lines()
            .find(|line| line.contains("the log is intact") || line.contains("torn by a crash"));
        (kept, verdict.unwrap_or_default().to_owned())
    }

    /// The member refuses to start, in one sentence.
    fn refuses(&self) -> String {
        let before = contents(&self.folder.path.join("data/ringbolt/wal"));
        let mut member = Member::launch(&self.folder.path, &self.ports, &[SEGMENTS]);
        let status = member.wait(STOP_LIMIT);
        assert_eq!(status.code(), Some(1), "{}", member.log_text());
        let after = contents(&self.folder.path.join("data/ringbolt/wal"));
        assert_eq!(before, after, "a refused log is left as it is");
        member.fatal_line()
    }
}

/// Names and checksums of all files below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (usize, u32)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                found.insert(path, (bytes.len(), crc32c::crc32c(&bytes)));
            }
        }
    }
    found
}

fn flip(frame: &Frame, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(&frame.file).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, frame.offset + at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], frame.offset + at).expect("a write");
}

fn zero(frame: &Frame) {
    let file = fs::OpenOptions::new().write(true).open(&frame.file).expect("a file");
    let zeros = vec![0; usize::try_from(frame.len).expect("a frame fits memory")];
    file.write_all_at(&zeros, frame.offset).expect("a write");
}

fn truncate(frame: &Frame, at: u64) {
    let file = fs::OpenOptions::new().write(true).open(&frame.file).expect("a file");
    file.set_len(frame.offset + at).expect("a truncation");
}

#[test]
fn a_log_that_nothing_happened_to_is_intact() {
    for stamp in [Stamp::Before, Stamp::After] {
        let (kept, verdict) = Wreck::new(stamp).starts();
        assert_eq!(kept, PUTS, "{stamp:?}");
        assert!(verdict.contains("the log is intact"), "{stamp:?}: {verdict}");
    }
}

#[test]
fn the_last_frame_damaged_before_its_stamp_counts_as_torn() {
    type Damage = fn(&Frame);
    let cases: [(&str, Damage, &str); 5] = [
        ("a bit of the payload", |frame| flip(frame, 9_000), "torn by a crash"),
        ("a bit of the header", |frame| flip(frame, 50), "torn by a crash"),
        ("the file ends in the frame", |frame| truncate(frame, 4_096), "torn by a crash"),
        ("the file ends inside a block", |frame| truncate(frame, 5_000), "torn by a crash"),
        ("nothing of it was written", zero, "the log is intact"),
    ];
    for (name, damage, expect) in cases {
        let wreck = Wreck::new(Stamp::Before);
        damage(wreck.entries().last().expect("an entry"));
        let (kept, verdict) = wreck.starts();
        assert_eq!(kept, PUTS - 1, "{name}");
        assert!(verdict.contains(expect), "{name}: {verdict}");
        // What was discarded stays discarded, and what was written since is kept.
        let mut member = Member::start(&wreck.folder.path, &wreck.ports, &[SEGMENTS]);
        let later =
            run(async { member.client().await.range(get("later")).await.expect("a range").count });
        assert_eq!(later, 1, "{name}");
        member.kill();
    }
}

#[test]
fn what_was_witnessed_as_durable_is_refused_when_damaged() {
    type Damage = fn(&Frame);
    let cases: [(&str, Damage); 3] = [
        ("a bit of the payload", |frame| flip(frame, 9_000)),
        ("a bit of the header", |frame| flip(frame, 50)),
        ("a lost write", zero),
    ];
    for (name, damage) in cases {
        // The last entry behind which a stamp stands, and one in the middle without any stamp.
        for (stamp, from_end) in [(Stamp::After, 0), (Stamp::Before, 5)] {
            let wreck = Wreck::new(stamp);
            let entries = wreck.entries();
            let frame = entries[entries.len() - 1 - from_end];
            let whole = fs::read(&frame.file).expect("a segment");
            damage(frame);
            let line = wreck.refuses();
            assert!(line.contains("is refused"), "{name}, {stamp:?}: {line}");
            // Nothing was touched: with the bytes back in their place all is there.
            fs::write(&frame.file, whole).expect("a segment");
            assert_eq!(wreck.starts().0, PUTS, "{name}, {stamp:?}");
        }
    }
}

#[test]
fn a_damaged_stamp_costs_nothing() {
    let wreck = Wreck::new(Stamp::After);
    flip(wreck.frames.last().expect("a stamp"), 100);
    assert_eq!(wreck.starts().0, PUTS);
}

#[test]
fn a_log_that_is_gone_is_refused() {
    let wreck = Wreck::new(Stamp::After);
    let log = wreck.folder.path.join("data/ringbolt/wal");
    let aside = wreck.folder.path.join("aside");
    fs::rename(&log, &aside).expect("a rename");
    fs::create_dir(&log).expect("a folder");
    let line = wreck.refuses();
    assert!(!line.is_empty(), "a store that lost its log began anew");
    fs::remove_dir(&log).expect("an empty folder");
    fs::rename(&aside, &log).expect("a rename");
    assert_eq!(wreck.starts().0, PUTS);
}

#[test]
fn a_page_file_that_is_gone_or_of_another_member_is_refused() {
    let wreck = Wreck::new(Stamp::After);
    let file = wreck.folder.path.join("data/ringbolt/shards/0.pages");
    let whole = fs::read(&file).expect("a page file");
    fs::remove_file(&file).expect("a removal");
    let line = wreck.refuses();
    assert!(line.contains("shards/0.pages is gone"), "{line}");
    fs::write(&file, [7; 16 << 10]).expect("a page file");
    let line = wreck.refuses();
    assert!(line.contains("is refused: shards/0.pages"), "{line}");
    fs::write(&file, whole).expect("a page file");
    assert_eq!(wreck.starts().0, PUTS);
}

// --- processes --------------------------------------------------------------------------------

#[test]
fn a_second_process_is_refused() {
    let folder = Folder::new("second");
    let first = Member::start(&folder.path, &Ports::free(), &[SEGMENTS]);
    let mut second = Member::launch(&folder.path, &Ports::free(), &[SEGMENTS]);
    let status = second.wait(STOP_LIMIT);
    assert_eq!(status.code(), Some(1), "{}", second.log_text());
    let line = second.fatal_line();
    assert!(line.contains("another process") || line.contains("in use"), "{line}");
    run(async { first.client().await.put(put("k", "v")).await.expect("the first goes on") });
}

#[test]
fn sigterm_ends_cleanly_and_a_restart_follows_at_once() {
    let folder = Folder::new("sigterm");
    let ports = Ports::free();
    for round in 0..3_i64 {
        let mut member = Member::start(&folder.path, &ports, &[SEGMENTS]);
        // Connections with calls under way are open when the signal comes.
        let status = run(async {
            let client = member.client().await;
            let kept = client.range(list("k", "l")).await.expect("a range");
            assert_eq!(kept.count, round, "every round finds what those before it wrote");
            let watched = pb::WatchCreateRequest { key: bytes("k"), ..Default::default() };
            let mut watch = client.watch(watched).await.expect("a watch");
            assert!(watch.next().await.created);
            client.put(put(&format!("k{round}"), "v")).await.expect("a put");
            member.signal("TERM");
            member.wait(STOP_LIMIT)
        });
        assert_eq!(status.signal(), Some(15), "it ends by the signal: {status:?}");
        let text = member.log_text();
        assert!(text.contains("received signal; shutting down"), "{text}");
        let expect = if round == 0 { "made a new data directory" } else { "the log is intact" };
        assert!(text.contains(expect), "{text}");
        assert!(frames(&folder.path).last().expect("frames").is_stamp, "a clean stop stamps");
    }
}

/// Numbers of the kernel that the filter below needs.
const SYS_IO_URING_SETUP: u32 = 425;
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Makes `io_uring_setup` fail with EPERM, as a container's seccomp profile does.
fn deny_io_uring() -> std::io::Result<()> {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let mut filter = [
        // The number of the system call is the first word.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYS_IO_URING_SETUP, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: both calls take numbers and a program that lives through them.
    #[expect(unsafe_code, reason = "std cannot install a filter")]
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Leaves 64 KiB of lockable memory and takes the right to lock more.
fn deny_memory() -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: the calls take numbers and a limit that lives through them. The first fails for
    // whoever has no such right to lose.
    #[expect(unsafe_code, reason = "std cannot set limits")]
    let failed = unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn a_kernel_that_denies_gives_one_sentence() {
    type Deny = fn() -> std::io::Result<()>;
    let cases: [(Deny, &[&str]); 2] = [
        (deny_io_uring, &["io_uring is denied to this process", "seccomp"]),
        (deny_memory, &["LimitMEMLOCK="]),
    ];
    for (deny, expect) in cases {
        let folder = Folder::new("denied");
        let ports = Ports::free();
        let (mut command, log) = member::command(&folder.path, &ports, &[SEGMENTS]);
        // SAFETY: the closure makes system calls alone; it allocates nothing and takes no lock.
        #[expect(unsafe_code, reason = "the child limits itself before it becomes the server")]
        let child = unsafe { command.pre_exec(deny) }.spawn().expect("the binary runs");
        let mut member = Member { child, ports, log };
        let status = member.wait(STOP_LIMIT);
        assert_eq!(status.code(), Some(1), "{}", member.log_text());
        let line = member.fatal_line();
        for part in expect {
            assert!(line.contains(part), "{line}");
        }
        assert!(!folder.path.join("data").exists(), "nothing was created before the refusal");
    }
}

// --- a real etcd ------------------------------------------------------------------------------

fn etcd() -> Option<PathBuf> {
    let given = std::env::var_os("ETCD_BIN").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/go/bin/etcd");
    let found = given.unwrap_or(built);
    if found.exists() {
        return Some(found);
    }
    eprintln!("!!! SKIPPED: no real etcd: set ETCD_BIN or build tests/go/bin/etcd");
    None
}

/// A real etcd over `data`, its output thrown away.
fn start_etcd(binary: &Path, data: &Path, ports: &Ports) -> std::process::Child {
    let (client, peer) = (format!("http://{}", ports.client), format!("http://{}", ports.peer));
    Command::new(binary)
        .env_clear()
        .arg("--data-dir")
        .arg(data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd runs")
}

#[test]
fn the_directory_of_a_real_etcd_is_refused_and_left_alone() {
    let Some(binary) = etcd() else { return };
    let folder = Folder::new("theirs");
    let ports = Ports::free();
    let data = folder.path.join("data");
    let mut theirs = start_etcd(&binary, &data, &ports);
    // Its port is open before its directory is there; a write needs both.
    run(async {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "etcd does not serve");
            if let Ok(client) = Client::connect(&ports.client).await
                && client.put(put("k", "theirs")).await.is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    theirs.kill().expect("a child that runs");
    theirs.wait().expect("a child");
    let before = contents(&data);
    let mut ours = Member::launch(&folder.path, &ports, &[SEGMENTS]);
    assert_eq!(ours.wait(STOP_LIMIT).code(), Some(1), "{}", ours.log_text());
    let line = ours.fatal_line();
    assert!(line.contains("is the data directory of an etcd"), "{line}");
    assert_eq!(contents(&data), before, "nothing in it was touched");
}

#[test]
fn a_real_etcd_refuses_our_directory_and_leaves_it_alone() {
    let Some(binary) = etcd() else { return };
    let folder = Folder::new("ours");
    let ports = Ports::free();
    let mut ours = Member::start(&folder.path, &ports, &[SEGMENTS]);
    run(async { ours.client().await.put(put("k", "v")).await.expect("a put") });
    ours.signal("TERM");
    ours.wait(STOP_LIMIT);
    let data = folder.path.join("data");
    let before = contents(&data);
    let mut theirs = start_etcd(&binary, &data, &ports);
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = theirs.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() >= deadline {
            theirs.kill().expect("a child that runs");
            theirs.wait().expect("a child");
            panic!("a real etcd runs on our directory");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!status.success(), "etcd ended well on our directory");
    assert_eq!(contents(&data), before, "nothing of ours was touched");
    let ours = Member::start(&folder.path, &ports, &[SEGMENTS]);
    let kept = run(async { ours.client().await.range(get("k")).await.expect("a range") });
    assert_eq!(kept.count, 1);
}
