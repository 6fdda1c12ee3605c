//! Leases and the keys on them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Store;
use crate::base::range::{KeyRange, RangeEnd};
use crate::base::{LeaseId, Revision, Sub};
use crate::shard::mvcc::source::Stop;
use crate::shard::tree::{Kind, lease_of, leased_key};

impl Store {
    /// Whether a lease exists.
    #[must_use]
    pub fn has_lease(&self, id: LeaseId) -> bool {
        self.leases.contains(&id)
    }

    /// The keys whose newest version is on a lease, ascending.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn keys_of(&self, id: LeaseId) -> Result<Vec<Bytes>, Stop> {
        let mut keys = self.leased_below(id)?;
        // A layer knows better than what is below it.
        keys.retain(|key| self.layers().all(|layer| layer.versions_of(key).is_none()));
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.table.keys_on(id));
        keys.extend(frozen.filter(|key| self.active.versions_of(key).is_none()));
        keys.extend(self.active.keys_on(id));
        keys.sort_unstable();
        Ok(keys)
    }

    /// The keys that were on a lease at a revision: some of those that are, or changed since.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn keys_of_at(&self, id: LeaseId, at: Revision) -> Result<Vec<Bytes>, Stop> {
        let mut keys: BTreeSet<Bytes> = self.keys_of(id)?.into_iter().collect();
        for layer in self.layers() {
            keys.extend(layer.history(at).map(|(record, _)| record.key_bytes()));
        }
        if at < self.tree_revision {
            self.walk_undo((at, Sub(u32::MAX)), &mut |_, undone| {
                keys.insert(Bytes::copy_from_slice(&undone.key));
                ControlFlow::Continue(())
            })?;
        }
        let mut found = Vec::new();
        for key in keys {
            if self.at(&key, at)?.is_some_and(|record| record.lease == id) {
                found.push(key);
            }
        }
        Ok(found)
    }

    fn leased_below(&self, id: LeaseId) -> Result<Vec<Bytes>, Stop> {
        let start = Bytes::from(leased_key(id, b""));
        let range = KeyRange { start, end: RangeEnd::Open };
        let (mut keys, mut wrong) = (Vec::new(), None);
        self.tree(Kind::Leased).walk(&range, None, &mut |entry| match lease_of(entry.key()) {
            Ok((lease, _)) if lease != id => ControlFlow::Break(()),
            Ok((_, key)) => {
                keys.extend(key.map(Bytes::copy_from_slice));
                ControlFlow::Continue(())
            }
            Err(what) => {
                wrong = Some(self.damaged(Kind::Leased, what));
                ControlFlow::Break(())
            }
        })?;
        wrong.map_or(Ok(keys), Err)
    }
}
