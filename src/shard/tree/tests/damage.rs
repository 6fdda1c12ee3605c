//! Pages that are not what they have to be.

use std::ops::ControlFlow;

use super::*;
use crate::base::range::KeyRange;

fn tree(disk: &Disk) -> Option<Root> {
    let name = |number: u64| format!("{}{number:06}", "k".repeat(1_500)).into_bytes();
    let one = |number| change(&name(number), Some(put(&name(number), 2, &[1; 100])));
    merge(disk, Kind::Current, None, 0, (0..1_500).map(one).collect(), usize::MAX).0
}

/// Reads and merges all of a tree; errors are welcome, panics and endless loops are not.
fn use_all(disk: &Disk, root: Option<Root>) -> bool {
    let mut is_damaged = false;
    let mut call = |call: &mut dyn FnMut() -> Result<(), Stop>| {
        loop {
            match call() {
                Ok(()) => return,
                Err(Stop::Wanted(pages)) => disk.load(&pages),
                Err(Stop::Damaged(damaged)) => {
                    assert!(damaged.to_string().contains("is damaged: "));
                    is_damaged = true;
                    return;
                }
            }
        }
    };
    let reader = disk.reader(Kind::Current, root);
    let some = Bytes::from("k".repeat(1_500) + "000700");
    let range = KeyRange::from_request(some.clone(), Bytes::from_static(&[0]));
    call(&mut || reader.get(&some).map(|_| ()));
    call(&mut || reader.digest(&range).map(|_| ()));
    let visit = &mut |_: Entry<'_>| ControlFlow::Continue(());
    call(&mut || reader.walk(&KeyRange::all(), None, visit).map(|_| ()));
    call(&mut || reader.walk_back(&range, None, visit).map(|_| ()));
    is_damaged
}

#[test]
fn damaged_pages_are_named_and_never_panic() {
    let intact = Disk::new(1 << 10);
    let root = tree(&intact);
    assert!(root.is_some_and(|root| root.height >= 2));
    assert!(!use_all(&intact, root));
    let mut damaged = 0;
    let mut prng = Prng::new(1);
    for _ in 0..150 {
        let disk = Disk::new(1 << 10);
        {
            let inner = &mut *disk.0.borrow_mut();
            inner.pages = intact.0.borrow().pages.clone();
            inner.units = intact.0.borrow().units;
            let nth = prng.below(inner.pages.len() as u64) as usize;
            let (_, page) = inner.pages.values_mut().nth(nth).unwrap();
            let mut bytes = page.to_vec();
            for _ in 0..=prng.below(3) {
                // Headers and slots more often than what is behind them.
                let end = if prng.percent(80) { 500 } else { bytes.len() };
                let at = prng.below(end.min(bytes.len()) as u64) as usize;
                bytes[at] ^= 1 << prng.below(8);
            }
            *page = bytes.into();
        }
        // References that lead nowhere are the page file's to refuse.
        let is_lost = |at: &PageRef| disk.0.borrow().pages.get(&at.unit).is_none_or(|p| p.0 != *at);
        if reachable(&disk, root).iter().any(is_lost) {
            continue;
        }
        damaged += u32::from(use_all(&disk, root));
        let every = tree_changes();
        let mut merge = Merge::new(Kind::Current, root, Revision(0), every.into_iter());
        let mut sink = Loose(disk.clone());
        loop {
            match merge.step(&mut sink, &mut |change, _| change.value.clone(), usize::MAX) {
                Ok(Step::Wanted(pages)) => disk.load(&pages),
                Ok(Step::Paused) => {}
                Ok(Step::Done(_)) | Err(_) => break,
            }
        }
    }
    assert!(damaged > 30, "{damaged} of the damages were seen");
}

/// Frees what it is told to, twice if need be: a damaged branch may name a page twice.
struct Loose(Disk);

impl Pages for Loose {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        self.0.page(at)
    }

    fn holds(&self, at: PageRef) -> bool {
        self.0.holds(at)
    }
}

impl PageSink for Loose {
    fn write(&mut self, logical: Bytes) -> PageRef {
        self.0.write(logical)
    }

    fn free(&mut self, _: PageRef) {}
}

fn tree_changes() -> Vec<Change> {
    let name = |number: u64| format!("{}{number:06}", "k".repeat(1_500)).into_bytes();
    let one = |number| change(&name(number), Some(put(&name(number), 3, &[1; 50])));
    (0..1_500).step_by(7).map(one).collect()
}

/// All references that branches hold, as far as they can be read.
fn reachable(disk: &Disk, root: Option<Root>) -> Vec<PageRef> {
    let inner = disk.0.borrow();
    let mut open: Vec<(PageRef, u8)> = root.into_iter().map(|r| (r.page, r.height)).collect();
    let mut found = Vec::new();
    while let Some((at, level)) = open.pop() {
        found.push(at);
        let Some((_, bytes)) = inner.pages.get(&at.unit) else { continue };
        if level == 0 {
            continue;
        }
        let Ok(page) = Page::open(bytes.clone(), Kind::Current, level) else { continue };
        let children = (0..page.len()).filter_map(|place| page.child(place).ok());
        open.extend(children.map(|child| (child.at, level - 1)));
    }
    found
}
