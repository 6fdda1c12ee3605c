//! Which leases exist, and which keys are on them at the newest revision.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Slot;
use crate::base::LeaseId;

#[derive(Debug, Default)]
pub(super) struct Leases {
    attached: BTreeMap<LeaseId, BTreeSet<Slot>>,
}

impl Leases {
    pub(super) fn grant(&mut self, id: LeaseId) {
        let before = self.attached.insert(id, BTreeSet::new());
        assert!(before.is_none(), "lease {id} was granted twice");
    }

    pub(super) fn revoke(&mut self, id: LeaseId) {
        let slots = self.attached.remove(&id);
        let slots = slots.unwrap_or_else(|| panic!("lease {id} was revoked and did not exist"));
        assert!(slots.is_empty(), "lease {id} was revoked with keys on it");
    }

    /// Moves a key from the lease of its last change to that of its next.
    pub(super) fn attach(&mut self, slot: Slot, before: LeaseId, after: LeaseId) {
        if before == after {
            return;
        }
        if before != LeaseId::NONE {
            let slots = self.attached.get_mut(&before);
            let detached = slots.is_some_and(|slots| slots.remove(&slot));
            assert!(detached, "a key left lease {before} and was not on it");
        }
        if after != LeaseId::NONE {
            let slots = self.attached.get_mut(&after);
            let slots = slots.unwrap_or_else(|| panic!("a key was put on missing lease {after}"));
            slots.insert(slot);
        }
    }

    pub(super) fn contains(&self, id: LeaseId) -> bool {
        self.attached.contains_key(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = LeaseId> {
        self.attached.keys().copied()
    }

    pub(super) fn slots(&self, id: LeaseId) -> impl Iterator<Item = Slot> {
        self.attached.get(&id).into_iter().flatten().copied()
    }
}
