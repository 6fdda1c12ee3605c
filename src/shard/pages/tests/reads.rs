//! Wishes, damage, and the scrub.

use super::*;
use crate::base::limits::{PAGE_READS_IN_FLIGHT_MAX, PAGE_WISHES_MAX};

/// A file of so many pages, opened again with nothing in its cache.
fn reopened(pages: u64, cache_bytes: usize) -> (Rig, Vec<PageRef>) {
    let mut rig = Rig::new(0);
    let pages: Vec<Vec<u8>> = (0..pages).map(|seed| content(seed, 10_000)).collect();
    let refs = rig.checkpoint(&pages, &[]);
    (Rig::open(rig.disk, cache_bytes).expect("a whole file"), refs)
}

#[test]
fn equal_wishes_are_read_once() {
    let (mut rig, refs) = reopened(3, 1 << 20);
    for _ in 0..3 {
        assert!(rig.file.wish(refs[0]) && rig.file.wish(refs[1]));
        rig.tend();
    }
    assert_eq!(rig.pending.len(), 2);
    rig.settle();
    assert_eq!(rig.reads, [Read::Page(refs[0]), Read::Page(refs[1])]);
    assert_eq!(rig.file.page(refs[1]).as_deref(), Some(&content(1, 10_000)[..]));
    assert_eq!(rig.file.page(refs[2]), None);
    assert!(rig.file.wish(refs[0]));
    rig.tend();
    assert!(rig.pending.is_empty(), "it is there");
}

#[test]
fn reads_in_flight_and_wishes_are_bounded() {
    let (mut rig, refs) = reopened(40, 1 << 20);
    assert!(refs.iter().all(|at| rig.file.wish(*at)));
    rig.tend();
    assert_eq!(rig.pending.len(), PAGE_READS_IN_FLIGHT_MAX);
    let at = |unit| PageRef { unit, ..refs[0] };
    let more = (10_000..).map(at).take_while(|at| rig.file.wish(*at)).count();
    assert_eq!(more, PAGE_WISHES_MAX - refs.len());
    rig.finish(0).expect("a good disk");
    assert!(rig.file.wish(at(9_999)), "one has ended");
}

#[test]
fn a_damaged_page_is_not_served() {
    let (mut rig, refs) = reopened(3, 1 << 20);
    let offset = refs[1].extent().offset() as usize;
    rig.disk.bytes[offset + 100] ^= 4;
    assert!(rig.load(refs[0]).is_ok());
    let fault = rig.load(refs[1]).expect_err("a bit has flipped");
    let file = FileId(IDENTITY.shard);
    let damage = Damage::Changed { sequence: 1 };
    assert_eq!(fault, Fault::Damaged { file, at: refs[1], damage });
    let text = fault.to_string();
    assert!(text.contains(&format!("shards/2.pages: the page of {}", refs[1].extent())), "{text}");
    assert_eq!(rig.file.page(refs[1]), None);
    assert_eq!(rig.file.fault(), Some(fault));
}

#[test]
fn a_read_that_fails_stops_the_member() {
    let (mut rig, refs) = reopened(1, 1 << 20);
    rig.file.wish(refs[0]);
    rig.tend();
    let fault = rig.finish_with(0, Err(DiskFault::Os(5))).expect_err("it failed");
    assert!(fault.to_string().starts_with("a read of a page of shards/2.pages failed"), "{fault}");
}

#[test]
fn a_read_of_a_place_that_was_freed_comes_to_nothing() {
    let (mut rig, refs) = reopened(40, 0);
    rig.file.adopt(refs.iter().map(PageRef::extent)).expect("no overlap");
    // The last ones wait for the first to end.
    assert!(refs.iter().all(|at| rig.file.wish(*at)));
    rig.tend();
    let reads: Vec<(DiskOp, usize)> = rig.pending.drain(..).collect();
    rig.checkpoint(&[content(50, 10_000)], &[refs[0], refs[39]]);
    let taken = rig.checkpoint(&[content(51, 10_000)], &[]);
    assert_eq!(taken[0].unit, refs[0].unit, "another page lies there now");
    rig.reads.clear();
    rig.pending.extend(reads);
    rig.settle();
    assert!(rig.reads.contains(&Read::Void(refs[0])));
    assert!(rig.reads.contains(&Read::Page(refs[1])));
    assert_eq!(rig.reads.len(), 39, "the last one was not read any more");
    assert_eq!(rig.file.page(refs[0]), None);
    assert_eq!(rig.load(taken[0]).as_deref(), Ok(&content(51, 10_000)[..]));
}

#[test]
fn overlapping_references_stop_the_member() {
    let (mut rig, refs) = reopened(2, 0);
    assert!(!rig.file.is_idle(), "what is free is not known yet");
    let twice = [refs[0], refs[1], refs[0]].map(|at| at.extent());
    let fault = rig.file.adopt(twice).expect_err("a page twice");
    assert!(fault.to_string().starts_with("shards/2.pages: two pages lie in one place"), "{fault}");
}

#[test]
fn a_scrub_reads_past_the_cache_at_its_pace() {
    let (mut rig, refs) = reopened(10, 1 << 20);
    for at in &refs {
        rig.load(*at).expect("a good disk");
    }
    let bytes: u64 = refs.iter().map(|at| at.extent().bytes()).sum();
    let mut scrub = Scrub::new(Tick(0), bytes);
    let mut now = Tick(0);
    for at in &refs {
        assert!(scrub.is_ready(now, &rig.file));
        scrub.offer(now, *at, &mut rig.file);
        rig.tend();
        assert!(!scrub.is_ready(Tick(u64::MAX), &rig.file), "one at a time");
        rig.settle();
        assert!(!scrub.is_ready(now, &rig.file), "not before its time");
        now = scrub.due();
    }
    let second = 1_000_000_000;
    assert!((second - 10..=second).contains(&now.0), "all of it in a second, {}", now.0);
    assert_eq!(scrub.progress(), (10, bytes));
    assert_eq!(rig.reads[10..], refs.iter().map(|at| Read::Checked(*at)).collect::<Vec<_>>());

    let offset = refs[4].extent().offset() as usize;
    rig.disk.bytes[offset + 60] ^= 1;
    assert!(rig.file.page(refs[4]).is_some(), "the cache has it");
    scrub.offer(now, refs[4], &mut rig.file);
    rig.tend();
    assert!(matches!(rig.finish(0), Err(Fault::Damaged { .. })));
}
