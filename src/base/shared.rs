//! The few words that all cores share, and the ring of committed batches. Nothing else in this
//! process is written by one core and read by another, but for mail.
//!
//! **K** is what is committed: published before any shard applies it. **V** is what is visible:
//! the end of the contiguous run of batches that every shard they touch has applied.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Batch;
use super::limits::{IN_FLIGHT_BYTES_MAX, RING_BATCHES, RING_BYTES_MAX};
use super::{CoreId, RaftIndex, Revision, Term};

/// A batch's place in the ring: 1 for the first published since the process began.
pub type Position = u64;

/// A place of the ring: what was published last among the positions that share it.
type Slot = Option<(Position, Arc<Batch>)>;

/// What the ring's batches take of memory; the publisher's own.
#[derive(Debug, Default)]
struct Kept {
    /// Of each, the newest last.
    bytes: VecDeque<u64>,
    sum: u64,
}

/// Shared words and the ring.
#[derive(Debug)]
pub struct Shared {
    slots: Vec<Mutex<Slot>>,
    kept: Mutex<Kept>,
    committed: AtomicU64,
    committed_revision: AtomicI64,
    visible: AtomicU64,
    visible_index: AtomicU64,
    visible_revision: AtomicI64,
    visible_compact: AtomicI64,
    /// The newest revision taken by an evaluation.
    counter: AtomicI64,
    term: AtomicU64,
    has_leader: AtomicBool,
    admitted: AtomicI64,
    /// Position up to which each core has consumed the ring, shards and hub both.
    consumed: Vec<AtomicU64>,
    /// Whether a core's hub has anyone to tell when V moves.
    wants_visible: Vec<AtomicBool>,
    /// Whether a core has a write that waits for a revision in flight to be applied.
    wants_committed: Vec<AtomicBool>,
    /// Whether committed batches wait for room in the ring.
    wants_room: AtomicBool,
    /// Bytes of writes that hold a revision and are not answered.
    in_flight_bytes: AtomicI64,
    /// Bytes that each shard's records take, overhead included.
    shard_bytes: Vec<AtomicU64>,
    /// Live keys of each shard.
    shard_files: Vec<AtomicU64>,
    shard_keys: Vec<AtomicU64>,
}

impl Shared {
    /// Words for `cores` cores and `shards` shards over an empty store.
    #[must_use]
    pub fn new(cores: u16, shards: u16) -> Shared {
        Shared::with_ring(cores, shards, RING_BATCHES)
    }

    /// As `new`, with a ring of another size; at least 32 batches, so that who lags is rung.
    #[must_use]
    pub fn with_ring(cores: u16, shards: u16, batches: usize) -> Shared {
        assert!((32..=RING_BATCHES).contains(&batches), "a ring of {batches} batches");
        Shared {
            slots: (0..batches).map(|_| Mutex::new(None)).collect(),
            kept: Mutex::default(),
            committed: AtomicU64::new(0),
            committed_revision: AtomicI64::new(Revision::EMPTY.0),
            visible: AtomicU64::new(0),
            visible_index: AtomicU64::new(0),
            visible_revision: AtomicI64::new(Revision::EMPTY.0),
            visible_compact: AtomicI64::new(-1),
            counter: AtomicI64::new(Revision::EMPTY.0),
            term: AtomicU64::new(0),
            has_leader: AtomicBool::new(false),
            admitted: AtomicI64::new(0),
            consumed: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            wants_visible: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            wants_committed: (0..cores).map(|_| AtomicBool::new(false)).collect(),
            wants_room: AtomicBool::new(false),
            in_flight_bytes: AtomicI64::new(0),
            shard_bytes: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            shard_files: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            shard_keys: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Where the store stands before the log's first entry: a core says so before its first step,
    /// and all say the same.
    pub fn begin_at(&self, revision: Revision, compact: Revision, index: RaftIndex) {
        self.committed_revision.fetch_max(revision.0, Ordering::SeqCst);
        self.visible_revision.fetch_max(revision.0, Ordering::SeqCst);
        self.visible_compact.fetch_max(compact.0, Ordering::SeqCst);
        self.visible_index.fetch_max(index.0, Ordering::SeqCst);
        self.counter.fetch_max(revision.0, Ordering::SeqCst);
    }

    // --- the ring -------------------------------------------------------------------------

    /// Whether a batch can be published: every core has consumed the slot it would take.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let next = self.committed.load(Ordering::Acquire) + 1;
        self.slowest() + self.ring_batches() > next
    }

    /// How many batches the ring holds.
    #[must_use]
    pub fn ring_batches(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Publishes a committed batch and moves K. Called by the orderer alone, with room.
    pub fn publish(&self, batch: Arc<Batch>) -> Position {
        assert!(self.has_room(), "a batch was published into a full ring");
        let position = self.committed.load(Ordering::Relaxed) + 1;
        let (revision, bytes) = (batch.last, batch.bytes);
        *self.slot(position).lock().unwrap_or_else(PoisonError::into_inner) =
            Some((position, batch));
        self.forget_large(position, bytes);
        self.committed.store(position, Ordering::SeqCst);
        self.committed_revision.fetch_max(revision.0, Ordering::SeqCst);
        position
    }

    /// Lets go of the oldest batches before their turn while all that is kept is large. Nobody but
    /// watchers looks for what every core has consumed, and they read it from the shards then.
    fn forget_large(&self, newest: Position, bytes: u64) {
        let consumed = self.slowest();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.push_back(bytes);
        kept.sum += bytes;
        loop {
            let oldest = newest + 1 - kept.bytes.len() as u64;
            let is_overwritten = kept.bytes.len() as u64 > self.ring_batches();
            let is_large = kept.sum > RING_BYTES_MAX && oldest <= consumed;
            if oldest == newest || !(is_overwritten || is_large) {
                return;
            }
            kept.sum -= kept.bytes.pop_front().unwrap_or(0);
            if !is_overwritten {
                *self.slot(oldest).lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
    }

    /// The batch at `position`, while the ring still holds it.
    #[must_use]
    pub fn batch(&self, position: Position) -> Option<Arc<Batch>> {
        let slot = self.slot(position).lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().filter(|(held, _)| *held == position).map(|(_, batch)| Arc::clone(batch))
    }

    fn slot(&self, position: Position) -> &Mutex<Slot> {
        let index = (position % self.ring_batches()) as usize;
        &self.slots[index]
    }

    /// A core says how far it has consumed the ring.
    pub fn consumed_to(&self, core: CoreId, position: Position) {
        self.consumed[core.0 as usize].store(position, Ordering::SeqCst);
    }

    /// How far a core has consumed the ring.
    #[must_use]
    pub fn consumed(&self, core: CoreId) -> Position {
        self.consumed[core.0 as usize].load(Ordering::Acquire)
    }

    fn slowest(&self) -> Position {
        let consumed = self.consumed.iter().map(|word| word.load(Ordering::SeqCst));
        consumed.min().unwrap_or(0)
    }

    // --- K and V --------------------------------------------------------------------------

    /// K: a revision, and a position that covers it. A reader at K waits until its shard has
    /// applied up to the position and reads as of the revision.
    #[must_use]
    pub fn committed(&self) -> (Revision, Position) {
        // The revision first: the position read after it covers at least that revision.
        let revision = Revision(self.committed_revision.load(Ordering::SeqCst));
        (revision, self.committed.load(Ordering::SeqCst))
    }

    /// Moves V over every batch that is applied. Called by whoever applied last; true if V moved.
    pub fn advance_visible(&self) -> bool {
        let mut moved = false;
        loop {
            let next = self.visible.load(Ordering::SeqCst) + 1;
            let Some(batch) = self.batch(next).filter(|batch| batch.is_applied()) else {
                return moved;
            };
            // Two cores may pass here for the same batch: maxima make the second a repetition.
            if let Some(compact) = batch.compact {
                self.visible_compact.fetch_max(compact.0, Ordering::SeqCst);
            }
            self.visible_index.fetch_max(batch.index.0, Ordering::SeqCst);
            self.visible_revision.fetch_max(batch.last.0, Ordering::SeqCst);
            self.visible.fetch_max(next, Ordering::SeqCst);
            moved = true;
        }
    }

    /// The raft index at K.
    #[must_use]
    pub fn committed_index(&self) -> RaftIndex {
        let newest = self.batch(self.committed.load(Ordering::SeqCst));
        newest.map_or(RaftIndex(0), |batch| batch.index)
    }

    /// V: the position up to which everything is applied.
    #[must_use]
    pub fn visible(&self) -> Position {
        self.visible.load(Ordering::SeqCst)
    }

    /// The revision at V.
    #[must_use]
    pub fn visible_revision(&self) -> Revision {
        Revision(self.visible_revision.load(Ordering::SeqCst))
    }

    /// The raft index at V.
    #[must_use]
    pub fn visible_index(&self) -> RaftIndex {
        RaftIndex(self.visible_index.load(Ordering::SeqCst))
    }

    /// The compact revision at V; -1 if there never was a compaction.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        Revision(self.visible_compact.load(Ordering::SeqCst))
    }

    /// A core says whether its hub has anyone to tell when V moves.
    pub fn want_visible(&self, core: CoreId, wanted: bool) {
        self.wants_visible[core.0 as usize].store(wanted, Ordering::SeqCst);
    }

    /// Whether a core's hub has anyone to tell when V moves.
    #[must_use]
    pub fn wants_visible(&self, core: CoreId) -> bool {
        self.wants_visible[core.0 as usize].load(Ordering::SeqCst)
    }

    /// A core says whether one of its shards waits for the next batches, whomever they concern.
    pub fn want_committed(&self, core: CoreId, wanted: bool) {
        self.wants_committed[core.0 as usize].store(wanted, Ordering::SeqCst);
    }

    /// Whether one of a core's shards waits for the next batches.
    #[must_use]
    pub fn wants_committed(&self, core: CoreId) -> bool {
        self.wants_committed[core.0 as usize].load(Ordering::SeqCst)
    }

    /// The orderer says whether committed batches wait for room in the ring.
    pub fn want_room(&self, wanted: bool) {
        self.wants_room.store(wanted, Ordering::SeqCst);
    }

    /// Whether committed batches wait for room in the ring.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        self.wants_room.load(Ordering::SeqCst)
    }

    // --- revisions ------------------------------------------------------------------------

    /// Takes the next revision. The caller must send the write it belongs to: nothing may fail
    /// or wait from here on.
    #[must_use]
    pub fn take_revision(&self) -> Revision {
        Revision(self.counter.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// The newest revision taken.
    #[must_use]
    pub fn newest_taken(&self) -> Revision {
        Revision(self.counter.load(Ordering::SeqCst))
    }

    /// Sets the counter when a term opens: no shard evaluates at that moment.
    pub fn open_counter_at(&self, revision: Revision) {
        self.counter.store(revision.0, Ordering::SeqCst);
    }

    /// Reserves room in the orderer's queue for a write of `bytes`; false if there is none. Taken
    /// before the revision, given back when the write is visible.
    #[must_use]
    pub fn take_credit(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One operation alone may be larger than all the room there is.
        if before == 0 || before.saturating_add(bytes) <= IN_FLIGHT_BYTES_MAX {
            return true;
        }
        self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Gives room back.
    pub fn return_credit(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.in_flight_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "more credit was given back than taken");
    }

    // --- the group ------------------------------------------------------------------------

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// Sets the current term and whether a leader is known.
    pub fn set_term(&self, term: Term, has_leader: bool) {
        self.term.store(term.0, Ordering::Relaxed);
        self.has_leader.store(has_leader, Ordering::Relaxed);
    }

    /// Whether a leader is known.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.has_leader.load(Ordering::Relaxed)
    }

    // --- admission and sizes --------------------------------------------------------------

    /// One more write is under way; the count with it.
    pub fn admit(&self) -> i64 {
        self.admitted.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// `count` writes were answered.
    pub fn release(&self, count: i64) {
        self.admitted.fetch_sub(count, Ordering::Relaxed);
    }

    /// Writes under way.
    #[must_use]
    pub fn admitted(&self) -> i64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// A shard states its size: bytes in use, bytes of its file and its memory, live keys.
    pub fn set_shard_size(&self, shard: super::ShardId, in_use: u64, bytes: u64, keys: u64) {
        self.shard_bytes[shard.0 as usize].store(in_use, Ordering::Relaxed);
        self.shard_files[shard.0 as usize].store(bytes, Ordering::Relaxed);
        self.shard_keys[shard.0 as usize].store(keys, Ordering::Relaxed);
    }

    /// Bytes of all page files, and of what is in memory alone.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.shard_files.iter().map(|word| word.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in use of the whole store.
    #[must_use]
    pub fn store_bytes(&self) -> u64 {
        self.shard_bytes.iter().map(|word| word.load(Ordering::Relaxed)).sum()
    }

    /// Live keys of the whole store.
    #[must_use]
    pub fn store_keys(&self) -> u64 {
        self.shard_keys.iter().map(|word| word.load(Ordering::Relaxed)).sum()
    }
}
