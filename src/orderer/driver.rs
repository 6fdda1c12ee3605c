//! The only file that names the raft crate.
//!
//! The crate sees entries of 32 bytes: descriptors. What they describe stays with the orderer.
//! Its `Storage` view includes entries that were handed out and are not yet durable, as its
//! asynchronous path demands; durability reaches it through `persisted` alone.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::prelude::{ConfState, Entry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, RawNode, StateRole, Storage, StorageError};

use super::GroupConfig;
use crate::base::{RaftIndex, Term};

/// What must survive a restart beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Newest term seen.
    pub term: Term,
    /// Member voted for in that term, 0 for none.
    pub vote: u64,
    /// An index known to be committed.
    pub commit: RaftIndex,
}

/// What raft yields.
#[derive(Debug)]
pub(super) enum Fetched {
    /// An entry of raft's own making (a new leader's first) to be persisted.
    Own { index: RaftIndex, term: Term, hard_state: HardState },
    /// An entry is committed.
    Committed { index: RaftIndex, term: Term },
}

/// The log as raft sees it: indexes, terms and descriptors.
#[derive(Debug)]
struct LogView {
    /// Index and term before the first entry.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    hard_state: RaftHardState,
    voters: Vec<u64>,
}

impl LogView {
    fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            // A new leader's entries replace what stood at their indexes.
            let keep = entry.index.saturating_sub(self.base.0 + 1);
            self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            assert_eq!(entry.index, self.last_index() + 1, "raft handed out entries with a gap");
            self.entries.push_back(entry);
        }
    }

    fn drop_up_to(&mut self, index: u64) {
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            if let Some(entry) = self.entries.pop_front() {
                self.base = (entry.index, entry.term);
            }
        }
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = ConfState { voters: self.voters.clone(), ..ConfState::default() };
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let from = usize::try_from(low - self.base.0 - 1).unwrap_or(usize::MAX);
        let to = usize::try_from(high - self.base.0 - 1).unwrap_or(usize::MAX);
        let mut entries: Vec<Entry> = self.entries.range(from..to).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        let Some(at) = index.checked_sub(self.base.0 + 1) else {
            return Err(raft::Error::Store(StorageError::Compacted));
        };
        let entry = usize::try_from(at).ok().and_then(|at| self.entries.get(at));
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(LogView::last_index(self))
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// The raft node.
pub(super) struct Driver {
    raft: RawNode<LogView>,
    /// Readys not yet durable: number, and the index that must be durable for it.
    unpersisted: VecDeque<(u64, u64)>,
    hard_state: HardState,
    /// Empty but during `propose`, which fills it again and again.
    fetched: Vec<Fetched>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?}, {} readys unpersisted)", self.hard_state, self.unpersisted.len())
    }
}

impl Driver {
    /// A lone voter over a recovered log: what is durable here is committed, since this member
    /// is the quorum.
    pub(super) fn new(
        config: GroupConfig,
        hard_state: HardState,
        base: (RaftIndex, Term),
        log: Vec<(RaftIndex, Term, Bytes)>,
    ) -> Driver {
        let base = (base.0.0, base.1.0);
        let first = log.first().map_or(base.0 + 1, |(index, _, _)| index.0);
        assert_eq!(first, base.0 + 1, "a log that begins elsewhere than its checkpoint ends");
        let mut entries = VecDeque::with_capacity(log.len());
        for (index, term, data) in log {
            let mut entry = Entry { index: index.0, term: term.0, ..Entry::default() };
            entry.data = data;
            entries.push_back(entry);
        }
        let last = entries.back().map_or(base, |entry| (entry.index, entry.term));
        // A fresh group begins with term 1, so that its first leader has term 2, as with etcd.
        let term = hard_state.term.0.max(last.1).max(1);
        let vote = if term == hard_state.term.0 { hard_state.vote } else { 0 };
        let stored = RaftHardState { term, vote, commit: last.0, ..RaftHardState::default() };
        let view =
            LogView { base, entries, hard_state: stored.clone(), voters: vec![config.member] };
        let raft_config = raft::Config {
            id: config.member,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: base.0,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 1 << 20,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config, view, &logger)
            .expect("the configuration above is valid for any member and any log");
        let (unpersisted, fetched) = (VecDeque::new(), Vec::new());
        Driver { raft, unpersisted, hard_state: copy(&stored), fetched }
    }

    pub(super) fn campaign(&mut self) {
        self.raft.campaign().expect("a campaign is a local message");
    }

    pub(super) fn tick(&mut self) {
        self.raft.tick();
    }

    pub(super) fn term(&self) -> Term {
        Term(self.raft.raft.term)
    }

    pub(super) fn leader(&self) -> u64 {
        self.raft.raft.leader_id
    }

    pub(super) fn leading(&self) -> Option<Term> {
        (self.raft.raft.state == StateRole::Leader).then(|| self.term())
    }

    pub(super) fn last_index(&self) -> RaftIndex {
        RaftIndex(self.raft.raft.raft_log.last_index())
    }

    pub(super) fn committed_index(&self) -> RaftIndex {
        RaftIndex(self.raft.raft.raft_log.committed)
    }

    /// Appends a descriptor and takes it out for persisting, at once.
    pub(super) fn propose(&mut self, data: &Bytes) -> (RaftIndex, HardState) {
        assert!(self.leading().is_some(), "only a leader proposes");
        self.raft
            .propose(Vec::new(), data.to_vec())
            .expect("the orderer bounds what is uncommitted below raft's own limit");
        let mut fetched = std::mem::take(&mut self.fetched);
        self.fetch(&mut fetched);
        let [Fetched::Own { index, hard_state, .. }] = fetched[..] else {
            panic!("a proposal yields its own entry and nothing else, not {fetched:?}")
        };
        fetched.clear();
        self.fetched = fetched;
        (index, hard_state)
    }

    /// Every entry up to `index` is durable, with the hard state it carried.
    pub(super) fn persisted(&mut self, index: RaftIndex) {
        let mut newest = None;
        while let Some((number, needs)) = self.unpersisted.front().copied() {
            if needs > index.0 {
                break;
            }
            newest = Some(number);
            self.unpersisted.pop_front();
        }
        if let Some(number) = newest {
            self.raft.on_persist_ready(number);
        }
    }

    /// Takes everything that is ready.
    pub(super) fn fetch(&mut self, out: &mut Vec<Fetched>) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            if let Some(hard_state) = ready.hs() {
                self.hard_state = copy(hard_state);
                self.raft.mut_store().hard_state = hard_state.clone();
            }
            let entries = ready.take_entries();
            for entry in &entries {
                out.push(Fetched::Own {
                    index: RaftIndex(entry.index),
                    term: Term(entry.term),
                    hard_state: self.hard_state,
                });
            }
            self.raft.mut_store().append(entries);
            let needs = LogView::last_index(self.raft.store());
            self.unpersisted.push_back((ready.number(), needs));
            let committed = ready.take_committed_entries();
            out.extend(committed.iter().map(|entry| Fetched::Committed {
                index: RaftIndex(entry.index),
                term: Term(entry.term),
            }));
            self.raft.advance_append_async(ready);
            if let Some(last) = committed.last() {
                self.raft.advance_apply_to(last.index);
                // A lone voter never sends an old entry again.
                self.raft.mut_store().drop_up_to(last.index);
            }
        }
    }
}

fn copy(hard_state: &RaftHardState) -> HardState {
    HardState {
        term: Term(hard_state.term),
        vote: hard_state.vote,
        commit: RaftIndex(hard_state.commit),
    }
}
