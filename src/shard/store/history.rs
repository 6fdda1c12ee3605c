//! What changed in a span of revisions that the trees hold.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Store;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::{Revision, Sub};
use crate::shard::memtable::{Position, net_of};
use crate::shard::mvcc::source::{CountState, Stop, Walk};
use crate::shard::tree::{Kind, Undone, undo_key, undo_place};

impl Store {
    /// Visits what undoes each change behind `after` that the trees hold, oldest first. What is
    /// visited shares the memory of its page.
    pub(super) fn walk_undo(
        &self,
        after: Position,
        visit: &mut dyn FnMut(Position, Undone) -> ControlFlow<()>,
    ) -> Result<Walk, Stop> {
        let start = undo_key((after.0.max(Revision(0)), after.1));
        let range = KeyRange { start: Bytes::copy_from_slice(&start), end: RangeEnd::Open };
        let mut stop = None;
        let walked = self.tree(Kind::Undo).walk(&range, Some(&start), &mut |entry| {
            let found = undo_place(entry.key()).and_then(|place| {
                Undone::decode(&entry.value_bytes()).map(|undone| (place, undone))
            });
            match found {
                Ok((place, undone)) => visit(place, undone),
                Err(what) => {
                    stop = Some(self.damaged(Kind::Undo, what));
                    ControlFlow::Break(())
                }
            }
        })?;
        stop.map_or(Ok(walked), Err)
    }

    /// Sums up at most `left` changes of `range` behind the state's place that the trees hold. True
    /// when none is left.
    pub(super) fn pass_undo(
        &self,
        range: &KeyRange,
        state: &mut CountState,
        left: &mut usize,
    ) -> Result<bool, Stop> {
        let after = state.reached;
        let walked = self.walk_undo(after, &mut |place, undone| {
            if *left == 0 {
                return ControlFlow::Break(());
            }
            *left -= 1;
            state.reached = place;
            if range.contains(&undone.key) {
                state.net += net_of(undone.turn);
            }
            ControlFlow::Continue(())
        })?;
        if walked == Walk::Broken {
            return Ok(false);
        }
        state.reached = state.reached.max((self.tree_revision, Sub(u32::MAX)));
        Ok(true)
    }
}
