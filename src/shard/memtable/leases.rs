//! Which keys are on which lease by the layer's last change of them.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Slot;
use crate::base::LeaseId;

#[derive(Debug, Default)]
pub(super) struct Leases {
    attached: BTreeMap<LeaseId, BTreeSet<Slot>>,
}

impl Leases {
    /// Moves a key from the lease of its last change in the layer, if there was one, to that of
    /// its next.
    pub(super) fn attach(&mut self, slot: Slot, before: LeaseId, after: LeaseId) {
        if before == after {
            return;
        }
        if let Some(slots) = self.attached.get_mut(&before) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.attached.remove(&before);
            }
        }
        if after != LeaseId::NONE {
            self.attached.entry(after).or_default().insert(slot);
        }
    }

    pub(super) fn slots(&self, id: LeaseId) -> impl Iterator<Item = Slot> {
        self.attached.get(&id).into_iter().flatten().copied()
    }
}
