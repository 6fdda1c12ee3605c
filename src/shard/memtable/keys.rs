//! Keys by hash: from a key to its slot, from a slot to its versions.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;

use super::versions::Versions;
use crate::base::record::Record;

/// Where a key's versions are.
pub(super) type Slot = u32;

/// Slots of one memory block: growing never copies what is there.
const BLOCK_SLOTS: usize = 4096;
/// Tables, so that one growing moves few entries.
const TABLES: usize = 1024;
/// Two bits of a slot are the index's.
const SLOTS_MAX: usize = 1 << 30;

/// A slot with the half of its key's hash that places it within its table.
type Hashed = (u32, Slot);

pub(super) struct Keys {
    blocks: Vec<Vec<Versions>>,
    tables: Vec<HashTable<Hashed>>,
    seed: u64,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Keys {
        let tables = (0..TABLES).map(|_| HashTable::new()).collect();
        Keys { blocks: Vec::new(), tables, seed }
    }

    pub(super) fn versions(&self, slot: Slot) -> &Versions {
        &self.blocks[slot as usize / BLOCK_SLOTS][slot as usize % BLOCK_SLOTS]
    }

    pub(super) fn versions_mut(&mut self, slot: Slot) -> &mut Versions {
        &mut self.blocks[slot as usize / BLOCK_SLOTS][slot as usize % BLOCK_SLOTS]
    }

    pub(super) fn key(&self, slot: Slot) -> &[u8] {
        self.versions(slot).last().expect("a slot in use has a version").key()
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Slot> {
        let (table, hash) = self.place(key);
        let found = self.tables[table].find(u64::from(hash) << 32 | u64::from(hash), |entry| {
            entry.0 == hash && self.key(entry.1) == key
        });
        found.map(|entry| entry.1)
    }

    /// Gives the key of `record`, which has no slot, one that holds the record.
    pub(super) fn insert(&mut self, record: Arc<Record>) -> Slot {
        let (table, hash) = self.place(record.key());
        let slot = self.grow();
        self.versions_mut(slot).push(record);
        let spread = |hash: u32| u64::from(hash) << 32 | u64::from(hash);
        self.tables[table].insert_unique(spread(hash), (hash, slot), |entry| spread(entry.0));
        slot
    }

    /// Lets go of up to `count` slots, the newest first; nothing can be found from then on. True
    /// when none is left.
    pub(super) fn dismantle(&mut self, count: usize) -> bool {
        self.tables.clear();
        let Some(last) = self.blocks.last_mut() else { return true };
        last.truncate(last.len().saturating_sub(count));
        if last.is_empty() {
            self.blocks.pop();
        }
        self.blocks.is_empty()
    }

    fn grow(&mut self) -> Slot {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK_SLOTS) {
            self.blocks.push(Vec::with_capacity(BLOCK_SLOTS));
        }
        let full = (self.blocks.len() - 1) * BLOCK_SLOTS;
        let block = self.blocks.last_mut().expect("a block was made if there was none");
        let slot = full + block.len();
        assert!(slot < SLOTS_MAX, "a shard holds more keys than slots can name");
        block.push(Versions::none());
        slot as Slot
    }

    /// The table that a key belongs to, and the hash that places it there. Keyed, because
    /// clients choose the keys.
    fn place(&self, key: &[u8]) -> (usize, u32) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(key);
        let hash = hasher.finish();
        ((hash >> 32) as usize % TABLES, hash as u32)
    }
}
