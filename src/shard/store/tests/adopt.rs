//! The walk of all references, over branches that lie.

use std::cell::Cell;

use crate::base::limits::ADOPT_SLICE_PAGES;
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{PageRef, Pages};
use crate::shard::store::Trees;
use crate::shard::store::adopt::Adopt;
use crate::shard::tree::{Aggregate, Root};

use bytes::Bytes;

const CHILDREN: u32 = 50;

fn reference(level: u8) -> PageRef {
    let unit = 4 + u32::from(level);
    PageRef { unit, units: 1, stored: 4_000, logical: 3_900, checksum: 0 }
}

/// A page for each level, all of whose children are the page of the level below.
struct Same {
    read: Cell<usize>,
}

impl Pages for Same {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        self.read.set(self.read.get() + 1);
        let level = u8::try_from(at.unit - 4).expect("a page of a level");
        let mut page = vec![level, 1, 0, 0];
        page.extend_from_slice(&CHILDREN.to_le_bytes());
        let heap = 8 + 8 * CHILDREN;
        for child in 0..CHILDREN {
            let start = heap + 57 * child;
            page.extend_from_slice(&(start + 1).to_le_bytes());
            page.extend_from_slice(&(start + 57).to_le_bytes());
        }
        for child in 0..CHILDREN {
            page.push(child as u8);
            page.extend_from_slice(&reference(level - 1).encode());
            page.extend_from_slice(&[0; 40]);
        }
        Some(page.into())
    }

    fn holds(&self, _: PageRef) -> bool {
        true
    }
}

#[test]
fn a_tree_of_more_pages_than_its_file_has_units_is_told() {
    let root = Root { page: reference(6), height: 6, total: Aggregate::EMPTY };
    let trees = Trees { current: Some(root), ..Trees::default() };
    let same = Same { read: Cell::new(0) };
    let mut adopt = Adopt::new(&trees, 1_000);
    let stop = loop {
        match adopt.step(&same) {
            Ok(is_done) => assert!(!is_done && same.read.get() < 10 * ADOPT_SLICE_PAGES),
            Err(stop) => break stop,
        }
    };
    let Stop::Damaged(damaged) = stop else { panic!("{stop:?}") };
    assert_eq!(damaged.what, "of trees with more pages than their file has units");
    assert!(same.read.get() < 1_000);
}
