//! One Range answer from the shards' shares.
//!
//! The request is planned into what each shard is asked, a shard answers in slices with a run
//! sorted by key, and the runs are assembled. A page of a list asks each shard for its share and
//! a little more, and asks again where that was not enough.
//!
//! Order follows etcd, oddities included: without filter and order the limit is applied in key
//! order before anything else, also if a sort target is given; filters and orders see everything
//! in the range before the limit cuts. Where etcd leaves the order of equal targets open, it is
//! that of the keys, ascending, whichever way the targets are sorted.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::{Budget, RangeCursor, Step};
use super::remaining::Remaining;
use super::source::{AsOf, CountState, Counted, Source, Stop};
use crate::base::Revision;
use crate::base::range::KeyRange;
use crate::base::record::Record;
use crate::base::reject::Reject;
use crate::wire::call::RangeAnswer;
use crate::wire::etcdserverpb::RangeRequest;
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};

/// What is wrong with a request, as far as it tells by itself.
///
/// # Errors
/// An empty key, or an order or a target that does not exist.
pub fn validate(request: &RangeRequest) -> Result<(), Reject> {
    if request.key.is_empty() {
        return Err(Reject::EmptyKey);
    }
    order_of(request).map(|_| ())
}

/// The revision to read at: the one asked for, or the newest one.
///
/// # Errors
/// A revision that does not exist yet or was compacted away.
pub fn revision_of(asked: i64, newest: Revision, compact: Revision) -> Result<Revision, Reject> {
    match Revision(asked) {
        asked if asked > newest => Err(Reject::FutureRevision),
        asked if asked.0 <= 0 => Ok(newest),
        asked if asked < compact => Err(Reject::Compacted),
        asked => Ok(asked),
    }
}

fn order_of(request: &RangeRequest) -> Result<(SortOrder, SortTarget), Reject> {
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    match (order, target) {
        (Ok(order), Ok(target)) => Ok((order, target)),
        _ => Err(Reject::InvalidSortOption),
    }
}

/// Bounds on revisions; 0 bounds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Filter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

impl Filter {
    fn of(request: &RangeRequest) -> Filter {
        Filter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        }
    }

    fn passes(&self, record: &Record) -> bool {
        let within =
            |at: i64, min: i64, max: i64| (min == 0 || at >= min) && (max == 0 || at <= max);
        within(record.revision.0, self.min_mod, self.max_mod)
            && within(record.create.0, self.min_create, self.max_create)
    }
}

/// What one shard is asked.
#[derive(Clone, Debug)]
pub struct ShardAsk {
    /// The keys.
    pub range: KeyRange,
    /// The state to read.
    pub as_of: AsOf,
    /// Where to go on, if this is not the first ask.
    pub after: Option<Bytes>,
    /// Records at most, in key order; `None` for all.
    pub limit: Option<usize>,
    /// Whether records are wanted, or the count alone.
    pub records: bool,
    /// Whether the count is wanted.
    pub count: bool,
    filter: Filter,
}

/// What one shard answers.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Live versions in key order.
    pub records: Vec<Arc<Record>>,
    /// Whether there are more behind the limit.
    pub more: bool,
    /// Live keys of the range, filtered or not; 0 if they were not asked for.
    pub count: u64,
}

/// One Range on its way: what was asked of the shards and what came back.
#[derive(Debug)]
pub struct Gather {
    request: RangeRequest,
    as_of: AsOf,
    runs: Vec<Run>,
    /// The count of the range, if it need not be asked for.
    known: Option<u64>,
}

impl Gather {
    /// A request, checked by [`validate`], to be read at `as_of` from `shards` shards.
    #[must_use]
    pub fn new(request: RangeRequest, as_of: AsOf, shards: usize) -> Gather {
        assert!(validate(&request).is_ok(), "a range request was planned unchecked");
        Gather { request, as_of, runs: vec![Run::default(); shards], known: None }
    }

    /// So many live keys are in the range, if that is known.
    #[must_use]
    pub fn knowing(self, known: Option<u64>) -> Gather {
        Gather { known, ..self }
    }

    /// What every shard is asked first.
    #[must_use]
    pub fn first_ask(&self) -> ShardAsk {
        let wanted = wanted(&self.request);
        ShardAsk {
            range: range_of(&self.request),
            as_of: self.as_of,
            after: None,
            limit: wanted.map(|wanted| share(wanted, self.runs.len())),
            records: !self.request.count_only,
            count: self.known.is_none(),
            filter: Filter::of(&self.request),
        }
    }

    /// Takes in what shard number `shard` answered.
    pub fn add(&mut self, shard: usize, run: Run) {
        let held = &mut self.runs[shard];
        held.records.extend(run.records);
        held.more = run.more;
        held.count += run.count;
    }

    /// What is still to be asked of which shards, once all asks are answered. Empty when
    /// nothing is.
    #[must_use]
    pub fn further_asks(&self) -> Vec<(usize, ShardAsk)> {
        let Some(wanted) = wanted(&self.request) else { return Vec::new() };
        // Below the last key of every run that was cut off, everything is known.
        let cut_off = self.runs.iter().filter(|run| run.more);
        let Some(known) = cut_off.filter_map(|run| run.records.last()).map(|r| r.key()).min()
        else {
            return Vec::new();
        };
        let known_of = |run: &Run| run.records.partition_point(|record| record.key() <= known);
        let have: usize = self.runs.iter().map(known_of).sum();
        let Some(missing) = wanted.checked_sub(have).filter(|missing| *missing > 0) else {
            return Vec::new();
        };
        let again = |(shard, run): (usize, &Run)| {
            let last = run.records.last().filter(|_| run.more)?;
            let ask = ShardAsk {
                after: Some(last.key_bytes()),
                limit: Some(share(missing, self.runs.len())),
                count: false,
                ..self.first_ask()
            };
            Some((shard, ask))
        };
        self.runs.iter().enumerate().filter_map(again).collect()
    }

    /// The answer, with the store's `revision` for its header. What it says of the range behind it
    /// is noted.
    #[must_use]
    pub fn finish(self, revision: Revision, remaining: &mut Remaining) -> RangeAnswer {
        let Gather { request, as_of, runs, known } = self;
        let mut answer = assemble(&request, revision, runs);
        answer.count = known.unwrap_or(answer.count);
        if let AsOf::At(at) = as_of {
            remaining.note(at, &request, &answer);
        }
        answer
    }
}

fn range_of(request: &RangeRequest) -> KeyRange {
    KeyRange::from_request(request.key.clone(), request.range_end.clone())
}

/// Records wanted in key order, one more than the limit included; `None` for all.
#[must_use]
pub fn wanted(request: &RangeRequest) -> Option<usize> {
    let order = (request.sort_order(), request.sort_target());
    let in_key_order = order.0 == SortOrder::None || order == (SortOrder::Ascend, SortTarget::Key);
    let unfiltered = Filter::of(request) == Filter::default();
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0)?;
    (in_key_order && unfiltered).then(|| limit.saturating_add(1))
}

/// What to ask of each of `shards` so that rarely one has to be asked again: its share and three
/// standard deviations of what a uniform hash gives it.
fn share(wanted: usize, shards: usize) -> usize {
    if shards <= 1 {
        return wanted;
    }
    let even = wanted.div_ceil(shards);
    wanted.min(even + 3 * even.isqrt() + 1)
}

/// The answer to `request` from the shards' complete runs.
#[must_use]
pub fn assemble(request: &RangeRequest, revision: Revision, runs: Vec<Run>) -> RangeAnswer {
    let count = runs.iter().map(|run| run.count).sum();
    // Etcd takes keys from its index, which knows no leases; but not when it needs values.
    let from_index = request.keys_only && request.sort_target() != SortTarget::Value;
    if request.count_only {
        return RangeAnswer { revision, count, keys_only: from_index, ..RangeAnswer::default() };
    }
    let mut records: Vec<Arc<Record>> = runs.into_iter().flat_map(|run| run.records).collect();
    // A shard has filtered its run already; a view that a write was evaluated on has not.
    let filter = Filter::of(request);
    if filter != Filter::default() {
        records.retain(|record| filter.passes(record));
    }
    // The sort finds the sorted runs and merges them.
    records.sort_by(|a, b| a.key().cmp(b.key()));
    if let Some(wanted) = wanted(request) {
        records.truncate(wanted);
    }
    sort(&mut records, request);
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let more = limit.is_some_and(|limit| records.len() > limit);
    records.truncate(limit.unwrap_or(usize::MAX));
    if request.keys_only && !from_index {
        records = records.iter().map(|record| Arc::new(record.without_value())).collect();
    }
    RangeAnswer { revision, records, keys_only: from_index, more, count }
}

fn sort(records: &mut [Arc<Record>], request: &RangeRequest) {
    let target = request.sort_target();
    let by = |a: &Record, b: &Record| match target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create.cmp(&b.create),
        SortTarget::Mod => a.revision.cmp(&b.revision),
        SortTarget::Value => a.value().cmp(b.value()),
    };
    match (request.sort_order(), target) {
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
        (SortOrder::None | SortOrder::Ascend, _) => records.sort_by(|a, b| by(a, b)),
        (SortOrder::Descend, _) => records.sort_by(|a, b| by(b, a)),
    }
}

/// How a slice of a shard's part ended.
#[derive(Debug)]
pub enum Progress {
    /// The run is complete.
    Done(Run),
    /// The budget is used up.
    Paused,
}

/// A shard's part of a Range under way.
#[derive(Debug)]
pub struct ShardRange {
    ask: ShardAsk,
    cursor: RangeCursor,
    counting: Counting,
    stage: Stage,
    run: Run,
}

/// How the count comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// Not at all.
    Not,
    /// By visiting the whole range.
    Walking,
    /// From the counts that the source keeps.
    Apart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Takes records up to the limit.
    Take,
    /// Counts what lies behind the limit by visiting it.
    Pass,
    /// Counts apart from visiting.
    Count(CountState),
    Done,
}

impl ShardRange {
    /// Begins what was asked.
    #[must_use]
    pub fn new(ask: ShardAsk, source: &dyn Source) -> ShardRange {
        let goes_on = ask.after.is_some();
        assert!(!goes_on || !ask.count, "a count was asked for from the middle of a range");
        let visits_all = ask.records && ask.limit.is_none();
        let counting = match ask.count {
            false => Counting::Not,
            true if visits_all => Counting::Walking,
            true if source.counts_slower_than_walking(&ask.range, ask.as_of) => Counting::Walking,
            true => Counting::Apart,
        };
        let mut cursor = RangeCursor::new(ask.range.clone(), ask.as_of);
        if let Some(after) = &ask.after {
            cursor = cursor.after(after.clone());
        }
        let mut begun =
            ShardRange { ask, cursor, counting, stage: Stage::Take, run: Run::default() };
        if !begun.ask.records {
            begun.stage = begun.stage_behind(Stage::Take);
        }
        begun
    }

    /// All of what was asked at once: for callers that bound the work otherwise.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged.
    pub fn run(ask: ShardAsk, source: &dyn Source) -> Result<Run, Stop> {
        let mut part = ShardRange::new(ask, source);
        loop {
            if let Progress::Done(run) = part.step(source, Budget::UNBOUNDED)? {
                return Ok(run);
            }
        }
    }

    /// Goes on for one slice.
    ///
    /// # Errors
    /// [`Stop`] when a page is missing or damaged; the next slice goes on from there.
    pub fn step(&mut self, source: &dyn Source, budget: Budget) -> Result<Progress, Stop> {
        loop {
            let step = match self.stage {
                Stage::Take => self.take(source, budget)?,
                Stage::Pass => self.pass(source, budget)?,
                Stage::Count(state) => self.count(source, budget, state)?,
                Stage::Done => return Ok(Progress::Done(std::mem::take(&mut self.run))),
            };
            match step {
                Step::Ended => self.stage = self.stage_behind(Stage::Pass),
                Step::Full => self.stage = self.stage_behind(Stage::Take),
                Step::Paused => return Ok(Progress::Paused),
            }
        }
    }

    /// What follows when a stage's own work is done; a walk that reached the end of the range
    /// has done the work of `Pass`, too.
    fn stage_behind(&self, stage: Stage) -> Stage {
        match (stage, self.counting) {
            (Stage::Take, Counting::Walking) => Stage::Pass,
            _ if self.stage_counts() => Stage::Done,
            (_, Counting::Apart) => Stage::Count(match self.ask.as_of {
                AsOf::Newest => CountState::new(Revision::EMPTY),
                AsOf::At(revision) => CountState::new(revision),
            }),
            _ => Stage::Done,
        }
    }

    fn stage_counts(&self) -> bool {
        matches!(self.stage, Stage::Count(_))
    }

    fn take(&mut self, source: &dyn Source, budget: Budget) -> Result<Step, Stop> {
        let ShardRange { ask, cursor, counting, run, .. } = self;
        let limit = ask.limit.unwrap_or(usize::MAX);
        cursor.step(source, budget, |record| {
            if run.records.len() >= limit {
                run.more = true;
                return ControlFlow::Break(());
            }
            run.count += u64::from(*counting == Counting::Walking);
            if ask.filter.passes(record) {
                run.records.push(Arc::clone(record));
            }
            ControlFlow::Continue(())
        })
    }

    fn pass(&mut self, source: &dyn Source, budget: Budget) -> Result<Step, Stop> {
        let run = &mut self.run;
        let budget = Budget { bytes: usize::MAX, ..budget };
        self.cursor.step(source, budget, |_| {
            run.count += 1;
            ControlFlow::Continue(())
        })
    }

    fn count(
        &mut self,
        source: &dyn Source,
        budget: Budget,
        state: CountState,
    ) -> Result<Step, Stop> {
        let counted = source.count_slice(&self.ask.range, self.ask.as_of, state, budget.keys)?;
        Ok(match counted {
            Counted::Total(count) => {
                self.run.count = count;
                Step::Ended
            }
            Counted::Partly(state) => {
                self.stage = Stage::Count(state);
                Step::Paused
            }
        })
    }
}
