//! The order of a checkpoint's operations, what fails, and what becomes of space.

use super::*;
use crate::base::limits::{PAGE_QUEUE_BYTES_MAX, PAGE_WRITES_IN_FLIGHT_MAX};

fn kinds(rig: &Rig) -> Vec<&'static str> {
    let kind = |(op, _): &(DiskOp, usize)| match op.action {
        Action::Read { .. } => "read",
        Action::Write { unit, .. } if unit < SUPERBLOCK_UNITS => "superblock",
        Action::Write { .. } => "page",
        Action::Sync => "sync",
        Action::Cut { .. } => "cut",
        Action::Punch { .. } => "punch",
    };
    rig.pending.iter().map(kind).collect()
}

#[test]
fn the_superblock_follows_the_pages() {
    let mut rig = Rig::new(1 << 20);
    rig.file.begin();
    let pages: Vec<PageRef> =
        (0..3).map(|seed| rig.file.write(content(seed, 9_000).into())).collect();
    rig.tend();
    assert_eq!(kinds(&rig), ["page"; 3]);
    rig.file.seal(state(2, Some(pages[2])));
    rig.tend();
    for left in [2, 1] {
        rig.finish(0).expect("a good disk");
        assert_eq!(kinds(&rig), vec!["page"; left]);
    }
    for next in ["sync", "superblock", "sync"] {
        rig.finish(0).expect("a good disk");
        assert_eq!((kinds(&rig), rig.file.newest().sequence), (vec![next], 0));
    }
    rig.finish(0).expect("a good disk");
    assert_eq!(rig.done.last(), Some(&Done::Durable));
    assert_eq!(rig.file.newest().state, state(2, Some(pages[2])));
    rig.settle();
    assert!(rig.file.is_idle());
}

#[test]
fn writes_in_flight_are_bounded() {
    let mut rig = Rig::new(1 << 20);
    rig.file.begin();
    let mut written = 0;
    while rig.file.has_room() {
        rig.file.write(content(3, logical_bytes_in(32)).into());
        written += 1;
    }
    assert_eq!(written, PAGE_QUEUE_BYTES_MAX.div_ceil(32 * UNIT));
    rig.tend();
    assert_eq!(rig.pending.len(), PAGE_WRITES_IN_FLIGHT_MAX);
    assert!(rig.file.has_room());
}

#[test]
fn a_page_can_be_read_from_the_moment_it_is_written() {
    // A cache that holds nothing: while the page is not on disk, something else does.
    let mut rig = Rig::new(0);
    rig.file.begin();
    let pages: Vec<Vec<u8>> = (0..4).map(|seed| content(seed, 30_000)).collect();
    let refs: Vec<PageRef> = pages.iter().map(|page| rig.file.write(page.clone().into())).collect();
    rig.tend();
    for (at, page) in refs.iter().zip(&pages) {
        assert_eq!(rig.file.page(*at).as_deref(), Some(&page[..]));
        assert!(rig.file.wish(*at));
    }
    rig.tend();
    assert_eq!(kinds(&rig), ["page"; 4], "nothing has to be read");
    while !rig.pending.is_empty() {
        rig.finish(0).expect("a good disk");
        for (at, page) in refs.iter().zip(&pages) {
            assert_eq!(rig.load(*at).as_deref(), Ok(&page[..]));
        }
    }
}

#[test]
fn a_failed_operation_is_final() {
    for failing in 0..5 {
        let mut rig = Rig::new(1 << 20);
        rig.file.begin();
        let refs: Vec<PageRef> =
            (0..2).map(|seed| rig.file.write(content(seed, 9_000).into())).collect();
        rig.file.seal(state(2, Some(refs[1])));
        rig.tend();
        for _ in 0..failing {
            rig.finish(0).expect("a good disk");
        }
        let cause = DiskFault::Os(5);
        let fault = rig.finish_with(0, Err(cause)).expect_err("it failed");
        assert!(matches!(fault, Fault::Failed { cause: DiskFault::Os(5), .. }), "{fault}");
        assert_eq!((rig.file.fault(), rig.file.is_idle()), (Some(fault), false));
        rig.tend();
        while !rig.pending.is_empty() {
            assert_eq!(rig.finish(0), Err(fault));
        }
        assert_eq!(rig.file.newest().sequence, 0);
    }
}

#[test]
fn want_of_space_gives_up_the_checkpoint_alone() {
    let mut rig = Rig::new(1 << 20);
    let old = rig.checkpoint(&[content(1, 9_000), content(2, 9_000)], &[]);
    let (used, units) = (rig.file.used_units(), rig.file.file_units());
    rig.file.begin();
    let refs: Vec<PageRef> =
        (3..9).map(|seed| rig.file.write(content(seed, 90_000).into())).collect();
    rig.file.free(old[0]);
    rig.tend();
    rig.finish_with(2, Err(DiskFault::NoSpace)).expect("no fault");
    // The tree does not know yet.
    let late = rig.file.write(content(9, 9_000).into());
    assert!(rig.file.page(late).is_some());
    rig.file.seal(state(3, Some(late)));
    rig.tend();
    while !rig.pending.is_empty() {
        assert_ne!(rig.done.last(), Some(&Done::NoSpace), "others are in flight");
        rig.finish(0).expect("no fault");
        if rig.file.is_clearing() {
            break;
        }
    }
    assert_eq!(rig.done.last(), Some(&Done::NoSpace));
    rig.settle();
    assert_eq!((rig.file.used_units(), rig.file.file_units()), (used, units), "as before");
    assert_eq!(rig.disk.bytes.len() as u64, u64::from(units) * UNIT_BYTES, "the tail is cut");
    assert!(refs.iter().all(|at| rig.file.page(*at).is_none()));
    assert_eq!(rig.file.newest().sequence, 1);
    rig.checkpoint(&[content(4, 9_000)], &[old[0]]);
    assert_eq!(rig.file.newest().sequence, 2);
}

#[test]
fn want_of_space_for_the_superblock_is_final() {
    let mut rig = Rig::new(1 << 20);
    rig.file.begin();
    rig.file.seal(state(2, None));
    rig.tend();
    rig.finish(0).expect("the sync of no pages");
    assert_eq!(kinds(&rig), ["superblock"]);
    let fault = rig.finish_with(0, Err(DiskFault::NoSpace)).expect_err("it is no page");
    let text = fault.to_string();
    let expected = "a write of a superblock of shards/2.pages failed: no space is left; ";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn freed_space_is_used_again_and_given_back() {
    let mut rig = Rig::new(1 << 20);
    let pages: Vec<Vec<u8>> = (0..40).map(|_| content(3, logical_bytes_in(32))).collect();
    let all = rig.checkpoint(&pages, &[]);
    assert_eq!(rig.file.file_units(), SUPERBLOCK_UNITS + 40 * 32);
    // The last ten: the file gets shorter.
    rig.checkpoint(&[content(1, 100)], &all[30..]);
    assert_eq!(rig.file.file_units(), SUPERBLOCK_UNITS + 40 * 32 + 1, "its own page lies behind");
    let own = rig.file.newest().state.roots.current.expect("a root").page;
    rig.checkpoint(&[content(2, 100)], &[own]);
    assert_eq!(rig.file.file_units(), SUPERBLOCK_UNITS + 30 * 32 + 1);
    assert_eq!(rig.disk.bytes.len(), rig.file.file_units() as usize * UNIT);
    // Eight within: a run of a megabyte.
    rig.checkpoint(&[content(4, 100)], &all[10..18]);
    rig.file.punch();
    rig.tend();
    assert_eq!(kinds(&rig), ["punch"]);
    rig.settle();
    let hole = all[10].extent().offset() as usize..all[18].extent().offset() as usize;
    assert!(rig.disk.bytes[hole].iter().all(|byte| *byte == 0));
    rig.file.punch();
    rig.tend();
    assert!(rig.pending.is_empty() && rig.file.is_idle(), "what was given back is not again");
    let again = rig.checkpoint(&pages[..1], &[]);
    assert_eq!(again[0].unit, all[10].unit, "low addresses first");
}
