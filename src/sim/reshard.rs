//! A stopped member's store written for another number of shards, on disks in memory.

use std::collections::VecDeque;

use super::disk::{Disk, End};
use super::machine::Plan;
use super::page_disk::PageDisk;
use crate::base::prng::Prng;
use crate::node::Boot;
use crate::node::reshard::{Failed, Memory, Op, Reshard, Side};
use crate::shard::disk::DiskFault;

/// What goes wrong on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// The process ends behind so many operations.
    pub cut_behind: Option<u64>,
    /// The operation behind so many others fails.
    pub fault_behind: Option<u64>,
    /// Writes of pages, of a hundred, that find no space.
    pub no_space_percent: u64,
}

/// Why there is no new store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process ended.
    Cut,
    /// It gave up.
    Failed(Failed),
}

/// Writes what the disks hold for `shards` shards: the new page files as a power cut leaves them.
///
/// # Errors
/// [`Ended`]: there are none, and the old ones are as they have to be.
///
/// # Panics
/// If the old store is refused.
pub fn reshard(
    plan: &Plan,
    (disk, pages): (&Disk, &mut PageDisk),
    shards: u16,
    trouble: Trouble,
    prng: &mut Prng,
) -> Result<PageDisk, Ended> {
    let whose = plan.whose(true);
    let boot = Boot::recover(disk, pages, &whose, plan.layout);
    let boot = boot.unwrap_or_else(|refused| panic!("a store was refused: {refused}"));
    let memory = Memory {
        cache_bytes: plan.node.page_cache_bytes / usize::from(plan.shards),
        memtable_bytes: plan.node.memtable_bytes / u64::from(plan.shards),
    };
    let mut new = PageDisk::new(shards);
    let mut work = Reshard::new(boot, whose, shards, memory).map_err(Ended::Failed)?;
    let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
    let mut ended: u64 = 0;
    loop {
        let more = work.step(&mut inputs, &mut out);
        for Op { side, shard, op } in out.drain(..) {
            match side {
                Side::Old => pages.begin(shard, op),
                Side::New => new.begin(shard, op),
            }
        }
        let more = match more {
            Ok(more) => more,
            Err(failed) => {
                pages.crash(End::Killed, prng);
                return Err(Ended::Failed(failed));
            }
        };
        if work.is_done() {
            // What is not durable is lost.
            new.crash(End::PowerCut, prng);
            pages.crash(End::PowerCut, prng);
            return Ok(new);
        }
        if trouble.cut_behind.is_some_and(|behind| ended >= behind) {
            pages.crash(if prng.percent(50) { End::PowerCut } else { End::Killed }, prng);
            return Err(Ended::Cut);
        }
        if !more || prng.percent(40) {
            inputs.extend(end_one(pages, &mut new, (ended, trouble), prng));
            ended += 1;
        }
    }
}

/// Ends an operation of either store.
fn end_one(
    old: &mut PageDisk,
    new: &mut PageDisk,
    (ended, trouble): (u64, Trouble),
    prng: &mut Prng,
) -> Option<(Side, crate::node::Input)> {
    let all = old.pending().into_iter().map(|at| (Side::Old, at));
    let all: Vec<_> = all.chain(new.pending().into_iter().map(|at| (Side::New, at))).collect();
    let (side, (shard, token)) = *all.get(prng.below(all.len().max(1) as u64) as usize)?;
    let mut end = |disk: &mut PageDisk| {
        if trouble.fault_behind == Some(ended) {
            disk.fail(shard, token, DiskFault::Os(5), prng)
        } else if disk.is_page_write(shard, token) && prng.percent(trouble.no_space_percent) {
            disk.fail(shard, token, DiskFault::NoSpace, prng)
        } else {
            disk.finish(shard, token)
        }
    };
    let input = match side {
        Side::Old => end(old),
        Side::New => end(new),
    };
    Some((side, input))
}
