//! orderer — the raft group's member: one order for all writes.
//! Step 3 of a write. In: proposals and marks of all shards. Out: log entries to persist,
//! batches once they are committed, answers to release with them.
//! Owns: the raft node, the sequence of proposals, what is in the log and not yet published.
//! Invariants: (1) the log is sorted by revision and skips none; (2) a batch carries its term
//!             and the revision before its first; (3) nothing is committed before it is
//!             durable here; (4) an operation over several entries takes effect with the last.
//! Limits: ENTRY_BYTES_MAX, ENTRY_EFFECTS_MAX.
//! Must not: touch a record's payload; read a clock; forward effects.
//! Tests: here and in the files below; tests/sim.rs.

mod descriptor;
mod driver;
mod sequencer;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::batch::{Batch, Placed, ShardSet};
use crate::base::effect::Effect;
use crate::base::limits::{ENTRY_BYTES_MAX, ENTRY_EFFECTS_MAX};
use crate::base::record::Malformed;
use crate::base::{CoreId, RaftIndex, Revision, ShardId, Term};
use crate::wire::call::{CallId, Reply};

pub use descriptor::Descriptor;
pub use driver::HardState;
use driver::{Driver, Fetched};
use sequencer::Sequencer;
pub use sequencer::{Place, Proposal};

/// An answer that leaves when everything before it is visible.
#[derive(Debug)]
pub struct Prepared {
    /// Core that took the call.
    pub core: CoreId,
    /// The call.
    pub call: CallId,
    /// What it is told.
    pub reply: Reply,
}

/// What the log has to hold before the entry counts.
#[derive(Debug)]
pub struct LogEntry {
    /// Its index.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Hard state that must be durable with it.
    pub hard_state: HardState,
    /// The descriptor and the effects, each with its CRC-32C. Empty for a new leader's entry.
    pub chunks: Vec<(Bytes, u32)>,
}

/// A committed batch and the answers that rest on it.
#[derive(Debug)]
pub struct Committed {
    /// The batch, complete.
    pub batch: Arc<Batch>,
    /// Released when the batch is visible.
    pub answers: Vec<Prepared>,
    /// Room in the queue to be given back then.
    pub credit: usize,
}

/// What an entry means once it is committed.
#[derive(Debug)]
enum Body {
    /// A new leader's first entry, or one whose term is not its batch's: no effect.
    Void,
    /// Effects from revision to revision; `more`: the operation goes on in the next entry.
    Effects { before: Revision, last: Revision, more: bool, effects: Vec<Placed> },
}

#[derive(Debug)]
struct InLog {
    index: RaftIndex,
    term: Term,
    body: Body,
    answers: Vec<Prepared>,
    credit: usize,
}

/// An operation too large for one entry, on its way into the log.
#[derive(Debug)]
struct Oversize {
    before: Revision,
    last: Revision,
    effects: VecDeque<Placed>,
    answer: Option<Prepared>,
    credit: usize,
}

/// What the next entry is made of.
#[derive(Debug)]
struct Formed {
    body: Body,
    answers: Vec<Prepared>,
    credit: usize,
}

/// How this member takes part.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// This member's ID; not 0.
    pub member: u64,
    /// Ticks without a leader until an election.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// All shards of this member.
    pub shards: ShardSet,
}

/// What the log's first entry follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Index of the last entry that the shards hold already.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// The store's revision behind it.
    pub revision: Revision,
}

impl Base {
    /// Of a log that holds everything.
    pub const START: Base = Base { index: RaftIndex(0), term: Term(0), revision: Revision::EMPTY };
}

/// A log entry as recovery found it.
#[derive(Debug)]
pub struct RecoveredEntry {
    /// Its index.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Descriptor and effects, verified against their checksums.
    pub chunks: Vec<Bytes>,
}

/// The group's member.
#[derive(Debug)]
pub struct Orderer {
    driver: Driver,
    sequencer: Sequencer,
    in_log: VecDeque<InLog>,
    unsent: VecDeque<LogEntry>,
    oversize: Option<Oversize>,
    /// Effects of an operation whose last entry is not committed yet.
    unfinished: Vec<Placed>,
    unfinished_before: Option<Revision>,
    /// Revision behind the newest committed batch.
    committed_revision: Revision,
    shards: ShardSet,
    leading: Option<Term>,
    open: bool,
    /// Empty but during `fetch`, which fills it again and again.
    fetched: Vec<Fetched>,
}

impl Orderer {
    /// A lone voter over what recovery found: entries behind a base, the store's revision there.
    /// `place` names the shard of a key.
    ///
    /// # Errors
    /// [`Malformed`] when an entry's bytes are no effects of this format.
    pub fn recover(
        config: GroupConfig,
        hard_state: HardState,
        base: Base,
        entries: Vec<RecoveredEntry>,
        place: impl Fn(&[u8]) -> ShardId,
    ) -> Result<Orderer, Malformed> {
        let mut in_log = VecDeque::with_capacity(entries.len());
        let mut log = Vec::with_capacity(entries.len());
        for entry in entries {
            let body = decode_body(entry.term, &entry.chunks, &place)?;
            let data = entry.chunks.first().cloned().unwrap_or_default();
            log.push((entry.index, entry.term, data));
            let (index, term) = (entry.index, entry.term);
            in_log.push_back(InLog { index, term, body, answers: Vec::new(), credit: 0 });
        }
        Ok(Orderer {
            driver: Driver::new(config, hard_state, (base.index, base.term), log),
            sequencer: Sequencer::new(),
            in_log,
            unsent: VecDeque::new(),
            oversize: None,
            unfinished: Vec::new(),
            unfinished_before: None,
            committed_revision: base.revision,
            shards: config.shards,
            leading: None,
            open: false,
            fetched: Vec::new(),
        })
    }

    /// Hands out what recovery found of a lone voter's log, as a start does; no term begins, and
    /// nothing new is to enter the log.
    pub fn replay(&mut self, committed: &mut VecDeque<Committed>) {
        self.fetch(committed);
    }

    /// Starts an election; a lone voter wins it at once.
    pub fn campaign(&mut self, committed: &mut VecDeque<Committed>) {
        self.driver.campaign();
        self.fetch(committed);
    }

    /// One tick of raft's clock.
    pub fn tick(&mut self, committed: &mut VecDeque<Committed>) {
        self.driver.tick();
        self.fetch(committed);
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.driver.term()
    }

    /// This member's ID if it leads, else the leader's, 0 if none is known.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.driver.leader()
    }

    /// The newest index in the log, and the newest that is committed.
    #[must_use]
    pub fn indexes(&self) -> (RaftIndex, RaftIndex) {
        (self.driver.last_index(), self.driver.committed_index())
    }

    /// The term that this member leads and whose first entry is applied, if any: from then on
    /// operations may be evaluated.
    #[must_use]
    pub fn opened(&self) -> Option<Term> {
        self.leading.filter(|_| self.open)
    }

    /// Opens the term: its first entry is applied and the store stands at `revision`.
    pub fn open(&mut self, revision: Revision) {
        assert!(self.leading.is_some(), "a term was opened by a member that does not lead");
        self.sequencer.open_at(revision);
        self.open = true;
    }

    /// Takes a proposal, in any order among shards. A proposal without effects is a mark.
    pub fn offer(&mut self, proposal: Proposal) {
        assert!(self.open, "a proposal came while no term was open");
        self.sequencer.offer(proposal);
    }

    /// Proposals that wait for a place in the log.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sequencer.len() + usize::from(self.oversize.is_some())
    }

    /// Entries in the log that are not committed.
    #[must_use]
    pub fn uncommitted(&self) -> usize {
        self.in_log.len()
    }

    /// Forms the next entry from all that waits, or none. Answers of marks that rest on nothing
    /// in the log any more come out through `settled`.
    pub fn next_entry(&mut self, settled: &mut Vec<Prepared>) -> Option<LogEntry> {
        if let Some(entry) = self.unsent.pop_front() {
            return Some(entry);
        }
        self.opened()?;
        if self.oversize.is_none() {
            let formed = self.form(settled)?;
            return Some(self.propose(formed));
        }
        let piece = self.next_piece();
        Some(self.propose(piece))
    }

    /// Everything up to `index` is durable here.
    pub fn persisted(&mut self, index: RaftIndex, committed: &mut VecDeque<Committed>) {
        self.driver.persisted(index);
        self.fetch(committed);
    }

    /// Takes proposals until an entry is full. Marks alone need no entry: their answers join
    /// the newest entry in the log, or are settled if the log is committed.
    fn form(&mut self, settled: &mut Vec<Prepared>) -> Option<Formed> {
        let mut effects = Vec::new();
        let mut answers = Vec::new();
        let mut bytes = 0;
        let mut credit = 0;
        let before = self.sequencer.taken_to();
        while let Some(head) = self.sequencer.peek() {
            let fits = bytes + head.bytes <= ENTRY_BYTES_MAX
                && effects.len() + head.effects.len() <= ENTRY_EFFECTS_MAX;
            if !fits && !effects.is_empty() {
                break;
            }
            let Some(proposal) = self.sequencer.pop() else { break };
            if !fits {
                let last = self.sequencer.taken_to();
                let Proposal { effects, answer, credit, .. } = proposal;
                let effects = effects.into();
                self.oversize = Some(Oversize { before, last, effects, answer, credit });
                self.settle(answers, settled);
                return Some(self.next_piece());
            }
            bytes += proposal.bytes;
            credit += proposal.credit;
            effects.extend(proposal.effects);
            answers.extend(proposal.answer);
        }
        if effects.is_empty() {
            self.settle(answers, settled);
            return None;
        }
        let last = self.sequencer.taken_to();
        let body = Body::Effects { before, last, more: false, effects };
        Some(Formed { body, answers, credit })
    }

    fn settle(&mut self, answers: Vec<Prepared>, settled: &mut Vec<Prepared>) {
        match self.in_log.back_mut() {
            Some(newest) => newest.answers.extend(answers),
            None => settled.extend(answers),
        }
    }

    fn next_piece(&mut self) -> Formed {
        let mut oversize = self.oversize.take().expect("asked for with an operation under way");
        let mut effects = Vec::new();
        let mut bytes = 0;
        while let Some(placed) = oversize.effects.front() {
            bytes += placed.effect.log_len();
            let full = bytes > ENTRY_BYTES_MAX || effects.len() == ENTRY_EFFECTS_MAX;
            if full && !effects.is_empty() {
                break;
            }
            effects.extend(oversize.effects.pop_front());
        }
        let (before, last) = (oversize.before, oversize.last);
        let more = !oversize.effects.is_empty();
        let body = Body::Effects { before, last, more, effects };
        if more {
            self.oversize = Some(oversize);
            return Formed { body, answers: Vec::new(), credit: 0 };
        }
        let Oversize { answer, credit, .. } = oversize;
        Formed { body, answers: answer.into_iter().collect(), credit }
    }

    fn propose(&mut self, formed: Formed) -> LogEntry {
        let Formed { body, answers, credit } = formed;
        let Body::Effects { before, last, more, effects } = &body else {
            unreachable!("only raft itself makes void entries")
        };
        let term = self.driver.term();
        let count = u32::try_from(effects.len()).expect("bounded by ENTRY_EFFECTS_MAX");
        let descriptor = Descriptor { term, before: *before, last: *last, more: *more, count };
        let data = descriptor.encode();
        let mut chunks = Vec::with_capacity(effects.len() + 1);
        chunks.push((data.clone(), crc32c::crc32c(&data)));
        chunks.extend(effects.iter().map(|placed| placed.effect.log()));
        let (index, hard_state) = self.driver.propose(&data);
        self.in_log.push_back(InLog { index, term, body, answers, credit });
        LogEntry { index, term, hard_state, chunks }
    }

    /// Takes from raft what is ready: entries of its own making, and what is committed now.
    fn fetch(&mut self, committed: &mut VecDeque<Committed>) {
        let mut fetched = std::mem::take(&mut self.fetched);
        self.driver.fetch(&mut fetched);
        for fetched in fetched.drain(..) {
            match fetched {
                Fetched::Own { index, term, hard_state } => {
                    let (body, answers) = (Body::Void, Vec::new());
                    self.in_log.push_back(InLog { index, term, body, answers, credit: 0 });
                    let chunks = Vec::new();
                    self.unsent.push_back(LogEntry { index, term, hard_state, chunks });
                }
                Fetched::Committed { index, term } => self.commit(index, term, committed),
            }
        }
        self.fetched = fetched;
        self.leading = self.driver.leading();
        self.open &= self.leading.is_some();
    }

    fn commit(&mut self, index: RaftIndex, term: Term, committed: &mut VecDeque<Committed>) {
        let entry = self.in_log.pop_front().expect("raft committed an entry that it was not given");
        assert_eq!((entry.index, entry.term), (index, term), "raft committed out of order");
        let InLog { body, answers, credit, .. } = entry;
        let (before, last, effects) = match body {
            Body::Void => {
                // A new term voids the unfinished operation of the old one.
                self.unfinished.clear();
                self.unfinished_before = None;
                (self.committed_revision, self.committed_revision, Vec::new())
            }
            Body::Effects { before, more: true, effects, .. } => {
                self.unfinished_before.get_or_insert(before);
                self.unfinished.extend(effects);
                return;
            }
            Body::Effects { before, last, more: false, effects } => {
                let before = self.unfinished_before.take().unwrap_or(before);
                let mut all = std::mem::take(&mut self.unfinished);
                all.extend(effects);
                (before, last, all)
            }
        };
        assert_eq!(
            before, self.committed_revision,
            "entry {index} begins at another revision than the log stands at"
        );
        self.committed_revision = last;
        let batch = Batch::new((index, term), (before, last), effects, self.shards);
        let batch = if self.open { batch } else { batch.replayed() };
        committed.push_back(Committed { batch: Arc::new(batch), answers, credit });
    }
}

fn decode_body(
    term: Term,
    chunks: &[Bytes],
    place: &impl Fn(&[u8]) -> ShardId,
) -> Result<Body, Malformed> {
    let Some((head, rest)) = chunks.split_first() else { return Ok(Body::Void) };
    let descriptor = Descriptor::decode(head)?;
    if descriptor.term != term {
        return Ok(Body::Void);
    }
    if descriptor.count as usize != rest.len() {
        return Err(Malformed("an entry whose effects are not as many as it says"));
    }
    let mut effects = Vec::with_capacity(rest.len());
    for chunk in rest {
        effects.push(placed(Effect::decode(chunk.clone())?, place));
    }
    let Descriptor { before, last, more, .. } = descriptor;
    Ok(Body::Effects { before, last, more, effects })
}

/// An effect with the shard it concerns.
pub fn placed(effect: Effect, place: impl Fn(&[u8]) -> ShardId) -> Placed {
    let shard = match &effect {
        Effect::Record(record) => Some(place(record.key())),
        _ => None,
    };
    Placed::new(shard, effect)
}

#[cfg(test)]
mod tests;
