//! A set of keys that are updated by compare and swap, as Kubernetes updates its objects.

use crate::cli::bench::engine::{Io, Op};
use crate::cli::bench::schedule::Share;
use crate::cli::bench::values::Values;
use crate::wire::client::message::{Put, TxnAnswer, cas_put, path};

/// Writes the key of an object by its number.
pub(super) type KeyOf = Box<dyn Fn(u64, &mut Vec<u8>) + Send>;

/// One thread's objects: what it writes no other thread writes.
pub(super) struct Objects {
    key_of: KeyOf,
    values: Values,
    share: Share,
    /// Where each stands; 0 before it is there.
    revisions: Vec<i64>,
    is_busy: Vec<bool>,
    cursor: usize,
    created: usize,
    key: Vec<u8>,
    scratch: Vec<u8>,
}

impl Objects {
    /// A thread's share of `total` objects.
    pub(super) fn new(total: u64, key_of: KeyOf, values: Values, share: Share) -> Objects {
        let own = share.of(total) as usize;
        Objects {
            key_of,
            values,
            share,
            revisions: vec![0; own],
            is_busy: vec![false; own],
            cursor: 0,
            created: 0,
            key: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// This thread's objects.
    pub(super) fn len(&self) -> usize {
        self.revisions.len()
    }

    fn write_key(&mut self, own: usize) {
        let number = own as u64 * self.share.workers as u64 + self.share.worker as u64;
        self.key.clear();
        (self.key_of)(number, &mut self.key);
    }

    /// Creates the next object, or finds where it stands.
    pub(super) fn create(&mut self, op: Op, io: &mut Io) -> bool {
        if self.created == self.len() {
            return false;
        }
        let own = self.created;
        self.created += 1;
        self.swap(own, op, io);
        true
    }

    /// Updates the next object that is not being updated. False if there is none.
    pub(super) fn update(&mut self, op: Op, io: &mut Io) -> bool {
        for _ in 0..self.len() {
            let own = self.cursor;
            self.cursor = if own + 1 < self.len() { own + 1 } else { 0 };
            if !self.is_busy[own] {
                self.swap(own, op, io);
                return true;
            }
        }
        false
    }

    /// Updates an object drawn at random, or one behind it that is free.
    pub(super) fn update_any(&mut self, op: Op, io: &mut Io) -> bool {
        self.cursor = io.prng().below(self.len() as u64) as usize;
        self.update(op, io)
    }

    fn swap(&mut self, own: usize, op: Op, io: &mut Io) {
        self.is_busy[own] = true;
        self.write_key(own);
        let value = self.values.of(&self.key, op.intended);
        self.scratch.clear();
        let put = Put { key: &self.key, value, lease: 0 };
        cas_put(&mut self.scratch, &put, self.revisions[own]);
        io.call(Op { key: own as u64, ..op }, path::TXN, &self.scratch);
    }

    /// The answer to a create or an update.
    pub(super) fn answered(&mut self, op: Op, answer: &[u8]) -> Result<(), &'static str> {
        let was_created = self.revisions[op.key as usize] > 0;
        let read = TxnAnswer::read(answer).map_err(|_| "an answer that cannot be read")?;
        if read.succeeded {
            self.revisions[op.key as usize] = read.revision;
            return Ok(());
        }
        self.revisions[op.key as usize] = read.found_mod_revision.unwrap_or(0);
        // An object that is there from an earlier run is as good as one just made.
        if was_created { Err("the compare failed") } else { Ok(()) }
    }

    /// The create or update is over.
    pub(super) fn ended(&mut self, op: Op) {
        self.is_busy[op.key as usize] = false;
    }
}
