//! A new shard: its page file, and the tree that is built in it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use super::{Failed, Op, Side, root_of, tagged};
use crate::base::Revision;
use crate::base::limits::{CHECKPOINT_SLICE_BYTES, PAGE_WRITES_IN_FLIGHT_MAX};
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{Done, FileId, HEAD_BYTES, Identity, PageFile, Roots, State, Superblock};
use crate::shard::tree::{self, Aggregate, Change, Kind, Merge, Root, Step};

/// What waits to be built, of one tree.
#[derive(Debug, Default)]
struct Queue {
    changes: VecDeque<Change>,
    bytes: usize,
    /// No further one comes.
    is_ended: bool,
}

impl Queue {
    /// Bytes that wait, but for the last entry's.
    fn bytes_before_last(&self) -> usize {
        self.bytes - self.changes.back().map_or(0, bytes_of)
    }
}

fn bytes_of(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Bytes::len)
}

/// The queue as a merge sees it. A merge takes an end for the end: it must not find the queue
/// empty while more is to come.
struct Feed(Rc<RefCell<Queue>>);

impl Iterator for Feed {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        let mut queue = self.0.borrow_mut();
        let next = queue.changes.pop_front();
        assert!(next.is_some() || queue.is_ended, "a merge took more than it was to move");
        queue.bytes -= next.as_ref().map_or(0, bytes_of);
        next
    }
}

#[derive(Debug)]
pub(super) struct Sink {
    file: PageFile,
    queue: Rc<RefCell<Queue>>,
    /// The tree that is built; none: it is through.
    merge: Option<(Kind, Merge<Feed>)>,
    roots: Roots,
    in_flight: usize,
    is_durable: bool,
}

impl Sink {
    /// A file that holds nothing yet.
    pub(super) fn new(identity: Identity) -> Sink {
        // A merge into an empty tree reads no page, so none has to be kept.
        let fresh = Superblock::fresh(identity);
        let mut file = PageFile::open(fresh, HEAD_BYTES as u64, 0, tree::FORM);
        file.begin();
        Sink {
            file,
            queue: Rc::default(),
            merge: None,
            roots: Roots::default(),
            in_flight: 0,
            is_durable: false,
        }
    }

    pub(super) fn begin_tree(&mut self, kind: Kind) {
        self.queue = Rc::default();
        let feed = Feed(Rc::clone(&self.queue));
        // Nothing is left out: a compaction that is to come drops what it drops.
        self.merge = Some((kind, Merge::new(kind, None, Revision(i64::MIN), feed)));
    }

    /// Whether more may be fed. While it has none there is enough for a step.
    pub(super) fn has_room(&self) -> bool {
        self.queue.borrow().bytes_before_last() < 2 * CHECKPOINT_SLICE_BYTES
    }

    /// Takes the next entry.
    pub(super) fn feed(&mut self, key: Bytes, value: Bytes) {
        let change = Change { key, value: Some(value) };
        let mut queue = self.queue.borrow_mut();
        queue.bytes += bytes_of(&change);
        queue.changes.push_back(change);
    }

    /// There is no further entry in this tree.
    pub(super) fn end_feed(&mut self) {
        self.queue.borrow_mut().is_ended = true;
    }

    /// Whether the tree is built.
    pub(super) fn is_through(&self) -> bool {
        self.merge.is_none()
    }

    /// Goes on with the tree, if what waits is enough and the disk keeps up. True if it did.
    pub(super) fn step(&mut self, out: &mut Vec<Op>) -> bool {
        let Some((kind, merge)) = &mut self.merge else { return false };
        let is_enough = {
            let queue = self.queue.borrow();
            // A step goes on until it has moved so many bytes, and looks at one entry more.
            queue.is_ended || queue.bytes_before_last() >= CHECKPOINT_SLICE_BYTES
        };
        if !is_enough || self.in_flight >= PAGE_WRITES_IN_FLIGHT_MAX {
            return false;
        }
        let kind = *kind;
        match merge.step(
            &mut self.file,
            &mut |change, _| change.value.clone(),
            CHECKPOINT_SLICE_BYTES,
        ) {
            Ok(Step::Paused) => {}
            Ok(Step::Done(root)) => {
                *root_of(&mut self.roots, kind) = root.map(|root| root.stored());
                self.merge = None;
            }
            read @ (Ok(Step::Wanted(_)) | Err(_)) => {
                unreachable!("a merge into an empty tree reads no page: {read:?}")
            }
        }
        self.tend(out);
        true
    }

    /// What the tree that was built holds.
    pub(super) fn sum(&self, kind: Kind) -> Aggregate {
        let stored = *root_of(&mut { self.roots }, kind);
        let root = stored.map(|root| Root::from_stored(&root).expect("own encoding"));
        root.map_or(Aggregate::EMPTY, |root| root.total)
    }

    /// All trees are built: the superblock follows, of this state but for its roots.
    pub(super) fn seal(&mut self, state: State, out: &mut Vec<Op>) {
        self.file.seal(State { roots: self.roots, ..state });
        self.tend(out);
    }

    pub(super) fn is_durable(&self) -> bool {
        self.is_durable && self.in_flight == 0
    }

    pub(super) fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        self.in_flight -= 1;
        let mut ops = Vec::new();
        let done = self.file.on_done(token, result, &mut ops);
        match done.map_err(|fault| Failed::Fault { side: Side::New, fault })? {
            Done::Worked => {}
            Done::Durable => self.is_durable = true,
            Done::NoSpace => return Err(Failed::NoSpace { side: Side::New, file: self.name() }),
        }
        self.send(ops, out);
        self.tend(out);
        Ok(())
    }

    fn name(&self) -> FileId {
        FileId(self.file.newest().identity.shard)
    }

    fn tend(&mut self, out: &mut Vec<Op>) {
        let mut ops = Vec::new();
        self.file.tend(&mut ops);
        self.send(ops, out);
    }

    fn send(&mut self, ops: Vec<crate::shard::pages::DiskOp>, out: &mut Vec<Op>) {
        self.in_flight += ops.len();
        out.extend(tagged(Side::New, self.name(), ops));
    }
}
