//! Directories in every state that a crash, a person or a real etcd can leave them in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// A folder that is gone at the end of the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("ringbolt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a scratch folder");
        Scratch(path)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn write(&self, tail: &str, bytes: &[u8]) {
        let path = self.data().join(tail);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn member() -> NewMember {
    let peer_urls = vec!["http://localhost:2380".to_owned()];
    NewMember { cluster_id: 1, member_id: 2, peer_urls, shards: 3 }
}

pub(super) fn open(root: &Path) -> Result<DataDir, String> {
    DataDir::open(root, || Ok(member()))
}

/// Every file and folder with what must not change about it.
pub(super) fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let mode = fs::symlink_metadata(&path).expect("metadata").mode();
            let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).expect("a file") };
            if path.is_dir() {
                folders.push(path.clone());
            }
            all.insert(path, (mode, bytes));
        }
    }
    all
}

#[test]
fn a_new_directory_is_made_closed_and_opens_again_as_the_same() {
    let scratch = Scratch::new("new");
    let root = scratch.data().join("deep/er");
    let first = open(&root).expect("a new directory");
    assert!(first.is_new && first.warnings.is_empty());
    assert_eq!(first.identity.member, member());
    assert!(first.wal().is_dir());
    for shard in 0..3 {
        let file = fs::read(first.shards().join(format!("{shard}.pages"))).expect("a page file");
        assert_eq!(file, [0; HEAD_BYTES]);
    }
    assert_eq!(fs::read_dir(first.shards()).expect("a folder").count(), 3);
    for (path, (mode, _)) in picture(&scratch.0) {
        let expect = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o777, expect, "{}", path.display());
    }
    let identity = first.identity.clone();
    drop(first);
    let asked = Cell::new(false);
    let again = DataDir::open(&root, || {
        asked.set(true);
        Ok(member())
    });
    let again = again.expect("the same directory");
    assert!(!again.is_new && !asked.get());
    assert_eq!(again.identity, identity);
}

#[test]
fn an_empty_directory_is_taken_and_closed_and_strangers_are_named() {
    let scratch = Scratch::new("empty");
    scratch.write("notes.txt", b"hello");
    fs::set_permissions(scratch.data(), Permissions::from_mode(0o755)).expect("a mode");
    let dir = open(&scratch.data()).expect("taken");
    assert_eq!(dir.warnings, ["found invalid file under data directory: notes.txt"]);
    let mode = fs::metadata(scratch.data()).expect("metadata").mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn two_random_identities_differ() {
    let (a, b) = (Scratch::new("rand-a"), Scratch::new("rand-b"));
    let (a, b) = (open(&a.data()).expect("one"), open(&b.data()).expect("two"));
    assert_ne!(a.identity.data_dir_id, b.identity.data_dir_id);
    assert_ne!(a.identity.key_hash_seed, b.identity.key_hash_seed);
}

#[test]
fn a_second_process_is_kept_out_and_told_by_whom() {
    let scratch = Scratch::new("lock");
    let held = open(&scratch.data()).expect("the first");
    let why = open(&scratch.data()).expect_err("the second");
    let own = format!("is in use by process {}", std::process::id());
    assert!(why.ends_with(&own), "{why}");
    drop(held);
    open(&scratch.data()).expect("free again, though the lock file still stands");
}

#[test]
fn the_new_member_is_refused_before_anything_is_created() {
    let scratch = Scratch::new("refused");
    let why = DataDir::open(&scratch.data(), || Err("no such group".to_owned()));
    assert_eq!(why.map(|_| ()), Err("no such group".to_owned()));
    assert!(!scratch.data().exists());
}

#[test]
fn foreign_directories_are_refused_and_not_touched() {
    let mut bolt = vec![0; 8192];
    bolt[16..20].copy_from_slice(&BOLT_MAGIC);
    let mut torn_bolt = vec![0; 8192];
    torn_bolt[4112..4116].copy_from_slice(&BOLT_MAGIC);
    let cases: [(&str, &[u8], &str); 8] = [
        ("member/snap/db", &bolt, "is a bolt file"),
        ("member/snap/db", &torn_bolt, "is a bolt file"),
        ("member/snap/db", b"something", "neither a bolt file nor Ringbolt's"),
        ("member/wal/0000000000000000-0000000000000000.wal", b"", "is a log of etcd"),
        ("member/snap/0000000000000002-0000000000000007.snap", b"", "is a snapshot of etcd"),
        ("proxy/cluster", b"", "a folder \"proxy\""),
        ("ringbolt/wal/0-0", b"x", "holds a log and no identity"),
        ("ringbolt/shards/1.pages", b"\0\0x", "holds page files and no identity"),
    ];
    for (index, (tail, bytes, expect)) in cases.into_iter().enumerate() {
        let scratch = Scratch::new(&format!("foreign-{index}"));
        scratch.write(tail, bytes);
        let before = picture(&scratch.0);
        let why = open(&scratch.data()).expect_err(tail);
        assert!(why.contains(expect), "{why}");
        assert_eq!(picture(&scratch.0), before, "{tail}");
    }
}

#[test]
fn a_half_made_directory_is_finished() {
    let whole = Scratch::new("half-whole");
    drop(open(&whole.data()).expect("a directory"));
    // What a crash may leave, in the order in which it is made.
    let steps = [
        "ringbolt/",
        "ringbolt/lock",
        "ringbolt/wal/",
        "ringbolt/shards/",
        "member/",
        "member/wal/",
        "member/snap/",
        "member/snap/db.tmp",
        "member/snap/db",
        "ringbolt/shards/0.pages",
        "ringbolt/identity.tmp",
    ];
    for count in 0..=steps.len() {
        let scratch = Scratch::new(&format!("half-{count}"));
        fs::create_dir(scratch.data()).expect("the directory");
        for step in &steps[..count] {
            let path = scratch.data().join(step);
            match step.strip_suffix('/') {
                Some(_) => fs::create_dir(path).expect("a folder"),
                None if step.ends_with("snap/db") => fs::write(path, DECOY).expect("the decoy"),
                None if step.ends_with(".pages") => fs::write(path, [0; 7]).expect("zeros"),
                None => fs::write(path, "torn").expect("a file"),
            }
        }
        let dir = open(&scratch.data()).unwrap_or_else(|why| panic!("{count}: {why}"));
        assert!(dir.is_new, "{count}");
        let length = fs::metadata(dir.shards().join("0.pages")).expect("a page file").len();
        assert_eq!(length, HEAD_BYTES as u64, "{count}");
        drop(dir);
        assert!(!open(&scratch.data()).expect("complete").is_new);
    }
}

#[test]
fn what_was_lost_is_not_begun_anew() {
    let scratch = Scratch::new("lost");
    let lose: [(&str, &str); 5] = [
        ("ringbolt", "its folder \"ringbolt\" is gone"),
        ("ringbolt/wal", "ringbolt/wal is gone"),
        ("ringbolt/shards", "ringbolt/shards is gone"),
        ("ringbolt/shards/2.pages", "ringbolt/shards/2.pages is gone"),
        ("ringbolt/identity", "holds a log and no identity"),
    ];
    for (tail, expect) in lose {
        let _ = fs::remove_dir_all(scratch.data());
        let dir = open(&scratch.data()).expect("a directory");
        fs::write(dir.wal().join("segment"), b"x").expect("a segment");
        drop(dir);
        let path = scratch.data().join(tail);
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("lost");
        } else {
            fs::remove_file(&path).expect("lost");
        }
        let why = open(&scratch.data()).expect_err(tail);
        assert!(why.contains(expect), "{why}");
    }
}

#[test]
fn a_damaged_or_newer_identity_is_refused_and_kept() {
    let scratch = Scratch::new("identity");
    drop(open(&scratch.data()).expect("a directory"));
    let path = scratch.data().join("ringbolt/identity");
    let good = fs::read_to_string(&path).expect("the identity");
    let cases = [
        (good.replace("shards 3", "shards 4"), "is damaged"),
        (good.replace("format 1", "format 9"), "has format 9"),
        (String::new(), "no identity file"),
    ];
    for (text, expect) in cases {
        fs::write(&path, &text).expect("written");
        let why = open(&scratch.data()).expect_err(expect);
        assert!(why.contains(expect) && why.contains("ringbolt/identity"), "{why}");
        assert_eq!(fs::read_to_string(&path).expect("kept"), text);
    }
}

#[test]
fn what_a_person_removed_by_mistake_is_put_back() {
    let scratch = Scratch::new("decoy");
    drop(open(&scratch.data()).expect("a directory"));
    fs::remove_dir_all(scratch.data().join("member")).expect("removed");
    drop(open(&scratch.data()).expect("opens"));
    let decoy = fs::read_to_string(scratch.data().join("member/snap/db")).expect("the decoy");
    assert_eq!(decoy, DECOY);
}

#[test]
fn paths_that_are_no_directory_are_refused() {
    let scratch = Scratch::new("paths");
    fs::write(scratch.data(), b"a file").expect("a file");
    assert!(open(&scratch.data()).is_err());
    let link = scratch.0.join("link");
    fs::create_dir(scratch.0.join("target")).expect("a folder");
    symlink(scratch.0.join("target"), &link).expect("a link");
    open(&link).expect("a link to a folder is a folder");
    assert!(open(Path::new("/proc/self/nothing")).expect_err("no folder").contains("cannot make"));
}

/// Runs the etcd that ETCD_BIN names on `root` until it exits, at most `seconds`.
#[expect(clippy::disallowed_methods, reason = "a test that waits for another process")]
fn run_etcd(binary: &str, scratch: &Scratch, seconds: u64) -> (Option<i32>, String) {
    let log = scratch.0.join("etcd.log");
    let file = File::create(&log).expect("a log");
    let mut child = Command::new(binary)
        .arg("--data-dir")
        .arg(scratch.data())
        .args(["--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0"])
        .arg("--advertise-client-urls=http://127.0.0.1:1")
        .stderr(file)
        .spawn()
        .expect("etcd starts");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut code = None;
    while code.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        code = child.try_wait().expect("its status").map(|status| status.code().unwrap_or(-1));
    }
    let _ = child.kill();
    let _ = child.wait();
    (code, fs::read_to_string(log).expect("its log"))
}

#[test]
#[ignore = "needs a real etcd in ETCD_BIN"]
fn a_real_etcd_refuses_our_directory_and_we_refuse_its() {
    let binary = std::env::var("ETCD_BIN").expect("ETCD_BIN names an etcd");
    let ours = Scratch::new("etcd-ours");
    let dir = open(&ours.data()).expect("a directory");
    fs::write(dir.wal().join("segment"), b"acknowledged").expect("a segment");
    drop(dir);
    let before = picture(&ours.data());
    let (code, log) = run_etcd(&binary, &ours, 20);
    assert!(code.is_some_and(|code| code != 0), "it ran on: {log}");
    assert_eq!(picture(&ours.data()), before, "{log}");
    open(&ours.data()).expect("ours is unharmed");

    let theirs = Scratch::new("etcd-theirs");
    let (code, log) = run_etcd(&binary, &theirs, 5);
    assert_eq!(code, None, "it should have run on: {log}");
    let before = picture(&theirs.data());
    let why = open(&theirs.data()).expect_err("an etcd's");
    assert!(why.contains("is the data directory of an etcd"), "{why}");
    assert_eq!(picture(&theirs.data()), before);
}
