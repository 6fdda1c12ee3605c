//! An old shard: its trees, one after the other, entry by entry.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Failed, Op, Side, root_of, tagged};
use crate::base::limits::CHECKPOINT_SLICE_BYTES;
use crate::base::range::KeyRange;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{FileId, PageFile, PageRef, Read, State};
use crate::shard::tree::{Aggregate, Kind, Reader, Root, Stop, Walk};

#[derive(Debug)]
pub(super) struct Source {
    file: PageFile,
    /// Entries that were read and are not taken.
    ready: VecDeque<(Bytes, Bytes)>,
    /// The key that was read last, of this tree.
    after: Option<Bytes>,
    is_ended: bool,
    /// The page that is waited for; `None` within: any read that ends.
    awaits: Option<Option<PageRef>>,
}

impl Source {
    /// The trees of a file, whose newest checkpoint has to be of `state` but for its roots.
    pub(super) fn new(file: PageFile, state: &State) -> Result<Source, Failed> {
        let superblock = *file.newest();
        let name = FileId(superblock.identity.shard);
        let roots = superblock.state.roots;
        if superblock.state != (State { roots, ..*state }) {
            return Err(Failed::Apart { file: name });
        }
        for stored in [roots.current, roots.undo, roots.leased, roots.meta].iter().flatten() {
            Root::from_stored(stored).map_err(|what| Failed::Root { file: name, what })?;
        }
        let (ready, after) = (VecDeque::new(), None);
        Ok(Source { file, ready, after, is_ended: false, awaits: None })
    }

    pub(super) fn file(&self) -> FileId {
        FileId(self.file.newest().identity.shard)
    }

    /// What a tree holds.
    pub(super) fn sum(&self, kind: Kind) -> Aggregate {
        self.root(kind).map_or(Aggregate::EMPTY, |root| root.total)
    }

    pub(super) fn begin_tree(&mut self) {
        self.after = None;
        self.is_ended = false;
    }

    /// Whether its next entry has to be read first.
    pub(super) fn is_waiting(&self) -> bool {
        self.ready.is_empty() && !self.is_ended
    }

    /// The key of its next entry.
    pub(super) fn next_key(&self) -> Option<&[u8]> {
        self.ready.front().map(|(key, _)| &key[..])
    }

    /// Takes its next entry.
    pub(super) fn take(&mut self) -> Option<(Bytes, Bytes)> {
        self.ready.pop_front()
    }

    /// Reads entries if it has none, or asks for the pages that they are in.
    pub(super) fn fill(&mut self, kind: Kind, out: &mut Vec<Op>) -> Result<(), Failed> {
        if !self.is_waiting() || self.awaits.is_some() {
            return Ok(());
        }
        let mut left = CHECKPOINT_SLICE_BYTES;
        let ready = &mut self.ready;
        let all = KeyRange::all();
        let reader = Reader::new(kind, root(&self.file, kind), &self.file);
        let walked = reader.walk(&all, self.after.as_deref(), &mut |entry| {
            let (key, value) = (Bytes::copy_from_slice(entry.key()), entry.value_bytes());
            left = left.saturating_sub(key.len() + value.len());
            ready.push_back((key, value));
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Some((last, _)) = self.ready.back() {
            self.after = Some(last.clone());
        }
        match walked {
            Ok(Walk::Ended) => self.is_ended = true,
            Ok(Walk::Broken) => {}
            Err(Stop::Wanted(pages)) => {
                let is_taken = self.file.wish_ahead(&pages);
                self.awaits = Some(pages.first().copied().filter(|_| is_taken));
                self.tend(out);
            }
            Err(Stop::Damaged(what)) => return Err(Failed::Tree { file: self.file(), what }),
        }
        Ok(())
    }

    pub(super) fn on_read(
        &mut self,
        token: Token,
        result: Result<Bytes, DiskFault>,
        out: &mut Vec<Op>,
    ) -> Result<(), Failed> {
        let read = self.file.on_read(token, result.as_deref().map_err(|fault| *fault));
        let read = read.map_err(|fault| Failed::Fault { side: Side::Old, fault })?;
        let (Read::Page(at) | Read::Checked(at) | Read::Void(at)) = read;
        self.awaits.take_if(|awaited| awaited.is_none_or(|awaited| awaited == at));
        self.tend(out);
        Ok(())
    }

    fn tend(&mut self, out: &mut Vec<Op>) {
        let mut ops = Vec::new();
        self.file.tend(&mut ops);
        out.extend(tagged(Side::Old, self.file(), ops));
    }

    fn root(&self, kind: Kind) -> Option<Root> {
        root(&self.file, kind)
    }
}

fn root(file: &PageFile, kind: Kind) -> Option<Root> {
    let stored = *root_of(&mut { file.newest().state.roots }, kind);
    stored.map(|stored| Root::from_stored(&stored).expect("roots are checked at the beginning"))
}
