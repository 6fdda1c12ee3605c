//! shard::store — a shard's whole state: memory over pages.
//! Step 5 of a write, every read. In: effects in log order, pages that were read. Out: versions,
//! counts, history; pages that are wanted; operations of the page file.
//! Owns: the layer that takes changes, the one that a checkpoint merges, the trees, the page file,
//! which leases exist.
//! Invariants: (1) what was read at a revision stays true wherever the version has moved since;
//!             (2) a layer is dropped once the checkpoint that holds it is durable; (3) a read
//!             that lacks a page changes nothing.
//! Limits: CHECKPOINT_*, LAYER_SLICE_RECORDS, ADOPT_SLICE_PAGES, SCRUB_BYTES_PER_S, TRAILS_MAX.
//! Must not: do I/O; wait; decide what a request means; know of writes in flight.
//! Tests: mvcc/tests.rs compares with the naive model over a cache that forgets; tests/sim.rs.

mod adopt;
mod checkpoint;
mod delta;
mod gathered;
mod hash;
mod history;
mod leases;
pub mod meta;
mod overlaid;
mod pace;
mod read;
mod scrub;
mod stretch;
#[cfg(test)]
pub(in crate::shard) mod tests;
mod unrolled;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::effect::AlarmKind;
use crate::base::limits::LAYER_SLICE_RECORDS;
use crate::base::record::{Malformed, Record};
use crate::base::{LeaseId, RaftIndex, Revision};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::memtable::Memtable;
use crate::shard::pages::{DiskOp, Fault, PageFile, PageRef, Read, Superblock, UNIT_BYTES};
use crate::shard::tree::{self, Kind, Reader, Root};

pub use adopt::Halt;
pub use checkpoint::Ended;
pub use hash::HashList;
pub use overlaid::Overlaid;
pub use scrub::ScrubSettings;
pub use stretch::StretchCursor;

use adopt::Adopt;
use checkpoint::Checkpoint;
use delta::Deltas;
use read::Trails;
use scrub::Scrubbing;

/// What a shard may take of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of pages in memory.
    pub cache_bytes: usize,
    /// Bytes of the layers in memory and of what a checkpoint gathers.
    pub memtable_bytes: u64,
    /// Records and bytes behind which a checkpoint is due though the layer has room.
    pub checkpoint_behind: (u64, u64),
    /// Keys the hashes of the layers' keys, so that clients cannot aim at them.
    pub seed: u64,
    /// Passes over all pages.
    pub scrub: ScrubSettings,
}

/// The trees at their newest roots. `None`: the tree is empty.
#[derive(Clone, Copy, Debug, Default)]
struct Trees {
    current: Option<Root>,
    undo: Option<Root>,
    leased: Option<Root>,
    meta: Option<Root>,
}

/// Changes of `meta`: a key's new value, or that it is gone.
type MetaChanges = BTreeMap<Bytes, Option<Bytes>>;

/// The layer that a checkpoint merges, and what else it covers.
#[derive(Debug)]
struct Frozen {
    table: Arc<Memtable>,
    meta: MetaChanges,
    /// The store's revision behind the layer.
    revision: Revision,
    /// The compact revision there.
    compact: Revision,
}

/// A shard's state.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    active: Memtable,
    meta: MetaChanges,
    frozen: Option<Frozen>,
    /// Layers that are let go, slice by slice.
    going: Vec<Memtable>,
    file: PageFile,
    trees: Trees,
    /// The store's revision as of the trees: what is above it is in the layers.
    tree_revision: Revision,
    leases: BTreeSet<LeaseId>,
    /// The compact revision: what watches and hashes go by. Reads decide for themselves.
    floor: Revision,
    /// What no read at or above this revision needs may be gone already.
    cut: Revision,
    adopt: Option<Adopt>,
    checkpoint: Option<Checkpoint>,
    scrubbing: Scrubbing,
    /// How far reads of old revisions have come that wait for a page.
    trails: RefCell<Trails>,
    deltas: RefCell<Deltas>,
    /// A checkpoint has ended and what it freed was not looked at yet.
    may_punch: bool,
}

impl Store {
    /// The state as of a checkpoint, in a file of so many bytes. The leases are those of the whole
    /// member.
    ///
    /// # Errors
    /// [`Malformed`]: the superblock's roots are none.
    pub fn open(
        superblock: Superblock,
        file_bytes: u64,
        leases: BTreeSet<LeaseId>,
        settings: Settings,
    ) -> Result<Store, Malformed> {
        let state = superblock.state;
        let root = |stored: Option<_>| stored.map(|one| Root::from_stored(&one)).transpose();
        let trees = Trees {
            current: root(state.roots.current)?,
            undo: root(state.roots.undo)?,
            leased: root(state.roots.leased)?,
            meta: root(state.roots.meta)?,
        };
        let file = PageFile::open(superblock, file_bytes, settings.cache_bytes, tree::FORM);
        Ok(Store {
            settings,
            active: Memtable::new(settings.seed),
            meta: MetaChanges::new(),
            frozen: None,
            going: Vec::new(),
            adopt: (superblock.sequence > 0).then(|| Adopt::new(&trees, superblock.file_units)),
            file,
            trees,
            tree_revision: state.revision,
            leases,
            floor: state.compact_revision,
            cut: state.compact_revision,
            checkpoint: None,
            scrubbing: Scrubbing::Resting(None),
            trails: RefCell::default(),
            deltas: RefCell::new(Deltas::new()),
            may_punch: false,
        })
    }

    // --- changes --------------------------------------------------------------------------

    /// Takes in the next version of its key.
    pub fn apply(&mut self, record: Arc<Record>) {
        self.active.apply(record);
    }

    /// A lease exists from here on.
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64) {
        self.leases.insert(id);
        self.note(meta::lease_key(id), Some(meta::lease_value(ttl_s)));
    }

    /// A lease is gone from here on. Its keys were deleted before.
    pub fn revoke(&mut self, id: LeaseId) {
        self.leases.remove(&id);
        self.note(meta::lease_key(id), None);
    }

    /// An alarm goes on or off.
    pub fn alarm(&mut self, member: u64, kind: AlarmKind, raised: bool) {
        self.note(meta::alarm_key(member, kind), raised.then(Bytes::new));
    }

    fn note(&mut self, key: Bytes, value: Option<Bytes>) {
        if self.file.newest().identity.shard.0 == 0 {
            self.meta.insert(key, value);
        }
    }

    /// Notes a compaction. Nothing is forgotten before [`Store::cut`].
    pub fn compact(&mut self, at: Revision) {
        self.floor = self.floor.max(at);
    }

    /// The compact revision; -1 if there never was a compaction.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.floor
    }

    /// Nothing reads below `below`, which is not above the compact revision, any more: the next
    /// checkpoint drops what only such reads could see.
    pub fn cut(&mut self, below: Revision) {
        assert!(below <= self.floor, "history above the compact revision was to be forgotten");
        self.cut = self.cut.max(below);
    }

    // --- sizes ----------------------------------------------------------------------------

    /// Live keys.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        let below = self.trees.current.map_or(0, |root| root.total.live);
        let all = crate::base::range::KeyRange::all();
        let net: i64 = self.layers().map(|layer| layer.net(&all)).sum();
        below.saturating_add_signed(net)
    }

    /// Bytes in use: of the layers, and of pages.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        let layers: u64 = self.layers().map(Memtable::bytes).sum();
        let units = self.file.used_units().unwrap_or(self.file.file_units().into());
        layers + units * UNIT_BYTES
    }

    /// Bytes of the page file and of the layers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let layers: u64 = self.layers().map(Memtable::bytes).sum();
        layers + u64::from(self.file.file_units()) * UNIT_BYTES
    }

    // --- pages ----------------------------------------------------------------------------

    /// Asks for pages, the first of them above all, and says whether it was taken on: else it is
    /// to be asked for again when any read has ended.
    pub fn wish(&mut self, wanted: &[PageRef], out: &mut Vec<DiskOp>) -> bool {
        let is_taken = self.file.wish_ahead(wanted);
        self.file.tend(out);
        is_taken
    }

    /// Whether a page is in memory.
    #[must_use]
    pub fn holds(&self, at: PageRef) -> bool {
        crate::shard::pages::Pages::holds(&self.file, at)
    }

    /// Takes what a read brought.
    ///
    /// # Errors
    /// The read failed or the page is damaged: the member has to stop.
    pub fn on_read(
        &mut self,
        token: Token,
        result: Result<Bytes, DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<Read, Fault> {
        let read = self.file.on_read(token, result.as_deref().map_err(|fault| *fault));
        self.file.tend(out);
        read
    }

    /// The last entry of the log that its newest durable checkpoint covers.
    #[must_use]
    pub fn checkpointed(&self) -> RaftIndex {
        self.file.newest().state.applied.index
    }

    /// The page file, for who reads on what the newest checkpoint holds.
    #[must_use]
    pub fn into_file(self) -> PageFile {
        self.file
    }

    // --- within ---------------------------------------------------------------------------

    /// The layers, the newest first.
    fn layers(&self) -> impl Iterator<Item = &Memtable> {
        [Some(&self.active), self.frozen.as_ref().map(|frozen| &*frozen.table)]
            .into_iter()
            .flatten()
    }

    fn tree(&self, kind: Kind) -> Reader<'_> {
        Reader::new(kind, self.root(kind), &self.file)
    }

    fn root(&self, kind: Kind) -> Option<Root> {
        match kind {
            Kind::Current => self.trees.current,
            Kind::Undo => self.trees.undo,
            Kind::Leased => self.trees.leased,
            Kind::Meta => self.trees.meta,
        }
    }

    /// Lets go of a slice of a layer that is merged. True if there is more of it.
    fn let_go(&mut self) -> bool {
        let Some(going) = self.going.last_mut() else { return false };
        if going.dismantle(LAYER_SLICE_RECORDS) {
            self.going.pop();
        }
        !self.going.is_empty()
    }
}
