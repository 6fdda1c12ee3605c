//! `ringbolt utl reshard` on the stores of real processes: everything is what it was, whether a
//! run ends or is killed, and a server that runs is left alone.

#![allow(clippy::disallowed_methods, reason = "a test waits in real time")]
#![allow(clippy::print_stderr, reason = "what was counted is to be read")]

mod member;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use member::{
    Client, Folder, Member, Ports, all_shown, binary, bytes, delete, event_shown, get, list, put,
    revision, run,
};
use pb::request_op::Request as Op;
use ringbolt::base::prng::Prng;
use ringbolt::wire::etcdserverpb as pb;

/// Small segments and many checkpoints, so that a store is in many places.
const FLAGS: [&str; 2] = ["--wal-segment-bytes=8388608", "--checkpoint-records=700"];

fn start(folder: &Folder, ports: &Ports, shards: &str) -> Member {
    // What the directory says counts, once it is made.
    let shards = format!("--shards={shards}");
    Member::start(&folder.path, ports, &[FLAGS[0], FLAGS[1], &shards])
}

fn utl(folder: &Folder, shards: u16) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().args(["utl", "reshard", "--shards", &shards.to_string(), "--data-dir"]);
    command.arg(folder.path.join("data")).stdin(Stdio::null());
    command
}

fn ended(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn names(folder: &Folder, tail: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder.path.join("data/ringbolt").join(tail)).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

fn txn(puts: Vec<pb::PutRequest>) -> pb::TxnRequest {
    let ops = puts.into_iter().map(|put| pb::RequestOp { request: Some(Op::RequestPut(put)) });
    pb::TxnRequest { success: ops.collect(), ..Default::default() }
}

async fn grant(client: &Client) {
    for id in 1..=8 {
        client.grant(id, 300 + id).await.expect("a lease");
    }
}

/// Writers side by side, so that several lanes of the log are written to.
async fn write(client: &Client, seed: u64, rounds: u64) {
    let mut writers = Vec::new();
    for writer in 0..12 {
        let client = client.clone();
        writers.push(tokio::spawn(async move {
            let mut prng = Prng::new(seed << 8 | writer);
            for round in 0..rounds {
                let key = |number: u64| format!("w/{writer:02}/{number:03}");
                let value = |prng: &mut Prng| {
                    format!("{seed} {round} {}", "x".repeat(prng.below(900) as usize))
                };
                let lease = if prng.percent(30) { 1 + prng.below(8) as i64 } else { 0 };
                let first =
                    pb::PutRequest { lease, ..put(&key(prng.below(90)), &value(&mut prng)) };
                match prng.below(10) {
                    0 => {
                        let from = prng.below(90);
                        let delete = delete(&key(from), &key(from + 3));
                        drop(client.delete(delete).await.expect("a delete"));
                    }
                    1..4 => {
                        let second = put(&format!("w/{writer:02}/pair"), &value(&mut prng));
                        drop(client.txn(txn(vec![first, second])).await.expect("a txn"));
                    }
                    _ => drop(client.put(first).await.expect("a put")),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.expect("a writer");
    }
}

async fn hash_kv(client: &Client, revision: i64) -> pb::HashKvResponse {
    let request = pb::HashKvRequest { revision };
    client.unary("/etcdserverpb.Maintenance/HashKV", request).await.expect("a hash")
}

/// What clients are told of a store: now, in the past, of its leases.
async fn picture(client: &Client, compact: i64) -> Vec<String> {
    let all = list("\0", "\0");
    let now = client.range(all.clone()).await.expect("a list");
    let newest = revision(now.header.as_ref());
    let mut told = vec![format!("{newest}: {} of {}", all_shown(&now.kvs), now.count)];
    for at in [compact, (2 * compact + newest) / 3, (compact + newest) / 2, newest] {
        let hash = hash_kv(client, at).await;
        told.push(format!("hash {} at {at} behind {}", hash.hash, hash.compact_revision));
        let count = pb::RangeRequest { count_only: true, revision: at, ..all.clone() };
        told.push(format!("count {}", client.range(count).await.expect("a count").count));
        let old = pb::RangeRequest { revision: at, limit: 150, ..list("w/03/", "w/07/") };
        told.push(all_shown(&client.range(old).await.expect("an old list").kvs));
    }
    let leases: pb::LeaseLeasesResponse = client
        .unary("/etcdserverpb.Lease/LeaseLeases", pb::LeaseLeasesRequest {})
        .await
        .expect("leases");
    let mut ids: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    for id in ids {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let left: pb::LeaseTimeToLiveResponse =
            client.unary("/etcdserverpb.Lease/LeaseTimeToLive", request).await.expect("a lease");
        let spent = left.granted_ttl - left.ttl;
        assert!((-3..60).contains(&spent), "a start gives a lease its whole time: {left:?}");
        told.push(format!("lease {id}: {} s, {:?}", left.granted_ttl, left.keys));
    }
    let alarms = pb::AlarmRequest::default();
    let alarms: pb::AlarmResponse =
        client.unary("/etcdserverpb.Maintenance/Alarm", alarms).await.expect("alarms");
    told.push(format!("{:?}", alarms.alarms));
    let lost = pb::RangeRequest { revision: compact - 1, ..all };
    told.push(client.range(lost).await.expect_err("compacted").message().to_owned());
    told
}

/// Every event from a revision on, with what was there before.
async fn watched(client: &Client, start_revision: i64) -> Vec<String> {
    let newest = client.range(get("w")).await.expect("a range");
    let newest = revision(newest.header.as_ref());
    let all = pb::WatchCreateRequest {
        key: bytes("w"),
        range_end: bytes("x"),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    let mut watch = client.watch(all).await.expect("a watch");
    assert!(watch.next().await.created);
    let (mut told, mut at) = (Vec::new(), 0);
    while at < newest {
        for event in &watch.next().await.events {
            at = event.kv.as_ref().expect("a key").mod_revision;
            told.push(event_shown(event));
        }
    }
    told
}

#[test]
fn everything_is_what_it_was() {
    let folder = Folder::new("reshard");
    let ports = Ports::free();
    let mut member = start(&folder, &ports, "1");
    let (mut before, mut events, compact) = run(async {
        let client = member.client().await;
        grant(&client).await;
        write(&client, 1, 120).await;
        let compact = revision(client.put(put("w/now", "1")).await.expect("a put").header.as_ref());
        client.compact(compact).await.expect("a compaction");
        write(&client, 2, 60).await;
        let raise = pb::AlarmRequest { action: 1, member_id: 5, alarm: 1 };
        let raised: pb::AlarmResponse =
            client.unary("/etcdserverpb.Maintenance/Alarm", raise).await.expect("an alarm");
        assert_eq!(raised.alarms.len(), 1);
        (picture(&client, compact).await, watched(&client, compact).await, compact)
    });
    let link = folder.path.join("etcdutl");
    symlink(binary(), &link).expect("a name");
    for (was, shards) in [(1, 4), (4, 2), (2, 3)] {
        member.kill();
        let mut command = utl(&folder, shards);
        if shards == 2 {
            // By the other name.
            command = Command::new(&link);
            command.env_clear().arg("reshard").arg(format!("--shards={shards}"));
            command.arg(format!("--data-dir={}", folder.path.join("data").display()));
        }
        let (code, out, err) = ended(command);
        assert_eq!(code, 0, "{out}{err}");
        let data = folder.path.join("data");
        let now = format!("{} has {shards} shards now, where it had {was} shard", data.display());
        assert!(out.starts_with(&now) && out.lines().count() == 1, "{out}");
        assert!(err.lines().all(|line| line.contains(" % ") || line.contains("the log")), "{err}");
        let files: BTreeSet<String> = (0..shards).map(|shard| format!("{shard}.pages")).collect();
        assert_eq!(names(&folder, "shards"), files);
        let left = names(&folder, "");
        assert!(!left.iter().any(|name| name.starts_with("reshard-")), "{left:?}");
        // Once more is nothing to do.
        let (code, out, err) = ended(utl(&folder, shards));
        let same = format!("{} has {shards} shards already: nothing to do\n", data.display());
        assert_eq!((code, &*out, &*err), (0, &*same, ""));

        member = start(&folder, &ports, "1");
        assert!(member.has_logged(&format!("\"shards\":{shards}")), "{}", member.log_text());
        (before, events) = run(async {
            let client = member.client().await;
            assert!(picture(&client, compact).await == before, "{was} to {shards} shards");
            assert!(watched(&client, compact).await == events, "{was} to {shards} shards");
            let lift = pb::AlarmRequest { action: 2, member_id: 5, alarm: 1 };
            let lifted: Result<pb::AlarmResponse, _> =
                client.unary("/etcdserverpb.Maintenance/Alarm", lift).await;
            drop(lifted.expect("no alarm"));
            write(&client, 10 + u64::from(shards), 40).await;
            (picture(&client, compact).await, watched(&client, compact).await)
        });
    }
    lanes_are_given_up(&folder, &member, 3);
}

/// Lanes that no shard has any more go with the next checkpoints.
fn lanes_are_given_up(folder: &Folder, member: &Member, shards: u16) {
    let is_kept = |name: &String| {
        let lane = name.split_once('-').and_then(|(lane, _)| lane.parse::<u16>().ok());
        lane.is_some_and(|lane| lane < shards)
    };
    run(async {
        let client = member.client().await;
        for seed in 100..130 {
            if names(folder, "wal").iter().all(is_kept) {
                return;
            }
            write(&client, seed, 60).await;
        }
        panic!("lanes of other shards are left: {:?}", names(folder, "wal"));
    });
}

/// Keys with values that do not compress: some tens of megabytes.
async fn fill(client: &Client) {
    let mut prng = Prng::new(3);
    for round in 0..60 {
        let puts = (0..100).map(|number| pb::PutRequest {
            key: bytes(&format!("w/{:05}", round * 100 + number)),
            value: (0..750).flat_map(|_| prng.next_u64().to_le_bytes()).collect(),
            ..Default::default()
        });
        client.txn(txn(puts.collect())).await.expect("a txn");
    }
}

#[test]
fn a_run_that_is_killed_leaves_the_store_whole() {
    let folder = Folder::new("reshard-killed");
    let ports = Ports::free();
    let mut member = start(&folder, &ports, "1");
    let newest = run(async {
        let client = member.client().await;
        fill(&client).await;
        hash_kv(&client, 0).await
    });
    member.kill();
    let (mut cut, mut ends, mut cleared, mut shards, mut prng) = (0, 0, 0, 1, Prng::new(9));
    let mut delay_ms = 20;
    while cut < 8 || ends < 2 {
        let to = if shards == 1 { 4 } else { 1 };
        let mut command = utl(&folder, to);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
        std::thread::sleep(Duration::from_millis(delay_ms / 2 + prng.below(delay_ms)));
        let is_over = child.try_wait().expect("a child").is_some();
        // It may be over by now.
        let _ = child.kill();
        let status = child.wait().expect("a child");
        let left = names(&folder, "");
        let is_left = left.iter().any(|name| name.starts_with("reshard-"));
        if status.success() {
            assert!(!is_left, "{left:?}");
            (ends, shards) = (ends + 1, to);
            // The next ones are to be cut again.
            delay_ms = 20;
        } else {
            assert!(!is_over, "it ended by itself: {status}");
            cut += 1;
            delay_ms += delay_ms / 4;
        }
        // A start clears up, or the next run.
        if prng.percent(50) {
            member = start(&folder, &ports, "9");
            if is_left {
                let log = member.log_text();
                assert!(log.contains("ringbolt/reshard-"), "{log}");
                cleared += 1;
            }
            let now = names(&folder, "shards").len();
            assert!(now == 1 || now == 4, "{now} page files");
            shards = u16::try_from(now).expect("few");
            let hash = run(async { hash_kv(&member.client().await, 0).await });
            assert_eq!((hash.hash, hash.hash_revision), (newest.hash, newest.hash_revision));
            member.kill();
            let left = names(&folder, "");
            assert!(!left.iter().any(|name| name.starts_with("reshard-")), "{left:?}");
        }
    }
    eprintln!("{cut} runs were killed, {ends} ended; a start cleared up {cleared} times");
    assert!(cleared > 0, "no start found anything left");
}

#[test]
fn a_run_beside_a_server_is_refused() {
    let folder = Folder::new("reshard-refused");
    let member = start(&folder, &Ports::free(), "2");
    run(async {
        member.client().await.put(put("w", "1")).await.expect("a put");
    });
    let before = (names(&folder, ""), names(&folder, "shards"));
    let (code, out, err) = ended(utl(&folder, 3));
    let data = folder.path.join("data");
    let why = format!("Error: {} is in use by process {}\n", data.display(), member.child.id());
    assert_eq!((code, &*out, err), (1, "", why));
    assert_eq!((names(&folder, ""), names(&folder, "shards")), before);
    run(async {
        let found = member.client().await.range(get("w")).await.expect("a range");
        assert_eq!(found.count, 1);
    });
}

#[test]
fn a_store_that_was_never_served_has_another_number_of_shards_too() {
    let folder = Folder::new("reshard-new");
    // A busy port ends the server behind the making of its directory.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = taken.local_addr().expect("an address").to_string();
    let ports = Ports { client, ..Ports::free() };
    let mut member = Member::launch(&folder.path, &ports, &["--shards=2"]);
    assert_eq!(member.wait(member::STOP_LIMIT).code(), Some(1));
    let (code, out, err) = ended(utl(&folder, 5));
    assert_eq!(code, 0, "{out}{err}");
    let member = start(&folder, &Ports::free(), "2");
    run(async {
        let put = member.client().await.put(put("w", "1")).await.expect("a put");
        assert_eq!(revision(put.header.as_ref()), 2);
    });
    assert_eq!(names(&folder, "shards").len(), 5);
}

#[test]
fn damage_is_named_and_changes_nothing() {
    let folder = Folder::new("reshard-damaged");
    let ports = Ports::free();
    let mut member = start(&folder, &ports, "1");
    run(async {
        let client = member.client().await;
        grant(&client).await;
        write(&client, 1, 100).await;
    });
    member.kill();
    let file = folder.path.join("data/ringbolt/shards/0.pages");
    let whole = fs::read(&file).expect("a page file");
    // Every page begins with its name, and says which checkpoint wrote it. Those of the newest one
    // that has a superblock are all in use.
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().expect("8 bytes"));
    let superblocks = [0, 2 * 4096].into_iter().filter(|at| whole[*at..].starts_with(b"RINGSUPR"));
    let newest = superblocks.map(|at| number(at + 64)).max().expect("a checkpoint");
    let pages: Vec<usize> = (4..whole.len() / 4096)
        .map(|unit| unit * 4096)
        .filter(|at| whole[*at..].starts_with(b"RINGPAGE") && number(at + 32) == newest)
        .collect();
    let mut refused = 0;
    for at in pages.iter().take(6) {
        let mut bytes = whole.clone();
        bytes[at + 100] ^= 1;
        fs::write(&file, &bytes).expect("a page file");
        let (code, out, err) = ended(utl(&folder, 2));
        if code == 0 {
            // Nobody needed that page; the store is another one from here on.
            break;
        }
        refused += 1;
        let last = err.lines().last().unwrap_or_default();
        let parts = ["Error: ", "shards/0.pages", "is damaged: "];
        let is_said = parts.iter().all(|part| last.contains(part));
        assert!((code, &*out) == (1, "") && is_said, "{code} {out} {err}");
        check_whole(&folder);
    }
    assert!(refused > 0, "no page was needed");
}

fn check_whole(folder: &Folder) {
    let left = names(folder, "");
    assert!(!left.iter().any(|name| name.starts_with("reshard-")), "{left:?}");
    assert_eq!(names(folder, "shards").len(), 1);
    let identity = folder.path.join(Path::new("data/ringbolt/identity"));
    assert!(fs::read_to_string(identity).expect("text").contains("\nshards 1\n"));
}
