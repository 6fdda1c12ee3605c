//! Directories in every state that a reshard can leave behind.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::tests::{Scratch, open, picture};
use super::*;

/// A directory of three shards whose page files are written, and what is in them.
fn store(scratch: &Scratch) -> DataDir {
    let dir = open(&scratch.data()).expect("a directory");
    fill(&dir.shards(), 3, "old");
    dir
}

fn fill(folder: &Path, shards: u16, what: &str) {
    for shard in 0..shards {
        fs::write(folder.join(format!("{shard}.pages")), format!("{what} {shard}"))
            .expect("a file");
    }
}

fn contents(dir: &DataDir) -> Vec<String> {
    let shards = 0..dir.identity.member.shards;
    let read = |shard| fs::read_to_string(dir.shards().join(format!("{shard}.pages")));
    shards.map(|shard| read(shard).expect("a page file")).collect()
}

fn names(dir: &DataDir) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.root.join("ringbolt")).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

const OLD: [&str; 3] = ["old 0", "old 1", "old 2"];
const NEW: [&str; 2] = ["new 0", "new 1"];

#[test]
fn staged_files_become_the_stores() {
    let scratch = Scratch::new("reshard");
    let mut dir = store(&scratch);
    let before = names(&dir);
    let staged = dir.stage(2).expect("staged");
    for shard in 0..2 {
        let made = fs::read(staged.path.join(format!("{shard}.pages"))).expect("a page file");
        assert_eq!(made, [0; super::super::HEAD_BYTES]);
    }
    fill(&staged.path, 2, "new");
    dir.adopt(staged).expect("adopted");
    assert_eq!((dir.identity.member.shards, contents(&dir)), (2, NEW.map(str::to_owned).to_vec()));
    assert_eq!(names(&dir), before);
    let identity = dir.identity.clone();
    drop(dir);
    let dir = open(&scratch.data()).expect("the same directory");
    assert_eq!((&dir.identity, &dir.warnings[..]), (&identity, &[][..]));
    for (path, (mode, _)) in picture(&scratch.data()) {
        let expect = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o777, expect, "{}", path.display());
    }
}

#[test]
fn what_did_not_come_to_its_end_is_removed() {
    let scratch = Scratch::new("reshard-cut");
    let dir = store(&scratch);
    let before = picture(&scratch.data());
    let staged = dir.stage(2).expect("staged");
    fill(&staged.path, 2, "new");
    drop(dir);
    let dir = open(&scratch.data()).expect("the old store");
    assert_eq!(
        dir.warnings,
        ["removed ringbolt/reshard-2: page files of a reshard that did not end"]
    );
    assert_eq!(contents(&dir), OLD);
    assert_eq!(picture(&scratch.data()), before);
    let staged = dir.stage(16).expect("staged");
    assert_eq!(dir.unstage(staged, "why".to_owned()), "why");
    assert_eq!(picture(&scratch.data()), before);
}

/// A directory as a crash leaves it behind so many steps of an adoption.
fn cut(scratch: &Scratch, steps: usize) {
    let dir = store(scratch);
    let staged = dir.stage(2).expect("staged");
    fill(&staged.path, 2, "new");
    let at = |tail: &str| scratch.data().join(tail);
    let mut identity = dir.identity.clone();
    identity.member.shards = 2;
    let text = identity.text();
    drop(dir);
    let all: [&dyn Fn(); 4] = [
        &|| fs::write(at("ringbolt/identity"), &text).expect("the identity"),
        &|| fs::rename(at(SHARDS), at(REPLACED)).expect("a rename"),
        &|| fs::rename(at("ringbolt/reshard-2"), at(SHARDS)).expect("a rename"),
        &|| fs::remove_file(at("ringbolt/reshard-old/1.pages")).expect("a file"),
    ];
    all[..steps].iter().for_each(|step| step());
}

#[test]
fn every_step_of_an_adoption_leaves_one_store_whole() {
    let finished = "the reshard to 2 shards is finished: they are in place";
    let replaced = "removed ringbolt/reshard-old: page files that a reshard has replaced";
    let cut_short = "removed ringbolt/reshard-2: page files of a reshard that did not end";
    let cases: [(&[&str], &[&str]); 5] = [
        (&OLD, &[cut_short]),
        (&NEW, &[finished, replaced]),
        (&NEW, &[finished, replaced]),
        (&NEW, &[replaced]),
        (&NEW, &[replaced]),
    ];
    for (steps, (expect, notes)) in cases.into_iter().enumerate() {
        let scratch = Scratch::new(&format!("reshard-step-{steps}"));
        cut(&scratch, steps);
        for notes in [notes, &[]] {
            let dir = open(&scratch.data()).unwrap_or_else(|why| panic!("step {steps}: {why}"));
            assert_eq!((contents(&dir), &dir.warnings[..]), (texts(expect), &texts(notes)[..]));
            assert!(!names(&dir).iter().any(|name| name.starts_with(PREFIX)), "step {steps}");
        }
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_identity_without_its_page_files_is_refused() {
    let scratch = Scratch::new("reshard-lost");
    cut(&scratch, 1);
    let file = scratch.data().join("ringbolt/reshard-2/1.pages");
    fs::write(&file, [0; super::super::HEAD_BYTES]).expect("a file");
    let before = picture(&scratch.data());
    let why = open(&scratch.data()).expect_err("no store");
    assert!(why.contains("reshard-2/1.pages holds no store of 2 shards"), "{why}");
    fs::remove_file(&file).expect("a file");
    let why = open(&scratch.data()).expect_err("no store");
    assert!(why.starts_with("cannot read "), "{why}");
    fs::write(&file, [0; super::super::HEAD_BYTES]).expect("a file");
    let mut after = picture(&scratch.data());
    // The lock holds the process's number; the file that was made again its mode.
    for path in
        ["ringbolt/lock", "ringbolt/reshard-2/1.pages"].map(|tail| scratch.data().join(tail))
    {
        after.insert(path.clone(), before[&path].clone());
    }
    assert_eq!(after, before);
}

#[test]
fn a_run_by_root_leaves_the_files_to_their_owner() {
    let scratch = Scratch::new("reshard-owner");
    let mut dir = store(&scratch);
    let identity = scratch.data().join("ringbolt/identity");
    if chown_all(&scratch.data()).is_err() {
        // Nobody else may give files away.
        return;
    }
    let staged = dir.stage(2).expect("staged");
    fill(&staged.path, 2, "new");
    dir.adopt(staged).expect("adopted");
    for path in [identity, dir.shards(), dir.shards().join("1.pages")] {
        let of = fs::metadata(&path).expect("metadata");
        assert_eq!((of.uid(), of.gid()), (4_711, 4_712), "{}", path.display());
    }
}

fn chown_all(root: &Path) -> io::Result<()> {
    for path in picture(root).keys() {
        std::os::unix::fs::chown(path, Some(4_711), Some(4_712))?;
    }
    Ok(())
}
