//! What the trees take of the file, found by a walk of all references. Until it is through, pages
//! can be read and no checkpoint can begin.

use super::{Store, Trees};
use crate::base::limits::ADOPT_SLICE_PAGES;
use crate::base::record::Malformed;
use crate::shard::mvcc::source::Stop;
use crate::shard::pages::{Extent, Fault, PageRef, Pages};
use crate::shard::tree::{self, Damaged};

#[derive(Debug)]
pub(super) struct Adopt {
    /// Pages to be looked at, with their levels.
    open: Vec<(PageRef, u8)>,
    found: Vec<Extent>,
    /// Units of the file: more pages there cannot be.
    file_units: usize,
}

impl Adopt {
    pub(super) fn new(trees: &Trees, file_units: u32) -> Adopt {
        let roots = [trees.current, trees.undo, trees.leased, trees.meta];
        let open = roots.into_iter().flatten().map(|root| (root.page, root.height)).collect();
        Adopt { open, found: Vec::new(), file_units: file_units as usize }
    }

    /// Looks at some branches. True when none is left.
    pub(super) fn step(&mut self, pages: &dyn Pages) -> Result<bool, Stop> {
        for _ in 0..ADOPT_SLICE_PAGES {
            let Some((at, level)) = self.open.last().copied() else { return Ok(true) };
            if level > 0 {
                let page = pages.page(at).ok_or_else(|| Stop::Wanted(vec![at]))?;
                let damaged = |Malformed(what)| Stop::Damaged(Damaged { page: at, what });
                let below = tree::references(&page).map_err(damaged)?;
                self.open.pop();
                self.open.extend(below.into_iter().map(|below| (below, level - 1)));
                // Branches that name the same pages again and again would be walked for ever.
                if self.open.len() + self.found.len() > self.file_units {
                    let what = "of trees with more pages than their file has units";
                    return Err(damaged(Malformed(what)));
                }
            } else {
                self.open.pop();
            }
            self.found.push(at.extent());
        }
        Ok(self.open.is_empty())
    }
}

/// Why a slice of work on the file did not end.
#[derive(Debug)]
pub enum Halt {
    /// A page is missing or damaged.
    Stop(Stop),
    /// The file cannot be relied upon.
    Fault(Fault),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Halt {
        Halt::Stop(stop)
    }
}

impl Store {
    /// Goes on with the walk. True when there is more of it.
    pub(super) fn adopt_step(&mut self) -> Result<bool, Halt> {
        let Some(adopt) = &mut self.adopt else { return Ok(false) };
        if !adopt.step(&self.file)? {
            return Ok(true);
        }
        let found = std::mem::take(&mut adopt.found);
        self.adopt = None;
        self.file.adopt(found).map_err(Halt::Fault)?;
        Ok(false)
    }
}
